#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "docker.h"
#include "imageref.h"
#include "registry.h"

#define EMPTY_REF "levrt/empty:1"

int
lev_oci_image_get(struct lev_oci *o, const struct lev_scope *scope,
                  const char *ref, struct lev_stored_image *image,
                  struct lev_error *err)
{
    return lev_imagestore_get(o->images, scope, lev_imageref_plain(ref), image,
                              err);
}

/* What an image does not tell is NULL to the engine's users. */
static char *
told(char **text)
{
    if (*text != NULL && **text == '\0') {
        free(lev_steal(*text));
    }
    return lev_steal(*text);
}

/* As an engine tells it: the repository as users call it, and the digest. An
 * image that is named by its id has no repository here. */
static char *
repo_digest(const char *text, const char *digest)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};
    struct lev_error err;
    const char *name;
    char *out = NULL;

    if (lev_imageref_parse(text, NULL, &ref, &err) < 0 || ref.is_id) {
        return strdup(digest);
    }
    name = ref.repository;
    if (strcmp(ref.registry, "docker.io") != 0) {
        return asprintf(&out, "%s/%s@%s", ref.registry, name, digest) < 0
                   ? NULL
                   : out;
    }
    if (strncmp(name, "library/", 8) == 0) {
        name += 8;
    }
    return asprintf(&out, "%s@%s", name, digest) < 0 ? NULL : out;
}

int
lev_oci_image_inspect(struct lev_engine *e, const struct lev_scope *scope,
                      const char *ref, struct lev_image *image,
                      struct lev_error *err)
{
    struct lev_stored_image s;

    if (lev_oci_image_get(lev_oci_of(e), scope, ref, &s, err) < 0) {
        return -1;
    }
    *image = (struct lev_image){.id = strdup(s.id)};
    if (s.digest != NULL) {
        image->digest = repo_digest(ref, s.digest);
    }
    image->arch = told(&s.arch);
    image->user = lev_steal(s.user);
    image->working_dir = lev_steal(s.working_dir);
    image->stop_signal = told(&s.stop_signal);
    image->entrypoint = lev_steal(s.entrypoint);
    image->cmd = lev_steal(s.cmd);
    image->env = lev_steal(s.env);
    lev_stored_image_deinit(&s);
    return image->id == NULL ? lev_error_nomem(err, "image") : 0;
}

/* ---- of a Docker on this machine ---- */

static struct lev_engine *
open_docker(struct lev_oci *o, const struct lev_scope *scope,
            struct lev_error *err)
{
    struct lev_discover from = o->docker; /* as if LEVRT_ENGINE were not */
    struct lev_engine *e;

    from.lev_engine = NULL;
    e = lev_discover_open(&from, o->base.log, scope, err);
    if (e == NULL || e->ops == &lev_engine_docker) {
        return e;
    }
    lev_engine_unref(e);
    lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                  "no Docker answers on this machine: start it, or name it "
                  "with DOCKER_HOST");
    return NULL;
}

static int
load_saved(struct lev_oci *o, const struct lev_scope *scope, int fd,
           const char *ref, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf loaded = {0};

    if (lseek(fd, 0, SEEK_SET) < 0) {
        return lev_error_errno(err, "archive of an image");
    }
    return lev_imagestore_load(o->images, scope, fd, ref, &loaded, err);
}

