#include "docker.h"

#include <string.h>

#include "imageref.h"
#include "tar.h"

#define COMMIT_TIMEOUT (300 * LEV_SECOND)
#define EMPTY_REF "levrt/empty:1"
/* SHA-256 of the smallest archive: two blocks of zeros. */
#define EMPTY_LAYER                                                           \
    "sha256:"                                                                 \
    "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

/* References come from users; what does not parse must not become part of a
 * request's path ("../containers/…"). */
static int
check_ref(const char *ref, struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref parsed = {0};

    if (lev_imageref_parse(ref, NULL, &parsed, err) < 0) {
        return -1;
    }
    if (parsed.of_daemon) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "image '%.200s': this engine is a Docker itself: "
                             "leave " LEV_OF_DAEMON " out",
                             ref);
    }
    return 0;
}

/* What is looked at here of an image's description. */
static int
get_image(struct lev_docker *d, const struct lev_scope *scope, const char *ref,
          json_t **answer, struct lev_error *err)
{
    static const char *const members[] = {
        "Id", "RepoDigests", "Architecture", "Variant", "Config", NULL};
    _cleanup_buf_ struct lev_buf path = {0};

    if (check_ref(ref, err) < 0) {
        return -1;
    }
    lev_docker_path(d, &path, "/images/%s/json", ref);
    if (lev_docker_get_members(d, scope, &path, members, answer, err) < 0) {
        if (err->detail == 404) {
            err->code = LEV_E_IMAGE_NOT_FOUND;
        }
        return lev_error_wrap(err, "inspect image %s", ref);
    }
    return 0;
}

/* The digest of the repository that `ref` names, else the first one. */
static const char *
digest_for(const json_t *digests, const char *ref)
{
    _cleanup_imageref_ struct lev_imageref want = {0};
    const char *first = json_string_value(json_array_get(digests, 0));
    struct lev_error ignored;
    json_t *item;
    size_t i;

    if (lev_imageref_parse(ref, NULL, &want, &ignored) < 0 ||
        want.repository == NULL)
    {
        return first;
    }
    json_array_foreach((json_t *)digests, i, item)
    {
        _cleanup_imageref_ struct lev_imageref has = {0};
        const char *text = json_string_value(item);

        if (text != NULL &&
            lev_imageref_parse(text, NULL, &has, &ignored) == 0 &&
            has.repository != NULL &&
            strcmp(has.repository, want.repository) == 0 &&
            strcmp(has.registry, want.registry) == 0)
        {
            return text;
        }
    }
    return first;
}

static int
copy_text(char **to, const char *text, struct lev_error *err)
{
    if (text == NULL) {
        return 0;
    }
    *to = strdup(text);
    return *to == NULL ? lev_error_nomem(err, "image") : 0;
}

static int
copy_strings(char ***to, const json_t *array, struct lev_error *err)
{
    size_t n = json_array_size(array);

    if (!json_is_array(array)) {
        return 0;
    }
    *to = calloc(n + 1, sizeof(**to));
    for (size_t i = 0; *to != NULL && i < n; i++) {
        const char *text = json_string_value(json_array_get(array, i));

        (*to)[i] = strdup(text == NULL ? "" : text);
        if ((*to)[i] == NULL) {
            return lev_error_nomem(err, "image");
        }
    }
    return *to == NULL ? lev_error_nomem(err, "image") : 0;
}

static int
fill_image(const json_t *answer, const char *ref, struct lev_image *image,
           struct lev_error *err)
{
    const char *user = lev_json_str(answer, "Config.User");
    const char *arch = lev_docker_arch(lev_json_str(answer, "Architecture"),
                                       lev_json_str(answer, "Variant"));
    const char *digest = digest_for(lev_json_get(answer, "RepoDigests"), ref);
    const char *dir = lev_json_str(answer, "Config.WorkingDir");

    if (copy_text(&image->id, lev_json_str(answer, "Id"), err) < 0 ||
        copy_text(&image->digest, digest, err) < 0 ||
        copy_text(&image->arch, arch, err) < 0 ||
        copy_text(&image->user, user == NULL ? "" : user, err) < 0 ||
        copy_text(&image->working_dir, dir == NULL ? "" : dir, err) < 0 ||
        copy_text(&image->stop_signal,
                  lev_json_str(answer, "Config.StopSignal"), err) < 0)
    {
        return -1;
    }
    if (copy_strings(&image->entrypoint,
                     lev_json_get(answer, "Config.Entrypoint"), err) < 0 ||
        copy_strings(&image->cmd, lev_json_get(answer, "Config.Cmd"), err) < 0)
    {
        return -1;
    }
    if (image->id == NULL) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "inspect image %s: the engine's answer has no Id",
                             ref);
    }
    return copy_strings(&image->env, lev_json_get(answer, "Config.Env"), err);
}

