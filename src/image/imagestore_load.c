/* imagestore_load.c - images from archives and directories.
 *
 * An archive of images names its parts in any order, so it is unpacked into
 * tmp/ first, by the same reader as layers: it is as little trusted. Then it
 * is a directory like an OCI layout, whose files are opened with it as their
 * root (old archives of docker's have links among them).
 */

#include "imagestore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "imageconfig.h"
#include "json.h"
#include "manifest.h"

#define JSON_MAX (16u * 1024 * 1024)

struct loading {
    struct lev_imagestore *store;
    const struct lev_scope *scope;
    int dir;
    const char *ref;        /* or NULL */
    struct lev_buf *loaded; /* a line each */
    size_t n;
};

/* --- a source that is a descriptor ------------------------------------ */

struct fd_source {
    struct lev_layer_source source;
    const struct lev_scope *scope;
    int fd;
    bool waits; /* it may: a pipe or socket */
};

static ssize_t
fd_read(void *ctx, void *buf, size_t len, struct lev_error *err)
{
    struct fd_source *f = ctx;
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    ssize_t n;

    do {
        if (f->waits && lev_scope_poll(f->scope, &p, 1, err) < 0) {
            return -1;
        }
        n = read(f->fd, buf, len);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    return n >= 0 ? n : lev_error_errno(err, "read the archive");
}

static int
fd_source_init(struct fd_source *f, const struct lev_scope *scope, int fd,
               struct lev_error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return lev_error_errno(err, "archive");
    }
    *f = (struct fd_source){.source = {.read = fd_read, .ctx = f},
                            .scope = scope,
                            .fd = fd,
                            .waits = !S_ISREG(st.st_mode)};
    return 0;
}

/* --- files of the directory ------------------------------------------- */

static int
open_file(const struct loading *l, const char *name, struct lev_error *err)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, l->dir, name, &how, sizeof(how));
    struct stat st;

    if (fd < 0) {
        lev_error_errno(err, "archive of images: %.200s", name);
        err->code = errno == ENOENT || errno == ELOOP || errno == ENOTDIR
                        ? LEV_E_IMAGE
                        : err->code;
        return -1;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "archive of images: %.200s is no file", name);
    }
    return fd;
}

static int
read_whole(const struct loading *l, const char *name, struct lev_buf *out,
           struct lev_error *err)
{
    _cleanup_close_ int fd = open_file(l, name, err);
    ssize_t n = 1;

    while (fd >= 0 && n > 0) {
        char *to = lev_buf_reserve(out, 65536);

        if (to == NULL) {
            return lev_error_nomem(err, name);
        }
        n = read(fd, to, 65536);
        if (n < 0) {
            return lev_error_errno(err, "archive of images: %.200s", name);
        }
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (out->len > JSON_MAX) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "archive of images: %.200s is too long",
                                 name);
        }
    }
    return fd < 0 ? -1 : 0;
}

static json_t *
read_json(const struct loading *l, const char *name, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf text = {0};
    json_t *v;

    if (read_whole(l, name, &text, err) < 0) {
        return NULL;
    }
    v = lev_json_parse(text.data, text.len, name, err);
    if (v == NULL && err->code == LEV_E_ENGINE) {
        err->code = LEV_E_IMAGE;
    }
    return v;
}

static int
read_blob(const struct loading *l, const struct lev_descriptor *d,
          struct lev_buf *out, struct lev_error *err)
{
    char name[96];

    snprintf(name, sizeof(name), "blobs/sha256/%s", d->digest + 7);
    return read_whole(l, name, out, err) < 0
               ? -1
               : lev_digest_check(name, d->digest, out->data, out->len, err);
}

