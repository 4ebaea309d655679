/* worker.h - threads of the core: a small pool for short operations, and
 * threads of their own for what lasts.
 *
 * A pool starts threads as jobs come, up to its limit, and lets idle ones end.
 * Jobs start in the order they were submitted. Every thread blocks all
 * signals, so that the program's handlers run where it expects them. After
 * fork() a child has none of these threads: submitting fails there and says
 * so.
 */
#ifndef LEV_WORKER_H
#define LEV_WORKER_H

#include "error.h"
#include <stdbool.h>

struct lev_job {
    struct lev_job *next;
    void (*run)(struct lev_job *job); /* on a pool thread; owns the job */
};

struct lev_pool;

struct lev_pool *lev_pool_create(unsigned max_threads, struct lev_error *err);
/* Runs what was submitted, then ends the threads; NULL is fine. In a forked
 * child it only frees. */
void lev_pool_destroy(struct lev_pool *pool);
int lev_pool_submit(struct lev_pool *pool, struct lev_job *job,
                    struct lev_error *err);
/* The same for a job that lasts: it gets a thread of its own at once, an idle
 * one or a new one, whatever the limit is; fails where there is none to be
 * had. */
int lev_pool_start(struct lev_pool *pool, struct lev_job *job,
                   struct lev_error *err);
/* As lev_pool_destroy(), but waits for nothing: the last thread frees it, so
 * that a job may be who calls this. NULL is fine. */
void lev_pool_leave(struct lev_pool *pool);

/* A detached thread called `name` (15 bytes are shown) that runs fn(arg). */
int lev_thread_start(const char *name, void (*fn)(void *), void *arg,
                     struct lev_error *err);

/* Gives back what deeper calls than the caller's have used of the stack, for a
 * thread that may now wait for long; only on a thread that was started here.
 */
void lev_thread_shrink(void);

#endif
