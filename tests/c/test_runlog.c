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
    assert(count_records(&out, 1) == 1 && pos == LEV_RUNLOG_HEAD + 5);
    assert(lev_runlog_read(&log, &pos, 100, &out, &err) == 0);
    assert(count_records(&out, 1) == 2 && pos == 2 * LEV_RUNLOG_HEAD + 5);
    assert(memcmp(out.data + LEV_RUNLOG_HEAD, "hello", 5) == 0);
    lev_runlog_deinit(&log);
    lev_buf_clear(&out);
    pos = 0;
    assert(lev_runlog_load(dir, "one", &pos, 3, &out, &err) == 0);
    assert(count_records(&out, 1) == 1 && pos == LEV_RUNLOG_HEAD + 5);
    assert(lev_runlog_load(dir, "one", &pos, 100, &out, &err) == 0);
    assert(count_records(&out, 1) == 2 && pos == out.len);
    assert(lev_runlog_load(dir, "one", &pos, 100, &out, &err) == 0);
    assert(pos == out.len);
    lev_buf_clear(&out);
    pos = 0;
    assert(lev_runlog_load(dir, "none", &pos, 3, &out, &err) == 0);
    assert(out.len == 0 && pos == 0);
    /* It was there when the reading began. */
    pos = 1;
    assert(lev_runlog_load(dir, "none", &pos, 3, &out, &err) < 0);
    assert(err.code == LEV_E_STATE && strstr(err.msg, "removed") != NULL);
}

#define PIECES 70u
#define PIECE (1024u * 1024)

static void
fill(struct lev_runlog *log, const char *name)
{
    _cleanup_free_ char *piece = malloc(PIECE);
    struct lev_error err;

    assert(piece != NULL && lev_runlog_init(log, dir, name, &err) == 0);
    for (unsigned i = 0; i < PIECES; i++) {
        memset(piece, (int)i, PIECE);
        assert(lev_runlog_append(log, 2, i, piece, PIECE, &err) == 0);
    }
}

/* Reads `b`: pieces in their order up to the last one, none twice, and what
 * the marks say of those before. */
static void
check_filled(const struct lev_buf *b)
{
    uint64_t seen = 0, mark[2];
    uint32_t len;
    size_t marks = 0;

    for (size_t at = 0; at < b->len; at += LEV_RUNLOG_HEAD + len) {
        const char *data = b->data + at + LEV_RUNLOG_HEAD;

        memcpy(&len, b->data + at + 9, sizeof(len));
        len = le32toh(len);
        if (b->data[at] == 0) {
            assert(len == LEV_RUNLOG_MARK);
            memcpy(mark, data, sizeof(mark));
            assert(marks++ == 0 || le64toh(mark[1]) == seen);
            seen = le64toh(mark[1]);
            continue;
        }
        assert(b->data[at] == 2 && len == PIECE);
        assert(data[0] == (char)(seen / PIECE) && data[len - 1] == data[0]);
        seen += len;
    }
    assert(marks == 2 && seen == PIECES * PIECE);
    assert(b->len > LEV_RUNLOG_BOUND / 2 && b->len <= LEV_RUNLOG_BOUND);
}

static void
read_all(const struct lev_runlog *log, struct lev_buf *out)
{
    struct lev_error err;
    uint64_t pos = 0;
    size_t before;

    do {
        before = out->len;
        assert(lev_runlog_read(log, &pos, LEV_RUNLOG_PIECE, out, &err) == 0);
    } while (out->len > before);
    assert(pos == log->start + log->size);
}

static void
load_all(const char *name, struct lev_buf *out)
{
    struct lev_error err;
    uint64_t pos = 0;
    size_t before;

    do {
        before = out->len;
        assert(lev_runlog_load(dir, name, &pos, LEV_RUNLOG_PIECE, out, &err) ==
               0);
    } while (out->len > before);
}

/* The writer and those that have only the files read the same. */
static void
test_rotation(void)
{
    _cleanup_buf_ struct lev_buf out = {0}, loaded = {0};
    struct lev_runlog log;

    fill(&log, "big");
    assert(log.size <= LEV_RUNLOG_BOUND / 2);
    read_all(&log, &out);
    check_filled(&out);
    load_all("big", &loaded);
    assert(loaded.len == out.len &&
           memcmp(loaded.data, out.data, out.len) == 0);
    lev_runlog_deinit(&log);
}

/* One of the two files was swept away, or is about to be made. */
static void
test_half(void)
{
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_runlog log;
    struct lev_error err;
    char path[128], old[128];
    uint64_t pos;
    size_t newer;

    fill(&log, "half");
    newer = log.size;
    snprintf(path, sizeof(path), "%s/half.log", dir);
    snprintf(old, sizeof(old), "%s/half.log.1", dir);
    lev_runlog_deinit(&log);
    assert(unlink(old) == 0);
    load_all("half", &out);
    assert(out.len == newer && out.data[0] == 0);
    assert(rename(path, old) == 0);
    lev_buf_clear(&out);
    load_all("half", &out);
    assert(out.len == newer && out.data[0] == 0);
    /* A position in a file that has gone since. */
    lev_buf_clear(&out);
    pos = 7;
    assert(lev_runlog_load(dir, "half", &pos, 3, &out, &err) == 0);
    assert(out.data[0] == 0);
}

/* A disk that was full: what is written later is read, whatever is lost. */
static void
test_file_that_was_lost(void)
{
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_runlog log;
    struct lev_error err;
    uint64_t pos = 0;

    assert(lev_runlog_init(&log, dir, "lost", &err) == 0);
    assert(lev_runlog_append(&log, 1, 7, "hello", 5, &err) == 0);
    close(log.fd);
    log.fd = -1;
    assert(lev_runlog_append(&log, 1, 8, "world", 5, &err) == 0);
    assert(lev_runlog_read(&log, &pos, 100, &out, &err) == 0);
    assert(out.data[0] == 0 && pos == log.start + log.size);
    assert(memcmp(out.data + out.len - 5, "world", 5) == 0);
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
    test_half();
    test_file_that_was_lost();
    test_sweep();
    assert(rmdir(dir) == 0);
    return 0;
}
