#include "imagestore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <jansson.h>

#include "imageconfig.h"
#include "imageref.h"
#include "json.h"
#include "sha256.h"

#define CONFIG_MAX (8u * 1024 * 1024)
#define SQL_WAIT (60 * LEV_SECOND)

/* --- opening --------------------------------------------------------- */

static int
make_dirs(char *path, struct lev_error *err)
{
    for (char *p = path + 1;; p++) {
        if (*p == '/' || *p == '\0') {
            char was = *p;

            *p = '\0';
            /* 0711: an image's user must reach its files from below. */
            if (mkdir(path, 0711) < 0 && errno != EEXIST) {
                return lev_error_errno(err, "image store: make %s", path);
            }
            *p = was;
            if (was == '\0') {
                return 0;
            }
        }
    }
}

static char *
default_dir(struct lev_error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *dir = NULL;
    int rc;

    if (geteuid() == 0) {
        rc = asprintf(&dir, "/var/lib/levrt/oci");
    }
    else if (data != NULL && data[0] == '/') {
        rc = asprintf(&dir, "%s/levrt/oci", data);
    }
    else if (home != NULL && home[0] == '/') {
        rc = asprintf(&dir, "%s/.local/share/levrt/oci", home);
    }
    else {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "image store: neither XDG_DATA_HOME nor HOME says where "
                      "it is; set one of them");
        return NULL;
    }
    if (rc < 0) {
        lev_error_nomem(err, "image store");
        return NULL;
    }
    return dir;
}

static int
open_sub(struct lev_imagestore *s, const char *name, struct lev_error *err)
{
    int fd;

    if (mkdirat(s->at, name, strcmp(name, "layers") == 0 ? 0711 : 0700) < 0 &&
        errno != EEXIST)
    {
        return lev_error_errno(err, "image store: make %s/%s", s->dir, name);
    }
    fd = openat(s->at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd
                   : lev_error_errno(err, "image store: %s/%s", s->dir, name);
}

static int
open_all(struct lev_imagestore *s, struct lev_error *err)
{
    _cleanup_free_ char *db = NULL;

    if (make_dirs(s->dir, err) < 0) {
        return -1;
    }
    s->at = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->at < 0) {
        return lev_error_errno(err, "image store: %s", s->dir);
    }
    if ((s->layers = open_sub(s, "layers", err)) < 0 ||
        (s->tmp = open_sub(s, "tmp", err)) < 0 ||
        (s->locks = open_sub(s, "locks", err)) < 0 ||
        (s->blobs = open_sub(s, "blobs", err)) < 0)
    {
        return -1;
    }
    close(s->blobs);
    if ((s->blobs = open_sub(s, "blobs/sha256", err)) < 0) {
        return -1;
    }
    if (asprintf(&db, "%s/names.db", s->dir) < 0) {
        db = NULL;
        return lev_error_nomem(err, "image store");
    }
    return lev_names_open(&s->names, db, err) < 0
               ? -1
               : lev_imagestore_sweep(s, err);
}

struct lev_imagestore *
lev_imagestore_open(const char *dir, const struct lev_layer_options *layers,
                    struct lev_error *err)
{
    _cleanup_imagestore_ struct lev_imagestore *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        lev_error_nomem(err, "image store");
        return NULL;
    }
    s->at = s->layers = s->blobs = s->tmp = s->locks = -1;
    lev_gate_init(&s->gate);
    if (layers != NULL) {
        s->options = *layers;
    }
    if (dir != NULL && dir[0] != '/') {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "image store: '%.200s' is no absolute path", dir);
        return NULL;
    }
    s->dir = dir == NULL ? default_dir(err) : strdup(dir);
    if (s->dir == NULL) {
        if (dir != NULL) {
            lev_error_nomem(err, "image store");
        }
        return NULL;
    }
    return open_all(s, err) < 0 ? NULL : lev_steal(s);
}