static bool
has_file(const struct loading *l, const char *name)
{
    return faccessat(l->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- images ------------------------------------------------------------ */

static int
add_layer(const struct loading *l, const char *file, const char *digest,
          const char *diff_id, struct lev_image_hold *hold,
          struct lev_error *err)
{
    _cleanup_close_ int fd = -1;
    struct lev_layer_result r;
    struct fd_source f;
    int rc = lev_imagestore_has_layer(l->store, diff_id, hold, err);

    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    fd = open_file(l, file, err);
    if (fd < 0 || fd_source_init(&f, l->scope, fd, err) < 0) {
        return -1;
    }
    return lev_imagestore_add_layer(l->store, l->scope, &f.source, digest,
                                    diff_id, hold, &r, err);
}

static int
report(struct loading *l, const char *ref, const char *id,
       struct lev_error *err)
{
    lev_buf_printf(l->loaded, "%s\n", ref == NULL ? id : ref);
    l->n++;
    return lev_buf_check(l->loaded, "list of images", err);
}

static int
add_named(struct loading *l, const char *ref, const struct lev_buf *config,
          const char *digest, struct lev_error *err)
{
    char id[72];

    if (lev_imagestore_add_image(l->store, l->scope, ref, config->data,
                                 config->len, digest, id, err) < 0)
    {
        return -1;
    }
    return report(l, ref, id, err);
}

static int
diff_ids_of(const struct lev_buf *config, size_t layers, char ***diff_ids,
            struct lev_error *err)
{
    struct lev_stored_image parsed = {.lock = -1};
    int rc = lev_imageconfig_parse(lev_buf_text(config), config->len, &parsed,
                                   diff_ids, err);
    size_t n = 0;

    lev_stored_image_deinit(&parsed);
    while (rc == 0 && (*diff_ids)[n] != NULL) {
        n++;
    }
    if (rc == 0 && n != layers) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "image: its config names %zu layers, its "
                             "manifest %zu",
                             n, layers);
    }
    return rc;
}

/* A name that stands alone is a tag of nobody knows what. */
static const char *
usable_name(const char *name)
{
    return name != NULL && strpbrk(name, "/:") != NULL ? name : NULL;
}

static int
load_manifest(struct loading *l, const struct lev_descriptor *d,
              const char *ref, int depth, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf text = {0}, config = {0};
    _cleanup_manifest_ struct lev_manifest m = {0};
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    _cleanup_strv_ char **diff_ids = NULL;

    if (read_blob(l, d, &text, err) < 0 ||
        lev_manifest_parse(text.data, text.len, NULL, NULL, NULL, &m, err) < 0)
    {
        return -1;
    }
    if (m.is_index) {
        return depth > 2 ? lev_error_set(err, LEV_E_IMAGE, 0,
                                         "image: indexes within indexes")
                         : load_manifest(l, &m.chosen, ref, depth + 1, err);
    }
    if (read_blob(l, &m.config, &config, err) < 0 ||
        diff_ids_of(&config, m.n, &diff_ids, err) < 0)
    {
        return -1;
    }
    for (size_t i = 0; i < m.n; i++) {
        char name[96];

        snprintf(name, sizeof(name), "blobs/sha256/%s",
                 m.layers[i].digest + 7);
        if (add_layer(l, name, m.layers[i].digest, diff_ids[i], &hold, err) <
            0) {
            return -1;
        }
    }
    return add_named(l, ref, &config, d->digest, err);
}

