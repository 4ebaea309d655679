#include "expr_node.h"

#include <math.h>

#include "arith.h"

static int
not_numeric(const struct lev_node *n, int code, const bson_value_t *v,
            struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, code,
                         "expression: %s needs numbers, not %s", n->op->name,
                         lev_value_type_name(v->value_type));
}

static int
no_decimals(const struct lev_node *n, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                         "the embedded store has no %s of Decimal128; use "
                         "$toDouble before it",
                         n->op->name);
}

static bool
is_date(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_DATE_TIME;
}

/* Sums and products: whole numbers beyond 64 bits become doubles. */

static void
combine(lev_arith_fn fn, const bson_value_t *a, const bson_value_t *b,
        bson_value_t *out)
{
    bson_value_t x, y;

    if (!fn(a, b, out)) {
        x = lev_arith_of_double(lev_number_double(a));
        y = lev_arith_of_double(lev_number_double(b));
        fn(&x, &y, out);
    }
}

/* A date moved by a number of milliseconds. */
static int
move_date(const struct lev_node *n, int64_t ms, const bson_value_t *by,
          bson_value_t *out, struct lev_error *err)
{
    double d = lev_number_double(by);
    int64_t whole, made;

    if (by->value_type == BSON_TYPE_DOUBLE && d > -0x1p62 && d < 0x1p62) {
        whole = llround(d);
    }
    else if (!lev_number_truncate(by, &whole)) {
        whole = INT64_MAX;
    }
    if (__builtin_add_overflow(ms, whole, &made)) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "expression: %s leads beyond the range of dates",
                             n->op->name);
    }
    *out = lev_node_date(made);
    return 0;
}

static int
eval_add(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    bson_value_t sum = lev_node_int(0);
    int64_t date = 0;
    bool dated = false, first = true;

    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        if (lev_node_nullish(&v)) {
            *out = lev_value_null;
            return 0;
        }
        if (is_date(&v)) {
            if (dated) {
                return lev_error_set(err, LEV_E_QUERY, 16612,
                                     "expression: $add takes one date only");
            }
            dated = true;
            date = v.value.v_datetime;
            continue;
        }
        if (!lev_number_is(&v)) {
            return not_numeric(n, 14, &v, err);
        }
        /* 0 + 1E+3 would be 1000. */
        if (first) {
            sum = v;
        }
        else {
            combine(lev_arith_add, &sum, &v, &sum);
        }
        first = false;
    }
    if (dated) {
        return move_date(n, date, &sum, out, err);
    }
    *out = sum;
    return 0;
}

static int
eval_multiply(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    bson_value_t product = lev_node_int(1);

    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        if (lev_node_nullish(&v)) {
            *out = lev_value_null;
            return 0;
        }
        if (!lev_number_is(&v)) {
            return not_numeric(n, 14, &v, err);
        }
        combine(lev_arith_mul, &product, &v, &product);
    }
    *out = product;
    return 0;
}

/* Both arguments; 0 when one is null, and the result with it. */
static int
eval_pair(const struct lev_node *n, struct lev_eval *ev, bson_value_t *a,
          bson_value_t *b, bson_value_t *out, struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, a, err) < 0 ||
        lev_node_eval(n->args[1], ev, b, err) < 0)
    {
        return -1;
    }
    *out = lev_value_null;
    return !lev_node_nullish(a) && !lev_node_nullish(b);
}

/* Both as numbers, else an error of that code. */
static int
eval_numbers(const struct lev_node *n, int code, struct lev_eval *ev,
             bson_value_t *a, bson_value_t *b, bson_value_t *out,
             struct lev_error *err)
{
    int rc = eval_pair(n, ev, a, b, out, err);

    if (rc > 0 && (!lev_number_is(a) || !lev_number_is(b))) {
        return not_numeric(n, code, lev_number_is(a) ? b : a, err);
    }
    return rc;
}

static int
eval_subtract(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    bson_value_t a, b, minus;
    const bson_value_t zero = lev_node_int(0);
    int rc = eval_pair(n, ev, &a, &b, out, err);
    int64_t apart;

    if (rc <= 0) {
        return rc;
    }
    if (lev_number_is(&a) && lev_number_is(&b)) {
        combine(lev_arith_sub, &a, &b, out);
        return 0;
    }
    if (is_date(&a) && lev_number_is(&b)) {
        combine(lev_arith_sub, &zero, &b, &minus);
        return move_date(n, a.value.v_datetime, &minus, out, err);
    }
    if (!is_date(&a) || !is_date(&b)) {
        return not_numeric(n, 14, lev_number_is(&a) ? &b : &a, err);
    }
    if (__builtin_sub_overflow(a.value.v_datetime, b.value.v_datetime, &apart))
    {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "expression: these dates are too far apart");
    }
    *out = lev_arith_of_int(apart, false);
    return 0;
}

