#include "predicate.h"

#include <string.h>

#include "number.h"
#include "value.h"

static int
bad(struct lev_error *err, const char *field, const char *op,
    const char *needs, const bson_value_t *operand)
{
    return lev_error_set(err, LEV_E_QUERY, 2, "'%s': %s needs %s, not %s",
                         field, op, needs,
                         lev_value_type_name(operand->value_type));
}

bool
lev_predicate_is_operators(const bson_value_t *v)
{
    static const char *const dbref[] = {"$ref", "$id", "$db"};
    bson_iter_t it;
    const char *key;

    if (v->value_type != BSON_TYPE_DOCUMENT || !lev_value_iter(v, &it) ||
        !bson_iter_next(&it))
    {
        return false;
    }
    key = bson_iter_key(&it);
    for (size_t i = 0; i < LEV_ARRAY_LEN(dbref); i++) {
        if (strcmp(key, dbref[i]) == 0) {
            return false;
        }
    }
    return key[0] == '$';
}

/* Comparisons. */

static bool
is_nothing(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_EOD ||
           v->value_type == BSON_TYPE_UNDEFINED;
}

/* Values of another class are out of reach, but for two things: null stands
 * for what is not there, and MinKey and MaxKey are below and above all. */
static int
accept_order(const struct lev_predicate *p, const bson_value_t *v,
             struct lev_error *err)
{
    const bson_value_t *want = &p->operand;
    int c;

    if (is_nothing(v) && want->value_type == BSON_TYPE_NULL) {
        return p->order.same;
    }
    if (is_nothing(v) ||
        lev_value_class(v->value_type) != lev_value_class(want->value_type))
    {
        return (want->value_type == BSON_TYPE_MAXKEY && p->order.below) ||
               (want->value_type == BSON_TYPE_MINKEY && p->order.above);
    }
    c = lev_value_compare(v, want);
    if (c != 0 && (lev_number_is_nan(v) || lev_number_is_nan(want))) {
        return 0; /* no number is below or above NaN */
    }
    return c < 0 ? p->order.below : c > 0 ? p->order.above : p->order.same;
}

static int
init_order(struct lev_predicate *p, const char *field, const char *op,
           const bson_value_t *operand, struct lev_error *err)
{
    static const struct {
        const char *name;
        bool below, same, above;
    } orders[] = {
        {"$eq", false, true, false}, {"$lt", true, false, false},
        {"$lte", true, true, false}, {"$gt", false, false, true},
        {"$gte", false, true, true},
    };
    size_t i = 0;

    while (strcmp(op, orders[i].name) != 0) {
        i++;
    }
    p->equality = i == 0;
    if (operand->value_type == BSON_TYPE_UNDEFINED) {
        return bad(err, field, op, "a value to compare with", operand);
    }
    if (operand->value_type == BSON_TYPE_REGEX && !p->equality) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': %s takes no regular expression; use $not",
                             field, op);
    }
    p->accept = accept_order;
    p->order.below = orders[i].below;
    p->order.same = orders[i].same;
    p->order.above = orders[i].above;
    return 0;
}

/* $regex and $in. */

static int accept_set(const struct lev_predicate *p, const bson_value_t *v,
                      struct lev_error *err);

static int
add_regex(struct lev_predicate *p, const char *pattern, const char *options,
          struct lev_error *err)
{
    struct lev_regex *re = lev_regex_compile(pattern, options, err);

    if (re == NULL) {
        return -1;
    }
    p->set.regexes[p->set.n_regexes++] = re;
    return 0;
}

static int
alloc_set(struct lev_predicate *p, size_t values, size_t regexes,
          struct lev_error *err)
{
    p->accept = accept_set;
    p->set.values = calloc(values + 1, sizeof(*p->set.values));
    p->set.regexes = calloc(regexes + 1, sizeof(struct lev_regex *));
    return p->set.values == NULL || p->set.regexes == NULL
               ? lev_error_nomem(err, "query")
               : 0;
}

static int
init_regex(struct lev_predicate *p, const char *field, const char *op,
           const bson_value_t *operand, const char *options,
           struct lev_error *err)
{
    const char *pattern = NULL, *own = "";

