#include "match.h"

#include <string.h>

#include "expr.h"
#include "number.h"
#include "path.h"
#include "predicate.h"
#include "value.h"

/* A query is a tree. Its leaves try a predicate on the values that a path
 * leads to; one value that passes is enough. Below an $elemMatch over values
 * the leaves have no path and try the element itself. $ne, $nin, $not and
 * {$exists: false} are a NOR over what they deny, as "no value passes" is
 * something else than "some value does not pass". */
enum kind {
    AND, /* empty: always true */
    OR,  /* empty: never true */
    NOR,
    LEAF,
    ELEMENT, /* some element of an array fulfils the kid */
    EXPR,    /* an expression over the whole document is true */
};

struct node {
    enum kind kind;
    struct node *kids, *last, *sibling;
    bool on_values;          /* ELEMENT: the kid tries values */
    bool has_path;           /* LEAF, ELEMENT */
    struct lev_path path;    /* where has_path */
    struct lev_predicate is; /* LEAF */
    struct lev_expr *expr;   /* EXPR */
};

struct lev_match {
    bson_t *source; /* the operands point into it */
    struct node *root;
};

/* What a tree is tried on: a document or, below $elemMatch, a value. */
struct target {
    const bson_t *doc;
    const bson_value_t *value;
    struct lev_eval *ev;
};

static void
node_destroy(struct node *n)
{
    struct node *next;

    if (n == NULL) {
        return;
    }
    for (struct node *kid = n->kids; kid != NULL; kid = next) {
        next = kid->sibling;
        node_destroy(kid);
    }
    lev_path_deinit(&n->path);
    lev_predicate_deinit(&n->is);
    lev_expr_destroy(n->expr);
    free(n);
}

/* A new last kid of `parent`, which owns it. */
static struct node *
node_add(struct node *parent, enum kind kind, struct lev_error *err)
{
    struct node *n = calloc(1, sizeof(*n));

    if (n == NULL) {
        lev_error_nomem(err, "query");
        return NULL;
    }
    n->kind = kind;
    *(parent->last == NULL ? &parent->kids : &parent->last->sibling) = n;
    parent->last = n;
    return n;
}

/* `field` is NULL below an $elemMatch over values. */
static struct node *
node_add_path(struct node *parent, enum kind kind, const char *field,
              struct lev_error *err)
{
    struct node *n = node_add(parent, kind, err);

    if (n != NULL && field != NULL) {
        if (lev_path_parse(field, &n->path, err) < 0) {
            return NULL;
        }
        n->has_path = true;
    }
    return n;
}

/* Compiling. */

static int compile_query(struct node *parent, const bson_value_t *query,
                         struct lev_error *err);
static int compile_operators(struct node *parent, const char *field,
                             const bson_value_t *ops, struct lev_error *err);

static const char *
shown(const char *field)
{
    return field == NULL ? "$elemMatch" : field;
}

static int
unknown_operator(const char *op, struct lev_error *err)
{
    static const char *const later[] = {
        "$where",         "$text",        "$jsonSchema",  "$geoWithin",
        "$geoIntersects", "$near",        "$nearSphere",  "$within",
        "$geoNever",      "$sampleRate",  "$alwaysTrue",  "$alwaysFalse",
        "$uniqueDocs",    "$maxDistance", "$minDistance",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(later); i++) {
        if (strcmp(op, later[i]) == 0) {
            return lev_error_set(
                err, LEV_E_UNSUPPORTED_OPERATION, 0,
                "the embedded store has no %s in queries; test what the rest "
                "of the query finds in Python",
                op);
        }
    }
    return lev_error_set(err, LEV_E_QUERY, 2, "unknown query operator '%s'",
                         op);
}

static int
compile_leaf(struct node *parent, const char *field, const char *op,
             const bson_value_t *operand, const char *options,
             struct lev_error *err)
{
    struct node *n = node_add_path(parent, LEAF, field, err);

    if (n == NULL) {
        return -1;
    }
    return lev_predicate_init(&n->is, shown(field), op, operand, options, err);
}

static int
compile_implicit(struct node *parent, const char *field,
                 const bson_value_t *value, struct lev_error *err)
{
    struct node *n = node_add_path(parent, LEAF, field, err);

    if (n == NULL) {
        return -1;
    }
    return lev_predicate_implicit(&n->is, shown(field), value, err);
}

