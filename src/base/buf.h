/* buf.h - a growing byte buffer; always NUL-terminated, so that text in it can
 * be used as a C string.
 *
 * A zeroed struct is an empty buffer. Failed growth is sticky: appends after
 * it do nothing, and lev_buf_check() reports it once at the end, so that a
 * sequence of appends needs one check. Not thread-safe.
 */
#ifndef LEV_BUF_H
#define LEV_BUF_H

#include "error.h"
#include <stdbool.h>
#include <stdint.h>

struct lev_buf {
    char *data; /* NULL while nothing was appended */
    size_t len, cap;
    bool failed;
};

void lev_buf_deinit(struct lev_buf *b);
#define _cleanup_buf_ _cleanup_(lev_buf_deinit)

/* Room for `more` bytes behind `len`; NULL when out of memory. */
char *lev_buf_reserve(struct lev_buf *b, size_t more);
void lev_buf_append(struct lev_buf *b, const void *data, size_t len);
void lev_buf_puts(struct lev_buf *b, const char *text);
void lev_buf_putc(struct lev_buf *b, char c);
void lev_buf_printf(struct lev_buf *b, const char *fmt, ...) LEV_PRINTF(2, 3);
/* Drop the first `n` bytes. */
void lev_buf_consume(struct lev_buf *b, size_t n);
void lev_buf_clear(struct lev_buf *b); /* keeps the memory */
/* As a C string: never NULL. */
const char *lev_buf_text(const struct lev_buf *b);
/* Hand the memory over as a C string; NULL when an append failed. */
char *lev_buf_take(struct lev_buf *b);
/* -1 with NOMEM when an append failed. */
int lev_buf_check(const struct lev_buf *b, const char *what,
                  struct lev_error *err);

/* RFC 4648: the standard alphabet or, with `url`, the URL-safe one. */
void lev_buf_base64(struct lev_buf *b, const void *data, size_t len, bool url);
/* Appends the bytes that `text` (either alphabet, padding optional) stands
 * for; -1 with INVALID when it is no base64. */
int lev_buf_unbase64(struct lev_buf *b, const char *text,
                     struct lev_error *err);
/* Percent-encode all but RFC 3986's unreserved characters. */
void lev_buf_urlencode(struct lev_buf *b, const char *text);

#endif
