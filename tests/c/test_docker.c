/* The Docker back end against a real daemon, LEVRT_TEST_DOCKER: containers
 * from create to removal, exec, networks. */

#include "docker_fixture.h"

#include "worker.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

static void
expect_text(const struct lev_buf *got, const char *wanted)
{
    if (strcmp(lev_buf_text(got), wanted) != 0) {
        fprintf(stderr, "got '%s', expected '%s'\n", lev_buf_text(got),
                wanted);
        abort();
    }
}

static void
expect_error(const struct lev_error *err, enum lev_errcode code,
             const char *says)
{
    if (err->code != code || strstr(err->msg, says) == NULL) {
        fixture_fail(says, err);
    }
}

static bson_t *
options(const char *json)
{
    bson_error_t why;
    bson_t *b = bson_new_from_json((const uint8_t *)json, -1, &why);

    assert(b != NULL);
    return b;
}

/* Runs a script with options and expects what it prints. */
static void
expect_run(const char *json, const char *script, const char *wanted)
{
    struct lev_container_spec spec = sh_spec(script);
    bson_t *opts = options(json);
    struct captured c;

    captured_init(&c);
    spec.options = opts;
    assert(run(&spec, &c, NULL) == 0);
    expect_text(&c.text[1], wanted);
    captured_deinit(&c);
    bson_destroy(opts);
}

static void
test_info(void)
{
    struct lev_error err;

    assert(strncmp(engine->info.api, "1.4", 3) == 0);
    assert(engine->info.version[0] != '\0');
    assert(strcmp(engine->info.os, "linux") == 0);
    MUST(ops->ping(engine, &forever, &err));
}

/* Not even the shortest container loses its last line, which has no newline.
 */
static void
test_output(void)
{
    struct lev_container_spec spec = sh_spec("printf last; printf err >&2");
    struct lev_container_state state;
    struct captured c;

    captured_init(&c);
    assert(run(&spec, &c, &state) == 0);
    expect_text(&c.text[1], "last");
    expect_text(&c.text[2], "err");
    assert(!state.running && state.exit_code == 0 && !state.oom_killed);
    assert(state.started > 1600000000000 && state.finished >= state.started);
    assert(strncmp(state.image_id, "sha256:", 7) == 0);
    captured_deinit(&c);

    captured_init(&c);
    spec = sh_spec("head -c 20000000 /dev/zero; head -c 1000000 /dev/zero >&2;"
                   "exit 3");
    assert(run(&spec, &c, &state) == 3);
    assert(c.text[1].len == 20000000 && c.text[2].len == 1000000);
    assert(state.exit_code == 3);
    captured_deinit(&c);
}

/* The init reports what it cannot run as a shell does. */
static void
test_missing_program(void)
{
    static const char *const missing[] = {"/no/such/program", NULL};
    static const char *const data[] = {"/etc/passwd", NULL};
    struct lev_container_spec spec = sh_spec("");
    struct captured c;

    captured_init(&c);
    spec.entrypoint = missing;
    spec.cmd = NULL;
    assert(run(&spec, &c, NULL) == 127);
    assert(strstr(lev_buf_text(&c.text[2]), "/no/such/program") != NULL);
    spec.entrypoint = data;
    assert(run(&spec, &c, NULL) == 126);
    captured_deinit(&c);
}

static void
test_spec(void)
{
    static const char *const env[] = {"A=1", "B=x=y z", NULL};
    static const char *const hosts[] = {"db:10.1.2.3", NULL};
    static const char *const cmd[] = {"echo \"$0|$A|$B|$1\"; "
                                      "cat /etc/hosts",
                                      "zero", "one two", NULL};
    struct lev_container_spec spec = sh_spec("");
    struct captured c;

    captured_init(&c);
    spec.env = env;
    spec.cmd = cmd;
    spec.extra_hosts = hosts;
    assert(run(&spec, &c, NULL) == 0);
    assert(strncmp(c.text[1].data, "zero|1|x=y z|one two\n", 21) == 0);
    assert(strstr(c.text[1].data, "10.1.2.3\tdb") != NULL);
    captured_deinit(&c);
}