/* $and, $or, $nor: an array of queries. */
static int
compile_list(struct node *parent, const char *op, const bson_value_t *list,
             struct lev_error *err)
{
    enum kind kind = strcmp(op, "$and") == 0  ? AND
                     : strcmp(op, "$or") == 0 ? OR
                                              : NOR;
    struct node *n = node_add(parent, kind, err);
    bson_iter_t it;

    if (n == NULL) {
        return -1;
    }
    if (list->value_type != BSON_TYPE_ARRAY || !lev_value_iter(list, &it)) {
        return lev_error_set(err, LEV_E_QUERY, 2, "%s needs an array, not %s",
                             op, lev_value_type_name(list->value_type));
    }
    while (bson_iter_next(&it)) {
        bson_value_t v = lev_value_of(&it);
        struct node *each = node_add(n, AND, err);

        if (v.value_type != BSON_TYPE_DOCUMENT) {
            return lev_error_set(err, LEV_E_QUERY, 2,
                                 "%s needs queries in its array, not %s", op,
                                 lev_value_type_name(v.value_type));
        }
        if (each == NULL || compile_query(each, &v, err) < 0) {
            return -1;
        }
    }
    return n->kids != NULL ? 0
                           : lev_error_set(err, LEV_E_QUERY, 2,
                                           "%s needs one query at least", op);
}

static int
compile_not(struct node *parent, const char *field,
            const bson_value_t *operand, struct lev_error *err)
{
    struct node *nor = node_add(parent, NOR, err);
    struct node *all = nor == NULL ? NULL : node_add(nor, AND, err);

    if (all == NULL) {
        return -1;
    }
    if (operand->value_type == BSON_TYPE_REGEX) {
        return compile_implicit(all, field, operand, err);
    }
    if (!lev_predicate_is_operators(operand)) {
        return lev_error_set(
            err, LEV_E_QUERY, 2,
            "'%s': $not needs operators or a regular expression",
            shown(field));
    }
    return compile_operators(all, field, operand, err);
}

/* Whether the operand of an $elemMatch is tried on values: it is made of
 * operators, but not of those that stand before queries. */
static bool
is_value_form(const bson_value_t *operand)
{
    bson_iter_t it;

    if (!lev_predicate_is_operators(operand) ||
        !lev_value_iter(operand, &it) || !bson_iter_next(&it))
    {
        return false;
    }
    return strcmp(bson_iter_key(&it), "$and") != 0 &&
           strcmp(bson_iter_key(&it), "$or") != 0 &&
           strcmp(bson_iter_key(&it), "$nor") != 0 &&
           strcmp(bson_iter_key(&it), "$where") != 0 &&
           strcmp(bson_iter_key(&it), "$expr") != 0;
}

static bool
has_expr(const struct node *n)
{
    bool found = n->kind == EXPR;

    for (const struct node *kid = n->kids; kid != NULL && !found;
         kid = kid->sibling)
    {
        found = has_expr(kid);
    }
    return found;
}

static int
compile_elem(struct node *parent, const char *field,
             const bson_value_t *operand, struct lev_error *err)
{
    struct node *n = node_add_path(parent, ELEMENT, field, err);
    struct node *kid = n == NULL ? NULL : node_add(n, AND, err);

    if (kid == NULL) {
        return -1;
    }
    if (operand->value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(
            err, LEV_E_QUERY, 2, "'%s': $elemMatch needs an object, not %s",
            shown(field), lev_value_type_name(operand->value_type));
    }
    n->on_values = is_value_form(operand);
    if ((n->on_values ? compile_operators(kid, NULL, operand, err)
                      : compile_query(kid, operand, err)) < 0)
    {
        return -1;
    }
    return !has_expr(kid) ? 0
                          : lev_error_set(err, LEV_E_QUERY, 224,
                                          "'%s': $expr sees whole documents; "
                                          "it cannot be in an $elemMatch",
                                          shown(field));
}

/* An element of $all that is an {$elemMatch: …} makes its whole array one of
 * them. */
static bool
is_elem_match(const bson_value_t *v, bson_value_t *operand)
{
    bson_t doc;

    if (!lev_predicate_is_operators(v) || !lev_value_open(v, &doc)) {
        return false;
    }
    *operand = lev_value_field(&doc, "$elemMatch");
    return operand->value_type != BSON_TYPE_EOD;
}

static int
compile_all_member(struct node *all, const char *field, const bson_value_t *v,
                   bool elem, struct lev_error *err)
{
    bson_value_t operand;

    if (elem != is_elem_match(v, &operand) ||
        (!elem && lev_predicate_is_operators(v)))
    {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': $all holds values, or $elemMatch alone",
                             shown(field));
    }
    return elem ? compile_elem(all, field, &operand, err)
                : compile_implicit(all, field, v, err);
}

