#include "tar_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (64u * 1024)
/* Each level of a tree holds a descriptor while its children are added. */
#define MAX_DEPTH 256

/* One lev_tar_add_path(). */
struct walk {
    struct lev_tar *tar;
    const struct lev_scope *scope;
    uid_t uid;
    gid_t gid;
    void *links;          /* tsearch() tree of struct link */
    struct lev_buf name;  /* in the archive */
    struct lev_buf local; /* for messages */
    unsigned depth;
    char chunk[CHUNK];
};

/* The first name of a file that has several. */
struct link {
    dev_t dev;
    ino_t ino;
    char name[];
};

static int
local_errno(const struct walk *w, const char *verb, struct lev_error *err)
{
    return lev_error_errno(err, "%s '%s'", verb, lev_buf_text(&w->local));
}

static int
compare_links(const void *a, const void *b)
{
    const struct link *x = a, *y = b;

    if (x->dev != y->dev) {
        return x->dev < y->dev ? -1 : 1;
    }
    return x->ino == y->ino ? 0 : x->ino < y->ino ? -1 : 1;
}

/* `*first` becomes the name under which the file is in the archive already, or
 * NULL when this is its first name. */
static int
find_link(struct walk *w, const struct stat *st, const char **first,
          struct lev_error *err)
{
    _cleanup_free_ struct link *link = NULL;
    struct link **found;

    *first = NULL;
    if (st->st_nlink < 2) {
        return 0;
    }
    link = calloc(1, sizeof(*link) + w->name.len + 1);
    if (link == NULL) {
        return lev_error_nomem(err, "hard links");
    }
    link->dev = st->st_dev;
    link->ino = st->st_ino;
    memcpy(link->name, w->name.data, w->name.len + 1);
    found = tsearch(link, &w->links, compare_links);
    if (found == NULL) {
        return lev_error_nomem(err, "hard links");
    }
    if (*found != link) {
        *first = (*found)->name;
        return 0;
    }
    (void)lev_steal(link); /* the tree's */
    return 0;
}

/* Tells the entry where the file's data are, when there are holes in it. */
static void
find_holes(int fd, const struct stat *st, struct archive_entry *e)
{
    off_t data = lseek(fd, 0, SEEK_DATA);

    if (st->st_blocks * 512 >= st->st_size || (data < 0 && errno != ENXIO))
    { /* the file system knows no holes */
        return;
    }
    if (data < 0) {
        archive_entry_sparse_add_entry(e, 0, 0); /* nothing but a hole */
    }
    while (data >= 0 && data < st->st_size) {
        off_t hole = lseek(fd, data, SEEK_HOLE);

        if (hole < 0 || hole > st->st_size) {
            hole = st->st_size;
        }
        archive_entry_sparse_add_entry(e, data, hole - data);
        data = lseek(fd, hole, SEEK_DATA);
    }
}

/* Bytes of the hole that begins at `at`; 0 where there are data. */
static off_t
hole_at(int fd, off_t at, off_t size)
{
    off_t data = lseek(fd, at, SEEK_DATA);

    if (data < 0) {
        return errno == ENXIO ? size - at : 0;
    }
    return (data < size ? data : size) - at;
}

static int
shorter(const struct walk *w, off_t at, off_t size, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_OS, EIO,
                         "'%s' became shorter while it was read: %lld of %lld "
                         "bytes are there",
                         w->local.data, (long long)at, (long long)size);
}

/* At most a chunk from `at` on, how many bytes it was. libarchive wants holes
 * as zeros, which it drops. */
static ssize_t
copy_chunk(struct walk *w, int fd, off_t at, off_t size, struct lev_error *err)
{
    static const char zeros[CHUNK];
    size_t want =
        size - at < (off_t)CHUNK ? (size_t)(size - at) : (size_t)CHUNK;
    off_t hole = hole_at(fd, at, size);
    ssize_t n;

    if (lev_scope_check(w->scope, err) < 0) {
        return -1;
    }
    if (hole > 0) {
        n = (off_t)want < hole ? (ssize_t)want : (ssize_t)hole;
        return lev_tar_write_data(w->tar, zeros, (size_t)n, err) < 0 ? -1 : n;
    }
    do {
        n = pread(fd, w->chunk, want, at);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return local_errno(w, "read", err);
    }
    if (n == 0) {
        return shorter(w, at, size, err);
    }
    return lev_tar_write_data(w->tar, w->chunk, (size_t)n, err) < 0 ? -1 : n;
}