static void
test_options(void)
{
    expect_run("{\"working_dir\": \"/etc\", \"hostname\": \"box\"}",
               "echo $PWD; cat /proc/sys/kernel/hostname", "/etc\nbox\n");
    expect_run("{\"user\": 1000}", "id -u", "1000\n");
    expect_run("{\"network_mode\": \"none\"}", "ls /sys/class/net", "lo\n");
    expect_run("{\"tmpfs\": {\"/x\": \"size=64k\"}}",
               "echo a > /x/f && cat /x/f; ls /x", "a\nf\n");
    expect_run("{\"read_only\": true}", "touch /f 2>&1 || echo no",
               "touch: /f: Read-only file system\nno\n");
    expect_run("{\"ulimits\": [{\"name\": \"nofile\", \"soft\": 77}]}",
               "ulimit -n", "77\n");
    expect_run("{\"extra_hosts\": [\"db:10.1.2.3\"]}",
               "while read l; do case $l in *db) echo \"$l\";; esac; done "
               "< /etc/hosts",
               "10.1.2.3\tdb\n");
    expect_run("{\"dns\": [\"9.9.9.9\"]}", "cat /etc/resolv.conf",
               "nameserver 9.9.9.9\n");
    expect_run("{\"cap_drop\": [\"ALL\"]}",
               "while read k v; do case $k in CapEff:) echo $v;; esac; done "
               "< /proc/self/status",
               "0000000000000000\n");
    expect_run("{\"devices\": [\"/dev/null:/dev/nothing\"]}",
               "echo x > /dev/nothing && echo ok", "ok\n");
}

/* With cgroup v1 an engine that is slow loses one word in forty of the
 * kernel's when the container ends at once: its cgroup is gone before it
 * looks. */
static void
test_memory(void)
{
    bson_t *opts = options("{\"mem_limit\": \"16m\", "
                           "\"memswap_limit\": \"16m\"}");
    struct lev_container_state state = {.oom_killed = false};

    for (int i = 0; i < 5 && !state.oom_killed; i++) {
        struct lev_container_spec spec =
            sh_spec("busybox tail /dev/zero; exit 9");
        struct captured c;

        captured_init(&c);
        spec.options = opts;
        assert(run(&spec, &c, &state) == 9);
        captured_deinit(&c);
    }
    assert(state.oom_killed);
    bson_destroy(opts);
}

static void
test_create_errors(void)
{
    struct lev_container_spec spec = sh_spec("true"), other;
    struct lev_cancel cancel;
    struct lev_scope scope = {LEV_NEVER, &cancel};
    _cleanup_free_ char *id = NULL, *none = NULL;
    struct lev_error err;

    other = spec;
    other.image = "levrt-test/no-such-image:1";
    assert(ops->create(engine, &forever, &other, &none, &err) == -1);
    expect_error(&err, LEV_E_IMAGE_NOT_FOUND, spec.name);
    assert(none == NULL && err.detail == 404);

    id = create(&spec);
    assert(ops->create(engine, &forever, &spec, &none, &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "already in use");
    assert(none == NULL && err.detail == 409);
    MUST(ops->remove(engine, &forever, id, &err));

    /* A cancelled scope keeps it from being sent at all. */
    lev_cancel_init(&cancel, NULL);
    lev_cancel_fire(&cancel);
    assert(ops->create(engine, &scope, &spec, &none, &err) == -1);
    assert(err.code == LEV_E_CANCELLED && none == NULL);
    lev_cancel_deinit(&cancel);
}

/* A start that fails ends the wait that would never end, too. */
static void
test_failed_start(void)
{
    struct lev_container_spec spec = sh_spec("true");
    bson_t *opts = options("{\"devices\": [\"/dev/no-such\"]}");
    _cleanup_free_ char *id = NULL;
    struct lev_process *p;
    struct captured c;
    struct lev_error err;
    int code;

    captured_init(&c);
    spec.options = opts;
    id = create(&spec);
    p = ops->attach(engine, &forever, id, &c.base, &err);
    assert(p != NULL);
    assert(ops->start(p, &forever, &err) == -1);
    expect_error(&err, LEV_E_START, "/dev/no-such");
    assert(ops->poll(p, &forever, NULL, 0, &code, &err) == -1);
    expect_error(&err, LEV_E_STATE, "could not be started");
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));

    assert(ops->attach(engine, &forever, id, &c.base, &err) == NULL);
    expect_error(&err, LEV_E_NOT_FOUND, "No such container");
    captured_deinit(&c);
    bson_destroy(opts);
}

/* Waits until a container has printed something. */
static void
wait_output(struct lev_process *p, struct captured *c)
{
    struct lev_error err;
    int code;

    while (c->text[1].len == 0) {
        assert(ops->poll(p, &forever, NULL, 0, &code, &err) == 0);
    }
}