static int
load_oci(struct loading *l, struct lev_error *err)
{
    _cleanup_json_ json_t *root = read_json(l, "index.json", err);
    const json_t *list = lev_json_get(root, "manifests"), *one;
    size_t i;

    if (root == NULL) {
        return -1;
    }
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "OCI layout: its index.json lists no images");
    }
    if (l->ref != NULL && json_array_size(list) > 1) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "OCI layout: it has %zu images; '%.200s' can be "
                             "the name of one only",
                             json_array_size(list), l->ref);
    }
    json_array_foreach((json_t *)(uintptr_t)list, i, one)
    {
        const json_t *notes = lev_json_get(one, "annotations");
        const char *name = json_string_value(
            json_object_get(notes, "io.containerd.image.name"));
        const char *digest = lev_json_str(one, "digest");
        struct lev_descriptor d = {.size = -1};

        if (name == NULL) {
            name = json_string_value(
                json_object_get(notes, "org.opencontainers.image.ref.name"));
        }
        if (!lev_is_sha256(digest)) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "OCI layout: an image without a SHA-256 "
                                 "digest");
        }
        strcpy(d.digest, digest);
        if (load_manifest(l, &d, l->ref != NULL ? l->ref : usable_name(name),
                          0, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
load_saved(struct loading *l, const json_t *one, struct lev_error *err)
{
    const json_t *layers = lev_json_get(one, "Layers"), *tag;
    const json_t *tags = lev_json_get(one, "RepoTags");
    const char *file = lev_json_str(one, "Config");
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    _cleanup_buf_ struct lev_buf config = {0};
    _cleanup_strv_ char **diff_ids = NULL;
    size_t i;

    if (file == NULL || !json_is_array(layers)) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "archive of images: its manifest.json names no "
                             "config or no layers");
    }
    if (read_whole(l, file, &config, err) < 0 ||
        diff_ids_of(&config, json_array_size(layers), &diff_ids, err) < 0)
    {
        return -1;
    }
    for (i = 0; diff_ids[i] != NULL; i++) {
        const char *name = json_string_value(json_array_get(layers, i));

        if (name == NULL) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "archive of images: a layer without a name");
        }
        if (add_layer(l, name, NULL, diff_ids[i], &hold, err) < 0) {
            return -1;
        }
    }
    if (l->ref != NULL || json_array_size(tags) == 0) {
        return add_named(l, l->ref, &config, NULL, err);
    }
    json_array_foreach((json_t *)(uintptr_t)tags, i, tag)
    {
        if (add_named(l, json_string_value(tag), &config, NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
load_docker(struct loading *l, struct lev_error *err)
{
    _cleanup_json_ json_t *root = read_json(l, "manifest.json", err);
    const json_t *one;
    size_t i;

    if (root == NULL) {
        return -1;
    }
    if (!json_is_array(root) || json_array_size(root) == 0) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "archive of images: its manifest.json lists "
                             "none");
    }
    if (l->ref != NULL && json_array_size(root) > 1) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "archive of images: it has %zu; '%.200s' can be "
                             "the name of one only",
                             json_array_size(root), l->ref);
    }
    json_array_foreach(root, i, one)
    {
        if (load_saved(l, one, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
load_dir(struct loading *l, const char *what, struct lev_error *err)
{
    if (has_file(l, "manifest.json")) {
        return load_docker(l, err);
    }
    if (has_file(l, "index.json")) {
        return load_oci(l, err);
    }
    return lev_error_set(err, LEV_E_IMAGE, 0,
                         "%s has neither a manifest.json nor an index.json: "
                         "it holds no images; a root file system is "
                         "imported, not loaded",
                         what);
}

int
lev_imagestore_load(struct lev_imagestore *s, const struct lev_scope *scope,
                    int fd, const char *ref, struct lev_buf *loaded,
                    struct lev_error *err)
{
    _cleanup_temporary_ struct lev_temporary t = {.fd = -1};
    struct lev_layer_options options = {
        .max_bytes = s->options.max_bytes,
        .max_entries = s->options.max_entries,
        .squash_owners = true,
        .user_xattrs = true,
    };
    struct lev_layer_result r;
    struct fd_source f;

    if (fd_source_init(&f, scope, fd, err) < 0 ||
        lev_temporary_make(s, &t, err) < 0)
    {
        return -1;
    }
    if (lev_layer_unpack(scope, &f.source, t.fd, &options, &r, err) < 0) {
        return lev_error_wrap(err, "archive of images");
    }
    return load_dir(&(struct loading){.store = s,
                                      .scope = scope,
                                      .dir = t.fd,
                                      .ref = ref,
                                      .loaded = loaded},
                    "the archive", err);
}

int
lev_imagestore_load_layout(struct lev_imagestore *s,
                           const struct lev_scope *scope, const char *dir,
                           const char *ref, struct lev_buf *loaded,
                           struct lev_error *err)
{
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return lev_error_errno(err, "OCI layout %s", dir);
    }
    return load_dir(&(struct loading){.store = s,
                                      .scope = scope,
                                      .dir = fd,
                                      .ref = ref,
                                      .loaded = loaded},
                    dir, err);
}

int
lev_imagestore_import(struct lev_imagestore *s, const struct lev_scope *scope,
                      int fd, const char *ref, char id[72],
                      struct lev_error *err)
{
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    _cleanup_buf_ struct lev_buf config = {0};
    struct lev_layer_result r;
    struct fd_source f;

    if (fd_source_init(&f, scope, fd, err) < 0 ||
        lev_imagestore_add_layer(s, scope, &f.source, NULL, NULL, &hold, &r,
                                 err) < 0)
    {
        return -1;
    }
    lev_buf_printf(&config,
                   "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{},"
                   "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]},"
                   "\"history\":[{\"comment\":\"imported\"}]}",
                   lev_arch_here(), r.diff_id);
    return lev_buf_check(&config, "config", err) < 0
               ? -1
               : lev_imagestore_add_image(s, scope, ref, config.data,
                                          config.len, NULL, id, err);
}
