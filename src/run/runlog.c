#include "runlog.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void
drop(int *fd)
{
    lev_closep(fd);
}

int
lev_runlog_init(struct lev_runlog *log, const char *dir, const char *name,
                struct lev_error *err)
{
    *log = (struct lev_runlog){.fd = -1, .old_fd = -1};
    if (asprintf(&log->path, "%s/%s.log", dir, name) < 0) {
        log->path = NULL;
        return lev_error_nomem(err, "log");
    }
    return 0;
}

void
lev_runlog_deinit(struct lev_runlog *log)
{
    drop(&log->fd);
    drop(&log->old_fd);
    free(lev_steal(log->path));
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

static int
write_record(struct lev_runlog *log, int stream, int64_t time,
             const char *data, size_t len)
{
    char head[LEV_RUNLOG_HEAD];
    uint64_t when = htole64((uint64_t)time);
    uint32_t length = htole32((uint32_t)len);

    head[0] = (char)stream;
    memcpy(head + 1, &when, sizeof(when));
    memcpy(head + 9, &length, sizeof(length));
    if (write_all(log->fd, head, sizeof(head)) < 0 ||
        write_all(log->fd, data, len) < 0)
    {
        int saved = errno;

        /* A record that is there in part would make the rest unreadable. */
        if (ftruncate(log->fd, (off_t)log->size) < 0) {
            drop(&log->fd);
        }
        errno = saved;
        return -1;
    }
    log->size += sizeof(head) + len;
    return 0;
}

static int
write_mark(struct lev_runlog *log, int64_t time)
{
    const uint64_t mark[2] = {htole64(log->start), htole64(log->output)};

    return write_record(log, 0, time, (const char *)mark, sizeof(mark));
}

static int
open_file(struct lev_runlog *log, int64_t time, struct lev_error *err)
{
    const int flags = O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC;

    log->start += log->size;
    log->size = 0;
    log->fd = open(log->path, flags, 0600);
    if (log->fd < 0 && errno == ENOENT) {
        make_parents(log->path);
        log->fd = open(log->path, flags, 0600);
    }
    if (log->fd < 0) {
        return lev_error_errno(err, "open the log %s", log->path);
    }
    if (log->start > 0 && write_mark(log, time) < 0) {
        lev_error_errno(err, "write the log %s", log->path);
        drop(&log->fd);
        return -1;
    }
    return 0;
}

static int
rotate(struct lev_runlog *log, int64_t time, struct lev_error *err)
{
    _cleanup_free_ char *old = NULL;

    if (asprintf(&old, "%s.1", log->path) < 0) {
        old = NULL;
        return lev_error_nomem(err, "log");
    }
    if (rename(log->path, old) < 0) {
        return lev_error_errno(err, "rename the log %s", log->path);
    }
    drop(&log->old_fd);
    log->old_fd = log->fd;
    log->old_start = log->start;
    log->fd = -1;
    return open_file(log, time, err);
}

int
lev_runlog_append(struct lev_runlog *log, int stream, int64_t time,
                  const char *data, size_t len, struct lev_error *err)
{
    if (log->fd < 0 && open_file(log, time, err) < 0) {
        return -1;
    }
    if (log->size + LEV_RUNLOG_HEAD + len > LEV_RUNLOG_BOUND / 2 &&
        log->size > 0 && rotate(log, time, err) < 0)
    {
        return -1;
    }
    if (write_record(log, stream, time, data, len) < 0) {
        return lev_error_errno(err, "write the log %s", log->path);
    }
    log->output += len;
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

/* How long the record at `offset` is; 0 when it is not there in whole. */
static size_t
record_size(int fd, uint64_t offset)
{
    char head[LEV_RUNLOG_HEAD];
    uint32_t length;

    if (pread(fd, head, sizeof(head), (off_t)offset) != sizeof(head)) {
        return 0;
    }
    memcpy(&length, head + 9, sizeof(length));
    return sizeof(head) + le32toh(length);
}

/* Whole records of one file that has `len` bytes from `offset` on; how many
 * bytes they take. */
static ssize_t
read_file(int fd, uint64_t offset, uint64_t len, size_t max,
          struct lev_buf *out)
{
    ssize_t n;

    if (fd < 0 || len == 0) {
        return 0;
    }
    n = read_records(fd, offset, len < max ? (size_t)len : max, out);
    if (n != 0 || len <= max) {
        return n;
    }
    /* A record that alone is longer than `max` is given whole. */
    return read_records(fd, offset, record_size(fd, offset), out);
}

int
lev_runlog_read(const struct lev_runlog *log, uint64_t *pos, size_t max,
                struct lev_buf *out, struct lev_error *err)
{
    ssize_t n = 0;

    if (*pos < log->start) {
        if (*pos < log->old_start) {
            *pos = log->old_start;
        }
        n = read_file(log->old_fd, *pos - log->old_start, log->start - *pos,
                      max, out);
        if (n == 0) {
            *pos = log->start;
        }
    }
    if (*pos >= log->start && n == 0) {
        n = read_file(log->fd, *pos - log->start,
                      log->start + log->size - *pos, max, out);
    }
    if (n < 0) {
        return lev_error_errno(err, "read the log %s", log->path);
    }
    *pos += (uint64_t)n;
    return 0;
}

/* -1 where there is no such file. */
static int
open_kept(const char *path, int *fd, struct stat *st, struct lev_error *err)
{
    *st = (struct stat){0};
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if ((*fd < 0 && errno != ENOENT) || (*fd >= 0 && fstat(*fd, st) < 0)) {
        return lev_error_errno(err, "open the log %s", path);
    }
    return 0;
}

/* Opens both files, as they are at one moment. */
static int
open_both(struct lev_runlog *log, struct lev_error *err)
{
    _cleanup_free_ char *old = NULL;
    struct stat st, old_st;

    if (asprintf(&old, "%s.1", log->path) < 0) {
        old = NULL;
        return lev_error_nomem(err, "log");
    }
    do {
        drop(&log->fd);
        drop(&log->old_fd);
        if (open_kept(log->path, &log->fd, &st, err) < 0 ||
            open_kept(old, &log->old_fd, &old_st, err) < 0)
        {
            return -1;
        }
        /* The same one twice: its writer has just renamed it. */
    } while (log->fd >= 0 && log->old_fd >= 0 && st.st_ino == old_st.st_ino);
    log->size = (uint64_t)st.st_size;
    if (log->fd < 0) {
        log->start = (uint64_t)old_st.st_size;
    }
    return 0;
}

/* The position of a file's first byte: its mark's, or 0. */
static uint64_t
read_start(int fd)
{
    char record[LEV_RUNLOG_HEAD + sizeof(uint64_t)];
    uint64_t start;

    if (fd < 0 ||
        pread(fd, record, sizeof(record), 0) != (ssize_t)sizeof(record) ||
        record[0] != 0)
    {
        return 0;
    }
    memcpy(&start, record + LEV_RUNLOG_HEAD, sizeof(start));
    return le64toh(start);
}

static inline void
lev_runlog_deinitp(struct lev_runlog *log)
{
    lev_runlog_deinit(log);
}

int
lev_runlog_load(const char *dir, const char *name, uint64_t *pos, size_t max,
                struct lev_buf *out, struct lev_error *err)
{
    _cleanup_(lev_runlog_deinitp) struct lev_runlog log;

    if (lev_runlog_init(&log, dir, name, err) < 0 || open_both(&log, err) < 0)
    {
        return -1;
    }
    if (log.fd < 0 && log.old_fd < 0) {
        return *pos == 0 ? 0
                         : lev_error_set(err, LEV_E_STATE, 0,
                                         "the log %s was removed while it was "
                                         "read: newer ones needed its room",
                                         log.path);
    }
    log.old_start = read_start(log.old_fd);
    log.start = log.fd < 0 ? log.start + log.old_start : read_start(log.fd);
    return lev_runlog_read(&log, pos, max, out, err);
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
