/* number.h - BSON's four numeric types as one: exact comparison and
 * conversion.
 *
 * int32, int64, double and Decimal128 are compared by their mathematical
 * values, without rounding either side: 2^53 + 1 is not 2.0^53, and the
 * decimal 0.1 is not the double 0.1. NaN equals NaN, of either type, and is
 * below every number; -0.0 equals 0. Pure functions, any thread.
 */
#ifndef LEV_NUMBER_H
#define LEV_NUMBER_H

#include "decimal.h"

bool lev_number_is(const bson_value_t *v);
bool lev_number_is_nan(const bson_value_t *v);
/* <0, 0, >0; both are numbers. */
int lev_number_compare(const bson_value_t *a, const bson_value_t *b);
/* Whether `v` is a number that is a whole one within int64; then `*out`. */
bool lev_number_whole(const bson_value_t *v, int64_t *out);
/* The whole part (truncated towards zero) where it lies within int64. */
bool lev_number_truncate(const bson_value_t *v, int64_t *out);
/* The nearest double. */
double lev_number_double(const bson_value_t *v);
/* Whether a projection's or an option's number means "yes": not 0. */
bool lev_number_truth(const bson_value_t *v);

#endif
