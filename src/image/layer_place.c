/* layer_place.c - directories below the destination.
 *
 * Every path is resolved by the kernel with the destination as its root
 * (RESOLVE_IN_ROOT), as a container engine that unpacks inside a chroot would:
 * a link of the layer is followed, and where it points out of the layer it
 * ends inside. What was resolved is held as a descriptor, and the last part of
 * a path is only ever used without following it. Modes and times of
 * directories wait to the end: a directory that may not be written to must be
 * filled first, and filling it changes its time.
 */

#include "layer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "tree.h"

#define PATH_LIMIT 4095
#define ARENA_LIMIT (256u * 1024 * 1024)

/* A name that is no text would garble a terminal or a log. */
static void
printable(const char *name, char out[200])
{
    size_t len = strlen(name), n = len < 160 ? len : 160;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];

        out[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    /* Not in the middle of a character. */
    while (n < len && n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80) {
        n--;
    }
    strcpy(out + n, n < len ? "…" : "");
}

int
lev_layer_error(struct lev_error *err, enum lev_errcode code, int detail,
                const char *name, const char *fmt, ...)
{
    char shown[200], text[400];
    va_list args;

    printable(name, shown);
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return lev_error_set(err, code, detail, "layer: entry '%s': %s", shown,
                         text);
}

int
lev_layer_errno(struct lev_error *err, const char *name, const char *what)
{
    int number = errno;
    char text[96];
    /* These come of what the archive says, the others of this machine. */
    bool archive = number == ENOTDIR || number == ELOOP ||
                   number == ENAMETOOLONG || number == ENOENT ||
                   number == EXDEV || number == EMLINK;

    return lev_layer_error(err, archive ? LEV_E_IMAGE : LEV_E_OS, number, name,
                           "%s: %s", what,
                           strerror_r(number, text, sizeof(text)));
}

void
lev_layer_place_init(struct lev_layer_place *p, int root,
                     const struct lev_layer_options *options)
{
    *p = (struct lev_layer_place){
        .options = options, .root = root, .parent = -1};
}

void
lev_layer_place_deinit(struct lev_layer_place *p)
{
    lev_closep(&p->parent);
    lev_buf_deinit(&p->parent_path);
    lev_buf_deinit(&p->arena);
    free(p->late);
}

int
lev_layer_path(const char *name, struct lev_buf *path, struct lev_error *err)
{
    lev_buf_clear(path);
    for (const char *p = name; *p != '\0';) {
        size_t len = strcspn(p, "/");

        if (len == 2 && memcmp(p, "..", 2) == 0) {
            return lev_layer_error(err, LEV_E_IMAGE, 0, name,
                                   "its path has '..' in it");
        }
        if (len > 255 || path->len + len >= PATH_LIMIT) {
            return lev_layer_error(err, LEV_E_IMAGE, 0, name,
                                   "its name is too long");
        }
        if (len > 0 && !(len == 1 && *p == '.')) {
            if (path->len > 0) {
                lev_buf_putc(path, '/');
            }
            lev_buf_append(path, p, len);
        }
        p += len + (p[len] == '/');
    }
    lev_buf_append(path, "", 0);
    return lev_buf_check(path, "name of a file", err);
}

bool
lev_layer_is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int
open_dir(const struct lev_layer_place *p, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
                                      RESOLVE_NO_XDEV};
    int fd, tries = 0;

    /* EAGAIN: something was renamed on this machine while ".." of a link was
     * walked. */
    do {
        fd = (int)syscall(SYS_openat2, p->root, *path == '\0' ? "." : path,
                          &how, sizeof(how));
    } while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++tries < 1000);
    return fd;
}

static void
forget_parent(struct lev_layer_place *p)
{
    lev_closep(&p->parent);
}

int
lev_layer_place_count(struct lev_layer_place *p, struct lev_error *err)
{
    if (++p->entries > p->options->max_entries) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "layer: it has more than %llu entries; a limit "
                             "against bombs",
                             (unsigned long long)p->options->max_entries);
    }
    return 0;
}