static int
copy_content(struct walk *w, int fd, off_t size, struct lev_error *err)
{
    struct stat st;

    for (off_t at = 0; at < size;) {
        ssize_t n = copy_chunk(w, fd, at, size, err);

        if (n < 0) {
            return -1;
        }
        at += n;
    }
    /* What was cut off meanwhile looked like a hole at the end. */
    if (fstat(fd, &st) < 0) {
        return local_errno(w, "read", err);
    }
    return st.st_size < size ? shorter(w, st.st_size, size, err) : 0;
}

static struct archive_entry *
entry_of(const struct walk *w, const struct stat *st, struct lev_error *err)
{
    struct archive_entry *e =
        lev_tar_entry_new(w->name.data, st->st_mode, w->uid, w->gid, err);

    if (e != NULL) {
        archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    }
    return e;
}

static int
add_file(struct walk *w, int fd, const struct stat *st, struct lev_error *err)
{
    _cleanup_entry_ struct archive_entry *e = entry_of(w, st, err);
    const char *first;

    if (e == NULL || find_link(w, st, &first, err) < 0) {
        return -1;
    }
    if (first != NULL) {
        archive_entry_set_hardlink(e, first);
        return lev_tar_write_header(w->tar, e, err);
    }
    archive_entry_set_size(e, st->st_size);
    find_holes(fd, st, e);
    if (lev_tar_write_header(w->tar, e, err) < 0) {
        return -1;
    }
    return copy_content(w, fd, st->st_size, err);
}

static int
add_symlink(struct walk *w, int dir, const char *name, const struct stat *st,
            struct lev_error *err)
{
    _cleanup_entry_ struct archive_entry *e = entry_of(w, st, err);
    char to[4096];
    ssize_t n;

    if (e == NULL) {
        return -1;
    }
    n = readlinkat(dir, name, to, sizeof(to));
    if (n < 0 || (size_t)n == sizeof(to)) {
        errno = n < 0 ? errno : ENAMETOOLONG;
        return local_errno(w, "read the link", err);
    }
    to[n] = '\0';
    archive_entry_set_symlink(e, to);
    return lev_tar_write_header(w->tar, e, err);
}

static void
closedirp(DIR **d)
{
    if (*d != NULL) {
        closedir(*d);
    }
}

struct names {
    char **names;
    size_t len, cap;
};

static void
names_deinit(struct names *n)
{
    for (size_t i = 0; i < n->len; i++) {
        free(n->names[i]);
    }
    free(n->names);
}

static int
names_add(struct names *n, const char *name)
{
    if (n->len == n->cap) {
        size_t cap = n->cap == 0 ? 32 : n->cap * 2;
        char **grown = realloc(n->names, cap * sizeof(*grown));

        if (grown == NULL) {
            return -1;
        }
        n->names = grown;
        n->cap = cap;
    }
    n->names[n->len] = strdup(name);
    if (n->names[n->len] == NULL) {
        return -1;
    }
    n->len++;
    return 0;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted: the same tree makes the same archive. */
static int
read_names(struct walk *w, DIR *dir, struct names *out, struct lev_error *err)
{
    struct dirent *d;

    while ((void)(errno = 0), (d = readdir(dir)) != NULL) {
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
            names_add(out, d->d_name) < 0)
        {
            return lev_error_nomem(err, "names of a directory");
        }
    }
    if (errno != 0) {
        return local_errno(w, "read the directory", err);
    }
    if (out->len > 0) {
        qsort(out->names, out->len, sizeof(*out->names), compare_names);
    }
    return 0;
}

static int add_child(struct walk *w, int dir, const char *name,
                     struct lev_error *err);

static int
add_children(struct walk *w, int *fd, struct lev_error *err)
{
    _cleanup_(closedirp) DIR *dir = fdopendir(*fd);
    _cleanup_(names_deinit) struct names names = {0};

    if (dir == NULL) {
        return local_errno(w, "open", err);
    }
    lev_steal_fd(fd); /* the DIR's */
    if (read_names(w, dir, &names, err) < 0) {
        return -1;
    }
    if (w->depth == MAX_DEPTH) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "directories deeper than %d levels are not "
                             "taken: '%s'",
                             MAX_DEPTH, w->local.data);
    }
    w->depth++;
    for (size_t i = 0; i < names.len; i++) {
        if (add_child(w, dirfd(dir), names.names[i], err) < 0) {
            return -1;
        }
    }
    w->depth--;
    return 0;
}

