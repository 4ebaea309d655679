#include "frame.h"

#include <endian.h>
#include <string.h>

/* An empty buffer larger than this is given back: frames are small, but for a
 * few. */
#define KEEP (1024u * 1024)
#define LENGTH 4u
#define SMALLEST 5u

void
lev_frame_reader_deinit(struct lev_frame_reader *r)
{
    lev_buf_deinit(&r->in);
    r->used = 0;
}

/* Moving what is left only when it is less than what was used keeps the cost
 * of many small frames linear. */
static void
drop_used(struct lev_frame_reader *r)
{
    size_t left = r->in.len - r->used;

    if (left == 0 && r->in.cap > KEEP) {
        lev_buf_deinit(&r->in);
    }
    else if (r->used < left) {
        return;
    }
    else {
        lev_buf_consume(&r->in, r->used);
    }
    r->used = 0;
}

int
lev_frame_reader_feed(struct lev_frame_reader *r, const void *data, size_t len,
                      struct lev_error *err)
{
    drop_used(r);
    lev_buf_append(&r->in, data, len);
    return lev_buf_check(&r->in, "frame", err);
}

static int
untrusted(struct lev_error *err)
{
    err->code = LEV_E_ENGINE;
    return lev_error_wrap(err, "frame from the container");
}

int
lev_frame_reader_next(struct lev_frame_reader *r, bson_t *doc,
                      struct lev_error *err)
{
    size_t left = r->in.len - r->used;
    const uint8_t *data;
    uint32_t len;

    if (left < LENGTH) {
        return 0;
    }
    data = (const uint8_t *)r->in.data + r->used;
    memcpy(&len, data, sizeof(len));
    len = le32toh(len);
    if (len < SMALLEST || len > LEV_FRAME_MAX) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "frame from the container: a length of %u bytes, "
                             "%u to %u are possible",
                             len, SMALLEST, LEV_FRAME_MAX);
    }
    if (left < len) {
        return 0;
    }
    /* The document that a frame wraps may have all the depth there is. */
    if (lev_bson_check(data, len, LEV_BSON_MAX_DEPTH + 1, err) < 0) {
        return err->code == LEV_E_INVALID ? untrusted(err) : -1;
    }
    if (!bson_init_static(doc, data, len)) {
        lev_error_set(err, LEV_E_INVALID, 0, "libbson refuses it");
        return untrusted(err);
    }
    r->used += len;
    return 1;
}

int
lev_frame_reader_end(const struct lev_frame_reader *r, struct lev_error *err)
{
    size_t left = r->in.len - r->used;

    return left == 0 ? 0
                     : lev_error_set(err, LEV_E_ENGINE, 0,
                                     "the channel ended inside a frame, after "
                                     "%zu bytes of it",
                                     left);
}
