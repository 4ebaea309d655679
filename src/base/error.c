#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "utf8.h"

const char *
lev_error_name(enum lev_errcode code)
{
    switch (code) {
    case LEV_OK:
        break;
#define X(code_, exc)                                                         \
    case LEV_E_##code_:                                                       \
        return #exc;
        LEV_ERRORS(X)
#undef X
    }
    return "LevError";
}

int
lev_error_set(struct lev_error *err, enum lev_errcode code, int detail,
              const char *fmt, ...)
{
    va_list ap;

    err->code = code;
    err->detail = detail;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    /* Words of tools are in it, and a bound may cut a character. */
    lev_utf8_mend(err->msg);
    return -1;
}

int
lev_error_errno(struct lev_error *err, const char *fmt, ...)
{
    int saved = errno;
    char what[512], text[96];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    /* The GNU strerror_r may return a static string instead of `text`. */
    return lev_error_set(err, saved == ENOMEM ? LEV_E_NOMEM : LEV_E_OS, saved,
                         "%s: %s", what,
                         strerror_r(saved, text, sizeof(text)));
}

int
lev_error_wrap(struct lev_error *err, const char *fmt, ...)
{
    char inner[sizeof(err->msg)];
    va_list ap;
    size_t n;

    memcpy(inner, err->msg, sizeof(inner));
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    /* A long chain loses its tail, never its head. */
    n = strlen(err->msg);
    snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", inner);
    lev_utf8_mend(err->msg);
    return -1;
}

int
lev_error_add(struct lev_error *err, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    size_t n = strlen(err->msg);

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    snprintf(err->msg + n, sizeof(err->msg) - n, "; %s", what);
    lev_utf8_mend(err->msg);
    return -1;
}

int
lev_error_nomem(struct lev_error *err, const char *what)
{
    return lev_error_set(err, LEV_E_NOMEM, 0, "out of memory: %s", what);
}
