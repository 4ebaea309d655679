/* scope.h - how long a call may wait: a deadline and a cancel token.
 *
 * Every call of the core that can wait takes a `const struct lev_scope *` and
 * ends when its work is done, its deadline passes (LEV_E_TIMEOUT) or its token
 * is fired (LEV_E_CANCELLED), and never otherwise. A scope is a plain value: a
 * narrower one is made with lev_scope_within() and needs no clean-up.
 *
 * Tokens form trees: firing one fires all below it. A token is fired from any
 * thread; whoever owns it makes sure that it outlives its use. All waiting
 * goes through the three functions at the end, or through lev_scope_fd() and
 * lev_scope_left_ms() for a library that polls by itself.
 */
#ifndef LEV_SCOPE_H
#define LEV_SCOPE_H

#include "error.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lev_event;

struct lev_cancel {
    struct lev_cancel *root; /* whose mutex guards the whole tree */
    pthread_mutex_t mutex;   /* used in the root only */
    struct lev_cancel *children, *next, **link;
    struct lev_event *waiters;
    atomic_bool fired;
    int fd; /* eventfd, made when somebody polls; -1 until then */
};

/* `parent` may be NULL; a child of a fired parent is born fired. */
void lev_cancel_init(struct lev_cancel *c, struct lev_cancel *parent);
void lev_cancel_deinit(struct lev_cancel *c);
void lev_cancel_fire(struct lev_cancel *c); /* any thread; again is fine */
bool lev_cancel_fired(const struct lev_cancel *c);

/* Set once by one thread, waited for by at most one other. */
struct lev_event {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool set, cancelled;
    struct lev_event *next, **link;
};

void lev_event_init(struct lev_event *ev);
void lev_event_deinit(struct lev_event *ev);
void lev_event_set(struct lev_event *ev); /* any thread; wakes the waiter */
bool lev_event_is_set(struct lev_event *ev);

struct lev_scope {
    int64_t deadline;          /* lev_now() time; LEV_NEVER: none */
    struct lev_cancel *cancel; /* NULL: cannot be cancelled */
};

#define LEV_NEVER INT64_MAX
#define LEV_MS INT64_C(1000000)
#define LEV_SECOND INT64_C(1000000000)

int64_t lev_now(void); /* CLOCK_MONOTONIC, nanoseconds */

/* The same token, ending `ns` from now or with the parent. */
struct lev_scope lev_scope_within(const struct lev_scope *parent, int64_t ns);
int lev_scope_check(const struct lev_scope *s, struct lev_error *err);
/* Milliseconds until the deadline, rounded up, at most `limit` (≥ 0). */
int lev_scope_left_ms(const struct lev_scope *s, int limit);
/* Becomes readable when the token is fired; -1 for a scope without a token.
 * Borrowed. -1 with `*err` set when it could not be made. */
int lev_scope_fd(const struct lev_scope *s, struct lev_error *err);

/* As poll(2): how many of `fds` are ready (≥ 1). */
int lev_scope_poll(const struct lev_scope *s, struct pollfd *fds, size_t n,
                   struct lev_error *err);
int lev_scope_sleep(const struct lev_scope *s, int64_t ns,
                    struct lev_error *err);
int lev_scope_wait(const struct lev_scope *s, struct lev_event *ev,
                   struct lev_error *err);

#endif
