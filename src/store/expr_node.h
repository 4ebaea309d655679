/* expr_node.h - the tree that an expression is compiled to, and the table of
 * operators.
 *
 * Internal to the expr units. An operator is a row of a table: how its
 * arguments are given, which become the kids of its node, and the function
 * that evaluates it. Operators with a syntax of their own have a function
 * that compiles them, too.
 */
#ifndef LEV_EXPR_NODE_H
#define LEV_EXPR_NODE_H

#include "expr.h"
#include "path.h"
#include "value.h"

struct lev_node;

typedef int (*lev_node_fn)(const struct lev_node *n, struct lev_eval *ev,
                           bson_value_t *out, struct lev_error *err);

struct lev_node {
    lev_node_fn eval;
    const struct lev_expr_op *op; /* NULL: literal, path, object, … */
    struct lev_node **args;       /* NULL where an argument is left out */
    size_t n;
    bson_value_t constant; /* a literal's; owned */
    struct lev_path path;  /* of a field, below args[0] or a variable */
    char **names;          /* of an object's n fields */
    size_t slot;           /* a variable's, or the first of its own */
};

/* A name in scope while compiling. */
struct lev_expr_var {
    const char *name;
    size_t slot;
    const struct lev_expr_var *outer;
};

struct lev_compile {
    const struct lev_expr_var *vars;
    size_t n_slots;   /* in use at this point */
    size_t max_slots; /* at any point */
    struct lev_error *err;
};

/* An argument by name. `missing`: the code when it is not given; 0: it may be
 * left out. */
struct lev_expr_param {
    const char *name;
    int missing;
};

#define LEV_EXPR_PARAMS 8

struct lev_expr_op {
    const char *name;
    lev_node_fn eval;
    /* Given as an array, or one alone as itself; `max` -1: any number. */
    int min, max;
    int arity; /* the code for other numbers; 0: 16020 */
    /* Given by name: ends with a NULL name; then `not_object` and `unknown`
     * are the codes for what is no object (0: then they are given as an
     * array), and for other names. */
    struct lev_expr_param params[LEV_EXPR_PARAMS];
    int not_object, unknown;
    /* Otherwise. -1 on failure; the node is freed by the caller. */
    int (*compile)(struct lev_compile *c, struct lev_node *n,
                   const bson_value_t *operand);
    const void *data; /* what `eval` wants to know */
};

/* Compiling. NULL or -1 with the error set. */
struct lev_node *lev_node_compile(struct lev_compile *c,
                                  const bson_value_t *v);
int lev_node_alloc_args(struct lev_compile *c, struct lev_node *n,
                        size_t n_args);
/* The arguments by name into n->args, as `op` says. */
int lev_node_compile_params(struct lev_compile *c, struct lev_node *n,
                            const bson_value_t *operand);
/* A literal of a given value, which is copied. */
struct lev_node *lev_node_literal(struct lev_compile *c,
                                  const bson_value_t *v);
/* QUERY when it is no name for a variable of the user's. */
int lev_node_check_var(const char *name, struct lev_error *err);
/* "$field.path" or "$$variable.path" */
struct lev_node *lev_node_reference(struct lev_compile *c,
                                    const bson_value_t *v);
struct lev_node *lev_node_new(struct lev_compile *c, lev_node_fn eval);
void lev_node_destroy(struct lev_node *n); /* NULL is fine */
static inline void
lev_node_destroyp(struct lev_node **n)
{
    lev_node_destroy(*n);
}
#define _cleanup_node_ _cleanup_(lev_node_destroyp)

/* Evaluating. */
int lev_node_eval(const struct lev_node *n, struct lev_eval *ev,
                  bson_value_t *out, struct lev_error *err);
/* Counts a value that is looked through from end to end. */
void lev_node_charge(struct lev_eval *ev, const bson_value_t *v);
/* An argument; missing when it was left out. */
int lev_node_arg(const struct lev_node *n, size_t i, struct lev_eval *ev,
                 bson_value_t *out, struct lev_error *err);
/* null, undefined or missing */
bool lev_node_nullish(const bson_value_t *v);

/* Results. */
bson_value_t lev_node_bool(bool b);
bson_value_t lev_node_int(int64_t i); /* int32 where it fits */
bson_value_t lev_node_date(int64_t ms);

/* NULL-terminated tables, one per file of operators. */
extern const struct lev_expr_op lev_expr_arith[], lev_expr_logic[],
    lev_expr_string[], lev_expr_text[], lev_expr_array[], lev_expr_each[],
    lev_expr_set[], lev_expr_convert[], lev_expr_date[], lev_expr_object[],
    lev_expr_accum[];

#endif
