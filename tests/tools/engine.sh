# For tests/run: a Docker engine and image registries of the tests' own.
# shellcheck shell=bash disable=SC2154
#
# They live in a network namespace of their own. A second dockerd in a namespace
# takes down the first one's bridge, and so nothing here can be in the way of an
# engine that the machine uses. What talks to them runs there too: in_engine.

socket=$scratch/docker.sock
tcp=127.0.0.1:2375
registry=127.0.0.1:5000
registry_auth=127.0.0.1:5001
store=$scratch/oci # of the engine without a daemon
imagetool=$trees/gcc/build/tests/c/imagetool

in_engine() {
    env TMPDIR="$scratch/tmp" \
        LEVRT_TEST_DOCKER="unix://$socket" LEVRT_TEST_DOCKER_TCP="tcp://$tcp" \
        LEVRT_TEST_OCI="oci:$store" LEVRT_TEST_IMAGETOOL="$imagetool" \
        LEVRT_TEST_MONGO="mongodb://$mongo" \
        LEVRT_TEST_REGISTRY="$registry" LEVRT_TEST_REGISTRY_AUTH="$registry_auth" \
        nsenter "--net=/proc/$(cat "$scratch/namespace.pid")/ns/net" -- "$@"
}

docker_cli() { in_engine docker -H "unix://$socket" "$@"; }

# start NAME COMMAND…: in the background; its pid is kept for stop().
start() {
    local name=$1
    shift
    "$@" >"$scratch/logs/$name" 2>&1 &
    echo $! >"$scratch/$name.pid"
}

# Whatever runs as process 1 here may be late to reap what has ended.
alive() { grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }

# stop NAME SECONDS: by its pid; killed when it is still there then.
stop() {
    local pid i
    pid=$(cat "$scratch/$1.pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    for ((i = 0; i < $2 * 10; i++)); do
        alive "$pid" || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

# wait_for NAME COMMAND…: until the command succeeds, or NAME has ended.
wait_for() {
    local name=$1 i
    shift
    for ((i = 0; i < 600; i++)); do
        "$@" >/dev/null 2>&1 && return
        alive "$(cat "$scratch/$name.pid")" || break
        sleep 0.1
    done
    cat "$scratch/logs/$name" >&2
    fail "$name does not answer"
}

start_namespace() {
    start namespace unshare --net sleep infinity
    # unshare has made it when the two differ.
    wait_for namespace in_other_namespace
    in_engine ip link set lo up
}

in_other_namespace() {
    [ "$(readlink "/proc/$(cat "$scratch/namespace.pid")/ns/net")" != \
        "$(readlink /proc/self/ns/net)" ]
}

start_dockerd() {
    start dockerd in_engine_exec dockerd \
        --data-root "$scratch/docker" --exec-root "$scratch/exec" \
        --pidfile "$scratch/docker.pid" --log-level warn \
        -H "unix://$socket" -H "tcp://$tcp" --tls=false
    wait_for dockerd docker_cli version
}

# in_engine, and the shell becomes the program: its pid is the program's.
in_engine_exec() {
    exec nsenter "--net=/proc/$(cat "$scratch/namespace.pid")/ns/net" -- "$@"
}

# start_registry NAME ADDRESS [USER:PASSWORD…]: anyone's without users
start_registry() {
    local name=$1 address=$2 config=$scratch/$1.yml
    shift 2
    {
        echo "version: 0.1"
        echo "log: {level: warn, accesslog: {disabled: true}}"
        echo "storage: {filesystem: {rootdirectory: $scratch/$name},"
        echo "          delete: {enabled: true}}"
        echo "http: {addr: '$address'}"
        [ $# -eq 0 ] ||
            echo "auth: {htpasswd: {realm: test, path: $scratch/$name.users}}"
    } >"$config"
    [ $# -eq 0 ] || hash_passwords "$@" >"$scratch/$name.users"
    start "$name" in_engine_exec docker-registry serve "$config"
    wait_for "$name" in_engine bash -c "exec 3<>/dev/tcp/${address/://}"
}

hash_passwords() {
    "$venv/bin/python" - "$@" <<'PYTHON'
import bcrypt, sys
for user, _, password in (word.partition(":") for word in sys.argv[1:]):
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode()
    print(user, hashed, sep=":")
PYTHON
}

stop_engine() {
    stop registry 5
    stop registry-auth 5
    stop mongo 5
    stop dockerd 60
    # What a dockerd that had to be killed has left.
    local pid target
    pid=$(cat "$scratch/exec/containerd/containerd.pid" 2>/dev/null) &&
        kill -9 "$pid" 2>/dev/null
    stop namespace 5
    findmnt -rno TARGET | grep "^$scratch/" | sort -r |
        while read -r target; do umount -l "$target"; done
}

# A root file system of busybox: a shell, its tools, two users, a link.
busybox_root() {
    local tool
    mkdir -p "$1"/{bin,etc/dir,root,home/user,proc,sys,dev}
    mkdir -m 1777 "$1/tmp"
    cp "$(command -v busybox)" "$1/bin/busybox"
    for tool in $("$1/bin/busybox" --list); do
        [ "$tool" = busybox ] || ln -s busybox "$1/bin/$tool"
    done
    printf '%s\n' root:x:0:0::/root:/bin/sh user:x:1000:1000::/home/user:/bin/sh \
        >"$1/etc/passwd"
    printf '%s\n' root:x:0: user:x:1000: >"$1/etc/group"
    ln -s passwd "$1/etc/link"
    chown 1000:1000 "$1/home/user"
}

# import_image NAME DIRECTORY
import_image() {
    tar -C "$2" -cf - . | docker_cli import --change 'CMD ["sh"]' \
        --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        - "$1"
}
