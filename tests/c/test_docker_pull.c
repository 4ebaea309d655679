/* Pulls: against a server in this program that says what an engine says, good
 * and bad; and through a real daemon from a real registry, where
 * LEVRT_TEST_DOCKER and LEVRT_TEST_REGISTRY (host:port, as the daemon reaches
 * it) name them. */

#include "docker_fixture.h"

#include "docker.h"
#include "worker.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define REF "reg.example:5000/team/tool:1"
#define STALL (400 * LEV_MS)

static char dir[] = "/tmp/test_docker_pull.XXXXXX";

/* ---- the server ---- */

struct answer {
    const char *status; /* "200 OK" */
    const char *body;   /* sent first */
    const char *again;  /* sent every 50 ms, `times` times; -1: for ever */
    int times;
    bool hold; /* then: stay silent until the client is gone */
    bool drop; /* then: close in the middle */
    bool grow; /* `again` has a %d that counts up */
};

static const struct answer *answer;
static atomic_int requests, listener;
static char last_request[4000];
static struct lev_event arrived;

static bool
send_text(int fd, const char *text)
{
    char size[20];

    snprintf(size, sizeof(size), "%zx\r\n", strlen(text));
    return send(fd, size, strlen(size), MSG_NOSIGNAL) > 0 &&
           send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 &&
           send(fd, "\r\n", 2, MSG_NOSIGNAL) > 0;
}

static void
send_answer(int fd, const struct answer *a)
{
    char head[200], text[400], byte;
    struct lev_error err;

    snprintf(head, sizeof(head),
             "HTTP/1.1 %s\r\nConnection: close\r\n"
             "Transfer-Encoding: chunked\r\n\r\n",
             a->status);
    send(fd, head, strlen(head), MSG_NOSIGNAL);
    if (a->body[0] != '\0') {
        send_text(fd, a->body);
    }
    for (int i = 0; i != a->times; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), a->again, i + 1);
#pragma GCC diagnostic pop
        if (!send_text(fd, text)) {
            return;
        }
        assert(lev_scope_sleep(&forever, 50 * LEV_MS, &err) == 0);
    }
    if (a->hold) {
        while (recv(fd, &byte, 1, 0) > 0) {
        }
    }
    if (!a->drop && !a->hold) {
        send(fd, "0\r\n\r\n", 5, MSG_NOSIGNAL);
    }
}

struct client {
    int fd;
};

static void
serve_one(void *arg)
{
    static const struct answer version = {
        .status = "200 OK",
        .body = "{\"ApiVersion\":\"1.41\",\"Version\":\"0\","
                "\"Arch\":\"amd64\",\"Os\":\"linux\"}"};
    int fd = ((struct client *)arg)->fd;
    char request[4000];
    ssize_t n = recv(fd, request, sizeof(request) - 1, 0);

    free(arg);
    request[n > 0 ? n : 0] = '\0';
    if (strncmp(request, "GET /version", 12) == 0) {
        send_answer(fd, &version);
    }
    else if (n > 0) {
        /* A copy: the test may go on as soon as it has the answer. */
        const struct answer a = *answer;

        memcpy(last_request, request, sizeof(request));
        requests++;
        lev_event_set(&arrived);
        send_answer(fd, &a);
    }
    close(fd);
}

static void
serve(void *unused)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct client *c = malloc(sizeof(*c));
        struct lev_error err;

        assert(c != NULL);
        c->fd = fd;
        assert(lev_thread_start("client", serve_one, c, &err) == 0);
    }
}

