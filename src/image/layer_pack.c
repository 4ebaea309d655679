/* layer_pack.c - an overlay's upper directory as a layer.
 *
 * What was changed by a container is as little trusted as a layer: names are
 * opened one by one below their directory and never followed. The order is
 * that of the names, so that the same content gives the same digest.
 */

#include "layer_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#define CHUNK (128u * 1024)
#define XATTRS_MAX 65536

struct link {
    dev_t dev;
    ino_t ino;
    char *path;
};

struct packer {
    const struct lev_scope *scope;
    struct archive *out;
    int fd;
    struct lev_sha256 hash;
    struct lev_buf path;    /* of the entry at hand */
    struct lev_buf pending; /* written, but not out */
    struct link *links;     /* files with several names, open hashing */
    size_t links_n, links_cap;
    char *chunk;
    struct lev_layer_result result;
    bool failed; /* then `err` says why */
    struct lev_error err;
    bool abandoned; /* libarchive ends what was begun: not to be written */
};

/* What is written goes out in chunks. The buffer is ours: libarchive's own is
 * lost when the last write fails. */
static int
flush_out(struct packer *p)
{
    size_t at = 0;

    while (at < p->pending.len) {
        ssize_t n = write(p->fd, p->pending.data + at, p->pending.len - at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            p->failed = true;
            return lev_error_errno(&p->err, "layer: write the archive");
        }
        at += (size_t)n;
    }
    lev_sha256_update(&p->hash, p->pending.data, p->pending.len);
    p->result.size += p->pending.len;
    lev_buf_clear(&p->pending);
    return 0;
}

static la_ssize_t
write_out(struct archive *a, void *ctx, const void *data, size_t len)
{
    struct packer *p = ctx;

    if (p->abandoned) {
        return -1;
    }
    lev_buf_append(&p->pending, data, len);
    if (p->pending.failed) {
        archive_set_error(a, ENOMEM, "out of memory");
        return -1;
    }
    if (p->pending.len >= CHUNK && flush_out(p) < 0) {
        archive_set_error(a, EIO, "write");
        return -1;
    }
    return (la_ssize_t)len;
}

static int
broken(struct packer *p, struct lev_error *err)
{
    const char *text = archive_error_string(p->out);

    if (p->failed) {
        *err = p->err;
        return -1;
    }
    return archive_errno(p->out) == ENOMEM
               ? lev_error_nomem(err, "layer")
               : lev_error_set(err, LEV_E_IMAGE, 0, "layer: '%.200s': %s",
                               lev_buf_text(&p->path),
                               text == NULL ? "cannot be written" : text);
}

/* --- files with several names ---------------------------------------------
 */

static size_t
slot_of(const struct packer *p, const struct stat *st)
{
    size_t i = (st->st_ino * 0x9e3779b97f4a7c15u) & (p->links_cap - 1);

    while (p->links[i].path != NULL &&
           (p->links[i].ino != st->st_ino || p->links[i].dev != st->st_dev))
    {
        i = (i + 1) & (p->links_cap - 1);
    }
    return i;
}

static int
grow_links(struct packer *p, struct lev_error *err)
{
    struct link *old = p->links;
    size_t n = p->links_cap;

    p->links_cap = n == 0 ? 256 : n * 2;
    p->links = calloc(p->links_cap, sizeof(*p->links));
    if (p->links == NULL) {
        p->links = old;
        p->links_cap = n;
        return lev_error_nomem(err, "layer");
    }
    for (size_t i = 0; i < n; i++) {
        if (old[i].path != NULL) {
            struct stat st = {.st_dev = old[i].dev, .st_ino = old[i].ino};

            p->links[slot_of(p, &st)] = old[i];
        }
    }
    free(old);
    return 0;
}

/* The name that a file got before, in `*first`; NULL for the first. */
static int
find_link(struct packer *p, const struct stat *st, const char **first,
          struct lev_error *err)
{
    struct link *l;

    *first = NULL;
    if (p->links_n * 2 >= p->links_cap && grow_links(p, err) < 0) {
        return -1;
    }
    l = &p->links[slot_of(p, st)];
    if (l->path != NULL) {
        *first = l->path;
        return 0;
    }
    *l = (struct link){st->st_dev, st->st_ino, strdup(p->path.data)};
    p->links_n++;
    return l->path == NULL ? lev_error_nomem(err, "layer") : 0;
}

/* --- one entry
 * ----------------------------------------------------------------- */

