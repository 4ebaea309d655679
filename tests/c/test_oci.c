/* Containers without a daemon: their life. */
#include "oci_fixture.h"

#include <assert.h>
#include <dirent.h>
#include <signal.h>
#include <string.h>

static struct oci_fixture f;

static void
expect(const struct oci_result *r, int code, const char *out)
{
    if (r->code != code || strcmp(lev_buf_text(&r->text[0]), out) != 0) {
        fprintf(stderr,
                "code %d (expected %d), stdout '%s' (expected '%s'), "
                "stderr '%s'\n",
                r->code, code, lev_buf_text(&r->text[0]), out,
                lev_buf_text(&r->text[1]));
        abort();
    }
}

static void
check(const char *script, const char *options, const char *out)
{
    struct oci_result r;

    oci_run(&f, OCI_SH(script), options, &r);
    expect(&r, 0, out);
    oci_result_deinit(&r);
}

static void
test_run(void)
{
    struct oci_result r;

    oci_run(&f, OCI_SH("echo out; echo err >&2; printf last; exit 7"), NULL,
            &r);
    expect(&r, 7, "out\nlast");
    assert(strcmp(lev_buf_text(&r.text[1]), "err\n") == 0);
    assert(!r.state.running && r.state.exit_code == 7);
    assert(r.state.started > 0 && r.state.finished >= r.state.started);
    assert(r.state.peak_memory > 0 && !r.state.oom_killed);
    oci_result_deinit(&r);
}

static void
test_not_there(void)
{
    struct oci_result r;

    oci_run(&f, (const char *const[]){"nosuch", NULL}, NULL, &r);
    expect(&r, 127, "");
    assert(strstr(lev_buf_text(&r.text[1]), "exec nosuch failed") != NULL);
    oci_result_deinit(&r);
    oci_run(&f, (const char *const[]){"/etc/passwd", NULL}, NULL, &r);
    expect(&r, 126, "");
    oci_result_deinit(&r);
}

static void
test_options(void)
{
    check("id -u; id -g; id -G; echo $HOME", "{\"user\": \"me\"}",
          "1000\n1001\n1001 1002\n/home/me\n");
    check("pwd", "{\"working_dir\": \"/new/dir\"}", "/new/dir\n");
    check("hostname", "{\"hostname\": \"lev\"}", "lev\n");
    check("touch /x 2>/dev/null || echo ro", "{\"read_only\": true}", "ro\n");
    check("ulimit -n",
          "{\"ulimits\": [{\"Name\": \"nofile\", \"Soft\": 77, "
          "\"Hard\": 99}]}",
          "77\n");
    check("grep CapEff /proc/self/status", NULL,
          "CapEff:\t00000000a80425fb\n");
    check("grep CapEff /proc/self/status", "{\"cap_drop\": [\"ALL\"]}",
          "CapEff:\t0000000000000000\n");
    check("grep CapEff /proc/self/status",
          "{\"cap_drop\": [\"ALL\"], \"cap_add\": [\"NET_ADMIN\"]}",
          "CapEff:\t0000000000001000\n");
    check("grep -c /data /proc/mounts; touch /data/x",
          "{\"tmpfs\": {\"/data\": \"size=1m\"}}", "1\n");
    check("grep there /etc/hosts",
          "{\"extra_hosts\": {\"there\": "
          "\"10.9.8.7\"}}",
          "10.9.8.7\tthere\n");
    check("grep nameserver /etc/resolv.conf", "{\"dns\": [\"10.1.1.1\"]}",
          "nameserver 10.1.1.1\n");
}

static void
test_isolation(void)
{
    check("grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status",
          NULL, "Seccomp:\t2\nNoNewPrivs:\t0\n");
    check("mount -t tmpfs none /mnt 2>/dev/null || echo refused", NULL,
          "refused\n");
    /* In these words also where there is no such device. */
    check("mknod /kvm c 10 232; dd if=/kvm of=/dev/null count=1 2>&1 | "
          "grep -c 'Operation not permitted'",
          NULL, "1\n");
    check("echo x > /proc/sys/kernel/core_pattern 2>/dev/null || echo refused",
          NULL, "refused\n");
    check("ip link | grep -c ': lo'; ip link | grep -c eth0; true", NULL,
          "1\n0\n");
    check("sleep 0; ls /proc > /list; grep -c ^[0-9] /list", NULL, "3\n");
    check("ls -A /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep .; "
          "true",
          NULL, "");
}

static void
test_limits(void)
{
    struct oci_result r;

    oci_run(&f, OCI_SH("tail /dev/zero"), "{\"mem_limit\": \"32m\"}", &r);
    assert(r.code == 137 && r.state.oom_killed);
    assert(r.state.peak_memory > 16 << 20 && r.state.peak_memory <= 32 << 20);
    oci_result_deinit(&r);
    oci_run(&f,
            OCI_SH("n=0; while [ $((n += 1)) -lt 40 ]; do sleep 9 & done"
                   " 2>/dev/null"),
            "{\"pids_limit\": 20}", &r); /* runc itself takes some */
    assert(r.code != 0);
    oci_result_deinit(&r);
}

