#include "decimal.h"

#include <math.h>
#include <stdio.h>

#include "base.h"

typedef unsigned __int128 u128;

#define DIGITS 34
#define EXP_MIN (-6176)
#define EXP_MAX 6111

static u128
power_of_ten(int n)
{
    u128 p = 1;

    for (; n > 0; n--) {
        p *= 10;
    }
    return p;
}

static const struct lev_decimal not_a_number = {.nan = true};

void
lev_decimal_split(const bson_decimal128_t *from, struct lev_decimal *to)
{
    static const uint64_t coef_mask = (UINT64_C(1) << 49) - 1;
    unsigned top = (unsigned)(from->high >> 58) & 0x1f;

    *to = (struct lev_decimal){.negative = from->high >> 63};
    to->inf = top == 0x1e;
    to->nan = top == 0x1f;
    /* Encodings whose first bits are 11 stand for coefficients that do not
     * fit: non-canonical, and defined to mean zero. */
    if (to->inf || to->nan || top >> 3 == 3) {
        return;
    }
    to->exp = (int)(from->high >> 49 & 0x3fff) + EXP_MIN;
    to->coef = (u128)(from->high & coef_mask) << 64 | from->low;
    if (to->coef >= power_of_ten(DIGITS)) {
        to->coef = 0;
    }
}

void
lev_decimal_join(const struct lev_decimal *from, bson_decimal128_t *to)
{
    uint64_t sign = (uint64_t)from->negative << 63;

    to->low = 0;
    if (from->nan) {
        to->high = UINT64_C(0x1f) << 58;
    }
    else if (from->inf) {
        to->high = sign | UINT64_C(0x1e) << 58;
    }
    else {
        to->high = sign | (uint64_t)(from->exp - EXP_MIN) << 49 |
                   (uint64_t)(from->coef >> 64);
        to->low = (uint64_t)from->coef;
    }
}

/* Unsigned numbers of 256 bits, the least significant limb first: enough for
 * the product of two coefficients. */
struct wide {
    uint64_t limb[4];
};

static struct wide
wide_of(u128 n)
{
    return (struct wide){{(uint64_t)n, (uint64_t)(n >> 64), 0, 0}};
}

static u128
wide_low(const struct wide *a)
{
    return (u128)a->limb[1] << 64 | a->limb[0];
}

static int
wide_compare(const struct wide *a, const struct wide *b)
{
    for (int i = 3; i >= 0; i--) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }
    return 0;
}

static bool
wide_is_zero(const struct wide *a)
{
    return (a->limb[0] | a->limb[1] | a->limb[2] | a->limb[3]) == 0;
}

static struct wide
wide_add(struct wide a, const struct wide *b)
{
    u128 carry = 0;

    for (int i = 0; i < 4; i++) {
        carry += (u128)a.limb[i] + b->limb[i];
        a.limb[i] = (uint64_t)carry;
        carry >>= 64;
    }
    return a;
}

static struct wide
wide_sub(struct wide a, const struct wide *b)
{
    uint64_t borrow = 0;

    for (int i = 0; i < 4; i++) {
        u128 d = (u128)a.limb[i] - b->limb[i] - borrow;

        a.limb[i] = (uint64_t)d;
        borrow = (uint64_t)(d >> 64) & 1;
    }
    return a;
}

static struct wide
wide_mul(struct wide a, uint64_t by)
{
    u128 carry = 0;

    for (int i = 0; i < 4; i++) {
        carry += (u128)a.limb[i] * by;
        a.limb[i] = (uint64_t)carry;
        carry >>= 64;
    }
    return a;
}

static struct wide
wide_product(u128 a, u128 b)
{
    struct wide low = wide_mul(wide_of(a), (uint64_t)b);
    struct wide high = wide_mul(wide_of(a), (uint64_t)(b >> 64));
    struct wide shifted = {{0, high.limb[0], high.limb[1], high.limb[2]}};

    return wide_add(low, &shifted);
}

/* × 10^n */
static struct wide
wide_scale(struct wide a, int n)
{
    for (; n > 0; n--) {
        a = wide_mul(a, 10);
    }
    return a;
}

/* Divides by ten; the digit that is lost. */
static unsigned
wide_drop_digit(struct wide *a)
{
    uint64_t rest = 0;

    for (int i = 3; i >= 0; i--) {
        u128 part = (u128)rest << 64 | a->limb[i];

        a->limb[i] = (uint64_t)(part / 10);
        rest = (uint64_t)(part % 10);
    }
    return (unsigned)rest;
}

