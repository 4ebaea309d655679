#include "accum.h"

#include <math.h>
#include <string.h>

#include "arith.h"
#include "fields.h"
#include "keymap.h"
#include "value.h"

/* Of $push and $addToSet: elements; of $mergeObjects: documents. */
struct lev_accum_list {
    struct lev_build build;
    struct lev_keymap set;
};

static struct lev_accum_list *
list_of(struct lev_accum *a, struct lev_error *err)
{
    if (a->list == NULL) {
        a->list = lev_arena_calloc(sizeof(*a->list));
        if (a->list == NULL) {
            lev_error_nomem(err, "accumulator");
            return NULL;
        }
        lev_build_init(&a->list->build);
    }
    return a->list;
}

static void
list_destroy(struct lev_accum_list *list)
{
    if (list != NULL) {
        lev_build_deinit(&list->build);
        lev_keymap_deinit(&list->set);
        free(list);
    }
}

static bool
is_null(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_EOD || v->value_type == BSON_TYPE_NULL ||
           v->value_type == BSON_TYPE_UNDEFINED;
}

/* $sum, $avg */

/* Neumaier's sum: what an addition loses is added at the end. */
static void
add_double(struct lev_accum *a, double d)
{
    double sum = a->sum.sum + d;

    if (isfinite(sum)) {
        a->sum.rest += fabs(a->sum.sum) >= fabs(d) ? a->sum.sum - sum + d
                                                   : d - sum + a->sum.sum;
    }
    a->sum.sum = sum;
}

static int
sum_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    struct lev_decimal so_far = {0};
    int64_t whole = 0;

    if (!lev_number_is(v)) {
        return 0;
    }
    a->n++;
    switch (v->value_type) {
    case BSON_TYPE_DOUBLE:
        a->sum.has_double = true;
        add_double(a, v->value.v_double);
        return 0;
    case BSON_TYPE_DECIMAL128:
        if (a->sum.has_decimal) {
            lev_decimal_split(&a->sum.decimal, &so_far);
        }
        so_far = a->sum.has_decimal
                     ? lev_decimal_add(so_far, lev_arith_decimal(v))
                     : lev_arith_decimal(v);
        a->sum.has_decimal = true;
        lev_decimal_join(&so_far, &a->sum.decimal);
        return 0;
    default:
        a->sum.has_long |= v->value_type == BSON_TYPE_INT64;
        lev_number_truncate(v, &whole);
        a->sum.whole += whole;
        return 0;
    }
}

static double
sum_double(const struct lev_accum *a)
{
    double whole = (double)a->sum.whole;

    return isfinite(a->sum.sum) ? a->sum.sum + a->sum.rest + whole
                                : a->sum.sum;
}

static struct lev_decimal
sum_decimal(const struct lev_accum *a)
{
    struct lev_decimal sum = {
        .coef = a->sum.whole < 0 ? -(unsigned __int128)a->sum.whole
                                 : (unsigned __int128)a->sum.whole,
        .negative = a->sum.whole < 0,
    };
    struct lev_decimal decimals;

    lev_decimal_split(&a->sum.decimal, &decimals);
    sum = lev_decimal_add(sum, decimals);
    return a->sum.has_double
               ? lev_decimal_add(
                     sum, lev_decimal_of_double(a->sum.sum + a->sum.rest))
               : sum;
}

static int
sum_finish(const struct lev_accum *a, struct lev_arena *arena,
           bson_value_t *out, struct lev_error *err)
{
    if (a->sum.has_decimal) {
        *out = lev_arith_of_decimal(sum_decimal(a));
    }
    else if (a->sum.has_double || a->sum.whole > INT64_MAX ||
             a->sum.whole < INT64_MIN)
    {
        *out = lev_arith_of_double(sum_double(a));
    }
    else {
        *out = lev_arith_of_int((int64_t)a->sum.whole, !a->sum.has_long);
    }
    return 0;
}

static int
avg_finish(const struct lev_accum *a, struct lev_arena *arena,
           bson_value_t *out, struct lev_error *err)
{
    if (a->n == 0) {
        *out = lev_value_null;
    }
    else if (a->sum.has_decimal) {
        *out = lev_arith_of_decimal(
            lev_decimal_div(sum_decimal(a), lev_decimal_of_int(a->n)));
    }
    else {
        *out = lev_arith_of_double(sum_double(a) / (double)a->n);
    }
    return 0;
}

/* $min, $max, $first, $last */

static void
take(struct lev_accum *a, const bson_value_t *v)
{
    bson_value_destroy(&a->value);
    if (v->value_type == BSON_TYPE_EOD) {
        a->value = lev_value_null;
    }
    else {
        bson_value_copy(v, &a->value);
    }
}

static int
extreme_step(struct lev_accum *a, const bson_value_t *v, int side)
{
    if (is_null(v)) {
        return 0;
    }
    if (a->n++ == 0 || lev_value_compare(v, &a->value) * side > 0) {
        take(a, v);
    }
    return 0;
}

static int
min_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    return extreme_step(a, v, -1);
}

static int
max_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    return extreme_step(a, v, 1);
}

static int
first_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    if (a->n++ == 0) {
        take(a, v);
    }
    return 0;
}

static int
last_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    a->n++;
    take(a, v);
    return 0;
}

static int
value_finish(const struct lev_accum *a, struct lev_arena *arena,
             bson_value_t *out, struct lev_error *err)
{
    *out = a->n == 0 ? lev_value_null : a->value;
    return 0;
}