static void
entry_freep(struct archive_entry **e)
{
    archive_entry_free(*e);
}
#define _cleanup_entry_ _cleanup_(entry_freep)

static struct archive_entry *
entry_new(const struct packer *p, const struct stat *st, struct lev_error *err)
{
    struct archive_entry *e = archive_entry_new();

    if (e == NULL) {
        lev_error_nomem(err, "layer");
        return NULL;
    }
    archive_entry_copy_stat(e, st);
    /* Times of access and change would make each packing another one. */
    archive_entry_unset_atime(e);
    archive_entry_unset_ctime(e);
    archive_entry_unset_birthtime(e);
    archive_entry_set_pathname(e, p->path.data);
    return e;
}

static int
write_header(struct packer *p, struct archive_entry *e, struct lev_error *err)
{
    p->result.entries++;
    if (lev_scope_check(p->scope, err) < 0) {
        return -1;
    }
    /* A warning tells that something was left out. */
    return archive_write_header(p->out, e) == ARCHIVE_OK ? 0 : broken(p, err);
}

static int
failed(struct packer *p, const char *what, struct lev_error *err)
{
    return lev_error_errno(err, "layer: '%.200s': %s", p->path.data, what);
}

/* An attribute of overlayfs that says where something lies: there is no such
 * thing in a layer. */
static int
refuse_xattr(struct packer *p, const char *name, struct lev_error *err)
{
    const char *dot = strrchr(name, '.');

    return strcmp(dot, ".redirect") != 0 && strcmp(dot, ".metacopy") != 0
               ? 0
               : lev_error_set(err, LEV_E_IMAGE, 0,
                               "layer: '%.200s' has %s; mount overlays with "
                               "redirect_dir=off,metacopy=off",
                               p->path.data, name);
}

static int
add_xattr(struct packer *p, const char *file, const char *name,
          struct archive_entry *e, struct lev_error *err)
{
    _cleanup_free_ char *value = NULL;
    ssize_t n;

    if (!lev_layer_wanted_xattr(name)) {
        return strstr(name, ".overlay.") != NULL ? refuse_xattr(p, name, err)
                                                 : 0;
    }
    value = malloc(XATTRS_MAX);
    if (value == NULL) {
        return lev_error_nomem(err, "layer");
    }
    n = lgetxattr(file, name, value, XATTRS_MAX);
    if (n < 0) {
        return failed(p, name, err);
    }
    archive_entry_xattr_add_entry(e, name, value, (size_t)n);
    return 0;
}

static int
add_xattrs(struct packer *p, int at, const char *name, struct archive_entry *e,
           struct lev_error *err)
{
    _cleanup_free_ char *names = NULL;
    char file[300];
    ssize_t n;

