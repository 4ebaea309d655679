#include "group.h"

#include <string.h>

#include "accum.h"
#include "keymap.h"

struct field {
    char *name;
    const struct lev_accum_op *op;
    struct lev_expr *expr; /* NULL: the accumulator takes no argument */
};

/* Groups are numbered by their first document: group i has key i and the
 * accumulators from i * n_fields on. */
struct lev_group {
    struct lev_stage stage;
    struct lev_expr *key;
    struct field *fields;
    size_t n_fields;
    bson_value_t *bounds, fallback; /* of a $bucket */
    size_t n_bounds;

    struct lev_keymap groups;
    bson_value_t *keys;
    struct lev_accum *accums;
    size_t n, cap;
    size_t bytes; /* that keys and accumulators hold */
    size_t *order, given;
    bool filled;
    struct lev_buf out;
};

static void
free_groups(struct lev_group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        bson_value_destroy(&g->keys[i]);
        for (size_t k = 0; k < g->n_fields; k++) {
            lev_accum_deinit(&g->accums[i * g->n_fields + k]);
        }
    }
    free(g->keys);
    free(g->accums);
    free(g->order);
    lev_keymap_deinit(&g->groups);
}

static void
group_destroy(struct lev_stage *s)
{
    struct lev_group *g = (struct lev_group *)s;

    free_groups(g);
    for (size_t i = 0; i < g->n_fields; i++) {
        free(g->fields[i].name);
        lev_expr_destroy(g->fields[i].expr);
    }
    free(g->fields);
    for (size_t i = 0; i < g->n_bounds; i++) {
        bson_value_destroy(&g->bounds[i]);
    }
    free(g->bounds);
    bson_value_destroy(&g->fallback);
    lev_expr_destroy(g->key);
    lev_buf_deinit(&g->out);
}

/* Filling. */

static int
reserve(struct lev_group *g, struct lev_error *err)
{
    size_t cap = g->cap == 0 ? 16 : g->cap * 2;
    bson_value_t *keys;
    struct lev_accum *accums;

    if (g->n < g->cap) {
        return 0;
    }
    keys = realloc(g->keys, cap * sizeof(*keys));
    if (keys == NULL) {
        return lev_error_nomem(err, "$group");
    }
    g->keys = keys;
    accums = realloc(g->accums, (cap * g->n_fields + 1) * sizeof(*accums));
    if (accums == NULL) {
        return lev_error_nomem(err, "$group");
    }
    g->accums = accums;
    g->cap = cap;
    return 0;
}

/* The number of the group with that key, which may be a new one. */
static int
group_of(struct lev_group *g, const bson_value_t *key, size_t *i,
         struct lev_error *err)
{
    int rc =
        reserve(g, err) < 0 ? -1 : lev_keymap_add(&g->groups, key, i, err);

    if (rc > 0) {
        bson_value_copy(key, &g->keys[g->n]);
        for (size_t k = 0; k < g->n_fields; k++) {
            lev_accum_init(&g->accums[g->n * g->n_fields + k],
                           g->fields[k].op);
        }
        g->n++;
    }
    return rc < 0 ? -1 : 0;
}

/* The lower bound of the bucket that a value lies in. */
static int
find_bucket(const struct lev_group *g, bson_value_t *key,
            struct lev_error *err)
{
    size_t low = 0, high = g->n_bounds;

    while (low < high) { /* the first bound above it */
        size_t mid = (low + high) / 2;

        if (lev_value_compare(&g->bounds[mid], key) <= 0) {
            low = mid + 1;
        }
        else {
            high = mid;
        }
    }
    if (low > 0 && low < g->n_bounds) {
        *key = g->bounds[low - 1];
        return 0;
    }
    *key = g->fallback;
    return key->value_type != BSON_TYPE_EOD
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 40066,
                               "$bucket: a value lies outside the "
                               "boundaries, and there is no default");
}

static int
step(struct lev_group *g, size_t group, struct lev_error *err)
{
    for (size_t k = 0; k < g->n_fields; k++) {
        struct lev_accum *a = &g->accums[group * g->n_fields + k];
        size_t before = lev_accum_bytes(a);
        bson_value_t v = lev_value_missing;

        if (g->fields[k].expr != NULL &&
            lev_expr_eval(g->fields[k].expr, &g->stage.env->ev, &v, err) < 0)
        {
            return -1;
        }
        if (lev_accum_step(a, &v, err) < 0) {
            return -1;
        }
        g->bytes += lev_accum_bytes(a) - before;
    }
    return g->bytes + lev_keymap_bytes(&g->groups) * 2 +
                       g->cap * (sizeof(*g->keys) +
                                 g->n_fields * sizeof(*g->accums)) <=
                   LEV_STAGE_MAX
               ? 0
               : lev_stage_too_much("$group", err);
}

