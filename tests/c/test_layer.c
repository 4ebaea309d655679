/* Layers unpacked: all kinds of entries, compressions, whiteouts. As root:
 * owners and devices need it. */

#include "tarmaker.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <archive.h>

#include "tree.h"

static const struct lev_scope forever = {.deadline = LEV_NEVER};
static char base[] = "/tmp/lev-layer-XXXXXX";
static int dest = -1;

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static void
fails(int rc, struct lev_error *err, enum lev_errcode code, const char *text)
{
    if (rc != -1 || err->code != code || strstr(err->msg, text) == NULL) {
        fprintf(stderr, "%d: %d '%s', expected %d '%s'\n", rc, err->code,
                err->msg, code, text);
        abort();
    }
    *err = (struct lev_error){0};
}

static void
new_dest(void)
{
    struct lev_error err;
    int at = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert(at >= 0);
    lev_closep(&dest);
    must(lev_tree_remove(at, "d", &err), &err);
    assert(mkdirat(at, "d", 0700) == 0);
    dest = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(at);
    assert(dest >= 0);
}

static int
unpack_with(const struct lev_buf *b, const struct lev_layer_options *o,
            struct lev_layer_result *r, struct lev_error *err)
{
    struct maker_source s;

    maker_source_init(&s, b, 4096);
    new_dest();
    return lev_layer_unpack(&forever, &s.source, dest, o, r, err);
}

static void
unpack(const struct lev_buf *b, struct lev_layer_result *r)
{
    struct lev_layer_options o = {0};
    struct lev_error err;

    must(unpack_with(b, &o, r, &err), &err);
}

