#include "buf.h"

#include <stdarg.h>
#include <string.h>

void
lev_buf_deinit(struct lev_buf *b)
{
    free(b->data);
    *b = (struct lev_buf){0};
}

char *
lev_buf_reserve(struct lev_buf *b, size_t more)
{
    size_t need = b->len + more + 1;

    if (b->failed || need < more) {
        b->failed = true;
        return NULL;
    }
    if (need > b->cap) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        char *data;

        while (cap < need) {
            cap += cap / 2;
        }
        data = realloc(b->data, cap);
        if (data == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void
lev_buf_append(struct lev_buf *b, const void *data, size_t len)
{
    char *to = lev_buf_reserve(b, len);

    if (to == NULL) {
        return;
    }
    if (len > 0) {
        memcpy(to, data, len);
    }
    b->len += len;
    b->data[b->len] = '\0';
}

void
lev_buf_puts(struct lev_buf *b, const char *text)
{
    lev_buf_append(b, text, strlen(text));
}

void
lev_buf_putc(struct lev_buf *b, char c)
{
    lev_buf_append(b, &c, 1);
}

void
lev_buf_printf(struct lev_buf *b, const char *fmt, ...)
{
    va_list ap;
    char *to;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || (to = lev_buf_reserve(b, (size_t)n)) == NULL) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void
lev_buf_consume(struct lev_buf *b, size_t n)
{
    if (n == 0) {
        return;
    }
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

void
lev_buf_clear(struct lev_buf *b)
{
    b->len = 0;
    if (b->data != NULL) {
        b->data[0] = '\0';
    }
}

const char *
lev_buf_text(const struct lev_buf *b)
{
    return b->data == NULL ? "" : b->data;
}

char *
lev_buf_take(struct lev_buf *b)
{
    char *data;

    lev_buf_append(b, "", 0); /* an empty buffer is "", not NULL */
    data = b->failed ? NULL : lev_steal(b->data);
    lev_buf_deinit(b);
    return data;
}

int
lev_buf_check(const struct lev_buf *b, const char *what, struct lev_error *err)
{
    return b->failed ? lev_error_nomem(err, what) : 0;
}

void
lev_buf_base64(struct lev_buf *b, const void *data, size_t len, bool url)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char safe[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *set = url ? safe : plain;
    const uint8_t *in = data;

    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)in[i] << 16 |
                     (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        char out[4] = {set[v >> 18], set[v >> 12 & 63],
                       left > 1 ? set[v >> 6 & 63] : '=',
                       left > 2 ? set[v & 63] : '='};

        lev_buf_append(b, out, 4);
    }
}

static int
base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+' || c == '-') {
        return 62;
    }
    return c == '/' || c == '_' ? 63 : -1;
}

int
lev_buf_unbase64(struct lev_buf *b, const char *text, struct lev_error *err)
{
    size_t len = strlen(text);
    uint32_t v = 0;
    unsigned bits = 0;

    while (len > 0 && text[len - 1] == '=') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        int six = base64_value(text[i]);

        if (six < 0) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "not base64: byte %zu is no digit of it", i);
        }
        v = v << 6 | (uint32_t)six;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            lev_buf_putc(b, (char)(v >> bits & 0xff));
        }
    }
    if (bits == 6) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "not base64: it is cut off");
    }
    return lev_buf_check(b, "base64", err);
}

void
lev_buf_urlencode(struct lev_buf *b, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL;

        if (plain) {
            lev_buf_putc(b, *p);
        }
        else {
            lev_buf_printf(b, "%%%02X", (unsigned char)*p);
        }
    }
}
