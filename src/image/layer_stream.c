/* layer_stream.c - from a source's bytes to the entries of an archive.
 *
 * Two readers of libarchive in a row, so that both digests can be taken: one
 * that only decompresses, and one that only knows tar. The compression is told
 * here by the first bytes, and set: left to guess, libarchive would undo any
 * number of compressions of any kind.
 */

#include "layer_internal.h"

#include <errno.h>
#include <string.h>

#define CHUNK (128u * 1024)

/* Of a failing call of libarchive: ours, when a callback stored one. */
static int
broken(struct lev_layer_stream *s, struct archive *a, struct lev_error *err)
{
    const char *text = archive_error_string(a);

    if (s->failed) {
        *err = s->err;
        return -1;
    }
    if (archive_errno(a) == ENOMEM) {
        return lev_error_nomem(err, "layer");
    }
    return lev_error_set(err, LEV_E_IMAGE, 0, "layer: broken archive: %s",
                         text != NULL ? text : "unknown failure");
}

/* Bytes of the source, 0 at its end; what came before is given back. */
static ssize_t
fill(struct lev_layer_stream *s, struct lev_error *err)
{
    ssize_t n;

    if (s->ended) {
        return 0;
    }
    if (lev_scope_check(s->scope, err) < 0) {
        return -1;
    }
    n = s->source->read(s->source->ctx, s->in, CHUNK, err);
    if (n > 0) {
        lev_sha256_update(&s->packed, s->in, (size_t)n);
        s->packed_len += (uint64_t)n;
    }
    s->ended = n == 0;
    return n;
}

static int
count_unpacked(struct lev_layer_stream *s, const void *data, size_t len,
               struct lev_error *err)
{
    lev_sha256_update(&s->unpacked, data, len);
    s->unpacked_len += len;
    if (s->unpacked_len > s->max_unpacked) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "layer: it unpacks to more than %llu bytes; a "
                             "limit against bombs",
                             (unsigned long long)s->max_unpacked);
    }
    return 0;
}

static la_ssize_t
fail(struct lev_layer_stream *s, struct archive *a)
{
    s->failed = true;
    archive_set_error(a, EIO, "%s", s->err.msg);
    return -1;
}

/* What the decompressor reads. */
static la_ssize_t
read_packed(struct archive *a, void *ctx, const void **out)
{
    struct lev_layer_stream *s = ctx;
    ssize_t n = (ssize_t)s->held;

    *out = s->in;
    s->held = 0;
    if (n == 0) {
        n = fill(s, &s->err);
    }
    return n < 0 ? fail(s, a) : n;
}

/* What the tar reader reads. */
static la_ssize_t
read_unpacked(struct archive *a, void *ctx, const void **out)
{
    struct lev_layer_stream *s = ctx;
    la_int64_t offset;
    size_t len = 0;
    la_ssize_t n;

    if (s->raw == NULL) {
        n = read_packed(a, ctx, out);
    }
    else {
        int rc = archive_read_data_block(s->raw, out, &len, &offset);

        if (rc < ARCHIVE_WARN) {
            broken(s, s->raw, &s->err);
            return fail(s, a);
        }
        n = rc == ARCHIVE_EOF ? 0 : (la_ssize_t)len;
    }
    if (n > 0 && count_unpacked(s, *out, (size_t)n, &s->err) < 0) {
        return fail(s, a);
    }
    return n;
}

static int
filter_of(const char *data, size_t len)
{
    const unsigned char *p = (const unsigned char *)data;

    if (len >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
        return ARCHIVE_FILTER_GZIP;
    }
    /* A frame, or one that is to be skipped (RFC 8878, 3.1.2). */
    if (len >= 4 && (p[0] == 0x28 || (p[0] & 0xf0) == 0x50) &&
        (memcmp(p + 1, "\xb5\x2f\xfd", 3) == 0 ||
         memcmp(p + 1, "\x2a\x4d\x18", 3) == 0))
    {
        return ARCHIVE_FILTER_ZSTD;
    }
    return ARCHIVE_FILTER_NONE;
}

/* The first bytes may come one by one. */
static int
peek(struct lev_layer_stream *s, struct lev_error *err)
{
    while (s->held < 4) {
        ssize_t n = s->source->read(s->source->ctx, s->in + s->held,
                                    CHUNK - s->held, err);

        if (n < 0 || lev_scope_check(s->scope, err) < 0) {
            return -1;
        }
        if (n == 0) {
            s->ended = true;
            break;
        }
        s->held += (size_t)n;
    }
    lev_sha256_update(&s->packed, s->in, s->held);
    s->packed_len = s->held;
    return 0;
}