static void
test_files(void)
{
    const struct lev_engine_ops *ops = f.e->ops;
    struct lev_scope scope = oci_soon();
    char *id = oci_make(&f, OCI_SH("exit 0"), NULL, NULL);
    _cleanup_buf_ struct lev_buf text = {0};
    struct lev_error err;

    assert(ops->exists(f.e, &scope, id, "/bin/sh", &err) == 1);
    assert(ops->exists(f.e, &scope, id, "/bin/no", &err) == 0);
    assert(ops->get(f.e, &scope, id, "/etc/group", 9, &text, &err) == 0);
    assert(strcmp(text.data, "root:x:0:") == 0);
    assert(ops->get(f.e, &scope, id, "/none", 9, &text, &err) < 0 &&
           err.code == LEV_E_NOT_FOUND);
    assert(ops->remove(f.e, &scope, id, &err) == 0);
    assert(ops->remove(f.e, &scope, id, &err) == 0);
    assert(ops->inspect(f.e, &scope, id, &(struct lev_container_state){0},
                        &err) < 0 &&
           err.code == LEV_E_NOT_FOUND);
    free(id);
}

struct sleeper {
    char *id;
    struct lev_process *p;
    struct oci_result r;
};

static void
ignore(struct lev_output *out, int stream, const char *data, size_t len)
{
    struct oci_result *r = lev_container_of(out, struct oci_result, out);

    lev_buf_append(&r->text[stream - 1], data, len);
}

static void
begin(struct sleeper *s, const char *script, const char *options)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;

    *s = (struct sleeper){.r.out.data = ignore};
    s->id = oci_make(&f, OCI_SH(script), options, NULL);
    s->p = f.e->ops->attach(f.e, &scope, s->id, &s->r.out, &err);
    assert(s->p != NULL);
    if (f.e->ops->start(s->p, &scope, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

static void
until(struct sleeper *s, const char *text)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    int code;

    while (strstr(lev_buf_text(&s->r.text[0]), text) == NULL) {
        assert(f.e->ops->poll(s->p, &scope, NULL, 0, &code, &err) == 0);
    }
}

static int
finish(struct sleeper *s)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    int rc, code = -1;

    while ((rc = f.e->ops->poll(s->p, &scope, NULL, 0, &code, &err)) == 0) {
        ;
    }
    assert(rc == 1);
    f.e->ops->detach(s->p);
    assert(f.e->ops->remove(f.e, &scope, s->id, &err) == 0);
    free(s->id);
    oci_result_deinit(&s->r);
    return code;
}

static void
test_signals(void)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    struct sleeper s;

    begin(&s, "trap 'exit 3' USR1; echo up; while :; do sleep 0.05; done",
          NULL);
    until(&s, "up");
    assert(f.e->ops->signal(f.e, &scope, s.id, SIGUSR1, &err) == 0);
    assert(finish(&s) == 3);
    begin(&s, "echo up; exec sleep 100", NULL);
    until(&s, "up");
    assert(f.e->ops->signal(f.e, &scope, s.id, SIGINT, &err) == 0);
    assert(finish(&s) == 130);
    begin(&s, "exec sleep 100", NULL);
    assert(f.e->ops->signal(f.e, &scope, s.id, SIGKILL, &err) == 0);
    assert(finish(&s) == 137);
}

static void
read_exec(struct lev_exec *x, struct lev_buf *out)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    char chunk[64];
    int stream;
    ssize_t n;

    while ((n = f.e->ops->exec_recv(x, &stream, chunk, sizeof(chunk), &err)) !=
           0) {
        struct pollfd pfd = {.fd = f.e->ops->exec_fd(x), .events = POLLIN};

        assert(n != -1);
        if (n > 0) {
            lev_buf_append(out, chunk, (size_t)n);
        }
        else {
            assert(lev_scope_poll(&scope, &pfd, 1, &err) > 0);
        }
    }
}

