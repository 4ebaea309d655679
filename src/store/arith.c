#include "arith.h"

#include <math.h>

/* By the order of the enum's values the types are not in order of width. */
static int
width(bson_type_t type)
{
    switch (type) {
    case BSON_TYPE_INT32:
        return 0;
    case BSON_TYPE_INT64:
        return 1;
    case BSON_TYPE_DOUBLE:
        return 2;
    default:
        return 3;
    }
}

bson_type_t
lev_arith_type(const bson_value_t *a, const bson_value_t *b)
{
    return width(a->value_type) >= width(b->value_type) ? a->value_type
                                                        : b->value_type;
}

struct lev_decimal
lev_arith_decimal(const bson_value_t *v)
{
    struct lev_decimal d;

    switch (v->value_type) {
    case BSON_TYPE_INT32:
        return lev_decimal_of_int(v->value.v_int32);
    case BSON_TYPE_INT64:
        return lev_decimal_of_int(v->value.v_int64);
    case BSON_TYPE_DOUBLE:
        return lev_decimal_of_double(v->value.v_double);
    default:
        lev_decimal_split(&v->value.v_decimal128, &d);
        return d;
    }
}

bson_value_t
lev_arith_of_decimal(struct lev_decimal d)
{
    bson_value_t v = {.value_type = BSON_TYPE_DECIMAL128};

    lev_decimal_join(&d, &v.value.v_decimal128);
    return v;
}

bson_value_t
lev_arith_of_int(int64_t i, bool narrow)
{
    bson_value_t v = {.value_type = BSON_TYPE_INT64};

    if (narrow && i >= INT32_MIN && i <= INT32_MAX) {
        v.value_type = BSON_TYPE_INT32;
        v.value.v_int32 = (int32_t)i;
    }
    else {
        v.value.v_int64 = i;
    }
    return v;
}

bson_value_t
lev_arith_of_double(double d)
{
    bson_value_t v = {.value_type = BSON_TYPE_DOUBLE};

    v.value.v_double = isnan(d) ? NAN : d; /* of one sign */
    return v;
}

/* One operation in each of the kinds of numbers. */
struct kinds {
    bool (*ints)(int64_t a, int64_t b, int64_t *out);
    double (*doubles)(double a, double b);
    struct lev_decimal (*decimals)(struct lev_decimal a, struct lev_decimal b);
};

static bool
compute(const struct kinds *k, const bson_value_t *a, const bson_value_t *b,
        bson_value_t *out)
{
    bson_type_t type = lev_arith_type(a, b);
    int64_t x, y, made;

    if (type == BSON_TYPE_DECIMAL128) {
        *out = lev_arith_of_decimal(
            k->decimals(lev_arith_decimal(a), lev_arith_decimal(b)));
        return true;
    }
    if (type == BSON_TYPE_DOUBLE) {
        *out = lev_arith_of_double(
            k->doubles(lev_number_double(a), lev_number_double(b)));
        return true;
    }
    if (!lev_number_truncate(a, &x) || !lev_number_truncate(b, &y) ||
        !k->ints(x, y, &made))
    {
        return false;
    }
    *out = lev_arith_of_int(made, type == BSON_TYPE_INT32);
    return true;
}

static bool
add_ints(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static bool
sub_ints(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_sub_overflow(a, b, out);
}

static bool
mul_ints(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static double
add_doubles(double a, double b)
{
    return a + b;
}

static double
sub_doubles(double a, double b)
{
    return a - b;
}

static double
mul_doubles(double a, double b)
{
    return a * b;
}

bool
lev_arith_add(const bson_value_t *a, const bson_value_t *b, bson_value_t *out)
{
    static const struct kinds add = {add_ints, add_doubles, lev_decimal_add};

    return compute(&add, a, b, out);
}

bool
lev_arith_sub(const bson_value_t *a, const bson_value_t *b, bson_value_t *out)
{
    static const struct kinds sub = {sub_ints, sub_doubles, lev_decimal_sub};

    return compute(&sub, a, b, out);
}

bool
lev_arith_mul(const bson_value_t *a, const bson_value_t *b, bson_value_t *out)
{
    static const struct kinds mul = {mul_ints, mul_doubles, lev_decimal_mul};

    return compute(&mul, a, b, out);
}