int
lev_docker_image_inspect(struct lev_engine *e, const struct lev_scope *scope,
                         const char *ref, struct lev_image *image,
                         struct lev_error *err)
{
    _cleanup_json_ json_t *answer = NULL;

    *image = (struct lev_image){0};
    if (get_image(lev_docker_of(e), scope, ref, &answer, err) < 0) {
        return -1;
    }
    if (fill_image(answer, ref, image, err) < 0) {
        lev_image_deinit(image);
        return -1;
    }
    return 0;
}

static int
add_text(struct lev_tar *tar, const char *name, const void *data, size_t len,
         struct lev_error *err)
{
    const struct lev_tar_meta meta = {.mode = 0644};

    return lev_tar_add_bytes(tar, name, data, len, &meta, err);
}

/* An archive for /images/load rather than an import: its content decides the
 * id, so that processes that make it at the same time make the same image. */
static int
empty_archive(const struct lev_docker *d, int *fd, uint64_t *size,
              struct lev_error *err)
{
    static const char layer[1024];
    static const char manifest[] =
        "[{\"Config\":\"config.json\",\"RepoTags\":[\"" EMPTY_REF
        "\"],\"Layers\":[\"layer.tar\"]}]";
    _cleanup_tar_ struct lev_tar *tar = lev_tar_create(err);
    _cleanup_buf_ struct lev_buf config = {0};

    lev_buf_printf(&config,
                   "{\"architecture\":\"%s\",\"os\":\"linux\",\"created\":"
                   "\"1970-01-01T00:00:00Z\",\"config\":{\"Labels\":{"
                   "\"zone.lev.role\":\"empty\"}},\"rootfs\":{\"type\":"
                   "\"layers\",\"diff_ids\":[\"" EMPTY_LAYER
                   "\"]},\"history\":[{\"created\":"
                   "\"1970-01-01T00:00:00Z\",\"created_by\":\"levrt\"}]}",
                   d->go_arch);
    if (tar == NULL || lev_buf_check(&config, "image", err) < 0 ||
        add_text(tar, "/config.json", config.data, config.len, err) < 0 ||
        add_text(tar, "/layer.tar", layer, sizeof(layer), err) < 0 ||
        add_text(tar, "/manifest.json", manifest, strlen(manifest), err) < 0)
    {
        return -1;
    }
    return lev_tar_finish(tar, fd, size, err);
}

static int
load_empty(struct lev_docker *d, const struct lev_scope *scope,
           struct lev_error *err)
{
    static const char *const headers[] = {"Content-Type: application/x-tar",
                                          NULL};
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_close_ int fd = -1;
    struct lev_http_request req = {.method = "POST", .headers = headers};

    if (empty_archive(d, &fd, &req.body_len, err) < 0) {
        return -1;
    }
    lev_docker_path(d, &path, "/images/load?quiet=1");
    if (lev_buf_check(&path, "image", err) < 0) {
        return -1;
    }
    req.path = path.data;
    req.body_fd = fd;
    if (lev_http_request(d->http, scope, &req, &resp, err) < 0) {
        return -1;
    }
    return lev_docker_status(&resp, err);
}

static int
find_empty(struct lev_docker *d, const struct lev_scope *scope,
           struct lev_error *err)
{
    _cleanup_json_ json_t *answer = NULL;

    return get_image(d, scope, EMPTY_REF, &answer, err);
}

const char *
lev_docker_image_empty(struct lev_engine *e, const struct lev_scope *scope,
                       struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_gate_ struct lev_gate *gate = NULL;

    if (lev_gate_enter(&d->images_gate, scope, err) < 0) {
        return NULL;
    }
    gate = &d->images_gate;
    if (d->empty_made) {
        return EMPTY_REF;
    }
    if (find_empty(d, scope, err) < 0) {
        if (err->code != LEV_E_IMAGE_NOT_FOUND) {
            return NULL;
        }
        /* The engine reports a failed load inside a 200: look for it. */
        if (load_empty(d, scope, err) < 0 || find_empty(d, scope, err) < 0) {
            lev_error_wrap(err, "make the empty image");
            return NULL;
        }
    }
    d->empty_made = true;
    return EMPTY_REF;
}

