/* pipeline.h - an aggregation pipeline over documents.
 *
 * A pipeline is compiled for one run: its stages pull documents, one at a
 * time, from the one before, the first from whatever it is started on. Stages
 * that must see all documents first ($group, $sort, $facet, …) hold 100 MiB at
 * most; QUERY 292 above that, as MongoDB does without allowDiskUse. Belongs to
 * one thread at a time.
 */
#ifndef LEV_PIPELINE_H
#define LEV_PIPELINE_H

#include "expr.h"

struct lev_pipeline;

/* Called for each document; not 0 ends it and is returned. */
typedef int (*lev_pipeline_doc_fn)(void *ctx, const bson_t *doc,
                                   struct lev_error *err);

/* Where documents come from. */
struct lev_pipeline_io {
    void *ctx;
    /* 1 with the next document, borrowed until the next call; 0 at the end. */
    int (*next)(void *ctx, const struct lev_scope *scope, bson_t *doc,
                struct lev_error *err);
    /* All documents of another collection, for $lookup; NULL: there are none.
     */
    int (*each)(void *ctx, const struct lev_scope *scope, const char *coll,
                lev_pipeline_doc_fn fn, void *fn_ctx, struct lev_error *err);
};

/* Errors: QUERY with MongoDB's code, UNSUPPORTED_OPERATION by name. */
struct lev_pipeline *lev_pipeline_compile(const bson_t *stages,
                                          struct lev_error *err);
void lev_pipeline_destroy(struct lev_pipeline *p); /* NULL is fine */
static inline void
lev_pipeline_destroyp(struct lev_pipeline **p)
{
    lev_pipeline_destroy(*p);
}
#define _cleanup_pipeline_ _cleanup_(lev_pipeline_destroyp)

/* Leaves out the first `n` stages: somebody else does what they say. */
void lev_pipeline_drop(struct lev_pipeline *p, size_t n);
/* Before the first document; `*io` is copied. */
void lev_pipeline_start(struct lev_pipeline *p,
                        const struct lev_pipeline_io *io);
/* 1 with the next document, borrowed until the next call; 0 at the end. A
 * pipeline that has failed cannot go on. */
int lev_pipeline_next(struct lev_pipeline *p, const struct lev_scope *scope,
                      bson_t *doc, struct lev_error *err);

#endif
