/* log.h - where the core's log records go.
 *
 * The core never writes to a terminal: whoever starts a session gives a sink,
 * and the binding's hands each record to Python's logging on the loop's
 * thread.
 */
#ifndef LEV_LOG_H
#define LEV_LOG_H

#include "error.h"

/* The numbers of Python's logging. */
enum lev_level {
    LEV_DEBUG = 10,
    LEV_INFO = 20,
    LEV_WARNING = 30,
    LEV_ERROR = 40,
};

struct lev_log {
    /* From any thread; must not wait. `text` is UTF-8 or nearly so. */
    void (*emit)(struct lev_log *log, int level, const char *logger,
                 const char *text, size_t len);
    /* Called by the last user; NULL: nobody owns it. */
    void (*destroy)(struct lev_log *log);
};

/* NULL as `log` drops the record. `logger` is a dotted name ("lev.engine"). */
void lev_log(struct lev_log *log, int level, const char *logger,
             const char *fmt, ...) LEV_PRINTF(4, 5);

#endif