static struct lev_engine *
open_fake(void)
{
    struct lev_engine_config config = {.docker_config = dir};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct lev_error err;
    struct lev_engine *e;
    char url[120];

    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/sock", dir);
    assert(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    assert(listen(listener, 64) == 0);
    assert(lev_thread_start("server", serve, NULL, &err) == 0);
    snprintf(url, sizeof(url), "unix://%s", sa.sun_path);
    e = lev_docker_open(url, &config, &forever, &err);
    if (e == NULL) {
        fixture_fail("open", &err);
    }
    return e;
}

/* ---- what is expected ---- */

struct seen {
    int calls;
    int64_t done, total;
    char text[200];
};

static void
on_progress(void *ctx, int64_t done, int64_t total, const char *text)
{
    struct seen *s = ctx;

    s->calls++;
    s->done = done;
    s->total = total;
    snprintf(s->text, sizeof(s->text), "%s", text);
}

static int
pull(struct lev_engine *e, const struct answer *a, struct seen *s,
     struct lev_error *err)
{
    *s = (struct seen){0};
    answer = a;
    return e->ops->image_pull(e, &forever, REF, STALL, on_progress, s, err);
}

static void
expect_failure(struct lev_engine *e, const struct answer *a,
               enum lev_errcode code, const char *says)
{
    struct lev_error err = {.msg = "no error"};
    struct seen s;

    assert(pull(e, a, &s, &err) == -1);
    if (err.code != code || strstr(err.msg, says) == NULL ||
        strncmp(err.msg, "pull image " REF ": ", 13 + strlen(REF)) != 0)
    {
        fprintf(stderr, "expected %d %s\n", code, says);
        fixture_fail("pull", &err);
    }
}

static void
test_progress(struct lev_engine *e)
{
    static const struct answer a = {
        .status = "200 OK",
        .body =
            "{\"status\":\"Pulling from team/tool\",\"id\":\"1\"}\r\n"
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},"
            "\"id\":\"aaa\"}\r\n"
            "{\"status\":\"Already exists\",\"id\":\"bbb\"}\r\n"
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":10,"
            "\"total\":100},\"id\":\"aaa\"}\r\n"
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":7,"
            "\"total\":50},\"id\":\"ccc\"}\r\n"
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":7,"
            "\"total\":50},\"id\":\"ccc\"}\r\n"
            "{\"status\":\"Download complete\",\"id\":\"aaa\"}\r\n"};
    struct lev_error err;
    struct seen s;

    if (pull(e, &a, &s, &err) < 0) {
        fixture_fail("pull", &err);
    }
    assert(s.calls == 6 && s.done == 107 && s.total == 150);
    assert(strcmp(s.text, "aaa: Download complete") == 0);
    assert(strncmp(last_request,
                   "POST /v1.41/images/create?"
                   "fromImage=reg.example%3A5000%2Fteam%2Ftool&tag=1 ",
                   74) == 0);
    /* base64 of {"username":"u","password":"p","serveraddress":… */
    assert(strstr(last_request, "X-Registry-Auth: eyJ1c2VybmFtZSI6InUiLCJwYX"
                                "Nzd29yZCI6InAiLCJzZXJ2ZXJhZGRyZXNz") != NULL);
}

static void
test_failures(struct lev_engine *e)
{
    expect_failure(e,
                   &(struct answer){.status = "200 OK",
                                    .body = "{\"status\":\"x\"}\r\n{"
                                            "\"errorDetail\":{\"message\":"
                                            "\"disk is full\"},\"error\":"
                                            "\"disk is full\"}\r\n"},
                   LEV_E_PULL, "disk is full");
    expect_failure(e,
                   &(struct answer){.status = "200 OK",
                                    .body = "{\"error\":\"no newline\"}"},
                   LEV_E_PULL, "no newline");
    expect_failure(e,
                   &(struct answer){
                       .status = "404 Not Found",
                       .body =
                           "{\"message\":\"manifest for x not found: manifest "
                           "unknown\"}"},
                   LEV_E_IMAGE_NOT_FOUND, "manifest unknown");
    expect_failure(e,
                   &(struct answer){.status = "500 Internal Server Error",
                                    .body = "{\"message\":\"unauthorized: "
                                            "authentication required\"}"},
                   LEV_E_PULL,
                   "reg.example:5000 was asked as user u: log in again with "
                   "docker login reg.example:5000");
    expect_failure(e,
                   &(struct answer){.status = "500 Internal Server Error",
                                    .body = "{\"message\":\"dial tcp: lookup "
                                            "reg.example: no such host\"}"},
                   LEV_E_PULL, "no such host");
    expect_failure(e,
                   &(struct answer){.status = "200 OK",
                                    .body = "{\"status\":\"x\"}\r\ngarbage\n"},
                   LEV_E_ENGINE, "progress message");
    expect_failure(e,
                   &(struct answer){.status = "200 OK",
                                    .body = "{\"status\":\"x\"}\r\n",
                                    .drop = true},
                   LEV_E_ENGINE, "");
}

