#include "oci_fixture.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>

#include "tar.h"
#include "tree.h"

#define IMAGE "levrt-test/busybox:1"

static atomic_uint serial;

struct lev_scope
oci_soon(void)
{
    return (struct lev_scope){lev_now() + 60 * LEV_SECOND, NULL};
}

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static const char *
find_busybox(void)
{
    static const char *const places[] = {"/bin/busybox", "/usr/bin/busybox"};

    for (size_t i = 0; i < LEV_ARRAY_LEN(places); i++) {
        if (access(places[i], X_OK) == 0) {
            return places[i];
        }
    }
    return NULL;
}

static void
add_text(struct lev_tar *tar, const char *path, const char *text)
{
    const struct lev_tar_meta meta = {.mode = 0644};
    struct lev_error err;

    must(lev_tar_add_bytes(tar, path, text, strlen(text), &meta, &err), &err);
}

/* A root with a static busybox under the names of its applets. */
static void
import_busybox(struct oci_fixture *f, const char *busybox)
{
    static const char *const applets[] = {
        "sh",       "true",     "cat",   "echo",  "sleep", "id",     "mount",
        "ls",       "kill",     "grep",  "mknod", "wget",  "nc",     "ping",
        "ip",       "hostname", "chmod", "dd",    "stat",  "touch",  "tail",
        "env",      "httpd",    "rm",    "mkdir", "head",  "sysctl", "ulimit",
        "readlink", "printf",   "wc"};
    struct lev_scope scope = oci_soon();
    _cleanup_tar_ struct lev_tar *tar = NULL;
    char dir[64] = "/tmp/levrt-busybox-XXXXXX", path[128], id[72];
    struct lev_error err;
    uint64_t size;
    int fd;

    assert(mkdtemp(dir) != NULL && chmod(dir, 0755) == 0);
    for (size_t i = 0; i < LEV_ARRAY_LEN(applets); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, applets[i]);
        assert(symlink("busybox", path) == 0);
    }
    tar = lev_tar_create(&err);
    must(lev_tar_add_path(tar, &scope, "/bin/busybox", busybox, 0, 0, &err),
         &err);
    must(lev_tar_add_path(tar, &scope, "/bin", dir, 0, 0, &err), &err);
    add_text(tar, "/etc/passwd",
             "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1001:me:/home/me:/bin/"
             "sh\n");
    add_text(tar, "/etc/group", "root:x:0:\nmine:x:1001:\nmore:x:1002:me\n");
    must(lev_tar_finish(tar, &fd, &size, &err), &err);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    must(lev_imagestore_import(lev_oci_of(f->e)->images, &scope, fd, IMAGE, id,
                               &err),
         &err);
    close(fd);
    must(lev_tree_remove(-1, dir, &err), &err);
}

void
oci_fixture_open(struct oci_fixture *f)
{
    const struct lev_engine_config config = {.bin_dir =
                                                 getenv("LEVRT_TEST_BIN")};
    const char *busybox = find_busybox();
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    char url[80];

    if (geteuid() != 0 || busybox == NULL || config.bin_dir == NULL) {
        fprintf(stderr, "skipped: needs root, busybox-static and "
                        "LEVRT_TEST_BIN\n");
        exit(77);
    }
    snprintf(f->dir, sizeof(f->dir), "/var/tmp/levrt-oci-XXXXXX");
    assert(mkdtemp(f->dir) != NULL);
    snprintf(url, sizeof(url), "oci:%s", f->dir);
    f->e = lev_oci_open(url, &config, &scope, &err);
    if (f->e == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        exit(strstr(err.msg, "no OCI runtime") != NULL ? 77 : 1);
    }
    import_busybox(f, busybox);
}

void
oci_fixture_close(struct oci_fixture *f)
{
    struct lev_error err;

    lev_engine_unref(f->e);
    must(lev_tree_remove(-1, f->dir, &err), &err);
}

static void
on_output(struct lev_output *out, int stream, const char *data, size_t len)
{
    struct oci_result *r = lev_container_of(out, struct oci_result, out);

    lev_buf_append(&r->text[stream - 1], data, len);
}

char *
oci_make(struct oci_fixture *f, const char *const *cmd, const char *options,
         void (*change)(struct lev_container_spec *spec))
{
    struct lev_scope scope = oci_soon();
    bson_t *parsed = NULL;
    struct lev_error err;
    bson_error_t why;
    char name[32], *id;
    struct lev_container_spec spec = {
        .name = name, .image = IMAGE, .cmd = cmd};

    if (options != NULL) {
        parsed = bson_new_from_json((const uint8_t *)options, -1, &why);
        assert(parsed != NULL);
        spec.options = parsed;
    }
    snprintf(name, sizeof(name), "test-%d-%u", (int)getpid(), ++serial);
    if (change != NULL) {
        change(&spec);
    }
    must(f->e->ops->create(f->e, &scope, &spec, &id, &err), &err);
    bson_destroy(parsed);
    return id;
}

void
oci_go(struct oci_fixture *f, const char *id, struct oci_result *r)
{
    const struct lev_engine_ops *ops = f->e->ops;
    struct lev_scope scope = oci_soon();
    struct lev_process *p;
    struct lev_error err;
    int rc;

    *r = (struct oci_result){.out.data = on_output};
    p = ops->attach(f->e, &scope, id, &r->out, &err);
    must(p == NULL ? -1 : ops->start(p, &scope, &err), &err);
    do {
        rc = ops->poll(p, &scope, NULL, 0, &r->code, &err);
        must(rc, &err);
    } while (rc == 0);
    ops->detach(p);
    must(ops->inspect(f->e, &scope, id, &r->state, &err), &err);
}

void
oci_run(struct oci_fixture *f, const char *const *cmd, const char *options,
        struct oci_result *r)
{
    struct lev_scope scope = oci_soon();
    char *id = oci_make(f, cmd, options, NULL);
    struct lev_error err;

    oci_go(f, id, r);
    must(f->e->ops->remove(f->e, &scope, id, &err), &err);
    free(id);
}

void
oci_result_deinit(struct oci_result *r)
{
    lev_buf_deinit(&r->text[0]);
    lev_buf_deinit(&r->text[1]);
}