static bool
is_zero(const bson_value_t *v)
{
    return !lev_number_truth(v);
}

static int
eval_divide(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    bson_value_t a, b;
    int rc = eval_numbers(n, 14, ev, &a, &b, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (is_zero(&b)) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "expression: $divide by zero");
    }
    *out = lev_arith_type(&a, &b) == BSON_TYPE_DECIMAL128
               ? lev_arith_of_decimal(lev_decimal_div(lev_arith_decimal(&a),
                                                      lev_arith_decimal(&b)))
               : lev_arith_of_double(lev_number_double(&a) /
                                     lev_number_double(&b));
    return 0;
}

static int
eval_mod(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    bson_value_t a, b;
    int rc = eval_numbers(n, 16611, ev, &a, &b, out, err);
    int64_t x, y;

    if (rc <= 0) {
        return rc;
    }
    if (is_zero(&b)) {
        return lev_error_set(err, LEV_E_QUERY, 16610,
                             "expression: $mod by zero");
    }
    switch (lev_arith_type(&a, &b)) {
    case BSON_TYPE_DECIMAL128:
        *out = lev_arith_of_decimal(
            lev_decimal_rem(lev_arith_decimal(&a), lev_arith_decimal(&b)));
        return 0;
    case BSON_TYPE_DOUBLE:
        *out = lev_arith_of_double(
            fmod(lev_number_double(&a), lev_number_double(&b)));
        return 0;
    default:
        lev_number_truncate(&a, &x);
        lev_number_truncate(&b, &y);
        /* INT64_MIN % -1 traps. */
        *out = lev_arith_of_int(y == -1 ? 0 : x % y,
                                lev_arith_type(&a, &b) == BSON_TYPE_INT32);
        return 0;
    }
}

/* One number. */

/* 1 with the number, 0 when it is null, and the result with it. */
static int
eval_number(const struct lev_node *n, int code, struct lev_eval *ev,
            bson_value_t *v, bson_value_t *out, struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, v, err) < 0) {
        return -1;
    }
    *out = lev_value_null;
    if (lev_node_nullish(v)) {
        return 0;
    }
    return lev_number_is(v) ? 1 : not_numeric(n, code, v, err);
}

static int
eval_abs(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    bson_value_t v;
    int rc = eval_number(n, 28765, ev, &v, out, err);
    struct lev_decimal d;
    int64_t i;

    if (rc <= 0) {
        return rc;
    }
    switch (v.value_type) {
    case BSON_TYPE_DOUBLE:
        *out = lev_arith_of_double(fabs(v.value.v_double));
        return 0;
    case BSON_TYPE_DECIMAL128:
        d = lev_arith_decimal(&v);
        d.negative = false;
        *out = lev_arith_of_decimal(d);
        return 0;
    default:
        lev_number_truncate(&v, &i);
        if (i == INT64_MIN) {
            return lev_error_set(err, LEV_E_QUERY, 28680,
                                 "expression: $abs of the smallest long");
        }
        *out =
            lev_arith_of_int(i < 0 ? -i : i, v.value_type == BSON_TYPE_INT32);
        return 0;
    }
}

/* $ceil, $floor; `n->op->data` says which way. */
struct way {
    double (*doubles)(double);
    enum lev_rounding decimals;
};