int
lev_layer_place_remove(struct lev_layer_place *p, int parent, const char *name,
                       struct lev_error *err)
{
    /* A removed directory may be the parent that is remembered, or a link on
     * the way to it. */
    if (unlinkat(parent, name, 0) == 0) {
        forget_parent(p);
        return 0;
    }
    if (lev_tree_remove(parent, name, err) < 0) {
        return lev_error_wrap(err, "layer: replace an entry");
    }
    forget_parent(p);
    return 0;
}

int
lev_layer_place_opaque(struct lev_layer_place *p, int parent, const char *name,
                       struct lev_error *err)
{
    const char *xattr = p->options->user_xattrs ? "user.overlay.opaque"
                                                : "trusted.overlay.opaque";
    _cleanup_close_ int fd =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fsetxattr(fd, xattr, "y", 1, 0) < 0) {
        return lev_layer_errno(err, name, xattr);
    }
    return 0;
}

int
lev_layer_place_dir(struct lev_layer_place *p, int parent, const char *name,
                    struct lev_error *err)
{
    bool hidden;
    struct stat st;

    if (mkdirat(parent, name, 0700) == 0) {
        return 0;
    }
    if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    {
        return lev_layer_errno(err, name, "make the directory");
    }
    if (S_ISDIR(st.st_mode)) {
        return 0;
    }
    /* Hidden below and here again: nothing of the lower one may show. */
    hidden = lev_layer_is_whiteout(&st);
    if (unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0700) < 0) {
        return lev_layer_errno(err, name, "make the directory");
    }
    return hidden ? lev_layer_place_opaque(p, parent, name, err) : 0;
}

/* A directory that the archive uses but has no entry for. */
static int
make_implied(struct lev_layer_place *p, int parent, const char *name,
             const char *path, struct lev_error *err)
{
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !lev_layer_is_whiteout(&st))
    {
        return lev_layer_error(err, LEV_E_IMAGE, ENOTDIR, path,
                               S_ISLNK(st.st_mode)
                                   ? "it is used as a directory, but is a "
                                     "link that leads to none in this layer"
                                   : "it is used as a directory, but is none");
    }
    if (lev_layer_place_count(p, err) < 0 ||
        lev_layer_place_dir(p, parent, name, err) < 0)
    {
        return -1;
    }
    /* Whatever the umask is; just made, so no link. */
    if (fchmodat(parent, name, 0755, 0) < 0) {
        return lev_layer_errno(err, path, "mode");
    }
    return 0;
}

/* Part by part. `path` is cut at its slashes on the way. */
static int
make_parents(struct lev_layer_place *p, char *path, struct lev_error *err)
{
    _cleanup_close_ int at = open_dir(p, "");
    char *name = path;

    if (at < 0) {
        return lev_layer_errno(err, path, "open the layer's directory");
    }
    for (;;) {
        char *slash = strchr(name, '/');
        int next;

        if (slash != NULL) {
            *slash = '\0';
        }
        next = open_dir(p, path);
        if (next < 0 && (errno == ENOENT || errno == ENOTDIR)) {
            if (make_implied(p, at, name, path, err) < 0) {
                return -1;
            }
            next = open_dir(p, path);
        }
        if (next < 0) {
            return lev_layer_errno(err, path, "open the directory");
        }
        close(at);
        at = next;
        if (slash == NULL) {
            return lev_steal_fd(&at);
        }
        *slash = '/';
        name = slash + 1;
    }
}

static int
open_parent(struct lev_layer_place *p, const char *path, size_t len,
            struct lev_error *err)
{
    _cleanup_free_ char *dir = strndup(path, len);
    int fd;

    if (dir == NULL) {
        return lev_error_nomem(err, "layer");
    }
    fd = open_dir(p, dir);
    if (fd >= 0) {
        return fd;
    }
    return errno == ENOENT || errno == ENOTDIR
               ? make_parents(p, dir, err)
               : lev_layer_errno(err, dir, "open the directory");
}

