/* decimal.h - arithmetic of Decimal128: IEEE 754-2008's decimal numbers of 34
 * digits.
 *
 * A number is worked on taken apart. Results are rounded half to even, and
 * keep the exponent that IEEE prefers (1.10 + 2 is 3.10), because it shows.
 * Done here since neither libbson nor every compiler can. Pure functions.
 */
#ifndef LEV_DECIMAL_H
#define LEV_DECIMAL_H

#include <bson/bson.h>

/* ± coef × 10^exp, coef < 10^34; or NaN, or ± infinity. */
struct lev_decimal {
    unsigned __int128 coef;
    int exp;
    bool negative, nan, inf;
};

enum lev_rounding {
    LEV_ROUND_HALF_EVEN,
    LEV_ROUND_DOWN, /* towards zero */
    LEV_ROUND_FLOOR,
    LEV_ROUND_CEILING,
};

void lev_decimal_split(const bson_decimal128_t *from, struct lev_decimal *to);
void lev_decimal_join(const struct lev_decimal *from, bson_decimal128_t *to);

struct lev_decimal lev_decimal_of_int(int64_t i);
/* MongoDB's: a double counts with 15 digits. */
struct lev_decimal lev_decimal_of_double(double d);
struct lev_decimal lev_decimal_add(struct lev_decimal a, struct lev_decimal b);
struct lev_decimal lev_decimal_sub(struct lev_decimal a, struct lev_decimal b);
struct lev_decimal lev_decimal_mul(struct lev_decimal a, struct lev_decimal b);
/* x / 0 is infinite, 0 / 0 is NaN. */
struct lev_decimal lev_decimal_div(struct lev_decimal a, struct lev_decimal b);
/* What is left of `a`, with its sign, after division by `b`; C's fmod(). */
struct lev_decimal lev_decimal_rem(struct lev_decimal a, struct lev_decimal b);
struct lev_decimal lev_decimal_sqrt(struct lev_decimal a);
/* Without digits below 10^exp; numbers that have none are left alone. */
struct lev_decimal lev_decimal_round(struct lev_decimal a, int exp,
                                     enum lev_rounding how);

#endif
