#include "expr_node.h"

#include <string.h>

/* Comparisons; `n->op->data` says which outcomes count as true. */
struct outcomes {
    bool below, same, above;
};

static int
compare(const struct lev_node *n, struct lev_eval *ev, int *c,
        struct lev_error *err)
{
    bson_value_t a, b;

    if (lev_node_eval(n->args[0], ev, &a, err) < 0 ||
        lev_node_eval(n->args[1], ev, &b, err) < 0)
    {
        return -1;
    }
    if (a.value_type == b.value_type) {
        lev_node_charge(ev, &a);
    }
    *c = lev_value_compare(&a, &b);
    return 0;
}

static int
eval_compare(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    const struct outcomes *want = n->op->data;
    int c;

    if (compare(n, ev, &c, err) < 0) {
        return -1;
    }
    *out = lev_node_bool(c < 0    ? want->below
                         : c == 0 ? want->same
                                  : want->above);
    return 0;
}

static int
eval_cmp(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    int c;

    if (compare(n, ev, &c, err) < 0) {
        return -1;
    }
    *out = lev_node_int((c > 0) - (c < 0));
    return 0;
}

/* Truth. */

/* Whether an argument has the truth that `wanted` says, the first one
 * deciding. */
static int
any(const struct lev_node *n, bool wanted, struct lev_eval *ev,
    struct lev_error *err)
{
    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        if (lev_expr_truth(&v) == wanted) {
            return 1;
        }
    }
    return 0;
}

static int
eval_and(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    int rc = any(n, false, ev, err);

    *out = lev_node_bool(rc == 0);
    return rc < 0 ? -1 : 0;
}

static int
eval_or(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    int rc = any(n, true, ev, err);

    *out = lev_node_bool(rc > 0);
    return rc < 0 ? -1 : 0;
}

static int
eval_not(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    *out = lev_node_bool(!lev_expr_truth(out));
    return 0;
}

/* Choices. */

static int
eval_cond(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    return lev_node_eval(n->args[lev_expr_truth(out) ? 1 : 2], ev, out, err);
}

static int
eval_if_null(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    for (size_t i = 0; i < n->n; i++) {
        if (lev_node_eval(n->args[i], ev, out, err) < 0) {
            return -1;
        }
        if (!lev_node_nullish(out)) {
            return 0;
        }
    }
    return 0;
}

/* $switch: the cases and their values alternate, a default may be last. */

static int
eval_switch(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        if (lev_node_eval(n->args[i], ev, out, err) < 0) {
            return -1;
        }
        if (lev_expr_truth(out)) {
            return lev_node_eval(n->args[i + 1], ev, out, err);
        }
    }
    if (n->n % 2 == 0) {
        return lev_error_set(err, LEV_E_QUERY, 40066,
                             "expression: no branch of a $switch is true, and "
                             "it has no default");
    }
    return lev_node_eval(n->args[n->n - 1], ev, out, err);
}

static int
compile_branch(struct lev_compile *c, struct lev_node *n, size_t i,
               const bson_value_t *branch)
{
    bson_iter_t it;

    if (branch->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_iter(branch, &it)) {
        return lev_error_set(c->err, LEV_E_QUERY, 40062,
                             "expression: a branch of $switch is an object");
    }
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);
        size_t at = strcmp(key, "case") == 0 ? i : i + 1;

        if (strcmp(key, "case") != 0 && strcmp(key, "then") != 0) {
            return lev_error_set(c->err, LEV_E_QUERY, 40063,
                                 "expression: a branch of $switch knows no "
                                 "'%s'",
                                 key);
        }
        lev_node_destroy(n->args[at]);
        n->args[at] = lev_node_compile(c, &v);
        if (n->args[at] == NULL) {
            return -1;
        }
    }
    if (n->args[i] == NULL || n->args[i + 1] == NULL) {
        return lev_error_set(c->err, LEV_E_QUERY,
                             n->args[i] == NULL ? 40064 : 40065,
                             "expression: a branch of $switch needs 'case' "
                             "and 'then'");
    }
    return 0;
}