static int
eval_whole(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    const struct way *way = n->op->data;
    bson_value_t v;
    int rc = eval_number(n, 28765, ev, &v, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (v.value_type == BSON_TYPE_DOUBLE) {
        v = lev_arith_of_double(way->doubles(v.value.v_double));
    }
    else if (v.value_type == BSON_TYPE_DECIMAL128) {
        v = lev_arith_of_decimal(
            lev_decimal_round(lev_arith_decimal(&v), 0, way->decimals));
    }
    *out = v;
    return 0;
}

/* $round, $trunc */

/* 1 with where to round; 0 when that is null. */
static int
eval_place(const struct lev_node *n, struct lev_eval *ev, int64_t *place,
           struct lev_error *err)
{
    bson_value_t v;

    *place = 0;
    if (n->n < 2) {
        return 1;
    }
    if (lev_node_eval(n->args[1], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, place)) {
        return lev_error_set(err, LEV_E_QUERY, 51082,
                             "expression: the place of %s is a whole number",
                             n->op->name);
    }
    return *place >= -20 && *place <= 100
               ? 1
               : lev_error_set(err, LEV_E_QUERY, 51083,
                               "expression: the place of %s lies from -20 to "
                               "100",
                               n->op->name);
}

/* A whole number keeps its type where it can. */
static int
round_int(const struct lev_node *n, const struct way *way, int place,
          bson_value_t *v, struct lev_error *err)
{
    struct lev_decimal d =
        lev_decimal_round(lev_arith_decimal(v), -place, way->decimals);
    bson_value_t made = lev_arith_of_decimal(d);
    bool narrow = v->value_type == BSON_TYPE_INT32;
    int64_t i;

    if (!lev_number_truncate(&made, &i)) {
        return lev_error_set(err, LEV_E_QUERY, 51080,
                             "expression: the result of %s does not fit in 64 "
                             "bits",
                             n->op->name);
    }
    *v = lev_arith_of_int(i, narrow);
    return 0;
}

static int
eval_round(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    const struct way *way = n->op->data;
    bson_value_t v;
    int64_t place = 0;
    int rc = eval_number(n, 51081, ev, &v, out, err);

    if (rc > 0) {
        rc = eval_place(n, ev, &place, err);
    }
    if (rc <= 0) {
        return rc;
    }
    *out = v;
    switch (v.value_type) {
    case BSON_TYPE_DECIMAL128:
        *out = lev_arith_of_decimal(lev_decimal_round(
            lev_arith_decimal(&v), -(int)place, way->decimals));
        return 0;
    case BSON_TYPE_DOUBLE:
        if (place == 0 || !isfinite(v.value.v_double)) {
            *out = lev_arith_of_double(way->doubles(v.value.v_double));
            return 0;
        }
        v = lev_arith_of_decimal(lev_decimal_round(
            lev_arith_decimal(&v), -(int)place, way->decimals));
        *out = lev_arith_of_double(lev_number_double(&v));
        return 0;
    default:
        return place >= 0 ? 0 : round_int(n, way, (int)place, out, err);
    }
}

/* Roots, powers and logarithms. */

static int
eval_sqrt(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    const bson_value_t zero = lev_node_int(0);
    bson_value_t v;
    int rc = eval_number(n, 28765, ev, &v, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (!lev_number_is_nan(&v) && lev_number_compare(&v, &zero) < 0) {
        return lev_error_set(err, LEV_E_QUERY, 28714,
                             "expression: $sqrt of a number below 0");
    }
    *out = v.value_type == BSON_TYPE_DECIMAL128
               ? lev_arith_of_decimal(lev_decimal_sqrt(lev_arith_decimal(&v)))
               : lev_arith_of_double(sqrt(lev_number_double(&v)));
    return 0;
}

/* $exp, $ln, $log10: `code` for numbers that are not above 0; 0: all will do.
 */
struct curve {
    double (*fn)(double);
    int code;
};

static int
eval_curve(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    const struct curve *curve = n->op->data;
    const bson_value_t zero = lev_node_int(0);
    bson_value_t v;
    int rc = eval_number(n, 28765, ev, &v, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (curve->code != 0 && !lev_number_is_nan(&v) &&
        lev_number_compare(&v, &zero) <= 0)
    {
        return lev_error_set(err, LEV_E_QUERY, curve->code,
                             "expression: %s needs a number above 0",
                             n->op->name);
    }
    if (v.value_type == BSON_TYPE_DECIMAL128) {
        return no_decimals(n, err);
    }
    *out = lev_arith_of_double(curve->fn(lev_number_double(&v)));
    return 0;
}

static int
eval_log(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    const bson_value_t zero = lev_node_int(0), one = lev_node_int(1);
    bson_value_t a, b;
    int rc = eval_pair(n, ev, &a, &b, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (!lev_number_is(&a) || !lev_number_is(&b)) {
        return not_numeric(n, lev_number_is(&a) ? 28757 : 28756,
                           lev_number_is(&a) ? &b : &a, err);
    }
    if (!lev_number_is_nan(&a) && lev_number_compare(&a, &zero) <= 0) {
        return lev_error_set(err, LEV_E_QUERY, 28758,
                             "expression: $log needs a number above 0");
    }
    if (!lev_number_is_nan(&b) && (lev_number_compare(&b, &zero) <= 0 ||
                                   lev_number_compare(&b, &one) == 0))
    {
        return lev_error_set(err, LEV_E_QUERY, 28759,
                             "expression: the base of $log is above 0 and not "
                             "1");
    }
    if (lev_arith_type(&a, &b) == BSON_TYPE_DECIMAL128) {
        return no_decimals(n, err);
    }
    *out = lev_arith_of_double(log(lev_number_double(&a)) /
                               log(lev_number_double(&b)));
    return 0;
}

/* Exactly, unless it leaves 64 bits. `exp` ≥ 0. */
static bool
power_of_ints(int64_t base, int64_t exp, int64_t *out)
{
    *out = 1;
    for (; exp > 0; exp >>= 1) {
        if ((exp & 1) != 0 && __builtin_mul_overflow(*out, base, out)) {
            return false;
        }
        if (exp > 1 && __builtin_mul_overflow(base, base, &base)) {
            return false;
        }
    }
    return true;
}

static int
eval_pow(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    const bson_value_t zero = lev_node_int(0);
    bson_value_t a, b;
    bson_type_t type;
    int64_t base, exp, made;
    int rc = eval_pair(n, ev, &a, &b, out, err);

    if (rc <= 0) {
        return rc;
    }
    if (!lev_number_is(&a) || !lev_number_is(&b)) {
        return not_numeric(n, lev_number_is(&a) ? 28763 : 28762,
                           lev_number_is(&a) ? &b : &a, err);
    }
    if (is_zero(&a) && lev_number_compare(&b, &zero) < 0 &&
        !lev_number_is_nan(&b)) {
        return lev_error_set(err, LEV_E_QUERY, 28764,
                             "expression: $pow of 0 with an exponent below 0");
    }
    type = lev_arith_type(&a, &b);
    if (type == BSON_TYPE_DECIMAL128) {
        return no_decimals(n, err);
    }
    if (type != BSON_TYPE_DOUBLE && lev_number_truncate(&a, &base) &&
        lev_number_truncate(&b, &exp) && exp >= 0 &&
        power_of_ints(base, exp, &made))
    {
        *out = lev_arith_of_int(made, type == BSON_TYPE_INT32);
        return 0;
    }
    *out =
        lev_arith_of_double(pow(lev_number_double(&a), lev_number_double(&b)));
    return 0;
}

static const struct way up = {ceil, LEV_ROUND_CEILING};
static const struct way down = {floor, LEV_ROUND_FLOOR};
static const struct way nearest = {rint, LEV_ROUND_HALF_EVEN};
static const struct way towards_zero = {trunc, LEV_ROUND_DOWN};
static const struct curve exponential = {exp, 0};
static const struct curve natural = {log, 28766};
static const struct curve decadic = {log10, 28761};

const struct lev_expr_op lev_expr_arith[] = {
    {.name = "$add", .eval = eval_add, .max = -1},
    {.name = "$subtract", .eval = eval_subtract, .min = 2, .max = 2},
    {.name = "$multiply", .eval = eval_multiply, .max = -1},
    {.name = "$divide", .eval = eval_divide, .min = 2, .max = 2},
    {.name = "$mod", .eval = eval_mod, .min = 2, .max = 2},
    {.name = "$abs", .eval = eval_abs, .min = 1, .max = 1},
    {.name = "$ceil", .eval = eval_whole, .min = 1, .max = 1, .data = &up},
    {.name = "$floor", .eval = eval_whole, .min = 1, .max = 1, .data = &down},
    {.name = "$round",
     .eval = eval_round,
     .min = 1,
     .max = 2,
     .arity = 28667,
     .data = &nearest},
    {.name = "$trunc",
     .eval = eval_round,
     .min = 1,
     .max = 2,
     .arity = 28667,
     .data = &towards_zero},
    {.name = "$sqrt", .eval = eval_sqrt, .min = 1, .max = 1},
    {.name = "$exp",
     .eval = eval_curve,
     .min = 1,
     .max = 1,
     .data = &exponential},
    {.name = "$ln", .eval = eval_curve, .min = 1, .max = 1, .data = &natural},
    {.name = "$log10",
     .eval = eval_curve,
     .min = 1,
     .max = 1,
     .data = &decadic},
    {.name = "$log", .eval = eval_log, .min = 2, .max = 2},
    {.name = "$pow", .eval = eval_pow, .min = 2, .max = 2},
    {0},
};
