/* expr.h - MongoDB's aggregation expressions: compiled once, then evaluated
 * on documents.
 *
 * A compiled expression holds copies of what it needs and does not change:
 * threads may share it. Each thread has a `struct lev_eval` of its own, in
 * whose memory the results lie until it goes on to the next document.
 * BSON_TYPE_EOD stands for what is missing. Evaluation is bounded in memory
 * (arena.h) and in steps, and looks at its scope now and then.
 */
#ifndef LEV_EXPR_H
#define LEV_EXPR_H

#include "arena.h"
#include "scope.h"

struct lev_expr;

/* What may be done for one document: a node evaluated or 16 bytes made or
 * looked through is one step; QUERY 50 above it. Some seconds where nothing
 * else can end it, some minutes where a scope can. */
#define LEV_EVAL_STEPS UINT64_C(50000000)
#define LEV_EVAL_STEPS_SCOPED (100 * LEV_EVAL_STEPS)

struct lev_eval {
    struct lev_arena arena;
    const struct lev_scope *scope; /* NULL: only the steps bound it */
    const bson_t *doc;             /* $$ROOT */
    int64_t now;                   /* $$NOW; 0: not asked for yet */
    struct lev_zone *zone;         /* the one that was asked for last */
    bson_value_t *slots;           /* variables of $let, $map, … */
    size_t n_slots;
    uint64_t steps, bytes; /* so far; bytes that were looked through */
    uint64_t handed;       /* by the arena, before this document */
    uint64_t look;         /* at the scope, after so many steps */
    struct {               /* an array within `doc`, and how far it was read */
        const uint8_t *data;
        bson_iter_t *it; /* owned */
        size_t next;     /* element */
    } reading;
};

/* A zeroed struct will do as well. */
void lev_eval_init(struct lev_eval *ev, const struct lev_scope *scope);
void lev_eval_deinit(struct lev_eval *ev);
#define _cleanup_eval_ _cleanup_(lev_eval_deinit)
/* On to the next document, borrowed; results so far are gone. */
void lev_eval_start(struct lev_eval *ev, const bson_t *doc);

/* Errors: QUERY with MongoDB's code; UNSUPPORTED_OPERATION naming an operator
 * that is not here. */
struct lev_expr *lev_expr_compile(const bson_value_t *source,
                                  struct lev_error *err);
void lev_expr_destroy(struct lev_expr *e); /* NULL is fine */
static inline void
lev_expr_destroyp(struct lev_expr **e)
{
    lev_expr_destroy(*e);
}
#define _cleanup_expr_ _cleanup_(lev_expr_destroyp)

/* `*out` lies in the eval's memory, the expression or the document. */
int lev_expr_eval(const struct lev_expr *e, struct lev_eval *ev,
                  bson_value_t *out, struct lev_error *err);
/* Whether it counts as true: not false, null, missing or 0. */
bool lev_expr_truth(const bson_value_t *v);

#endif