static size_t
parent_len(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');

    *name = slash == NULL ? path : slash + 1;
    return slash == NULL ? 0 : (size_t)(slash - path);
}

int
lev_layer_place_parent(struct lev_layer_place *p, const char *path,
                       const char **name, struct lev_error *err)
{
    size_t len = parent_len(path, name);
    int fd;

    if (p->parent >= 0 && p->parent_path.len == len &&
        memcmp(p->parent_path.data, path, len) == 0)
    {
        return p->parent;
    }
    fd = open_parent(p, path, len, err);
    if (fd < 0) {
        return -1;
    }
    forget_parent(p);
    p->parent = fd;
    lev_buf_clear(&p->parent_path);
    lev_buf_append(&p->parent_path, path, len);
    return lev_buf_check(&p->parent_path, "path", err) < 0 ? -1 : fd;
}

int
lev_layer_place_find(struct lev_layer_place *p, const char *path,
                     const char **name, struct lev_error *err)
{
    size_t len = parent_len(path, name);
    _cleanup_free_ char *dir = strndup(path, len);
    int fd;

    if (dir == NULL) {
        return lev_error_nomem(err, "layer");
    }
    fd = open_dir(p, dir);
    return fd >= 0 ? fd : lev_layer_errno(err, path, "look for it");
}

int
lev_layer_place_late(struct lev_layer_place *p, const char *path, mode_t mode,
                     struct timespec mtime, struct lev_error *err)
{
    if (p->late_n == p->late_cap) {
        size_t cap = p->late_cap == 0 ? 64 : p->late_cap * 2;
        struct lev_late_dir *more = realloc(p->late, cap * sizeof(*more));

        if (more == NULL) {
            return lev_error_nomem(err, "layer");
        }
        p->late = more;
        p->late_cap = cap;
    }
    p->late[p->late_n++] = (struct lev_late_dir){
        .path = p->arena.len, .mode = mode, .mtime = mtime};
    lev_buf_append(&p->arena, path, strlen(path) + 1);
    if (p->arena.len > ARENA_LIMIT) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "layer: the names of its directories take more "
                             "than %u bytes; a limit against bombs",
                             ARENA_LIMIT);
    }
    return lev_buf_check(&p->arena, "names of directories", err);
}

/* Children before their parents; of several entries for one directory the
 * last one first. */
static int
compare_late(const void *a, const void *b, void *arena)
{
    const struct lev_late_dir *x = a, *y = b;
    int c =
        strcmp((const char *)arena + y->path, (const char *)arena + x->path);

    return c != 0 ? c : (x->path < y->path) - (x->path > y->path);
}

static int
finish_dir(struct lev_layer_place *p, const struct lev_late_dir *late,
           const char *path, struct lev_error *err)
{
    const struct timespec times[2] = {late->mtime, late->mtime};
    _cleanup_close_ int fd = -1;
    const char *name = ".";
    int parent = p->root;

    if (*path != '\0') {
        parent = lev_layer_place_parent(p, path, &name, err);
    }
    if (parent < 0) {
        return -1;
    }
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
        return 0; /* replaced since */
    }
    if (fd < 0 || fchmod(fd, late->mode) < 0 || futimens(fd, times) < 0) {
        return lev_layer_errno(err, path, "mode and time of the directory");
    }
    return 0;
}

static bool
exists(struct lev_layer_place *p, const char *path)
{
    _cleanup_close_ int fd = open_dir(p, path);

    return fd >= 0;
}

int
lev_layer_place_finish(struct lev_layer_place *p, struct lev_error *err)
{
    const char *last = NULL;

    if (p->late_n > 1) {
        qsort_r(p->late, p->late_n, sizeof(*p->late), compare_late,
                p->arena.data);
    }
    for (size_t i = 0; i < p->late_n; i++) {
        const char *path = p->arena.data + p->late[i].path;

        if (last != NULL && strcmp(path, last) == 0) {
            continue;
        }
        last = path;
        if (exists(p, path) && finish_dir(p, &p->late[i], path, err) < 0) {
            return -1;
        }
    }
    return 0;
}
