/* Archives that mean harm, or are broken: each is unpacked or refused with an
 * error that says why, and nothing outside the layer changes. As root, since
 * that is who could do damage. */

#include "tarmaker.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>

#include "tree.h"

static const struct lev_scope forever = {.deadline = LEV_NEVER};
static char base[] = "/tmp/lev-hostile-XXXXXX";
static int base_fd = -1;

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

#define OK NULL
#define ADD(...) maker_add(b, &(struct maker_entry){.name = __VA_ARGS__})

static void
absolute(struct lev_buf *b)
{
    ADD("/outside/x", .data = "x");
    ADD("//outside//y", .data = "x");
}

static void
dotdot(struct lev_buf *b)
{
    ADD("../outside/x", .data = "x");
}

static void
dotdot_inside(struct lev_buf *b)
{
    ADD("a/../../outside/x", .data = "x");
}

static void
dotdot_dir(struct lev_buf *b)
{
    ADD("..", '5');
}

static void
dotdot_pax(struct lev_buf *b)
{
    ADD("x", .data = "x", .pax = "path=../outside/x\n");
}

static void
dot(struct lev_buf *b)
{
    ADD(".", '5', .mode = 0700);
    ADD("/", '5', .mode = 0711);
}

static void
dot_file(struct lev_buf *b)
{
    ADD("./.", .data = "x");
}

static void
no_name(struct lev_buf *b)
{
    ADD("", .data = "x");
}

static void
link_out(struct lev_buf *b)
{
    ADD("out", '2', .link = "../outside");
    ADD("out/x", .data = "x");
}

static void
link_out_absolute(struct lev_buf *b)
{
    ADD("out", '2', .link = base);
    ADD("out/outside/x", .data = "x");
}

static void
link_out_file(struct lev_buf *b)
{
    ADD("f", '2', .link = "../outside/secret");
    ADD("f", .data = "overwritten");
}

static void
link_out_dir(struct lev_buf *b)
{
    ADD("d", '2', .link = "../outside");
    ADD("d", '5', .mode = 0777);
}

static void
link_out_device(struct lev_buf *b)
{
    ADD("d", '2', .link = "../outside/secret");
    ADD("d", '3', .major = 1, .minor = 3);
}

static void
link_out_twice(struct lev_buf *b)
{
    ADD("a", '2', .link = "..");
    ADD("b", '2', .link = "a/..");
    ADD("b/outside/x", .data = "x");
}

static void
link_out_whiteout(struct lev_buf *b)
{
    ADD("out", '2', .link = "../outside");
    ADD("out/.wh.secret");
}

static void
link_out_opaque(struct lev_buf *b)
{
    ADD("out", '2', .link = "../outside");
    ADD("out/.wh..wh..opq");
}

static void
link_loop(struct lev_buf *b)
{
    ADD("a", '2', .link = "b");
    ADD("b", '2', .link = "a");
    ADD("a/x", .data = "x");
}

static void
link_self(struct lev_buf *b)
{
    ADD("a", '2', .link = ".");
    ADD("a/a/a/x", .data = "x");
}

static void
link_proc(struct lev_buf *b)
{
    ADD("p", '2', .link = "/proc/self/root");
    ADD("p/outside/x", .data = "x");
}

static void
link_empty(struct lev_buf *b)
{
    ADD("a", '2', .link = "");
}

static void
hard_out(struct lev_buf *b)
{
    ADD("h", '1', .link = "../outside/secret");
}

static void
hard_out_absolute(struct lev_buf *b)
{
    ADD("h", '1', .link = "/etc/passwd");
}

static void
hard_through_link(struct lev_buf *b)
{
    ADD("out", '2', .link = "../outside");
    ADD("h", '1', .link = "out/secret");
}

static void
hard_to_link(struct lev_buf *b)
{
    ADD("s", '2', .link = "../outside/secret");
    ADD("h", '1', .link = "s");
    ADD("h", .data = "not through it");
}

static void
hard_to_dir(struct lev_buf *b)
{
    ADD("d", '5', .mode = 0755);
    ADD("h", '1', .link = "d");
}