int
lev_docker_image_remove(struct lev_engine *e, const struct lev_scope *scope,
                        const char *ref, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};

    if (check_ref(ref, err) < 0) {
        return -1;
    }
    lev_docker_path(d, &path, "/images/%s", ref);
    if (lev_docker_call(d, scope, "DELETE", &path, NULL, NULL, err) < 0 &&
        err->detail != 404)
    {
        return lev_error_wrap(err, "remove image %s", ref);
    }
    return 0;
}

int
lev_docker_image_list(struct lev_engine *e, const struct lev_scope *scope,
                      const char *label, struct lev_listed **list,
                      struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    struct lev_listed *all = NULL, **end = &all;
    json_t *item;
    size_t i;

    lev_docker_path(d, &path, "/images/json");
    if (lev_docker_filter(&path, label, err) < 0 ||
        lev_docker_call(d, scope, "GET", &path, NULL, &answer, err) < 0)
    {
        return lev_error_wrap(err, "list images");
    }
    json_array_foreach(answer, i, item)
    {
        if (lev_docker_list_add(&end, lev_json_str(item, "Id"),
                                lev_json_str(item, "RepoTags.0"), NULL,
                                json_object_get(item, "Labels"), err) < 0)
        {
            lev_listed_free(all);
            return -1;
        }
    }
    *list = all;
    return 0;
}

/* The configuration of the image that the container was made from, with
 * `labels` added: given as the commit's body it wins over what the container
 * was asked to run. */
static int
image_config(struct lev_docker *d, const struct lev_scope *scope,
             const char *image, const char *const *labels, json_t **config,
             struct lev_error *err)
{
    _cleanup_json_ json_t *more = lev_docker_labels(labels, err);
    _cleanup_json_ json_t *answer = NULL;
    json_t *own;

    if (more == NULL || get_image(d, scope, image, &answer, err) < 0) {
        return -1;
    }
    *config = json_incref(lev_json_get(answer, "Config"));
    if (!json_is_object(*config)) {
        json_decref(*config);
        *config = json_object();
    }
    /* Absent, the engine would put the container's own in its place. */
    if (!json_is_array(json_object_get(*config, "Entrypoint")) &&
        json_object_set_new(*config, "Entrypoint", json_array()) < 0)
    {
        return lev_error_nomem(err, "commit");
    }
    own = json_object_get(*config, "Labels");
    if (json_is_object(own) ? json_object_update(own, more) < 0
                            : json_object_set(*config, "Labels", more) < 0)
    {
        return lev_error_nomem(err, "commit");
    }
    return 0;
}

/* Not cut short by a cancellation: the engine would make the image all the
 * same, and nobody would know its id. */
static char *
commit(struct lev_docker *d, const struct lev_scope *scope, const char *id,
       const json_t *config, struct lev_error *err)
{
    struct lev_scope whole = {scope->deadline, NULL};
    struct lev_scope bounded = lev_scope_within(&whole, COMMIT_TIMEOUT);
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct lev_buf path = {0};
    const char *text;
    char *image;

    lev_docker_path(d, &path, "/commit?container=%s&pause=0", id);
    if (lev_docker_call(d, &bounded, "POST", &path, config, &answer, err) < 0)
    {
        return NULL;
    }
    text = lev_json_str(answer, "Id");
    if (text == NULL) {
        lev_error_set(err, LEV_E_ENGINE, 0, "the engine's answer has no Id");
        return NULL;
    }
    /* Podman leaves the algorithm out here, and takes what is left for a name.
     */
    if (asprintf(&image, "%s%s", strchr(text, ':') == NULL ? "sha256:" : "",
                 text) < 0)
    {
        lev_error_nomem(err, "commit");
        return NULL;
    }
    return image;
}

char *
lev_docker_commit(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, const char *const *labels,
                  struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_json_ json_t *config = NULL;
    struct lev_container_state state;
    char *image = NULL;

    if (lev_docker_inspect(e, scope, id, &state, err) == 0 &&
        image_config(d, scope, state.image_id, labels, &config, err) == 0)
    {
        image = commit(d, scope, id, config, err);
    }
    if (image == NULL) {
        lev_error_wrap(err, "commit container %.12s", id);
    }
    return image;
}
