#include "layer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>

#define MAX_BYTES (UINT64_C(64) << 30)
#define MAX_ENTRIES UINT64_C(4000000)
#define PER_ENTRY 4096u /* headers, padding: of the archive, per entry */

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

static bool
starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

enum kind {
    PLAIN,
    META,         /* of aufs, not of the layer */
    WHITEOUT_DIR, /* a whiteout where a directory is needed */
    HIDES,        /* a whiteout */
    OPAQUE,
};

static enum kind
kind_of(const char *path)
{
    enum kind kind = PLAIN;

    for (const char *part = path; part != NULL;) {
        const char *slash = strchr(part, '/');

        if (slash == NULL && strcmp(part, WHITEOUT_OPAQUE) == 0) {
            return OPAQUE;
        }
        if (starts_with(part, WHITEOUT_META)) {
            return META;
        }
        if (starts_with(part, WHITEOUT)) {
            kind = slash == NULL ? HIDES : WHITEOUT_DIR;
            return kind;
        }
        part = slash == NULL ? NULL : slash + 1;
    }
    return kind;
}

static int
hide(struct lev_layer_place *p, const char *path, struct lev_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = (slash == NULL ? path : slash + 1) + strlen(WHITEOUT);

    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return lev_layer_error(err, LEV_E_IMAGE, 0, path,
                               "a whiteout of no name");
    }
    return lev_layer_write_whiteout(p, path, name, err);
}

static int
make_opaque(struct lev_layer_place *p, const char *path, struct lev_error *err)
{
    const char *ignored;
    int parent = lev_layer_place_parent(p, path, &ignored, err);

    if (parent < 0) {
        return -1;
    }
    if (strchr(path, '/') == NULL) {
        /* overlayfs has no opaque root. */
        p->root_opaque = true;
        return 0;
    }
    return lev_layer_place_opaque(p, parent, ".", err);
}

static int
take_entry(struct lev_layer_place *p, struct lev_layer_stream *s,
           struct archive_entry *e, struct lev_buf *path,
           struct lev_error *err)
{
    const char *name = archive_entry_pathname(e);

    if (name == NULL || *name == '\0') {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "layer: entry %llu has no name",
                             (unsigned long long)p->entries);
    }
    if (lev_layer_path(name, path, err) < 0) {
        return -1;
    }
    if (path->len == 0) {
        return lev_layer_write_root(p, e, err);
    }
    switch (kind_of(path->data)) {
    case META:
        return 0;
    case WHITEOUT_DIR:
        return lev_layer_error(err, LEV_E_IMAGE, 0, path->data,
                               "a whiteout is used as a directory");
    case HIDES:
        return hide(p, path->data, err);
    case OPAQUE:
        return make_opaque(p, path->data, err);
    default:
        return lev_layer_write(p, s, e, path->data, err);
    }
}

static int
take_all(struct lev_layer_place *p, struct lev_layer_stream *s,
         struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    struct archive_entry *e;
    int rc;

    while ((rc = lev_layer_stream_next(s, &e, err)) > 0) {
        if (lev_layer_place_count(p, err) < 0 ||
            take_entry(p, s, e, &path, err) < 0) {
            return -1;
        }
    }
    return rc;
}

static int
finish(struct lev_layer_place *p, struct lev_layer_stream *s,
       struct lev_layer_result *result, struct lev_error *err)
{
    struct lev_layer_result r = {.bytes = p->bytes,
                                 .entries = p->entries,
                                 .has_root = p->has_root,
                                 .root_opaque = p->root_opaque};

    if (!p->has_root && fchmod(p->root, 0755) < 0) {
        return lev_error_errno(err, "layer: mode of its directory");
    }
    if (lev_layer_stream_finish(s, &r, err) < 0 ||
        lev_layer_place_finish(p, err) < 0)
    {
        return -1;
    }
    *result = r;
    return 0;
}

/* libarchive converts the names of pax headers from UTF-8 to the locale's
 * character set, in its own normal form of Unicode. In the C locale that
 * fails for whatever is not ASCII, and then it leaves the bytes alone. */
static locale_t
c_locale_enter(void)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);

    return c == (locale_t)0 ? c : uselocale(c);
}

static void
c_locale_leave(const locale_t *before)
{
    if (*before != (locale_t)0) {
        locale_t c = uselocale(*before);

        freelocale(c);
    }
}

static int
unpack(struct lev_layer_place *p, struct lev_layer_stream *s,
       struct lev_layer_result *result, struct lev_error *err)
{
    return take_all(p, s, err) < 0 ? -1 : finish(p, s, result, err);
}

int
lev_layer_unpack(const struct lev_scope *scope,
                 const struct lev_layer_source *source, int dirfd,
                 const struct lev_layer_options *options,
                 struct lev_layer_result *result, struct lev_error *err)
{
    _cleanup_(c_locale_leave) locale_t before = c_locale_enter();
    struct lev_layer_options o = *options;
    struct lev_layer_stream s;
    struct lev_layer_place p;
    int rc;

    if (before == (locale_t)0) {
        return lev_error_nomem(err, "locale");
    }
    o.max_bytes = o.max_bytes == 0 ? MAX_BYTES : o.max_bytes;
    o.max_entries = o.max_entries == 0 ? MAX_ENTRIES : o.max_entries;
    if (lev_layer_stream_open(&s, scope, source,
                              o.max_bytes + o.max_entries * PER_ENTRY + 65536,
                              err) < 0)
    {
        return -1;
    }
    lev_layer_place_init(&p, dirfd, &o);
    rc = unpack(&p, &s, result, err);
    lev_layer_place_deinit(&p);
    lev_layer_stream_close(&s);
    return rc;
}