static void
test_signal(void)
{
    struct lev_container_spec spec = sh_spec("echo up; exec sleep 1000");
    _cleanup_free_ char *id = create(&spec);
    struct captured c;
    struct lev_process *p;
    struct lev_error err;

    captured_init(&c);
    assert(ops->signal(engine, &forever, id, SIGINT, &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "is not running");
    p = begin(id, &c);
    wait_output(p, &c);
    MUST(ops->signal(engine, &forever, id, SIGINT, &err));
    assert(finish(p) == 128 + SIGINT);
    assert(finish(p) == 128 + SIGINT); /* it stays so */
    ops->detach(p);
    assert(ops->signal(engine, &forever, id, SIGINT, &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "signal 2");
    MUST(ops->remove(engine, &forever, id, &err));
    assert(ops->signal(engine, &forever, id, SIGINT, &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "No such container");
    captured_deinit(&c);
}

/* A removal ends what is attached. */
static void
test_remove_running(void)
{
    struct lev_container_spec spec = sh_spec("echo up; exec sleep 1000");
    _cleanup_free_ char *id = create(&spec);
    struct lev_container_state state;
    struct captured c;
    struct lev_process *p;
    struct lev_error err;

    captured_init(&c);
    p = begin(id, &c);
    wait_output(p, &c);
    MUST(ops->inspect(engine, &forever, id, &state, &err));
    assert(state.running && state.pid > 1 && state.finished == 0);
    MUST(ops->remove(engine, &forever, id, &err));
    assert(finish(p) == 137);
    ops->detach(p);
    assert(ops->inspect(engine, &forever, id, &state, &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "inspect container");
    captured_deinit(&c);
}

static const char *shared_id;
static atomic_int removed;
static struct lev_event all_removed;

#define REMOVERS 8

static void
remove_shared(void *arg)
{
    struct lev_error err;

    MUST(ops->remove(engine, &forever, shared_id, &err));
    assert(raw("GET", arg) == 404);
    if (++removed == REMOVERS) {
        lev_event_set(&all_removed);
    }
}

/* Each of several removals returns when the container is gone, not before. */
static void
test_parallel_remove(void)
{
    struct lev_container_spec spec = sh_spec("echo up; exec sleep 1000");
    _cleanup_free_ char *id = create(&spec);
    char path[128];
    struct captured c;
    struct lev_process *p;
    struct lev_error err;

    captured_init(&c);
    lev_event_init(&all_removed);
    p = begin(id, &c);
    shared_id = id;
    snprintf(path, sizeof(path), "/containers/%s/json", id);
    for (int i = 0; i < REMOVERS; i++) {
        MUST(lev_thread_start("remove", remove_shared, path, &err));
    }
    assert(finish(p) == 137);
    MUST(lev_scope_wait(&forever, &all_removed, &err));
    ops->detach(p);
    lev_event_deinit(&all_removed);
    captured_deinit(&c);
}

struct firing {
    struct lev_cancel cancel;
    struct lev_event fired;
};

static void
fire(void *arg)
{
    struct firing *f = arg;

    lev_cancel_fire(&f->cancel);
    lev_event_set(&f->fired);
}

/* Cancelled and timed-out polls leave at once; the container stays until it is
 * removed. */
static void
test_cancel(void)
{
    struct lev_container_spec spec = sh_spec("exec sleep 1000");
    _cleanup_free_ char *id = create(&spec);
    struct lev_scope brief = lev_scope_within(&forever, 20 * LEV_MS);
    struct firing firing;
    struct lev_scope scope = {LEV_NEVER, &firing.cancel};
    struct captured c;
    struct lev_process *p;
    struct lev_error err;
    int code, rc;

    captured_init(&c);
    lev_cancel_init(&firing.cancel, NULL);
    lev_event_init(&firing.fired);
    p = begin(id, &c);
    do {
        rc = ops->poll(p, &brief, NULL, 0, &code, &err);
    } while (rc == 0);
    assert(rc == -1 && err.code == LEV_E_TIMEOUT);
    MUST(lev_thread_start("fire", fire, &firing, &err));
    do {
        rc = ops->poll(p, &scope, NULL, 0, &code, &err);
    } while (rc == 0);
    assert(rc == -1 && err.code == LEV_E_CANCELLED);
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));
    MUST(lev_scope_wait(&forever, &firing.fired, &err));
    lev_event_deinit(&firing.fired);
    lev_cancel_deinit(&firing.cancel);
    captured_deinit(&c);
}

/* The poll also watches descriptors of the caller. */
static void
test_poll_fds(void)
{
    struct lev_container_spec spec = sh_spec("exec sleep 1000");
    _cleanup_free_ char *id = create(&spec);
    struct pollfd pfd = {.events = POLLIN};
    struct captured c;
    struct lev_process *p;
    struct lev_error err;
    int code, ends[2];

    captured_init(&c);
    assert(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    pfd.fd = ends[0];
    p = begin(id, &c);
    while (pfd.revents == 0) {
        assert(ops->poll(p, &forever, &pfd, 1, &code, &err) == 0);
    }
    assert(pfd.revents == POLLIN);
    close(ends[0]);
    close(ends[1]);
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));
    captured_deinit(&c);
}

static void
test_list(void)
{
    const char *const labels[] = {test_labels[0], "zone.lev.a=b=c d", "empty",
                                  NULL};
    struct lev_container_spec spec = sh_spec("true");
    struct lev_listed *list = NULL;
    struct lev_error err;
    int found = 0;

    spec.labels = labels;
    _cleanup_free_ char *id = create(&spec);
    MUST(ops->list(engine, &forever, "zone.lev.a=b=c d", &list, &err));
    assert(list != NULL && list->next == NULL);
    assert(strcmp(list->id, id) == 0 && strcmp(list->name, spec.name) == 0);
    for (char **l = list->labels; *l != NULL; l++) {
        found += strcmp(*l, "zone.lev.a=b=c d") == 0;
        found += strcmp(*l, "empty=") == 0;
    }
    assert(found == 2);
    lev_listed_free(list);
    MUST(ops->list(engine, &forever, "zone.lev.a=b", &list, &err));
    assert(list == NULL);
    MUST(ops->remove(engine, &forever, id, &err));
    MUST(ops->remove(engine, &forever, id, &err)); /* gone is gone */
}

/* ---- exec ---- */

static ssize_t
recv_some(struct lev_exec *x, int *stream, char *buf, size_t len)
{
    struct lev_error err;

    for (;;) {
        ssize_t n = ops->exec_recv(x, stream, buf, len, &err);
        struct pollfd pfd = {.fd = ops->exec_fd(x), .events = POLLIN};

        if (n == -1) {
            fixture_fail("exec_recv", &err);
        }
        if (n != -2) {
            return n;
        }
        assert(poll(&pfd, 1, 30000) == 1);
    }
}

static struct lev_exec *
exec_start(const char *id, const char *script, bool input)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct lev_exec_spec spec = {.argv = argv, .input = input};
    struct lev_error err;
    struct lev_exec *x = ops->exec_start(engine, &forever, id, &spec, &err);

    if (x == NULL) {
        fixture_fail(script, &err);
    }
    return x;
}