static void
hard_to_self(struct lev_buf *b)
{
    ADD("h", .data = "kept");
    ADD("h", '1', .link = "h");
}

static void
hard_to_root(struct lev_buf *b)
{
    ADD("h", '1', .link = ".");
}

static void
hard_with_data(struct lev_buf *b)
{
    ADD("f", .data = "x");
    ADD("h", '1', .link = "f", .data = "more");
    ADD("after", .data = "x");
}

static void
devices(struct lev_buf *b)
{
    ADD("mem", '3', .major = 1, .minor = 1, .mode = 0666);
    ADD("disk", '4', .major = 8, .mode = 0666);
    ADD("mem/x", .data = "x");
}

static void
parent_is_file(struct lev_buf *b)
{
    ADD("f", .data = "x");
    ADD("f/x", .data = "x");
}

static void
parent_is_pipe(struct lev_buf *b)
{
    ADD("p", '6');
    ADD("p/x", .data = "x");
}

static void
file_over_pipe(struct lev_buf *b)
{
    ADD("p", '6');
    ADD("p", .data = "x"); /* opened, it would wait for a reader */
}

static void
changing(struct lev_buf *b)
{
    ADD("a", '5', .mode = 0755);
    ADD("a/b/c", .data = "x");
    ADD("a", '2', .link = "../outside");
    ADD("a", .data = "x");
    ADD("a", '3', .major = 1, .minor = 3);
    ADD("a", '6');
    ADD("a", '5', .mode = 0755);
    ADD("a/b", '2', .link = "../../outside");
    ADD("a/b", '5', .mode = 0755);
    ADD("a/b/c", .data = "x");
}

/* A directory with entries of its own becomes a link before they are done. */
static void
late_dir(struct lev_buf *b)
{
    ADD("a/b", '5', .mode = 0700, .mtime = "1");
    ADD("a", '2', .link = "../outside");
}

static void
late_dir_inner(struct lev_buf *b)
{
    ADD("a", '5', .mode = 0700, .mtime = "1");
    ADD("a", '2', .link = "../outside");
}

static void
wh_dotdot(struct lev_buf *b)
{
    ADD(".wh...");
}

static void
wh_dot(struct lev_buf *b)
{
    ADD("a/.wh..");
}

static void
wh_nothing(struct lev_buf *b)
{
    ADD("a/.wh.");
}

static void
wh_dir(struct lev_buf *b)
{
    ADD(".wh.a/x", .data = "x");
}

static void
wh_slash(struct lev_buf *b)
{
    ADD(".wh.a/../../outside", .data = "x");
}

static void
wh_node(struct lev_buf *b)
{
    ADD("a", '3'); /* 0/0, as a device */
    ADD("a/x", .data = "x");
}

static void
overlay_xattrs(struct lev_buf *b)
{
    ADD("a", '5', .mode = 0755,
        .pax = "SCHILY.xattr.trusted.overlay.redirect=/outside\n"
               "SCHILY.xattr.trusted.overlay.opaque=y\n"
               "SCHILY.xattr.user.overlay.redirect=/outside\n"
               "SCHILY.xattr.security.selinux=x\n");
}

static void
xattr_large(struct lev_buf *b)
{
    _cleanup_buf_ struct lev_buf records = {0};
    static char value[70000];

    memset(value, 'x', sizeof(value));
    maker_record(&records, "SCHILY.xattr.user.large", value, sizeof(value));
    maker_add_pax(b, records.data, records.len);
    ADD("a", .data = "x");
}

static void
xattr_empty(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "SCHILY.xattr.user.=x\nSCHILY.xattr.=y\n");
}

static void
capability_bad(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "SCHILY.xattr.security.capability=rubbish\n");
}

static void
long_component(struct lev_buf *b)
{
    static char pax[400];

    memset(pax, 'n', sizeof(pax) - 2);
    memcpy(pax, "path=", 5);
    strcpy(pax + 398, "\n");
    ADD("x", .data = "x", .pax = pax);
}

static void
long_path(struct lev_buf *b)
{
    static char pax[6000];

    strcpy(pax, "path=");
    for (size_t n = 5; n < 5000; n += 2) {
        memcpy(pax + n, "d/", 2);
    }
    strcpy(pax + 5001, "x\n");
    ADD("x", .data = "x", .pax = pax);
}

