/* expr_array.h - what the array operators share.
 *
 * Internal to the expr units.
 */
#ifndef LEV_EXPR_ARRAY_H
#define LEV_EXPR_ARRAY_H

#include "expr_node.h"

size_t lev_array_count(const bson_value_t *array);
/* Missing when there are fewer. */
bson_value_t lev_array_at(const bson_value_t *array, size_t i);
/* The same of an array that an expression works on: from where it was read
 * last, so that going through one by numbers takes one pass. */
bson_value_t lev_array_read(struct lev_eval *ev, const bson_value_t *array,
                            size_t i);
/* 1 with an array, 0 with null or nothing; for other types QUERY `code`. */
int lev_array_arg(const struct lev_node *n, size_t i, int code,
                  struct lev_eval *ev, bson_value_t *v, struct lev_error *err);

#endif