static int
add_directory(struct walk *w, int *fd, const struct stat *st,
              struct lev_error *err)
{
    _cleanup_entry_ struct archive_entry *e = NULL;

    if (w->name.len > 0) { /* the container's root is there already */
        e = entry_of(w, st, err);
        if (e == NULL || lev_tar_write_header(w->tar, e, err) < 0) {
            return -1;
        }
    }
    return add_children(w, fd, err);
}

static int
refuse(const struct walk *w, mode_t mode, struct lev_error *err)
{
    const char *kind = S_ISSOCK(mode)                   ? "a socket"
                       : S_ISFIFO(mode)                 ? "a fifo"
                       : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                                                        : "of an unknown type";

    return lev_error_set(err, LEV_E_INVALID, 0,
                         "'%s' is %s: only files, directories and symbolic "
                         "links can be put into a container",
                         w->local.data, kind);
}

/* `flags`: O_NOFOLLOW below the top. What lstat() said may have changed
 * meanwhile, so the type is decided by the descriptor; O_NONBLOCK: a fifo
 * that took the file's place must not hold us. */
static int
add_opened(struct walk *w, int dir, const char *name, int flags,
           struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return local_errno(w, "open", err);
    }
    if (S_ISREG(st.st_mode)) {
        return add_file(w, fd, &st, err);
    }
    return S_ISDIR(st.st_mode) ? add_directory(w, &fd, &st, err)
                               : refuse(w, st.st_mode, err);
}

static int
add_node(struct walk *w, int dir, const char *name, bool follow,
         struct lev_error *err)
{
    struct stat st;

    if (fstatat(dir, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
        return local_errno(w, "read", err);
    }
    if (S_ISLNK(st.st_mode)) {
        return add_symlink(w, dir, name, &st, err);
    }
    /* Opening a socket fails and opening a device may do something. */
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return refuse(w, st.st_mode, err);
    }
    return add_opened(w, dir, name, follow ? 0 : O_NOFOLLOW, err);
}

static void
cut(struct lev_buf *b, size_t len)
{
    b->len = len;
    b->data[len] = '\0';
}

static int
add_child(struct walk *w, int dir, const char *name, struct lev_error *err)
{
    size_t name_len = w->name.len, local_len = w->local.len;

    if (name_len > 0) {
        lev_buf_putc(&w->name, '/');
    }
    lev_buf_puts(&w->name, name);
    lev_buf_printf(&w->local, "/%s", name);
    if (lev_buf_check(&w->name, "name of a file", err) < 0 ||
        lev_buf_check(&w->local, "name of a file", err) < 0 ||
        add_node(w, dir, name, false, err) < 0)
    {
        return -1;
    }
    cut(&w->name, name_len);
    cut(&w->local, local_len);
    return 0;
}

static void
walk_freep(struct walk **w)
{
    if (*w == NULL) {
        return;
    }
    tdestroy((*w)->links, free);
    lev_buf_deinit(&(*w)->name);
    lev_buf_deinit(&(*w)->local);
    free(*w);
}

int
lev_tar_add_path(struct lev_tar *tar, const struct lev_scope *scope,
                 const char *target, const char *local, uid_t uid, gid_t gid,
                 struct lev_error *err)
{
    _cleanup_(walk_freep) struct walk *w = calloc(1, sizeof(*w));
    struct stat st;

    if (w == NULL) {
        return lev_error_nomem(err, "archive");
    }
    w->tar = tar;
    w->scope = scope;
    w->uid = uid;
    w->gid = gid;
    lev_buf_puts(&w->local, local);
    lev_buf_append(&w->name, "", 0);
    if (lev_buf_check(&w->local, "name of a file", err) < 0 ||
        lev_tar_entry_name(target, &w->name, err) < 0)
    {
        return -1;
    }
    if (w->name.len == 0 && stat(local, &st) == 0 && !S_ISDIR(st.st_mode)) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "'%s' names the container's root, '%s' is no "
                             "directory",
                             target, local);
    }
    return add_node(w, AT_FDCWD, local, true, err);
}
