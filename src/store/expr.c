#include "expr_node.h"

#include <string.h>

#include "arith.h"
#include "number.h"
#include "zone.h"

struct lev_expr {
    struct lev_node *root;
    size_t n_slots;
};

/* Memory of the eval. */

void
lev_eval_init(struct lev_eval *ev, const struct lev_scope *scope)
{
    *ev = (struct lev_eval){.scope = scope};
}

void
lev_eval_deinit(struct lev_eval *ev)
{
    lev_arena_deinit(&ev->arena);
    lev_zone_close(ev->zone);
    free(ev->reading.it);
    free(ev->slots);
}

void
lev_eval_start(struct lev_eval *ev, const bson_t *doc)
{
    lev_arena_clear(&ev->arena);
    ev->doc = doc;
    ev->steps = ev->bytes = ev->look = 0;
    ev->reading.data = NULL;
    ev->handed = ev->arena.handed;
}

/* Nodes. */

void
lev_node_destroy(struct lev_node *n)
{
    if (n == NULL) {
        return;
    }
    for (size_t i = 0; i < n->n; i++) {
        lev_node_destroy(n->args[i]);
        if (n->names != NULL) {
            free(n->names[i]);
        }
    }
    free(n->args);
    free(n->names);
    lev_path_deinit(&n->path);
    bson_value_destroy(&n->constant);
    free(n);
}

struct lev_node *
lev_node_new(struct lev_compile *c, lev_node_fn eval)
{
    struct lev_node *n = calloc(1, sizeof(*n));

    if (n == NULL) {
        lev_error_nomem(c->err, "expression");
        return NULL;
    }
    n->eval = eval;
    return n;
}

int
lev_node_alloc_args(struct lev_compile *c, struct lev_node *n, size_t n_args)
{
    n->args = calloc(n_args + 1, sizeof(struct lev_node *));
    if (n->args == NULL) {
        return lev_error_nomem(c->err, "expression");
    }
    n->n = n_args;
    return 0;
}

void
lev_node_charge(struct lev_eval *ev, const bson_value_t *v)
{
    switch (v->value_type) {
    case BSON_TYPE_UTF8:
        ev->bytes += v->value.v_utf8.len;
        break;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        ev->bytes += v->value.v_doc.data_len;
        break;
    default:
        break;
    }
}

/* Whether there is time and patience left. */
static int
look_up(struct lev_eval *ev, uint64_t work, struct lev_error *err)
{
    uint64_t most = ev->scope == NULL ? LEV_EVAL_STEPS : LEV_EVAL_STEPS_SCOPED;

    ev->look = work + 4096;
    if (ev->scope != NULL && lev_scope_check(ev->scope, err) < 0) {
        return -1;
    }
    return work < most ? 0
                       : lev_error_set(err, LEV_E_QUERY, 50,
                                       "an expression takes more than %llu "
                                       "steps for one document",
                                       (unsigned long long)most);
}

int
lev_node_eval(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    uint64_t work =
        ++ev->steps + (ev->bytes + ev->arena.handed - ev->handed) / 16;

    if (work >= ev->look && look_up(ev, work, err) < 0) {
        return -1;
    }
    return n->eval(n, ev, out, err);
}

int
lev_node_arg(const struct lev_node *n, size_t i, struct lev_eval *ev,
             bson_value_t *out, struct lev_error *err)
{
    if (i >= n->n || n->args[i] == NULL) {
        *out = lev_value_missing;
        return 0;
    }
    return lev_node_eval(n->args[i], ev, out, err);
}

bool
lev_node_nullish(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_EOD || v->value_type == BSON_TYPE_NULL ||
           v->value_type == BSON_TYPE_UNDEFINED;
}

bson_value_t
lev_node_bool(bool b)
{
    bson_value_t v = {.value_type = BSON_TYPE_BOOL};

    v.value.v_bool = b;
    return v;
}

bson_value_t
lev_node_int(int64_t i)
{
    return lev_arith_of_int(i, true);
}

