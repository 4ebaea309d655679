/* imagestore_remove.c - images and layers go.
 *
 * Names first, in a transaction; files after it, so that a crash leaves at
 * most layers that no image needs, which prune finds. What is to go is renamed
 * into tmp/ while its lock is held exclusively, and removed from there.
 */

#include "imagestore_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "imageconfig.h"

/* Locked exclusively, -1 when somebody holds it or it is not there. */
static int
lock_to_remove(int dirfd, const char *name)
{
    _cleanup_close_ int fd =
        openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? lev_steal_fd(&fd)
                                                        : -1;
}

/* In a transaction: nobody adds an image with it meanwhile. */
static int
drop_layer(struct lev_imagestore *s, const char *diff_id, uint64_t *freed,
           struct lev_error *err)
{
    _cleanup_close_ int lock = -1;
    struct lev_layer_result info;
    char done[96];
    int rc = lev_names_uses_layer(&s->names, diff_id, err);

    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    snprintf(done, sizeof(done), "%.64s/done", diff_id + 7);
    lock = lock_to_remove(s->layers, done);
    if (lock < 0) {
        return 0;
    }
    rc = lev_imagestore_layer_info(s, diff_id, &info, err);
    *freed += rc == 1 ? info.bytes : 0;
    return lev_imagestore_discard(s, s->layers, diff_id + 7, err);
}

static int
drop_layers(struct lev_imagestore *s, struct lev_buf *lines, uint64_t *freed,
            struct lev_error *err)
{
    char *save, *p;

    if (lines->len == 0) {
        return 0;
    }
    if (lev_names_begin(&s->names, err) < 0) {
        return -1;
    }
    for (p = strtok_r(lines->data, "\n", &save); p != NULL;
         p = strtok_r(NULL, "\n", &save))
    {
        if (drop_layer(s, p, freed, err) < 0) {
            return -1;
        }
    }
    return lev_names_commit(&s->names, err);
}

/* The image's rows, unless it is in use. `*lock` is to be kept until that is
 * committed: who gets the image meanwhile must not find it. Its config goes
 * later, as its layers do. */
static int
drop_image(struct lev_imagestore *s, const char *id, int *lock,
           struct lev_buf *layers, struct lev_error *err)
{
    *lock = lock_to_remove(s->blobs, id + 7);
    if (*lock < 0 && faccessat(s->blobs, id + 7, F_OK, 0) == 0) {
        return 0;
    }
    return lev_names_list(&s->names, LEV_NAMES_LAYERS, id, layers, err) < 0
               ? -1
               : lev_names_remove_image(&s->names, id, err);
}

/* In a transaction: nobody adds an image with it meanwhile. */
static int
drop_config(struct lev_imagestore *s, const char *id, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf digest = {0};
    int64_t size, created;
    int rc = lev_names_image(&s->names, id, &digest, &size, &created, err);

    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    return unlinkat(s->blobs, id + 7, 0) == 0 || errno == ENOENT
               ? 0
               : lev_error_errno(err, "image store: remove %s", id);
}

static int
drop_configs(struct lev_imagestore *s, struct lev_buf *ids,
             struct lev_error *err)
{
    char *save, *p = NULL;

    if (lev_names_begin(&s->names, err) < 0) {
        return -1;
    }
    if (ids->len > 0) {
        p = strtok_r(ids->data, "\n", &save);
    }
    for (; p != NULL; p = strtok_r(NULL, "\n", &save)) {
        if (drop_config(s, p, err) < 0) {
            return -1;
        }
    }
    return lev_names_commit(&s->names, err);
}

