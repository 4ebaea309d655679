/* aggregate.h - aggregation over a store that has none of its own: documents
 * come from its finds, the pipeline runs here.
 *
 * What the pipeline begins with ($match, $sort, $skip, $limit) is the find's
 * to do. Nothing of the store is held between two calls but memory. Belongs
 * to one thread at a time.
 */
#ifndef LEV_AGGREGATE_H
#define LEV_AGGREGATE_H

#include "store.h"

struct lev_aggregate;

/* Keeps the store open. Errors as the operation's. */
struct lev_aggregate *lev_aggregate_open(struct lev_store *store,
                                         const struct lev_scope *scope,
                                         const char *coll,
                                         const bson_t *pipeline,
                                         struct lev_error *err);
void lev_aggregate_close(struct lev_aggregate *a); /* NULL is fine */
/* As the operation `next`, but that after an error there is nothing more but
 * that error. */
int lev_aggregate_next(struct lev_aggregate *a, const struct lev_scope *scope,
                       int max, struct lev_buf *out, struct lev_error *err);

#endif