static int
compile_all(struct node *parent, const char *field,
            const bson_value_t *operand, struct lev_error *err)
{
    struct node *all = node_add(parent, AND, err);
    bson_value_t ignored;
    bson_iter_t it;
    bool elem;

    if (all == NULL) {
        return -1;
    }
    if (operand->value_type != BSON_TYPE_ARRAY ||
        !lev_value_iter(operand, &it)) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': $all needs an array, not %s", shown(field),
                             lev_value_type_name(operand->value_type));
    }
    for (bool first = true; bson_iter_next(&it); first = false) {
        bson_value_t v = lev_value_of(&it);

        if (first) {
            elem = is_elem_match(&v, &ignored);
        }
        if (compile_all_member(all, field, &v, elem, err) < 0) {
            return -1;
        }
    }
    if (all->kids == NULL) {
        all->kind = OR; /* {$all: []} matches nothing */
    }
    return 0;
}

/* $ne, $nin and {$exists: false}: no value passes `op`. */
static int
compile_denied(struct node *parent, const char *field, const char *op,
               const bson_value_t *operand, struct lev_error *err)
{
    struct node *nor = node_add(parent, NOR, err);

    if (nor == NULL) {
        return -1;
    }
    if (strcmp(op, "$eq") == 0 && operand->value_type == BSON_TYPE_REGEX) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "'%s': $ne takes no regular expression; use $not",
                             shown(field));
    }
    return compile_leaf(nor, field, op, operand, NULL, err);
}

static bool
is_true(const bson_value_t *v)
{
    switch (v->value_type) {
    case BSON_TYPE_BOOL:
        return v->value.v_bool;
    case BSON_TYPE_NULL:
    case BSON_TYPE_UNDEFINED:
        return false;
    default:
        return !lev_number_is(v) || lev_number_truth(v);
    }
}

/* $options are read with their $regex. */
static int
compile_regex(struct node *parent, const char *field, const bson_value_t *ops,
              const bson_value_t *operand, struct lev_error *err)
{
    bson_value_t options = lev_value_missing;
    bson_t doc;

    if (lev_value_open(ops, &doc)) {
        options = lev_value_field(&doc, "$options");
    }
    if (options.value_type == BSON_TYPE_EOD) {
        return compile_leaf(parent, field, "$regex", operand, NULL, err);
    }
    if (options.value_type != BSON_TYPE_UTF8) {
        return lev_error_set(
            err, LEV_E_QUERY, 2, "'%s': $options needs a string, not %s",
            shown(field), lev_value_type_name(options.value_type));
    }
    return compile_leaf(parent, field, "$regex", operand,
                        options.value.v_utf8.str, err);
}

static int
check_options(const char *field, const bson_value_t *ops,
              struct lev_error *err)
{
    bson_t doc;

    if (lev_value_open(ops, &doc) && bson_has_field(&doc, "$regex")) {
        return 0;
    }
    return lev_error_set(err, LEV_E_QUERY, 2,
                         "'%s': $options needs a $regex beside it",
                         shown(field));
}

static int
compile_operator(struct node *parent, const char *field,
                 const bson_value_t *ops, const char *op,
                 const bson_value_t *operand, struct lev_error *err)
{
    if (strcmp(op, "$regex") == 0) {
        return compile_regex(parent, field, ops, operand, err);
    }
    if (strcmp(op, "$options") == 0) {
        return check_options(field, ops, err);
    }
    if (strcmp(op, "$exists") == 0 && !is_true(operand)) {
        return compile_denied(parent, field, op, operand, err);
    }
    if (lev_predicate_known(op)) {
        return compile_leaf(parent, field, op, operand, NULL, err);
    }
    if (strcmp(op, "$ne") == 0) {
        return compile_denied(parent, field, "$eq", operand, err);
    }
    if (strcmp(op, "$nin") == 0) {
        return compile_denied(parent, field, "$in", operand, err);
    }
    if (strcmp(op, "$not") == 0) {
        return compile_not(parent, field, operand, err);
    }
    if (strcmp(op, "$elemMatch") == 0) {
        return compile_elem(parent, field, operand, err);
    }
    if (strcmp(op, "$all") == 0) {
        return compile_all(parent, field, operand, err);
    }
    return strcmp(op, "$comment") == 0 ? 0 : unknown_operator(op, err);
}

