/* image.c - which image a run's container is made from.
 *
 * The engine is asked for it, and what it answers is kept for the next runs.
 * A run that needs no more of an image than the words about it takes them from
 * there: when the image is gone, the create says so, and when another one has
 * its name by then, the container's own id for it does.
 */
#include "run_internal.h"

#include "imageref.h"

#include <string.h>

#define INSPECT_TIMEOUT (60 * LEV_SECOND)

static void
on_pull(void *ctx, int64_t done, int64_t total, const char *text)
{
    struct lev_run *run = ctx;
    struct lev_log *log = lev_session_config(run->session)->log;

    if (total > 0) {
        lev_log(log, LEV_DEBUG, "lev.pull", "%s: %.1f of %.1f MB (%s)",
                run->spec->image, (double)done / 1e6, (double)total / 1e6,
                text);
    }
    else {
        lev_log(log, LEV_DEBUG, "lev.pull", "%s: %s", run->spec->image, text);
    }
}

static int
pull(struct lev_run *run, const struct lev_scope *scope, const char *ref,
     struct lev_error *err)
{
    const struct lev_session_config *c = lev_session_config(run->session);

    lev_log(c->log, LEV_INFO, "lev.pull", "pulling %s", ref);
    return run->ops->image_pull(run->engine, scope, ref, c->pull_stall,
                                on_pull, run, err);
}

static int
look_at_image(struct lev_run *run, const struct lev_scope *parent,
              const char *ref, struct lev_error *err)
{
    struct lev_scope scope = lev_scope_within(parent, INSPECT_TIMEOUT);
    struct lev_image image;

    if (run->ops->image_inspect(run->engine, &scope, ref, &image, err) < 0) {
        if (err->code == LEV_E_TIMEOUT) {
            lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                          "the engine did not say within %d s whether it has "
                          "%s",
                          (int)(INSPECT_TIMEOUT / LEV_SECOND), ref);
        }
        return -1;
    }
    lev_known_image_unref(run->known);
    run->known = lev_images_add(&run->site->images, ref, &image, err);
    run->assumed = false;
    return run->known == NULL ? -1 : 0;
}

static int
find_image(struct lev_run *run, const struct lev_scope *scope, const char *ref,
           struct lev_error *err)
{
    enum lev_pull_policy policy = run->spec->pull;

    if (policy == LEV_PULL_ALWAYS && pull(run, scope, ref, err) < 0) {
        return -1;
    }
    if (look_at_image(run, scope, ref, err) == 0) {
        return 0;
    }
    if (err->code != LEV_E_IMAGE_NOT_FOUND || policy == LEV_PULL_ALWAYS) {
        return -1;
    }
    if (policy == LEV_PULL_NEVER) {
        return lev_error_set(err, LEV_E_IMAGE_NOT_FOUND, 404,
                             "the image %s is not on this engine, and "
                             "pull=\"never\" forbids to fetch it",
                             ref);
    }
    if (pull(run, scope, ref, err) < 0) {
        return -1;
    }
    return look_at_image(run, scope, ref, err);
}

static int
find_empty(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    const char *name = run->ops->image_empty(run->engine, scope, err);

    if (name == NULL || look_at_image(run, scope, name, err) < 0) {
        return -1;
    }
    free(run->image_ref);
    run->image_ref = strdup(name);
    return run->image_ref == NULL ? lev_error_nomem(err, "image") : 0;
}

/* What is prepared with an image, or started before the container, must not be
 * so in vain. */
static bool
can_assume(const struct lev_run *run)
{
    const struct lev_run_spec *spec = run->spec;

    return !run->doubted && spec->pull != LEV_PULL_ALWAYS &&
           spec->payload == NULL && spec->ports_n == 0 && spec->files_n == 0 &&
           spec->services_n == 0;
}

static int
find_named(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};

    if (lev_imageref_parse(run->spec->image,
                           lev_session_config(run->session)->tool_registry,
                           &ref, err) < 0)
    {
        return -1;
    }
    free(run->image_ref);
    run->image_ref = strdup(ref.familiar);
    if (run->image_ref == NULL) {
        return lev_error_nomem(err, "image");
    }
    if (can_assume(run)) {
        run->known = lev_images_find(&run->site->images, ref.familiar);
        run->assumed = run->known != NULL;
    }
    return run->assumed ? 0 : find_image(run, scope, ref.familiar, err);
}

static int
copy_text(char **to, const char *text, struct lev_error *err)
{
    free(*to);
    *to = text == NULL ? NULL : strdup(text);
    return text != NULL && *to == NULL ? lev_error_nomem(err, "image") : 0;
}

int
lev_run_find_image(struct lev_run *run, const struct lev_scope *scope,
                   struct lev_error *err)
{
    int rc = run->spec->image[0] == '\0' ? find_empty(run, scope, err)
                                         : find_named(run, scope, err);

    if (rc < 0 ||
        copy_text(&run->result.digest, run->known->image.digest, err) < 0)
    {
        return -1;
    }
    return copy_text(&run->result.image, run->spec->image, err);
}

bool
lev_run_doubt_image(struct lev_run *run, const struct lev_error *err)
{
    if (!run->assumed || err->code != LEV_E_IMAGE_NOT_FOUND) {
        return false;
    }
    lev_images_forget(&run->site->images, run->image_ref);
    lev_known_image_unref(lev_steal(run->known));
    run->assumed = false;
    run->doubted = true;
    return true;
}

/* Podman leaves the algorithm out in some answers. */
static const char *
bare_id(const char *id)
{
    return strncmp(id, "sha256:", 7) == 0 ? id + 7 : id;
}

static bool
is_image(const struct lev_run *run, const char *image_id)
{
    return strcmp(bare_id(run->known->image.id), bare_id(image_id)) == 0;
}

/* Its reference stands for the container's image most likely, and tells which
 * of its digests is meant; but it may have been given away once more. */
static int
look_again(struct lev_run *run, const struct lev_scope *scope,
           const char *image_id, struct lev_error *err)
{
    lev_images_forget(&run->site->images, run->image_ref);
    if (look_at_image(run, scope, run->image_ref, err) == 0 &&
        is_image(run, image_id))
    {
        return 0;
    }
    return look_at_image(run, scope, image_id, err);
}

void
lev_run_check_image(struct lev_run *run, const struct lev_scope *scope,
                    const char *image_id)
{
    struct lev_error err;

    if (!run->assumed || image_id[0] == '\0' || is_image(run, image_id)) {
        return;
    }
    free(lev_steal(run->result.digest));
    if (look_again(run, scope, image_id, &err) < 0 ||
        copy_text(&run->result.digest, run->known->image.digest, &err) < 0 ||
        lev_run_note_argv(run, &err) < 0)
    {
        lev_log(lev_session_config(run->session)->log, LEV_WARNING, "lev",
                "%s: what is known of its image is of another one, which had "
                "the name %s before: %s",
                run->name, run->image_ref, err.msg);
    }
}
