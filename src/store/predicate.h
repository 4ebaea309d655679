/* predicate.h - one test of one value: what `{field: {$op: operand}}` asks of
 * each value that the field's path leads to.
 *
 * Operators over further tests ($not, $elemMatch, $all) are match.c's. A
 * predicate borrows its operand from the query, which outlives it, and does
 * not change once made.
 */
#ifndef LEV_PREDICATE_H
#define LEV_PREDICATE_H

#include "path.h"
#include "regex.h"

struct lev_predicate {
    /* 1: passes, 0: does not, -1: error. BSON_TYPE_EOD is a value too. */
    int (*accept)(const struct lev_predicate *p, const bson_value_t *v,
                  struct lev_error *err);
    enum lev_path_leaf leaf; /* what to show it of arrays */
    bool equality;           /* asks for `operand` itself */
    bson_value_t operand;
    union {
        struct {
            bool below, same, above; /* what it takes of the order */
        } order;
        struct {
            bson_value_t *values; /* sorted */
            size_t n_values;
            struct lev_regex **regexes;
            size_t n_regexes;
        } set; /* of $in; a regex is a set of one */
        struct {
            int64_t divisor, remainder;
        } mod;
        struct {
            uint32_t *position;
            size_t n;
            bool any, clear;
        } bits;
        uint64_t types; /* by bson_type_t; MinKey and MaxKey by bits 62, 63 */
        int64_t size;
    };
};

/* Whether `op` is made here. */
bool lev_predicate_known(const char *op);
/* `op` ("$gt", …) of `field` with its operand. `options` is what $options says
 * beside a $regex, or NULL. Errors: QUERY with MongoDB's code. */
int lev_predicate_init(struct lev_predicate *p, const char *field,
                       const char *op, const bson_value_t *operand,
                       const char *options, struct lev_error *err);
/* `field: value`: equality, or for a regex a search. */
int lev_predicate_implicit(struct lev_predicate *p, const char *field,
                           const bson_value_t *value, struct lev_error *err);
void lev_predicate_deinit(struct lev_predicate *p);

/* Whether a document is made of operators: its first key begins with '$' and
 * is not one of a DBRef's. */
bool lev_predicate_is_operators(const bson_value_t *v);

#endif
