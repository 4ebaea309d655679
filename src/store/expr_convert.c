#include "expr_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arith.h"
#include "date.h"

/* Text. */

/* The shortest digits that mean the same double. */
static void
print_double(double d, char *text, size_t size)
{
    if (isnan(d)) {
        snprintf(text, size, "NaN");
        return;
    }
    if (isinf(d)) {
        snprintf(text, size, d < 0 ? "-Infinity" : "Infinity");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, d);
        if (strtod(text, NULL) == d) {
            return;
        }
    }
}

int
lev_text_make(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    char text[BSON_DECIMAL128_STRING + 32];

    switch (v->value_type) {
    case BSON_TYPE_INT32:
        snprintf(text, sizeof(text), "%d", v->value.v_int32);
        break;
    case BSON_TYPE_INT64:
        snprintf(text, sizeof(text), "%lld", (long long)v->value.v_int64);
        break;
    case BSON_TYPE_DOUBLE:
        print_double(v->value.v_double, text, sizeof(text));
        break;
    case BSON_TYPE_DECIMAL128:
        bson_decimal128_to_string(&v->value.v_decimal128, text);
        break;
    case BSON_TYPE_BOOL:
        snprintf(text, sizeof(text), v->value.v_bool ? "true" : "false");
        break;
    case BSON_TYPE_DATE_TIME:
        lev_date_print(v->value.v_datetime, text, sizeof(text));
        break;
    case BSON_TYPE_OID:
        bson_oid_to_string(&v->value.v_oid, text);
        break;
    default:
        return 0;
    }
    return lev_arena_text(&ev->arena, text, strlen(text), out, err) < 0 ? -1
                                                                        : 1;
}

/* Conversions: 1 with the value, 0 when there is none, -1. */

typedef int (*convert_fn)(const bson_value_t *v, struct lev_eval *ev,
                          bson_value_t *out, struct lev_error *err);

static int
to_string(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    if (v->value_type == BSON_TYPE_UTF8) {
        *out = *v;
        return 1;
    }
    return lev_text_make(v, ev, out, err);
}

static int
to_bool(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    *out = lev_node_bool(lev_expr_truth(v));
    return 1;
}

/* All of a text, in decimal. */
static bool
parse_whole(const bson_value_t *v, int64_t *out)
{
    const char *text = v->value.v_utf8.str;
    char *end;

    if ((text[0] < '0' || text[0] > '9') && text[0] != '-' && text[0] != '+') {
        return false;
    }
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end > text && end == text + v->value.v_utf8.len;
}

/* A whole number, cut off where it was none. */
static bool
whole_of(const bson_value_t *v, int64_t *out)
{
    switch (v->value_type) {
    case BSON_TYPE_BOOL:
        *out = v->value.v_bool;
        return true;
    case BSON_TYPE_UTF8:
        return parse_whole(v, out);
    default:
        return lev_number_is(v) && lev_number_truncate(v, out);
    }
}

static int
to_int(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
       struct lev_error *err)
{
    int64_t i;

    if (!whole_of(v, &i) || i < INT32_MIN || i > INT32_MAX) {
        return 0;
    }
    *out = lev_arith_of_int(i, true);
    return 1;
}

static int
to_long(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    int64_t i = v->value.v_datetime;

    if (v->value_type != BSON_TYPE_DATE_TIME && !whole_of(v, &i)) {
        return 0;
    }
    *out = lev_arith_of_int(i, false);
    return 1;
}

static bool
parse_double(const bson_value_t *v, double *d)
{
    const char *text = v->value.v_utf8.str;
    char *end;

    /* strtod() also takes white space and hexadecimal numbers. */
    if (text[0] == '\0' || strpbrk(text, " \t\n\v\f\rxX") != NULL) {
        return false;
    }
    *d = strtod(text, &end);
    return end == text + v->value.v_utf8.len;
}

