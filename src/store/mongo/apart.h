/* apart.h - a call that cannot be cancelled, waited for within a scope.
 *
 * Looking names up and building a driver's pool block for as long as the
 * machine's resolver likes. They run on a thread of their own; who waits may
 * give up, and what comes of it then is dropped.
 */
#ifndef LEV_MONGO_APART_H
#define LEV_MONGO_APART_H

#include "scope.h"

/* Runs fn(arg). 0: it has ended, and `arg` is the caller's. -1: the scope has
 * ended first, or there was no thread; drop(arg) is called, now or when fn has
 * ended. */
int lev_mongo_apart(void (*fn)(void *), void (*drop)(void *), void *arg,
                    const struct lev_scope *scope, struct lev_error *err);

#endif