/* The quotient; `*rest` is what is left. `by` < 2^127. */
static struct wide
wide_divide(const struct wide *a, u128 by, u128 *rest)
{
    struct wide q = {{0}};

    *rest = 0;
    for (int i = 255; i >= 0; i--) {
        *rest = *rest << 1 | (a->limb[i / 64] >> i % 64 & 1);
        if (*rest >= by) {
            *rest -= by;
            q.limb[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    return q;
}

/* Whether what was cut off makes the number one unit larger. */
static bool
rounds_up(const struct wide *kept, bool negative, unsigned digit, bool more,
          enum lev_rounding how)
{
    switch (how) {
    case LEV_ROUND_DOWN:
        return false;
    case LEV_ROUND_FLOOR:
        return negative && (digit > 0 || more);
    case LEV_ROUND_CEILING:
        return !negative && (digit > 0 || more);
    default:
        return digit > 5 || (digit == 5 && (more || (kept->limb[0] & 1)));
    }
}

/* Cuts digits off until the exponent is `exp` and the rest fits in 34; `more`
 * says that something not zero lies behind the last digit already. */
static struct lev_decimal
cut(bool negative, struct wide coef, int exp, int to, bool more,
    enum lev_rounding how)
{
    const struct wide limit = wide_of(power_of_ten(DIGITS));
    const struct wide one = wide_of(1);
    struct lev_decimal d = {.negative = negative};
    unsigned digit = 0;

    while (wide_compare(&coef, &limit) >= 0 || exp < to) {
        more |= digit != 0;
        digit = wide_drop_digit(&coef);
        exp++;
        if (wide_is_zero(&coef) && exp < to) { /* all that follow are 0 */
            more |= digit != 0;
            digit = 0;
            exp = to;
        }
    }
    if (rounds_up(&coef, negative, digit, more, how)) {
        coef = wide_add(coef, &one);
    }
    if (wide_compare(&coef, &limit) == 0) {
        wide_drop_digit(&coef);
        exp++;
    }
    d.coef = wide_low(&coef);
    d.exp = exp;
    return d;
}

/* A result as the format can hold it. */
static struct lev_decimal
settle(bool negative, struct wide coef, int exp, bool more)
{
    struct lev_decimal d =
        cut(negative, coef, exp, EXP_MIN, more, LEV_ROUND_HALF_EVEN);

    if (d.coef == 0 && d.exp > EXP_MAX) {
        d.exp = EXP_MAX;
    }
    while (d.exp > EXP_MAX && d.coef < power_of_ten(DIGITS - 1)) {
        d.coef *= 10;
        d.exp--;
    }
    if (d.exp > EXP_MAX) {
        d = (struct lev_decimal){.negative = negative, .inf = true};
    }
    return d;
}

struct lev_decimal
lev_decimal_of_int(int64_t i)
{
    return (struct lev_decimal){
        .coef = i < 0 ? -(uint64_t)i : (uint64_t)i,
        .negative = i < 0,
    };
}

struct lev_decimal
lev_decimal_of_double(double d)
{
    struct lev_decimal made = {.negative = signbit(d)};
    bson_decimal128_t parsed;
    char text[32];

    made.nan = isnan(d);
    made.inf = isinf(d);
    if (d == 0 || made.nan || made.inf) {
        made.negative &= !made.nan;
        return made;
    }
    snprintf(text, sizeof(text), "%.14e", d);
    if (bson_decimal128_from_string(text, &parsed)) {
        lev_decimal_split(&parsed, &made);
    }
    return made;
}

static int
count_digits(u128 n)
{
    int digits = 0;

    for (; n > 0; n /= 10) {
        digits++;
    }
    return digits;
}

/* Both finite; `a` has the larger exponent. It is made as long as a wide
 * number can be, so that what then must be cut off `b` only decides the
 * rounding. */
static struct lev_decimal
add_aligned(const struct lev_decimal *a, const struct lev_decimal *b)
{
    enum { LONGEST = 76 }; /* digits, and one more for a carry */
    const struct wide one = wide_of(1);
    int apart = a->exp - b->exp;
    int room = LONGEST - count_digits(a->coef);
    int shift = a->coef == 0 || apart < room ? apart : room;
    struct wide x = wide_scale(wide_of(a->coef), a->coef == 0 ? 0 : shift);
    struct wide y = wide_of(b->coef);
    int exp = a->exp - shift;
    bool negative = a->negative, more = false;
    struct wide sum;

    for (int cut_off = apart - shift; cut_off > 0 && !wide_is_zero(&y);
         cut_off--) {
        more |= wide_drop_digit(&y) != 0;
    }
    if (a->negative == b->negative) {
        sum = wide_add(x, &y);
    }
    else if (wide_compare(&x, &y) >= 0) {
        sum = wide_sub(x, &y);
        sum = more ? wide_sub(sum, &one) : sum;
        negative = wide_is_zero(&sum) ? false : negative;
    }
    else {
        sum = wide_sub(y, &x);
        negative = b->negative;
    }
    return settle(negative, sum, exp, more);
}

struct lev_decimal
lev_decimal_add(struct lev_decimal a, struct lev_decimal b)
{
    if (a.nan || b.nan || (a.inf && b.inf && a.negative != b.negative)) {
        return not_a_number;
    }
    if (a.inf || b.inf) {
        return a.inf ? a : b;
    }
    return a.exp >= b.exp ? add_aligned(&a, &b) : add_aligned(&b, &a);
}

struct lev_decimal
lev_decimal_sub(struct lev_decimal a, struct lev_decimal b)
{
    b.negative = !b.negative;
    return lev_decimal_add(a, b);
}

struct lev_decimal
lev_decimal_mul(struct lev_decimal a, struct lev_decimal b)
{
    bool negative = a.negative != b.negative;

    if (a.nan || b.nan || (a.inf && !b.inf && b.coef == 0) ||
        (b.inf && !a.inf && a.coef == 0))
    {
        return not_a_number;
    }
    if (a.inf || b.inf) {
        return (struct lev_decimal){.negative = negative, .inf = true};
    }
    return settle(negative, wide_product(a.coef, b.coef), a.exp + b.exp,
                  false);
}

/* An exact result: zeros are taken off its end, down to the preferred
 * exponent, before it is rounded. */
static struct lev_decimal
settle_exact(bool negative, struct wide coef, int exp, int preferred)
{
    while (exp < preferred) {
        struct wide shorter = coef;

        if (wide_drop_digit(&shorter) != 0) {
            break;
        }
        coef = shorter;
        exp = wide_is_zero(&coef) ? preferred : exp + 1;
    }
    return settle(negative, coef, exp, false);
}

struct lev_decimal
lev_decimal_div(struct lev_decimal a, struct lev_decimal b)
{
    bool negative = a.negative != b.negative;
    int shift = DIGITS + 2 + count_digits(b.coef) - count_digits(a.coef);
    struct wide q;
    u128 rest;

    if (a.nan || b.nan || (a.inf && b.inf) ||
        (!a.inf && !b.inf && a.coef == 0 && b.coef == 0))
    {
        return not_a_number;
    }
    if (a.inf || (!b.inf && b.coef == 0)) {
        return (struct lev_decimal){.negative = negative, .inf = true};
    }
    if (b.inf) {
        return (struct lev_decimal){.negative = negative, .exp = EXP_MIN};
    }
    q = wide_scale(wide_of(a.coef), shift);
    q = wide_divide(&q, b.coef, &rest);
    return rest == 0 ? settle_exact(negative, q, a.exp - b.exp - shift,
                                    a.exp - b.exp)
                     : settle(negative, q, a.exp - b.exp - shift, true);
}

struct lev_decimal
lev_decimal_rem(struct lev_decimal a, struct lev_decimal b)
{
    int apart = a.exp - b.exp;

    if (a.nan || b.nan || a.inf || (!b.inf && b.coef == 0)) {
        return not_a_number;
    }
    if (b.inf || -apart > DIGITS) {
        return a; /* smaller than `b` */
    }
    for (; apart < 0; apart++) { /* b × 10^k, as long as it is not above a */
        if (b.coef > a.coef) {
            return a;
        }
        b.coef *= 10;
    }
    if (a.exp > b.exp) {
        a.exp = b.exp;
    }
    a.coef %= b.coef;
    for (; apart > 0; apart--) {
        a.coef = a.coef * 10 % b.coef;
    }
    return a;
}

/* The whole root of `n`; whether something is left. */
static u128
wide_root(const struct wide *n, bool *more)
{
    u128 root = 0;
    struct wide square;

    for (int bit = 117; bit >= 0; bit--) { /* roots have at most 35 digits */
        u128 with = root | (u128)1 << bit;

        square = wide_product(with, with);
        if (wide_compare(&square, n) <= 0) {
            root = with;
        }
    }
    square = wide_product(root, root);
    *more = wide_compare(&square, n) != 0;
    return root;
}

struct lev_decimal
lev_decimal_sqrt(struct lev_decimal a)
{
    int shift = 2 * (DIGITS + 1) - count_digits(a.coef);
    int preferred = (a.exp - (a.exp & 1)) / 2;
    struct wide n;
    u128 root;
    bool more;

    if (a.nan || (a.negative && (a.inf || a.coef != 0))) {
        return not_a_number;
    }
    if (a.inf || a.coef == 0) {
        a.exp = a.inf ? 0 : preferred;
        return a;
    }
    shift -= (a.exp - shift) & 1;
    n = wide_scale(wide_of(a.coef), shift);
    root = wide_root(&n, &more);
    return more ? settle(false, wide_of(root), (a.exp - shift) / 2, true)
                : settle_exact(false, wide_of(root), (a.exp - shift) / 2,
                               preferred);
}

struct lev_decimal
lev_decimal_round(struct lev_decimal a, int exp, enum lev_rounding how)
{
    if (a.nan || a.inf || a.exp >= exp || exp > EXP_MAX) {
        return a;
    }
    return cut(a.negative, wide_of(a.coef), a.exp, exp, false, how);
}
