/* arith.h - sums and products of BSON's numbers, as updates and expressions
 * share them.
 *
 * The result has the wider type of the two: int32, int64, double, Decimal128;
 * int32 widens to int64 where it must. Both arguments are numbers. Pure
 * functions, any thread.
 */
#ifndef LEV_ARITH_H
#define LEV_ARITH_H

#include "number.h"

/* False when the result is whole and beyond 64 bits; `*out` is not set then.
 */
typedef bool (*lev_arith_fn)(const bson_value_t *a, const bson_value_t *b,
                             bson_value_t *out);

bool lev_arith_add(const bson_value_t *a, const bson_value_t *b,
                   bson_value_t *out);
bool lev_arith_sub(const bson_value_t *a, const bson_value_t *b,
                   bson_value_t *out);
bool lev_arith_mul(const bson_value_t *a, const bson_value_t *b,
                   bson_value_t *out);

/* The wider type of two numbers. */
bson_type_t lev_arith_type(const bson_value_t *a, const bson_value_t *b);
struct lev_decimal lev_arith_decimal(const bson_value_t *v);
bson_value_t lev_arith_of_decimal(struct lev_decimal d);
/* int32 where `narrow` and it fits, else int64. */
bson_value_t lev_arith_of_int(int64_t i, bool narrow);
bson_value_t lev_arith_of_double(double d);

#endif
