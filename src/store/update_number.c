#include "arith.h"
#include "update_ops.h"
#include "value.h"

#include <string.h>

/* $inc and $mul */

static int
check_number(const char *path, const char *op, const bson_value_t *v,
             const char *what, struct lev_error *err)
{
    return lev_number_is(v)
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 14,
                               "'%s': %s needs a number as %s, not %s", path,
                               op, what, lev_value_type_name(v->value_type));
}

static int
compile_inc(const char *path, const bson_value_t *operand, void **data,
            struct lev_error *err)
{
    return check_number(path, "$inc", operand, "its operand", err);
}

static int
compile_mul(const char *path, const bson_value_t *operand, void **data,
            struct lev_error *err)
{
    return check_number(path, "$mul", operand, "its operand", err);
}

/* `fn` of the old value and the operand. */
static int
apply_arith(const struct lev_update_at *at, const char *op,
            const bson_value_t *old, lev_arith_fn fn, struct lev_error *err)
{
    bson_value_t made;

    if (check_number(at->path, op, old, "the field's value", err) < 0) {
        return -1;
    }
    if (!fn(old, at->operand, &made)) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': the result of %s does not fit in 64 bits",
                             at->path, op);
    }
    bson_append_value(at->out, at->key, -1, &made);
    return 0;
}

static int
apply_inc(const struct lev_update_at *at, struct lev_error *err)
{
    if (at->old->value_type == BSON_TYPE_EOD) {
        bson_append_value(at->out, at->key, -1, at->operand);
        return 0;
    }
    return apply_arith(at, "$inc", at->old, lev_arith_add, err);
}

static int
apply_mul(const struct lev_update_at *at, struct lev_error *err)
{
    static const bson_value_t zero = {.value_type = BSON_TYPE_INT32};

    return apply_arith(at, "$mul",
                       at->old->value_type == BSON_TYPE_EOD ? &zero : at->old,
                       lev_arith_mul, err);
}

const struct lev_update_op lev_update_op_inc = {
    .name = "$inc",
    .creates = true,
    .compile = compile_inc,
    .apply = apply_inc,
};

const struct lev_update_op lev_update_op_mul = {
    .name = "$mul",
    .creates = true,
    .compile = compile_mul,
    .apply = apply_mul,
};

/* $bit */

static int64_t
bits_and(int64_t a, int64_t b)
{
    return a & b;
}

static int64_t
bits_or(int64_t a, int64_t b)
{
    return a | b;
}

static int64_t
bits_xor(int64_t a, int64_t b)
{
    return a ^ b;
}

typedef int64_t (*bit_fn)(int64_t, int64_t);

static bit_fn
bit_fn_of(const char *name)
{
    static const struct {
        const char *name;
        bit_fn fn;
    } fns[] = {{"and", bits_and}, {"or", bits_or}, {"xor", bits_xor}};

    for (size_t i = 0; i < LEV_ARRAY_LEN(fns); i++) {
        if (strcmp(name, fns[i].name) == 0) {
            return fns[i].fn;
        }
    }
    return NULL;
}

static bool
is_int(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_INT32 ||
           v->value_type == BSON_TYPE_INT64;
}

static int
compile_bit(const char *path, const bson_value_t *operand, void **data,
            struct lev_error *err)
{
    bson_iter_t it;
    int n = 0;

    for (bool ok = operand->value_type == BSON_TYPE_DOCUMENT &&
                   lev_value_iter(operand, &it);
         ok && bson_iter_next(&it); n++)
    {
        bson_value_t v = lev_value_of(&it);

        if (bit_fn_of(bson_iter_key(&it)) == NULL) {
            return lev_error_set(err, LEV_E_QUERY, 2,
                                 "'%s': $bit knows and, or, xor; not '%s'",
                                 path, bson_iter_key(&it));
        }
        if (!is_int(&v)) {
            return lev_error_set(err, LEV_E_QUERY, 2,
                                 "'%s': $bit needs whole numbers, not %s",
                                 path, lev_value_type_name(v.value_type));
        }
    }
    return n > 0 ? 0
                 : lev_error_set(err, LEV_E_QUERY, 2,
                                 "'%s': $bit needs {and | or | xor: number}",
                                 path);
}

/* The operations of one $bit, one after another. */
static bson_value_t
bits_of(const bson_value_t *operand, bson_value_t v)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(operand, &it); ok && bson_iter_next(&it);) {
        bson_value_t by = lev_value_of(&it);
        bool narrow = lev_arith_type(&v, &by) == BSON_TYPE_INT32;
        int64_t a = 0, b = 0;

        lev_number_truncate(&v, &a);
        lev_number_truncate(&by, &b);
        v = lev_arith_of_int(bit_fn_of(bson_iter_key(&it))(a, b), narrow);
    }
    return v;
}

static int
apply_bit(const struct lev_update_at *at, struct lev_error *err)
{
    static const bson_value_t zero = {.value_type = BSON_TYPE_INT32};
    bool missing = at->old->value_type == BSON_TYPE_EOD;
    bson_value_t made;

    if (!missing && !is_int(at->old)) {
        return lev_error_set(
            err, LEV_E_QUERY, 2, "'%s': $bit works on int and long, not on %s",
            at->path, lev_value_type_name(at->old->value_type));
    }
    made = bits_of(at->operand, missing ? zero : *at->old);
    bson_append_value(at->out, at->key, -1, &made);
    return 0;
}

const struct lev_update_op lev_update_op_bit = {
    .name = "$bit",
    .creates = true,
    .compile = compile_bit,
    .apply = apply_bit,
};