static int
to_double(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    double d;

    switch (v->value_type) {
    case BSON_TYPE_BOOL:
        d = v->value.v_bool;
        break;
    case BSON_TYPE_DATE_TIME:
        d = (double)v->value.v_datetime;
        break;
    case BSON_TYPE_UTF8:
        if (!parse_double(v, &d)) {
            return 0;
        }
        break;
    default:
        if (!lev_number_is(v)) {
            return 0;
        }
        d = lev_number_double(v);
        if (isinf(d) && v->value_type == BSON_TYPE_DECIMAL128 &&
            !lev_arith_decimal(v).inf)
        {
            return 0; /* too large */
        }
    }
    *out = lev_arith_of_double(d);
    return 1;
}

static int
to_decimal(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    bson_decimal128_t d;

    switch (v->value_type) {
    case BSON_TYPE_BOOL:
        *out = lev_arith_of_decimal(lev_decimal_of_int(v->value.v_bool));
        return 1;
    case BSON_TYPE_DATE_TIME:
        *out = lev_arith_of_decimal(lev_decimal_of_int(v->value.v_datetime));
        return 1;
    case BSON_TYPE_UTF8:
        if (strlen(v->value.v_utf8.str) != v->value.v_utf8.len ||
            !bson_decimal128_from_string(v->value.v_utf8.str, &d))
        {
            return 0;
        }
        *out = (bson_value_t){.value_type = BSON_TYPE_DECIMAL128};
        out->value.v_decimal128 = d;
        return 1;
    default:
        if (!lev_number_is(v)) {
            return 0;
        }
        *out = lev_arith_of_decimal(lev_arith_decimal(v));
        return 1;
    }
}

static int
to_date(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    int64_t ms;

    switch (v->value_type) {
    case BSON_TYPE_DATE_TIME:
        ms = v->value.v_datetime;
        break;
    case BSON_TYPE_TIMESTAMP:
        ms = (int64_t)v->value.v_timestamp.timestamp * 1000;
        break;
    case BSON_TYPE_OID:
        ms = (int64_t)(uint32_t)bson_oid_get_time_t(&v->value.v_oid) * 1000;
        break;
    case BSON_TYPE_UTF8:
        if (!lev_date_parse(v->value.v_utf8.str, v->value.v_utf8.len, &ms)) {
            return 0;
        }
        break;
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
        if (!lev_number_truncate(v, &ms)) {
            return 0;
        }
        break;
    default: /* int32 is none, as MongoDB has it */
        return 0;
    }
    *out = lev_node_date(ms);
    return 1;
}

static int
to_oid(const bson_value_t *v, struct lev_eval *ev, bson_value_t *out,
       struct lev_error *err)
{
    if (v->value_type == BSON_TYPE_OID) {
        *out = *v;
        return 1;
    }
    if (v->value_type != BSON_TYPE_UTF8 ||
        !bson_oid_is_valid(v->value.v_utf8.str, v->value.v_utf8.len) ||
        v->value.v_utf8.len != 24)
    {
        return 0;
    }
    *out = (bson_value_t){.value_type = BSON_TYPE_OID};
    bson_oid_init_from_string(&out->value.v_oid, v->value.v_utf8.str);
    return 1;
}

struct target {
    bson_type_t type;
    convert_fn fn;
};

static const struct target targets[] = {
    {BSON_TYPE_DOUBLE, to_double},  {BSON_TYPE_UTF8, to_string},
    {BSON_TYPE_OID, to_oid},        {BSON_TYPE_BOOL, to_bool},
    {BSON_TYPE_DATE_TIME, to_date}, {BSON_TYPE_INT32, to_int},
    {BSON_TYPE_INT64, to_long},     {BSON_TYPE_DECIMAL128, to_decimal},
};

static int
no_conversion(const bson_value_t *v, bson_type_t to, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, 241,
                         "expression: this value of type %s cannot be "
                         "converted to %s",
                         lev_value_type_name(v->value_type),
                         lev_value_type_name(to));
}

static int
convert(const bson_value_t *v, bson_type_t to, struct lev_eval *ev,
        bson_value_t *out, struct lev_error *err)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(targets); i++) {
        if (targets[i].type == to) {
            int rc = targets[i].fn(v, ev, out, err);

            return rc == 0 ? no_conversion(v, to, err) : rc < 0 ? -1 : 0;
        }
    }
    return no_conversion(v, to, err);
}

