/* match.h - MongoDB's query language: a query compiled once, then tried on
 * documents.
 *
 * A compiled query holds a copy of its source and does not change: threads may
 * share it.
 */
#ifndef LEV_MATCH_H
#define LEV_MATCH_H

#include "expr.h"

struct lev_match;

/* NULL as `query` matches everything. Errors: QUERY with MongoDB's code in
 * `detail`; UNSUPPORTED_OPERATION naming the operator. */
struct lev_match *lev_match_compile(const bson_t *query,
                                    struct lev_error *err);
void lev_match_destroy(struct lev_match *m); /* NULL is fine */
static inline void
lev_match_destroyp(struct lev_match **m)
{
    lev_match_destroy(*m);
}
#define _cleanup_match_ _cleanup_(lev_match_destroyp)

/* 1: matches, 0: does not, -1: QUERY (a regular expression took too long, an
 * $expr failed). `ev` is for $expr; one will be made where it is NULL.
 * `*index`, unless NULL, becomes the array index through which it matches, for
 * the projection's `$`; -1 where there is none. */
int lev_match_test(const struct lev_match *m, const bson_t *doc,
                   struct lev_eval *ev, long *index, struct lev_error *err);

/* The operand of an $elemMatch, to be tried on the elements of arrays. */
struct lev_match *lev_match_compile_elem(const bson_value_t *operand,
                                         struct lev_error *err);
/* 1 with the first matching element's index, 0 or -1. */
int lev_match_elem(const struct lev_match *m, const bson_value_t *array,
                   long *index, struct lev_error *err);

/* QUERY 224 when there is an $expr in it. */
int lev_match_check_no_expr(const struct lev_match *m, const char *where,
                            struct lev_error *err);
/* Whether it is true of every document. */
bool lev_match_all(const struct lev_match *m);
/* What every match's `_id` is equal to; NULL when the query does not say. */
const bson_value_t *lev_match_id(const struct lev_match *m);

/* Calls `fn` for each `path: value` that every match must have (top level and
 * $and); not 0 ends it and is returned. */
typedef int (*lev_match_equal_fn)(void *ctx, const char *path,
                                  const bson_value_t *value);
int lev_match_equalities(const struct lev_match *m, lev_match_equal_fn fn,
                         void *ctx);

#endif