static void
test_exec_output(const char *id)
{
    struct lev_exec *x =
        exec_start(id, "echo out; echo err >&2; exit 7", false);
    struct lev_buf text[3] = {{0}};
    struct lev_error err;
    int stream, code;
    char buf[3];
    ssize_t n;

    while ((n = recv_some(x, &stream, buf, sizeof(buf))) > 0) {
        lev_buf_append(&text[stream], buf, (size_t)n);
    }
    expect_text(&text[1], "out\n");
    expect_text(&text[2], "err\n");
    MUST(ops->exec_code(x, &forever, &code, &err));
    assert(code == 7);
    ops->exec_close(x);
    lev_buf_deinit(&text[1]);
    lev_buf_deinit(&text[2]);
}

/* Both directions at once: much more is sent than the pipes between hold. */
static void
test_exec_duplex(const char *id)
{
    static char data[4000000], buf[65536];
    struct lev_exec *x = exec_start(id, "exec cat", true);
    size_t got = 0;
    struct lev_error err;
    int stream;

    memset(data, 'x', sizeof(data));
    MUST(ops->exec_send(x, &forever, "a", 1, &err));
    assert(recv_some(x, &stream, buf, sizeof(buf)) == 1 && buf[0] == 'a');
    MUST(ops->exec_send(x, &forever, data, sizeof(data), &err));
    while (got < sizeof(data)) {
        ssize_t n = recv_some(x, &stream, buf, sizeof(buf));

        assert(n > 0 && stream == 1 && buf[0] == 'x');
        got += (size_t)n;
    }
    ops->exec_close(x);
}

static void
test_exec(void)
{
    static const char *const argv[] = {"/bin/true", NULL};
    struct lev_container_spec spec = sh_spec("exec sleep 1000");
    struct lev_exec_spec none = {.argv = argv};
    _cleanup_free_ char *id = create(&spec);
    struct captured c;
    struct lev_process *p;
    struct lev_error err;

    captured_init(&c);
    assert(ops->exec_start(engine, &forever, id, &none, &err) == NULL);
    expect_error(&err, LEV_E_CONFLICT, "exec /bin/true in container");
    p = begin(id, &c);
    test_exec_output(id);
    test_exec_duplex(id);
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));
    assert(ops->exec_start(engine, &forever, id, &none, &err) == NULL);
    expect_error(&err, LEV_E_NOT_FOUND, "No such container");
    captured_deinit(&c);
}