static int
compile_branches(struct lev_compile *c, struct lev_node *n,
                 const bson_value_t *branches, const bson_value_t *fallback)
{
    bson_t list;
    bson_iter_t it;
    size_t i = 0, n_branches;

    if (branches->value_type != BSON_TYPE_EOD &&
        branches->value_type != BSON_TYPE_ARRAY)
    {
        return lev_error_set(c->err, LEV_E_QUERY, 40061,
                             "expression: the branches of $switch are an "
                             "array, not %s",
                             lev_value_type_name(branches->value_type));
    }
    n_branches = lev_value_open(branches, &list) ? bson_count_keys(&list) : 0;
    if (n_branches == 0) {
        return lev_error_set(c->err, LEV_E_QUERY, 40068,
                             "expression: $switch needs one branch at least");
    }
    if (lev_node_alloc_args(c, n, 2 * n_branches + 1) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(branches, &it); ok && bson_iter_next(&it);
         i += 2)
    {
        bson_value_t v = lev_value_of(&it);

        if (compile_branch(c, n, i, &v) < 0) {
            return -1;
        }
    }
    if (fallback->value_type == BSON_TYPE_EOD) {
        n->n--;
        return 0;
    }
    n->args[i] = lev_node_compile(c, fallback);
    return n->args[i] == NULL ? -1 : 0;
}

static int
compile_switch(struct lev_compile *c, struct lev_node *n,
               const bson_value_t *operand)
{
    bson_value_t branches = lev_value_missing, fallback = lev_value_missing;
    bson_iter_t it;

    if (operand->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_iter(operand, &it)) {
        return lev_error_set(c->err, LEV_E_QUERY, 40060,
                             "expression: $switch needs an object, not %s",
                             lev_value_type_name(operand->value_type));
    }
    while (bson_iter_next(&it)) {
        if (strcmp(bson_iter_key(&it), "branches") == 0) {
            branches = lev_value_of(&it);
        }
        else if (strcmp(bson_iter_key(&it), "default") == 0) {
            fallback = lev_value_of(&it);
        }
        else {
            return lev_error_set(c->err, LEV_E_QUERY, 40067,
                                 "expression: $switch knows no '%s'",
                                 bson_iter_key(&it));
        }
    }
    return compile_branches(c, n, &branches, &fallback);
}

/* $literal */

static int
eval_argument(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    return lev_node_eval(n->args[0], ev, out, err);
}

static int
compile_literal(struct lev_compile *c, struct lev_node *n,
                const bson_value_t *operand)
{
    if (lev_node_alloc_args(c, n, 1) < 0) {
        return -1;
    }
    n->args[0] = lev_node_literal(c, operand);
    return n->args[0] == NULL ? -1 : 0;
}

static const struct outcomes eq = {false, true, false};
static const struct outcomes ne = {true, false, true};
static const struct outcomes gt = {false, false, true};
static const struct outcomes gte = {false, true, true};
static const struct outcomes lt = {true, false, false};
static const struct outcomes lte = {true, true, false};

const struct lev_expr_op lev_expr_logic[] = {
    {.name = "$eq", .eval = eval_compare, .min = 2, .max = 2, .data = &eq},
    {.name = "$ne", .eval = eval_compare, .min = 2, .max = 2, .data = &ne},
    {.name = "$gt", .eval = eval_compare, .min = 2, .max = 2, .data = &gt},
    {.name = "$gte", .eval = eval_compare, .min = 2, .max = 2, .data = &gte},
    {.name = "$lt", .eval = eval_compare, .min = 2, .max = 2, .data = &lt},
    {.name = "$lte", .eval = eval_compare, .min = 2, .max = 2, .data = &lte},
    {.name = "$cmp", .eval = eval_cmp, .min = 2, .max = 2},
    {.name = "$and", .eval = eval_and, .max = -1},
    {.name = "$or", .eval = eval_or, .max = -1},
    {.name = "$not", .eval = eval_not, .min = 1, .max = 1},
    {.name = "$cond",
     .eval = eval_cond,
     .min = 3,
     .max = 3,
     .params = {{"if", 17080}, {"then", 17081}, {"else", 17082}},
     .unknown = 17083},
    {.name = "$ifNull",
     .eval = eval_if_null,
     .min = 2,
     .max = -1,
     .arity = 1257300},
    {.name = "$switch", .eval = eval_switch, .compile = compile_switch},
    {.name = "$literal", .eval = eval_argument, .compile = compile_literal},
    {0},
};
