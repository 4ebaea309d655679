#include "update_ops.h"

#include <string.h>

#include "keymap.h"
#include "match.h"
#include "number.h"
#include "sort.h"
#include "value.h"

static int
not_an_array(const struct lev_update_at *at, const char *op, int code,
             struct lev_error *err)
{
    return lev_error_set(
        err, LEV_E_QUERY, code, "'%s': %s needs an array in the field, not %s",
        at->path, op, lev_value_type_name(at->old->value_type));
}

/* Arrays while they are worked on. */
struct elements {
    bson_value_t *v; /* borrow */
    size_t n, cap;
};

static void
elements_deinit(struct elements *e)
{
    free(e->v);
}
#define _cleanup_elements_ _cleanup_(elements_deinit)

static int
elements_add(struct elements *e, const bson_value_t *v, struct lev_error *err)
{
    if (e->n == e->cap) {
        size_t cap = e->cap == 0 ? 32 : e->cap * 2;
        bson_value_t *more = realloc(e->v, cap * sizeof(*more));

        if (more == NULL) {
            return lev_error_nomem(err, "update");
        }
        e->v = more;
        e->cap = cap;
    }
    e->v[e->n++] = *v;
    return 0;
}

/* Those of `array`, which may be missing. */
static int
elements_add_all(struct elements *e, const bson_value_t *array,
                 struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (elements_add(e, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void
append_elements(const struct lev_update_at *at, const bson_value_t *v,
                size_t n)
{
    bson_t part;

    bson_append_array_begin(at->out, at->key, -1, &part);
    for (size_t i = 0; i < n; i++) {
        lev_value_append_element(&part, (uint32_t)i, &v[i]);
    }
    bson_append_array_end(at->out, &part);
}

/* $push */

struct push {
    bson_value_t each; /* an array; BSON_TYPE_EOD: the operand itself */
    bool has_slice, has_position;
    int64_t slice, position;
    struct lev_sort *order;
    int direction; /* of elements as a whole; 0: not sorted so */
};

static void
push_destroy(void *data)
{
    struct push *p = data;

    if (p != NULL) {
        lev_sort_destroy(p->order);
        free(p);
    }
}

static inline void
push_destroyp(struct push **p)
{
    push_destroy(*p);
}

static int
bad_modifier(const char *path, const char *name, const char *needs,
             struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, 2, "'%s': %s needs %s", path, name,
                         needs);
}

static int
compile_sort(struct push *p, const char *path, const bson_value_t *v,
             struct lev_error *err)
{
    bson_t spec;
    int64_t n = 0;

    if (v->value_type == BSON_TYPE_DOCUMENT && lev_value_open(v, &spec)) {
        lev_sort_destroy(p->order); /* of a $sort that stands there twice */
        p->order = lev_sort_compile(&spec, err);
        if (p->order == NULL && err->code == LEV_E_QUERY) {
            err->detail = 2;
        }
        return p->order == NULL ? lev_error_wrap(err, "'%s': $sort", path) : 0;
    }
    if (!lev_number_is(v) || !lev_number_whole(v, &n) || (n != 1 && n != -1)) {
        return bad_modifier(path, "$sort", "1, -1 or {field: 1 | -1, …}", err);
    }
    p->direction = (int)n;
    return 0;
}

static int
compile_whole(const char *path, const char *name, const bson_value_t *v,
              bool *has, int64_t *n, struct lev_error *err)
{
    *has = true;
    return lev_number_is(v) && lev_number_whole(v, n)
               ? 0
               : bad_modifier(path, name, "a whole number", err);
}

static int
compile_modifier(struct push *p, const char *path, const char *name,
                 const bson_value_t *v, struct lev_error *err)
{
    if (strcmp(name, "$each") == 0) {
        p->each = *v;
        return v->value_type == BSON_TYPE_ARRAY
                   ? 0
                   : bad_modifier(path, name, "an array", err);
    }
    if (strcmp(name, "$slice") == 0) {
        return compile_whole(path, name, v, &p->has_slice, &p->slice, err);
    }
    if (strcmp(name, "$position") == 0) {
        return compile_whole(path, name, v, &p->has_position, &p->position,
                             err);
    }
    if (strcmp(name, "$sort") == 0) {
        return compile_sort(p, path, v, err);
    }
    return lev_error_set(err, LEV_E_QUERY, 2,
                         "'%s': beside $each stand $position, $slice and "
                         "$sort, not '%s'",
                         path, name);
}

static bool
has_each(const bson_value_t *v)
{
    bson_t doc;

    return v->value_type == BSON_TYPE_DOCUMENT && lev_value_open(v, &doc) &&
           bson_has_field(&doc, "$each");
}

static int
compile_push(const char *path, const bson_value_t *operand, void **data,
             struct lev_error *err)
{
    _cleanup_(push_destroyp) struct push *p = calloc(1, sizeof(*p));
    bson_iter_t it;

    if (p == NULL) {
        return lev_error_nomem(err, "update");
    }
    for (bool ok = has_each(operand) && lev_value_iter(operand, &it);
         ok && bson_iter_next(&it);)
    {
        bson_value_t v = lev_value_of(&it);

        if (compile_modifier(p, path, bson_iter_key(&it), &v, err) < 0) {
            return -1;
        }
    }
    *data = lev_steal(p);
    return 0;
}

/* Up to `n`; a position below 0 counts from the end. */
static size_t
position_of(const struct push *p, size_t n)
{
    if (!p->has_position) {
        return n;
    }
    if (p->position < 0) {
        return p->position < -(int64_t)n ? 0
                                         : (size_t)(p->position + (int64_t)n);
    }
    return p->position > (int64_t)n ? n : (size_t)p->position;
}

/* Moves the last elements, those behind the first `n`, to `to`. */
static int
rotate(struct elements *e, size_t n, size_t to, struct lev_error *err)
{
    size_t more = e->n - n;
    bson_value_t *moved;

    if (more == 0 || to == n) {
        return 0;
    }
    moved = malloc(more * sizeof(*moved));
    if (moved == NULL) {
        return lev_error_nomem(err, "update");
    }
    memcpy(moved, e->v + n, more * sizeof(*moved));
    memmove(e->v + to + more, e->v + to, (n - to) * sizeof(*moved));
    memcpy(e->v + to, moved, more * sizeof(*moved));
    free(moved);
    return 0;
}

struct ranked {
    bson_value_t v;
    size_t rank; /* keeps equal ones in order */
};

static int
compare_ranked(const void *a, const void *b, void *ctx)
{
    const struct push *p = ctx;
    const struct ranked *x = a, *y = b;
    int c = p->order != NULL ? lev_sort_compare(p->order, &x->v, &y->v)
                             : lev_value_compare(&x->v, &y->v) * p->direction;

    return c != 0 ? c : (x->rank > y->rank) - (x->rank < y->rank);
}

static int
sort_elements(const struct push *p, struct elements *e, struct lev_error *err)
{
    struct ranked *all;

    if (p->order == NULL && p->direction == 0) {
        return 0;
    }
    all = calloc(e->n + 1, sizeof(*all));
    if (all == NULL) {
        return lev_error_nomem(err, "update");
    }
    for (size_t i = 0; i < e->n; i++) {
        all[i] = (struct ranked){e->v[i], i};
    }
    qsort_r(all, e->n, sizeof(*all), compare_ranked, (void *)p);
    for (size_t i = 0; i < e->n; i++) {
        e->v[i] = all[i].v;
    }
    free(all);
    return 0;
}

static int
apply_push(const struct lev_update_at *at, struct lev_error *err)
{
    _cleanup_elements_ struct elements e = {0};
    const struct push *p = at->data;
    size_t n, from = 0, keep;

    if (at->old->value_type != BSON_TYPE_EOD &&
        at->old->value_type != BSON_TYPE_ARRAY)
    {
        return not_an_array(at, "$push", 2, err);
    }
    if (elements_add_all(&e, at->old, err) < 0) {
        return -1;
    }
    n = e.n;
    if ((p->each.value_type == BSON_TYPE_EOD
             ? elements_add(&e, at->operand, err)
             : elements_add_all(&e, &p->each, err)) < 0 ||
        rotate(&e, n, position_of(p, n), err) < 0 ||
        sort_elements(p, &e, err) < 0)
    {
        return -1;
    }
    keep = e.n;
    if (p->has_slice && p->slice >= 0 && (int64_t)keep > p->slice) {
        keep = (size_t)p->slice;
    }
    else if (p->has_slice && p->slice < 0 && -(int64_t)keep < p->slice) {
        keep = (size_t)-p->slice;
        from = e.n - keep;
    }
    append_elements(at, e.v + from, keep);
    return 0;
}

const struct lev_update_op lev_update_op_push = {
    .name = "$push",
    .creates = true,
    .compile = compile_push,
    .destroy = push_destroy,
    .apply = apply_push,
};

/* $addToSet */

static int
compile_add_to_set(const char *path, const bson_value_t *operand, void **data,
                   struct lev_error *err)
{
    bson_t doc;

    if (!has_each(operand) || !lev_value_open(operand, &doc)) {
        return 0;
    }
    if (lev_value_field(&doc, "$each").value_type != BSON_TYPE_ARRAY) {
        return lev_error_set(err, LEV_E_QUERY, 14,
                             "'%s': $each needs an array", path);
    }
    return bson_count_keys(&doc) == 1
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 2,
                               "'%s': $addToSet takes nothing beside $each",
                               path);
}

/* What is in the set already is not added. */
static int
add_new(struct elements *e, struct lev_keymap *set, const bson_value_t *v,
        struct lev_error *err)
{
    int rc = lev_keymap_add(set, v, NULL, err);

    return rc > 0 ? elements_add(e, v, err) : rc;
}

static int
add_operand(const struct lev_update_at *at, struct elements *e,
            struct lev_keymap *set, struct lev_error *err)
{
    bson_value_t each;
    bson_iter_t it;
    bson_t doc;

    if (!has_each(at->operand) || !lev_value_open(at->operand, &doc)) {
        return add_new(e, set, at->operand, err);
    }
    each = lev_value_field(&doc, "$each");
    for (bool ok = lev_value_iter(&each, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_new(e, set, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
apply_add_to_set(const struct lev_update_at *at, struct lev_error *err)
{
    _cleanup_elements_ struct elements e = {0};
    _cleanup_keymap_ struct lev_keymap set = {0};

    if (at->old->value_type != BSON_TYPE_EOD &&
        at->old->value_type != BSON_TYPE_ARRAY)
    {
        return not_an_array(at, "$addToSet", 2, err);
    }
    if (elements_add_all(&e, at->old, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < e.n; i++) {
        if (lev_keymap_add(&set, &e.v[i], NULL, err) < 0) {
            return -1;
        }
    }
    if (add_operand(at, &e, &set, err) < 0) {
        return -1;
    }
    append_elements(at, e.v, e.n);
    return 0;
}

const struct lev_update_op lev_update_op_add_to_set = {
    .name = "$addToSet",
    .creates = true,
    .compile = compile_add_to_set,
    .apply = apply_add_to_set,
};

/* $pop */

static int
compile_pop(const char *path, const bson_value_t *operand, void **data,
            struct lev_error *err)
{
    int64_t n;

    return lev_number_is(operand) && lev_number_whole(operand, &n) &&
                   (n == 1 || n == -1)
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 9,
                               "'%s': $pop needs 1 (the last) or -1 (the "
                               "first)",
                               path);
}

static int
apply_pop(const struct lev_update_at *at, struct lev_error *err)
{
    _cleanup_elements_ struct elements e = {0};
    int64_t which = 0;

    if (at->old->value_type == BSON_TYPE_EOD) {
        return 0;
    }
    if (at->old->value_type != BSON_TYPE_ARRAY) {
        return not_an_array(at, "$pop", 14, err);
    }
    if (elements_add_all(&e, at->old, err) < 0) {
        return -1;
    }
    lev_number_whole(at->operand, &which);
    append_elements(at, which < 0 && e.n > 0 ? e.v + 1 : e.v,
                    e.n > 0 ? e.n - 1 : 0);
    return 0;
}

const struct lev_update_op lev_update_op_pop = {
    .name = "$pop",
    .strict = true,
    .compile = compile_pop,
    .apply = apply_pop,
};

/* $pull and $pullAll */

/* 1: goes, 0: stays. */
typedef int (*pull_fn)(void *what, const bson_value_t *v,
                       struct lev_error *err);

static int
pull(const struct lev_update_at *at, const char *op, pull_fn goes, void *what,
     struct lev_error *err)
{
    _cleanup_elements_ struct elements e = {0};
    bson_iter_t it;

    if (at->old->value_type == BSON_TYPE_EOD) {
        return 0;
    }
    if (at->old->value_type != BSON_TYPE_ARRAY) {
        return not_an_array(at, op, 2, err);
    }
    for (bool ok = lev_value_iter(at->old, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc = goes(what, &v, err);

        if (rc < 0 || (rc == 0 && elements_add(&e, &v, err) < 0)) {
            return -1;
        }
    }
    append_elements(at, e.v, e.n);
    return 0;
}

/* $pull tells by a query: on the elements that are objects where it names
 * fields, else, as that of a field "", on each element. */
struct puller {
    struct lev_match *match;
    bool on_objects;
};

static void
puller_destroy(void *data)
{
    struct puller *p = data;

    if (p != NULL) {
        lev_match_destroy(p->match);
        free(p);
    }
}

static inline void
puller_destroyp(struct puller **p)
{
    puller_destroy(*p);
}

static bool
is_query(const bson_value_t *v)
{
    bson_iter_t it;

    return v->value_type == BSON_TYPE_DOCUMENT && lev_value_iter(v, &it) &&
           (!bson_iter_next(&it) || bson_iter_key(&it)[0] != '$' ||
            strcmp(bson_iter_key(&it), "$and") == 0 ||
            strcmp(bson_iter_key(&it), "$or") == 0 ||
            strcmp(bson_iter_key(&it), "$nor") == 0);
}

/* Plain values are pulled by equality: an array not by what is in it. */
static bool
is_plain(const bson_value_t *v)
{
    return v->value_type != BSON_TYPE_DOCUMENT &&
           v->value_type != BSON_TYPE_REGEX;
}

static int
compile_pull(const char *path, const bson_value_t *operand, void **data,
             struct lev_error *err)
{
    _cleanup_(puller_destroyp) struct puller *p = calloc(1, sizeof(*p));
    bson_t query = BSON_INITIALIZER, doc;

    if (p == NULL) {
        return lev_error_nomem(err, "update");
    }
    p->on_objects = is_query(operand);
    if (!is_plain(operand)) {
        bson_append_value(&query, "", 0, operand);
        p->match = lev_match_compile(
            p->on_objects && lev_value_open(operand, &doc) ? &doc : &query,
            err);
    }
    bson_destroy(&query);
    if (!is_plain(operand) && p->match == NULL) {
        return lev_error_wrap(err, "'%s': $pull", path);
    }
    if (p->match != NULL &&
        lev_match_check_no_expr(p->match, "$pull", err) < 0) {
        return -1;
    }
    *data = lev_steal(p);
    return 0;
}

static int
pulls(void *what, const bson_value_t *v, struct lev_error *err)
{
    const struct lev_update_at *at = what;
    const struct puller *p = at->data;
    bson_t doc = BSON_INITIALIZER;
    int rc;

    if (p->match == NULL) {
        return lev_value_equal(at->operand, v);
    }
    if (p->on_objects) {
        return v->value_type == BSON_TYPE_DOCUMENT && lev_value_open(v, &doc)
                   ? lev_match_test(p->match, &doc, NULL, NULL, err)
                   : 0;
    }
    bson_append_value(&doc, "", 0, v);
    rc = lev_match_test(p->match, &doc, NULL, NULL, err);
    bson_destroy(&doc);
    return rc;
}

static int
apply_pull(const struct lev_update_at *at, struct lev_error *err)
{
    return pull(at, "$pull", pulls, (void *)at, err);
}

const struct lev_update_op lev_update_op_pull = {
    .name = "$pull",
    .compile = compile_pull,
    .destroy = puller_destroy,
    .apply = apply_pull,
};

static int
compile_pull_all(const char *path, const bson_value_t *operand, void **data,
                 struct lev_error *err)
{
    return operand->value_type == BSON_TYPE_ARRAY
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 2,
                               "'%s': $pullAll needs an array of values, not "
                               "%s",
                               path, lev_value_type_name(operand->value_type));
}

static int
is_listed(void *what, const bson_value_t *v, struct lev_error *err)
{
    return lev_keymap_find(what, v, NULL, err);
}

static int
apply_pull_all(const struct lev_update_at *at, struct lev_error *err)
{
    _cleanup_keymap_ struct lev_keymap set = {0};
    bson_iter_t it;

    for (bool ok = lev_value_iter(at->operand, &it);
         ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (lev_keymap_add(&set, &v, NULL, err) < 0) {
            return -1;
        }
    }
    return pull(at, "$pullAll", is_listed, &set, err);
}

const struct lev_update_op lev_update_op_pull_all = {
    .name = "$pullAll",
    .compile = compile_pull_all,
    .apply = apply_pull_all,
};
