/* imagestore_layer.c - layers come in, each once, and are held.
 *
 * A layer is unpacked in tmp/ and renamed when its digests are right and the
 * file system has it; `done` beside it says so, and is what holders lock.
 */

#include "imagestore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "imageconfig.h"

void
lev_image_hold_release(struct lev_image_hold *hold)
{
    for (size_t i = 0; i < hold->n; i++) {
        close(hold->fds[i]);
    }
    free(hold->fds);
    *hold = (struct lev_image_hold){0};
}

static int
hold_add(struct lev_image_hold *hold, int fd, struct lev_error *err)
{
    int *more = realloc(hold->fds, (hold->n + 1) * sizeof(*more));

    if (more == NULL) {
        close(fd);
        return lev_error_nomem(err, "hold of a layer");
    }
    hold->fds = more;
    hold->fds[hold->n++] = fd;
    return 0;
}

static void
done_path(char path[96], const char *diff_id)
{
    snprintf(path, 96, "%.64s/done", diff_id + 7);
}

static int
not_a_digest(struct lev_error *err, const char *text)
{
    return lev_error_set(err, LEV_E_IMAGE, 0,
                         "'%.100s' is no SHA-256 digest (sha256:…)", text);
}

int
lev_imagestore_has_layer(struct lev_imagestore *s, const char *diff_id,
                         struct lev_image_hold *hold, struct lev_error *err)
{
    _cleanup_close_ int fd = -1;
    struct stat a, b;
    char path[96];

    if (!lev_is_sha256(diff_id)) {
        return not_a_digest(err, diff_id);
    }
    done_path(path, diff_id);
    fd = openat(s->layers, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT
                   ? 0
                   : lev_error_errno(err, "image store: layer %s", diff_id);
    }
    /* Locked exclusively: it is being removed. */
    if (flock(fd, LOCK_SH | LOCK_NB) < 0 || fstat(fd, &a) < 0 ||
        fstatat(s->layers, path, &b, AT_SYMLINK_NOFOLLOW) < 0 ||
        a.st_ino != b.st_ino)
    {
        return 0;
    }
    return hold_add(hold, lev_steal_fd(&fd), err) < 0 ? -1 : 1;
}

static int
write_done(int dirfd, const struct lev_layer_result *r, struct lev_error *err)
{
    char text[LEV_DONE_MAX];
    int n = snprintf(text, sizeof(text),
                     "%s %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d\n",
                     r->diff_id, r->digest, r->size, r->bytes, r->entries,
                     r->has_root, r->root_opaque);

    return lev_write_synced_at(dirfd, "done", text, (size_t)n, err);
}

int
lev_imagestore_layer_info(struct lev_imagestore *s, const char *diff_id,
                          struct lev_layer_result *info, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf text = {0};
    int root, opaque;
    char path[96];

    *info = (struct lev_layer_result){0};
    done_path(path, diff_id);
    if (lev_read_file_at(s->layers, path, LEV_DONE_MAX, &text, err) < 0) {
        return err->code == LEV_E_OS && err->detail == ENOENT ? 0 : -1;
    }
    if (sscanf(lev_buf_text(&text),
               "%71s %71s %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %d",
               info->diff_id, info->digest, &info->size, &info->bytes,
               &info->entries, &root, &opaque) != 7)
    {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "image store: %s/layers/%s is damaged; remove "
                             "the directory, and pull the image again",
                             s->dir, path);
    }
    info->has_root = root != 0;
    info->root_opaque = opaque != 0;
    return 1;
}

static int
check_digest(const char *what, const char *wanted, const char *got,
             struct lev_error *err)
{
    return wanted == NULL || strcmp(wanted, got) == 0
               ? 0
               : lev_error_set(err, LEV_E_IMAGE, 0,
                               "layer: its %s is %s, expected %s: it is "
                               "damaged, or not what it says",
                               what, got, wanted);
}

/* What was unpacked gets its place, or another that was faster is taken. It is
 * held before it is there, so that nobody removes it first. */
