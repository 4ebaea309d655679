#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "buf.h"

static void
closedirp(DIR **d)
{
    if (*d != NULL) {
        closedir(*d);
    }
}

/* Unlinks what is no directory; the name of the first directory that is left,
 * or "" when there is none. */
static int
empty(int fd, char sub[256], struct lev_error *err)
{
    _cleanup_(closedirp) DIR *d = NULL;
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *e;

    sub[0] = '\0';
    if (own < 0 || (d = fdopendir(own)) == NULL) {
        lev_closep(&own);
        return lev_error_errno(err, "remove a directory");
    }
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (e->d_type != DT_DIR && unlinkat(fd, e->d_name, 0) == 0) {
            continue;
        }
        if (e->d_type != DT_DIR && errno == ENOENT) {
            continue;
        }
        if (e->d_type != DT_DIR && errno != EISDIR) {
            return lev_error_errno(err, "remove '%s'", e->d_name);
        }
        strcpy(sub, e->d_name); /* NAME_MAX is 255 */
        return 0;
    }
    return 0;
}

/* For an ordinary user a directory's own mode may forbid to empty it. */
static int
enter(int at, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, flags);
    struct stat st;

    if (geteuid() == 0) {
        return fd;
    }
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & S_IRWXU) != S_IRWXU) {
        fchmod(fd, S_IRWXU);
    }
    if (fd < 0 && errno == EACCES && fchmodat(at, name, S_IRWXU, 0) == 0) {
        fd = openat(at, name, flags);
    }
    return fd;
}

/* `names` holds the names on the way down to `*fd`, each with its NUL. */
static int
go_up(int *fd, struct lev_buf *names, struct lev_error *err)
{
    const char *end = names->data + names->len - 1, *name = end;
    int up = openat(*fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (name > names->data && name[-1] != '\0') {
        name--;
    }
    if (up < 0 || (unlinkat(up, name, AT_REMOVEDIR) < 0 && errno != ENOENT)) {
        lev_closep(&up);
        return lev_error_errno(err, "remove '%s'", name);
    }
    names->len = (size_t)(name - names->data);
    close(*fd);
    *fd = up;
    return 0;
}

static int
remove_below(int top, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf names = {0};
    _cleanup_close_ int fd = top;
    char sub[256];

    for (;;) {
        int next;

        if (empty(fd, sub, err) < 0) {
            return -1;
        }
        if (sub[0] == '\0') {
            if (names.len == 0) {
                return 0;
            }
            if (go_up(&fd, &names, err) < 0) {
                return -1;
            }
            continue;
        }
        next = enter(fd, sub);
        if (next < 0) {
            if (errno == ENOENT) {
                continue;
            }
            return lev_error_errno(err, "remove '%s'", sub);
        }
        close(fd);
        fd = next;
        lev_buf_append(&names, sub, strlen(sub) + 1);
        if (lev_buf_check(&names, "path", err) < 0) {
            return -1;
        }
    }
}

int
lev_tree_remove(int dirfd, const char *name, struct lev_error *err)
{
    int fd;

    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return lev_error_errno(err, "remove '%s'", name);
    }
    fd = enter(dirfd, name);
    if (fd < 0) {
        return errno == ENOENT ? 0 : lev_error_errno(err, "remove '%s'", name);
    }
    if (remove_below(fd, err) < 0) {
        return -1;
    }
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        return lev_error_errno(err, "remove '%s'", name);
    }
    return 0;
}
