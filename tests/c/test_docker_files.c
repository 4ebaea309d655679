/* The Docker back end against a real daemon, LEVRT_TEST_DOCKER: files into and
 * out of containers, images made of them, the runtime bundle. */

#include "docker_fixture.h"

#include "docker.h"
#include "tar.h"
#include "worker.h"

#include <assert.h>
#include <string.h>
#include <sys/wait.h>

#define FILLERS 4

static void
expect_error(const struct lev_error *err, enum lev_errcode code,
             const char *says)
{
    if (err->code != code || strstr(err->msg, says) == NULL) {
        fixture_fail(says, err);
    }
}

/* Puts one file; what the engine says goes to `err`. */
static int
put(const char *id, const char *path, const char *text, struct lev_error *err)
{
    const struct lev_tar_meta meta = {.mode = 0640, .uid = 5, .gid = 6};
    _cleanup_tar_ struct lev_tar *tar = lev_tar_create(err);
    _cleanup_close_ int fd = -1;
    uint64_t size;

    assert(tar != NULL);
    assert(lev_tar_add_bytes(tar, path, text, strlen(text), &meta, err) == 0);
    assert(lev_tar_finish(tar, &fd, &size, err) == 0);
    return ops->put(engine, &forever, id, fd, size, err);
}

static int
exists(const char *id, const char *path)
{
    struct lev_error err;
    int there = ops->exists(engine, &forever, id, path, &err);

    if (there < 0) {
        fixture_fail(path, &err);
    }
    return there;
}

/* Its content begins with `text`. */
static void
expect_file(const char *id, const char *path, const char *text)
{
    _cleanup_buf_ struct lev_buf got = {0};
    struct lev_error err;

    MUST(ops->get(engine, &forever, id, path, 1000, &got, &err));
    assert(strncmp(lev_buf_text(&got), text, strlen(text)) == 0);
}