static int
pull_of_daemon(struct lev_oci *o, const struct lev_scope *scope,
               const char *ref, int64_t stall, lev_pull_progress *progress,
               void *ctx, struct lev_error *err)
{
    const char *plain = lev_imageref_plain(ref);
    _cleanup_close_ int fd =
        open(o->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct lev_engine *docker;
    int rc;

    if (fd < 0) {
        return lev_error_errno(err, "%s", o->dir);
    }
    docker = open_docker(o, scope, err);
    rc = docker == NULL ? -1
                        : lev_docker_image_save(docker, scope, plain, fd,
                                                stall, progress, ctx, err);
    lev_engine_unref(docker);
    return rc < 0 || load_saved(o, scope, fd, plain, err) < 0
               ? lev_error_wrap(err, "pull %.200s", ref)
               : 0;
}

int
lev_oci_image_pull(struct lev_engine *e, const struct lev_scope *scope,
                   const char *ref, int64_t stall, lev_pull_progress *progress,
                   void *ctx, struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    const struct lev_registry_config config = {
        .docker_config = o->docker_config,
        .mirrors = (const char *const *)o->mirrors,
        .stall = stall};
    _cleanup_imageref_ struct lev_imageref r = {0};
    char id[72];

    if (lev_imageref_parse(ref, NULL, &r, err) < 0) {
        return -1;
    }
    if (r.of_daemon) {
        return pull_of_daemon(o, scope, ref, stall, progress, ctx, err);
    }
    if (lev_registry_pull(&config, o->images, scope, &r, progress, ctx, id,
                          err) < 0)
    {
        if (err->code == LEV_E_IMAGE) {
            err->code = LEV_E_PULL; /* it is the pull that fails by it */
        }
        return -1;
    }
    return 0;
}

const char *
lev_oci_image_empty(struct lev_engine *e, const struct lev_scope *scope,
                    struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    struct lev_stored_image image;
    _cleanup_json_ json_t *config = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    char id[72];

    if (lev_oci_image_get(o, scope, EMPTY_REF, &image, err) == 0) {
        lev_stored_image_deinit(&image);
        return EMPTY_REF;
    }
    if (err->code != LEV_E_IMAGE_NOT_FOUND) {
        return NULL;
    }
    config =
        json_pack("{s:s, s:s, s:{}, s:{s:s, s:[]}}", "architecture", "", "os",
                  "linux", "config", "rootfs", "type", "layers", "diff_ids");
    if (config == NULL || lev_json_dump(config, &text, err) < 0 ||
        lev_imagestore_add_image(o->images, scope, EMPTY_REF, text.data,
                                 text.len, NULL, id, err) < 0)
    {
        return NULL;
    }
    return EMPTY_REF;
}

int
lev_oci_image_remove(struct lev_engine *e, const struct lev_scope *scope,
                     const char *ref, struct lev_error *err)
{
    return lev_imagestore_remove(lev_oci_of(e)->images, scope,
                                 lev_imageref_plain(ref), err);
}

/* "K=V", or "K" for any value. */
static bool
carries(char *const *labels, const char *label)
{
    const char *equals = strchr(label, '=');
    size_t len = equals == NULL ? strlen(label) : (size_t)(equals - label);

    for (; labels != NULL && *labels != NULL; labels++) {
        if (strncmp(*labels, label, len) == 0 && (*labels)[len] == '=') {
            return equals == NULL ||
                   strcmp(*labels + len + 1, equals + 1) == 0;
        }
    }
    return false;
}

/* 1 and a new entry when the image carries the label, 0 when it does not or
 * has gone meanwhile. */
static int
list_image(struct lev_oci *o, const struct lev_scope *scope, const char *id,
           const char *label, struct lev_listed **item, struct lev_error *err)
{
    struct lev_stored_image image;

    if (lev_oci_image_get(o, scope, id, &image, err) < 0) {
        return err->code == LEV_E_IMAGE_NOT_FOUND ? 0 : -1;
    }
    *item = NULL;
    if (carries(image.labels, label)) {
        *item = calloc(1, sizeof(**item));
    }
    if (*item != NULL) {
        (*item)->labels = lev_steal(image.labels);
        (*item)->id = strdup(id);
        (*item)->name = strdup("");
    }
    lev_stored_image_deinit(&image);
    if (*item != NULL && ((*item)->id == NULL || (*item)->name == NULL)) {
        lev_listed_free(*item);
        return lev_error_nomem(err, "listing");
    }
    return *item != NULL;
}

int
lev_oci_image_list(struct lev_engine *e, const struct lev_scope *scope,
                   const char *label, struct lev_listed **list,
                   struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    _cleanup_buf_ struct lev_buf text = {0};
    _cleanup_json_ json_t *all = NULL;
    struct lev_listed *found = NULL, **end = &found;
    json_t *row;
    size_t i;

    if (lev_imagestore_list(o->images, scope, &text, err) < 0 ||
        (all = lev_json_parse(text.data, text.len, "the store's images",
                              err)) == NULL)
    {
        return -1;
    }
    json_array_foreach(all, i, row)
    {
        const char *id = lev_json_str(row, "Id");
        int rc = id == NULL ? 0 : list_image(o, scope, id, label, end, err);

        if (rc < 0) {
            *end = NULL;
            lev_listed_free(found);
            return -1;
        }
        end = rc > 0 ? &(*end)->next : end;
    }
    *end = NULL;
    *list = found;
    return 0;
}

int
lev_oci_runtime_mount(struct lev_engine *e, const struct lev_scope *scope,
                      const char *dir, const char *image,
                      const char *const *labels, struct lev_mount *mount,
                      bool *local, struct lev_error *err)
{
    *mount = (struct lev_mount){.type = LEV_MOUNT_BIND,
                                .source = strdup(dir),
                                .target = strdup("/lev"),
                                .read_only = true};
    *local = true;
    if (mount->source == NULL || mount->target == NULL) {
        lev_mount_deinit(mount);
        return lev_error_nomem(err, "runtime bundle");
    }
    return 0;
}

/* ---- an image of a container ---- */

static ssize_t
read_fd(void *ctx, void *buf, size_t len, struct lev_error *err)
{
    ssize_t n = read(*(const int *)ctx, buf, len);

    return n < 0 ? lev_error_errno(err, "read a layer") : n;
}

static int
pack_upper(struct lev_oci *o, const struct lev_scope *scope,
           const struct lev_oci_container *c, struct lev_image_hold *hold,
           struct lev_layer_result *result, struct lev_error *err)
{
    _cleanup_close_ int upper = -1, file = -1;
    const struct lev_layer_source source = {read_fd, &file};
    char path[LEV_OCI_PATH_MAX];

    snprintf(path, sizeof(path), "%s/upper", c->dir);
    upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file = upper < 0 ? -1 : open(o->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0) {
        return lev_error_errno(err, "open %s", upper < 0 ? path : o->dir);
    }
    if (lev_layer_pack(scope, upper, file, result, err) < 0) {
        return -1;
    }
    if (lseek(file, 0, SEEK_SET) < 0) {
        return lev_error_errno(err, "layer");
    }
    return lev_imagestore_add_layer(o->images, scope, &source, NULL, NULL,
                                    hold, result, err);
}

/* The image's configuration with one layer and these labels more. */
static json_t *
extend_config(const struct lev_stored_image *image, const char *diff_id,
              const char *const *labels, struct lev_error *err)
{
    json_t *config = lev_json_parse(image->config, strlen(image->config),
                                    "the image's configuration", err);
    json_t *layers = lev_json_get(config, "rootfs.diff_ids");
    json_t *inner = json_object_get(config, "config"), *all;

    if (config == NULL) {
        return NULL;
    }
    if (!json_is_object(inner)) {
        inner = json_object();
        json_object_set_new(config, "config", inner);
    }
    all = json_object_get(inner, "Labels");
    if (!json_is_object(all)) {
        all = json_object();
        json_object_set_new(inner, "Labels", all);
    }
    for (; labels != NULL && *labels != NULL; labels++) {
        size_t len = strcspn(*labels, "=");
        char key[256];

        snprintf(key, sizeof(key), "%.*s", (int)len, *labels);
        json_object_set_new(
            all, key,
            json_string((*labels)[len] == '=' ? *labels + len + 1 : ""));
    }
    if (json_array_append_new(layers, json_string(diff_id)) < 0) {
        json_decref(config);
        lev_error_nomem(err, "image");
        return NULL;
    }
    json_object_del(config, "history"); /* it would be one short */
    return config;
}

char *
lev_oci_commit(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, const char *const *labels,
               struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(o, id, err);
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    _cleanup_json_ json_t *config = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    struct lev_layer_result layer;
    char image[72], *copy;

    if (c == NULL || pack_upper(o, scope, c, &hold, &layer, err) < 0 ||
        (config = extend_config(&c->image, layer.diff_id, labels, err)) ==
            NULL ||
        lev_json_dump(config, &text, err) < 0 ||
        lev_imagestore_add_image(o->images, scope, NULL, text.data, text.len,
                                 NULL, image, err) < 0)
    {
        lev_error_wrap(err, "commit container %s", id);
        return NULL;
    }
    copy = strdup(image);
    if (copy == NULL) {
        lev_error_nomem(err, "image");
    }
    return copy;
}
