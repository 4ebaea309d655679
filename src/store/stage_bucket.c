#include "group.h"

#include <string.h>

/* Stages made of others: $bucket is a $group by bounds, $sortByCount a $group
 * and a $sort. */

/* {$sum: 1} as the field "count" */
static int
add_count(struct lev_group *g, struct lev_error *err)
{
    bson_t sum = BSON_INITIALIZER;
    bson_value_t v;
    int rc;

    bson_append_int32(&sum, "$sum", -1, 1);
    v = lev_value_doc(&sum);
    rc = lev_group_field(g, "count", &v, err);
    bson_destroy(&sum);
    return rc;
}

/* A path or an operator. */
static bool
is_expression(const bson_value_t *v)
{
    bson_iter_t it;

    if (v->value_type == BSON_TYPE_UTF8) {
        return v->value.v_utf8.str[0] == '$';
    }
    return v->value_type == BSON_TYPE_DOCUMENT && lev_value_iter(v, &it) &&
           bson_iter_next(&it) && bson_iter_key(&it)[0] == '$';
}

int
lev_stage_sort_by_count(struct lev_chain *chain, const char *name,
                        const bson_value_t *spec, struct lev_error *err)
{
    bson_t order = BSON_INITIALIZER;
    struct lev_group *g;
    bson_value_t v;
    int rc;

    if (!is_expression(spec)) {
        return lev_stage_bad(name,
                             spec->value_type == BSON_TYPE_DOCUMENT ? 40147
                             : spec->value_type == BSON_TYPE_UTF8   ? 40148
                                                                    : 40149,
                             "needs a path or an expression", err);
    }
    g = lev_group_add(chain, spec, err);
    if (g == NULL || add_count(g, err) < 0) {
        return -1;
    }
    bson_append_int32(&order, "count", -1, -1);
    v = lev_value_doc(&order);
    rc = lev_stage_sort(chain, "$sort", &v, err);
    bson_destroy(&order);
    return rc;
}

/* $bucket: {groupBy, boundaries, default, output} */

struct bucket {
    bson_value_t by, boundaries, fallback, output;
};

static int
take_fields(struct bucket *b, const bson_value_t *spec, struct lev_error *err)
{
    bson_iter_t it;

    *b = (struct bucket){lev_value_missing, lev_value_missing,
                         lev_value_missing, lev_value_missing};
    for (bool ok = lev_value_iter(spec, &it); ok && bson_iter_next(&it);) {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);

        if (strcmp(key, "groupBy") == 0) {
            b->by = v;
        }
        else if (strcmp(key, "boundaries") == 0) {
            b->boundaries = v;
        }
        else if (strcmp(key, "default") == 0) {
            b->fallback = v;
        }
        else if (strcmp(key, "output") == 0) {
            b->output = v;
        }
        else {
            return lev_error_set(err, LEV_E_QUERY, 40197,
                                 "$bucket knows no '%s'", key);
        }
    }
    return 0;
}

static int
bad(struct lev_error *err, int code, const char *what)
{
    return lev_stage_bad("$bucket", code, what, err);
}

static int
check_fields(const struct bucket *b, struct lev_error *err)
{
    if (b->by.value_type == BSON_TYPE_EOD ||
        b->boundaries.value_type == BSON_TYPE_EOD)
    {
        return bad(err, 40198, "needs 'groupBy' and 'boundaries'");
    }
    if (!is_expression(&b->by)) {
        return bad(err, 40202, "'groupBy' is a path or an expression");
    }
    if (b->boundaries.value_type != BSON_TYPE_ARRAY) {
        return bad(err, 40200, "'boundaries' is an array");
    }
    return b->output.value_type == BSON_TYPE_EOD ||
                   b->output.value_type == BSON_TYPE_DOCUMENT
               ? 0
               : bad(err, 40196, "'output' is an object");
}

/* A value that is the same for all documents, and stays after the expression
 * that it was given as. */