static void
test_exec(void)
{
    const struct lev_exec_spec spec = {.argv =
                                           OCI_SH("head -n 1; id -u; exit 5"),
                                       .user = "me",
                                       .input = true};
    struct lev_scope scope = oci_soon();
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_error err;
    struct lev_exec *x;
    struct sleeper s;
    int code;

    begin(&s, "exec sleep 100", NULL);
    x = f.e->ops->exec_start(f.e, &scope, s.id, &spec, &err);
    if (x == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    assert(f.e->ops->exec_send(x, &scope, "hello\n", 6, &err) == 0);
    read_exec(x, &out);
    assert(f.e->ops->exec_code(x, &scope, &code, &err) == 0);
    assert(code == 5 && strcmp(out.data, "hello\n1000\n") == 0);
    f.e->ops->exec_close(x);
    assert(f.e->ops->signal(f.e, &scope, s.id, SIGKILL, &err) == 0);
    assert(finish(&s) == 137);
}

/* One that has ended keeps its files, and runs again with them. */
static void
test_again(void)
{
    const struct lev_exec_spec spec = {.argv = OCI_SH("cat /count")};
    const struct lev_engine_ops *ops = f.e->ops;
    struct lev_scope scope = oci_soon();
    _cleanup_buf_ struct lev_buf text = {0}, out = {0};
    char *id =
        oci_make(&f,
                 OCI_SH("echo x >> /count; wc -l < /count; hostname"
                        "; cat /proc/self/cgroup | head -n 1; "
                        "exec sleep 1000"),
                 "{\"network_mode\": \"bridge\", \"hostname\": \"h\"}", NULL);
    _cleanup_free_ char *image = NULL, *first = NULL;
    struct lev_container_state state;
    struct lev_error err;
    struct lev_exec *x;

    for (int i = 1; i <= 3; i++) {
        struct oci_result r = {.out.data = ignore};
        struct lev_process *p = ops->attach(f.e, &scope, id, &r.out, &err);
        struct lev_process *second;
        char expected[32], address[64];
        int code;

        assert(p != NULL);
        if (ops->start(p, &scope, &err) < 0) {
            fprintf(stderr, "%s\n", err.msg);
            abort();
        }
        second = ops->attach(f.e, &scope, id, &r.out, &err);
        assert(second != NULL && ops->start(second, &scope, &err) < 0);
        assert(err.code == LEV_E_CONFLICT);
        ops->detach(second);
        snprintf(expected, sizeof(expected), "%d\nh\n", i);
        while (strstr(lev_buf_text(&r.text[0]), "h\n") == NULL) {
            assert(ops->poll(p, &scope, NULL, 0, &code, &err) == 0);
        }
        assert(strncmp(r.text[0].data, expected, strlen(expected)) == 0);
        assert(ops->address(f.e, &scope, id, "bridge", address, &err) == 0);
        assert(first == NULL || strcmp(first, address) == 0);
        free(first);
        first = strdup(address);
        x = ops->exec_start(f.e, &scope, id, &spec, &err);
        assert(x != NULL);
        lev_buf_clear(&out);
        read_exec(x, &out);
        assert(out.len == (size_t)(2 * i));
        ops->exec_close(x);
        assert(ops->inspect(f.e, &scope, id, &state, &err) == 0);
        assert(state.running && state.finished == 0);
        assert(ops->signal(f.e, &scope, id, SIGKILL, &err) == 0);
        while (ops->poll(p, &scope, NULL, 0, &code, &err) == 0) {
            ;
        }
        assert(code == 137);
        ops->detach(p);
        oci_result_deinit(&r);
        assert(ops->inspect(f.e, &scope, id, &state, &err) == 0);
        assert(!state.running && state.exit_code == 137 && state.finished > 0);
    }
    /* Its files can be read, and made an image of. */
    assert(ops->get(f.e, &scope, id, "/count", 99, &text, &err) == 0);
    assert(strcmp(text.data, "x\nx\nx\n") == 0);
    image = ops->commit(f.e, &scope, id, NULL, &err);
    assert(image != NULL);
    assert(ops->remove(f.e, &scope, id, &err) == 0);
    assert(ops->image_remove(f.e, &scope, image, &err) == 0);
    free(id);
}

/* Removed while it runs, and again. */
static void
test_remove(void)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    struct sleeper s;
    int code;

    begin(&s, "trap '' TERM INT; while :; do sleep 1; done", NULL);
    assert(f.e->ops->remove(f.e, &scope, s.id, &err) == 0);
    while (f.e->ops->poll(s.p, &scope, NULL, 0, &code, &err) == 0) {
        ;
    }
    assert(code == 137);
    f.e->ops->detach(s.p);
    free(s.id);
    oci_result_deinit(&s.r);
}

static void *
run_some(void *unused)
{
    for (int i = 0; i < 6; i++) {
        struct oci_result r;

        oci_run(&f, OCI_SH("echo one; exit 4"), NULL, &r);
        expect(&r, 4, "one\n");
        oci_result_deinit(&r);
    }
    return NULL;
}

static void
test_threads(void)
{
    pthread_t threads[8];

    for (size_t i = 0; i < LEV_ARRAY_LEN(threads); i++) {
        assert(pthread_create(&threads[i], NULL, run_some, NULL) == 0);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(threads); i++) {
        assert(pthread_join(threads[i], NULL) == 0);
    }
}

static size_t
entries(const char *below)
{
    char path[256];
    size_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/%s", f.dir, below);
    dir = opendir(path);
    assert(dir != NULL);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n - 2;
}

int
main(void)
{
    oci_fixture_open(&f);
    test_run();
    test_not_there();
    test_options();
    test_isolation();
    test_limits();
    test_files();
    test_signals();
    test_exec();
    test_again();
    test_remove();
    test_threads();
    assert(entries("names") == 0);
    oci_fixture_close(&f);
    puts("ok");
    return 0;
}