    if (operand->value_type == BSON_TYPE_REGEX) {
        pattern = operand->value.v_regex.regex;
        own = operand->value.v_regex.options;
    }
    else if (operand->value_type == BSON_TYPE_UTF8) {
        pattern = operand->value.v_utf8.str;
    }
    if (pattern == NULL) {
        return bad(err, field, op, "a string or a regular expression",
                   operand);
    }
    if (operand->value_type == BSON_TYPE_UTF8 &&
        strlen(pattern) != operand->value.v_utf8.len)
    {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': a regular expression holds no NUL", field);
    }
    if (options != NULL && own[0] != '\0') {
        return lev_error_set(err, LEV_E_QUERY, 51075,
                             "'%s': options both in the regular expression "
                             "and in $options",
                             field);
    }
    if (alloc_set(p, 1, 1, err) < 0) {
        return -1;
    }
    if (operand->value_type == BSON_TYPE_REGEX) {
        p->set.values[p->set.n_values++] = *operand;
    }
    return add_regex(p, pattern, options == NULL ? own : options, err);
}

static int
compare_values(const void *a, const void *b)
{
    return lev_value_compare(a, b);
}

static int
accept_set(const struct lev_predicate *p, const bson_value_t *v,
           struct lev_error *err)
{
    const bson_value_t *key = is_nothing(v) ? &lev_value_null : v;

    if (bsearch(key, p->set.values, p->set.n_values, sizeof(*p->set.values),
                compare_values) != NULL)
    {
        return 1;
    }
    if (v->value_type != BSON_TYPE_UTF8 && v->value_type != BSON_TYPE_SYMBOL) {
        return 0;
    }
    for (size_t i = 0; i < p->set.n_regexes; i++) {
        /* Symbols lie in a bson_value_t as strings do. */
        int rc = lev_regex_search(p->set.regexes[i], v->value.v_utf8.str,
                                  v->value.v_utf8.len, err);

        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int
add_member(struct lev_predicate *p, const char *field, const char *op,
           const bson_value_t *v, struct lev_error *err)
{
    if (lev_predicate_is_operators(v)) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': %s holds values, not operators", field,
                             op);
    }
    if (v->value_type == BSON_TYPE_UNDEFINED) {
        return bad(err, field, op, "values to compare with", v);
    }
    p->set.values[p->set.n_values++] = *v;
    return v->value_type == BSON_TYPE_REGEX
               ? add_regex(p, v->value.v_regex.regex, v->value.v_regex.options,
                           err)
               : 0;
}

static size_t
count_elements(const bson_value_t *array)
{
    bson_iter_t it;
    size_t n = 0;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        n++;
    }
    return n;
}

static int
init_in(struct lev_predicate *p, const char *field, const char *op,
        const bson_value_t *operand, struct lev_error *err)
{
    size_t n = count_elements(operand);
    bson_iter_t it;

    if (operand->value_type != BSON_TYPE_ARRAY) {
        return bad(err, field, op, "an array", operand);
    }
    if (alloc_set(p, n, n, err) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(operand, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_member(p, field, op, &v, err) < 0) {
            return -1;
        }
    }
    qsort(p->set.values, p->set.n_values, sizeof(*p->set.values),
          compare_values);
    if (p->set.n_values == 1 && p->set.n_regexes == 0) {
        p->operand = p->set.values[0];
        p->equality = true;
    }
    return 0;
}

/* $exists, $type, $size, $mod. */

static int
accept_exists(const struct lev_predicate *p, const bson_value_t *v,
              struct lev_error *err)
{
    return v->value_type != BSON_TYPE_EOD;
}

static int
type_bit(int type)
{
    return type == -1 ? 62 : type == BSON_TYPE_MAXKEY ? 63 : type;
}

static int
accept_type(const struct lev_predicate *p, const bson_value_t *v,
            struct lev_error *err)
{
    int type = v->value_type == BSON_TYPE_MINKEY ? -1 : (int)v->value_type;

    return type != BSON_TYPE_EOD && (p->types >> type_bit(type) & 1) != 0;
}

static bool
type_by_name(const char *name, uint64_t *types)
{
    if (strcmp(name, "number") == 0) {
        *types |= UINT64_C(1) << BSON_TYPE_DOUBLE |
                  UINT64_C(1) << BSON_TYPE_INT32 |
                  UINT64_C(1) << BSON_TYPE_INT64 |
                  UINT64_C(1) << BSON_TYPE_DECIMAL128;
        return true;
    }
    for (int type = BSON_TYPE_DOUBLE; type <= BSON_TYPE_DECIMAL128; type++) {
        if (strcmp(name, lev_value_type_name((bson_type_t)type)) == 0) {
            *types |= UINT64_C(1) << type;
            return true;
        }
    }
    if (strcmp(name, "minKey") != 0 && strcmp(name, "maxKey") != 0) {
        return false;
    }
    *types |= UINT64_C(1) << (name[1] == 'i' ? 62 : 63);
    return true;
}

static int
add_type(struct lev_predicate *p, const char *field, const bson_value_t *v,
         struct lev_error *err)
{
    int64_t code;

