/* compq.h - completion queue: worker threads -> asyncio thread.
 *
 * Threads: lev_compq_push() from any thread; every other function from the
 * thread that owns the event loop. No function here takes the GIL.
 */
#ifndef LEV_COMPQ_H
#define LEV_COMPQ_H

#include "error.h"

struct lev_completion {
    struct lev_completion *next;
    /* Called by whoever drains, on its thread; owns the completion. */
    void (*deliver)(struct lev_completion *c);
};

struct lev_compq;

struct lev_compq *lev_compq_create(struct lev_error *err);
void lev_compq_destroy(struct lev_compq *q); /* NULL is fine */
int lev_compq_fd(const struct lev_compq *q); /* for loop.add_reader() */
void lev_compq_push(struct lev_compq *q, struct lev_completion *c);
/* Everything pushed so far, oldest first; NULL if nothing. */
struct lev_completion *lev_compq_drain(struct lev_compq *q);

#endif
