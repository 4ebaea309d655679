#include "expr_array.h"

#include <string.h>

#include "number.h"

/* Operators that evaluate an expression with variables of their own: $let,
 * $map, $filter, $reduce; and $zip, which goes through several arrays. */

/* The operand's fields by the operator's table of names. */
static int
take_fields(struct lev_compile *c, const struct lev_node *n,
            const bson_value_t *operand, bson_value_t *fields)
{
    const struct lev_expr_param *params = n->op->params;
    bson_iter_t it;
    size_t i;

    for (i = 0; params[i].name != NULL; i++) {
        fields[i] = lev_value_missing;
    }
    if (operand->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_iter(operand, &it)) {
        return lev_error_set(c->err, LEV_E_QUERY, n->op->not_object,
                             "expression: %s needs an object, not %s",
                             n->op->name,
                             lev_value_type_name(operand->value_type));
    }
    while (bson_iter_next(&it)) {
        for (i = 0; params[i].name != NULL &&
                    strcmp(params[i].name, bson_iter_key(&it)) != 0;
             i++)
        {
        }
        if (params[i].name == NULL) {
            return lev_error_set(c->err, LEV_E_QUERY, n->op->unknown,
                                 "expression: %s knows no '%s'", n->op->name,
                                 bson_iter_key(&it));
        }
        fields[i] = lev_value_of(&it);
    }
    for (i = 0; params[i].name != NULL; i++) {
        if (fields[i].value_type == BSON_TYPE_EOD && params[i].missing != 0) {
            return lev_error_set(c->err, LEV_E_QUERY, params[i].missing,
                                 "expression: %s needs '%s'", n->op->name,
                                 params[i].name);
        }
    }
    return 0;
}

static int
compile_arg(struct lev_compile *c, struct lev_node *n, size_t i,
            const bson_value_t *v)
{
    if (v->value_type == BSON_TYPE_EOD) {
        return 0;
    }
    n->args[i] = lev_node_compile(c, v);
    return n->args[i] == NULL ? -1 : 0;
}

/* Slots for the node's own variables; given back by taking `n_slots` down. */
static void
reserve(struct lev_compile *c, struct lev_node *n, size_t n_slots)
{
    n->slot = c->n_slots;
    c->n_slots += n_slots;
    if (c->n_slots > c->max_slots) {
        c->max_slots = c->n_slots;
    }
}

/* With `n_vars` names in scope. */
static int
compile_inside(struct lev_compile *c, struct lev_node *n, size_t i,
               const bson_value_t *v, const char *const *names, size_t n_vars)
{
    const struct lev_expr_var *outer = c->vars;
    struct lev_expr_var *vars = calloc(n_vars + 1, sizeof(*vars));
    int rc;

    if (vars == NULL) {
        return lev_error_nomem(c->err, "expression");
    }
    for (size_t k = 0; k < n_vars; k++) {
        vars[k] = (struct lev_expr_var){names[k], n->slot + k, c->vars};
        c->vars = &vars[k];
    }
    rc = compile_arg(c, n, i, v);
    c->vars = outer;
    free(vars);
    return rc;
}

/* The name under `as`, or "this". */
static int
name_of(struct lev_compile *c, const bson_value_t *as, const char **name)
{
    *name = "this";
    if (as->value_type == BSON_TYPE_EOD) {
        return 0;
    }
    if (as->value_type != BSON_TYPE_UTF8) {
        return lev_error_set(c->err, LEV_E_QUERY, 9,
                             "expression: 'as' is a name, not %s",
                             lev_value_type_name(as->value_type));
    }
    *name = as->value.v_utf8.str;
    return lev_node_check_var(*name, c->err);
}

/* $let */

