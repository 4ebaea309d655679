/* accum.h - accumulators: one value made of many, as $group and some
 * expressions need it.
 *
 * An accumulator owns what it keeps and belongs to one thread.
 */
#ifndef LEV_ACCUM_H
#define LEV_ACCUM_H

#include "arena.h"

struct lev_accum;

struct lev_accum_op {
    const char *name; /* "$sum", … */
    bool no_argument; /* $count: {} */
    int (*step)(struct lev_accum *a, const bson_value_t *v,
                struct lev_error *err);
    int (*finish)(const struct lev_accum *a, struct lev_arena *arena,
                  bson_value_t *out, struct lev_error *err);
};

/* NULL for what is none. */
const struct lev_accum_op *lev_accum_find(const char *name);

struct lev_accum {
    const struct lev_accum_op *op;
    int64_t n; /* values that counted */
    union {
        struct {
            __int128 whole;
            double sum, rest; /* rest: what rounding took from the sum */
            bool has_double, has_long, has_decimal;
            bson_decimal128_t decimal;
        } sum;
        struct {
            double mean, squares;
        } spread;
        bson_value_t value;          /* owned */
        struct lev_accum_list *list; /* NULL: empty */
    };
};

void lev_accum_init(struct lev_accum *a, const struct lev_accum_op *op);
void lev_accum_deinit(struct lev_accum *a);
static inline int
lev_accum_step(struct lev_accum *a, const bson_value_t *v,
               struct lev_error *err)
{
    return a->op->step(a, v, err);
}
static inline int
lev_accum_finish(const struct lev_accum *a, struct lev_arena *arena,
                 bson_value_t *out, struct lev_error *err)
{
    return a->op->finish(a, arena, out, err);
}
size_t lev_accum_bytes(const struct lev_accum *a); /* beyond the struct */

#endif