static int
take_document(struct lev_group *g, const bson_t *doc, struct lev_error *err)
{
    struct lev_eval *ev = &g->stage.env->ev;
    bson_value_t key;
    size_t i;

    lev_eval_start(ev, doc);
    if (lev_expr_eval(g->key, ev, &key, err) < 0 ||
        (g->bounds != NULL && find_bucket(g, &key, err) < 0))
    {
        return -1;
    }
    if (key.value_type == BSON_TYPE_EOD) {
        key = lev_value_null;
    }
    return group_of(g, &key, &i, err) < 0 ? -1 : step(g, i, err);
}

static int
compare_keys(const void *a, const void *b, void *ctx)
{
    const struct lev_group *g = ctx;

    return lev_value_compare(&g->keys[*(const size_t *)a],
                             &g->keys[*(const size_t *)b]);
}

static int
fill(struct lev_group *g, struct lev_error *err)
{
    bson_t doc;
    int rc;

    while ((rc = lev_stage_pull(&g->stage, &doc, err)) > 0) {
        if (take_document(g, &doc, err) < 0) {
            return -1;
        }
    }
    if (rc < 0) {
        return -1;
    }
    g->order = calloc(g->n + 1, sizeof(*g->order));
    if (g->order == NULL) {
        return lev_error_nomem(err, "$group");
    }
    for (size_t i = 0; i < g->n; i++) {
        g->order[i] = i;
    }
    if (g->bounds != NULL) {
        qsort_r(g->order, g->n, sizeof(*g->order), compare_keys, g);
    }
    g->filled = true;
    return 0;
}

/* Giving. */

static int
make(struct lev_group *g, size_t i, struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    struct lev_arena *arena = &g->stage.env->ev.arena;

    lev_build_init(&b);
    lev_eval_start(&g->stage.env->ev, NULL);
    if (lev_build_set(&b, "_id", &g->keys[i], err) < 0) {
        return -1;
    }
    for (size_t k = 0; k < g->n_fields; k++) {
        bson_value_t v;

        if (lev_accum_finish(&g->accums[i * g->n_fields + k], arena, &v, err) <
                0 ||
            lev_build_set(&b, g->fields[k].name, &v, err) < 0)
        {
            return -1;
        }
    }
    lev_buf_clear(&g->out);
    lev_buf_append(&g->out, bson_get_data(&b.doc), b.doc.len);
    return lev_buf_check(&g->out, "$group", err);
}

static int
group_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct lev_group *g = (struct lev_group *)s;

    if (!g->filled && fill(g, err) < 0) {
        return -1;
    }
    if (g->given == g->n) {
        return 0;
    }
    if (make(g, g->order[g->given++], err) < 0) {
        return -1;
    }
    return lev_stage_give(&g->out, doc, err);
}

static const struct lev_stage_ops group_ops = {group_next, group_destroy};

/* Compiling. */

struct lev_group *
lev_group_add(struct lev_chain *chain, const bson_value_t *key,
              struct lev_error *err)
{
    struct lev_group *g =
        (struct lev_group *)lev_stage_add(chain, &group_ops, sizeof(*g), err);

    if (g == NULL) {
        return NULL;
    }
    g->key = lev_expr_compile(key, err);
    return g->key == NULL ? NULL : g; /* the chain owns it */
}

int
lev_group_bounds(struct lev_group *g, const bson_value_t *bounds, size_t n,
                 const bson_value_t *fallback, struct lev_error *err)
{
    g->bounds = calloc(n, sizeof(*g->bounds));
    if (g->bounds == NULL) {
        return lev_error_nomem(err, "$bucket");
    }
    for (; g->n_bounds < n; g->n_bounds++) {
        bson_value_copy(&bounds[g->n_bounds], &g->bounds[g->n_bounds]);
    }
    if (fallback->value_type != BSON_TYPE_EOD) {
        bson_value_copy(fallback, &g->fallback);
    }
    return 0;
}