    snprintf(file, sizeof(file), "/proc/self/fd/%d/%s", at, name);
    n = llistxattr(file, NULL, 0);
    if (n <= 0) {
        return n == 0 || errno == ENOTSUP ? 0 : failed(p, "attributes", err);
    }
    names = malloc(XATTRS_MAX);
    if (names == NULL) {
        return lev_error_nomem(err, "layer");
    }
    n = llistxattr(file, names, XATTRS_MAX);
    if (n < 0) {
        return failed(p, "attributes", err);
    }
    for (const char *key = names; key < names + n; key += strlen(key) + 1) {
        if (add_xattr(p, file, key, e, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool
is_opaque(int at, const char *name)
{
    char file[300], v[4];

    snprintf(file, sizeof(file), "/proc/self/fd/%d/%s", at, name);
    return (lgetxattr(file, "trusted.overlay.opaque", v, sizeof(v)) == 1 ||
            lgetxattr(file, "user.overlay.opaque", v, sizeof(v)) == 1) &&
           v[0] == 'y';
}

/* An empty file that stands for what is not there. */
static int
write_mark(struct packer *p, size_t dir_len, const char *prefix,
           const char *name, struct lev_error *err)
{
    struct stat st = {.st_mode = S_IFREG | 0600};
    _cleanup_entry_ struct archive_entry *e = NULL;

    p->path.len = dir_len;
    lev_buf_printf(&p->path, "%s%s%s", dir_len > 0 ? "/" : "", prefix, name);
    if (lev_buf_check(&p->path, "path", err) < 0) {
        return -1;
    }
    e = entry_new(p, &st, err);
    return e == NULL ? -1 : write_header(p, e, err);
}

/* --- content
 * --------------------------------------------------------------------- */

/* Where a file has data; libarchive leaves the rest out. */
static int
add_holes(struct packer *p, int fd, const struct stat *st,
          struct archive_entry *e, struct lev_error *err)
{
    off_t at = 0, end;

    if (st->st_blocks * 512 >= st->st_size) {
        return 0;
    }
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        end = lseek(fd, at, SEEK_HOLE);
        if (end < 0) {
            return failed(p, "read", err);
        }
        archive_entry_sparse_add_entry(e, at, end - at);
        at = end;
    }
    if (errno != ENXIO) {
        return failed(p, "read", err);
    }
    if (archive_entry_sparse_count(e) == 0) {
        archive_entry_sparse_add_entry(e, st->st_size, 0);
    }
    return 0;
}

/* How much of a hole begins at `off`: zeros that need not be read. */
static int64_t
hole_at(int fd, int64_t off, int64_t size)
{
    off_t data = lseek(fd, off, SEEK_DATA);

    if (data < 0) {
        return errno == ENXIO ? size - off : 0;
    }
    return data - off;
}

/* libarchive counts the bytes of holes, and drops them. */
static int
write_zeros(struct packer *p, int64_t len, struct lev_error *err)
{
    static const char zeros[CHUNK];

    while (len > 0) {
        size_t n = len < (int64_t)CHUNK ? (size_t)len : CHUNK;

        if (archive_write_data(p->out, zeros, n) != (la_ssize_t)n) {
            return broken(p, err);
        }
        len -= (int64_t)n;
    }
    return 0;
}

static int
write_content(struct packer *p, int fd, const struct stat *st,
              struct lev_error *err)
{
    bool holes = st->st_blocks * 512 < st->st_size;
    int64_t off = 0, size = st->st_size;

    while (off < size) {
        int64_t hole = holes ? hole_at(fd, off, size) : 0;
        ssize_t n;

        if (write_zeros(p, hole, err) < 0 ||
            lev_scope_check(p->scope, err) < 0) {
            return -1;
        }
        off += hole;
        n = pread(fd, p->chunk,
                  size - off < (int64_t)CHUNK ? (size_t)(size - off) : CHUNK,
                  off);
        if ((n < 0 && errno == EINTR) || (n == 0 && off == size)) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return failed(p, n == 0 ? "it became shorter" : "read", err);
        }
        if (archive_write_data(p->out, p->chunk, (size_t)n) != n) {
            return broken(p, err);
        }
        off += n;
    }
    p->result.bytes += (uint64_t)size;
    return 0;
}

static int
write_file(struct packer *p, int at, const char *name, const struct stat *st,
           struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_entry_ struct archive_entry *e = entry_new(p, st, err);

    if (e == NULL) {
        return -1;
    }
    if (fd < 0) {
        return failed(p, "open", err);
    }
    return add_xattrs(p, at, name, e, err) < 0 ||
                   add_holes(p, fd, st, e, err) < 0 ||
                   write_header(p, e, err) < 0
               ? -1
               : write_content(p, fd, st, err);
}

static int
write_other(struct packer *p, int at, const char *name, const struct stat *st,
            struct lev_error *err)
{
    _cleanup_entry_ struct archive_entry *e = entry_new(p, st, err);
    char target[4097];
    ssize_t n;

    if (e == NULL) {
        return -1;
    }
    archive_entry_set_size(e, 0);
    if (S_ISLNK(st->st_mode)) {
        n = readlinkat(at, name, target, sizeof(target) - 1);
        if (n < 0) {
            return failed(p, "read the link", err);
        }
        target[n] = '\0';
        archive_entry_set_symlink(e, target);
    }
    return add_xattrs(p, at, name, e, err) < 0 ? -1 : write_header(p, e, err);
}

/* --- directories
 * -------------------------------------------------------------------- */

static int pack_dir(struct packer *p, int fd, struct lev_error *err);

static int
pack_sub(struct packer *p, int at, const char *name, const struct stat *st,
         struct lev_error *err)
{
    size_t len = p->path.len;
    int fd;

    if (write_other(p, at, name, st, err) < 0) {
        return -1;
    }
    if (is_opaque(at, name) && write_mark(p, len, ".wh..wh..opq", "", err) < 0)
    {
        return -1;
    }
    p->path.len = len;
    p->path.data[len] = '\0';
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? failed(p, "open", err) : pack_dir(p, fd, err);
}

/* 1 when it has been written under another name, and is a link to it now. */
static int
pack_link(struct packer *p, const struct stat *st, struct lev_error *err)
{
    _cleanup_entry_ struct archive_entry *e = NULL;
    const char *first;

    if (S_ISDIR(st->st_mode) || st->st_nlink < 2) {
        return 0;
    }
    if (find_link(p, st, &first, err) < 0) {
        return -1;
    }
    if (first == NULL) {
        return 0;
    }
    e = entry_new(p, st, err);
    if (e == NULL) {
        return -1;
    }
    archive_entry_set_hardlink(e, first);
    archive_entry_set_size(e, 0);
    return write_header(p, e, err) < 0 ? -1 : 1;
}

static int
pack_one(struct packer *p, int at, const char *name, struct lev_error *err)
{
    size_t len = p->path.len;
    struct stat st;
    int rc;

    lev_buf_printf(&p->path, "%s%s", len > 0 ? "/" : "", name);
    if (lev_buf_check(&p->path, "path", err) < 0) {
        return -1;
    }
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return failed(p, "look at it", err);
    }
    if (lev_layer_is_whiteout(&st)) {
        return write_mark(p, len, ".wh.", name, err);
    }
    rc = pack_link(p, &st, err);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
        return pack_sub(p, at, name, &st, err);
    case S_IFREG:
        return write_file(p, at, name, &st, err);
    case S_IFSOCK:
        return 0; /* tar has none, and nobody listens any more */
    default:
        return write_other(p, at, name, &st, err);
    }
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int
no_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

/* Takes `fd`. */
static int
pack_dir(struct packer *p, int fd, struct lev_error *err)
{
    _cleanup_close_ int own = fd;
    size_t len = p->path.len;
    struct dirent **names;
    int n = scandirat(fd, ".", &names, no_dots, by_name), rc = 0;

    if (n < 0) {
        return lev_error_errno(err, "layer: list '%.200s'",
                               lev_buf_text(&p->path));
    }
    for (int i = 0; i < n; i++) {
        if (rc == 0) {
            rc = pack_one(p, fd, names[i]->d_name, err);
            p->path.len = len;
            p->path.data[len] = '\0';
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int
open_out(struct packer *p, struct lev_error *err)
{
    p->chunk = malloc(CHUNK);
    p->out = archive_write_new();
    if (p->chunk == NULL || p->out == NULL) {
        return lev_error_nomem(err, "layer");
    }
    /* "BINARY": names are bytes, whatever the locale is. */
    if (archive_write_set_format_pax_restricted(p->out) != ARCHIVE_OK ||
        archive_write_set_options(p->out, "hdrcharset=BINARY") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(p->out, 0) != ARCHIVE_OK ||
        archive_write_open(p->out, p, NULL, write_out, NULL) != ARCHIVE_OK)
    {
        return broken(p, err);
    }
    return 0;
}

static int
pack(struct packer *p, int dirfd, struct lev_error *err)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return lev_error_errno(err, "layer: open its directory");
    }
    if (open_out(p, err) < 0) {
        close(fd);
        return -1;
    }
    if (pack_dir(p, fd, err) < 0) {
        return -1;
    }
    return archive_write_close(p->out) == ARCHIVE_OK && flush_out(p) == 0
               ? 0
               : broken(p, err);
}

static void
packer_deinit(struct packer *p)
{
    p->abandoned = true;
    archive_write_free(p->out);
    for (size_t i = 0; i < p->links_cap; i++) {
        free(p->links[i].path);
    }
    free(p->links);
    free(p->chunk);
    lev_buf_deinit(&p->path);
    lev_buf_deinit(&p->pending);
}

int
lev_layer_pack(const struct lev_scope *scope, int dirfd, int fd,
               struct lev_layer_result *result, struct lev_error *err)
{
    _cleanup_(packer_deinit) struct packer p = {.scope = scope, .fd = fd};

    lev_sha256_init(&p.hash);
    lev_buf_append(&p.path, "", 0);
    if (lev_buf_check(&p.path, "layer", err) < 0 || pack(&p, dirfd, err) < 0) {
        return -1;
    }
    memcpy(p.result.digest, "sha256:", 7);
    lev_sha256_hex(&p.hash, p.result.digest + 7);
    memcpy(p.result.diff_id, p.result.digest, sizeof(p.result.diff_id));
    *result = p.result;
    return 0;
}
