/* What a tool may reach, seen from inside; beside a container of Docker where
 * there is one (LEVRT_TEST_DOCKER, with the image levrt-test/busybox:1). */
#include "oci_fixture.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>
#include <sys/socket.h>

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
};

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
    test_loopback(&f);
    if (docker != NULL) {
        test_as_docker(&f, docker);
    }
    oci_fixture_close(&f);
    puts(docker == NULL ? "ok, but without a Docker to compare with" : "ok");
    return 0;
}
