#include "log.h"

#include <stdarg.h>
#include <string.h>

void
lev_log(struct lev_log *log, int level, const char *logger, const char *fmt,
        ...)
{
    char text[2048];
    va_list ap;

    if (log == NULL) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log->emit(log, level, logger, text, strlen(text));
}