static int
compile_vars(struct lev_compile *c, struct lev_node *n,
             const bson_value_t *vars, const char **names)
{
    bson_iter_t it;
    size_t i = 0;

    for (bool ok = lev_value_iter(vars, &it); ok && bson_iter_next(&it); i++) {
        bson_value_t v = lev_value_of(&it);

        names[i] = bson_iter_key(&it);
        if (lev_node_check_var(names[i], c->err) < 0 ||
            compile_arg(c, n, i, &v) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
compile_let(struct lev_compile *c, struct lev_node *n,
            const bson_value_t *operand)
{
    bson_value_t fields[LEV_EXPR_PARAMS];
    size_t n_vars, before = c->n_slots;
    const char **names;
    int rc;

    if (take_fields(c, n, operand, fields) < 0) {
        return -1;
    }
    if (fields[0].value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(c->err, LEV_E_QUERY, 10065,
                             "expression: 'vars' of $let is an object, not %s",
                             lev_value_type_name(fields[0].value_type));
    }
    n_vars = lev_array_count(&fields[0]);
    names = calloc(n_vars + 1, sizeof(*names));
    if (names == NULL || lev_node_alloc_args(c, n, n_vars + 1) < 0) {
        free(names);
        return lev_error_nomem(c->err, "expression");
    }
    reserve(c, n, n_vars);
    rc = compile_vars(c, n, &fields[0], names);
    if (rc == 0) {
        rc = compile_inside(c, n, n_vars, &fields[1], names, n_vars);
    }
    c->n_slots = before;
    free(names);
    return rc;
}

static int
eval_let(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    for (size_t i = 0; i + 1 < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        ev->slots[n->slot + i] = v;
    }
    return lev_node_eval(n->args[n->n - 1], ev, out, err);
}

/* $map: {input, as, in}; $filter: {input, as, cond, limit}. */

static int
compile_each(struct lev_compile *c, struct lev_node *n,
             const bson_value_t *operand)
{
    bson_value_t fields[LEV_EXPR_PARAMS];
    size_t before = c->n_slots;
    const char *name;
    int rc;

    fields[3] = lev_value_missing;
    if (take_fields(c, n, operand, fields) < 0 ||
        lev_node_alloc_args(c, n, 3) < 0 || name_of(c, &fields[1], &name) < 0)
    {
        return -1;
    }
    reserve(c, n, 1);
    rc = compile_arg(c, n, 0, &fields[0]);
    if (rc == 0) {
        rc = compile_arg(c, n, 2, &fields[3]);
    }
    if (rc == 0) {
        rc = compile_inside(c, n, 1, &fields[2], &name, 1);
    }
    c->n_slots = before;
    return rc;
}

static int
eval_map(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    bson_value_t array;
    bson_iter_t it;
    int rc = lev_array_arg(n, 0, 16883, ev, &array, err);

    lev_build_init(&b);
    *out = lev_value_null;
    if (rc <= 0) {
        return rc;
    }
    for (bool ok = lev_value_iter(&array, &it); ok && bson_iter_next(&it);) {
        struct lev_arena_mark mark = lev_arena_mark(&ev->arena);
        bson_value_t v;

        ev->slots[n->slot] = lev_value_of(&it);
        if (lev_node_eval(n->args[1], ev, &v, err) < 0 ||
            lev_build_add(&b, &v, err) < 0)
        {
            return -1;
        }
        lev_arena_release(&ev->arena, mark);
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static int
eval_limit(const struct lev_node *n, struct lev_eval *ev, int64_t *limit,
           struct lev_error *err)
{
    bson_value_t v;

    *limit = INT64_MAX;
    if (lev_node_arg(n, 2, ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, limit) ||
        *limit > INT32_MAX) {
        return lev_error_set(err, LEV_E_QUERY, 327391,
                             "expression: the limit of $filter is a whole "
                             "number of 32 bits");
    }
    return *limit > 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 327392,
                               "expression: the limit of $filter is above 0");
}

static int
eval_filter(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    bson_value_t array;
    int64_t limit;
    bson_iter_t it;
    int rc = lev_array_arg(n, 0, 28651, ev, &array, err);

    lev_build_init(&b);
    *out = lev_value_null;
    if (rc <= 0 || eval_limit(n, ev, &limit, err) < 0) {
        return rc <= 0 ? rc : -1;
    }
    for (bool ok = lev_value_iter(&array, &it);
         ok && (int64_t)b.n < limit && bson_iter_next(&it);)
    {
        struct lev_arena_mark mark = lev_arena_mark(&ev->arena);
        bson_value_t v = lev_value_of(&it), passes;

        ev->slots[n->slot] = v;
        if (lev_node_eval(n->args[1], ev, &passes, err) < 0 ||
            (lev_expr_truth(&passes) && lev_build_add(&b, &v, err) < 0))
        {
            return -1;
        }
        lev_arena_release(&ev->arena, mark);
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

/* $reduce: {input, initialValue, in} with $$this and $$value. */

static int
compile_reduce(struct lev_compile *c, struct lev_node *n,
               const bson_value_t *operand)
{
    static const char *const names[] = {"this", "value"};
    bson_value_t fields[LEV_EXPR_PARAMS];
    size_t before = c->n_slots;
    int rc;

    if (take_fields(c, n, operand, fields) < 0 ||
        lev_node_alloc_args(c, n, 3) < 0) {
        return -1;
    }
    reserve(c, n, 2);
    rc = compile_arg(c, n, 0, &fields[0]);
    if (rc == 0) {
        rc = compile_arg(c, n, 1, &fields[1]);
    }
    if (rc == 0) {
        rc = compile_inside(c, n, 2, &fields[2], names, 2);
    }
    c->n_slots = before;
    return rc;
}

/* Round after round a value may be put into another. */
static int
check_depth(const bson_value_t *v, struct lev_error *err)
{
    bson_t doc;

    return lev_value_open(v, &doc) ? lev_value_check(&doc, err) : 0;
}

static int
eval_reduce(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    struct lev_arena_mark mark;
    bson_value_t array;
    bson_iter_t it;
    int rc = lev_array_arg(n, 0, 40080, ev, &array, err);

    if (rc <= 0) {
        *out = lev_value_null;
        return rc;
    }
    if (lev_node_eval(n->args[1], ev, out, err) < 0) {
        return -1;
    }
    mark = lev_arena_mark(&ev->arena);
    for (bool ok = lev_value_iter(&array, &it); ok && bson_iter_next(&it);) {
        ev->slots[n->slot] = lev_value_of(&it);
        ev->slots[n->slot + 1] = *out;
        /* The value of the round before is not needed any more. */
        if (lev_node_eval(n->args[2], ev, out, err) < 0 ||
            check_depth(out, err) < 0 ||
            lev_arena_keep(&ev->arena, mark, out, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* $zip: {inputs, useLongestLength, defaults}; the arguments are the inputs,
 * then the defaults. n->slot: the number of inputs. */

static int
compile_list(struct lev_compile *c, struct lev_node *n, size_t at,
             const bson_value_t *list)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(list, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (compile_arg(c, n, at++, &v) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
bad_zip(struct lev_error *err, int code, const char *what)
{
    return lev_error_set(err, LEV_E_QUERY, code, "expression: $zip: %s", what);
}

static int
check_zip(struct lev_compile *c, const bson_value_t *f)
{
    bool longest = f[1].value_type == BSON_TYPE_BOOL && f[1].value.v_bool;

    if (f[0].value_type != BSON_TYPE_ARRAY) {
        return bad_zip(c->err, 34461, "'inputs' is an array of arrays");
    }
    if (f[1].value_type != BSON_TYPE_EOD && f[1].value_type != BSON_TYPE_BOOL)
    {
        return bad_zip(c->err, 34463, "'useLongestLength' is true or false");
    }
    if (f[2].value_type != BSON_TYPE_EOD && f[2].value_type != BSON_TYPE_ARRAY)
    {
        return bad_zip(c->err, 34462, "'defaults' is an array");
    }
    if (lev_array_count(&f[0]) == 0) {
        return bad_zip(c->err, 34465, "'inputs' is not empty");
    }
    if (f[2].value_type == BSON_TYPE_ARRAY && !longest) {
        return bad_zip(c->err, 34466,
                       "'defaults' go with useLongestLength: true");
    }
    if (f[2].value_type == BSON_TYPE_ARRAY &&
        lev_array_count(&f[2]) != lev_array_count(&f[0]))
    {
        return bad_zip(c->err, 34467, "one default for each input is needed");
    }
    return 0;
}

static int eval_zip_longest(const struct lev_node *n, struct lev_eval *ev,
                            bson_value_t *out, struct lev_error *err);

static int
compile_zip(struct lev_compile *c, struct lev_node *n,
            const bson_value_t *operand)
{
    bson_value_t f[LEV_EXPR_PARAMS];

    if (take_fields(c, n, operand, f) < 0 || check_zip(c, f) < 0) {
        return -1;
    }
    n->slot = lev_array_count(&f[0]);
    if (f[1].value_type == BSON_TYPE_BOOL && f[1].value.v_bool) {
        n->eval = eval_zip_longest;
    }
    return lev_node_alloc_args(c, n, n->slot + lev_array_count(&f[2])) < 0 ||
                   compile_list(c, n, 0, &f[0]) < 0 ||
                   compile_list(c, n, n->slot, &f[2]) < 0
               ? -1
               : 0;
}

/* The next of each input, or its default; false when there is no further row.
 */
static bool
next_row(bson_iter_t *its, bool *ended, const bson_value_t *defaults, size_t n,
         bool longest, bson_value_t *row)
{
    bool some = false, all = true;

    for (size_t i = 0; i < n; i++) {
        ended[i] = ended[i] || !bson_iter_next(&its[i]);
        row[i] = ended[i] ? defaults[i] : lev_value_of(&its[i]);
        some |= !ended[i];
        all &= !ended[i];
    }
    return longest ? some : all;
}

struct zip {
    size_t n;
    bson_iter_t *its;
    bool *ended;
    bson_value_t *defaults, *row;
};

static int
zip_alloc(struct zip *z, size_t n, struct lev_eval *ev, struct lev_error *err)
{
    z->n = n;
    z->its = lev_arena_alloc(&ev->arena, n * sizeof(*z->its), err);
    z->ended = lev_arena_alloc(&ev->arena, n * sizeof(*z->ended), err);
    z->defaults = lev_arena_alloc(&ev->arena, n * sizeof(*z->defaults), err);
    z->row = lev_arena_alloc(&ev->arena, n * sizeof(*z->row), err);
    return z->its == NULL || z->ended == NULL || z->defaults == NULL ||
                   z->row == NULL
               ? -1
               : 0;
}

/* 0 when one of the inputs is null. */
static int
zip_start(struct zip *z, const struct lev_node *n, struct lev_eval *ev,
          struct lev_error *err)
{
    bool null = false;

    for (size_t i = 0; i < z->n; i++) {
        bson_value_t array;
        int rc = lev_array_arg(n, i, 34468, ev, &array, err);

        if (rc < 0) {
            return -1;
        }
        z->ended[i] = rc == 0 || !lev_value_iter(&array, &z->its[i]);
        null |= rc == 0;
        z->defaults[i] = lev_value_null;
        if (z->n + i < n->n &&
            lev_node_eval(n->args[z->n + i], ev, &z->defaults[i], err) < 0)
        {
            return -1;
        }
    }
    return !null;
}

static int
zip_add_row(const struct zip *z, struct lev_build *b, struct lev_error *err)
{
    _cleanup_build_ struct lev_build row;
    bson_value_t v;

    lev_build_init(&row);
    for (size_t i = 0; i < z->n; i++) {
        if (lev_build_add(&row, &z->row[i], err) < 0) {
            return -1;
        }
    }
    v = lev_value_doc(&row.doc);
    v.value_type = BSON_TYPE_ARRAY;
    return lev_build_add(b, &v, err);
}

static int
zip(const struct lev_node *n, bool longest, struct lev_eval *ev,
    bson_value_t *out, struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    struct zip z;
    int rc;

    lev_build_init(&b);
    *out = lev_value_null;
    if (zip_alloc(&z, n->slot, ev, err) < 0) {
        return -1;
    }
    rc = zip_start(&z, n, ev, err);
    if (rc <= 0) {
        return rc;
    }
    while (next_row(z.its, z.ended, z.defaults, z.n, longest, z.row)) {
        if (zip_add_row(&z, &b, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static int
eval_zip(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    return zip(n, false, ev, out, err);
}

static int
eval_zip_longest(const struct lev_node *n, struct lev_eval *ev,
                 bson_value_t *out, struct lev_error *err)
{
    return zip(n, true, ev, out, err);
}

const struct lev_expr_op lev_expr_each[] = {
    {.name = "$let",
     .eval = eval_let,
     .compile = compile_let,
     .params = {{"vars", 16876}, {"in", 16877}},
     .not_object = 16874,
     .unknown = 16875},
    {.name = "$map",
     .eval = eval_map,
     .compile = compile_each,
     .params = {{"input", 16880}, {"as", 0}, {"in", 16882}},
     .not_object = 16878,
     .unknown = 16879},
    {.name = "$filter",
     .eval = eval_filter,
     .compile = compile_each,
     .params = {{"input", 28648}, {"as", 0}, {"cond", 28650}, {"limit", 0}},
     .not_object = 28646,
     .unknown = 28647},
    {.name = "$reduce",
     .eval = eval_reduce,
     .compile = compile_reduce,
     .params = {{"input", 40077}, {"initialValue", 40078}, {"in", 40079}},
     .not_object = 40075,
     .unknown = 40076},
    {.name = "$zip",
     .eval = eval_zip,
     .compile = compile_zip,
     .params = {{"inputs", 34465}, {"useLongestLength", 0}, {"defaults", 0}},
     .not_object = 34460,
     .unknown = 34464},
    {0},
};
