#include "tarmaker.h"

#include <assert.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "sha256.h"

void
maker_checksum(struct lev_buf *tar, size_t at)
{
    unsigned char *h = (unsigned char *)tar->data + at;
    unsigned sum = 0;

    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) {
        sum += h[i];
    }
    snprintf((char *)h + 148, 8, "%06o", sum);
}

static void
pad(struct lev_buf *tar)
{
    static const char zeros[512];

    if (tar->len % 512 != 0) {
        lev_buf_append(tar, zeros, 512 - tar->len % 512);
    }
}

void
maker_record(struct lev_buf *records, const char *key, const void *value,
             size_t len)
{
    size_t body = strlen(key) + len + 3, n = body + 1;
    char text[32];

    /* The length counts its own digits. */
    while ((size_t)snprintf(text, sizeof(text), "%zu", n) + body != n) {
        n = (size_t)snprintf(text, sizeof(text), "%zu", n) + body;
    }
    lev_buf_printf(records, "%zu %s=", n, key);
    lev_buf_append(records, value, len);
    lev_buf_putc(records, '\n');
}

void
maker_add_pax(struct lev_buf *tar, const char *text, size_t len)
{
    struct maker_entry e = {
        .name = "pax", .type = 'x', .data = text, .len = len};

    maker_add(tar, &e);
}

static void
add_records(struct lev_buf *tar, const char *text)
{
    _cleanup_buf_ struct lev_buf records = {0};

    for (const char *p = text; *p != '\0';) {
        const char *eq = strchr(p, '='), *end = strchr(p, '\n');
        char key[200];

        snprintf(key, sizeof(key), "%.*s", (int)(eq - p), p);
        maker_record(&records, key, eq + 1, (size_t)(end - eq - 1));
        p = end + 1;
    }
    maker_add_pax(tar, records.data, records.len);
}

void
maker_add(struct lev_buf *tar, const struct maker_entry *e)
{
    char h[512] = {0};
    size_t len = e->len > 0 || e->data == NULL ? e->len : strlen(e->data);
    size_t at;

    if (e->pax != NULL) {
        add_records(tar, e->pax);
    }
    at = tar->len;
    memcpy(h, e->name, strnlen(e->name, 100));
    snprintf(h + 100, 8, "%07o", e->mode == 0 ? 0644 : e->mode & 07777);
    snprintf(h + 108, 8, "%07o", e->uid & 07777777);
    snprintf(h + 116, 8, "%07o", e->gid & 07777777);
    snprintf(h + 124, 12, "%011zo", len);
    if (e->size != NULL) {
        memset(h + 124, 0, 12);
        memcpy(h + 124, e->size, strnlen(e->size, 12));
    }
    snprintf(h + 136, 12, "%s", e->mtime == NULL ? "13132027400" : e->mtime);
    h[156] = e->type == 0 ? '0' : e->type;
    if (e->link != NULL) {
        memcpy(h + 157, e->link, strnlen(e->link, 100));
    }
    memcpy(h + 257, "ustar\00000", 8);
    snprintf(h + 329, 8, "%07o", e->major & 07777777);
    snprintf(h + 337, 8, "%07o", e->minor & 07777777);
    lev_buf_append(tar, h, sizeof(h));
    maker_checksum(tar, at);
    if (len > 0) {
        lev_buf_append(tar, e->data, len);
    }
    pad(tar);
    assert(!tar->failed);
}

void
maker_end(struct lev_buf *tar)
{
    static const char zeros[1024];

    lev_buf_append(tar, zeros, sizeof(zeros));
}

static la_ssize_t
keep(struct archive *a, void *out, const void *data, size_t len)
{
    lev_buf_append(out, data, len);
    return (la_ssize_t)len;
}

void
maker_pack(const struct lev_buf *tar, int filter, struct lev_buf *out)
{
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();

    assert(archive_write_set_format_raw(a) == ARCHIVE_OK);
    assert(archive_write_add_filter(a, filter) == ARCHIVE_OK);
    archive_write_set_bytes_in_last_block(a, 1);
    assert(archive_write_open(a, out, NULL, keep, NULL) == ARCHIVE_OK);
    archive_entry_set_filetype(e, AE_IFREG);
    assert(archive_write_header(a, e) == ARCHIVE_OK);
    assert(archive_write_data(a, tar->data, tar->len) == (la_ssize_t)tar->len);
    assert(archive_write_close(a) == ARCHIVE_OK);
    archive_entry_free(e);
    archive_write_free(a);
}

void
maker_digest(const struct lev_buf *b, char digest[72])
{
    struct lev_sha256 h;

    lev_sha256_init(&h);
    lev_sha256_update(&h, b->data, b->len);
    strcpy(digest, "sha256:");
    lev_sha256_hex(&h, digest + 7);
}

static ssize_t
source_read(void *ctx, void *buf, size_t len, struct lev_error *err)
{
    struct maker_source *s = ctx;
    size_t n = s->from->len - s->at;

    if (s->at >= s->fail_at) {
        return lev_error_set(err, LEV_E_PULL, 0, "the source broke off");
    }
    n = n < len ? n : len;
    n = n < s->step ? n : s->step;
    if (n > 0) {
        memcpy(buf, s->from->data + s->at, n);
    }
    s->at += n;
    return (ssize_t)n;
}

void
maker_source_init(struct maker_source *s, const struct lev_buf *from,
                  size_t step)
{
    *s = (struct maker_source){.source = {.read = source_read, .ctx = s},
                               .from = from,
                               .step = step,
                               .fail_at = SIZE_MAX};
}
