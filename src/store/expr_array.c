#include "expr_array.h"

#include <string.h>

#include "number.h"

size_t
lev_array_count(const bson_value_t *array)
{
    bson_iter_t it;
    size_t n = 0;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        n++;
    }
    return n;
}

bson_value_t
lev_array_at(const bson_value_t *array, size_t i)
{
    bson_iter_t it;

    if (!lev_value_iter(array, &it)) {
        return lev_value_missing;
    }
    do {
        if (!bson_iter_next(&it)) {
            return lev_value_missing;
        }
    } while (i-- > 0);
    return lev_value_of(&it);
}

/* Whether the bytes stay where they are until the next document. */
static bool
is_of_document(const struct lev_eval *ev, const bson_value_t *array)
{
    const uint8_t *data = ev->doc == NULL ? NULL : bson_get_data(ev->doc);

    return data != NULL && array->value.v_doc.data >= data &&
           array->value.v_doc.data < data + ev->doc->len;
}

/* Before the first element; false when there is no memory for that. */
static bool
start_reading(struct lev_eval *ev, const bson_value_t *array)
{
    if (ev->reading.it == NULL) {
        ev->reading.it = lev_arena_calloc(sizeof(*ev->reading.it));
    }
    ev->reading.data = NULL;
    ev->reading.next = 0;
    if (ev->reading.it == NULL || !lev_value_iter(array, ev->reading.it)) {
        return false;
    }
    ev->reading.data = array->value.v_doc.data;
    return true;
}

bson_value_t
lev_array_read(struct lev_eval *ev, const bson_value_t *array, size_t i)
{
    bool again = ev->reading.data == array->value.v_doc.data &&
                 ev->reading.next > 0 && ev->reading.next <= i + 1;
    uint32_t from;

    if (!is_of_document(ev, array) || (!again && !start_reading(ev, array))) {
        lev_node_charge(ev, array);
        return lev_array_at(array, i);
    }
    from = bson_iter_offset(ev->reading.it);
    for (; ev->reading.next <= i; ev->reading.next++) {
        if (!bson_iter_next(ev->reading.it)) {
            ev->reading.data = NULL;
            return lev_value_missing;
        }
    }
    ev->bytes += bson_iter_offset(ev->reading.it) - from;
    return lev_value_of(ev->reading.it);
}

static int
take_array(const struct lev_node *n, size_t i, int code, struct lev_eval *ev,
           bson_value_t *v, struct lev_error *err)
{
    if (lev_node_arg(n, i, ev, v, err) < 0) {
        return -1;
    }
    if (v->value_type == BSON_TYPE_ARRAY) {
        return 1;
    }
    return lev_node_nullish(v)
               ? 0
               : lev_error_set(err, LEV_E_QUERY, code,
                               "expression: %s needs an array, not %s",
                               n->op->name,
                               lev_value_type_name(v->value_type));
}

int
lev_array_arg(const struct lev_node *n, size_t i, int code,
              struct lev_eval *ev, bson_value_t *v, struct lev_error *err)
{
    int rc = take_array(n, i, code, ev, v, err);

    if (rc > 0) {
        lev_node_charge(ev, v);
    }
    return rc;
}

static int
bad_argument(const struct lev_node *n, int code, const char *what,
             struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, code, "expression: %s: %s",
                         n->op->name, what);
}

static int
eval_size(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    bson_value_t v;
    int rc = lev_array_arg(n, 0, 17124, ev, &v, err);

    if (rc <= 0) {
        return rc < 0 ? -1
                      : bad_argument(n, 17124,
                                     "needs an array, not null or "
                                     "nothing",
                                     err);
    }
    *out = lev_node_int((int64_t)lev_array_count(&v));
    return 0;
}

static int
eval_is_array(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    *out = lev_node_bool(out->value_type == BSON_TYPE_ARRAY);
    return 0;
}

/* A whole number of 32 bits; 0 when it is null. `type` and `whole` are the
 * codes for other things and for fractions. */
