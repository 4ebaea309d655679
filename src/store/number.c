#include "number.h"

#include <math.h>
#include <stdlib.h>

#include "base.h"

bool
lev_number_is(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_INT32 ||
           v->value_type == BSON_TYPE_INT64 ||
           v->value_type == BSON_TYPE_DOUBLE ||
           v->value_type == BSON_TYPE_DECIMAL128;
}

/* Any number that is neither NaN nor infinite: ± coef × 2^two × 10^ten. */
struct parts {
    unsigned __int128 coef;
    int two, ten;
    bool negative;
};

enum special { MINUS_INF = -1, FINITE = 0, PLUS_INF = 1, NOT_A_NUMBER = 2 };

static void
split_int(int64_t i, struct parts *p)
{
    *p = (struct parts){.negative = i < 0};
    p->coef = i < 0 ? -(uint64_t)i : (uint64_t)i;
}

static enum special
split_double(double d, struct parts *p)
{
    int exp;
    double fraction = frexp(fabs(d), &exp);

    *p = (struct parts){.negative = signbit(d)};
    if (isnan(d)) {
        return NOT_A_NUMBER;
    }
    if (isinf(d)) {
        return d < 0 ? MINUS_INF : PLUS_INF;
    }
    p->coef = (uint64_t)ldexp(fraction, 53);
    p->two = exp - 53;
    return FINITE;
}

static enum special
split(const bson_value_t *v, struct parts *p)
{
    struct lev_decimal dec;

    switch (v->value_type) {
    case BSON_TYPE_INT32:
        split_int(v->value.v_int32, p);
        return FINITE;
    case BSON_TYPE_INT64:
        split_int(v->value.v_int64, p);
        return FINITE;
    case BSON_TYPE_DOUBLE:
        return split_double(v->value.v_double, p);
    default:
        lev_decimal_split(&v->value.v_decimal128, &dec);
        *p = (struct parts){dec.coef, 0, dec.exp, dec.negative};
        if (dec.nan) {
            return NOT_A_NUMBER;
        }
        return !dec.inf ? FINITE : dec.negative ? MINUS_INF : PLUS_INF;
    }
}

bool
lev_number_is_nan(const bson_value_t *v)
{
    struct parts p;

    return lev_number_is(v) && split(v, &p) == NOT_A_NUMBER;
}

/* Unsigned whole numbers, long enough for what compare_exactly() makes of two
 * numbers of similar size: at most 113 bits × 2^1074 × 10^330. */
struct big {
    uint32_t limb[80];
    int n;
};

static void
big_mul(struct big *b, uint32_t by)
{
    uint64_t carry = 0;

    for (int i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * by;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry > 0 && b->n < (int)LEV_ARRAY_LEN(b->limb)) {
        b->limb[b->n++] = (uint32_t)carry;
    }
}

static void
big_make(struct big *b, unsigned __int128 coef, int two, int ten)
{
    b->n = 0;
    for (; coef > 0; coef >>= 32) {
        b->limb[b->n++] = (uint32_t)coef;
    }
    for (; two > 0; two -= two > 31 ? 31 : two) {
        big_mul(b, UINT32_C(1) << (two > 31 ? 31 : two));
    }
    for (; ten > 8; ten -= 9) {
        big_mul(b, 1000000000);
    }
    for (; ten > 0; ten--) {
        big_mul(b, 10);
    }
}

static int
big_compare(const struct big *a, const struct big *b)
{
    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }
    for (int i = a->n - 1; i >= 0; i--) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }
    return 0;
}

/* log10 of the magnitude, good to less than one unit. */
static double
magnitude(const struct parts *p)
{
    return log10((double)p->coef) + p->two * 0.30102999566398120 + p->ten;
}

static int
larger(int a, int b)
{
    return a > b ? a : b;
}

/* Neither coefficient is 0. What is far apart is told by its size, the rest
 * by multiplying both sides until they are whole. */
static int
compare_exactly(const struct parts *a, const struct parts *b)
{
    double apart = magnitude(a) - magnitude(b);
    struct big x, y;

    if (apart > 2 || apart < -2) {
        return apart > 0 ? 1 : -1;
    }
    big_make(&x, a->coef, larger(a->two - b->two, 0),
             larger(a->ten - b->ten, 0));
    big_make(&y, b->coef, larger(b->two - a->two, 0),
             larger(b->ten - a->ten, 0));
    return big_compare(&x, &y);
}