void
lev_imagestore_close(struct lev_imagestore *s)
{
    if (s == NULL) {
        return;
    }
    lev_names_close(&s->names);
    lev_gate_deinit(&s->gate);
    lev_closep(&s->at);
    lev_closep(&s->layers);
    lev_closep(&s->blobs);
    lev_closep(&s->tmp);
    lev_closep(&s->locks);
    free(s->dir);
    free(s);
}

/* --- names ----------------------------------------------------------- */

int
lev_imagestore_enter(struct lev_imagestore *s, const struct lev_scope *scope,
                     struct lev_error *err)
{
    if (lev_gate_enter(&s->gate, scope, err) < 0) {
        return -1;
    }
    s->names.scope = lev_scope_within(scope, SQL_WAIT);
    return 0;
}

void
lev_imagestore_leave(struct lev_imagestore **s)
{
    if (*s != NULL) {
        lev_names_end(&(*s)->names);
        lev_gate_leave(&(*s)->gate);
    }
}

int
lev_imagestore_missing(struct lev_error *err, const char *ref)
{
    return lev_error_set(err, LEV_E_IMAGE_NOT_FOUND, 0,
                         "image '%.200s' is not on this machine; pull it, or "
                         "load it",
                         ref);
}

static int
name_of(const struct lev_imageref *ref, struct lev_buf *name,
        struct lev_error *err)
{
    lev_buf_clear(name);
    lev_buf_printf(name, "%s/%s", ref->registry, ref->repository);
    if (ref->digest != NULL) {
        lev_buf_printf(name, "@%s", ref->digest);
    }
    else {
        lev_buf_printf(name, ":%s", ref->tag == NULL ? "latest" : ref->tag);
    }
    return lev_buf_check(name, "image's name", err);
}

int
lev_imagestore_name(const char *ref, struct lev_buf *name,
                    struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref r;

    if (lev_imageref_parse(ref, NULL, &r, err) < 0) {
        return -1;
    }
    if (r.registry == NULL) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "image '%.200s': an id cannot be a name", ref);
    }
    return name_of(&r, name, err);
}

int
lev_imagestore_find(struct lev_imagestore *s, const char *ref, char id[72],
                    struct lev_buf *name, bool *by_name, struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref r = {0};
    char prefix[80];
    int rc = 0;

    *by_name = false;
    if (lev_imageref_parse(ref, NULL, &r, err) < 0) {
        return -1;
    }
    if (r.registry != NULL) {
        if (name_of(&r, name, err) < 0) {
            return -1;
        }
        rc = lev_names_find(&s->names, name->data, id, err);
        *by_name = rc == 1;
    }
    /* Content is the same wherever it came from. */
    if (rc == 0 && r.digest != NULL) {
        rc = lev_names_find_digest(&s->names, r.digest, id, err);
    }
    if (rc != 0 || !r.is_id) {
        return rc;
    }
    snprintf(prefix, sizeof(prefix), "%s%s",
             strncmp(ref, "sha256:", 7) == 0 ? "" : "sha256:", ref);
    return lev_names_find_id(&s->names, prefix, id, err);
}

int
lev_imagestore_tag(struct lev_imagestore *s, const struct lev_scope *scope,
                   const char *id, const char *ref, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0}, old = {0};
    _cleanup_store_ struct lev_imagestore *in = NULL;
    char found[72];
    bool by_name;
    int rc;

    if (lev_imagestore_name(ref, &name, err) < 0 ||
        lev_imagestore_enter(s, scope, err) < 0)
    {
        return -1;
    }
    in = s;
    if (lev_names_begin(&s->names, err) < 0) {
        return -1;
    }
    rc = lev_imagestore_find(s, id, found, &old, &by_name, err);
    if (rc <= 0) {
        return rc < 0 ? -1 : lev_imagestore_missing(err, id);
    }
    return lev_names_set(&s->names, name.data, found, err) < 0
               ? -1
               : lev_names_commit(&s->names, err);
}