static int
place(struct lev_imagestore *s, const struct lev_scope *scope,
      struct lev_temporary *t, const char *diff_id,
      struct lev_image_hold *hold, struct lev_error *err)
{
    _cleanup_close_ int fd = openat(t->fd, "done", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || flock(fd, LOCK_SH) < 0) {
        return lev_error_errno(err, "image store: hold layer %s", diff_id);
    }
    while (renameat(s->tmp, t->name, s->layers, diff_id + 7) < 0) {
        int rc;

        if (errno != EEXIST && errno != ENOTEMPTY) {
            return lev_error_errno(err, "image store: keep layer %s", diff_id);
        }
        rc = lev_imagestore_has_layer(s, diff_id, hold, err);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        /* It is just being removed. */
        if (lev_scope_sleep(scope, LEV_MS, err) < 0) {
            return -1;
        }
    }
    close(lev_steal_fd(&t->fd));
    return hold_add(hold, lev_steal_fd(&fd), err);
}

static int
keep(struct lev_imagestore *s, const struct lev_scope *scope,
     struct lev_temporary *t, const struct lev_layer_result *r,
     struct lev_image_hold *hold, struct lev_error *err)
{
    if (write_done(t->fd, r, err) < 0) {
        return -1;
    }
    if (syncfs(t->fd) < 0) {
        return lev_error_errno(err, "image store: sync layer %s", r->diff_id);
    }
    if (place(s, scope, t, r->diff_id, hold, err) < 0) {
        return -1;
    }
    return fsync(s->layers) == 0
               ? 0
               : lev_error_errno(err, "image store: sync layer %s",
                                 r->diff_id);
}

static int
unpack(struct lev_imagestore *s, const struct lev_scope *scope,
       const struct lev_layer_source *source, const char *digest,
       const char *diff_id, struct lev_image_hold *hold,
       struct lev_layer_result *r, struct lev_error *err)
{
    _cleanup_temporary_ struct lev_temporary t = {.fd = -1};
    _cleanup_close_ int diff = -1;

    if (lev_temporary_make(s, &t, err) < 0) {
        return -1;
    }
    if (mkdirat(t.fd, "diff", 0700) < 0 ||
        (diff = openat(t.fd, "diff", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
    {
        return lev_error_errno(err, "image store: make a layer");
    }
    if (lev_layer_unpack(scope, source, diff, &s->options, r, err) < 0 ||
        check_digest("digest", digest, r->digest, err) < 0 ||
        check_digest("diff id", diff_id, r->diff_id, err) < 0)
    {
        return -1;
    }
    return keep(s, scope, &t, r, hold, err);
}

/* 1 when it is there, held, and `*r` says what it is. */
static int
take_present(struct lev_imagestore *s, const char *diff_id,
             struct lev_image_hold *hold, struct lev_layer_result *r,
             struct lev_error *err)
{
    int rc = lev_imagestore_has_layer(s, diff_id, hold, err);

    return rc <= 0 ? rc : lev_imagestore_layer_info(s, diff_id, r, err);
}

static int
add_locked(struct lev_imagestore *s, const struct lev_scope *scope,
           const struct lev_layer_source *source, const char *digest,
           const char *diff_id, struct lev_image_hold *hold,
           struct lev_layer_result *r, struct lev_error *err)
{
    int rc = diff_id == NULL ? 0 : take_present(s, diff_id, hold, r, err);

    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    return unpack(s, scope, source, digest, diff_id, hold, r, err);
}

int
lev_imagestore_add_layer(struct lev_imagestore *s,
                         const struct lev_scope *scope,
                         const struct lev_layer_source *source,
                         const char *digest, const char *diff_id,
                         struct lev_image_hold *hold,
                         struct lev_layer_result *result,
                         struct lev_error *err)
{
    const char *key = diff_id != NULL ? diff_id : digest;
    int rc, lock = -1;

    if (digest != NULL && !lev_is_sha256(digest)) {
        return not_a_digest(err, digest);
    }
    if (diff_id != NULL && !lev_is_sha256(diff_id)) {
        return not_a_digest(err, diff_id);
    }
    if (key != NULL) {
        lock = lev_imagestore_lock(s, key + 7, scope, err);
        if (lock < 0) {
            return -1;
        }
    }
    rc = add_locked(s, scope, source, digest, diff_id, hold, result, err);
    if (lock >= 0) {
        lev_imagestore_unlock(s, key + 7, lock);
    }
    return rc;
}