static void
deep(struct lev_buf *b)
{
    static char pax[4200];

    strcpy(pax, "path=");
    for (size_t n = 5; n < 4001; n += 2) {
        memcpy(pax + n, "d/", 2);
    }
    strcpy(pax + 4001, "x\n");
    ADD("x", .data = "x", .pax = pax);
    ADD("d", .data = "in its place");
}

static void
weird_names(struct lev_buf *b)
{
    ADD("\n", .data = "x");
    ADD("\x1b[2J", .data = "x");
    ADD("-rf", .data = "x");
    ADD("...", .data = "x");
    ADD(" ", .data = "x");
    ADD("\xff\xfe", .data = "x");
    ADD("con:nul*?", .data = "x");
}

static void
owner_minus_one(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "uid=4294967295\n");
}

static void
owner_huge(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "gid=99999999999\n");
}

static void
time_extreme(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "mtime=-99999999999.5\n");
    ADD("b", .data = "x", .pax = "mtime=9223372036854775807\n");
    ADD("c", '5', .mode = 0755, .pax = "mtime=-1\n");
    ADD("d", .data = "x", .pax = "mtime=1.99999999999999999\n");
}

static void
size_huge(struct lev_buf *b)
{
    ADD("a", .data = "x", .size = "77777777777");
}