/* --- reading images -------------------------------------------------- */

void
lev_stored_image_deinit(struct lev_stored_image *image)
{
    char **lists[] = {image->entrypoint, image->cmd,     image->env,
                      image->labels,     image->volumes, image->exposed,
                      image->layers};

    for (size_t i = 0; i < LEV_ARRAY_LEN(lists); i++) {
        lev_strv_free(lists[i]);
    }
    free(image->digest);
    free(image->os);
    free(image->arch);
    free(image->user);
    free(image->working_dir);
    free(image->stop_signal);
    free(image->config);
    lev_closep(&image->lock);
    *image = (struct lev_stored_image){.lock = -1};
}

/* Of the highest layer that says how its root is. */
static int
take_root(struct lev_imagestore *s, const char *diff_id,
          const struct lev_layer_result *info, struct lev_stored_image *image,
          bool *known, struct lev_error *err)
{
    struct stat st;
    char path[96];

    if (*known || !info->has_root) {
        return 0;
    }
    snprintf(path, sizeof(path), "%s/diff", diff_id + 7);
    if (fstatat(s->layers, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return lev_error_errno(err, "image store: layer %s", diff_id);
    }
    image->root_mode = st.st_mode & 07777;
    image->root_uid = st.st_uid;
    image->root_gid = st.st_gid;
    *known = true;
    return 0;
}

static int
take_layers(struct lev_imagestore *s, char **diff_ids,
            struct lev_stored_image *image, struct lev_error *err)
{
    size_t n = 0, first = 0, out = 0;
    bool known = false;

    while (diff_ids[n] != NULL) {
        n++;
    }
    image->layers = calloc(n + 1, sizeof(char *));
    if (image->layers == NULL) {
        return lev_error_nomem(err, "image");
    }
    image->root_mode = 0755;
    for (size_t i = n; i > first; i--) {
        struct lev_layer_result info;
        int rc = lev_imagestore_layer_info(s, diff_ids[i - 1], &info, err);

        if (rc == 0) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "image %s: its layer %s is missing in %s; "
                                 "pull it again",
                                 image->id, diff_ids[i - 1], s->dir);
        }
        if (rc < 0 ||
            take_root(s, diff_ids[i - 1], &info, image, &known, err) < 0) {
            return -1;
        }
        first = info.root_opaque ? i - 1 : first;
    }
    for (size_t i = first; i < n; i++) {
        if (asprintf(&image->layers[out], "%s/layers/%s/diff", s->dir,
                     diff_ids[i] + 7) < 0)
        {
            image->layers[out] = NULL;
            return lev_error_nomem(err, "image");
        }
        out++;
    }
    return 0;
}

/* A lock on its config; 0 when it went meanwhile. */
static int
hold_image(struct lev_imagestore *s, struct lev_stored_image *image,
           struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(s->blobs, image->id + 7, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        return errno == ENOENT
                   ? 0
                   : lev_error_errno(err, "image store: %s", image->id);
    }
    if (flock(fd, LOCK_SH | LOCK_NB) < 0 || fstat(fd, &st) < 0 ||
        st.st_nlink == 0) {
        return 0;
    }
    image->lock = lev_steal_fd(&fd);
    return 1;
}

static int
load_config(struct lev_imagestore *s, struct lev_stored_image *image,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf json = {0};
    _cleanup_strv_ char **diff_ids = NULL;

    if (lev_read_file_at(s->blobs, image->id + 7, CONFIG_MAX, &json, err) < 0)
    {
        return lev_error_wrap(err, "image %s", image->id);
    }
    return lev_imageconfig_parse(json.data, json.len, image, &diff_ids, err) <
                       0 ||
                   take_layers(s, diff_ids, image, err) < 0
               ? -1
               : 0;
}