static int
compile_operators(struct node *parent, const char *field,
                  const bson_value_t *ops, struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(ops, &it); ok && bson_iter_next(&it);) {
        bson_value_t operand = lev_value_of(&it);

        if (compile_operator(parent, field, ops, bson_iter_key(&it), &operand,
                             err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
compile_expr(struct node *parent, const bson_value_t *v, struct lev_error *err)
{
    struct node *n = node_add(parent, EXPR, err);

    if (n == NULL) {
        return -1;
    }
    n->expr = lev_expr_compile(v, err);
    return n->expr == NULL ? lev_error_wrap(err, "$expr") : 0;
}

static int
compile_field(struct node *parent, const char *key, const bson_value_t *v,
              struct lev_error *err)
{
    if (strcmp(key, "$expr") == 0) {
        return compile_expr(parent, v, err);
    }
    if (strcmp(key, "$and") == 0 || strcmp(key, "$or") == 0 ||
        strcmp(key, "$nor") == 0)
    {
        return compile_list(parent, key, v, err);
    }
    if (strcmp(key, "$comment") == 0) {
        return 0;
    }
    if (key[0] == '$' && !lev_predicate_known(key)) {
        return unknown_operator(key, err);
    }
    if (key[0] == '$') {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "%s needs a field: {field: {%s: …}}", key, key);
    }
    return lev_predicate_is_operators(v)
               ? compile_operators(parent, key, v, err)
               : compile_implicit(parent, key, v, err);
}

static int
compile_query(struct node *parent, const bson_value_t *query,
              struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(query, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (compile_field(parent, bson_iter_key(&it), &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static struct lev_match *
match_create(const bson_t *source, struct lev_error *err)
{
    _cleanup_match_ struct lev_match *m = calloc(1, sizeof(*m));

    if (m == NULL || (m->root = calloc(1, sizeof(*m->root))) == NULL) {
        free(lev_steal(m));
        lev_error_nomem(err, "query");
        return NULL;
    }
    m->source = bson_copy(source);
    m->root->kind = AND;
    return lev_value_check(m->source, err) < 0 ? NULL : lev_steal(m);
}

struct lev_match *
lev_match_compile(const bson_t *query, struct lev_error *err)
{
    static const bson_t empty = BSON_INITIALIZER;
    _cleanup_match_ struct lev_match *m =
        match_create(query == NULL ? &empty : query, err);
    bson_value_t v;

    if (m == NULL) {
        return NULL;
    }
    v = lev_value_doc(m->source);
    return compile_query(m->root, &v, err) < 0 ? NULL : lev_steal(m);
}

struct lev_match *
lev_match_compile_elem(const bson_value_t *operand, struct lev_error *err)
{
    bson_t wrapped = BSON_INITIALIZER;
    _cleanup_match_ struct lev_match *m = NULL;
    bson_value_t v;

    bson_append_value(&wrapped, "", 0, operand);
    m = match_create(&wrapped, err);
    bson_destroy(&wrapped);
    if (m == NULL) {
        return NULL;
    }
    v = lev_value_field(m->source, "");
    return compile_elem(m->root, NULL, &v, err) < 0 ? NULL : lev_steal(m);
}

void
lev_match_destroy(struct lev_match *m)
{
    if (m == NULL) {
        return;
    }
    node_destroy(m->root);
    bson_destroy(m->source);
    free(m);
}

/* Trying. */

static int test_node(const struct node *n, const struct target *t, long *index,
                     struct lev_error *err);

/* 1 with the index of the first element that fulfils the kid. Elements that
 * are arrays count as objects with the keys 0, 1, …. */
static int
test_elements(const struct node *n, const bson_value_t *array,
              struct lev_eval *ev, long *index, struct lev_error *err)
{
    bson_iter_t it;
    long k = 0;

    if (array->value_type != BSON_TYPE_ARRAY) {
        return 0;
    }
    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it); k++)
    {
        bson_value_t v = lev_value_of(&it);
        struct target t = {.value = &v, .ev = ev};
        bson_t doc;
        long ignored;
        int rc;

        if (!n->on_values) {
            if (!lev_value_open(&v, &doc)) {
                continue;
            }
            t = (struct target){.doc = &doc, .ev = ev};
        }
        rc = test_node(n->kids, &t, &ignored, err);
        if (rc != 0) {
            *index = k;
            return rc;
        }
    }
    return 0;
}

struct leaf_try {
    const struct node *n;
    struct lev_eval *ev;
    long *index;
    struct lev_error *err;
};

static int
try_hit(void *ctx, const struct lev_path_hit *hit)
{
    const struct leaf_try *a = ctx;
    long index = -1;
    int rc = a->n->kind == ELEMENT
                 ? test_elements(a->n, hit->value, a->ev, &index, a->err)
                 : a->n->is.accept(&a->n->is, hit->value, a->err);

    if (hit->index >= 0) {
        index = hit->index;
    }
    if (rc > 0 && index >= 0) {
        *a->index = index;
    }
    return rc;
}

static int
test_leaf(const struct node *n, const struct target *t, long *index,
          struct lev_error *err)
{
    struct leaf_try a = {n, t->ev, index, err};
    struct lev_path_hit itself = {t->value, -1, false};

    if (!n->has_path) {
        return try_hit(&a, &itself);
    }
    return lev_path_each(&n->path, t->doc,
                         n->kind == ELEMENT ? LEV_PATH_WHOLE : n->is.leaf,
                         try_hit, &a);
}

static int
test_expr(const struct node *n, const struct target *t, struct lev_error *err)
{
    _cleanup_eval_ struct lev_eval own = {0};
    struct lev_eval *ev = t->ev == NULL ? &own : t->ev;
    bson_value_t v;

    lev_eval_start(ev, t->doc);
    return lev_expr_eval(n->expr, ev, &v, err) < 0 ? -1 : lev_expr_truth(&v);
}

/* Whether all kids are true (`want` 1), or one is (`want` 0). */
static int
test_kids(const struct node *n, int want, const struct target *t, long *index,
          struct lev_error *err)
{
    for (const struct node *kid = n->kids; kid != NULL; kid = kid->sibling) {
        int rc = test_node(kid, t, index, err);

        if (rc != want) {
            return rc;
        }
    }
    return want;
}

static int
test_node(const struct node *n, const struct target *t, long *index,
          struct lev_error *err)
{
    long ignored = -1;
    int rc;

    switch (n->kind) {
    case AND:
        return test_kids(n, 1, t, index, err);
    case OR:
        return test_kids(n, 0, t, index, err);
    case NOR:
        rc = test_kids(n, 0, t, &ignored, err);
        return rc < 0 ? rc : !rc;
    case EXPR:
        return test_expr(n, t, err);
    default:
        return test_leaf(n, t, index, err);
    }
}

int
lev_match_test(const struct lev_match *m, const bson_t *doc,
               struct lev_eval *ev, long *index, struct lev_error *err)
{
    struct target t = {.doc = doc, .ev = ev};
    long found = -1;
    int rc = test_node(m->root, &t, &found, err);

    if (index != NULL) {
        *index = found;
    }
    return rc;
}

int
lev_match_elem(const struct lev_match *m, const bson_value_t *array,
               long *index, struct lev_error *err)
{
    return test_elements(m->root->kids, array, NULL, index, err);
}

/* Looking into it. */

bool
lev_match_all(const struct lev_match *m)
{
    return m->root->kids == NULL;
}

int
lev_match_check_no_expr(const struct lev_match *m, const char *where,
                        struct lev_error *err)
{
    return !has_expr(m->root)
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 224,
                               "%s: $expr is not possible here", where);
}

static int
each_equality(const struct node *n, lev_match_equal_fn fn, void *ctx)
{
    int rc = 0;

    if (n->kind == LEAF && n->has_path && n->is.equality) {
        return fn(ctx, n->path.text, &n->is.operand);
    }
    /* An $or of one query is that query. */
    if (n->kind != AND && (n->kind != OR || n->kids != n->last)) {
        return 0;
    }
    for (const struct node *kid = n->kids; kid != NULL && rc == 0;
         kid = kid->sibling)
    {
        rc = each_equality(kid, fn, ctx);
    }
    return rc;
}

int
lev_match_equalities(const struct lev_match *m, lev_match_equal_fn fn,
                     void *ctx)
{
    return each_equality(m->root, fn, ctx);
}

static int
take_id(void *ctx, const char *path, const bson_value_t *value)
{
    const bson_value_t **id = ctx;

    /* An equality with null also stands for what is missing, but every
     * document has an `_id`; arrays and regexes cannot be one. */
    if (strcmp(path, "_id") != 0) {
        return 0;
    }
    *id = value;
    return 1;
}

const bson_value_t *
lev_match_id(const struct lev_match *m)
{
    const bson_value_t *id = NULL;

    lev_match_equalities(m, take_id, &id);
    return id;
}