/* $push, $addToSet, $mergeObjects */

static int
push_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    struct lev_accum_list *list = list_of(a, err);

    if (list == NULL) {
        return -1;
    }
    return v->value_type == BSON_TYPE_EOD
               ? 0
               : lev_build_add(&list->build, v, err);
}

static int
add_to_set_step(struct lev_accum *a, const bson_value_t *v,
                struct lev_error *err)
{
    struct lev_accum_list *list = list_of(a, err);
    int rc;

    if (list == NULL) {
        return -1;
    }
    if (v->value_type == BSON_TYPE_EOD) {
        return 0;
    }
    rc = lev_keymap_add(&list->set, v, NULL, err);
    return rc > 0 ? lev_build_add(&list->build, v, err) : rc;
}

static int
list_finish(const struct lev_accum *a, struct lev_arena *arena,
            bson_value_t *out, struct lev_error *err)
{
    static const bson_t empty = BSON_INITIALIZER;

    return lev_arena_doc(arena, a->list == NULL ? &empty : &a->list->build.doc,
                         BSON_TYPE_ARRAY, out, err);
}

static int
merge_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    if (is_null(v)) {
        return 0;
    }
    if (v->value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(err, LEV_E_QUERY, 40400,
                             "$mergeObjects needs objects, not %s",
                             lev_value_type_name(v->value_type));
    }
    return push_step(a, v, err);
}

static int
merge_finish(const struct lev_accum *a, struct lev_arena *arena,
             bson_value_t *out, struct lev_error *err)
{
    _cleanup_fields_ struct lev_fields fields = {0};
    bson_iter_t it;

    for (bool ok = a->list != NULL && bson_iter_init(&it, &a->list->build.doc);
         ok && bson_iter_next(&it);)
    {
        bson_value_t v = lev_value_of(&it);

        if (lev_fields_merge(&fields, &v, err) < 0) {
            return -1;
        }
    }
    return lev_fields_finish(&fields, arena, out, err);
}

/* $count, $stdDevPop, $stdDevSamp */

static int
count_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    a->n++;
    return 0;
}

static int
count_finish(const struct lev_accum *a, struct lev_arena *arena,
             bson_value_t *out, struct lev_error *err)
{
    *out = lev_arith_of_int(a->n, true);
    return 0;
}

/* Welford's: no sum of squares that cancels. */
static int
spread_step(struct lev_accum *a, const bson_value_t *v, struct lev_error *err)
{
    double d, delta;

    if (!lev_number_is(v)) {
        return 0;
    }
    d = lev_number_double(v);
    a->n++;
    delta = d - a->spread.mean;
    a->spread.mean += delta / (double)a->n;
    a->spread.squares += delta * (d - a->spread.mean);
    return 0;
}

static int
spread_finish(const struct lev_accum *a, int64_t less, bson_value_t *out)
{
    *out = a->n - less <= 0 ? lev_value_null
                            : lev_arith_of_double(sqrt(a->spread.squares /
                                                       (double)(a->n - less)));
    return 0;
}

static int
population_finish(const struct lev_accum *a, struct lev_arena *arena,
                  bson_value_t *out, struct lev_error *err)
{
    return spread_finish(a, 0, out);
}

static int
sample_finish(const struct lev_accum *a, struct lev_arena *arena,
              bson_value_t *out, struct lev_error *err)
{
    return spread_finish(a, 1, out);
}

const struct lev_accum_op *
lev_accum_find(const char *name)
{
    static const struct lev_accum_op ops[] = {
        {"$sum", false, sum_step, sum_finish},
        {"$avg", false, sum_step, avg_finish},
        {"$min", false, min_step, value_finish},
        {"$max", false, max_step, value_finish},
        {"$first", false, first_step, value_finish},
        {"$last", false, last_step, value_finish},
        {"$push", false, push_step, list_finish},
        {"$addToSet", false, add_to_set_step, list_finish},
        {"$mergeObjects", false, merge_step, merge_finish},
        {"$count", true, count_step, count_finish},
        {"$stdDevPop", false, spread_step, population_finish},
        {"$stdDevSamp", false, spread_step, sample_finish},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(ops); i++) {
        if (strcmp(ops[i].name, name) == 0) {
            return &ops[i];
        }
    }
    return NULL;
}

void
lev_accum_init(struct lev_accum *a, const struct lev_accum_op *op)
{
    *a = (struct lev_accum){.op = op};
}

void
lev_accum_deinit(struct lev_accum *a)
{
    if (a->op == NULL) {
        return;
    }
    if (a->op->finish == value_finish) {
        bson_value_destroy(&a->value);
    }
    if (a->op->finish == list_finish || a->op->finish == merge_finish) {
        list_destroy(a->list);
    }
    a->op = NULL;
}

size_t
lev_accum_bytes(const struct lev_accum *a)
{
    if (a->op->finish == value_finish) {
        switch (a->value.value_type) {
        case BSON_TYPE_UTF8:
            return a->value.value.v_utf8.len;
        case BSON_TYPE_DOCUMENT:
        case BSON_TYPE_ARRAY:
            return a->value.value.v_doc.data_len;
        case BSON_TYPE_BINARY:
            return a->value.value.v_binary.data_len;
        default:
            return 0;
        }
    }
    if ((a->op->finish == list_finish || a->op->finish == merge_finish) &&
        a->list != NULL)
    {
        return a->list->build.doc.len + lev_keymap_bytes(&a->list->set) +
               sizeof(*a->list);
    }
    return 0;
}
