#include "registry_blob.h"

#include <string.h>

#define FAILURES_MAX 5
#define RESUMES_MAX 50

/* A connection that broke, as against a registry that says no. */
static bool
may_go_on(const struct lev_error *err)
{
    return err->code == LEV_E_ENGINE || err->code == LEV_E_ENGINE_UNAVAILABLE;
}

static int
wrong(const struct lev_regblob *b, struct lev_error *err, const char *what)
{
    return lev_error_set(err, LEV_E_PULL, 0,
                         "blob %s: %s (at byte %llu of %lld)", b->digest, what,
                         (unsigned long long)b->off, (long long)b->size);
}

static void
stop(struct lev_regblob *b)
{
    if (b->open) {
        lev_regstream_close(&b->stream);
        b->open = false;
    }
}

/* 206 must begin where it was asked to. */
static int
check_range(struct lev_regblob *b, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf value = {0};
    const char *text =
        lev_regstream_header(&b->stream, "Content-Range", &value);
    unsigned long long first;

    return text != NULL && sscanf(text, "bytes %llu-", &first) == 1 &&
                   first == b->off
               ? 0
               : wrong(b, err,
                       "the registry sent another part than it was "
                       "asked for");
}

/* A registry that knows no Range sends all of it again. */
static int
skip(struct lev_regblob *b, struct lev_error *err)
{
    char piece[16384];
    uint64_t left = b->off;

    while (left > 0) {
        ssize_t n = lev_regstream_read(
            &b->stream, piece, left < sizeof(piece) ? left : sizeof(piece),
            err);

        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            return wrong(b, err, "the registry sent less of it than before");
        }
        left -= (uint64_t)n;
    }
    return 0;
}

static int
start(struct lev_regblob *b, struct lev_error *err)
{
    char path[96];

    snprintf(path, sizeof(path), "blobs/%s", b->digest);
    if (lev_regclient_open(b->client, b->scope, path, NULL, b->off, &b->stream,
                           err) < 0)
    {
        return -1;
    }
    b->open = true;
    return b->stream.status == 206 ? check_range(b, err) : skip(b, err);
}

static ssize_t
read_some(struct lev_regblob *b, void *buf, size_t len, struct lev_error *err)
{
    ssize_t n;

    if (!b->open && start(b, err) < 0) {
        return -1;
    }
    n = lev_regstream_read(&b->stream, buf, len, err);
    if (n == 0 && b->size >= 0 && b->off < (uint64_t)b->size) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "blob %s ends at byte %llu of %lld", b->digest,
                             (unsigned long long)b->off, (long long)b->size);
    }
    if (n > 0 && b->size >= 0 && b->off + (uint64_t)n > (uint64_t)b->size) {
        return wrong(b, err, "it is longer than the manifest says");
    }
    return n;
}

/* -1 when there is no use in trying once more. */
static int
recover(struct lev_regblob *b, struct lev_error *err)
{
    struct lev_error why = *err;

    stop(b);
    if (!may_go_on(&why)) {
        return -1;
    }
    if (++b->failures > FAILURES_MAX || ++b->resumes > RESUMES_MAX) {
        return lev_error_set(err, LEV_E_PULL, why.detail,
                             "blob %s: the connection broke %d times: %s",
                             b->digest, b->resumes, why.msg);
    }
    return lev_scope_sleep(b->scope, (50 * LEV_MS) << b->failures, err);
}

static ssize_t
blob_read(void *ctx, void *buf, size_t len, struct lev_error *err)
{
    struct lev_regblob *b = ctx;

    for (;;) {
        ssize_t n = read_some(b, buf, len, err);

        if (n >= 0) {
            b->off += (uint64_t)n;
            b->failures = n > 0 ? 0 : b->failures;
            if (n > 0 && b->on_bytes != NULL) {
                b->on_bytes(b->ctx, (size_t)n);
            }
            return n;
        }
        if (recover(b, err) < 0) {
            return -1;
        }
    }
}

void
lev_regblob_init(struct lev_regblob *b, struct lev_regclient *client,
                 const struct lev_scope *scope, const char *digest,
                 int64_t size)
{
    *b = (struct lev_regblob){.source = {.read = blob_read, .ctx = b},
                              .client = client,
                              .scope = scope,
                              .digest = digest,
                              .size = size};
}

void
lev_regblob_deinit(struct lev_regblob *b)
{
    stop(b);
}