/* $toInt and its kind */
static int
eval_to(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    const bson_type_t *to = n->op->data;
    bson_value_t v;

    if (lev_node_eval(n->args[0], ev, &v, err) < 0) {
        return -1;
    }
    lev_node_charge(ev, &v);
    if (lev_node_nullish(&v)) {
        *out = lev_value_null;
        return 0;
    }
    return convert(&v, *to, ev, out, err);
}

/* $convert: {input, to, onError, onNull} */

static int
type_by_name(const char *name, bson_type_t *type, struct lev_error *err)
{
    for (int t = BSON_TYPE_DOUBLE; t <= BSON_TYPE_DECIMAL128; t++) {
        if (strcmp(name, lev_value_type_name((bson_type_t)t)) == 0) {
            *type = (bson_type_t)t;
            return 1;
        }
    }
    return lev_error_set(err, LEV_E_QUERY, 2,
                         "expression: $convert to '%s': there is no such type",
                         name);
}

/* 1 with the type, 0 when it is null. */
static int
eval_type(const struct lev_node *n, struct lev_eval *ev, bson_type_t *type,
          struct lev_error *err)
{
    bson_value_t v;
    int64_t code;

    if (lev_node_arg(n, 1, ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (v.value_type == BSON_TYPE_UTF8) {
        return type_by_name(v.value.v_utf8.str, type, err);
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, &code) ||
        code < BSON_TYPE_DOUBLE || code > BSON_TYPE_DECIMAL128)
    {
        return lev_error_set(err, LEV_E_QUERY, lev_number_is(&v) ? 2 : 9,
                             "expression: 'to' of $convert is the name or "
                             "number of a type");
    }
    *type = (bson_type_t)code;
    return 1;
}

static int
eval_convert(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    struct lev_error failed = {0};
    bson_type_t to = BSON_TYPE_EOD;
    bson_value_t v;
    int rc = lev_node_arg(n, 0, ev, &v, err);

    if (rc < 0) {
        return -1;
    }
    *out = lev_value_null;
    if (lev_node_nullish(&v) && n->args[3] != NULL) {
        return lev_node_eval(n->args[3], ev, out, err);
    }
    rc = eval_type(n, ev, &to, err);
    if (rc <= 0 || lev_node_nullish(&v)) {
        return rc < 0 ? -1 : 0;
    }
    if (convert(&v, to, ev, out, &failed) == 0) {
        return 0;
    }
    if (failed.code == LEV_E_QUERY && failed.detail == 241 &&
        n->args[2] != NULL) {
        return lev_node_eval(n->args[2], ev, out, err);
    }
    *err = failed;
    return -1;
}

static int
eval_type_name(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    const char *name;

    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    name = lev_value_type_name(out->value_type);
    return lev_arena_text(&ev->arena, name, strlen(name), out, err);
}

static int
eval_is_number(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    *out = lev_node_bool(lev_number_is(out));
    return 0;
}

#define TO(op, type)                                                          \
    {                                                                         \
        .name = op, .eval = eval_to, .min = 1, .max = 1, .arity = 50723,      \
        .data = &(const bson_type_t)                                          \
        {                                                                     \
            type                                                              \
        }                                                                     \
    }

const struct lev_expr_op lev_expr_convert[] = {
    TO("$toInt", BSON_TYPE_INT32),
    TO("$toLong", BSON_TYPE_INT64),
    TO("$toDouble", BSON_TYPE_DOUBLE),
    TO("$toDecimal", BSON_TYPE_DECIMAL128),
    TO("$toString", BSON_TYPE_UTF8),
    TO("$toBool", BSON_TYPE_BOOL),
    TO("$toDate", BSON_TYPE_DATE_TIME),
    TO("$toObjectId", BSON_TYPE_OID),
    {.name = "$convert",
     .eval = eval_convert,
     .params = {{"input", 9}, {"to", 9}, {"onError", 0}, {"onNull", 0}},
     .not_object = 9,
     .unknown = 9},
    {.name = "$type", .eval = eval_type_name, .min = 1, .max = 1},
    {.name = "$isNumber", .eval = eval_is_number, .min = 1, .max = 1},
    {0},
};
