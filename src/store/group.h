/* group.h - the $group stage, as other stages are made of it.
 *
 * Internal to the stage units.
 */
#ifndef LEV_GROUP_H
#define LEV_GROUP_H

#include "stage.h"

struct lev_group;

/* A stage at the end of the chain that groups by the expression `key`. */
struct lev_group *lev_group_add(struct lev_chain *chain,
                                const bson_value_t *key,
                                struct lev_error *err);
/* A field of its results: {accumulator: expression}. */
int lev_group_field(struct lev_group *g, const char *field,
                    const bson_value_t *spec, struct lev_error *err);
/* Groups by where the key lies among `bounds`, n of them in order: each group
 * is the lower bound, or `fallback` for what lies outside (missing: QUERY
 * 40066). Results come in order. Values are copied. */
int lev_group_bounds(struct lev_group *g, const bson_value_t *bounds, size_t n,
                     const bson_value_t *fallback, struct lev_error *err);

#endif
