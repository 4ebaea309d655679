#include "runlog.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int
lev_runlog_init(struct lev_runlog *log, const char *dir, const char *name,
                struct lev_error *err)
{
    *log = (struct lev_runlog){.fd = -1};
    if (asprintf(&log->path, "%s/%s.log", dir, name) < 0) {
        log->path = NULL;
        return lev_error_nomem(err, "log");
    }
    return 0;
}

void
lev_runlog_deinit(struct lev_runlog *log)
{
    lev_closep(&log->fd);
    free(log->path);
    *log = (struct lev_runlog){.fd = -1};
}

/* mkdir -p of the directory of `path`, which is changed meanwhile only. */
static void
make_parents(char *path)
{
    for (char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0700); /* what matters is the open after it */
        *p = '/';
    }
}

static int
open_file(struct lev_runlog *log, struct lev_error *err)
{
    const int flags = O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC;

    log->fd = open(log->path, flags, 0600);
    if (log->fd < 0 && errno == ENOENT) {
        make_parents(log->path);
        log->fd = open(log->path, flags, 0600);
    }
    if (log->fd < 0) {
        return lev_error_errno(err, "open the log %s", log->path);
    }
    return 0;
}

static int
rotate(struct lev_runlog *log, struct lev_error *err)
{
    _cleanup_free_ char *old = NULL;

    if (asprintf(&old, "%s.1", log->path) < 0) {
        old = NULL;
        return lev_error_nomem(err, "log");
    }
    if (rename(log->path, old) < 0) {
        return lev_error_errno(err, "rename the log %s", log->path);
    }
    close(log->fd);
    log->fd = -1;
    log->start += log->size;
    log->size = 0;
    return open_file(log, err);
}

static int
write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

int
lev_runlog_append(struct lev_runlog *log, int stream, int64_t time,
                  const char *data, size_t len, struct lev_error *err)
{
    char head[LEV_RUNLOG_HEAD];
    uint64_t when = htole64((uint64_t)time);
    uint32_t length = htole32((uint32_t)len);

    if (log->fd < 0 && open_file(log, err) < 0) {
        return -1;
    }
    if (log->size + sizeof(head) + len > LEV_RUNLOG_BOUND / 2 &&
        log->size > 0 && rotate(log, err) < 0)
    {
        return -1;
    }
    head[0] = (char)stream;
    memcpy(head + 1, &when, sizeof(when));
    memcpy(head + 9, &length, sizeof(length));
    if (write_all(log->fd, head, sizeof(head)) < 0 ||
        write_all(log->fd, data, len) < 0)
    {
        int saved = errno;

        /* A record that is there in part would make the rest unreadable. */
        if (ftruncate(log->fd, (off_t)log->size) < 0) {
            lev_closep(&log->fd);
        }
        errno = saved;
        return lev_error_errno(err, "write the log %s", log->path);
    }
    log->size += sizeof(head) + len;
    return 0;
}

/* Appends the whole records among the `len` bytes at `offset` of `fd`; how
 * many bytes they take. */
static ssize_t
read_records(int fd, uint64_t offset, size_t len, struct lev_buf *out)
{
    size_t before = out->len, whole = 0;
    char *to = lev_buf_reserve(out, len);
    ssize_t n;

    if (to == NULL) {
        errno = ENOMEM;
        return -1;
    }
    n = pread(fd, to, len, (off_t)offset);
    if (n < 0) {
        return -1;
    }
    while ((size_t)n - whole >= LEV_RUNLOG_HEAD) {
        uint32_t length;

        memcpy(&length, to + whole + 9, sizeof(length));
        length = le32toh(length);
        if ((size_t)n - whole - LEV_RUNLOG_HEAD < length) {
            break;
        }
        whole += LEV_RUNLOG_HEAD + length;
    }
    out->len = before + whole;
    out->data[out->len] = '\0';
    return (ssize_t)whole;
}

int
lev_runlog_read(const struct lev_runlog *log, uint64_t *pos, size_t max,
                struct lev_buf *out, struct lev_error *err)
{
    size_t len;
    ssize_t n;

    if (log->fd < 0) {
        return 0;
    }
    if (*pos < log->start) {
        *pos = log->start;
    }
    len = (size_t)(log->start + log->size - *pos);
    /* A record that alone is longer than `max` is given whole. */
    n = read_records(log->fd, *pos - log->start, len < max ? len : max, out);
    if (n == 0 && len > max) {
        n = read_records(log->fd, *pos - log->start, len, out);
    }
    if (n < 0) {
        return lev_error_errno(err, "read the log %s", log->path);
    }
    *pos += (uint64_t)n;
    return 0;
}

static int
load_file(const char *path, struct lev_buf *out, struct lev_error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        return errno == ENOENT ? 0
                               : lev_error_errno(err, "open the log %s", path);
    }
    if (fstat(fd, &st) < 0 || read_records(fd, 0, (size_t)st.st_size, out) < 0)
    {
        return lev_error_errno(err, "read the log %s", path);
    }
    return 0;
}

int
lev_runlog_load(const char *dir, const char *name, struct lev_buf *out,
                struct lev_error *err)
{
    _cleanup_free_ char *path = NULL, *old = NULL;

    if (asprintf(&path, "%s/%s.log", dir, name) < 0) {
        path = NULL;
        return lev_error_nomem(err, "log");
    }
    if (asprintf(&old, "%s.1", path) < 0) {
        old = NULL;
        return lev_error_nomem(err, "log");
    }
    if (load_file(old, out, err) < 0) {
        return -1;
    }
    return load_file(path, out, err);
}

struct kept {
    char *name;
    struct timespec written;
    uint64_t size;
};

static int
by_age(const void *a, const void *b)
{
    const struct timespec *x = &((const struct kept *)a)->written;
    const struct timespec *y = &((const struct kept *)b)->written;

    if (x->tv_sec != y->tv_sec) {
        return x->tv_sec < y->tv_sec ? -1 : 1;
    }
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* The logs in `dir`, their number in `*n`; NULL when there are none. */
static struct kept *
list_logs(DIR *dir, size_t *n)
{
    struct kept *all = NULL;
    size_t cap = 0;
    struct dirent *d;

    *n = 0;
    while ((d = readdir(dir)) != NULL) {
        struct stat st;

        if (strstr(d->d_name, ".log") == NULL ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode))
        {
            continue;
        }
        if (*n == cap) {
            struct kept *more;

            cap = cap == 0 ? 64 : cap * 2;
            more = realloc(all, cap * sizeof(*all));
            if (more == NULL) {
                break;
            }
            all = more;
        }
        all[*n] =
            (struct kept){strdup(d->d_name), st.st_mtim, (uint64_t)st.st_size};
        *n += all[*n].name != NULL;
    }
    return all;
}

void
lev_runlog_sweep(const char *path, uint64_t total)
{
    DIR *dir = opendir(path);
    struct kept *all;
    uint64_t sum = 0;
    size_t n;

    if (dir == NULL) {
        return;
    }
    all = list_logs(dir, &n);
    for (size_t i = 0; i < n; i++) {
        sum += all[i].size;
    }
    if (sum > total) {
        qsort(all, n, sizeof(*all), by_age);
    }
    for (size_t i = 0; i < n; i++) {
        if (sum > total && unlinkat(dirfd(dir), all[i].name, 0) == 0) {
            sum -= all[i].size;
        }
        free(all[i].name);
    }
    free(all);
    closedir(dir);
}