    if (v->value_type == BSON_TYPE_UTF8) {
        return type_by_name(v->value.v_utf8.str, &p->types)
                   ? 0
                   : lev_error_set(err, LEV_E_QUERY, 2,
                                   "'%s': $type knows no type '%s'", field,
                                   v->value.v_utf8.str);
    }
    if (!lev_number_is(v)) {
        return lev_error_set(err, LEV_E_QUERY, 14,
                             "'%s': $type needs type names or numbers, not %s",
                             field, lev_value_type_name(v->value_type));
    }
    if (!lev_number_whole(v, &code) ||
        !(code == -1 || code == BSON_TYPE_MAXKEY ||
          (code >= BSON_TYPE_DOUBLE && code <= BSON_TYPE_DECIMAL128)))
    {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': $type %g is the number of no BSON type",
                             field, lev_number_double(v));
    }
    p->types |= UINT64_C(1) << type_bit((int)code);
    return 0;
}

static int
init_type(struct lev_predicate *p, const char *field, const char *op,
          const bson_value_t *operand, struct lev_error *err)
{
    bson_iter_t it;

    p->accept = accept_type;
    if (operand->value_type != BSON_TYPE_ARRAY) {
        return add_type(p, field, operand, err);
    }
    for (bool ok = lev_value_iter(operand, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_type(p, field, &v, err) < 0) {
            return -1;
        }
    }
    return p->types != 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 9,
                               "'%s': $type needs one type at least", field);
}

static int
accept_size(const struct lev_predicate *p, const bson_value_t *v,
            struct lev_error *err)
{
    return v->value_type == BSON_TYPE_ARRAY &&
           (int64_t)count_elements(v) == p->size;
}

static int
init_size(struct lev_predicate *p, const char *field, const char *op,
          const bson_value_t *operand, struct lev_error *err)
{
    p->accept = accept_size;
    p->leaf = LEV_PATH_WHOLE;
    if (!lev_number_is(operand)) {
        return bad(err, field, op, "a whole number", operand);
    }
    return lev_number_whole(operand, &p->size) && p->size >= 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 2,
                               "'%s': $size needs a whole number ≥ 0, not %g",
                               field, lev_number_double(operand));
}

static int
accept_mod(const struct lev_predicate *p, const bson_value_t *v,
           struct lev_error *err)
{
    int64_t n;

    if (!lev_number_is(v) || !lev_number_truncate(v, &n)) {
        return 0;
    }
    /* INT64_MIN % -1 traps; every number is a multiple of -1. */
    return (p->mod.divisor == -1 ? 0 : n % p->mod.divisor) == p->mod.remainder;
}

static int
init_mod(struct lev_predicate *p, const char *field, const char *op,
         const bson_value_t *operand, struct lev_error *err)
{
    int64_t pair[2] = {0};
    size_t n = 0;
    bson_iter_t it;

    p->accept = accept_mod;
    if (operand->value_type != BSON_TYPE_ARRAY || count_elements(operand) != 2)
    {
        return bad(err, field, op, "an array [divisor, remainder]", operand);
    }
    for (bool ok = lev_value_iter(operand, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (!lev_number_is(&v) || !lev_number_truncate(&v, &pair[n++])) {
            return bad(err, field, op, "numbers of 64 bits", &v);
        }
    }
    if (pair[0] == 0) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': the divisor of $mod is 0", field);
    }
    p->mod.divisor = pair[0];
    p->mod.remainder = pair[1];
    return 0;
}

/* $bitsAllSet, $bitsAnyClear, … */

static bool
bit_of(const bson_value_t *v, int64_t number, uint32_t at)
{
    if (v->value_type == BSON_TYPE_BINARY) {
        return at / 8 < v->value.v_binary.data_len &&
               (v->value.v_binary.data[at / 8] >> at % 8 & 1) != 0;
    }
    return (at > 63 ? number < 0 : (number >> at & 1) != 0);
}

static int
accept_bits(const struct lev_predicate *p, const bson_value_t *v,
            struct lev_error *err)
{
    int64_t number = 0;

    if (v->value_type != BSON_TYPE_BINARY &&
        (!lev_number_is(v) || !lev_number_whole(v, &number)))
    {
        return 0;
    }
    for (size_t i = 0; i < p->bits.n; i++) {
        bool good = bit_of(v, number, p->bits.position[i]) != p->bits.clear;

        if (good == p->bits.any) {
            return good;
        }
    }
    return !p->bits.any;
}

