/* The Docker back end when the engine misbehaves: tests/c/scripted_engine. */

#include "docker_fixture.h"

#include "docker.h"
#include "scripted_engine.h"

#include "worker.h"

#include <assert.h>
#include <string.h>

#define V "/v1.41"
#define CREATE "POST " V "/containers/create"
#define ATTACH "POST " V "/containers/c1/attach"
#define WAIT "POST " V "/containers/c1/wait"
#define WAIT_AGAIN WAIT "?condition=not-running"
#define START "POST " V "/containers/c1/start"
#define INSPECT "GET " V "/containers/c1/json"
#define DELETE "DELETE " V "/containers/c1"

static struct scripted_engine server;
static const struct scripted_answer held = {.status = "200 OK", .hold = true};

static void
expect_error(const struct lev_error *err, enum lev_errcode code,
             const char *says)
{
    if (err->code != code || strstr(err->msg, says) == NULL) {
        fprintf(stderr, "expected %d %s\n", code, says);
        fixture_fail("error", err);
    }
}

static void
set(const char *route, const char *status, const char *body)
{
    scripted_set(&server, route,
                 &(struct scripted_answer){.status = status, .body = body});
}

static void
set_inspect(bool running)
{
    set(INSPECT, "200 OK",
        running ? "{\"Image\":\"sha256:1\",\"State\":{\"Running\":true,"
                  "\"StartedAt\":\"2026-01-02T03:04:05.678901234Z\","
                  "\"FinishedAt\":\"0001-01-01T00:00:00Z\"}}"
                : "{\"Image\":\"sha256:1\",\"State\":{\"Running\":false,"
                  "\"ExitCode\":9,"
                  "\"StartedAt\":\"2026-01-02T03:04:05.678901234Z\","
                  "\"FinishedAt\":\"2026-01-02T05:04:06.5+02:00\"}}");
}

/* ---- create ---- */

static int
create_one(const struct lev_scope *scope, char **id, struct lev_error *err)
{
    static const char *const labels[] = {"a=b=c", "d", NULL};
    struct lev_container_spec spec = {
        .name = "name one", .image = "i", .labels = labels};

    return ops->create(engine, scope, &spec, id, err);
}

static void
test_text(void)
{
    static const char *const bad[] = {"fine", "a\xff", NULL};
    struct lev_container_spec spec = {.name = "n", .image = "i", .env = bad};
    struct lev_exec_spec exec = {.argv = bad};
    struct lev_error err;
    char *id;

    assert(ops->create(engine, &forever, &spec, &id, &err) == -1);
    expect_error(&err, LEV_E_INVALID, "env: item 1 is not valid UTF-8");
    assert(id == NULL);
    assert(ops->exec_start(engine, &forever, "c1", &exec, &err) == NULL);
    expect_error(&err, LEV_E_INVALID, "argv: item 1 is not valid UTF-8");
}

#define FIND "GET " V "/containers/json"

/* When it is not known whether there is a container, it is looked for by the
 * label of that one request: another one's may have the same name. */