static int
eval_int(const struct lev_node *n, size_t i, int type, int whole,
         struct lev_eval *ev, int64_t *out, struct lev_error *err)
{
    bson_value_t v;

    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_number_is(&v)) {
        return bad_argument(n, type, "needs numbers", err);
    }
    return lev_number_whole(&v, out) && *out >= INT32_MIN && *out <= INT32_MAX
               ? 1
               : bad_argument(n, whole, "needs whole numbers of 32 bits", err);
}

/* Negative ones count from the end. */
static bson_value_t
element(struct lev_eval *ev, const bson_value_t *array, int64_t i)
{
    if (i < 0) {
        lev_node_charge(ev, array);
        i += (int64_t)lev_array_count(array);
    }
    return i < 0 ? lev_value_missing : lev_array_read(ev, array, (size_t)i);
}

static int
eval_element_at(const struct lev_node *n, struct lev_eval *ev,
                bson_value_t *out, struct lev_error *err)
{
    bson_value_t array;
    int64_t i;
    int rc = take_array(n, 0, 28689, ev, &array, err);

    *out = lev_value_null;
    if (rc > 0) {
        rc = eval_int(n, 1, 28690, 28691, ev, &i, err);
    }
    if (rc > 0) {
        *out = element(ev, &array, i);
    }
    return rc < 0 ? -1 : 0;
}

/* $first, $last */
static int
eval_end(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    bson_value_t array;
    int rc = take_array(n, 0, 28689, ev, &array, err);

    *out = lev_value_null;
    if (rc > 0) {
        *out =
            element(ev, &array, strcmp(n->op->name, "$first") == 0 ? 0 : -1);
    }
    return rc < 0 ? -1 : 0;
}

