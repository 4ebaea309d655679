#include "tar_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (64u * 1024)

static int
open_unlinked(const char *dir, struct lev_error *err)
{
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0) {
        return fd;
    }
    if (snprintf(path, sizeof(path), "%s/levrt-XXXXXX", dir) >=
        (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return lev_error_errno(err, "temporary file in '%.100s…'", dir);
    }
    fd = mkostemp(path, O_CLOEXEC); /* not all file systems have O_TMPFILE */
    if (fd < 0) {
        return lev_error_errno(err, "temporary file in '%s'", dir);
    }
    unlink(path);
    return fd;
}

static la_ssize_t
write_out(struct archive *out, void *arg, const void *data, size_t len)
{
    struct lev_tar *tar = arg;
    ssize_t n;

    if (tar->abandoned) {
        return -1;
    }
    do {
        n = write(tar->fd, data, len);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        char text[96];

        archive_set_error(out, errno, "%s",
                          strerror_r(errno, text, sizeof(text)));
    }
    return n;
}

static int
broken(struct lev_tar *tar, struct lev_error *err)
{
    int number = archive_errno(tar->out);
    const char *text = archive_error_string(tar->out);

    if (number == ENOMEM) {
        return lev_error_nomem(err, "archive");
    }
    return lev_error_set(err, LEV_E_OS, number > 0 ? number : EIO,
                         "write the archive: %s",
                         text != NULL ? text : "unknown failure");
}

void
lev_tar_destroyp(struct lev_tar **tar)
{
    lev_tar_destroy(*tar);
}

struct lev_tar *
lev_tar_create(struct lev_error *err)
{
    _cleanup_tar_ struct lev_tar *tar = calloc(1, sizeof(*tar));
    const char *dir = getenv("TMPDIR");

    if (tar == NULL) {
        lev_error_nomem(err, "archive");
        return NULL;
    }
    tar->fd = open_unlinked(dir != NULL && *dir != '\0' ? dir : "/tmp", err);
    if (tar->fd < 0) {
        return NULL;
    }
    tar->out = archive_write_new();
    if (tar->out == NULL) {
        lev_error_nomem(err, "archive");
        return NULL;
    }
    /* "BINARY": else names are converted from the locale's character set,
     * which is ASCII in a program that never called setlocale(). */
    if (archive_write_set_format_pax_restricted(tar->out) != ARCHIVE_OK ||
        archive_write_set_options(tar->out, "hdrcharset=BINARY") !=
            ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(tar->out, 1) != ARCHIVE_OK ||
        archive_write_open(tar->out, tar, NULL, write_out, NULL) != ARCHIVE_OK)
    {
        broken(tar, err);
        return NULL;
    }
    return lev_steal(tar);
}

void
lev_tar_destroy(struct lev_tar *tar)
{
    if (tar == NULL) {
        return;
    }
    /* libarchive ends what was begun, be it with gigabytes of zeros for the
     * rest of a file; archive_write_fail() prevents that, but leaks. */
    tar->abandoned = true;
    archive_write_free(tar->out);
    lev_closep(&tar->fd);
    free(tar);
}

int
lev_tar_entry_name(const char *target, struct lev_buf *name,
                   struct lev_error *err)
{
    if (target[0] != '/') {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "'%s': a path in the container begins with '/'",
                             target);
    }
    for (const char *p = target; *p != '\0';) {
        size_t len = strcspn(p, "/");

        if (len == 2 && memcmp(p, "..", 2) == 0) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "'%s': a path in the container cannot have "
                                 "'..'; write what it means",
                                 target);
        }
        if (len > 0 && !(len == 1 && *p == '.')) {
            if (name->len > 0) {
                lev_buf_putc(name, '/');
            }
            lev_buf_append(name, p, len);
        }
        p += len + (p[len] == '/');
    }
    return lev_buf_check(name, "name of a file", err);
}

struct archive_entry *
lev_tar_entry_new(const char *name, mode_t mode, uid_t uid, gid_t gid,
                  struct lev_error *err)
{
    struct archive_entry *e = archive_entry_new();

    if (e == NULL) {
        lev_error_nomem(err, "archive");
        return NULL;
    }
    archive_entry_set_pathname(e, name);
    archive_entry_set_mode(e, mode);
    archive_entry_set_uid(e, uid);
    archive_entry_set_gid(e, gid);
    return e;
}

int
lev_tar_write_header(struct lev_tar *tar, struct archive_entry *e,
                     struct lev_error *err)
{
    /* A warning means that something of the entry was left out. */
    return archive_write_header(tar->out, e) == ARCHIVE_OK ? 0
                                                           : broken(tar, err);
}

