/* A run's output on disk: records, rotation, reading behind it, the sweep. */

#include "runlog.h"

#include <assert.h>
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static char dir[] = "/tmp/levrt-test-runlog-XXXXXX";

static size_t
count_records(const struct lev_buf *b, int stream)
{
    size_t n = 0;

    for (size_t at = 0; at < b->len;) {
        uint32_t len;

        memcpy(&len, b->data + at + 9, sizeof(len));
        assert(b->data[at] == stream);
        at += LEV_RUNLOG_HEAD + le32toh(len);
        assert(at <= b->len);
        n++;
    }
    return n;
}

static void
test_append_and_read(void)
{
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_runlog log;
    struct lev_error err;
    uint64_t pos = 0;

    assert(lev_runlog_init(&log, dir, "one", &err) == 0);
    /* No output, no file; and nothing to read. */
    assert(access(log.path, F_OK) != 0);
    assert(lev_runlog_read(&log, &pos, 100, &out, &err) == 0);
    assert(out.len == 0 && pos == 0);
    assert(lev_runlog_append(&log, 1, 7, "hello", 5, &err) == 0);
    assert(lev_runlog_append(&log, 1, 8, "", 0, &err) == 0);
    /* A record longer than what is asked for comes whole. */
    assert(lev_runlog_read(&log, &pos, 3, &out, &err) == 0);
    assert(count_records(&out, 1) == 2);
    assert(pos == 2 * LEV_RUNLOG_HEAD + 5);
    assert(memcmp(out.data + LEV_RUNLOG_HEAD, "hello", 5) == 0);
    lev_runlog_deinit(&log);
    lev_buf_clear(&out);
    assert(lev_runlog_load(dir, "one", &out, &err) == 0);
    assert(count_records(&out, 1) == 2);
    lev_buf_clear(&out);
    assert(lev_runlog_load(dir, "none", &out, &err) == 0 && out.len == 0);
}

static void
test_rotation(void)
{
    _cleanup_buf_ struct lev_buf out = {0};
    _cleanup_free_ char *piece = calloc(1, 1024 * 1024);
    struct lev_runlog log;
    struct lev_error err;
    uint64_t pos = 0;

    assert(piece != NULL && lev_runlog_init(&log, dir, "big", &err) == 0);
    for (int i = 0; i < 70; i++) {
        assert(lev_runlog_append(&log, 2, i, piece, 1024 * 1024, &err) == 0);
    }
    assert(log.size <= LEV_RUNLOG_BOUND / 2);
    /* A reader that comes late is moved over what was dropped. */
    assert(lev_runlog_read(&log, &pos, UINT32_MAX, &out, &err) == 0);
    assert(pos == log.start + log.size);
    lev_buf_clear(&out);
    assert(lev_runlog_load(dir, "big", &out, &err) == 0);
    assert(out.len <= LEV_RUNLOG_BOUND && out.len > LEV_RUNLOG_BOUND / 2);
    count_records(&out, 2);
    lev_runlog_deinit(&log);
}

static size_t
count_files(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    assert(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        n += strstr(e->d_name, ".log") != NULL;
    }
    closedir(d);
    return n;
}

static void
make_log(const char *name, time_t when)
{
    _cleanup_close_ int fd = -1;
    char path[128];
    struct timespec times[2] = {{when, 0}, {when, 0}};

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert(fd >= 0 && write(fd, "0123456789", 10) == 10);
    assert(futimens(fd, times) == 0);
}

static void
test_sweep(void)
{
    char path[128];

    lev_runlog_sweep(dir, 0);
    assert(count_files() == 0);
    make_log("old.log", 1000);
    make_log("older.log.1", 500);
    make_log("new.log", 2000);
    lev_runlog_sweep(dir, 30);
    assert(count_files() == 3);
    lev_runlog_sweep(dir, 19);
    assert(count_files() == 1);
    snprintf(path, sizeof(path), "%s/new.log", dir);
    assert(unlink(path) == 0);
    lev_runlog_sweep("/nonexistent", 0);
}

int
main(void)
{
    assert(mkdtemp(dir) != NULL);
    test_append_and_read();
    test_rotation();
    test_sweep();
    assert(rmdir(dir) == 0);
    return 0;
}
