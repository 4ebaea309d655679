/* layer_write.c - one entry of an archive, made in the destination.
 *
 * A name is made with O_EXCL semantics; where something is in the way it is
 * removed first, so that nothing is ever written through what an earlier entry
 * made. Owner before mode before attributes: chown(2) clears the set-user-id
 * bit and drops file capabilities.
 */

#include "layer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* The maker of one kind of entry; -1 with errno. */
typedef int make_fn(int parent, const char *name, const void *arg);

static int
make_symlink(int parent, const char *name, const void *target)
{
    return symlinkat(target, parent, name);
}

static int
make_node(int parent, const char *name, const void *arg)
{
    const struct stat *st = arg;

    return mknodat(parent, name, st->st_mode, st->st_rdev);
}

static int
make_file(int parent, const char *name, const void *fd)
{
    *(int *)(uintptr_t)fd =
        openat(parent, name,
               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *(const int *)fd < 0 ? -1 : 0;
}

/* `*errnum` tells a failure that `make` may have for a good reason. */
static int
make_anew(struct lev_layer_place *p, int parent, const char *name,
          make_fn *make, const void *arg, int *errnum, struct lev_error *err)
{
    int rc = make(parent, name, arg);

    if (rc < 0 && errno == EEXIST) {
        _cleanup_close_ int own = fcntl(parent, F_DUPFD_CLOEXEC, 0);

        if (own < 0) {
            return lev_layer_errno(err, name, "directory");
        }
        if (lev_layer_place_remove(p, own, name, err) < 0) {
            return -1;
        }
        rc = make(own, name, arg);
    }
    *errnum = rc < 0 ? errno : 0;
    return 0;
}

static struct timespec
mtime_of(struct archive_entry *e)
{
    struct timespec t = {.tv_sec = archive_entry_mtime(e),
                         .tv_nsec = archive_entry_mtime_nsec(e)};

    if (t.tv_nsec < 0 || t.tv_nsec > 999999999) {
        t.tv_nsec = 0;
    }
    return t;
}

static int
owner_of(struct archive_entry *e, const char *path, uid_t *uid, gid_t *gid,
         struct lev_error *err)
{
    int64_t u = archive_entry_uid(e), g = archive_entry_gid(e);

    /* The highest number means "leave as it is". */
    if (u < 0 || g < 0 || u >= UINT32_MAX || g >= UINT32_MAX) {
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "its owner %lld:%lld is no user and group",
                               (long long)u, (long long)g);
    }
    *uid = (uid_t)u;
    *gid = (gid_t)g;
    return 0;
}

static int
set_owner(struct lev_layer_place *p, int parent, const char *name,
          struct archive_entry *e, struct lev_error *err)
{
    uid_t uid;
    gid_t gid;

    if (p->options->squash_owners) {
        return 0;
    }
    if (owner_of(e, name, &uid, &gid, err) < 0) {
        return -1;
    }
    if (uid == geteuid() && gid == getegid()) {
        return 0; /* no directory has its set-group-id bit yet */
    }
    if (fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    if (errno == EINVAL || errno == EPERM) {
        return lev_layer_error(err, LEV_E_OS, errno, name,
                               "owner %u:%u cannot be set; give this user "
                               "subordinate ids (/etc/subuid, /etc/subgid) "
                               "that reach that far",
                               uid, gid);
    }
    return lev_layer_errno(err, name, "owner");
}

/* What has a meaning inside a container, and no other: attributes of overlayfs
 * ("trusted.overlay.redirect", …) would let a layer choose what is shown. */
bool
lev_layer_wanted_xattr(const char *name)
{
    return (strncmp(name, "user.", 5) == 0 &&
            strncmp(name, "user.overlay.", 13) != 0) ||
           strcmp(name, "security.capability") == 0 ||
           strncmp(name, "system.posix_acl_", 17) == 0;
}

static int
xattr_failed(struct lev_layer_place *p, const char *path, const char *name,
             struct lev_error *err)
{
    int number = errno;
    bool capability = strcmp(name, "security.capability") == 0;
    char text[96];

    /* As engines do: a file system without attributes, links that can have
     * none, and a user that may not set them. */
    if ((number == ENOTSUP && !capability) ||
        (number == EPERM && (!capability || p->options->squash_owners)))
    {
        return 0;
    }
    return lev_layer_error(
        err,
        number == E2BIG || number == ERANGE || number == EINVAL ? LEV_E_IMAGE
                                                                : LEV_E_OS,
        number, path, "attribute %.100s: %s", name,
        strerror_r(number, text, sizeof(text)));
}

/* `fd` is open for reading or writing, or -1: then by name, for what cannot be
 * opened. */
static int
set_xattrs(struct lev_layer_place *p, int fd, int parent, const char *name,
           struct archive_entry *e, struct lev_error *err)
{
    char path[300];
    const char *key;
    const void *value;
    size_t len;