bson_value_t
lev_node_date(int64_t ms)
{
    bson_value_t v = {.value_type = BSON_TYPE_DATE_TIME};

    v.value.v_datetime = ms;
    return v;
}

/* Literals. */

static int
eval_literal(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    *out = n->constant;
    return 0;
}

struct lev_node *
lev_node_literal(struct lev_compile *c, const bson_value_t *v)
{
    struct lev_node *n = lev_node_new(c, eval_literal);

    if (n != NULL && v->value_type != BSON_TYPE_EOD) {
        bson_value_copy(v, &n->constant);
    }
    return n;
}

/* Arrays and objects. */

static int
eval_array(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;

    lev_build_init(&b);
    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0 ||
            lev_build_add(&b, &v, err) < 0)
        {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static size_t
count(const bson_value_t *v)
{
    bson_t doc;

    return lev_value_open(v, &doc) ? bson_count_keys(&doc) : 0;
}

/* Each element of an array as an argument of `n`. */
static int
compile_elements(struct lev_compile *c, struct lev_node *n,
                 const bson_value_t *array)
{
    bson_iter_t it;
    size_t i = 0;

    if (lev_node_alloc_args(c, n, count(array)) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it); i++)
    {
        bson_value_t v = lev_value_of(&it);

        n->args[i] = lev_node_compile(c, &v);
        if (n->args[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static struct lev_node *
compile_array(struct lev_compile *c, const bson_value_t *v)
{
    _cleanup_node_ struct lev_node *n = lev_node_new(c, eval_array);

    return n == NULL || compile_elements(c, n, v) < 0 ? NULL : lev_steal(n);
}

static int
eval_object(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;

    lev_build_init(&b);
    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0 ||
            lev_build_set(&b, n->names[i], &v, err) < 0)
        {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_DOCUMENT, out, err);
}

static int
check_field(const struct lev_node *n, size_t so_far, const char *name,
            struct lev_error *err)
{
    if (name[0] == '$') {
        return lev_error_set(err, LEV_E_QUERY, 16410,
                             "expression: '%s' stands among fields", name);
    }
    for (size_t i = 0; i < so_far; i++) {
        if (strcmp(n->names[i], name) == 0) {
            return lev_error_set(err, LEV_E_QUERY, 16406,
                                 "expression: the field '%s' is there twice",
                                 name);
        }
    }
    return 0;
}

static struct lev_node *
compile_object(struct lev_compile *c, const bson_value_t *v)
{
    _cleanup_node_ struct lev_node *n = lev_node_new(c, eval_object);
    bson_iter_t it;
    size_t i = 0;

    if (n == NULL || lev_node_alloc_args(c, n, count(v)) < 0) {
        return NULL;
    }
    n->names = calloc(n->n + 1, sizeof(char *));
    if (n->names == NULL) {
        lev_error_nomem(c->err, "expression");
        return NULL;
    }
    for (bool ok = lev_value_iter(v, &it); ok && bson_iter_next(&it); i++) {
        bson_value_t each = lev_value_of(&it);

        if (check_field(n, i, bson_iter_key(&it), c->err) < 0) {
            return NULL;
        }
        n->names[i] = strdup(bson_iter_key(&it));
        if (n->names[i] == NULL) {
            lev_error_nomem(c->err, "expression");
            return NULL;
        }
        n->args[i] = lev_node_compile(c, &each);
        if (n->args[i] == NULL) {
            return NULL;
        }
    }
    return lev_steal(n);
}

/* Operators. */

static const struct lev_expr_op *
find_op(const char *name)
{
    static const struct lev_expr_op *const tables[] = {
        lev_expr_arith, lev_expr_logic,  lev_expr_string, lev_expr_text,
        lev_expr_array, lev_expr_each,   lev_expr_set,    lev_expr_convert,
        lev_expr_date,  lev_expr_object, lev_expr_accum,
    };

    for (size_t t = 0; t < LEV_ARRAY_LEN(tables); t++) {
        for (const struct lev_expr_op *op = tables[t]; op->name != NULL; op++)
        {
            if (strcmp(op->name, name) == 0) {
                return op;
            }
        }
    }
    return NULL;
}

static int
unknown_operator(const char *name, struct lev_error *err)
{
    static const char *const later[] = {
        "$accumulator",
        "$acos",
        "$acosh",
        "$asin",
        "$asinh",
        "$atan",
        "$atan2",
        "$atanh",
        "$binarySize",
        "$bitAnd",
        "$bitNot",
        "$bitOr",
        "$bitXor",
        "$bsonSize",
        "$cos",
        "$cosh",
        "$dateAdd",
        "$dateDiff",
        "$dateFromParts",
        "$dateFromString",
        "$dateSubtract",
        "$dateToParts",
        "$degreesToRadians",
        "$firstN",
        "$function",
        "$lastN",
        "$maxN",
        "$meta",
        "$minN",
        "$radiansToDegrees",
        "$rand",
        "$regexFind",
        "$regexFindAll",
        "$regexMatch",
        "$sampleRate",
        "$setField",
        "$sin",
        "$sinh",
        "$sortArray",
        "$tan",
        "$tanh",
        "$toUUID",
        "$toHashedIndexKey",
        "$tsIncrement",
        "$tsSecond",
        "$unsetField",
        "$median",
        "$percentile",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(later); i++) {
        if (strcmp(name, later[i]) == 0) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "the embedded store has no %s in "
                                 "expressions; compute it in Python",
                                 name);
        }
    }
    return lev_error_set(err, LEV_E_QUERY, 168,
                         "expression: unknown operator '%s'", name);
}

static int
compile_positional(struct lev_compile *c, struct lev_node *n,
                   const bson_value_t *operand)
{
    const struct lev_expr_op *op = n->op;
    int code = op->arity != 0 ? op->arity : 16020;
    int given;

    if (operand->value_type == BSON_TYPE_ARRAY) {
        if (compile_elements(c, n, operand) < 0) {
            return -1;
        }
    }
    else if (lev_node_alloc_args(c, n, 1) < 0 ||
             (n->args[0] = lev_node_compile(c, operand)) == NULL)
    {
        return -1;
    }
    given = (int)n->n;
    return given >= op->min && (op->max < 0 || given <= op->max)
               ? 0
               : lev_error_set(c->err, LEV_E_QUERY, code,
                               "expression: %s takes %d to %d arguments, not "
                               "%d",
                               op->name, op->min, op->max, given);
}

static int
find_param(const struct lev_expr_op *op, const char *name)
{
    for (int i = 0; op->params[i].name != NULL; i++) {
        if (strcmp(op->params[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static size_t
count_params(const struct lev_expr_op *op)
{
    size_t n = 0;

    while (op->params[n].name != NULL) {
        n++;
    }
    return n;
}

static int
check_params(struct lev_compile *c, const struct lev_node *n)
{
    for (size_t i = 0; i < n->n; i++) {
        if (n->args[i] == NULL && n->op->params[i].missing != 0) {
            return lev_error_set(c->err, LEV_E_QUERY, n->op->params[i].missing,
                                 "expression: %s needs '%s'", n->op->name,
                                 n->op->params[i].name);
        }
    }
    return 0;
}

int
lev_node_compile_params(struct lev_compile *c, struct lev_node *n,
                        const bson_value_t *operand)
{
    bson_iter_t it;

    if (lev_node_alloc_args(c, n, count_params(n->op)) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(operand, &it); ok && bson_iter_next(&it);) {
        int i = find_param(n->op, bson_iter_key(&it));
        bson_value_t v = lev_value_of(&it);

        if (i < 0) {
            return lev_error_set(c->err, LEV_E_QUERY, n->op->unknown,
                                 "expression: %s knows no '%s'", n->op->name,
                                 bson_iter_key(&it));
        }
        lev_node_destroy(n->args[i]);
        n->args[i] = lev_node_compile(c, &v);
        if (n->args[i] == NULL) {
            return -1;
        }
    }
    return check_params(c, n);
}

/* Whether the arguments are given by name: an object that is no expression. */
static bool
is_named(const struct lev_expr_op *op, const bson_value_t *operand)
{
    bson_iter_t it;

    return op->params[0].name != NULL &&
           operand->value_type == BSON_TYPE_DOCUMENT &&
           (op->not_object != 0 ||
            (lev_value_iter(operand, &it) &&
             (!bson_iter_next(&it) || bson_iter_key(&it)[0] != '$')));
}

static struct lev_node *
compile_operator(struct lev_compile *c, const char *name,
                 const bson_value_t *operand)
{
    const struct lev_expr_op *op = find_op(name);
    _cleanup_node_ struct lev_node *n = NULL;
    int rc;

    if (op == NULL) {
        unknown_operator(name, c->err);
        return NULL;
    }
    n = lev_node_new(c, op->eval);
    if (n == NULL) {
        return NULL;
    }
    n->op = op;
    if (op->compile != NULL) {
        rc = op->compile(c, n, operand);
    }
    else if (is_named(op, operand)) {
        rc = lev_node_compile_params(c, n, operand);
    }
    else if (op->not_object != 0) {
        rc = lev_error_set(c->err, LEV_E_QUERY, op->not_object,
                           "expression: %s needs an object, not %s", name,
                           lev_value_type_name(operand->value_type));
    }
    else {
        rc = compile_positional(c, n, operand);
    }
    return rc < 0 ? NULL : lev_steal(n);
}

struct lev_node *
lev_node_compile(struct lev_compile *c, const bson_value_t *v)
{
    bson_iter_t it;
    bson_t doc;

    if (v->value_type == BSON_TYPE_UTF8 && v->value.v_utf8.str[0] == '$') {
        return lev_node_reference(c, v);
    }
    if (v->value_type == BSON_TYPE_ARRAY) {
        return compile_array(c, v);
    }
    if (v->value_type != BSON_TYPE_DOCUMENT || !lev_value_iter(v, &it) ||
        !lev_value_open(v, &doc))
    {
        return lev_node_literal(c, v);
    }
    if (!bson_iter_next(&it) || bson_iter_key(&it)[0] != '$') {
        return compile_object(c, v);
    }
    if (bson_count_keys(&doc) != 1) {
        lev_error_set(c->err, LEV_E_QUERY, 15983,
                      "expression: %s stands beside other fields",
                      bson_iter_key(&it));
        return NULL;
    }
    {
        bson_value_t operand = lev_value_of(&it);

        return compile_operator(c, bson_iter_key(&it), &operand);
    }
}

/* The outside. */

struct lev_expr *
lev_expr_compile(const bson_value_t *source, struct lev_error *err)
{
    _cleanup_expr_ struct lev_expr *e = calloc(1, sizeof(*e));
    struct lev_compile c = {.err = err};

    if (e == NULL) {
        lev_error_nomem(err, "expression");
        return NULL;
    }
    e->root = lev_node_compile(&c, source);
    e->n_slots = c.max_slots;
    return e->root == NULL ? NULL : lev_steal(e);
}

void
lev_expr_destroy(struct lev_expr *e)
{
    if (e != NULL) {
        lev_node_destroy(e->root);
        free(e);
    }
}

int
lev_expr_eval(const struct lev_expr *e, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    if (e->n_slots > ev->n_slots) {
        bson_value_t *slots =
            realloc(ev->slots, e->n_slots * sizeof(*ev->slots));

        if (slots == NULL) {
            return lev_error_nomem(err, "expression");
        }
        ev->slots = slots;
        ev->n_slots = e->n_slots;
    }
    return lev_node_eval(e->root, ev, out, err);
}

bool
lev_expr_truth(const bson_value_t *v)
{
    if (v->value_type == BSON_TYPE_BOOL) {
        return v->value.v_bool;
    }
    return !lev_node_nullish(v) && (!lev_number_is(v) || lev_number_truth(v));
}