/* ---- networks ---- */

static char *
make_network(const char *name, const char *subnet)
{
    struct lev_error err;
    char *id;

    MUST(ops->network_create(engine, &forever, name, subnet, test_labels, &id,
                             &err));
    return id;
}

static void
test_network_errors(const char *net)
{
    struct lev_listed *list;
    struct lev_error err;
    char *id;
    int found = 0;

    assert(ops->network_create(engine, &forever, "levrt-test-over",
                               "10.213.7.0/29", NULL, &id, &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "10.213.7.0/29");
    MUST(ops->network_list(engine, &forever, test_labels[0], &list, &err));
    for (struct lev_listed *l = list; l != NULL; l = l->next) {
        if (strcmp(l->id, net) == 0) {
            assert(strcmp(l->subnet, "10.213.7.0/28") == 0);
            assert(strcmp(l->name, "levrt-test-a") == 0);
            assert(strcmp(l->labels[0], test_labels[0]) == 0);
        }
        found++;
    }
    assert(found == 2);
    lev_listed_free(list);
    MUST(ops->network_list(engine, &forever, NULL, &list, &err));
    assert(list != NULL);
    lev_listed_free(list);
}

/* A server under an alias, found by a client on the same network; the client
 * is on two. */
static void
test_networks(void)
{
    static const char *const alias[] = {"server", NULL};
    _cleanup_free_ char *a = make_network("levrt-test-a", "10.213.7.0/28");
    _cleanup_free_ char *b = make_network("levrt-test-b", "10.213.7.16/28");
    struct lev_network_join server_join = {a, alias};
    struct lev_network_join client_join[] = {{b, NULL}, {a, NULL}};
    struct lev_container_spec server = sh_spec("echo hello | nc -l -p 7");
    struct lev_container_spec client = server;
    struct captured c, out;
    struct lev_process *p;
    struct lev_error err;
    char address[64];

    captured_init(&c);
    captured_init(&out);
    test_network_errors(a);
    server.networks = &server_join;
    server.networks_n = 1;
    _cleanup_free_ char *id = create(&server);
    assert(ops->address(engine, &forever, id, a, address, &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "does not run");
    p = begin(id, &c);
    MUST(ops->address(engine, &forever, id, a, address, &err));
    assert(strncmp(address, "10.213.7.", 9) == 0);
    MUST(ops->address(engine, &forever, id, "levrt-test-a", address, &err));
    MUST(ops->address(engine, &forever, id, NULL, address, &err));
    assert(ops->network_remove(engine, &forever, a, &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "active endpoints");

    client = sh_spec("until nc server 7; do sleep 0.05; done;"
                     "ls /sys/class/net");
    client.networks = client_join;
    client.networks_n = 2;
    assert(run(&client, &out, NULL) == 0);
    expect_text(&out.text[1], "hello\neth0\neth1\nlo\n");

    assert(finish(p) == 0);
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));
    MUST(ops->network_remove(engine, &forever, a, &err));
    MUST(ops->network_remove(engine, &forever, b, &err));
    MUST(ops->network_remove(engine, &forever, b, &err));
    captured_deinit(&c);
    captured_deinit(&out);
}

static void
test_host_network(void)
{
    _cleanup_free_ char *net = make_network("levrt-test-h", "10.213.7.32/28");
    struct lev_container_spec spec = sh_spec("true");
    char address[64];
    struct lev_error err;

    spec.host_network = true;
    _cleanup_free_ char *id = create(&spec);
    MUST(ops->address(engine, &forever, id, net, address, &err));
    assert(strcmp(address, "10.213.7.33") == 0);
    MUST(ops->remove(engine, &forever, id, &err));
    MUST(ops->network_remove(engine, &forever, net, &err));
}

int
main(void)
{
    fixture_start();
    test_info();
    test_output();
    test_missing_program();
    test_spec();
    test_options();
    test_memory();
    test_create_errors();
    test_failed_start();
    test_signal();
    test_remove_running();
    test_parallel_remove();
    test_cancel();
    test_poll_fds();
    test_list();
    test_exec();
    test_networks();
    test_host_network();
    fixture_end();
    return 0;
}
