/* What a tool may reach, seen from inside; beside a container of Docker where
 * there is one (LEVRT_TEST_DOCKER, with the image levrt-test/busybox:1). */
#include "oci_fixture.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "tar.h"
#include "tree.h"

/* Fields that must be as in Docker, one command each. */
static const char *const same[] = {
    "grep ^Cap /proc/self/status",
    "grep -E '^(NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status",
    "grep -E '^(Uid|Gid|Groups):' /proc/self/status",
    "grep ' /proc proc ' /proc/mounts",
    "grep ' /dev tmpfs ' /proc/mounts",
    "grep ' /dev/shm ' /proc/mounts",
    "grep ' /dev/mqueue ' /proc/mounts",
    "grep ' /dev/pts ' /proc/mounts | cut -d' ' -f2-4",
    "grep ' /sys sysfs ' /proc/mounts",
    "env | cut -d= -f1 | grep -E '^(PATH|HOME|HOSTNAME)$' | wc -l",
    "ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v :",
    ("for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/bus/x "
     "/proc/irq/x /sys/kernel/x; do touch $f 2>/dev/null && echo $f; done"),
    "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    "cat /proc/sys/net/ipv4/ping_group_range",
    "stat -c '%a %u %g %n' / /dev /dev/shm /dev/null /dev/tty /dev/ptmx",
    "cat /proc/self/oom_score_adj",
    "ls /proc/self/fd",
    "cat /proc/keys /proc/timer_list 2>/dev/null",
    "umask",
    "pwd",
    "grep -E '^Sig(Ign|Blk|Cgt):' /proc/self/status",
    "cat /proc/self/limits",
    "env | grep -v ^HOSTNAME= | sort",
    "readlink /etc/mtab",
    "ls /proc | grep -v '^[0-9]' | sort",
    "cat /proc/self/personality /proc/self/loginuid /proc/self/timerslack_ns",
    "find /dev -type c -o -type b | sort",
    ("cut -d' ' -f2 /proc/mounts | grep -vE '^/(dev/init|sbin/docker-init)$'"
     " | sort"),
    /* Without what the two store layers and files in, and what a runtime's
     * words for the same are. */
    ("grep -E ' (/|/etc/[a-z.]*|/sys/fs/cgroup/[a-z]*) ' /proc/mounts | cut "
     "-d' ' -f2-4 | sed -E 's/,lower.*//; s/^(.etc.[^ ]*) [a-z0-9]* "
     "(rw,relatime).*/\\1 \\2/' | sort"),
};

/* Each of its own: the inode is not the machine's. */
static const char *const namespaces[] = {"ipc", "mnt", "net",
                                         "pid", "uts", "cgroup"};

/* Ways out that are known; each must end with "no". */
static const char *const escapes[] = {
    "echo x > /proc/self/exe && echo out || echo no",
    "echo x > /proc/1/exe && echo out || echo no",
    "echo '|/x' > /proc/sys/kernel/core_pattern && echo out || echo no",
    "echo x > /proc/sysrq-trigger && echo out || echo no",
    ("find=$(ls -d /sys/fs/cgroup/*/release_agent "
     "/sys/fs/cgroup/release_agent); for f in $find; do echo /x > $f && echo "
     "out; done; echo no"),
    "mount -t proc none /mnt && echo out || echo no",
    "mount -t cgroup -o rdma none /mnt && echo out || echo no",
    "mknod /d b 8 0 && head -c 1 /d && echo out || echo no",
    "mknod /d c 1 1 && head -c 1 /d && echo out || echo no",
    "mknod /d c 10 232 && head -c 1 /d && echo out || echo no",
    "mknod /d b 254 0 && head -c 1 /d && echo out || echo no",
    ("ls -l /proc/self/fd | grep -E '/(proc|sys|var|home|etc)/' && echo out "
     "|| echo no"),
    "echo -1000 > /proc/self/oom_score_adj && echo out || echo no",
    /* The helper, and whoever else is on the machine, is not to be seen. */
    "kill -9 1; kill -9 -1; kill -0 1 && echo no",
    ("for p in /proc/[0-9]*; do grep -E 'reaper|dockerd|systemd' $p/comm "
     "&& echo out; done; echo no"),
    "ls /proc/1/root/proc/1/root/var/tmp && echo out; echo no",
    "echo 1 > /proc/sys/net/ipv4/ip_forward && echo out || echo no",
    "mount -o remount,rw /proc/sys && echo out || echo no",
    "umount /proc/sys && echo out || echo no",
    "echo x > /sys/kernel/uevent_helper && echo out || echo no",
    "echo x > /dev/init && echo out || echo no",
};