static int
unknown_accumulator(const char *name, struct lev_error *err)
{
    static const char *const later[] = {
        "$accumulator", "$bottom", "$bottomN",    "$firstN", "$lastN", "$maxN",
        "$median",      "$minN",   "$percentile", "$top",    "$topN",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(later); i++) {
        if (strcmp(name, later[i]) == 0) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "the embedded store has no %s in $group; "
                                 "compute it in Python",
                                 name);
        }
    }
    return lev_error_set(err, LEV_E_QUERY, 15952,
                         "$group: '%s' is no accumulator", name);
}

/* Of an array with one element the element. */
static int
take_operand(const char *name, bson_value_t *v, struct lev_error *err)
{
    bson_iter_t it;
    bson_t list;

    if (v->value_type != BSON_TYPE_ARRAY || !lev_value_open(v, &list)) {
        return 0;
    }
    if (bson_count_keys(&list) != 1 || !bson_iter_init(&it, &list) ||
        !bson_iter_next(&it))
    {
        return lev_error_set(err, LEV_E_QUERY, 40237,
                             "$group: %s takes one expression", name);
    }
    *v = lev_value_of(&it);
    return 0;
}

static int
compile_accumulator(struct field *f, const char *name, bson_value_t *v,
                    struct lev_error *err)
{
    bson_t doc;

    f->op = lev_accum_find(name);
    if (f->op == NULL) {
        return unknown_accumulator(name, err);
    }
    if (f->op->no_argument) {
        return v->value_type == BSON_TYPE_DOCUMENT &&
                       lev_value_open(v, &doc) && bson_empty(&doc)
                   ? 0
                   : lev_error_set(err, LEV_E_QUERY, 14, "$group: %s takes {}",
                                   name);
    }
    if (take_operand(name, v, err) < 0) {
        return -1;
    }
    f->expr = lev_expr_compile(v, err);
    return f->expr == NULL ? lev_error_wrap(err, "$group '%s'", f->name) : 0;
}

static int
check_field_name(const char *field, struct lev_error *err)
{
    if (strchr(field, '.') != NULL) {
        return lev_error_set(err, LEV_E_QUERY, 40235,
                             "$group: the field '%s' holds a '.'", field);
    }
    if (strcmp(field, "_id") == 0) {
        return lev_error_set(err, LEV_E_QUERY, 15948,
                             "$group: _id is the key, and there once");
    }
    return field[0] != '$'
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 40236,
                               "$group: the field '%s' begins with '$'",
                               field);
}

int
lev_group_field(struct lev_group *g, const char *field,
                const bson_value_t *spec, struct lev_error *err)
{
    struct field *fields;
    bson_value_t v;
    bson_iter_t it;
    bson_t doc;

    if (check_field_name(field, err) < 0) {
        return -1;
    }
    if (spec->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_open(spec, &doc) || bson_empty(&doc))
    {
        return lev_error_set(err, LEV_E_QUERY, 40234,
                             "$group: '%s' needs {accumulator: expression}",
                             field);
    }
    if (bson_count_keys(&doc) != 1 || !bson_iter_init(&it, &doc) ||
        !bson_iter_next(&it))
    {
        return lev_error_set(err, LEV_E_QUERY, 40238,
                             "$group: '%s' needs one accumulator", field);
    }
    fields = realloc(g->fields, (g->n_fields + 1) * sizeof(*fields));
    if (fields == NULL) {
        return lev_error_nomem(err, "$group");
    }
    g->fields = fields;
    fields[g->n_fields] = (struct field){.name = strdup(field)};
    if (fields[g->n_fields].name == NULL) {
        return lev_error_nomem(err, "$group");
    }
    v = lev_value_of(&it);
    return compile_accumulator(&fields[g->n_fields++], bson_iter_key(&it), &v,
                               err);
}

int
lev_stage_group(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    struct lev_group *g;
    bson_value_t key;
    bson_iter_t it;
    bson_t doc;

    if (lev_stage_object(name, spec, 15947, err) < 0 ||
        !lev_value_open(spec, &doc))
    {
        return -1;
    }
    key = lev_value_field(&doc, "_id");
    if (key.value_type == BSON_TYPE_EOD) {
        return lev_stage_bad(name, 15955, "needs an _id to group by", err);
    }
    g = lev_group_add(chain, &key, err);
    for (bool ok = g != NULL && bson_iter_init(&it, &doc);
         ok && bson_iter_next(&it);)
    {
        bson_value_t v = lev_value_of(&it);

        if (strcmp(bson_iter_key(&it), "_id") != 0 &&
            lev_group_field(g, bson_iter_key(&it), &v, err) < 0)
        {
            return -1;
        }
    }
    return g == NULL ? -1 : 0;
}
