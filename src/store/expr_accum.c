#include "accum.h"
#include "expr_node.h"

/* Accumulators as expressions: over the elements of an array that is the only
 * argument, else over the arguments. */

static int
step_elements(struct lev_accum *a, const bson_value_t *array,
              struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (lev_accum_step(a, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
step_arguments(const struct lev_node *n, struct lev_eval *ev,
               struct lev_accum *a, struct lev_error *err)
{
    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;
        int rc;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        lev_node_charge(ev, &v);
        rc = n->n == 1 && v.value_type == BSON_TYPE_ARRAY
                 ? step_elements(a, &v, err)
                 : lev_accum_step(a, &v, err);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* What an accumulator keeps goes with it. */
static int
keep(struct lev_eval *ev, bson_value_t *v, struct lev_error *err)
{
    bson_t doc = BSON_INITIALIZER, copy;
    bson_value_t whole;
    int rc;

    bson_append_value(&doc, "", 0, v);
    rc = lev_arena_doc(&ev->arena, &doc, BSON_TYPE_DOCUMENT, &whole, err);
    bson_destroy(&doc);
    if (rc == 0 && lev_value_open(&whole, &copy)) {
        *v = lev_value_field(&copy, "");
    }
    return rc;
}

static int
eval_accum(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    struct lev_accum a;
    int rc;

    lev_accum_init(&a, lev_accum_find(n->op->name));
    rc = step_arguments(n, ev, &a, err);
    if (rc == 0) {
        rc = lev_accum_finish(&a, &ev->arena, out, err);
    }
    if (rc == 0) {
        rc = keep(ev, out, err);
    }
    lev_accum_deinit(&a);
    return rc;
}

const struct lev_expr_op lev_expr_accum[] = {
    {.name = "$sum", .eval = eval_accum, .max = -1},
    {.name = "$avg", .eval = eval_accum, .max = -1},
    {.name = "$min", .eval = eval_accum, .max = -1},
    {.name = "$max", .eval = eval_accum, .max = -1},
    {.name = "$stdDevPop", .eval = eval_accum, .max = -1},
    {.name = "$stdDevSamp", .eval = eval_accum, .max = -1},
    {0},
};