static char *
run(struct oci_fixture *f, const char *script)
{
    char *text;
    struct oci_result r;

    oci_run(f, OCI_SH(script), NULL, &r);
    text = strdup(lev_buf_text(&r.text[0]));
    oci_result_deinit(&r);
    return text;
}

static int
compare(struct oci_fixture *ours, struct oci_fixture *docker)
{
    int differ = 0;

    for (size_t i = 0; i < LEV_ARRAY_LEN(same); i++) {
        char *a = run(ours, same[i]), *b = run(docker, same[i]);

        if (strcmp(a, b) != 0) {
            fprintf(stderr, "%s\n ours:\n%s docker:\n%s", same[i], a, b);
            differ++;
        }
        free(a);
        free(b);
    }
    return differ;
}

static void
test_as_docker(struct oci_fixture *f, const char *url)
{
    const struct lev_engine_config config = {0};
    struct lev_scope scope = oci_soon();
    struct oci_fixture docker = {0};
    struct lev_error err;

    docker.e = lev_docker_open(url, &config, &scope, &err);
    if (docker.e == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    assert(compare(f, &docker) == 0);
    lev_engine_unref(docker.e);
}

static void
test_escapes(struct oci_fixture *f)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(escapes); i++) {
        char *text = run(f, escapes[i]);

        if (strcmp(text, "no\n") != 0) {
            fprintf(stderr, "%s\n said: %s\n", escapes[i], text);
            abort();
        }
        free(text);
    }
}

static void
test_namespaces(struct oci_fixture *f)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(namespaces); i++) {
        char path[64], own[64] = "", script[80], *text;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
        n = readlink(path, own, sizeof(own) - 1);
        assert(n > 0);
        own[n] = '\0';
        snprintf(script, sizeof(script), "readlink %s", path);
        text = run(f, script);
        assert(strncmp(text, namespaces[i], strlen(namespaces[i])) == 0);
        assert(strncmp(text, own, (size_t)n) != 0);
        free(text);
    }
}

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

/* busybox, and /out: a link to `victim`, as far up as it takes. */
static int
links_image(const char *victim)
{
    const char *busybox = access("/bin/busybox", X_OK) == 0
                              ? "/bin/busybox"
                              : "/usr/bin/busybox";
    const struct lev_tar_meta mode = {.mode = 0755};
    _cleanup_tar_ struct lev_tar *tar = NULL;
    struct lev_scope scope = oci_soon();
    char dir[] = "/tmp/levrt-links-XXXXXX", to[100], path[64];
    struct lev_error err;
    uint64_t size;
    int fd;

    assert(mkdtemp(dir) != NULL);
    snprintf(to, sizeof(to), "../../../../../../../..%s", victim);
    snprintf(path, sizeof(path), "%s/out", dir);
    assert(symlink(to, path) == 0);
    snprintf(path, sizeof(path), "%s/sh", dir);
    assert(symlink("/bin/busybox", path) == 0);
    tar = lev_tar_create(&err);
    must(lev_tar_add_path(tar, &scope, "/bin/busybox", busybox, 0, 0, &err),
         &err);
    must(lev_tar_add_path(tar, &scope, "/", dir, 0, 0, &err), &err);
    must(lev_tar_add_dir(tar, victim, &mode, &err), &err); /* its own */
    must(lev_tar_finish(tar, &fd, &size, &err), &err);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    must(lev_tree_remove(-1, dir, &err), &err);
    return fd;
}