static int
remove_named(struct lev_imagestore *s, const char *ref, struct lev_buf *ids,
             struct lev_buf *layers, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0}, left = {0};
    _cleanup_close_ int lock = -1;
    bool by_name;
    char id[72];
    int rc;

    if (lev_names_begin(&s->names, err) < 0) {
        return -1;
    }
    rc = lev_imagestore_find(s, ref, id, &name, &by_name, err);
    if (rc <= 0) {
        return rc < 0 ? -1 : lev_imagestore_missing(err, ref);
    }
    if (lev_names_unset(&s->names, by_name ? name.data : NULL, id, err) < 0 ||
        lev_names_list(&s->names, LEV_NAMES_OF, id, &left, err) < 0)
    {
        return -1;
    }
    if (left.len == 0 && drop_image(s, id, &lock, layers, err) < 0) {
        return -1;
    }
    lev_buf_printf(ids, "%s\n", id);
    return lev_buf_check(ids, "id", err) < 0
               ? -1
               : lev_names_commit(&s->names, err);
}

int
lev_imagestore_remove(struct lev_imagestore *s, const struct lev_scope *scope,
                      const char *ref, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf ids = {0}, layers = {0};
    uint64_t freed = 0;
    int rc;

    {
        _cleanup_store_ struct lev_imagestore *in = NULL;

        if (lev_imagestore_enter(s, scope, err) < 0) {
            return -1;
        }
        in = s;
        rc = remove_named(s, ref, &ids, &layers, err) < 0 ||
                     drop_configs(s, &ids, err) < 0
                 ? -1
                 : drop_layers(s, &layers, &freed, err);
    }
    return rc < 0 ? -1 : lev_imagestore_sweep(s, err);
}

static int
drop_if_nameless(struct lev_imagestore *s, const char *id,
                 struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf names = {0}, layers = {0};
    _cleanup_close_ int lock = -1;

    if (lev_names_begin(&s->names, err) < 0 ||
        lev_names_list(&s->names, LEV_NAMES_OF, id, &names, err) < 0)
    {
        return -1;
    }
    if (names.len == 0 && drop_image(s, id, &lock, &layers, err) < 0) {
        return -1;
    }
    return lev_names_commit(&s->names, err);
}

static int
drop_nameless(struct lev_imagestore *s, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf ids = {0};
    char *save, *p;

    if (lev_names_list(&s->names, LEV_NAMES_NAMELESS, NULL, &ids, err) < 0) {
        return -1;
    }
    p = ids.len > 0 ? strtok_r(ids.data, "\n", &save) : NULL;
    for (; p != NULL; p = strtok_r(NULL, "\n", &save)) {
        if (drop_if_nameless(s, p, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void
closedirp(DIR **d)
{
    if (*d != NULL) {
        closedir(*d);
    }
}

/* The names in a directory that are digests, as lines. */
static int
digests_in(int dirfd, struct lev_buf *lines, struct lev_error *err)
{
    _cleanup_(closedirp) DIR *d = NULL;
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *e;

    if (fd < 0 || (d = fdopendir(fd)) == NULL) {
        lev_closep(&fd);
        return lev_error_errno(err, "image store: list");
    }
    while ((e = readdir(d)) != NULL) {
        if (strlen(e->d_name) == 64) {
            lev_buf_printf(lines, "sha256:%s\n", e->d_name);
        }
    }
    return lev_buf_check(lines, "list", err);
}

static int
prune(struct lev_imagestore *s, uint64_t *freed, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf layers = {0}, configs = {0};

    return drop_nameless(s, err) < 0 ||
                   digests_in(s->blobs, &configs, err) < 0 ||
                   drop_configs(s, &configs, err) < 0 ||
                   digests_in(s->layers, &layers, err) < 0
               ? -1
               : drop_layers(s, &layers, freed, err);
}

int
lev_imagestore_prune(struct lev_imagestore *s, const struct lev_scope *scope,
                     uint64_t *freed, struct lev_error *err)
{
    int rc;

    *freed = 0;
    {
        _cleanup_store_ struct lev_imagestore *in = NULL;

        if (lev_imagestore_enter(s, scope, err) < 0) {
            return -1;
        }
        in = s;
        rc = prune(s, freed, err);
    }
    return rc < 0 ? -1 : lev_imagestore_sweep(s, err);
}