static int
append_part(struct lev_build *b, const bson_value_t *array, int64_t from,
            int64_t n, struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it);
         ok && n > 0 && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (from-- > 0) {
            continue;
        }
        n--;
        if (lev_build_add(b, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* [array, n] or [array, position, n] */
static int
eval_slice(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    bson_value_t array;
    int64_t from = 0, take = 0, size;
    int rc = lev_array_arg(n, 0, 28724, ev, &array, err);

    lev_build_init(&b);
    *out = lev_value_null;
    if (rc > 0) {
        rc = eval_int(n, 1, 28725, 28726, ev, n->n == 2 ? &take : &from, err);
    }
    if (rc > 0 && n->n == 3) {
        rc = eval_int(n, 2, 28727, 28728, ev, &take, err);
        if (rc > 0 && take <= 0) {
            return bad_argument(n, 28729, "the number is above 0", err);
        }
    }
    if (rc <= 0) {
        return rc;
    }
    size = (int64_t)lev_array_count(&array);
    if (take < 0) {
        from = take;
        take = -take;
    }
    if (from < 0) {
        from = from + size < 0 ? 0 : from + size;
    }
    return append_part(&b, &array, from, take, err) < 0
               ? -1
               : lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static int
eval_concat(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;

    lev_build_init(&b);
    for (size_t i = 0; i < n->n; i++) {
        bson_value_t array;
        int rc = lev_array_arg(n, i, 28664, ev, &array, err);

        if (rc <= 0) {
            *out = lev_value_null;
            return rc;
        }
        if (append_part(&b, &array, 0, INT64_MAX, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static int
eval_in(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    bson_value_t v, array;
    bson_iter_t it;
    bool found = false;

    if (lev_node_eval(n->args[0], ev, &v, err) < 0 ||
        lev_node_eval(n->args[1], ev, &array, err) < 0)
    {
        return -1;
    }
    lev_node_charge(ev, &array);
    if (array.value_type != BSON_TYPE_ARRAY) {
        return bad_argument(n, 40081, "the second argument is an array", err);
    }
    for (bool ok = lev_value_iter(&array, &it);
         ok && !found && bson_iter_next(&it);)
    {
        bson_value_t each = lev_value_of(&it);

        found = lev_value_equal(&each, &v);
    }
    *out = lev_node_bool(found);
    return 0;
}

/* A start or an end. */
static int
eval_bound(const struct lev_node *n, size_t i, int64_t *out,
           struct lev_eval *ev, struct lev_error *err)
{
    bson_value_t v;

    if (i >= n->n) {
        return 0;
    }
    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, out)) {
        return bad_argument(n, 40096, "start and end are whole numbers", err);
    }
    return *out >= 0
               ? 0
               : bad_argument(n, 40097, "start and end are not below 0", err);
}

static int
eval_index_of(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    bson_value_t array, v;
    int64_t start = 0, end = INT64_MAX, i = 0;
    int rc = lev_array_arg(n, 0, 40090, ev, &array, err);
    bson_iter_t it;

    *out = lev_value_null;
    if (rc <= 0) {
        return rc;
    }
    if (lev_node_eval(n->args[1], ev, &v, err) < 0 ||
        eval_bound(n, 2, &start, ev, err) < 0 ||
        eval_bound(n, 3, &end, ev, err) < 0)
    {
        return -1;
    }
    *out = lev_node_int(-1);
    for (bool ok = lev_value_iter(&array, &it);
         ok && i < end && bson_iter_next(&it); i++)
    {
        bson_value_t each = lev_value_of(&it);

        if (i >= start && lev_value_equal(&each, &v)) {
            *out = lev_node_int(i);
            return 0;
        }
    }
    return 0;
}

static int
eval_reverse(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    bson_value_t array, *all;
    size_t count, i = 0;
    bson_iter_t it;
    int rc = lev_array_arg(n, 0, 34435, ev, &array, err);

    lev_build_init(&b);
    *out = lev_value_null;
    if (rc <= 0) {
        return rc;
    }
    count = lev_array_count(&array);
    all = lev_arena_alloc(&ev->arena, (count + 1) * sizeof(*all), err);
    if (all == NULL) {
        return -1;
    }
    for (bool ok = lev_value_iter(&array, &it); ok && bson_iter_next(&it);) {
        all[i++] = lev_value_of(&it);
    }
    while (i > 0) {
        if (lev_build_add(&b, &all[--i], err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

/* $range */

static int
eval_range_int(const struct lev_node *n, size_t i, int type, int whole,
               struct lev_eval *ev, int64_t *out, struct lev_error *err)
{
    int rc;

    if (i >= n->n) {
        return 0;
    }
    rc = eval_int(n, i, type, whole, ev, out, err);
    return rc == 0 ? bad_argument(n, type, "needs numbers", err) : rc;
}

static int
eval_range(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    int64_t start = 0, end = 0, step = 1;

    lev_build_init(&b);
    if (eval_range_int(n, 0, 34443, 34444, ev, &start, err) < 0 ||
        eval_range_int(n, 1, 34445, 34446, ev, &end, err) < 0 ||
        eval_range_int(n, 2, 34447, 34448, ev, &step, err) < 0)
    {
        return -1;
    }
    if (step == 0) {
        return bad_argument(n, 34449, "the step is not 0", err);
    }
    for (; step > 0 ? start < end : start > end; start += step) {
        bson_value_t v = lev_node_int(start);

        if (lev_build_add(&b, &v, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

const struct lev_expr_op lev_expr_array[] = {
    {.name = "$size", .eval = eval_size, .min = 1, .max = 1},
    {.name = "$isArray", .eval = eval_is_array, .min = 1, .max = 1},
    {.name = "$arrayElemAt", .eval = eval_element_at, .min = 2, .max = 2},
    {.name = "$first", .eval = eval_end, .min = 1, .max = 1},
    {.name = "$last", .eval = eval_end, .min = 1, .max = 1},
    {.name = "$slice", .eval = eval_slice, .min = 2, .max = 3, .arity = 28667},
    {.name = "$concatArrays", .eval = eval_concat, .max = -1},
    {.name = "$in", .eval = eval_in, .min = 2, .max = 2},
    {.name = "$indexOfArray",
     .eval = eval_index_of,
     .min = 2,
     .max = 4,
     .arity = 28667},
    {.name = "$reverseArray", .eval = eval_reverse, .min = 1, .max = 1},
    {.name = "$range", .eval = eval_range, .min = 2, .max = 3, .arity = 28667},
    {0},
};