static int
put_archive(uint64_t *size)
{
    const struct lev_tar_meta meta = {.mode = 0644};
    _cleanup_tar_ struct lev_tar *tar = NULL;
    struct lev_error err;
    int fd;

    tar = lev_tar_create(&err);
    must(lev_tar_add_bytes(tar, "/out/put", "x", 1, &meta, &err), &err);
    must(lev_tar_finish(tar, &fd, size, &err), &err);
    return fd;
}

/* An image whose directories are links to the machine's: what is mounted,
 * made and put there stays in the container. */
static void
test_links(struct oci_fixture *f)
{
    static char target[] = "/out/tmpfs", bound[] = "/out/bound";
    static char source[] = "/usr";
    static const char config[] = "{\"tmpfs\": {\"/out/other\": \"\"}, "
                                 "\"working_dir\": \"/out/cwd\"}";
    char victim[] = "/var/tmp/levrt-victim-XXXXXX", id[72];
    struct lev_mount mounts[] = {
        {.type = LEV_MOUNT_TMPFS, .target = target},
        {.type = LEV_MOUNT_BIND, .source = source, .target = bound}};
    bson_t *options = bson_new_from_json((const uint8_t *)config, -1, NULL);
    const char *const links_cmd[] = {
        "/sh", "-c",
        "/sh -c 'echo > /out/x; for f in /out/*; do echo $f; done'", NULL};
    struct lev_container_spec spec = {.name = "links",
                                      .image = "levrt-test/links:1",
                                      .cmd = links_cmd,
                                      .mounts = mounts,
                                      .mounts_n = 2,
                                      .options = options};
    struct lev_scope scope = oci_soon();
    struct oci_result r;
    struct lev_error err;
    char *container;
    uint64_t size;
    int fd;

    assert(mkdtemp(victim) != NULL && options != NULL);
    fd = links_image(victim);
    must(lev_imagestore_import(lev_oci_of(f->e)->images, &scope, fd,
                               spec.image, id, &err),
         &err);
    close(fd);
    fd = put_archive(&size);
    must(f->e->ops->create(f->e, &scope, &spec, &container, &err), &err);
    must(f->e->ops->put(f->e, &scope, container, fd, size, &err), &err);
    close(fd);
    oci_go(f, container, &r);
    if (strcmp(lev_buf_text(&r.text[0]),
               "/out/bound\n/out/cwd\n/out/other\n"
               "/out/put\n/out/tmpfs\n/out/x\n") != 0)
    {
        fprintf(stderr, "%s%s\n", lev_buf_text(&r.text[0]),
                lev_buf_text(&r.text[1]));
        abort();
    }
    oci_result_deinit(&r);
    assert(f->e->ops->remove(f->e, &scope, container, &err) == 0);
    free(container);
    bson_destroy(options);
    /* Empty: nothing has come here. */
    assert(rmdir(victim) == 0);
}

/* A service of the host's on its loopback is not there for containers, with a
 * network or without. */
static void
test_loopback(struct oci_fixture *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char *const modes[] = {"none", "bridge"};
    socklen_t len = sizeof(at);
    char script[200];

    assert(bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 1) == 0);
    assert(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    snprintf(script, sizeof(script),
             "echo | nc -w 1 127.0.0.1 %d && echo out || echo no",
             ntohs(at.sin_port));
    for (size_t i = 0; i < LEV_ARRAY_LEN(modes); i++) {
        char options[64];
        struct oci_result r;

        snprintf(options, sizeof(options), "{\"network_mode\": \"%s\"}",
                 modes[i]);
        oci_run(f, OCI_SH(script), options, &r);
        assert(strcmp(lev_buf_text(&r.text[0]), "no\n") == 0);
        oci_result_deinit(&r);
    }
}

int
main(void)
{
    const char *docker = getenv("LEVRT_TEST_DOCKER");
    struct oci_fixture f;

    oci_fixture_open(&f);
    test_escapes(&f);
    test_namespaces(&f);
    test_links(&f);
    test_loopback(&f);
    if (docker != NULL) {
        test_as_docker(&f, docker);
    }
    oci_fixture_close(&f);
    puts(docker == NULL ? "ok, but without a Docker to compare with" : "ok");
    return 0;
}
