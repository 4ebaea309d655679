/* Pulls: against a server in this program that says what an engine says, good
 * and bad; and through a real daemon from a real registry, where
 * LEVRT_TEST_DOCKER and LEVRT_TEST_REGISTRY (host:port, as the daemon reaches
 * it) name them; LEVRT_TEST_REGISTRY_AUTH is one that knows user levrt-test
 * with password secret. */

#include "docker_fixture.h"

#include "credentials.h"
#include "docker.h"
#include "scripted_engine.h"
#include "worker.h"

#include <assert.h>
#include <string.h>

#define REF "reg.example:5000/team/tool:1"
#define STALL (400 * LEV_MS)

#define ROUTE "POST /v1.41/images/create"

static struct scripted_engine server;

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
pull(struct lev_engine *e, const struct scripted_answer *a, struct seen *s,
     struct lev_error *err)
{
    *s = (struct seen){0};
    scripted_set(&server, ROUTE, a);
    return e->ops->image_pull(e, &forever, REF, STALL, on_progress, s, err);
}

static void
expect_failure(struct lev_engine *e, const struct scripted_answer *a,
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
    static const struct scripted_answer a = {
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
    assert(strncmp(server.last_request,
                   "POST /v1.41/images/create?"
                   "fromImage=reg.example%3A5000%2Fteam%2Ftool&tag=1 ",
                   74) == 0);
    /* base64 of {"username":"u","password":"p","serveraddress":… */
    assert(strstr(server.last_request,
                  "X-Registry-Auth: eyJ1c2VybmFtZSI6InUiLCJwYX"
                  "Nzd29yZCI6InAiLCJzZXJ2ZXJhZGRyZXNz") != NULL);
}

static void
test_failures(struct lev_engine *e)
{
    expect_failure(
        e,
        &(struct scripted_answer){.status = "200 OK",
                                  .body = "{\"status\":\"x\"}\r\n{"
                                          "\"errorDetail\":{\"message\":"
                                          "\"disk is full\"},\"error\":"
                                          "\"disk is full\"}\r\n"},
        LEV_E_PULL, "disk is full");
    expect_failure(
        e,
        &(struct scripted_answer){.status = "200 OK",
                                  .body = "{\"error\":\"no newline\"}"},
        LEV_E_PULL, "no newline");
    expect_failure(e,
                   &(struct scripted_answer){
                       .status = "404 Not Found",
                       .body =
                           "{\"message\":\"manifest for x not found: manifest "
                           "unknown\"}"},
                   LEV_E_IMAGE_NOT_FOUND, "manifest unknown");
    expect_failure(
        e,
        &(struct scripted_answer){.status = "500 Internal Server Error",
                                  .body = "{\"message\":\"unauthorized: "
                                          "authentication required\"}"},
        LEV_E_PULL,
        "reg.example:5000 was asked as user u: log in again with "
        "docker login reg.example:5000");
    expect_failure(
        e,
        &(struct scripted_answer){.status = "500 Internal Server Error",
                                  .body = "{\"message\":\"dial tcp: lookup "
                                          "reg.example: no such host\"}"},
        LEV_E_PULL, "no such host");
    expect_failure(
        e,
        &(struct scripted_answer){.status = "200 OK",
                                  .body = "{\"status\":\"x\"}\r\ngarbage\n"},
        LEV_E_ENGINE, "progress message");
    expect_failure(e,
                   &(struct scripted_answer){.status = "200 OK",
                                             .body = "{\"status\":\"x\"}\r\n",
                                             .drop = true},
                   LEV_E_ENGINE, "");
}

/* Only what changes something is progress. */
static void
test_stall(struct lev_engine *e)
{
    static const struct scripted_answer silent = {
        .status = "200 OK", .body = "", .hold = true};
    static const struct scripted_answer retrying = {
        .status = "200 OK",
        .body = "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":"
                "9,\"total\":90},\"id\":\"aaa\"}\r\n",
        .again = "{\"status\":\"Retrying in %d seconds\","
                 "\"id\":\"aaa\"}\r\n",
        .times = -1};
    static const struct scripted_answer slow = {
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

/* One asks; the others wait, each in its own scope; when the one gives up,
 * another takes over. */
static void
test_shared(struct lev_engine *e)
{
    static const struct scripted_answer silent = {
        .status = "200 OK", .body = "", .hold = true};
    static const struct scripted_answer good = {
        .status = "200 OK", .body = "{\"status\":\"done\"}\r\n"};
    struct puller first, heir, brief[4];
    struct lev_cancel cancel;
    struct lev_scope cancelled = {LEV_NEVER, &cancel}, soon;

    lev_cancel_init(&cancel, NULL);
    server.requests = 0;
    scripted_set(&server, ROUTE, &silent);
    start_puller(&first, e, &cancelled);
    scripted_wait(&server, 1);
    soon = lev_scope_within(&forever, 100 * LEV_MS);
    for (size_t i = 0; i < LEV_ARRAY_LEN(brief); i++) {
        start_puller(&brief[i], e, &soon);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(brief); i++) {
        join_puller(&brief[i]);
        assert(brief[i].rc == -1 && brief[i].err.code == LEV_E_TIMEOUT);
    }
    assert(server.requests == 1);

    scripted_set(&server, ROUTE, &good);
    start_puller(&heir, e, &forever);
    lev_cancel_fire(&cancel);
    join_puller(&first);
    assert(first.rc == -1 && first.err.code == LEV_E_CANCELLED);
    join_puller(&heir);
    assert(heir.rc == 0 && server.requests == 2);
    lev_cancel_deinit(&cancel);
}

static void
test_fake(void)
{
    struct lev_engine *e;
    struct lev_error err;
    char command[200];

    scripted_start(&server);
    snprintf(command, sizeof(command),
             "echo '{\"auths\":{\"reg.example:5000\":{\"auth\":\"dTpw\"}}}' "
             "> %s/config.json",
             server.dir);
    assert(system(command) == 0);
    e = scripted_open(&server);
    test_progress(e);
    test_failures(e);
    test_stall(e);
    test_shared(e);
    assert(e->ops->image_pull(e, &forever, "sha256:0123", 0, NULL, NULL,
                              &err) == -1);
    assert(err.code == LEV_E_IMAGE_NOT_FOUND);
    lev_engine_unref(e);
    scripted_stop(&server);
}

/* ---- a real registry ---- */

static void
push(const char *registry, const char *name, const char *auth)
{
    const char *const headers[] = {auth, NULL};
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

    push(registry, "levrt-test/pulled", "X-Registry-Auth: e30=");
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

static void
use_credentials(const char *registry, const char *user, const char *password)
{
    static char dir[] = "/tmp/test_docker_pull.XXXXXX";
    _cleanup_buf_ struct lev_buf plain = {0}, auth = {0};
    _cleanup_fclose_ FILE *f = NULL;
    char path[100];

    if (lev_docker_of(engine)->docker_config == NULL) {
        assert(mkdtemp(dir) != NULL);
        lev_docker_of(engine)->docker_config = strdup(dir);
    }
    snprintf(path, sizeof(path), "%s/config.json", dir);
    lev_buf_printf(&plain, "%s:%s", user, password);
    lev_buf_base64(&auth, plain.data, plain.len, false);
    f = fopen(path, "w");
    assert(f != NULL);
    fprintf(f, "{\"auths\":{\"%s\":{\"auth\":\"%s\"}}}", registry,
            user[0] == '\0' ? "" : auth.data);
}

static void
test_login(const char *registry)
{
    _cleanup_buf_ struct lev_buf header = {0};
    struct lev_credentials cred = {.username = (char[]){"levrt-test"},
                                   .password = (char[]){"secret"},
                                   .server = (char *)registry};
    struct lev_error err;
    char ref[200], command[200];

    lev_buf_puts(&header, "X-Registry-Auth: ");
    MUST(lev_credentials_header(&cred, &header, &err));
    push(registry, "levrt-test/locked", header.data);
    snprintf(ref, sizeof(ref), "%s/levrt-test/locked:1", registry);
    MUST(ops->image_remove(engine, &forever, ref, &err));
    use_credentials(registry, "", "");
    expect_pull_error(ref, LEV_E_PULL, "log in with docker login");
    use_credentials(registry, "levrt-test", "wrong");
    expect_pull_error(ref, LEV_E_PULL, "was asked as user levrt-test");
    use_credentials(registry, "levrt-test", "secret");
    MUST(ops->image_pull(engine, &forever, ref, 0, NULL, NULL, &err));
    MUST(ops->image_remove(engine, &forever, ref, &err));
    snprintf(command, sizeof(command), "rm -r %s",
             lev_docker_of(engine)->docker_config);
    assert(system(command) == 0);
}

int
main(void)
{
    const char *registry = getenv("LEVRT_TEST_REGISTRY");
    const char *locked = getenv("LEVRT_TEST_REGISTRY_AUTH");

    test_fake();
    if (registry == NULL || locked == NULL ||
        getenv("LEVRT_TEST_DOCKER") == NULL) {
        fprintf(stderr, "LEVRT_TEST_DOCKER, _REGISTRY or _REGISTRY_AUTH is "
                        "not set: the rest is skipped\n");
        return 77;
    }
    fixture_start();
    test_registry(registry);
    test_login(locked);
    fixture_end();
    return 0;
}