static int
get(struct lev_imagestore *s, const struct lev_scope *scope, const char *ref,
    struct lev_stored_image *image, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0}, digest = {0};
    _cleanup_store_ struct lev_imagestore *in = NULL;
    int64_t created;
    bool by_name;
    int rc;

    if (lev_imagestore_enter(s, scope, err) < 0) {
        return -1;
    }
    in = s;
    rc = lev_imagestore_find(s, ref, image->id, &name, &by_name, err);
    if (rc == 1) {
        rc = hold_image(s, image, err);
    }
    /* Once held, it stays if it is still known. */
    if (rc == 1) {
        rc = lev_names_image(&s->names, image->id, &digest, &image->size,
                             &created, err);
    }
    if (rc <= 0) {
        return rc < 0 ? -1 : lev_imagestore_missing(err, ref);
    }
    if (digest.len > 0 && (image->digest = lev_buf_take(&digest)) == NULL) {
        return lev_error_nomem(err, "image");
    }
    return load_config(s, image, err);
}

int
lev_imagestore_get(struct lev_imagestore *s, const struct lev_scope *scope,
                   const char *ref, struct lev_stored_image *image,
                   struct lev_error *err)
{
    *image = (struct lev_stored_image){.lock = -1};
    if (get(s, scope, ref, image, err) < 0) {
        lev_stored_image_deinit(image);
        return -1;
    }
    return 0;
}

/* --- adding images --------------------------------------------------- */

static int
sum_layers(struct lev_imagestore *s, char **diff_ids, int64_t *size,
           struct lev_error *err)
{
    *size = 0;
    for (char **p = diff_ids; *p != NULL; p++) {
        struct lev_layer_result info;
        int rc = lev_imagestore_layer_info(s, *p, &info, err);

        if (rc == 0) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "image: its layer %s is not in the store",
                                 *p);
        }
        if (rc < 0) {
            return -1;
        }
        *size += (int64_t)info.bytes;
    }
    return 0;
}

/* In a transaction, so that nobody prunes what has no name yet. */
static int
add_image(struct lev_imagestore *s, const char *name, const char *config,
          size_t len, const char *digest, const char *id, char **diff_ids,
          struct lev_error *err)
{
    int64_t size;

    if (lev_names_begin(&s->names, err) < 0 ||
        sum_layers(s, diff_ids, &size, err) < 0)
    {
        return -1;
    }
    if (faccessat(s->blobs, id + 7, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
        lev_imagestore_write_blob(s, id + 7, config, len, err) < 0)
    {
        return -1;
    }
    if (lev_names_add_image(&s->names, id, digest, size,
                            (const char *const *)diff_ids, err) < 0 ||
        (name != NULL && lev_names_set(&s->names, name, id, err) < 0))
    {
        return -1;
    }
    return lev_names_commit(&s->names, err);
}

static void
id_of(const char *config, size_t len, char id[72])
{
    struct lev_sha256 h;

    lev_sha256_init(&h);
    lev_sha256_update(&h, config, len);
    memcpy(id, "sha256:", 7);
    lev_sha256_hex(&h, id + 7);
}

int
lev_imagestore_add_image(struct lev_imagestore *s,
                         const struct lev_scope *scope, const char *ref,
                         const char *config, size_t len, const char *digest,
                         char id[72], struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0};
    _cleanup_strv_ char **diff_ids = NULL;
    _cleanup_(lev_stored_image_deinit) struct lev_stored_image parsed = {
        .lock = -1};
    _cleanup_store_ struct lev_imagestore *in = NULL;

    if (ref != NULL && lev_imagestore_name(ref, &name, err) < 0) {
        return -1;
    }
    if (len > CONFIG_MAX) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "image's config has more than %u bytes",
                             CONFIG_MAX);
    }
    if (lev_imageconfig_parse(config, len, &parsed, &diff_ids, err) < 0) {
        return -1;
    }
    id_of(config, len, id);
    if (lev_imagestore_enter(s, scope, err) < 0) {
        return -1;
    }
    in = s;
    return add_image(s, ref == NULL ? NULL : name.data, config, len, digest,
                     id, diff_ids, err);
}

