/* error.h - the one error type of the core.
 *
 * A function that can fail takes `struct lev_error *err` as its last argument
 * and returns 0 or -1 (or a pointer, NULL on failure). On success `err` is not
 * touched. `err` lives on the caller's stack: reporting an error never
 * allocates, so out-of-memory is reported like any other error.
 */
#ifndef LEV_ERROR_H
#define LEV_ERROR_H

#include "base.h"

/* code, name of the Python exception that levrt raises for it */
#define LEV_ERRORS(X)                                                         \
    X(NOMEM, MemoryError)                                                     \
    X(OS, OSError)                                                            \
    X(INVALID, ValueError)                                                    \
    X(TYPE, TypeError)                                                        \
    X(RANGE, OverflowError)                                                   \
    X(STATE, RuntimeError)                                                    \
    X(CANCELLED, CancelledError)                                              \
    X(TIMEOUT, TimeoutError)                                                  \
    X(LEV, LevError)                                                          \
    X(ENGINE, EngineError)                                                    \
    X(ENGINE_UNAVAILABLE, EngineUnavailable)                                  \
    X(NOT_FOUND, NotFound)                                                    \
    X(CONFLICT, Conflict)                                                     \
    X(IMAGE, ImageError)                                                      \
    X(IMAGE_NOT_FOUND, ImageNotFound)                                         \
    X(PULL, PullError)                                                        \
    X(UNSUPPORTED_OPTION, UnsupportedOption)                                  \
    X(TASK, TaskFailed)                                                       \
    X(START, StartFailed)                                                     \
    X(REMOTE, RemoteError)                                                    \
    X(OOM, OutOfMemory)                                                       \
    X(READINESS, ReadinessTimeout)                                            \
    X(DEADLINE, DeadlineExceeded)                                             \
    X(STORE, StoreError)                                                      \
    X(STORE_UNAVAILABLE, StoreUnavailable)                                    \
    X(TOO_LARGE, DocumentTooLarge)                                            \
    X(QUERY, QueryError)                                                      \
    X(UNSUPPORTED_OPERATION, UnsupportedOperation)

enum lev_errcode {
    LEV_OK = 0,
#define X(code, exc) LEV_E_##code,
    LEV_ERRORS(X)
#undef X
};

struct lev_error {
    enum lev_errcode code;
    int detail; /* errno, HTTP status, SQLite's or MongoDB's code; 0 if none */
    char msg[1000]; /* UTF-8, whatever it was made of */
};

/* The exception's: "EngineError"; of LEV_OK, too, a name. */
const char *lev_error_name(enum lev_errcode code);

/* Both return -1, so that a failing function can `return lev_error_set(…)`. */
int lev_error_set(struct lev_error *err, enum lev_errcode code, int detail,
                  const char *fmt, ...) LEV_PRINTF(4, 5);
/* From errno: "<what>: <strerror>", code OS. */
int lev_error_errno(struct lev_error *err, const char *fmt, ...)
    LEV_PRINTF(2, 3);
/* Prefix what is already there: "put files: tar: name too long". */
int lev_error_wrap(struct lev_error *err, const char *fmt, ...)
    LEV_PRINTF(2, 3);
/* Append what helps, or is known besides: "pull x: no space; free some". */
int lev_error_add(struct lev_error *err, const char *fmt, ...)
    LEV_PRINTF(2, 3);
/* Code NOMEM; `what` could not be allocated. */
int lev_error_nomem(struct lev_error *err, const char *what);

#endif
