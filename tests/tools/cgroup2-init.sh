#!/bin/bash
# The first process of the kernel that cgroup2.sh boots.
#
# Its root is the machine's, read-only. What is written below /tmp, /var/tmp and
# /run is in memory; $LEVRT_SCRATCH leads out, with what to run and for what came
# of it.
stty -opost
exec 2>&1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount_file_systems() {
    mount -t proc -o nosuid,nodev,noexec proc /proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
    ln -sf /proc/self/fd /dev/fd
    mkdir -p /dev/pts /dev/shm /dev/mqueue
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t mqueue mqueue /dev/mqueue
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount -t tmpfs -o mode=1777 tmpfs /var/tmp
}

# What lies where it would be hidden.
show_directories() {
    local directory
    for directory in "${directories[@]}"; do
        mkdir -p "$directory"
        mount -t hostfs -o "ro,$directory" machine "$directory"
    done
    mkdir -p "$LEVRT_SCRATCH"
    mount -t hostfs -o "$LEVRT_SCRATCH" machine "$LEVRT_SCRATCH"
}

# The kernel's modules are in no place where modprobe would look.
find_modules() {
    mkdir -p /run/modules/lib
    ln -s /usr/lib/uml/modules /run/modules/lib/modules
    printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
    chmod 755 /run/modprobe
    echo /run/modprobe >/proc/sys/kernel/modprobe
    /run/modprobe -a overlay veth bridge
}

choose_iptables() {
    local name
    mkdir /run/bin
    for name in iptables iptables-save iptables-restore; do
        ln -s "$(command -v xtables-legacy-multi)" /run/bin/$name
    done
}

mapfile -t directories <"$LEVRT_SCRATCH/directories"
mount_file_systems
show_directories
find_modules
choose_iptables
ip link set lo up
hostname cgroup2
# Through cat: what writes to a terminal colours it.
bash "$LEVRT_SCRATCH/command" </dev/null | cat
echo "${PIPESTATUS[0]}" >"$LEVRT_SCRATCH/status"
sync
exec busybox poweroff -f