/* --- listing --------------------------------------------------------- */

/* "name:tag" with the digest instead of the tag. */
static void
append_digest(json_t *array, const char *name, const char *digest)
{
    const char *slash = strrchr(name, '/'), *tag = strchr(name, '@');
    _cleanup_free_ char *text = NULL;

    if (tag == NULL) {
        tag = strrchr(slash == NULL ? name : slash, ':');
    }
    if (tag != NULL &&
        asprintf(&text, "%.*s@%s", (int)(tag - name), name, digest) >= 0)
    {
        json_array_append_new(array, json_string(text));
    }
}

static void
add_names(json_t *one, char *lines, const char *digest)
{
    json_t *tags = json_array(), *digests = json_array();

    for (char *save, *p = strtok_r(lines, "\n", &save); p != NULL;
         p = strtok_r(NULL, "\n", &save))
    {
        if (strchr(p, '@') == NULL) {
            json_array_append_new(tags, json_string(p));
        }
        if (*digest != '\0') {
            append_digest(digests, p, digest);
        }
    }
    json_object_set_new(one, "RepoTags", tags);
    json_object_set_new(one, "RepoDigests", digests);
}

static json_t *
array_of(char *lines)
{
    json_t *array = json_array();

    for (char *save, *p = strtok_r(lines, "\n", &save); p != NULL;
         p = strtok_r(NULL, "\n", &save))
    {
        json_array_append_new(array, json_string(p));
    }
    return array;
}

static int
list_one(struct lev_imagestore *s, const char *id, json_t *all,
         struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf digest = {0}, names = {0}, layers = {0};
    int64_t size, created;
    json_t *one;

    if (lev_names_image(&s->names, id, &digest, &size, &created, err) < 0 ||
        lev_names_list(&s->names, LEV_NAMES_OF, id, &names, err) < 0 ||
        lev_names_list(&s->names, LEV_NAMES_LAYERS, id, &layers, err) < 0)
    {
        return -1;
    }
    if (names.len == 0) { /* strtok needs a string */
        lev_buf_putc(&names, '\n');
    }
    if (layers.len == 0) {
        lev_buf_putc(&layers, '\n');
    }
    one = json_pack("{s:s, s:s, s:I, s:I}", "Id", id, "Digest",
                    lev_buf_text(&digest), "Created", (json_int_t)created,
                    "Size", (json_int_t)size);
    if (one == NULL || names.failed || layers.failed) {
        json_decref(one);
        return lev_error_nomem(err, "list of images");
    }
    add_names(one, names.data, lev_buf_text(&digest));
    json_object_set_new(one, "Layers", array_of(layers.data));
    return json_array_append_new(all, one) < 0
               ? lev_error_nomem(err, "list of images")
               : 0;
}

int
lev_imagestore_list(struct lev_imagestore *s, const struct lev_scope *scope,
                    struct lev_buf *json, struct lev_error *err)
{
    _cleanup_json_ json_t *all = json_array();
    _cleanup_buf_ struct lev_buf ids = {0};
    _cleanup_store_ struct lev_imagestore *in = NULL;
    char *save, *text;

    if (all == NULL) {
        return lev_error_nomem(err, "list of images");
    }
    if (lev_imagestore_enter(s, scope, err) < 0) {
        return -1;
    }
    in = s;
    if (lev_names_list(&s->names, LEV_NAMES_IMAGES, NULL, &ids, err) < 0) {
        return -1;
    }
    text = ids.len > 0 ? ids.data : NULL;
    for (char *p = text == NULL ? NULL : strtok_r(text, "\n", &save);
         p != NULL; p = strtok_r(NULL, "\n", &save))
    {
        if (list_one(s, p, all, err) < 0) {
            return -1;
        }
    }
    return lev_json_dump(all, json, err);
}