static int
open_raw(struct lev_layer_stream *s, int filter, struct lev_error *err)
{
    struct archive_entry *e;
    int rc;

    s->raw = archive_read_new();
    if (s->raw == NULL) {
        return lev_error_nomem(err, "layer");
    }
    archive_read_support_format_raw(s->raw);
    archive_read_support_format_empty(s->raw);
    if (archive_read_append_filter(s->raw, filter) != ARCHIVE_OK ||
        archive_read_open(s->raw, s, NULL, read_packed, NULL) != ARCHIVE_OK)
    {
        return broken(s, s->raw, err);
    }
    rc = archive_read_next_header(s->raw, &e);
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN || rc == ARCHIVE_EOF
               ? 0
               : broken(s, s->raw, err);
}

static int
open_tar(struct lev_layer_stream *s, struct lev_error *err)
{
    s->tar = archive_read_new();
    if (s->tar == NULL) {
        return lev_error_nomem(err, "layer");
    }
    archive_read_support_format_tar(s->tar);
    archive_read_support_format_empty(s->tar);
    return archive_read_open(s->tar, s, NULL, read_unpacked, NULL) ==
                   ARCHIVE_OK
               ? 0
               : broken(s, s->tar, err);
}

static int
open_all(struct lev_layer_stream *s, struct lev_error *err)
{
    int filter;

    s->in = malloc(CHUNK);
    if (s->in == NULL) {
        return lev_error_nomem(err, "layer");
    }
    if (peek(s, err) < 0) {
        return -1;
    }
    filter = filter_of(s->in, s->held);
    if (filter != ARCHIVE_FILTER_NONE && open_raw(s, filter, err) < 0) {
        return -1;
    }
    return open_tar(s, err);
}

int
lev_layer_stream_open(struct lev_layer_stream *s,
                      const struct lev_scope *scope,
                      const struct lev_layer_source *source,
                      uint64_t max_unpacked, struct lev_error *err)
{
    *s = (struct lev_layer_stream){
        .scope = scope, .source = source, .max_unpacked = max_unpacked};
    lev_sha256_init(&s->packed);
    lev_sha256_init(&s->unpacked);
    if (open_all(s, err) < 0) {
        lev_layer_stream_close(s);
        return -1;
    }
    return 0;
}

void
lev_layer_stream_close(struct lev_layer_stream *s)
{
    archive_read_free(lev_steal(s->tar));
    archive_read_free(lev_steal(s->raw));
    free(lev_steal(s->in));
}

int
lev_layer_stream_next(struct lev_layer_stream *s, struct archive_entry **entry,
                      struct lev_error *err)
{
    int rc;

    if (lev_scope_check(s->scope, err) < 0) {
        return -1;
    }
    /* ARCHIVE_RETRY is a damaged header, which a layer must not have. */
    rc = archive_read_next_header(s->tar, entry);
    if (rc == ARCHIVE_EOF) {
        return 0;
    }
    /* A warning tells of a name that is no UTF-8 or of an attribute that
     * libarchive does not know: the entry is as good as any. */
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 1 : broken(s, s->tar, err);
}

int
lev_layer_stream_data(struct lev_layer_stream *s, const void **data,
                      size_t *len, int64_t *offset, struct lev_error *err)
{
    la_int64_t at = 0;
    int rc;

    if (lev_scope_check(s->scope, err) < 0) {
        return -1;
    }
    rc = archive_read_data_block(s->tar, data, len, &at);
    *offset = at;
    if (rc == ARCHIVE_EOF) {
        return 0;
    }
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 1 : broken(s, s->tar, err);
}

static void
digest(struct lev_sha256 *h, char out[72])
{
    memcpy(out, "sha256:", 7);
    lev_sha256_hex(h, out + 7);
}

int
lev_layer_stream_finish(struct lev_layer_stream *s,
                        struct lev_layer_result *result, struct lev_error *err)
{
    const void *data;
    la_ssize_t n;

    /* The archive has ended; behind it is padding, or what nobody reads. */
    while ((n = read_unpacked(s->tar, s, &data)) > 0) {
        if (lev_scope_check(s->scope, err) < 0) {
            return -1;
        }
    }
    if (n < 0) {
        *err = s->err;
        return -1;
    }
    while ((n = fill(s, err)) > 0) {
    }
    if (n < 0) {
        return -1;
    }
    digest(&s->packed, result->digest);
    digest(&s->unpacked, result->diff_id);
    result->size = s->packed_len;
    return 0;
}