static int
bits_of_mask(struct lev_predicate *p, const bson_value_t *mask, int64_t number,
             size_t width, struct lev_error *err)
{
    p->bits.position = calloc(width + 1, sizeof(*p->bits.position));
    if (p->bits.position == NULL) {
        return lev_error_nomem(err, "query");
    }
    for (size_t at = 0; at < width; at++) {
        if (bit_of(mask, number, (uint32_t)at)) {
            p->bits.position[p->bits.n++] = (uint32_t)at;
        }
    }
    return 0;
}

static int
bits_of_list(struct lev_predicate *p, const char *field, const char *op,
             const bson_value_t *list, struct lev_error *err)
{
    bson_iter_t it;

    p->bits.position =
        calloc(count_elements(list) + 1, sizeof(*p->bits.position));
    if (p->bits.position == NULL) {
        return lev_error_nomem(err, "query");
    }
    for (bool ok = lev_value_iter(list, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int64_t at;

        if (!lev_number_is(&v) || !lev_number_whole(&v, &at) || at < 0 ||
            at > INT32_MAX)
        {
            return bad(err, field, op, "bit positions ≥ 0", &v);
        }
        p->bits.position[p->bits.n++] = (uint32_t)at;
    }
    return 0;
}

static int
init_bits(struct lev_predicate *p, const char *field, const char *op,
          const bson_value_t *operand, struct lev_error *err)
{
    int64_t number = 0;

    p->accept = accept_bits;
    p->bits.any = strncmp(op, "$bitsAny", 8) == 0;
    p->bits.clear = strcmp(op + 8, "Clear") == 0;
    if (operand->value_type == BSON_TYPE_ARRAY) {
        return bits_of_list(p, field, op, operand, err);
    }
    if (operand->value_type == BSON_TYPE_BINARY) {
        return bits_of_mask(p, operand, 0,
                            (size_t)operand->value.v_binary.data_len * 8, err);
    }
    if (!lev_number_is(operand)) {
        return bad(err, field, op,
                   "a number, binary data or an array of positions", operand);
    }
    if (!lev_number_whole(operand, &number) || number < 0) {
        return lev_error_set(err, LEV_E_QUERY, 9,
                             "'%s': %s needs a whole number ≥ 0, not %g",
                             field, op, lev_number_double(operand));
    }
    return bits_of_mask(p, operand, number, 63, err);
}

typedef int (*init_fn)(struct lev_predicate *, const char *field,
                       const char *op, const bson_value_t *,
                       struct lev_error *);

static int
init_exists(struct lev_predicate *p, const char *field, const char *op,
            const bson_value_t *operand, struct lev_error *err)
{
    p->accept = accept_exists;
    p->leaf = LEV_PATH_WHOLE;
    return 0;
}

static init_fn
init_of(const char *op)
{
    static const struct {
        const char *name;
        init_fn init;
    } ops[] = {
        {"$eq", init_order},          {"$gt", init_order},
        {"$gte", init_order},         {"$lt", init_order},
        {"$lte", init_order},         {"$in", init_in},
        {"$exists", init_exists},     {"$type", init_type},
        {"$size", init_size},         {"$mod", init_mod},
        {"$bitsAllSet", init_bits},   {"$bitsAnySet", init_bits},
        {"$bitsAllClear", init_bits}, {"$bitsAnyClear", init_bits},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(ops); i++) {
        if (strcmp(op, ops[i].name) == 0) {
            return ops[i].init;
        }
    }
    return NULL;
}

bool
lev_predicate_known(const char *op)
{
    return strcmp(op, "$regex") == 0 || init_of(op) != NULL;
}

int
lev_predicate_init(struct lev_predicate *p, const char *field, const char *op,
                   const bson_value_t *operand, const char *options,
                   struct lev_error *err)
{
    int rc;

    *p =
        (struct lev_predicate){.leaf = LEV_PATH_ELEMENTS, .operand = *operand};
    rc = strcmp(op, "$regex") == 0
             ? init_regex(p, field, op, operand, options, err)
             : init_of(op)(p, field, op, operand, err);
    if (rc < 0) {
        lev_predicate_deinit(p);
    }
    return rc;
}

int
lev_predicate_implicit(struct lev_predicate *p, const char *field,
                       const bson_value_t *value, struct lev_error *err)
{
    return lev_predicate_init(
        p, field, value->value_type == BSON_TYPE_REGEX ? "$regex" : "$eq",
        value, NULL, err);
}

void
lev_predicate_deinit(struct lev_predicate *p)
{
    if (p->accept == accept_set) {
        for (size_t i = 0; i < p->set.n_regexes; i++) {
            lev_regex_destroy(p->set.regexes[i]);
        }
        free(p->set.regexes);
        free(p->set.values);
    }
    if (p->accept == accept_bits) {
        free(p->bits.position);
    }
    p->accept = NULL;
}
