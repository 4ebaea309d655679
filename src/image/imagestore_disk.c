/* imagestore_disk.c - directories, locks and temporaries of an image store.
 *
 * flock(2) locks belong to an open file: they end with the process, however it
 * ends, and hold between threads too. A file that is locked may have been
 * removed or replaced just before: who gets a lock looks whether the name
 * still means the same file, and else begins again.
 */

#include "imagestore_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "tree.h"

static bool
same(int fd, int dirfd, const char *name)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 &&
           fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int
lev_flock(int fd, int how, const struct lev_scope *scope,
          struct lev_error *err)
{
    int64_t nap = LEV_MS;

    while (flock(fd, how | LOCK_NB) < 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return lev_error_errno(err, "image store: lock");
        }
        if (lev_scope_sleep(scope, nap, err) < 0) {
            return -1;
        }
        nap = nap < 20 * LEV_MS ? nap * 2 : nap;
    }
    return 0;
}

int
lev_imagestore_lock(struct lev_imagestore *s, const char *name,
                    const struct lev_scope *scope, struct lev_error *err)
{
    for (;;) {
        _cleanup_close_ int fd =
            openat(s->locks, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0) {
            return lev_error_errno(err, "image store: lock");
        }
        if (lev_flock(fd, LOCK_EX, scope, err) < 0) {
            return -1;
        }
        if (same(fd, s->locks, name)) {
            return lev_steal_fd(&fd);
        }
    }
}

void
lev_imagestore_unlock(struct lev_imagestore *s, const char *name, int fd)
{
    unlinkat(s->locks, name, 0);
    close(fd);
}

static void
random_name(char name[32])
{
    unsigned char bytes[12];

    /* Never short for so few; and a name that was there would be refused. */
    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
        memcpy(bytes, &(int64_t){lev_now()}, 8);
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        snprintf(name + 2 * i, 3, "%02x", bytes[i]);
    }
}

int
lev_temporary_make(struct lev_imagestore *s, struct lev_temporary *t,
                   struct lev_error *err)
{
    *t = (struct lev_temporary){.store = s, .fd = -1};
    for (;;) {
        _cleanup_close_ int fd = -1;

        random_name(t->name);
        if (mkdirat(s->tmp, t->name, 0700) < 0) {
            return lev_error_errno(err, "image store: %s/tmp", s->dir);
        }
        fd = openat(s->tmp, t->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* A sweeper may have been faster. */
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
            same(fd, s->tmp, t->name)) {
            t->fd = lev_steal_fd(&fd);
            return 0;
        }
        if (errno == EMFILE || errno == ENFILE) {
            return lev_error_errno(err, "image store: %s/tmp", s->dir);
        }
    }
}

void
lev_temporary_drop(struct lev_temporary *t)
{
    struct lev_error ignored; /* a sweep comes later */

    if (t->fd >= 0) {
        lev_tree_remove(t->store->tmp, t->name, &ignored);
        close(lev_steal_fd(&t->fd));
    }
}

int
lev_imagestore_discard(struct lev_imagestore *s, int dirfd, const char *name,
                       struct lev_error *err)
{
    char temporary[32];

    random_name(temporary);
    if (renameat(dirfd, name, s->tmp, temporary) < 0) {
        return errno == ENOENT
                   ? 0
                   : lev_error_errno(err, "image store: remove %s", name);
    }
    return 0;
}

static void
sweep_one(struct lev_imagestore *s, const char *name)
{
    _cleanup_close_ int fd =
        openat(s->tmp, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct lev_error ignored; /* the next one tries again */

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && same(fd, s->tmp, name))
    {
        lev_tree_remove(s->tmp, name, &ignored);
    }
}

static void
closedirp(DIR **d)
{
    if (*d != NULL) {
        closedir(*d);
    }
}

int
lev_imagestore_sweep(struct lev_imagestore *s, struct lev_error *err)
{
    _cleanup_(closedirp) DIR *d = NULL;
    int fd = openat(s->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *e;

    if (fd < 0 || (d = fdopendir(fd)) == NULL) {
        lev_closep(&fd);
        return lev_error_errno(err, "image store: %s/tmp", s->dir);
    }
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            sweep_one(s, e->d_name);
        }
    }
    return 0;
}

int
lev_read_file_at(int dirfd, const char *name, size_t limit,
                 struct lev_buf *out, struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = 1;

    if (fd < 0) {
        return lev_error_errno(err, "read %s", name);
    }
    while (n > 0) {
        char *to = lev_buf_reserve(out, 16384);

        if (to == NULL) {
            return lev_error_nomem(err, name);
        }
        n = read(fd, to, 16384);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0) {
            return lev_error_errno(err, "read %s", name);
        }
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (out->len > limit) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "%s has more than %zu bytes", name, limit);
        }
    }
    return 0;
}

int
lev_write_synced_at(int dirfd, const char *name, const char *data, size_t len,
                    struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        return lev_error_errno(err, "image store: make %s", name);
    }
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return lev_error_errno(err, "image store: write %s", name);
        }
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0
                          : lev_error_errno(err, "image store: sync %s", name);
}

int
lev_imagestore_write_blob(struct lev_imagestore *s, const char *hex,
                          const char *data, size_t len, struct lev_error *err)
{
    _cleanup_temporary_ struct lev_temporary t = {.fd = -1};

    if (lev_temporary_make(s, &t, err) < 0 ||
        lev_write_synced_at(t.fd, "blob", data, len, err) < 0)
    {
        return -1;
    }
    return renameat(t.fd, "blob", s->blobs, hex) == 0 && fsync(s->blobs) == 0
               ? 0
               : lev_error_errno(err, "image store: keep blob %s", hex);
}