/* Only what changes something is progress. */
static void
test_stall(struct lev_engine *e)
{
    static const struct answer silent = {
        .status = "200 OK", .body = "", .hold = true};
    static const struct answer retrying = {
        .status = "200 OK",
        .body = "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":"
                "9,\"total\":90},\"id\":\"aaa\"}\r\n",
        .again = "{\"status\":\"Retrying in %d seconds\","
                 "\"id\":\"aaa\"}\r\n",
        .times = -1};
    static const struct answer slow = {
        .status = "200 OK",
        .body = "",
        .again = "{\"status\":\"Downloading\",\"progressDetail\":{"
                 "\"current\":%d,\"total\":90},\"id\":\"aaa\"}\r\n",
        .times = 16};
    struct lev_error err;
    struct seen s;

    expect_failure(e, &silent, LEV_E_PULL, "nothing was received");
    expect_failure(e, &retrying, LEV_E_PULL, "aaa: Retrying in");
    /* Twice the limit in all, an eighth of it between two messages. */
    if (pull(e, &slow, &s, &err) < 0) {
        fixture_fail("slow pull", &err);
    }
    assert(s.done == 16 && s.total == 90);
}

/* ---- several at once ---- */

struct puller {
    struct lev_engine *engine;
    struct lev_scope scope;
    struct lev_event done;
    int rc;
    struct lev_error err;
};

static void
pull_thread(void *arg)
{
    struct puller *p = arg;

    p->rc = p->engine->ops->image_pull(p->engine, &p->scope, REF, 0, NULL,
                                       NULL, &p->err);
    lev_event_set(&p->done);
}

static void
start_puller(struct puller *p, struct lev_engine *e,
             const struct lev_scope *scope)
{
    struct lev_error err;

    *p = (struct puller){.engine = e, .scope = *scope};
    lev_event_init(&p->done);
    MUST(lev_thread_start("pull", pull_thread, p, &err));
}

static void
join_puller(struct puller *p)
{
    struct lev_error err;

    MUST(lev_scope_wait(&forever, &p->done, &err));
    lev_event_deinit(&p->done);
}

static void
arm_arrival(void)
{
    lev_event_deinit(&arrived);
    lev_event_init(&arrived);
    requests = 0;
}

/* One asks; the others wait, each in its own scope; when the one gives up,
 * another takes over. */
static void
test_shared(struct lev_engine *e)
{
    static const struct answer silent = {
        .status = "200 OK", .body = "", .hold = true};
    static const struct answer good = {.status = "200 OK",
                                       .body = "{\"status\":\"done\"}\r\n"};
    struct puller first, heir, brief[4];
    struct lev_cancel cancel;
    struct lev_scope cancelled = {LEV_NEVER, &cancel}, soon;
    struct lev_error err;

    lev_cancel_init(&cancel, NULL);
    arm_arrival();
    answer = &silent;
    start_puller(&first, e, &cancelled);
    MUST(lev_scope_wait(&forever, &arrived, &err));
    soon = lev_scope_within(&forever, 100 * LEV_MS);
    for (size_t i = 0; i < LEV_ARRAY_LEN(brief); i++) {
        start_puller(&brief[i], e, &soon);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(brief); i++) {
        join_puller(&brief[i]);
        assert(brief[i].rc == -1 && brief[i].err.code == LEV_E_TIMEOUT);
    }
    assert(requests == 1);

    answer = &good;
    start_puller(&heir, e, &forever);
    lev_cancel_fire(&cancel);
    join_puller(&first);
    assert(first.rc == -1 && first.err.code == LEV_E_CANCELLED);
    join_puller(&heir);
    assert(heir.rc == 0 && requests == 2);
    lev_cancel_deinit(&cancel);
}

