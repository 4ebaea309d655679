#include "expr_array.h"

#include <string.h>

#include "keymap.h"

/* Results are in order of value, as a set has no other; differences keep the
 * order of their first array. */

static int
compare(const void *a, const void *b)
{
    return lev_value_compare(a, b);
}

/* Distinct elements, as an array. */
static int
finish(bson_value_t *all, size_t n, struct lev_eval *ev, bson_value_t *out,
       struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;

    lev_build_init(&b);
    qsort(all, n, sizeof(*all), compare);
    for (size_t i = 0; i < n; i++) {
        if (lev_build_add(&b, &all[i], err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

/* All the arguments' arrays; 0 when one is null. */
static int
eval_arrays(const struct lev_node *n, int code, struct lev_eval *ev,
            bson_value_t **arrays, size_t *total, struct lev_error *err)
{
    *arrays = lev_arena_alloc(&ev->arena, (n->n + 1) * sizeof(**arrays), err);
    *total = 0;
    if (*arrays == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n->n; i++) {
        int rc = lev_array_arg(n, i, code, ev, &(*arrays)[i], err);

        if (rc <= 0) {
            return rc;
        }
        *total += lev_array_count(&(*arrays)[i]);
    }
    return 1;
}

static int
eval_union(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    bson_value_t *arrays, *all;
    size_t total, kept = 0;
    int rc = eval_arrays(n, 17043, ev, &arrays, &total, err);

    *out = lev_value_null;
    if (rc <= 0) {
        return rc;
    }
    all = lev_arena_alloc(&ev->arena, (total + 1) * sizeof(*all), err);
    if (all == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n->n; i++) {
        bson_iter_t it;

        for (bool ok = lev_value_iter(&arrays[i], &it);
             ok && bson_iter_next(&it);) {
            all[kept] = lev_value_of(&it);
            rc = lev_keymap_add(&set, &all[kept], NULL, err);
            if (rc < 0) {
                return -1;
            }
            kept += rc > 0;
        }
    }
    return finish(all, kept, ev, out, err);
}

static int
fill(struct lev_keymap *set, const bson_value_t *array, struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (lev_keymap_add(set, &v, NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Keeps those of `all` that are in `array`; how many. */
static int
keep_common(bson_value_t *all, size_t *n, const bson_value_t *array,
            struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    size_t kept = 0;

    if (fill(&set, array, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < *n; i++) {
        int rc = lev_keymap_find(&set, &all[i], NULL, err);

        if (rc < 0) {
            return -1;
        }
        if (rc > 0) {
            all[kept++] = all[i];
        }
    }
    *n = kept;
    return 0;
}

/* The distinct elements of `array`. */
static int
distinct(const bson_value_t *array, struct lev_eval *ev, bson_value_t **all,
         size_t *n, struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    bson_iter_t it;

    *n = 0;
    *all = lev_arena_alloc(&ev->arena,
                           (lev_array_count(array) + 1) * sizeof(**all), err);
    if (*all == NULL) {
        return -1;
    }
    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc = lev_keymap_add(&set, &v, NULL, err);

        if (rc < 0) {
            return -1;
        }
        if (rc > 0) {
            (*all)[(*n)++] = v;
        }
    }
    return 0;
}

static int
eval_intersection(const struct lev_node *n, struct lev_eval *ev,
                  bson_value_t *out, struct lev_error *err)
{
    bson_value_t *arrays, *all = NULL;
    size_t total, kept = 0;
    int rc = eval_arrays(n, 17047, ev, &arrays, &total, err);

    *out = lev_value_null;
    if (rc <= 0) {
        return rc;
    }
    if (n->n > 0 && distinct(&arrays[0], ev, &all, &kept, err) < 0) {
        return -1;
    }
    for (size_t i = 1; i < n->n; i++) {
        if (keep_common(all, &kept, &arrays[i], err) < 0) {
            return -1;
        }
    }
    return n->n == 0 ? finish(arrays, 0, ev, out, err)
                     : finish(all, kept, ev, out, err);
}

static int
eval_difference(const struct lev_node *n, struct lev_eval *ev,
                bson_value_t *out, struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    _cleanup_build_ struct lev_build b;
    bson_value_t first, second;
    bson_iter_t it;
    int one = lev_array_arg(n, 0, 17048, ev, &first, err);
    int two = one < 0 ? -1 : lev_array_arg(n, 1, 17049, ev, &second, err);

    lev_build_init(&b);
    *out = lev_value_null;
    if (one <= 0 || two <= 0) {
        return one < 0 || two < 0 ? -1 : 0;
    }
    if (fill(&set, &second, err) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(&first, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc = lev_keymap_add(&set, &v, NULL, err);

        if (rc < 0 || (rc > 0 && lev_build_add(&b, &v, err) < 0)) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

/* An argument that cannot be null. */
static int
array_itself(const struct lev_node *n, size_t i, int code, struct lev_eval *ev,
             bson_value_t *v, struct lev_error *err)
{
    int rc = lev_array_arg(n, i, code, ev, v, err);

    return rc != 0 ? rc
                   : lev_error_set(err, LEV_E_QUERY, code,
                                   "expression: %s needs arrays, not null or "
                                   "nothing",
                                   n->op->name);
}

/* Whether all of `array` are in `set`. */
static int
is_within(struct lev_keymap *set, const bson_value_t *array,
          struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc = lev_keymap_find(set, &v, NULL, err);

        if (rc <= 0) {
            return rc;
        }
    }
    return 1;
}

static int
eval_is_subset(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    bson_value_t first, second;
    int rc;

    if (array_itself(n, 0, 17046, ev, &first, err) < 0 ||
        array_itself(n, 1, 17042, ev, &second, err) < 0 ||
        fill(&set, &second, err) < 0)
    {
        return -1;
    }
    rc = is_within(&set, &first, err);
    *out = lev_node_bool(rc > 0);
    return rc < 0 ? -1 : 0;
}

static int
eval_equals(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap first = {0};
    bson_value_t array;
    bool equal = true;

    if (array_itself(n, 0, 17044, ev, &array, err) < 0 ||
        fill(&first, &array, err) < 0)
    {
        return -1;
    }
    for (size_t i = 1; i < n->n; i++) {
        _cleanup_keymap_ struct lev_keymap other = {0};
        int rc;

        if (array_itself(n, i, 17044, ev, &array, err) < 0 ||
            fill(&other, &array, err) < 0)
        {
            return -1;
        }
        rc = is_within(&first, &array, err);
        if (rc < 0) {
            return -1;
        }
        equal = equal && rc > 0 && other.n == first.n;
    }
    *out = lev_node_bool(equal);
    return 0;
}

/* $anyElementTrue, $allElementsTrue; `n->op->data` is the truth that decides.
 */
struct decides {
    bool truth;
    int code;
};

static int
eval_elements(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    const struct decides *d = n->op->data;
    bool found = false;
    bson_value_t array;
    bson_iter_t it;

    if (array_itself(n, 0, d->code, ev, &array, err) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(&array, &it);
         ok && !found && bson_iter_next(&it);)
    {
        bson_value_t v = lev_value_of(&it);

        found = lev_expr_truth(&v) == d->truth;
    }
    *out = lev_node_bool(found == d->truth);
    return 0;
}

static const struct decides any_true = {true, 17041};
static const struct decides all_true = {false, 17040};

const struct lev_expr_op lev_expr_set[] = {
    {.name = "$setUnion", .eval = eval_union, .max = -1},
    {.name = "$setIntersection", .eval = eval_intersection, .max = -1},
    {.name = "$setDifference", .eval = eval_difference, .min = 2, .max = 2},
    {.name = "$setIsSubset", .eval = eval_is_subset, .min = 2, .max = 2},
    {.name = "$setEquals",
     .eval = eval_equals,
     .min = 2,
     .max = -1,
     .arity = 17045},
    {.name = "$anyElementTrue",
     .eval = eval_elements,
     .min = 1,
     .max = 1,
     .data = &any_true},
    {.name = "$allElementsTrue",
     .eval = eval_elements,
     .min = 1,
     .max = 1,
     .data = &all_true},
    {0},
};
