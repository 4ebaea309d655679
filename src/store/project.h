/* project.h - projections: which part of a document is given back.
 *
 * Inclusion, exclusion, `_id`, nested forms, computed fields, and in finds
 * $slice, $elemMatch and the positional `$`. The reserved field `_lev` is
 * never in a result. A compiled projection does not change; threads may share
 * it.
 */
#ifndef LEV_PROJECT_H
#define LEV_PROJECT_H

#include "buf.h"
#include "expr.h"

#define LEV_RESERVED_FIELD "_lev"

struct lev_project;

enum lev_project_kind {
    LEV_PROJECT_FIND,  /* a find's */
    LEV_PROJECT_STAGE, /* $project */
    LEV_PROJECT_ADD,   /* $addFields: all fields are computed, others stay */
};

/* NULL as `projection`: whole documents. Errors: QUERY with MongoDB's code. */
struct lev_project *lev_project_compile(const bson_t *projection,
                                        enum lev_project_kind kind,
                                        struct lev_error *err);
void lev_project_destroy(struct lev_project *p); /* NULL is fine */
static inline void
lev_project_destroyp(struct lev_project **p)
{
    lev_project_destroy(*p);
}
#define _cleanup_project_ _cleanup_(lev_project_destroyp)

/* Appends what `p` takes of `doc` to `out`, as a BSON document. `index` is
 * what lev_match_test() gave. `ev` computes fields; one will be made where it
 * is NULL. QUERY 51246 when `$` has no index. */
int lev_project_apply(const struct lev_project *p, const bson_t *doc,
                      long index, struct lev_eval *ev, struct lev_buf *out,
                      struct lev_error *err);

#endif