static void
test_create(void)
{
    struct lev_scope brief = lev_scope_within(&forever, 100 * LEV_MS);
    struct lev_error err;
    char *id;

    set(CREATE, "201 Created", "{\"Id\":\"c1\",\"Warnings\":null}");
    MUST(create_one(&forever, &id, &err));
    assert(strcmp(id, "c1") == 0);
    free(id);
    assert(strncmp(server.last_request, CREATE "?name=name%20one HTTP", 46) ==
           0);

    scripted_set(&server, CREATE, &held);
    set(FIND, "200 OK", "[{\"Id\":\"c2\",\"Names\":[\"/name one\"]}]");
    assert(create_one(&brief, &id, &err) == -1);
    expect_error(&err, LEV_E_TIMEOUT, "create container name one");
    assert(strcmp(id, "c2") == 0);
    assert(strstr(server.last_request, "zone.lev.create%3D") != NULL);
    free(id);

    scripted_set(
        &server, CREATE,
        &(struct scripted_answer){
            .status = "201 Created", .body = "{\"Id\":", .drop = true});
    assert(create_one(&forever, &id, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "create container name one");
    assert(strcmp(id, "c2") == 0);
    free(id);

    set(FIND, "200 OK", "[]");
    assert(create_one(&forever, &id, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "create container name one");
    assert(id == NULL);

    set(CREATE, "500 Internal Server Error",
        "{\"message\":\"mkdir: no space left on device\"}");
    assert(create_one(&forever, &id, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "docker system df");
    assert(id == NULL && err.detail == 500);

    set(CREATE, "502 Bad Gateway", "");
    assert(create_one(&forever, &id, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "HTTP status 502");
    assert(id == NULL);
}

/* ---- attach, start, wait ---- */

/* Polls until the process ends or fails. */
static int
run_process(struct captured *c, int *code, struct lev_error *err)
{
    struct lev_process *p = ops->attach(engine, &forever, "c1", &c->base, err);
    int rc;

    if (p == NULL || ops->start(p, &forever, err) < 0) {
        ops->detach(p);
        return -1;
    }
    do {
        rc = ops->poll(p, &forever, NULL, 0, code, err);
    } while (rc == 0);
    ops->detach(p);
    return rc;
}

/* With how often the output was cut. */
static void
expect_cut(int wanted, const char *output, int lost)
{
    struct captured c;
    struct lev_error err;
    int code = -1;

    captured_init(&c);
    if (run_process(&c, &code, &err) < 0) {
        fixture_fail("run", &err);
    }
    assert(code == wanted);
    assert(strcmp(lev_buf_text(&c.text[1]), output) == 0);
    assert(c.lost == lost);
    captured_deinit(&c);
}

static void
expect_code(int wanted, const char *output)
{
    expect_cut(wanted, output, 0);
}

static void
expect_failure(enum lev_errcode code, const char *says)
{
    struct captured c;
    struct lev_error err;
    int unused;

    captured_init(&c);
    assert(run_process(&c, &unused, &err) == -1);
    expect_error(&err, code, says);
    captured_deinit(&c);
}

#define FRAME "\1\0\0\0\0\0\0\3out"

static void
set_output(bool drop)
{
    scripted_set(&server, ATTACH,
                 &(struct scripted_answer){.status = "200 OK",
                                           .body = FRAME,
                                           .body_len = sizeof(FRAME) - 1,
                                           .drop = drop});
}

static void
test_process(void)
{
    set(START, "204 No Content", "");
    set_output(false);
    set(WAIT, "200 OK", "{\"Error\":null,\"StatusCode\":3}");
    expect_code(3, "out");

    /* Its answer is lost after the start, but the container tells the code. */
    scripted_set(
        &server, WAIT,
        &(struct scripted_answer){
            .status = "200 OK", .again = " ", .times = 6, .drop = true});
    set_inspect(false);
    expect_code(9, "out");
    set(WAIT, "200 OK", "no JSON");
    expect_code(9, "out");
    set(WAIT, "200 OK", "{\"Error\":{\"Message\":\"lost it\"}}");
    expect_code(9, "out");
    set_inspect(true);
    expect_failure(LEV_E_ENGINE, "wait for container c1: lost it");
    set(INSPECT, "404 Not Found", "{\"message\":\"No such container: c1\"}");
    expect_failure(LEV_E_NOT_FOUND,
                   "No such container: c1; it was removed while it ran");
    /* Podman leaves "wait" without an answer then. */
    scripted_set(&server, WAIT, &held);
    expect_failure(LEV_E_NOT_FOUND, "output of container c1: ");
}

/* The connections break while the container goes on. */
static void
test_wait_again(void)
{
    set_output(false);
    scripted_set(
        &server, WAIT,
        &(struct scripted_answer){
            .status = "200 OK", .again = " ", .times = 6, .drop = true});
    set(WAIT_AGAIN, "200 OK", "{\"StatusCode\":5}");
    set_inspect(true);
    expect_code(5, "out");
    assert(scripted_count(&server, WAIT_AGAIN) == 1);
    /* Not for ever. */
    scripted_set(&server, WAIT_AGAIN,
                 &(struct scripted_answer){.status = NULL, .drop = true});
    scripted_set(&server, INSPECT,
                 &(struct scripted_answer){.status = NULL, .drop = true});
    expect_failure(LEV_E_ENGINE_UNAVAILABLE,
                   "wait for container c1: the connection to the engine was "
                   "lost while the container ran");
    assert(scripted_count(&server, INSPECT) > 2);
    set_inspect(true);
    set(WAIT_AGAIN, "500 Internal Server Error", "{\"message\":\"no wait\"}");
    expect_failure(LEV_E_ENGINE, "wait for container c1: no wait");
}

static void
until_asked(const char *route)
{
    struct lev_error err;

    while (scripted_count(&server, route) == 0) {
        MUST(lev_scope_sleep(&forever, LEV_MS, &err));
    }
}

static void
cut_both(void *arg)
{
    until_asked(START);
    set_output(false);
    scripted_cut(&server, ATTACH);
    until_asked(ATTACH);
    scripted_cut(&server, WAIT);
}

static void
test_attach_again(void)
{
    struct lev_error err;

    set(START, "204 No Content", "");
    scripted_set(&server, ATTACH,
                 &(struct scripted_answer){.status = "200 OK",
                                           .body = FRAME,
                                           .body_len = sizeof(FRAME) - 1,
                                           .hold = true});
    scripted_set(&server, WAIT, &held);
    set(WAIT_AGAIN, "200 OK", "{\"StatusCode\":3}");
    set_inspect(true);
    assert(lev_thread_start("cut", cut_both, NULL, &err) == 0);
    expect_cut(3,
               "out"
               "out",
               1);
}

static void
test_output(void)
{
    scripted_set(&server, WAIT, &held);
    set(ATTACH, "200 OK", "this is not multiplexed");
    expect_failure(LEV_E_ENGINE,
                   "container c1: the output is not multiplexed");
    set(ATTACH, "404 Not Found", "{\"message\":\"No such container: c1\"}");
    expect_failure(LEV_E_NOT_FOUND, "attach to container c1: No such");
    scripted_set(&server, ATTACH, &held);
    set(WAIT, "500 Internal Server Error", "{\"message\":\"no wait\"}");
    expect_failure(LEV_E_ENGINE, "attach to container c1: no wait");
    /* Cut inside a frame: all that is known of it is kept. */
    set_inspect(false);
    set(WAIT, "200 OK", "{\"StatusCode\":3}");
    scripted_set(&server, ATTACH,
                 &(struct scripted_answer){.status = "200 OK",
                                           .body = FRAME,
                                           .body_len = sizeof(FRAME) - 2});
    expect_cut(3, "ou", 1);
}

static void
test_start(void)
{
    scripted_set(&server, ATTACH, &held);
    scripted_set(&server, WAIT, &held);
    set(START, "400 Bad Request",
        "{\"message\":\"exec: no such file or directory\"}");
    expect_failure(LEV_E_START, "start container c1: exec: no such file");
    set(START, "404 Not Found", "{\"message\":\"No such container: c1\"}");
    expect_failure(LEV_E_NOT_FOUND, "No such container");
    set(START, "404 Not Found", "{\"message\":\"network n not found\"}");
    expect_failure(LEV_E_START, "network n not found");
    set(START, "409 Conflict",
        "{\"message\":\"container is marked for removal\"}");
    expect_failure(LEV_E_CONFLICT, "marked for removal");
    scripted_set(&server, START,
                 &(struct scripted_answer){.status = NULL, .drop = true});
    expect_failure(LEV_E_ENGINE, "start container c1");
}

struct firing {
    struct lev_cancel cancel;
    struct lev_event done; /* the token may go */
};

static void
fire(void *arg)
{
    struct firing *firing = arg;

    until_asked(START);
    lev_cancel_fire(&firing->cancel);
    lev_event_set(&firing->done);
}

/* A start is not cut off by a cancel: not before its time. */
static void
test_start_cancelled(void)
{
    struct firing firing;
    struct lev_scope scope = {LEV_NEVER, &firing.cancel};
    struct lev_process *p;
    struct captured c;
    struct lev_error err;
    int64_t since;
    int code;

    captured_init(&c);
    scripted_set(&server, ATTACH, &held);
    scripted_set(&server, WAIT, &held);
    scripted_set(&server, START, &held);
    lev_cancel_init(&firing.cancel, NULL);
    lev_event_init(&firing.done);
    p = ops->attach(engine, &forever, "c1", &c.base, &err);
    assert(p != NULL);
    assert(lev_thread_start("fire", fire, &firing, &err) == 0);
    since = lev_now();
    assert(ops->start(p, &scope, &err) == -1);
    expect_error(&err, LEV_E_CANCELLED, "start container c1");
    assert(lev_now() - since >= lev_docker_of(engine)->patience);
    assert(ops->poll(p, &forever, NULL, 0, &code, &err) == -1);
    expect_error(&err, LEV_E_STATE, "could not be started");
    ops->detach(p);
    captured_deinit(&c);

    /* When its time is up it is told as well, but it has been answered. */
    set(START, "204 No Content", "");
    lev_docker_of(engine)->patience = LEV_NEVER;
    p = ops->attach(engine, &forever, "c1", &c.base, &err);
    assert(p != NULL);
    assert(ops->start(p, &scope, &err) == -1);
    expect_error(&err, LEV_E_CANCELLED, "start container c1");
    assert(scripted_count(&server, START) == 0);
    ops->detach(p);
    assert(lev_scope_wait(&forever, &firing.done, &err) == 0);
    lev_event_deinit(&firing.done);
    lev_cancel_deinit(&firing.cancel);
    captured_deinit(&c);
}

/* ---- the rest ---- */

static void
test_inspect(void)
{
    struct lev_container_state state;
    struct lev_error err;

    set_inspect(false);
    MUST(ops->inspect(engine, &forever, "c1", &state, &err));
    assert(state.exit_code == 9 && !state.running);
    assert(state.started == 1767323045678);
    assert(state.finished == 1767323046500);
    set_inspect(true);
    MUST(ops->inspect(engine, &forever, "c1", &state, &err));
    assert(state.running && state.finished == 0 && state.peak_memory == -1);
    /* Nothing is assumed to be there. */
    set(INSPECT, "200 OK", "[]");
    MUST(ops->inspect(engine, &forever, "c1", &state, &err));
    assert(!state.running && state.started == 0 && state.image_id[0] == '\0');
    set(INSPECT, "200 OK", "{\"State\":");
    assert(ops->inspect(engine, &forever, "c1", &state, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "inspect container c1");
}

static void
test_remove(void)
{
    struct lev_scope brief = lev_scope_within(&forever, 100 * LEV_MS);
    struct lev_error err;

    set(DELETE, "409 Conflict",
        "{\"message\":\"removal of container c1 is already in progress\"}");
    set_inspect(false);
    assert(ops->remove(engine, &brief, "c1", &err) == -1);
    expect_error(&err, LEV_E_TIMEOUT, "remove container c1");
    assert(scripted_count(&server, INSPECT) > 1);
    set(INSPECT, "404 Not Found", "{\"message\":\"No such container: c1\"}");
    MUST(ops->remove(engine, &forever, "c1", &err));
    set(DELETE, "500 Internal Server Error",
        "{\"message\":\"device or resource busy\"}");
    assert(ops->remove(engine, &forever, "c1", &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "remove container c1: device");
    set(DELETE, "404 Not Found", "{\"message\":\"No such container: c1\"}");
    MUST(ops->remove(engine, &forever, "c1", &err));
}

static void
test_lists(void)
{
    struct lev_listed *list = NULL;
    struct lev_error err;

    set("GET " V "/containers/json", "200 OK", "{\"not\":\"a list\"}");
    MUST(ops->list(engine, &forever, "a=b", &list, &err));
    assert(list == NULL);
    set("GET " V "/containers/json", "200 OK",
        "[{\"Id\":\"1\",\"Names\":[\"/n\"],\"Labels\":{\"k\":\"v\"}}, 3]");
    MUST(ops->list(engine, &forever, "a=b", &list, &err));
    assert(strcmp(list->name, "n") == 0 && list->next->next == NULL);
    assert(strcmp(list->labels[0], "k=v") == 0 && list->labels[1] == NULL);
    lev_listed_free(list);
    set("GET " V "/networks", "200 OK",
        "[{\"Id\":\"1\",\"Name\":\"n\",\"IPAM\":{\"Config\":["
        "{\"Subnet\":\"10.0.0.0/28\"}]}},{\"Id\":\"2\"}]");
    MUST(ops->network_list(engine, &forever, NULL, &list, &err));
    assert(strcmp(list->subnet, "10.0.0.0/28") == 0);
    assert(list->next->subnet == NULL && list->next->name[0] == '\0');
    lev_listed_free(list);
    set("POST " V "/networks/create", "404 Not Found",
        "{\"message\":\"could not find an available, non-overlapping IPv4 "
        "address pool among the defaults to assign to the network\"}");
    char *id;
    assert(ops->network_create(engine, &forever, "n", NULL, NULL, &id, &err) ==
           -1);
    expect_error(&err, LEV_E_NOT_FOUND, "docker network prune");
}

static void
test_exec(void)
{
    static const char *const argv[] = {"/x", NULL};
    struct lev_exec_spec spec = {.argv = argv};
    struct lev_error err;

    set("POST " V "/containers/c1/exec", "201 Created", "{}");
    assert(ops->exec_start(engine, &forever, "c1", &spec, &err) == NULL);
    expect_error(&err, LEV_E_ENGINE, "exec /x in container c1: ");
    set("POST " V "/containers/c1/exec", "201 Created", "{\"Id\":\"e1\"}");
    set("POST " V "/exec/e1/start", "409 Conflict",
        "{\"message\":\"container c1 is paused\"}");
    assert(ops->exec_start(engine, &forever, "c1", &spec, &err) == NULL);
    expect_error(&err, LEV_E_CONFLICT, "is paused");
}

int
main(void)
{
    scripted_start(&server);
    engine = scripted_open(&server);
    ops = engine->ops;
    lev_docker_of(engine)->patience = 300 * LEV_MS;
    test_text();
    test_create();
    test_process();
    test_wait_again();
    test_attach_again();
    test_output();
    test_start();
    test_start_cancelled();
    test_inspect();
    test_remove();
    test_lists();
    test_exec();
    lev_engine_unref(engine);
    scripted_stop(&server);
    return 0;
}
