#include "docker_fixture.h"

#include "docker.h"
#include "tar.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>

const struct lev_scope forever = {LEV_NEVER, NULL};
struct lev_engine *engine;
const struct lev_engine_ops *ops;
static char label[40];
const char *const test_labels[2] = {label, NULL};

static void
emit(struct lev_log *log, int level, const char *logger, const char *text,
     size_t len)
{
    fprintf(stderr, "%d %s: %.*s\n", level, logger, (int)len, text);
}

static struct lev_log stderr_log = {.emit = emit};

void
fixture_fail(const char *what, const struct lev_error *err)
{
    fprintf(stderr, "%s: %d (%d) %s\n", what, err->code, err->detail,
            err->msg);
    abort();
}

long
raw(const char *method, const char *path)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.method = method, .path = path};
    struct lev_error err;

    MUST(lev_http_request(lev_docker_of(engine)->http, &forever, &req, &resp,
                          &err));
    return resp.status;
}

static void
import_image(void)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {
        .method = "POST",
        .path = "/images/create?fromSrc=-&repo=levrt-test/busybox&tag=1"};
    static const char *const tools[] = {"sh",   "sleep", "cat",  "echo",
                                        "kill", "id",    "head", "nc",
                                        "true", "touch", "env",  "ls"};
    char dir[] = "/tmp/test_docker.XXXXXX", command[400];
    struct lev_tar *tar;
    struct lev_error err;

    assert(mkdtemp(dir) != NULL);
    snprintf(command, sizeof(command),
             "cd %s && chmod 755 . && mkdir -p bin etc/dir && "
             "cp \"$(command -v busybox)\" bin/busybox && "
             "echo root:x:0:0::/:/bin/sh > etc/passwd && "
             "ln -s passwd etc/link && mkdir -m 1777 tmp",
             dir);
    assert(system(command) == 0);
    for (size_t i = 0; i < LEV_ARRAY_LEN(tools); i++) {
        char path[100];

        snprintf(path, sizeof(path), "%s/bin/%s", dir, tools[i]);
        assert(symlink("busybox", path) == 0);
    }
    tar = lev_tar_create(&err);
    assert(tar != NULL);
    MUST(lev_tar_add_path(tar, &forever, "/", dir, 0, 0, &err));
    MUST(lev_tar_finish(tar, &req.body_fd, &req.body_len, &err));
    lev_tar_destroy(tar);
    MUST(lev_http_request(lev_docker_of(engine)->http, &forever, &req, &resp,
                          &err));
    MUST(lev_docker_status(&resp, &err));
    close(req.body_fd);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert(system(command) == 0);
}

void
fixture_start(void)
{
    const char *url = getenv("LEVRT_TEST_DOCKER");
    struct lev_engine_config config = {.log = &stderr_log};
    struct lev_image image;
    struct lev_error err;

    if (url == NULL) {
        fprintf(stderr, "LEVRT_TEST_DOCKER is not set: skipped\n");
        exit(77);
    }
    snprintf(label, sizeof(label), "zone.lev.test=%d", (int)getpid());
    engine = lev_docker_open(url, &config, &forever, &err);
    if (engine == NULL) {
        fixture_fail("open", &err);
    }
    ops = engine->ops;
    if (ops->image_inspect(engine, &forever, TEST_IMAGE, &image, &err) < 0) {
        assert(err.code == LEV_E_IMAGE_NOT_FOUND);
        import_image();
        MUST(ops->image_inspect(engine, &forever, TEST_IMAGE, &image, &err));
    }
    assert(strcmp(image.arch, engine->info.arch) == 0);
    lev_image_deinit(&image);
}

void
fixture_end(void)
{
    struct lev_listed *left = NULL;
    struct lev_error err;

    MUST(ops->list(engine, &forever, label, &left, &err));
    if (left != NULL) {
        fprintf(stderr, "container %s was left\n", left->name);
        abort();
    }
    MUST(ops->network_list(engine, &forever, label, &left, &err));
    if (left != NULL) {
        fprintf(stderr, "network %s was left\n", left->name);
        abort();
    }
    assert(engine->refs == 1);
    lev_engine_unref(engine);
}

static void
capture(struct lev_output *out, int stream, const char *data, size_t len)
{
    struct captured *c = lev_container_of(out, struct captured, base);

    assert(stream == 1 || stream == 2);
    lev_buf_append(&c->text[stream], data, len);
}

static void
count_lost(struct lev_output *out, const char *why)
{
    struct captured *c = lev_container_of(out, struct captured, base);

    fprintf(stderr, "output lost: %s\n", why);
    c->lost++;
}

void
captured_init(struct captured *c)
{
    *c = (struct captured){.base = {capture, count_lost}};
}

void
captured_deinit(struct captured *c)
{
    lev_buf_deinit(&c->text[1]);
    lev_buf_deinit(&c->text[2]);
}

struct lev_container_spec
sh_spec(const char *script)
{
    static const char *entrypoint[] = {"/bin/sh", "-c", NULL};
    static char name[64];
    static const char *cmd[2];
    static int n;

    snprintf(name, sizeof(name), "levrt-test-%d-%d", (int)getpid(), ++n);
    cmd[0] = script;
    return (struct lev_container_spec){.name = name,
                                       .image = TEST_IMAGE,
                                       .entrypoint = entrypoint,
                                       .cmd = cmd,
                                       .labels = test_labels};
}

char *
create(const struct lev_container_spec *spec)
{
    struct lev_error err;
    char *id = NULL;

    MUST(ops->create(engine, &forever, spec, &id, &err));
    assert(id != NULL && strlen(id) == 64);
    return id;
}

struct lev_process *
begin(const char *id, struct captured *c)
{
    struct lev_error err;
    struct lev_process *p = ops->attach(engine, &forever, id, &c->base, &err);

    if (p == NULL) {
        fixture_fail("attach", &err);
    }
    MUST(ops->start(p, &forever, &err));
    return p;
}

int
finish(struct lev_process *p)
{
    struct lev_scope bound = lev_scope_within(&forever, 60 * LEV_SECOND);
    struct lev_error err;
    int code = -1, rc;

    do {
        rc = ops->poll(p, &bound, NULL, 0, &code, &err);
        if (rc < 0) {
            fixture_fail("poll", &err);
        }
    } while (rc == 0);
    return code;
}

int
run(const struct lev_container_spec *spec, struct captured *c,
    struct lev_container_state *state)
{
    _cleanup_free_ char *id = create(spec);
    struct lev_process *p = begin(id, c);
    int code = finish(p);
    struct lev_error err;

    ops->detach(p);
    if (state != NULL) {
        MUST(ops->inspect(engine, &forever, id, state, &err));
    }
    MUST(ops->remove(engine, &forever, id, &err));
    return code;
}