    if (archive_entry_xattr_reset(e) == 0) {
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", parent, name);
    while (archive_entry_xattr_next(e, &key, &value, &len) == ARCHIVE_OK) {
        int rc;

        if (key == NULL || !lev_layer_wanted_xattr(key)) {
            continue;
        }
        rc = fd >= 0 ? fsetxattr(fd, key, value, len, 0)
                     : lsetxattr(path, key, value, len, 0);
        if (rc < 0 && xattr_failed(p, name, key, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* For what cannot be opened. */
static int
set_meta_by_name(struct lev_layer_place *p, int parent, const char *name,
                 struct archive_entry *e, struct lev_error *err)
{
    const struct timespec times[2] = {mtime_of(e), mtime_of(e)};

    if (set_owner(p, parent, name, e, err) < 0) {
        return -1;
    }
    if (archive_entry_filetype(e) != AE_IFLNK &&
        fchmodat(parent, name, archive_entry_perm(e) & 07777, 0) < 0)
    {
        return lev_layer_errno(err, name, "mode");
    }
    if (set_xattrs(p, -1, parent, name, e, err) < 0) {
        return -1;
    }
    return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) == 0
               ? 0
               : lev_layer_errno(err, name, "time");
}

static int
write_all(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

static int
count_bytes(struct lev_layer_place *p, const char *path, size_t len,
            struct lev_error *err)
{
    p->bytes += len;
    return p->bytes <= p->options->max_bytes
               ? 0
               : lev_layer_error(err, LEV_E_IMAGE, 0, path,
                                 "the files up to here have more than %llu "
                                 "bytes; a limit against bombs",
                                 (unsigned long long)p->options->max_bytes);
}

static int
write_content(struct lev_layer_place *p, struct lev_layer_stream *s, int fd,
              const char *path, int64_t size, struct lev_error *err)
{
    int64_t offset, end = 0;
    const void *data;
    size_t len;
    int rc;

    while ((rc = lev_layer_stream_data(s, &data, &len, &offset, err)) > 0) {
        if (len == 0) {
            continue;
        }
        if (offset < 0 || offset > size || (int64_t)len > size - offset) {
            return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                                   "its content goes past its end");
        }
        if (count_bytes(p, path, len, err) < 0) {
            return -1;
        }
        if (write_all(fd, data, len, offset) < 0) {
            return lev_layer_errno(err, path, "write");
        }
        end = offset + (int64_t)len;
    }
    if (rc < 0) {
        return lev_error_wrap(err, "layer: content of an entry");
    }
    if (end != size && ftruncate(fd, size) < 0) {
        return lev_layer_errno(err, path, "size");
    }
    return 0;
}

static int
finish_file(struct lev_layer_place *p, int fd, struct archive_entry *e,
            const char *path, struct lev_error *err)
{
    const struct timespec times[2] = {mtime_of(e), mtime_of(e)};
    uid_t uid;
    gid_t gid;

    if (!p->options->squash_owners) {
        if (owner_of(e, path, &uid, &gid, err) < 0) {
            return -1;
        }
        if ((uid != geteuid() || gid != getegid()) && fchown(fd, uid, gid) < 0)
        {
            return lev_layer_error(err, LEV_E_OS, errno, path,
                                   "owner %u:%u cannot be set", uid, gid);
        }
    }
    if (fchmod(fd, archive_entry_perm(e) & 07777) < 0) {
        return lev_layer_errno(err, path, "mode");
    }
    if (set_xattrs(p, fd, -1, path, e, err) < 0) {
        return -1;
    }
    return futimens(fd, times) == 0 ? 0 : lev_layer_errno(err, path, "time");
}

static int
write_file(struct lev_layer_place *p, struct lev_layer_stream *s, int parent,
           const char *name, struct archive_entry *e, const char *path,
           struct lev_error *err)
{
    int64_t size = archive_entry_size(e);
    _cleanup_close_ int fd = -1;
    int errnum;

    if (make_anew(p, parent, name, make_file, &fd, &errnum, err) < 0) {
        return -1;
    }
    if (errnum != 0) {
        errno = errnum;
        return lev_layer_errno(err, path, "make the file");
    }
    if (size < 0) {
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "its size is negative");
    }
    if (write_content(p, s, fd, path, size, err) < 0) {
        return -1;
    }
    return finish_file(p, fd, e, path, err);
}

static int
write_dir(struct lev_layer_place *p, int parent, const char *name,
          struct archive_entry *e, const char *path, struct lev_error *err)
{
    if (lev_layer_place_dir(p, parent, name, err) < 0 ||
        set_owner(p, parent, name, e, err) < 0)
    {
        return -1;
    }
    if (archive_entry_xattr_count(e) > 0) {
        _cleanup_close_ int fd = openat(
            parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0) {
            return lev_layer_errno(err, path, "open the directory");
        }
        if (set_xattrs(p, fd, -1, path, e, err) < 0) {
            return -1;
        }
    }
    return lev_layer_place_late(p, path, archive_entry_perm(e) & 07777,
                                mtime_of(e), err);
}

int
lev_layer_write_root(struct lev_layer_place *p, struct archive_entry *e,
                     struct lev_error *err)
{
    if (archive_entry_filetype(e) != AE_IFDIR) {
        return lev_layer_error(err, LEV_E_IMAGE, 0, archive_entry_pathname(e),
                               "it names the root, but is no directory");
    }
    p->has_root = true;
    return write_dir(p, p->root, ".", e, "", err);
}

static int
write_symlink(struct lev_layer_place *p, int parent, const char *name,
              struct archive_entry *e, const char *path, struct lev_error *err)
{
    const char *target = archive_entry_symlink(e);
    int errnum;

    if (target == NULL || *target == '\0') {
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "a link that leads nowhere");
    }
    if (make_anew(p, parent, name, make_symlink, target, &errnum, err) < 0) {
        return -1;
    }
    if (errnum != 0) {
        errno = errnum;
        return lev_layer_errno(err, path, "make the link");
    }
    parent = lev_layer_place_parent(p, path, &name, err);
    return parent < 0 ? -1 : set_meta_by_name(p, parent, name, e, err);
}

static bool
same_file(int a, const char *a_name, int b, const char *b_name)
{
    struct stat x, y;

    return fstatat(a, a_name, &x, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(b, b_name, &y, AT_SYMLINK_NOFOLLOW) == 0 &&
           x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

struct old_name {
    int at;
    const char *name;
};

static int
make_link(int parent, const char *name, const void *arg)
{
    const struct old_name *old = arg;

    return linkat(old->at, old->name, parent, name, 0);
}

static int
write_hardlink(struct lev_layer_place *p, const char *target, const char *path,
               struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf to = {0};
    _cleanup_close_ int old = -1;
    struct old_name arg;
    const char *name;
    int parent, errnum;

    if (lev_layer_path(target, &to, err) < 0) {
        return lev_error_wrap(err, "layer: target of a hard link");
    }
    old = lev_layer_place_find(p, lev_buf_text(&to), &arg.name, err);
    if (old < 0) {
        return lev_error_wrap(err, "layer: target of a hard link");
    }
    arg.at = old;
    parent = lev_layer_place_parent(p, path, &name, err);
    if (parent < 0) {
        return -1;
    }
    if (same_file(old, arg.name, parent, name)) {
        return 0;
    }
    if (faccessat(old, arg.name, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "a hard link to '%.160s', which is not in this "
                               "layer",
                               target);
    }
    if (make_anew(p, parent, name, make_link, &arg, &errnum, err) < 0) {
        return -1;
    }
    if (errnum != 0) {
        return lev_layer_error(err, LEV_E_IMAGE, errnum, path,
                               errnum == EPERM
                                   ? "a hard link to a directory"
                                   : "a hard link that cannot be made");
    }
    return 0;
}

/* Containers find their devices in /dev, which the engine makes: one that this
 * user may not make is no loss. */
static int
write_node(struct lev_layer_place *p, int parent, const char *name,
           struct archive_entry *e, const char *path, struct lev_error *err)
{
    struct stat st = {.st_mode = archive_entry_filetype(e) | 0600,
                      .st_rdev = archive_entry_rdev(e)};
    int errnum;

    if (!S_ISFIFO(st.st_mode) && p->options->squash_owners) {
        return 0;
    }
    if (make_anew(p, parent, name, make_node, &st, &errnum, err) < 0) {
        return -1;
    }
    if (errnum == EPERM && !S_ISFIFO(st.st_mode)) {
        return 0;
    }
    if (errnum != 0) {
        errno = errnum;
        return lev_layer_errno(err, path, "make the device or pipe");
    }
    parent = lev_layer_place_parent(p, path, &name, err);
    return parent < 0 ? -1 : set_meta_by_name(p, parent, name, e, err);
}

int
lev_layer_write_whiteout(struct lev_layer_place *p, const char *path,
                         const char *name, struct lev_error *err)
{
    struct stat st = {.st_mode = S_IFCHR};
    const char *ignored;
    int parent = lev_layer_place_parent(p, path, &ignored, err);

    if (parent < 0) {
        return -1;
    }
    if (mknodat(parent, name, S_IFCHR, 0) == 0) {
        return 0;
    }
    if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    {
        return lev_layer_errno(err, path, "make the whiteout");
    }
    /* A whiteout speaks of lower layers: what this layer has stays, and a
     * directory of it begins anew. */
    return S_ISDIR(st.st_mode) ? lev_layer_place_opaque(p, parent, name, err)
                               : 0;
}

int
lev_layer_write(struct lev_layer_place *p, struct lev_layer_stream *s,
                struct archive_entry *e, const char *path,
                struct lev_error *err)
{
    const char *link = archive_entry_hardlink(e), *name;
    int parent;

    if (link != NULL) {
        return write_hardlink(p, link, path, err);
    }
    parent = lev_layer_place_parent(p, path, &name, err);
    if (parent < 0) {
        return -1;
    }
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return write_file(p, s, parent, name, e, path, err);
    case AE_IFDIR:
        return write_dir(p, parent, name, e, path, err);
    case AE_IFLNK:
        return write_symlink(p, parent, name, e, path, err);
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        return write_node(p, parent, name, e, path, err);
    default:
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "neither file, directory, link, device nor "
                               "pipe");
    }
}
