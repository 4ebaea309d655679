/* Archives written, read back with libarchive and with the bounded reader. */

#include "tar.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <archive.h>
#include <archive_entry.h>

static const struct lev_scope forever = {.deadline = LEV_NEVER};
static const struct lev_tar_meta plain = {
    .mode = 0644, .uid = 1000, .gid = 100, .mtime = 1600000000};
static char root[] = "/tmp/lev-tar-XXXXXX";

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static void
fails(struct lev_error *err, enum lev_errcode code, const char *text)
{
    if (err->code != code || strstr(err->msg, text) == NULL) {
        fprintf(stderr, "%d '%s', expected %d '%s'\n", err->code, err->msg,
                code, text);
        abort();
    }
    *err = (struct lev_error){0};
}

static const char *
in_root(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", root, name);
    return to;
}

static void
make_file(const char *name, const char *text, mode_t mode)
{
    int fd = open(in_root(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    const struct timespec times[2] = {{1500000000, 0}, {1500000000, 0}};

    assert(fd >= 0);
    assert(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert(fchmod(fd, mode) == 0 && futimens(fd, times) == 0);
    close(fd);
}

static void
list_entry(struct archive *in, struct archive_entry *e, struct lev_buf *out)
{
    char text[64] = "";
    la_ssize_t n = archive_read_data(in, text, sizeof(text) - 1);
    const char *to = archive_entry_hardlink(e);

    assert(n >= 0);
    lev_buf_printf(out, "%06o %d:%d %lld %s", (unsigned)archive_entry_mode(e),
                   (int)archive_entry_uid(e), (int)archive_entry_gid(e),
                   (long long)archive_entry_mtime(e),
                   archive_entry_pathname(e));
    if (to != NULL) {
        lev_buf_printf(out, " = %s", to);
    }
    else if (archive_entry_symlink(e) != NULL) {
        lev_buf_printf(out, " -> %s", archive_entry_symlink(e));
    }
    else if (n > 0) {
        lev_buf_printf(out, ": %s", text);
    }
    lev_buf_putc(out, '\n');
}

/* Ends `tar`; the archive as text, a line an entry. */
static void
listing(struct lev_tar *tar, struct lev_buf *out)
{
    struct archive *in = archive_read_new();
    struct archive_entry *e;
    _cleanup_close_ int fd = -1;
    struct lev_error err;
    uint64_t size;
    int rc;

    must(lev_tar_finish(tar, &fd, &size, &err), &err);
    assert(size > 0 && size % 512 == 0);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    archive_read_support_format_tar(in);
    assert(archive_read_open_fd(in, fd, 10240) == ARCHIVE_OK);
    while ((rc = archive_read_next_header(in, &e)) == ARCHIVE_OK) {
        list_entry(in, e, out);
    }
    assert(rc == ARCHIVE_EOF);
    archive_read_free(in);
}

static void
expect(struct lev_tar *tar, const char *text)
{
    _cleanup_buf_ struct lev_buf out = {0};

    listing(tar, &out);
    if (strcmp(lev_buf_text(&out), text) != 0) {
        fprintf(stderr, "%s is not\n%s", lev_buf_text(&out), text);
        abort();
    }
}

static struct lev_tar *
create(void)
{
    struct lev_error err;
    struct lev_tar *tar = lev_tar_create(&err);

    must(tar == NULL ? -1 : 0, &err);
    return tar;
}

static void
test_bytes(void)
{
    static const struct lev_tar_meta dir = {.mode = 01777, .uid = 5};
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    must(lev_tar_add_bytes(tar, "/a//b/./c.txt", "text", 4, &plain, &err),
         &err);
    must(lev_tar_add_bytes(tar, "/empty", NULL, 0, &plain, &err), &err);
    must(lev_tar_add_dir(tar, "/tmp/x/", &dir, &err), &err);
    must(lev_tar_add_bytes(tar, "/d\xc3\xbc/\xe6\x97\xa5", "u", 1, &plain,
                           &err),
         &err);
    must(lev_tar_add_bytes(tar, "/latin1-\xfc", "l", 1, &plain, &err), &err);
    expect(tar, "100644 1000:100 1600000000 a/b/c.txt: text\n"
                "100644 1000:100 1600000000 empty\n"
                "041777 5:0 0 tmp/x/\n"
                "100644 1000:100 1600000000 d\xc3\xbc/\xe6\x97\xa5: u\n"
                "100644 1000:100 1600000000 latin1-\xfc: l\n");
}

static void
test_long_names(void)
{
    _cleanup_tar_ struct lev_tar *tar = create();
    _cleanup_buf_ struct lev_buf expected = {0};
    struct lev_error err = {0};
    char name[4000];

    for (size_t n = 90; n < sizeof(name); n = n * 3 / 2) {
        name[0] = '/';
        for (size_t i = 1; i < n; i++) {
            name[i] = i % 200 == 0 ? '/' : "na\xc3\xbcme"[i % 6];
        }
        name[n] = '\0';
        must(lev_tar_add_bytes(tar, name, "x", 1, &plain, &err), &err);
        lev_buf_printf(&expected, "100644 1000:100 1600000000 %s: x\n",
                       name + 1);
    }
    expect(tar, expected.data);
}

static void
test_bad_targets(void)
{
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    assert(lev_tar_add_bytes(tar, "a", "", 0, &plain, &err) == -1);
    fails(&err, LEV_E_INVALID, "'a': a path in the container begins with '/'");
    assert(lev_tar_add_bytes(tar, "", "", 0, &plain, &err) == -1);
    fails(&err, LEV_E_INVALID, "begins with '/'");
    assert(lev_tar_add_bytes(tar, "/a/../b", "", 0, &plain, &err) == -1);
    fails(&err, LEV_E_INVALID, "cannot have '..'");
    assert(lev_tar_add_bytes(tar, "/a/", "", 0, &plain, &err) == -1);
    fails(&err, LEV_E_INVALID, "does not end with '/'");
    assert(lev_tar_add_dir(tar, "/.", &plain, &err) == -1);
    fails(&err, LEV_E_INVALID, "names the container's root");
    must(lev_tar_add_bytes(tar, "/..a/b..", "", 0, &plain, &err), &err);
    expect(tar, "100644 1000:100 1600000000 ..a/b..\n");
}

static void
make_tree(void)
{
    assert(mkdir(in_root("tree"), 0700) == 0);
    assert(mkdir(in_root("tree/empty"), 0750) == 0);
    assert(mkdir(in_root("tree/sub"), 0700) == 0);
    make_file("tree/one", "first", 0755);
    make_file("tree/sub/\xc3\xa4", "umlaut", 04600);
    assert(link(in_root("tree/one"), in_root("tree/sub/two")) == 0);
    assert(symlink("../one", in_root("tree/sub/link")) == 0);
    assert(symlink("/nowhere", in_root("tree/dangling")) == 0);
    assert(symlink("tree", in_root("to-tree")) == 0);
}

/* Directories' times are of no interest here: they are set to what files have.
 */
static void
set_times(void)
{
    static const char *const dirs[] = {"tree", "tree/empty", "tree/sub"};
    static const char *const links[] = {"tree/sub/link", "tree/dangling"};
    const struct timespec times[2] = {{1500000000, 0}, {1500000000, 0}};

    for (size_t i = 0; i < LEV_ARRAY_LEN(dirs); i++) {
        assert(utimensat(AT_FDCWD, in_root(dirs[i]), times, 0) == 0);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(links); i++) {
        assert(utimensat(AT_FDCWD, in_root(links[i]), times,
                         AT_SYMLINK_NOFOLLOW) == 0);
    }
}

/* libarchive reads a hard link without a type. */
#define TREE(p)                                                               \
    "120777 7:8 1500000000 " p "dangling -> /nowhere\n"                       \
    "040750 7:8 1500000000 " p "empty/\n"                                     \
    "100755 7:8 1500000000 " p "one: first\n"                                 \
    "040700 7:8 1500000000 " p "sub/\n"                                       \
    "120777 7:8 1500000000 " p "sub/link -> ../one\n"                         \
    "000755 7:8 1500000000 " p "sub/two = " p "one\n"                         \
    "104600 7:8 1500000000 " p "sub/\xc3\xa4: umlaut\n"

static void
test_tree(const char *local)
{
    _cleanup_tar_ struct lev_tar *tar = create();
    _cleanup_tar_ struct lev_tar *at_root = create();
    struct lev_error err;

    must(lev_tar_add_path(tar, &forever, "/opt/t", in_root(local), 7, 8, &err),
         &err);
    must(lev_tar_add_path(tar, &forever, "/one", in_root("tree/one"), 7, 8,
                          &err),
         &err);
    expect(tar, "040700 7:8 1500000000 opt/t/\n" TREE(
                    "opt/t/") "100755 7:8 1500000000 one: first\n");
    must(lev_tar_add_path(at_root, &forever, "/", in_root(local), 7, 8, &err),
         &err);
    expect(at_root, TREE(""));
}

static void
refuse(const char *local, enum lev_errcode code, const char *text)
{
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    assert(lev_tar_add_path(tar, &forever, "/x", in_root(local), 0, 0, &err) ==
           -1);
    assert(strstr(err.msg, root) != NULL);
    fails(&err, code, text);
}

static void
test_refused(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    assert(mkdir(in_root("bad"), 0700) == 0);
    assert(mkfifo(in_root("bad/fifo"), 0600) == 0);
    refuse("bad", LEV_E_INVALID, "/bad/fifo' is a fifo: only files, dir");
    refuse("bad/fifo", LEV_E_INVALID, "is a fifo");
    assert(unlink(in_root("bad/fifo")) == 0);
    strcpy(addr.sun_path, in_root("bad/socket"));
    assert(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    refuse("bad", LEV_E_INVALID, "/bad/socket' is a socket");
    refuse("missing", LEV_E_OS, "/missing': No such file");
    refuse("tree/dangling", LEV_E_OS, "/dangling': No such file");
    assert(lev_tar_add_path(tar, &forever, "/x", "/dev/null", 0, 0, &err) ==
           -1);
    fails(&err, LEV_E_INVALID, "'/dev/null' is a device");
    assert(lev_tar_add_path(tar, &forever, "/", in_root("tree/one"), 0, 0,
                            &err) == -1);
    fails(&err, LEV_E_INVALID, "names the container's root");
}

static void
test_too_deep(void)
{
    int at = open(in_root(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; i < 300; i++) {
        int below;

        assert(mkdirat(at, "deep", 0700) == 0);
        below = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(below >= 0);
        close(at);
        at = below;
    }
    close(at);
    refuse("deep", LEV_E_INVALID, "deeper than 256 levels");
}

/* procfs tells no size, so a file of sysfs stands for one that shrinks: its
 * size is a page and its content a line. */
static void
test_shorter(void)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    const char *local =
        access(path, R_OK) == 0 ? path : "/sys/kernel/profiling";
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    assert(access(local, R_OK) == 0);
    assert(lev_tar_add_path(tar, &forever, "/x", local, 0, 0, &err) == -1);
    assert(strstr(err.msg, local) != NULL);
    fails(&err, LEV_E_OS, "became shorter while it was read");
}

static void
check_sparse(struct lev_tar *tar, int64_t size, int64_t at, const char *text)
{
    struct archive *in = archive_read_new();
    struct archive_entry *e;
    _cleanup_close_ int fd = -1;
    struct lev_error err;
    uint64_t packed;
    const void *data;
    size_t len, seen = 0;
    la_int64_t off;

    must(lev_tar_finish(tar, &fd, &packed, &err), &err);
    assert(packed < 100000);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    archive_read_support_format_tar(in);
    assert(archive_read_open_fd(in, fd, 10240) == ARCHIVE_OK);
    assert(archive_read_next_header(in, &e) == ARCHIVE_OK);
    assert(archive_entry_size(e) == size);
    while (archive_read_data_block(in, &data, &len, &off) == ARCHIVE_OK) {
        for (size_t i = 0; i < len; i++) {
            int64_t pos = off + (int64_t)i;
            bool inside = pos >= at && pos < at + (int64_t)strlen(text);

            assert(((const char *)data)[i] == (inside ? text[pos - at] : 0));
            seen += inside;
        }
    }
    assert(seen == strlen(text));
    archive_read_free(in);
}

static void
test_sparse(int64_t size, int64_t at, const char *text)
{
    _cleanup_close_ int fd =
        open(in_root("sparse"), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err;

    assert(fd >= 0 && ftruncate(fd, size) == 0);
    assert(pwrite(fd, text, strlen(text), at) == (ssize_t)strlen(text));
    must(lev_tar_add_path(tar, &forever, "/s", in_root("sparse"), 0, 0, &err),
         &err);
    check_sparse(tar, size, at, text);
}

static void
test_cancel(void)
{
    struct lev_cancel cancel;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    _cleanup_tar_ struct lev_tar *tar = create();
    struct lev_error err = {0};

    lev_cancel_init(&cancel, NULL);
    lev_cancel_fire(&cancel);
    assert(lev_tar_add_path(tar, &scope, "/t", in_root("tree"), 0, 0, &err) ==
           -1);
    fails(&err, LEV_E_CANCELLED, "cancelled");
    lev_cancel_deinit(&cancel);
}

static void
test_tmpdir(void)
{
    struct lev_error err = {0};
    struct lev_tar *tar;

    assert(setenv("TMPDIR", in_root("missing"), 1) == 0);
    assert(lev_tar_create(&err) == NULL);
    fails(&err, LEV_E_OS, "temporary file in '");
    assert(setenv("TMPDIR", root, 1) == 0);
    tar = create();
    lev_tar_destroy(tar);
    lev_tar_destroy(NULL);
    assert(unsetenv("TMPDIR") == 0);
}

/* A file system without room, told by its small sister. */
static void
test_no_room(void)
{
    static const char data[100000];
    _cleanup_tar_ struct lev_tar *tar = create();
    struct rlimit saved, small;
    struct lev_error err = {0};

    assert(getrlimit(RLIMIT_FSIZE, &saved) == 0);
    small = saved;
    small.rlim_cur = 50000;
    signal(SIGXFSZ, SIG_IGN);
    assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
    assert(lev_tar_add_bytes(tar, "/a", data, sizeof(data), &plain, &err) ==
           -1);
    assert(setrlimit(RLIMIT_FSIZE, &saved) == 0);
    assert(err.detail == EFBIG);
    fails(&err, LEV_E_OS, "write the archive: File too large");
}

/* The archive of `tar` in memory. */
static void
bytes_of(struct lev_tar *tar, struct lev_buf *out)
{
    _cleanup_close_ int fd = -1;
    struct lev_error err;
    uint64_t size;
    char *to;

    must(lev_tar_finish(tar, &fd, &size, &err), &err);
    to = lev_buf_reserve(out, size);
    assert(pread(fd, to, size, 0) == (ssize_t)size);
    out->len = size;
}

static void
test_read(void)
{
    _cleanup_tar_ struct lev_tar *tar = create(), *none = create();
    _cleanup_buf_ struct lev_buf archive = {0}, empty = {0}, out = {0};
    struct lev_error err = {0};

    must(lev_tar_add_dir(tar, "/d", &plain, &err), &err);
    must(lev_tar_add_bytes(tar, "/d/f", "content", 7, &plain, &err), &err);
    must(lev_tar_add_bytes(tar, "/d/g", "second", 6, &plain, &err), &err);
    bytes_of(tar, &archive);
    must(lev_tar_read_file(archive.data, archive.len, 7, &out, &err), &err);
    assert(strcmp(out.data, "content") == 0);
    assert(lev_tar_read_file(archive.data, archive.len, 6, &out, &err) == -1);
    fails(&err, LEV_E_ENGINE, "larger than 6 bytes");
    must(lev_tar_add_dir(none, "/d", &plain, &err), &err);
    bytes_of(none, &empty);
    assert(lev_tar_read_file(empty.data, empty.len, 9, &out, &err) == -1);
    fails(&err, LEV_E_ENGINE, "no regular file");
    assert(lev_tar_read_file("<html>", 6, 9, &out, &err) == -1);
    fails(&err, LEV_E_ENGINE, "the archive is broken");
    for (size_t n = 513; n < 1024 + 7; n++) { /* cut in the file */
        assert(lev_tar_read_file(archive.data, n, 9, &out, &err) == -1);
        assert(err.code == LEV_E_ENGINE);
    }
}

static void
remove_root(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execlp("rm", "rm", "-rf", root, NULL);
        _exit(127);
    }
    assert(waitpid(pid, &status, 0) == pid && status == 0);
}

static void
test_all(void)
{
    test_bytes();
    test_long_names();
    test_tree("tree");
    test_tree("to-tree");
}

int
main(void)
{
    assert(mkdtemp(root) != NULL);
    make_tree();
    set_times();
    test_all(); /* in the C locale, as in a program that sets none */
    if (setlocale(LC_ALL, "C.UTF-8") != NULL) {
        test_all();
    }
    test_bad_targets();
    test_refused();
    test_too_deep();
    test_shorter();
    test_sparse(INT64_C(9) << 30, INT64_C(8) << 30, "far away");
    test_sparse(1 << 20, 0, "at the start");
    test_sparse(1 << 20, (1 << 20) - 3, "end");
    test_sparse(1 << 20, 0, "");
    test_cancel();
    test_tmpdir();
    test_no_room();
    test_read();
    remove_root();
    return 0;
}