int
lev_tar_write_data(struct lev_tar *tar, const void *data, size_t len,
                   struct lev_error *err)
{
    la_ssize_t n = archive_write_data(tar->out, data, len);

    return n >= 0 && (size_t)n == len ? 0 : broken(tar, err);
}

static int
add_simple(struct lev_tar *tar, const char *target, mode_t type,
           const void *data, size_t len, const struct lev_tar_meta *meta,
           struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0};
    _cleanup_entry_ struct archive_entry *e = NULL;

    if (lev_tar_entry_name(target, &name, err) < 0) {
        return -1;
    }
    if (name.len == 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "'%s' names the container's root", target);
    }
    e = lev_tar_entry_new(name.data, type | (meta->mode & 07777), meta->uid,
                          meta->gid, err);
    if (e == NULL) {
        return -1;
    }
    archive_entry_set_mtime(e, meta->mtime, 0);
    archive_entry_set_size(e, (la_int64_t)len);
    if (lev_tar_write_header(tar, e, err) < 0) {
        return -1;
    }
    return len == 0 ? 0 : lev_tar_write_data(tar, data, len, err);
}

int
lev_tar_add_bytes(struct lev_tar *tar, const char *target, const void *data,
                  size_t len, const struct lev_tar_meta *meta,
                  struct lev_error *err)
{
    size_t n = strlen(target);

    if (n > 0 && target[n - 1] == '/') {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "'%s': the path of a file does not end with '/'",
                             target);
    }
    return add_simple(tar, target, S_IFREG, data, len, meta, err);
}

int
lev_tar_add_dir(struct lev_tar *tar, const char *target,
                const struct lev_tar_meta *meta, struct lev_error *err)
{
    return add_simple(tar, target, S_IFDIR, NULL, 0, meta, err);
}

int
lev_tar_finish(struct lev_tar *tar, int *fd, uint64_t *size,
               struct lev_error *err)
{
    struct stat st;

    if (archive_write_close(tar->out) != ARCHIVE_OK) {
        return broken(tar, err);
    }
    if (fstat(tar->fd, &st) < 0) {
        return lev_error_errno(err, "archive");
    }
    *fd = lev_steal_fd(&tar->fd);
    *size = (uint64_t)st.st_size;
    return 0;
}

static void
reader_freep(struct archive **a)
{
    archive_read_free(*a);
}

static int
no_archive(struct archive *in, struct lev_error *err)
{
    const char *text = archive_error_string(in);

    return lev_error_set(err, LEV_E_ENGINE, 0, "the archive is broken: %s",
                         text != NULL ? text : "it is cut off");
}

static int
read_content(struct archive *in, size_t limit, struct lev_buf *out,
             struct lev_error *err)
{
    size_t got = 0;

    for (;;) {
        char *to = lev_buf_reserve(out, CHUNK);
        la_ssize_t n;

        if (to == NULL) {
            return lev_error_nomem(err, "content of an archive");
        }
        n = archive_read_data(in, to, CHUNK);
        if (n < 0) {
            return no_archive(in, err);
        }
        if (n == 0) {
            return 0;
        }
        got += (size_t)n;
        if (got > limit) {
            return lev_error_set(err, LEV_E_ENGINE, 0,
                                 "the file in the archive is larger than %zu "
                                 "bytes",
                                 limit);
        }
        out->len += (size_t)n;
        out->data[out->len] = '\0';
    }
}

int
lev_tar_read_file(const void *archive, size_t len, size_t limit,
                  struct lev_buf *out, struct lev_error *err)
{
    _cleanup_(reader_freep) struct archive *in = archive_read_new();
    struct archive_entry *e;
    int rc;

    if (in == NULL) {
        return lev_error_nomem(err, "archive");
    }
    archive_read_support_format_tar(in);
    rc = archive_read_open_memory(in, archive, len);
    while (rc == ARCHIVE_OK || rc == ARCHIVE_WARN) {
        rc = archive_read_next_header(in, &e);
        if ((rc == ARCHIVE_OK || rc == ARCHIVE_WARN) &&
            archive_entry_filetype(e) == AE_IFREG &&
            archive_entry_hardlink(e) == NULL)
        {
            return read_content(in, limit, out, err);
        }
    }
    return rc == ARCHIVE_EOF
               ? lev_error_set(err, LEV_E_ENGINE, 0,
                               "the archive holds no regular file")
               : no_archive(in, err);
}