static struct stat
stat_of(const char *name)
{
    struct stat st;

    if (fstatat(dest, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        abort();
    }
    return st;
}

static bool
missing(const char *name)
{
    return faccessat(dest, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
           errno == ENOENT;
}

static bool
is_whiteout(const char *name)
{
    struct stat st = stat_of(name);

    return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

static ssize_t
xattr_of(const char *name, const char *key, char value[64])
{
    char path[4200];

    snprintf(path, sizeof(path), "%s/d/%s", base, name);
    return lgetxattr(path, key, value, 64);
}

static bool
is_opaque(const char *name)
{
    char v[64];

    return xattr_of(name, "trusted.overlay.opaque", v) == 1 && v[0] == 'y';
}

static bool
holds(const char *name, const char *text)
{
    char buf[4096];
    int fd = openat(dest, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = read(fd, buf, sizeof(buf));

    assert(fd >= 0 && n >= 0);
    close(fd);
    return (size_t)n == strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

#define ADD(tar, ...)                                                         \
    maker_add(tar, &(struct maker_entry){.name = __VA_ARGS__})

static const char capability[] = "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

static void
make_rich(struct lev_buf *tar)
{
    _cleanup_buf_ struct lev_buf records = {0};

    ADD(tar, "./", '5', .mode = 0751);
    ADD(tar, "etc/", '5', .mode = 01775, .uid = 7);
    ADD(tar, "etc/passwd", .data = "root", .mode = 04755, .uid = 1000,
        .gid = 100);
    ADD(tar, "etc/same", '1', .link = "etc/passwd");
    ADD(tar, "etc/link", '2', .link = "../x", .uid = 5);
    ADD(tar, "etc/linked", '1', .link = "./etc/link");
    ADD(tar, "closed/", '5', .mode = 0500);
    ADD(tar, "closed/in/side", .data = "x");
    ADD(tar, "dev/null", '3', .major = 1, .minor = 3, .mode = 0666);
    ADD(tar, "dev/pipe", '6', .mode = 0640);
    ADD(tar, "empty", .mode = 0600);
    ADD(tar, "old", .data = "o", .mtime = "1", .pax = "mtime=-5\n");
    maker_record(&records, "SCHILY.xattr.security.capability", capability, 20);
    maker_record(&records, "SCHILY.xattr.user.mine", "a\0b", 3);
    maker_record(&records, "SCHILY.xattr.trusted.overlay.redirect", "/x", 2);
    maker_record(&records, "SCHILY.xattr.user.overlay.opaque", "y", 1);
    maker_add_pax(tar, records.data, records.len);
    ADD(tar, "able", .data = "x", .uid = 3);
    maker_end(tar);
}

static void
check_rich(void)
{
    struct stat st = stat_of(".");
    char v[64];

    assert((st.st_mode & 07777) == 0751 && st.st_mtime == 1500000000);
    st = stat_of("etc");
    assert(st.st_mode == (S_IFDIR | 01775) && st.st_uid == 7);
    assert(st.st_mtime == 1500000000);
    st = stat_of("etc/passwd");
    assert(st.st_mode == (S_IFREG | 04755) && st.st_uid == 1000);
    assert(st.st_gid == 100 && st.st_nlink == 2);
    assert(st.st_ino == stat_of("etc/same").st_ino);
    assert(S_ISLNK(stat_of("etc/link").st_mode));
    assert(stat_of("etc/link").st_uid == 5);
    assert(stat_of("etc/linked").st_ino == stat_of("etc/link").st_ino);
    assert((stat_of("closed").st_mode & 07777) == 0500);
    assert((stat_of("closed/in").st_mode & 07777) == 0755);
    st = stat_of("dev/null");
    assert(st.st_mode == (S_IFCHR | 0666) && st.st_rdev == makedev(1, 3));
    assert(stat_of("dev/pipe").st_mode == (S_IFIFO | 0640));
    assert(stat_of("empty").st_size == 0);
    assert(stat_of("old").st_mtime == -5);
    assert(stat_of("able").st_uid == 3);
    assert(xattr_of("able", "security.capability", v) == 20);
    assert(memcmp(v, capability, 20) == 0);
    assert(xattr_of("able", "user.mine", v) == 3 && memcmp(v, "a\0b", 3) == 0);
    assert(xattr_of("able", "trusted.overlay.redirect", v) < 0);
    assert(xattr_of("able", "user.overlay.opaque", v) < 0);
}

static void
test_kinds(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_layer_result r;
    char digest[72];

    umask(077); /* must not matter */
    make_rich(&tar);
    unpack(&tar, &r);
    check_rich();
    maker_digest(&tar, digest);
    assert(strcmp(r.digest, digest) == 0 && strcmp(r.diff_id, digest) == 0);
    assert(r.size == tar.len && r.bytes == 7 && r.has_root && !r.root_opaque);
    assert(r.entries == 13 + 2); /* closed/in and dev are implied */
}

static void
test_squashed(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_layer_options o = {.squash_owners = true, .user_xattrs = true};
    struct lev_layer_result r;
    struct lev_error err;
    char v[64];

    make_rich(&tar);
    tar.len -= 1024;
    ADD(&tar, "etc/.wh..wh..opq");
    ADD(&tar, "etc/.wh.gone");
    maker_end(&tar);
    must(unpack_with(&tar, &o, &r, &err), &err);
    assert(stat_of("etc/passwd").st_uid == 0 && missing("dev/null"));
    assert(S_ISFIFO(stat_of("dev/pipe").st_mode));
    assert(xattr_of("etc", "user.overlay.opaque", v) == 1);
    assert(is_whiteout("etc/gone"));
}

/* Every compression, also in pieces and with what the formats allow. */
static void
test_packed(void)
{
    static const int filters[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    _cleanup_buf_ struct lev_buf tar = {0}, half = {0}, rest = {0};
    static const size_t steps[] = {1, 3, 1000, 1000000};
    struct lev_layer_options o = {0};
    char id[72], digest[72];

    make_rich(&tar);
    maker_digest(&tar, id);
    lev_buf_append(&half, tar.data, 1300);
    lev_buf_append(&rest, tar.data + 1300, tar.len - 1300);
    for (size_t i = 0; i < 2 * LEV_ARRAY_LEN(filters); i++) {
        _cleanup_buf_ struct lev_buf packed = {0};

        if (i % 2 == 0) {
            maker_pack(&tar, filters[i / 2], &packed);
        }
        else {
            maker_pack(&half, filters[i / 2], &packed);
            maker_pack(&rest, filters[i / 2], &packed);
        }
        maker_digest(&packed, digest);
        for (size_t k = 0; k < LEV_ARRAY_LEN(steps); k++) {
            struct lev_layer_result r;
            struct maker_source s;
            struct lev_error err;

            maker_source_init(&s, &packed, steps[k]);
            new_dest();
            must(lev_layer_unpack(&forever, &s.source, dest, &o, &r, &err),
                 &err);
            check_rich();
            assert(strcmp(r.diff_id, id) == 0);
            assert(strcmp(r.digest, digest) == 0 && r.size == packed.len);
        }
    }
}

static void
test_whiteouts(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_layer_result r;

    ADD(&tar, "a/.wh.gone");
    ADD(&tar, "b/.wh..wh..opq");
    ADD(&tar, "b/kept", .data = "k");
    /* Of this layer's own: never hidden. */
    ADD(&tar, "c/file", .data = "f");
    ADD(&tar, "c/.wh.file");
    ADD(&tar, "d/dir/x", .data = "x");
    ADD(&tar, "d/.wh.dir");
    ADD(&tar, "e/.wh.dir");
    ADD(&tar, "e/dir/x", .data = "x");
    ADD(&tar, "f/.wh.dir");
    ADD(&tar, "f/dir", '5', .mode = 0700);
    ADD(&tar, "g/.wh.file");
    ADD(&tar, "g/file", .data = "new");
    ADD(&tar, ".wh..wh.aufs");
    ADD(&tar, ".wh..wh.plnk/1.2", .data = "x");
    maker_end(&tar);
    unpack(&tar, &r);
    assert(is_whiteout("a/gone") && is_opaque("b") && holds("b/kept", "k"));
    assert(holds("c/file", "f") && holds("d/dir/x", "x"));
    assert(is_opaque("d/dir") && !is_opaque("d"));
    assert(is_opaque("e/dir") && holds("e/dir/x", "x") && is_opaque("f/dir"));
    assert(holds("g/file", "new") && missing(".wh..wh.aufs"));
    assert(missing(".wh..wh.plnk") && !r.root_opaque && !r.has_root);
    assert((stat_of(".").st_mode & 07777) == 0755);
    lev_buf_clear(&tar);
    ADD(&tar, ".wh..wh..opq");
    unpack(&tar, &r);
    assert(r.root_opaque && missing(".wh..wh..opq"));
}

static void
test_replaced(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_layer_result r;

    ADD(&tar, "a", .data = "first");
    ADD(&tar, "a", .data = "2nd");
    ADD(&tar, "b/c/d", .data = "x");
    ADD(&tar, "b", .data = "file now");
    ADD(&tar, "l", '2', .link = "a");
    ADD(&tar, "l", .data = "not through");
    ADD(&tar, "k", '2', .link = "b");
    ADD(&tar, "k/", '5', .mode = 0711);
    ADD(&tar, "k/x", .data = "x");
    ADD(&tar, "k/", '5', .mode = 0700);
    /* Through a link of the layer. */
    ADD(&tar, "usr/lib/", '5', .mode = 0755);
    ADD(&tar, "lib", '2', .link = "/usr/lib");
    ADD(&tar, "lib/so", .data = "so");
    maker_end(&tar);
    unpack(&tar, &r);
    assert(holds("a", "2nd") && holds("b", "file now"));
    assert(holds("l", "not through") && holds("k/x", "x"));
    assert((stat_of("k").st_mode & 07777) == 0700);
    assert(holds("usr/lib/so", "so") && S_ISLNK(stat_of("lib").st_mode));
}

/* Bytes, not characters, whatever the locale. */
static void
test_names(void)
{
    static const char *const names[] = {
        "\xc3\xa9t\xc3\xa9", "e\xcc\x81te\xcc\x81", "latin\xe9",        "a\nb",
        "\xff\xfe",          "\xf0\x9f\x98\x80",    "e\xcc\x81\xc3\xa9"};
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_layer_result r;
    char name[128], pax[160], long_name[1100];

    for (size_t i = 0; i < LEV_ARRAY_LEN(names); i++) {
        snprintf(name, sizeof(name), "u/%s", names[i]);
        ADD(&tar, name, .data = "u");
        if (strchr(names[i], '\n') == NULL) {
            snprintf(pax, sizeof(pax), "path=p/%s\n", names[i]);
            ADD(&tar, "x", .data = "p", .pax = pax);
            snprintf(pax, sizeof(pax), "path=l%zu\nlinkpath=p/%s\n", i,
                     names[i]);
            ADD(&tar, "x", '1', .link = "cut", .pax = pax);
        }
    }
    for (int i = 0; i < 5; i++) {
        memset(long_name + i * 201, 'a' + i, 200);
        long_name[i * 201 + 200] = i == 4 ? '\0' : '/';
    }
    ADD(&tar, "././@LongLink", 'L', .data = long_name, .len = 1005);
    ADD(&tar, "short", .data = "long");
    maker_end(&tar);
    unpack(&tar, &r);
    for (size_t i = 0; i < LEV_ARRAY_LEN(names); i++) {
        snprintf(name, sizeof(name), "u/%s", names[i]);
        assert(holds(name, "u"));
        name[0] = 'p';
        if (strchr(names[i], '\n') == NULL) {
            assert(holds(name, "p") && stat_of(name).st_nlink == 2);
        }
    }
    assert(holds(long_name, "long"));
}

static void
put_octal(struct lev_buf *tar, size_t at, unsigned long long v)
{
    snprintf(tar->data + at, 12, "%011llo", v);
}

static void
test_sparse(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    unsigned long long huge = 1ull << 32;
    struct lev_layer_result r;
    struct stat st;
    char text[5] = "", map[512] = "1\n1048576\n4\n";
    int fd;

    /* Old GNU: one piece in the middle. */
    ADD(&tar, "sparse", 'S', .data = "data");
    memcpy(tar.data + 257, "ustar  ", 8);
    put_octal(&tar, 386, 1 << 20);
    put_octal(&tar, 398, 4);
    put_octal(&tar, 483, huge);
    maker_checksum(&tar, 0);
    /* pax 1.0: the map in front of the content. */
    ADD(&tar, "GNUSparseFile.0/x", .data = map, .len = sizeof(map),
        .pax = "GNU.sparse.major=1\nGNU.sparse.minor=0\n"
               "GNU.sparse.name=newer\nGNU.sparse.realsize=2097152\n",
        .size = "00000001004");
    lev_buf_append(&tar, "data", 4);
    lev_buf_append(&tar, (char[508]){0}, 508);
    maker_end(&tar);
    unpack(&tar, &r);
    st = stat_of("sparse");
    assert((unsigned long long)st.st_size == huge && st.st_blocks < 64);
    fd = openat(dest, "sparse", O_RDONLY | O_CLOEXEC);
    assert(pread(fd, text, 4, 1 << 20) == 4 && strcmp(text, "data") == 0);
    close(fd);
    st = stat_of("newer");
    assert(st.st_size == 2097152 && st.st_blocks < 64);
    fd = openat(dest, "newer", O_RDONLY | O_CLOEXEC);
    assert(pread(fd, text, 4, 1 << 20) == 4 && strcmp(text, "data") == 0);
    close(fd);
}

static void
test_source_fails(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0};
    struct lev_layer_options o = {0};
    struct lev_cancel cancel;
    struct lev_scope scope = {LEV_NEVER, &cancel};
    struct lev_layer_result r;
    struct maker_source s;
    struct lev_error err;

    make_rich(&tar);
    maker_pack(&tar, ARCHIVE_FILTER_GZIP, &packed);
    for (size_t at = 0; at < packed.len; at += 16) {
        maker_source_init(&s, &packed, 16);
        s.fail_at = at;
        new_dest();
        fails(lev_layer_unpack(&forever, &s.source, dest, &o, &r, &err), &err,
              LEV_E_PULL, "the source broke off");
    }
    for (size_t at = 0; at < tar.len - 1024; at += 100) {
        maker_source_init(&s, &tar, 100);
        s.fail_at = at;
        new_dest();
        fails(lev_layer_unpack(&forever, &s.source, dest, &o, &r, &err), &err,
              LEV_E_PULL, "the source broke off");
    }
    lev_cancel_init(&cancel, NULL);
    lev_cancel_fire(&cancel);
    maker_source_init(&s, &tar, 100);
    fails(lev_layer_unpack(&scope, &s.source, dest, &o, &r, &err), &err,
          LEV_E_CANCELLED, "");
    lev_cancel_deinit(&cancel);
}

static void
test_empty(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0};
    struct lev_layer_result r;

    unpack(&tar, &r);
    assert(r.entries == 0 && r.size == 0);
    maker_end(&tar);
    unpack(&tar, &r);
    assert(r.entries == 0 && r.size == 1024);
    maker_pack(&tar, ARCHIVE_FILTER_GZIP, &packed);
    unpack(&packed, &r);
    assert(r.entries == 0 && r.size == packed.len);
}

static void
pack(struct lev_buf *out, struct lev_layer_result *r)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct lev_error err;
    struct stat st;

    assert(fd >= 0);
    must(lev_layer_pack(&forever, dest, fd, r, &err), &err);
    assert(fstat(fd, &st) == 0 && (uint64_t)st.st_size == r->size);
    out->len = 0;
    assert(lev_buf_reserve(out, r->size) != NULL);
    assert(pread(fd, out->data, r->size, 0) == (ssize_t)r->size);
    out->len = r->size;
    close(fd);
}

/* What was unpacked, packed again and unpacked, is the same. */
static void
test_pack(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0}, again = {0};
    struct lev_layer_result r, a, b;
    struct lev_error err;
    char digest[72];
    int fd;

    make_rich(&tar);
    tar.len -= 1024;
    ADD(&tar, "etc/.wh.gone");
    ADD(&tar, "new/.wh..wh..opq");
    ADD(&tar, "new/\xc3\xa9t\xc3\xa9", .data = "n");
    maker_end(&tar);
    unpack(&tar, &r);
    fd = openat(dest, "holes", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert(fd >= 0 && pwrite(fd, "x", 1, 1 << 20) == 1);
    assert(ftruncate(fd, 1ll << 31) == 0);
    close(fd);
    fd = openat(dest, "hole", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert(fd >= 0 && ftruncate(fd, 1 << 30) == 0);
    close(fd);
    pack(&packed, &a);
    maker_digest(&packed, digest);
    assert(strcmp(a.digest, digest) == 0 && packed.len < 100000);
    /* The root itself has no entry. */
    assert(fchmod(dest, 0751) == 0);
    unpack(&packed, &r);
    assert(!r.has_root && holds("new/\xc3\xa9t\xc3\xa9", "n"));
    assert(is_whiteout("etc/gone") && is_opaque("new"));
    assert(stat_of("holes").st_size == 1ll << 31);
    assert(stat_of("holes").st_blocks < 64);
    assert(stat_of("hole").st_size == 1 << 30);
    assert(stat_of("hole").st_blocks == 0);
    pack(&again, &b);
    assert(strcmp(a.digest, b.digest) == 0 && a.entries == b.entries);
    assert(fchmod(dest, 0751) == 0);
    {
        const struct timespec times[2] = {{1500000000, 0}, {1500000000, 0}};

        assert(futimens(dest, times) == 0);
    }
    check_rich();
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert(fd >= 0);
    fails(lev_layer_pack(&forever, dest, fd, &a, &err), &err, LEV_E_OS,
          "No space left");
    close(fd);
    must(lev_tree_remove(dest, "new", &err), &err);
    assert(mkdirat(dest, "new", 0755) == 0);
    fd = openat(dest, "new", O_RDONLY | O_CLOEXEC);
    assert(fsetxattr(fd, "trusted.overlay.redirect", "/x", 2, 0) == 0);
    close(fd);
    fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fails(lev_layer_pack(&forever, dest, fd, &a, &err), &err, LEV_E_IMAGE,
          "redirect_dir=off");
    close(fd);
}

int
main(void)
{
    struct lev_error err;

    if (geteuid() != 0) {
        fprintf(stderr, "needs root\n");
        return 77;
    }
    assert(mkdtemp(base) != NULL);
    test_kinds();
    test_squashed();
    test_packed();
    test_whiteouts();
    test_replaced();
    test_names();
    if (setlocale(LC_ALL, "C.UTF-8") != NULL) {
        test_names();
        setlocale(LC_ALL, "C");
    }
    test_sparse();
    test_source_fails();
    test_empty();
    test_pack();
    lev_closep(&dest);
    must(lev_tree_remove(AT_FDCWD, base, &err), &err);
    return 0;
}