static int
compare_finite(const struct parts *a, const struct parts *b)
{
    int sign_a = a->coef == 0 ? 0 : a->negative ? -1 : 1;
    int sign_b = b->coef == 0 ? 0 : b->negative ? -1 : 1;

    if (sign_a != sign_b) {
        return sign_a < sign_b ? -1 : 1;
    }
    return sign_a == 0 ? 0 : sign_a * compare_exactly(a, b);
}

static bool
int_of(const bson_value_t *v, int64_t *out)
{
    if (v->value_type == BSON_TYPE_INT32) {
        *out = v->value.v_int32;
        return true;
    }
    if (v->value_type == BSON_TYPE_INT64) {
        *out = v->value.v_int64;
        return true;
    }
    return false;
}

int
lev_number_compare(const bson_value_t *a, const bson_value_t *b)
{
    struct parts x, y;
    enum special sx, sy;
    int64_t i, k;

    if (int_of(a, &i) && int_of(b, &k)) {
        return (i > k) - (i < k);
    }
    sx = split(a, &x);
    sy = split(b, &y);
    if (sx == NOT_A_NUMBER || sy == NOT_A_NUMBER) {
        return (sx != NOT_A_NUMBER) - (sy != NOT_A_NUMBER);
    }
    if (sx != FINITE || sy != FINITE) {
        return (sx > sy) - (sx < sy);
    }
    if (a->value_type == BSON_TYPE_DOUBLE && b->value_type == BSON_TYPE_DOUBLE)
    {
        return (a->value.v_double > b->value.v_double) -
               (a->value.v_double < b->value.v_double);
    }
    return compare_finite(&x, &y);
}

double
lev_number_double(const bson_value_t *v)
{
    char text[BSON_DECIMAL128_STRING];
    int64_t i;

    if (int_of(v, &i)) {
        return (double)i;
    }
    if (v->value_type == BSON_TYPE_DOUBLE) {
        return v->value.v_double;
    }
    bson_decimal128_to_string(&v->value.v_decimal128, text);
    return strtod(text, NULL);
}

static bool
truncate_double(double d, int64_t *out)
{
    /* 2^63 itself is a double and just outside. */
    if (!(d >= -0x1p63 && d < 0x1p63)) {
        return false;
    }
    *out = (int64_t)d;
    return true;
}

static bool
truncate_decimal(const bson_decimal128_t *v, int64_t *out)
{
    struct lev_decimal d;
    uint64_t most;

    lev_decimal_split(v, &d);
    if (d.nan || d.inf) {
        return false;
    }
    for (; d.exp < 0 && d.coef > 0; d.exp++) {
        d.coef /= 10;
    }
    most = (uint64_t)INT64_MAX + d.negative;
    for (; d.exp > 0 && d.coef > 0 && d.coef <= most; d.exp--) {
        d.coef *= 10;
    }
    if (d.coef > most) {
        return false;
    }
    *out = (int64_t)(d.negative ? -(uint64_t)d.coef : (uint64_t)d.coef);
    return true;
}

bool
lev_number_truncate(const bson_value_t *v, int64_t *out)
{
    if (int_of(v, out)) {
        return true;
    }
    if (v->value_type == BSON_TYPE_DOUBLE) {
        return truncate_double(v->value.v_double, out);
    }
    return v->value_type == BSON_TYPE_DECIMAL128 &&
           truncate_decimal(&v->value.v_decimal128, out);
}

bool
lev_number_whole(const bson_value_t *v, int64_t *out)
{
    bson_value_t whole = {.value_type = BSON_TYPE_INT64};

    if (!lev_number_truncate(v, &whole.value.v_int64) ||
        lev_number_compare(v, &whole) != 0)
    {
        return false;
    }
    *out = whole.value.v_int64;
    return true;
}

bool
lev_number_truth(const bson_value_t *v)
{
    static const bson_value_t zero = {.value_type = BSON_TYPE_INT32};

    return lev_number_is_nan(v) || lev_number_compare(v, &zero) != 0;
}