static int
constant(const bson_value_t *v, struct lev_eval *ev, int code,
         bson_value_t *out, struct lev_error *err)
{
    _cleanup_expr_ struct lev_expr *e = lev_expr_compile(v, err);
    bson_value_t made;

    if (e == NULL || lev_expr_eval(e, ev, &made, err) < 0) {
        return -1;
    }
    /* There is no document: a field of one is missing. */
    if (made.value_type == BSON_TYPE_EOD) {
        return bad(err, code, "boundaries and default are constants");
    }
    bson_value_copy(&made, out);
    return 0;
}

static int
check_order(const bson_value_t *bounds, size_t n, const bson_value_t *fallback,
            struct lev_error *err)
{
    if (n < 2) {
        return bad(err, 40192, "'boundaries' holds two values at least");
    }
    for (size_t i = 1; i < n; i++) {
        if (lev_value_class(bounds[i].value_type) !=
            lev_value_class(bounds[0].value_type))
        {
            return bad(err, 40193, "'boundaries' are of one type");
        }
        if (lev_value_compare(&bounds[i - 1], &bounds[i]) >= 0) {
            return bad(err, 40194, "'boundaries' ascend");
        }
    }
    return fallback->value_type == BSON_TYPE_EOD ||
                   lev_value_compare(fallback, &bounds[0]) < 0 ||
                   lev_value_compare(fallback, &bounds[n - 1]) >= 0
               ? 0
               : bad(err, 40199, "'default' lies outside the boundaries");
}

struct bounds {
    bson_value_t *each, fallback; /* owned */
    size_t n;
};

static void
bounds_deinit(struct bounds *b)
{
    for (size_t i = 0; i < b->n; i++) {
        bson_value_destroy(&b->each[i]);
    }
    free(b->each);
    bson_value_destroy(&b->fallback);
}

static int
take_bounds(struct bounds *b, const struct bucket *from, struct lev_eval *ev,
            struct lev_error *err)
{
    bson_iter_t it;
    bson_t list;

    if (!lev_value_open(&from->boundaries, &list)) {
        return bad(err, 40200, "'boundaries' is an array");
    }
    b->each = calloc(bson_count_keys(&list) + 1, sizeof(*b->each));
    if (b->each == NULL) {
        return lev_error_nomem(err, "$bucket");
    }
    for (bool ok = bson_iter_init(&it, &list); ok && bson_iter_next(&it);
         b->n++) {
        bson_value_t v = lev_value_of(&it);

        if (constant(&v, ev, 40191, &b->each[b->n], err) < 0) {
            return -1;
        }
    }
    if (from->fallback.value_type != BSON_TYPE_EOD &&
        constant(&from->fallback, ev, 40195, &b->fallback, err) < 0)
    {
        return -1;
    }
    return check_order(b->each, b->n, &b->fallback, err);
}

static int
add_output(struct lev_group *g, const bson_value_t *output,
           struct lev_error *err)
{
    bson_iter_t it;

    if (output->value_type == BSON_TYPE_EOD) {
        return add_count(g, err);
    }
    for (bool ok = lev_value_iter(output, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (lev_group_field(g, bson_iter_key(&it), &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_stage_bucket(struct lev_chain *chain, const char *name,
                 const bson_value_t *spec, struct lev_error *err)
{
    _cleanup_eval_ struct lev_eval ev = {0};
    _cleanup_(bounds_deinit) struct bounds bounds = {0};
    struct lev_group *g;
    struct bucket b;

    if (lev_stage_object(name, spec, 40201, err) < 0 ||
        take_fields(&b, spec, err) < 0 || check_fields(&b, err) < 0 ||
        take_bounds(&bounds, &b, &ev, err) < 0)
    {
        return -1;
    }
    g = lev_group_add(chain, &b.by, err);
    return g == NULL ||
                   lev_group_bounds(g, bounds.each, bounds.n, &bounds.fallback,
                                    err) < 0 ||
                   add_output(g, &b.output, err) < 0
               ? -1
               : 0;
}
