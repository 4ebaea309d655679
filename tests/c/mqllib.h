/* mqllib.h - MongoDB's language on documents in memory, as a back end of
 * oracle.h; `ctx` is not used. */
#ifndef LEV_TEST_MQLLIB_H
#define LEV_TEST_MQLLIB_H

#include "oracle.h"

int mql_find(void *ctx, const struct oracle_case *c, struct lev_buf *out,
             struct lev_error *err);
int mql_update(void *ctx, const struct oracle_case *c, struct oracle_counts *n,
               struct lev_buf *out, struct lev_error *err);
int mql_aggregate(void *ctx, const struct oracle_case *c, struct lev_buf *out,
                  struct lev_error *err);

#endif