static void
size_negative(struct lev_buf *b)
{
    ADD("a", .data = "x",
        .size = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void
size_base256(struct lev_buf *b)
{
    ADD("a", .data = "x",
        .size = "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void
size_text(struct lev_buf *b)
{
    ADD("a", .data = "x", .size = "hello world");
}

static void
pax_size_lies(struct lev_buf *b)
{
    ADD("a", .data = "x", .pax = "size=9223372036854775807\n");
}

static void
pax_length_lies(struct lev_buf *b)
{
    maker_add_pax(b, "999 path=x\n", 11);
    ADD("a", .data = "x");
}

static void
pax_length_zero(struct lev_buf *b)
{
    maker_add_pax(b, "0 path=x\n", 9);
    ADD("a", .data = "x");
}

static void
pax_no_equals(struct lev_buf *b)
{
    maker_add_pax(b, "8 path\n\n", 8);
    ADD("a", .data = "x");
}

static void
pax_nul(struct lev_buf *b)
{
    _cleanup_buf_ struct lev_buf records = {0};

    maker_record(&records, "path", "a\0/../../outside/x", 18);
    maker_add_pax(b, records.data, records.len);
    ADD("a", .data = "x");
}

static void
pax_alone(struct lev_buf *b)
{
    maker_add_pax(b, "10 path=x\n", 10);
}

static void
pax_chain(struct lev_buf *b)
{
    for (int i = 0; i < 3000; i++) {
        maker_add_pax(b, "10 path=x\n", 10);
    }
    ADD("a", .data = "x");
}

static void
pax_too_large(struct lev_buf *b)
{
    ADD("x", 'x', .size = "77777777777");
}

static void
longlink_alone(struct lev_buf *b)
{
    ADD("././@LongLink", 'L', .data = "../../outside/x");
    ADD("a", .data = "x");
}

static void
sparse_map(struct lev_buf *b, const char *map, const char *realsize)
{
    static char head[512];
    char pax[200];

    memset(head, 0, sizeof(head));
    strcpy(head, map);
    snprintf(pax, sizeof(pax),
             "GNU.sparse.major=1\nGNU.sparse.minor=0\n"
             "GNU.sparse.name=s\nGNU.sparse.realsize=%s\n",
             realsize);
    ADD("GNUSparseFile.0/s", .data = head, .len = 512, .pax = pax);
}

static void
sparse_past_end(struct lev_buf *b)
{
    sparse_map(b, "1\n1000000\n4\n", "10");
}

static void
sparse_overlap(struct lev_buf *b)
{
    sparse_map(b, "2\n0\n100\n50\n100\n", "200");
}

static void
sparse_negative(struct lev_buf *b)
{
    sparse_map(b, "1\n-5\n4\n", "100");
}

static void
sparse_endless(struct lev_buf *b)
{
    sparse_map(b, "99999999\n0\n0\n", "100");
}

static void
sparse_vast(struct lev_buf *b)
{
    sparse_map(b, "1\n9223372036854775000\n0\n", "9223372036854775807");
}

static void
sparse_rubbish(struct lev_buf *b)
{
    sparse_map(b, "one\n", "1");
}

static void
checksum_wrong(struct lev_buf *b)
{
    ADD("a", .data = "x");
    ADD("b", .data = "x");
    b->data[1024 + 150] ^= 1;
}

static void
unknown_type(struct lev_buf *b)
{
    ADD("a", 'Z', .data = "x");
    ADD("b", .data = "x");
}

static void
not_tar(struct lev_buf *b)
{
    for (int i = 0; i < 300; i++) {
        lev_buf_puts(b, "{\"errors\": \"this is a web page\"}");
    }
}

static void
zip(struct lev_buf *b)
{
    lev_buf_append(b, "PK\3\4\24\0\0\0\0\0", 10);
    lev_buf_append(b, (char[600]){0}, 600);
}

static void
garbage_after(struct lev_buf *b)
{
    ADD("a", .data = "x");
    maker_end(b);
    not_tar(b);
}

static void
second_archive(struct lev_buf *b)
{
    ADD("a", .data = "x");
    maker_end(b);
    ADD("../outside/x", .data = "x");
}

static void
many_bytes(struct lev_buf *b)
{
    static char zeros[70000];

    for (int i = 0; i < 20; i++) {
        char name[16];

        snprintf(name, sizeof(name), "f%d", i);
        ADD(name, .data = zeros, .len = sizeof(zeros));
    }
}

static void
many_entries(struct lev_buf *b)
{
    for (int i = 0; i < 1001; i++) {
        char name[16];

        snprintf(name, sizeof(name), "f%d", i);
        ADD(name);
    }
}

static void
many_implied(struct lev_buf *b)
{
    for (int i = 0; i < 60; i++) {
        char name[64];

        snprintf(name, sizeof(name), "%d/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r",
                 i);
        ADD(name, .data = "x");
    }
}

static void
zeros_after(struct lev_buf *b)
{
    static char zeros[1 << 20];

    maker_end(b);
    for (int i = 0; i < 8; i++) {
        lev_buf_append(b, zeros, sizeof(zeros));
    }
}

static void
same_again(struct lev_buf *b)
{
    for (int i = 0; i < 500; i++) {
        ADD("a", .data = "x");
    }
}

/* What is expected: OK or a part of the error's words. The limits are those of
 * unpack(). */
static const struct hostile {
    const char *name;
    void (*make)(struct lev_buf *b);
    const char *error;
    int pack;    /* a filter */
    bool either; /* success is as good */
} cases[] = {
    {.name = "absolute", .make = absolute, .error = OK},
    {.name = "dotdot", .make = dotdot, .error = "has '..' in it"},
    {.name = "dotdot inside",
     .make = dotdot_inside,
     .error = "has '..' in it"},
    {.name = "dotdot as a directory",
     .make = dotdot_dir,
     .error = "has '..' in it"},
    {.name = "dotdot in a pax header",
     .make = dotdot_pax,
     .error = "has '..' in it"},
    {.name = "dot and root", .make = dot, .error = OK},
    {.name = "dot as a file",
     .make = dot_file,
     .error = "names the root, but is no directory"},
    {.name = "no name", .make = no_name, .error = "has no name"},
    {.name = "link out",
     .make = link_out,
     .error = "a link that leads to none"},
    {.name = "link out, absolute",
     .make = link_out_absolute,
     .error = "a link that leads to none"},
    {.name = "link out, then a file", .make = link_out_file, .error = OK},
    {.name = "link out, then a directory", .make = link_out_dir, .error = OK},
    {.name = "link out, then a device", .make = link_out_device, .error = OK},
    {.name = "links to the parent", .make = link_out_twice, .error = OK},
    {.name = "whiteout through a link",
     .make = link_out_whiteout,
     .error = "that leads to none"},
    {.name = "opaque through a link",
     .make = link_out_opaque,
     .error = "that leads to none"},
    {.name = "loop of links", .make = link_loop, .error = "Too many levels"},
    {.name = "link to itself", .make = link_self, .error = OK},
    {.name = "link to /proc",
     .make = link_proc,
     .error = "a link that leads to none"},
    {.name = "empty link", .make = link_empty, .error = "leads nowhere"},
    {.name = "hard link out", .make = hard_out, .error = "has '..' in it"},
    {.name = "hard link out, absolute",
     .make = hard_out_absolute,
     .error = "No such file"},
    {.name = "hard link through a link",
     .make = hard_through_link,
     .error = "No such file"},
    {.name = "hard link to a link", .make = hard_to_link, .error = OK},
    {.name = "hard link to a directory",
     .make = hard_to_dir,
     .error = "to a directory"},
    {.name = "hard link to itself", .make = hard_to_self, .error = OK},
    {.name = "hard link to the root",
     .make = hard_to_root,
     .error = "hard link"},
    {.name = "hard link with content",
     .make = hard_with_data,
     .error = OK,
     .either = true},
    {.name = "devices", .make = devices, .error = "is none"},
    {.name = "file as a parent", .make = parent_is_file, .error = "is none"},
    {.name = "pipe as a parent", .make = parent_is_pipe, .error = "is none"},
    {.name = "file over a pipe", .make = file_over_pipe, .error = OK},
    {.name = "one name, many types", .make = changing, .error = OK},
    {.name = "directory becomes a link", .make = late_dir, .error = OK},
    {.name = "directory becomes a link, itself",
     .make = late_dir_inner,
     .error = OK},
    {.name = "whiteout of ..",
     .make = wh_dotdot,
     .error = "a whiteout of no name"},
    {.name = "whiteout of .",
     .make = wh_dot,
     .error = "a whiteout of no name"},
    {.name = "whiteout of nothing",
     .make = wh_nothing,
     .error = "a whiteout of no name"},
    {.name = "whiteout as a parent",
     .make = wh_dir,
     .error = "used as a directory"},
    {.name = "whiteout and dotdot",
     .make = wh_slash,
     .error = "has '..' in it"},
    {.name = "whiteout as a device", .make = wh_node, .error = OK},
    {.name = "attributes of overlayfs", .make = overlay_xattrs, .error = OK},
    {.name = "attribute too large",
     .make = xattr_large,
     .error = "attribute user.large"},
    {.name = "attributes without names",
     .make = xattr_empty,
     .error = "attribute user.",
     .either = true},
    {.name = "capability that is none",
     .make = capability_bad,
     .error = "attribute security.capability"},
    {.name = "long component", .make = long_component, .error = "too long"},
    {.name = "long path", .make = long_path, .error = "too long"},
    {.name = "deep tree, replaced",
     .make = deep,
     .error = "more than 1000 entries"},
    {.name = "weird names", .make = weird_names, .error = OK},
    {.name = "owner -1",
     .make = owner_minus_one,
     .error = "no user and group"},
    {.name = "owner beyond 32 bits",
     .make = owner_huge,
     .error = "no user and group"},
    {.name = "extreme times", .make = time_extreme, .error = OK},
    {.name = "huge size", .make = size_huge, .error = ""},
    {.name = "negative size", .make = size_negative, .error = ""},
    {.name = "size in base 256", .make = size_base256, .error = ""},
    {.name = "size that is text",
     .make = size_text,
     .error = "",
     .either = true},
    {.name = "pax size lies", .make = pax_size_lies, .error = ""},
    {.name = "pax length lies",
     .make = pax_length_lies,
     .error = "",
     .either = true},
    {.name = "pax length zero",
     .make = pax_length_zero,
     .error = "",
     .either = true},
    {.name = "pax without =",
     .make = pax_no_equals,
     .error = "",
     .either = true},
    {.name = "pax with NUL", .make = pax_nul, .error = OK, .either = true},
    {.name = "pax alone", .make = pax_alone, .error = "", .either = true},
    {.name = "pax after pax", .make = pax_chain, .error = "", .either = true},
    {.name = "pax too large", .make = pax_too_large, .error = ""},
    {.name = "long link out",
     .make = longlink_alone,
     .error = "has '..' in it"},
    {.name = "sparse past the end",
     .make = sparse_past_end,
     .error = "",
     .either = true},
    {.name = "sparse overlap",
     .make = sparse_overlap,
     .error = "",
     .either = true},
    {.name = "sparse negative",
     .make = sparse_negative,
     .error = "",
     .either = true},
    {.name = "sparse endless map",
     .make = sparse_endless,
     .error = "",
     .either = true},
    {.name = "sparse vast", .make = sparse_vast, .error = "", .either = true},
    {.name = "sparse rubbish",
     .make = sparse_rubbish,
     .error = "",
     .either = true},
    {.name = "wrong checksum",
     .make = checksum_wrong,
     .error = "broken archive"},
    {.name = "unknown type", .make = unknown_type, .error = OK},
    {.name = "no archive", .make = not_tar, .error = "broken archive"},
    {.name = "no archive, packed",
     .make = not_tar,
     .error = "broken archive",
     .pack = ARCHIVE_FILTER_GZIP},
    {.name = "another archive", .make = zip, .error = "broken archive"},
    {.name = "garbage after the end", .make = garbage_after, .error = OK},
    {.name = "another archive after the end",
     .make = second_archive,
     .error = OK},
    {.name = "packed twice",
     .make = second_archive,
     .error = OK,
     .pack = ARCHIVE_FILTER_ZSTD},
    {.name = "bytes", .make = many_bytes, .error = "more than 1000000 bytes"},
    {.name = "bytes, packed",
     .make = many_bytes,
     .error = "more than 1000000 bytes",
     .pack = ARCHIVE_FILTER_GZIP},
    {.name = "entries",
     .make = many_entries,
     .error = "more than 1000 entries"},
    {.name = "implied directories",
     .make = many_implied,
     .error = "more than 1000 entries"},
    {.name = "zeros after the end",
     .make = zeros_after,
     .error = "a limit against bombs",
     .pack = ARCHIVE_FILTER_ZSTD},
    {.name = "the same again", .make = same_again, .error = OK},
};

/* --- what must not change ---------------------------------------------------
 */

static void
list_into(const char *path, struct lev_buf *out)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);

    assert(n >= 0);
    for (int i = 0; i < n; i++) {
        char sub[1024];
        struct stat st;

        snprintf(sub, sizeof(sub), "%s/%s", path, names[i]->d_name);
        if (strcmp(names[i]->d_name, "..") != 0 &&
            strcmp(names[i]->d_name, "layer") != 0)
        {
            assert(lstat(sub, &st) == 0);
            lev_buf_printf(out, "%s %o %d %lld %lld %ld\n", sub, st.st_mode,
                           (int)st.st_uid, (long long)st.st_size,
                           (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
            if (S_ISDIR(st.st_mode) && strcmp(names[i]->d_name, ".") != 0) {
                list_into(sub, out);
            }
        }
        free(names[i]);
    }
    free(names);
}

static char *
snapshot(void)
{
    _cleanup_buf_ struct lev_buf b = {0};
    char path[64];

    snprintf(path, sizeof(path), "%s/outside", base);
    list_into(path, &b);
    return lev_buf_take(&b);
}

static void
make_outside(void)
{
    int fd;

    assert(mkdirat(base_fd, "outside", 0755) == 0);
    fd = openat(base_fd, "outside/secret", O_CREAT | O_WRONLY | O_CLOEXEC,
                0600);
    assert(fd >= 0 && write(fd, "secret", 6) == 6);
    close(fd);
}

static int
unpack(const struct lev_buf *b, struct lev_error *err)
{
    struct lev_layer_options o = {.max_bytes = 1000000, .max_entries = 1000};
    struct lev_layer_result r;
    struct maker_source s;
    int fd, rc;

    must(lev_tree_remove(base_fd, "layer", err), err);
    assert(mkdirat(base_fd, "layer", 0700) == 0);
    fd = openat(base_fd, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(fd >= 0);
    maker_source_init(&s, b, 4096);
    rc = lev_layer_unpack(&forever, &s.source, fd, &o, &r, err);
    assert(rc == 0 || strlen(err->msg) > 10);
    close(fd);
    return rc;
}

static void
check(const struct hostile *h, int rc, const struct lev_error *err)
{
    const char *wanted = h->error == OK ? "success" : h->error;

    if (rc == 0 && (h->error == OK || h->either)) {
        return;
    }
    if (rc < 0 && (h->error != OK || h->either) &&
        (err->code == LEV_E_IMAGE || err->code == LEV_E_OS) &&
        (h->error == OK || strstr(err->msg, h->error) != NULL))
    {
        return;
    }
    fprintf(stderr, "%s: %s, expected %s\n", h->name,
            rc == 0 ? "success" : err->msg, wanted);
    abort();
}

static void
try(const struct hostile *h)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0};
    _cleanup_free_ char *before = snapshot();
    _cleanup_free_ char *after = NULL;
    struct lev_error err = {0};
    int rc;

    h->make(&tar);
    if (h->make != zip && h->make != not_tar) {
        maker_end(&tar);
    }
    if (h->pack != 0) {
        maker_pack(&tar, h->pack, &packed);
    }
    rc = unpack(h->pack != 0 ? &packed : &tar, &err);
    check(h, rc, &err);
    after = snapshot();
    if (strcmp(before, after) != 0) {
        fprintf(stderr, "%s: outside changed\n%s->\n%s", h->name, before,
                after);
        abort();
    }
    assert(access("/outside", F_OK) < 0);
}

/* Cut anywhere, each archive is refused or taken, and nothing else. */
static void
test_cut(int filter)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0};
    struct lev_error err = {0};
    struct lev_buf *whole = &tar;
    size_t len;

    changing(&tar);
    xattr_large(&tar);
    sparse_overlap(&tar);
    if (filter != 0) {
        maker_pack(&tar, filter, &packed);
        whole = &packed;
    }
    len = whole->len;
    for (whole->len = 0; whole->len < len;
         whole->len += whole->len < 600 || filter != 0 ? 7 : 97)
    {
        int rc = unpack(whole, &err);

        assert(rc == 0 || err.code == LEV_E_IMAGE || err.code == LEV_E_OS);
        assert(filter == 0 || rc < 0 || whole->len == 0);
    }
    whole->len = len;
}

/* A bit wrong anywhere: as above. */
static void
test_flipped(int filter)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0};
    _cleanup_free_ char *before = snapshot();
    struct lev_error err = {0};
    struct lev_buf *whole = &tar;

    changing(&tar);
    late_dir(&tar);
    sparse_overlap(&tar);
    if (filter != 0) {
        maker_pack(&tar, filter, &packed);
        whole = &packed;
    }
    for (size_t i = 0; i < whole->len; i += filter != 0 ? 1 : 13) {
        _cleanup_free_ char *after = NULL;

        whole->data[i] ^= (char)(1 << i % 8);
        unpack(whole, &err);
        whole->data[i] ^= (char)(1 << i % 8);
        after = snapshot();
        assert(strcmp(before, after) == 0);
    }
}

/* Compressions that libarchive would undo without end. */
static void
test_nested(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, one = {0}, two = {0};
    struct lev_error err = {0};

    absolute(&tar);
    maker_end(&tar);
    maker_pack(&tar, ARCHIVE_FILTER_GZIP, &one);
    assert(unpack(&one, &err) == 0);
    maker_pack(&one, ARCHIVE_FILTER_GZIP, &two);
    assert(unpack(&two, &err) < 0 && err.code == LEV_E_IMAGE);
    lev_buf_clear(&one);
    maker_pack(&tar, ARCHIVE_FILTER_XZ, &one);
    assert(unpack(&one, &err) < 0 && err.code == LEV_E_IMAGE);
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
    base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_outside();
    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        try(&cases[i]);
    }
    test_cut(0);
    test_cut(ARCHIVE_FILTER_GZIP);
    test_cut(ARCHIVE_FILTER_ZSTD);
    test_flipped(0);
    test_flipped(ARCHIVE_FILTER_GZIP);
    test_flipped(ARCHIVE_FILTER_ZSTD);
    test_nested();
    must(lev_tree_remove(AT_FDCWD, base, &err), &err);
    close(base_fd);
    return 0;
}