static void
test_fake(void)
{
    struct lev_engine *e;
    struct lev_error err;
    char command[200];

    assert(mkdtemp(dir) != NULL);
    snprintf(command, sizeof(command),
             "echo '{\"auths\":{\"reg.example:5000\":{\"auth\":\"dTpw\"}}}' "
             "> %s/config.json",
             dir);
    assert(system(command) == 0);
    lev_event_init(&arrived);
    e = open_fake();
    test_progress(e);
    test_failures(e);
    test_stall(e);
    test_shared(e);
    assert(e->ops->image_pull(e, &forever, "sha256:0123", 0, NULL, NULL,
                              &err) == -1);
    assert(err.code == LEV_E_IMAGE_NOT_FOUND);
    lev_engine_unref(e);
    shutdown(listener, SHUT_RDWR);
    close(listener);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert(system(command) == 0);
}

/* ---- a real registry ---- */

static void
push(const char *registry, const char *name)
{
    static const char *const headers[] = {"X-Registry-Auth: e30=", NULL};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.method = "POST", .headers = headers};
    char path[300];
    struct lev_error err;

    snprintf(path, sizeof(path), "/images/" TEST_IMAGE "/tag?repo=%s/%s&tag=1",
             registry, name);
    assert(raw("POST", path) == 201);
    snprintf(path, sizeof(path), "/images/%s/%s/push?tag=1", registry, name);
    req.path = path;
    MUST(lev_http_request(lev_docker_of(engine)->http, &forever, &req, &resp,
                          &err));
    assert(resp.status == 200);
    assert(strstr(lev_buf_text(&resp.body), "errorDetail") == NULL);
}

static void
expect_pull_error(const char *ref, enum lev_errcode code, const char *says)
{
    struct lev_error err = {.msg = "no error"};

    assert(ops->image_pull(engine, &forever, ref, 0, NULL, NULL, &err) == -1);
    if (err.code != code || strstr(err.msg, says) == NULL) {
        fixture_fail(says, &err);
    }
}

static void
test_registry(const char *registry)
{
    struct lev_image image;
    struct seen s = {0};
    struct lev_error err;
    char ref[200], digest[200];

    push(registry, "levrt-test/pulled");
    snprintf(ref, sizeof(ref), "%s/levrt-test/pulled:1", registry);
    MUST(ops->image_remove(engine, &forever, ref, &err));
    assert(ops->image_inspect(engine, &forever, ref, &image, &err) == -1);
    MUST(ops->image_pull(engine, &forever, ref, 60 * LEV_SECOND, on_progress,
                         &s, &err));
    assert(s.calls > 0);
    MUST(ops->image_inspect(engine, &forever, ref, &image, &err));
    snprintf(digest, sizeof(digest), "%s/levrt-test/pulled@sha256:", registry);
    assert(strncmp(image.digest, digest, strlen(digest)) == 0);
    /* By digest, with and without a tag. */
    MUST(ops->image_remove(engine, &forever, ref, &err));
    snprintf(ref, sizeof(ref), "%s", image.digest);
    lev_image_deinit(&image);
    MUST(ops->image_pull(engine, &forever, ref, 0, NULL, NULL, &err));
    MUST(ops->image_inspect(engine, &forever, ref, &image, &err));
    assert(strcmp(image.digest, ref) == 0);
    lev_image_deinit(&image);
    MUST(ops->image_remove(engine, &forever, ref, &err));

    snprintf(ref, sizeof(ref), "%s/levrt-test/pulled:2", registry);
    expect_pull_error(ref, LEV_E_IMAGE_NOT_FOUND, ref);
    snprintf(ref, sizeof(ref), "%s/levrt-test/nothing:1", registry);
    expect_pull_error(ref, LEV_E_IMAGE_NOT_FOUND, ref);
    expect_pull_error("127.0.0.1:1/levrt-test/x:1", LEV_E_PULL, "refused");
}

int
main(void)
{
    const char *registry = getenv("LEVRT_TEST_REGISTRY");

    test_fake();
    if (registry == NULL || getenv("LEVRT_TEST_DOCKER") == NULL) {
        fprintf(stderr, "LEVRT_TEST_DOCKER or LEVRT_TEST_REGISTRY is not set: "
                        "the rest is skipped\n");
        return 77;
    }
    fixture_start();
    test_registry(registry);
    fixture_end();
    return 0;
}