static void
test_put(void)
{
    struct lev_container_spec spec =
        sh_spec("cat '/data/a b/x' /bin/../etc/new; ls -ln '/data/a b'");
    _cleanup_free_ char *id = create(&spec);
    _cleanup_buf_ struct lev_buf got = {0};
    struct captured c;
    struct lev_process *p;
    struct lev_error err;

    captured_init(&c);
    assert(exists(id, "/etc/passwd") == 1);
    assert(exists(id, "/data/a b/x") == 0);
    MUST(put(id, "/data/a b/x", "one\n", &err));
    MUST(put(id, "/etc/new", "two\n", &err));
    assert(exists(id, "/data/a b/x") == 1);
    expect_file(id, "/data/a b/x", "one\n");
    expect_file(id, "/etc/passwd", "root:x:0:0:");
    expect_file(id, "/etc/link", "root:x:0:0:");

    /* A directory of the image is never replaced by a file. */
    assert(put(id, "/etc/dir", "x", &err) == -1);
    expect_error(&err, LEV_E_CONFLICT, "put files into container");
    assert(ops->get(engine, &forever, id, "/nowhere", 9, &got, &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "/nowhere");
    assert(ops->get(engine, &forever, id, "/etc/passwd", 9, &got, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "/etc/passwd");
    assert(ops->get(engine, &forever, id, "/etc/dir", 9, &got, &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "/etc/dir");

    p = begin(id, &c);
    assert(finish(p) == 0);
    assert(strncmp(c.text[1].data, "one\ntwo\n", 8) == 0);
    assert(strstr(c.text[1].data, "-rw-r-----    1 5        6") != NULL);
    ops->detach(p);
    MUST(ops->remove(engine, &forever, id, &err));
    assert(ops->exists(engine, &forever, id, "/etc/passwd", &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "No such container");
    assert(put(id, "/x", "x", &err) == -1);
    expect_error(&err, LEV_E_NOT_FOUND, "No such container");
    captured_deinit(&c);
}

/* A read-only root takes no files: an intermediate image has them. */
static void
test_commit(void)
{
    static const char *const labels[] = {"zone.lev.made=by a test", NULL};
    const uint8_t *json = (const uint8_t *)"{\"read_only\": true}";
    bson_t *opts = bson_new_from_json(json, -1, NULL);
    struct lev_container_spec spec = sh_spec("cat /data/x; touch /y");
    _cleanup_free_ char *id = NULL, *plain = create(&spec), *image = NULL;
    struct captured c;
    struct lev_error err;

    captured_init(&c);
    MUST(put(plain, "/data/x", "in the image", &err));
    image = ops->commit(engine, &forever, plain, labels, &err);
    if (image == NULL) {
        fixture_fail("commit", &err);
    }
    MUST(ops->remove(engine, &forever, plain, &err));

    spec = sh_spec("cat /data/x; touch /y");
    spec.options = opts;
    id = create(&spec);
    assert(put(id, "/data/x", "x", &err) == -1);
    expect_error(&err, LEV_E_ENGINE, "read-only");
    MUST(ops->remove(engine, &forever, id, &err));
    spec.image = image;
    assert(run(&spec, &c, NULL) == 1);
    assert(strcmp(lev_buf_text(&c.text[1]), "in the image") == 0);
    MUST(ops->image_remove(engine, &forever, image, &err));
    MUST(ops->image_remove(engine, &forever, image, &err));
    captured_deinit(&c);
    bson_destroy(opts);
}

static void
test_images(void)
{
    struct lev_container_spec spec = sh_spec("");
    struct lev_image image;
    const char *ref;
    struct lev_error err;

    ref = ops->image_empty(engine, &forever, &err);
    if (ref == NULL) {
        fixture_fail("image_empty", &err);
    }
    assert(ops->image_empty(engine, &forever, &err) == ref);
    MUST(ops->image_inspect(engine, &forever, ref, &image, &err));
    assert(strcmp(image.arch, engine->info.arch) == 0);
    assert(image.entrypoint == NULL && image.user[0] == '\0');
    lev_image_deinit(&image);
    spec.image = ref;
    _cleanup_free_ char *id = create(&spec);
    assert(exists(id, "/bin") == 0);
    MUST(ops->remove(engine, &forever, id, &err));

    assert(ops->image_inspect(engine, &forever, "no-such-image:1", &image,
                              &err) == -1);
    expect_error(&err, LEV_E_IMAGE_NOT_FOUND, "no-such-image:1");
    assert(ops->image_inspect(engine, &forever,
                              "../containers/json?x=", &image, &err) == -1);
    expect_error(&err, LEV_E_INVALID, "../containers/json");
}

/* ---- the runtime bundle ---- */

static char bundle[64], base[40];

static void
make_bundle(void)
{
    char command[300];

    snprintf(base, sizeof(base), "test%d", (int)getpid());
    snprintf(bundle, sizeof(bundle), "/tmp/%s", base);
    snprintf(command, sizeof(command),
             "mkdir -p %s/lib && cd %s && echo data > lib/f && "
             "ln -s lib/f link && chmod 755 . lib",
             bundle, bundle);
    assert(system(command) == 0);
}

static void
expect_bundle(const struct lev_mount *mount)
{
    struct lev_container_spec spec =
        sh_spec("cat /lev/link; touch /lev/x 2>&1 || echo ro; id -u");
    const uint8_t *json =
        (const uint8_t *)"{\"user\": \"1000\", \"read_only\": true}";
    bson_t *opts = bson_new_from_json(json, -1, NULL);
    struct captured c;

    captured_init(&c);
    spec.mounts = mount;
    spec.mounts_n = 1;
    spec.options = opts;
    assert(run(&spec, &c, NULL) == 0);
    assert(strcmp(lev_buf_text(&c.text[1]),
                  "data\ntouch: /lev/x: Read-only file system\nro\n1000\n") ==
           0);
    captured_deinit(&c);
    bson_destroy(opts);
}

static void
test_local(void)
{
    struct lev_mount mount;
    struct lev_error err;
    bool local = false;

    for (int i = 0; i < 2; i++) {
        MUST(ops->runtime_mount(engine, &forever, bundle, TEST_IMAGE,
                                test_labels, &mount, &local, &err));
        assert(local && mount.type == LEV_MOUNT_BIND && mount.read_only);
        assert(strcmp(mount.source, bundle) == 0);
        assert(strcmp(mount.target, "/lev") == 0);
        if (i == 1) {
            expect_bundle(&mount);
        }
        lev_mount_deinit(&mount);
    }
}

/* An engine that counts as one on another machine: by TCP, where the tests
 * have a way to it. */
static struct lev_engine *
open_far(void)
{
    const char *tcp = getenv("LEVRT_TEST_DOCKER_TCP");
    struct lev_engine_config config = {0};
    struct lev_error err;
    struct lev_engine *e =
        lev_docker_open(tcp != NULL ? tcp : getenv("LEVRT_TEST_DOCKER"),
                        &config, &forever, &err);

    if (e == NULL) {
        fixture_fail("open", &err);
    }
    assert(lev_docker_of(e)->remote == (tcp != NULL));
    lev_docker_of(e)->remote = true;
    return e;
}

static void
fill(struct lev_engine *far)
{
    struct lev_mount mount;
    char volume[60];
    struct lev_error err;
    bool local = true;

    snprintf(volume, sizeof(volume), "levrt-runtime-%s", base);
    MUST(ops->runtime_mount(far, &forever, bundle, TEST_IMAGE, test_labels,
                            &mount, &local, &err));
    assert(!local && mount.type == LEV_MOUNT_VOLUME && mount.read_only);
    assert(strcmp(mount.source, volume) == 0);
    expect_bundle(&mount);
    lev_mount_deinit(&mount);
}

static void
remove_volume(void)
{
    char path[80];

    snprintf(path, sizeof(path), "/volumes/levrt-runtime-%s", base);
    assert(raw("DELETE", path) == 204);
}

/* Several processes fill the same volume; each finds it whole. */
static void
test_volume(void)
{
    struct lev_engine *far = open_far();
    pid_t children[FILLERS];
    char path[80];
    int status;

    for (int i = 0; i < FILLERS; i++) {
        children[i] = fork();
        assert(children[i] >= 0);
        if (children[i] == 0) {
            engine = open_far(); /* a fork does not share connections */
            fill(engine);
            _exit(0);
        }
    }
    for (int i = 0; i < FILLERS; i++) {
        assert(waitpid(children[i], &status, 0) == children[i]);
        assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    fill(far);
    snprintf(path, sizeof(path), "/containers/levrt-fill-%s/json", base);
    assert(raw("GET", path) == 404);
    lev_engine_unref(far);
    remove_volume();
}

static void
remove_later(void *arg)
{
    struct lev_error err;

    assert(lev_scope_sleep(&forever, 300 * LEV_MS, &err) == 0);
    MUST(ops->remove(engine, &forever, arg, &err));
}

/* Somebody else fills it: wait, as long as the scope allows. */
static void
test_volume_busy(void)
{
    char name[60], path[120];
    struct lev_container_spec spec = sh_spec("");
    struct lev_scope brief;
    struct lev_engine *far = open_far();
    struct lev_mount mount;
    struct lev_error err;
    bool local;

    snprintf(name, sizeof(name), "levrt-fill-%s", base);
    spec.name = name;
    _cleanup_free_ char *id = create(&spec);
    brief = lev_scope_within(&forever, 2 * LEV_SECOND);
    assert(ops->runtime_mount(far, &brief, bundle, TEST_IMAGE, test_labels,
                              &mount, &local, &err) == -1);
    expect_error(&err, LEV_E_TIMEOUT, name);
    snprintf(path, sizeof(path), "/containers/%s/json", id);
    assert(raw("GET", path) == 200);
    MUST(lev_thread_start("remove", remove_later, id, &err));
    fill(far);
    assert(raw("GET", path) == 404);
    lev_engine_unref(far);
    remove_volume();
}

int
main(void)
{
    char command[100];

    fixture_start();
    test_put();
    test_commit();
    test_images();
    make_bundle();
    test_local();
    test_volume();
    test_volume_busy();
    snprintf(command, sizeof(command), "rm -r %s", bundle);
    assert(system(command) == 0);
    fixture_end();
    return 0;
}
