#include "update_tree.h"

#include <string.h>

#include "update.h"
#include "value.h"

struct apply {
    const bson_t *doc; /* as it was */
    bool insert;       /* an upsert's new document */
    struct lev_error *err;
};

static int apply_step(const struct apply *a, const struct lev_step *s,
                      const char *key, const bson_value_t *old, bson_t *out);

static bool
is_active(const struct apply *a, const struct lev_step *s)
{
    return a->insert || !s->op->insert_only;
}

/* Whether `s` makes something where there is nothing. */
static bool
creates(const struct apply *a, const struct lev_step *s)
{
    if (s->op != NULL) {
        return s->op->creates && is_active(a, s) &&
               (s->op->ready == NULL || s->op->ready(s->data, a->doc));
    }
    for (size_t i = 0; i < s->n_kids; i++) {
        if (creates(a, s->kids[i])) {
            return true;
        }
    }
    return false;
}

static bool
is_strict(const struct lev_step *s)
{
    bool strict = s->op != NULL && s->op->strict;

    for (size_t i = 0; i < s->n_kids && !strict; i++) {
        strict = is_strict(s->kids[i]);
    }
    return strict;
}

static int
apply_new_field(const struct apply *a, const struct lev_step *s, bson_t *out)
{
    if (s->name[0] == '$' && creates(a, s)) {
        return lev_error_set(a->err, LEV_E_QUERY, 52,
                             "update: the field '%s' begins with '$'",
                             s->name);
    }
    return apply_step(a, s, s->name, &lev_value_missing, out);
}

/* `seen`: the kids whose fields have been there. */
static int
apply_old_fields(const struct apply *a, const struct lev_step *parent,
                 const bson_t *old, uint8_t *seen, bson_t *out)
{
    bson_iter_t it;

    for (bool ok = bson_iter_init(&it, old); ok && bson_iter_next(&it);) {
        ptrdiff_t k = lev_step_find(parent, bson_iter_key(&it));
        bson_value_t v;

        if (k < 0) {
            bson_append_iter(out, bson_iter_key(&it),
                             (int)bson_iter_key_len(&it), &it);
            continue;
        }
        seen[k] = 1;
        v = lev_value_of(&it);
        if (apply_step(a, parent->kids[k], parent->kids[k]->name, &v, out) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* `old` NULL: a new object. */
static int
apply_fields(const struct apply *a, const struct lev_step *parent,
             const bson_t *old, bson_t *out)
{
    uint8_t few[64] = {0};
    _cleanup_free_ uint8_t *many = NULL;
    uint8_t *seen = few;

    if (parent->n_kids > sizeof(few)) {
        seen = many = calloc(parent->n_kids, 1);
        if (many == NULL) {
            return lev_error_nomem(a->err, "update");
        }
    }
    if (old != NULL && apply_old_fields(a, parent, old, seen, out) < 0) {
        return -1;
    }
    for (size_t k = 0; k < parent->n_kids; k++) {
        if (!seen[k] && apply_new_field(a, parent->kids[k], out) < 0) {
            return -1;
        }
    }
    return 0;
}

/* An element keeps its place: what would remove it leaves null. */
static int
apply_element(const struct apply *a, const struct lev_step *s, uint32_t n,
              const bson_value_t *old, bson_t *out)
{
    uint32_t before = out->len;
    char text[16];
    const char *key;

    bson_uint32_to_string(n, &key, text, sizeof(text));
    if (s == NULL) {
        bson_append_value(out, key, -1, old);
        return 0;
    }
    if (apply_step(a, s, key, old, out) < 0) {
        return -1;
    }
    if (out->len == before) {
        bson_append_null(out, key, -1);
    }
    return 0;
}

/* Elements behind the end, with null for those in between. */
static int
apply_new_elements(const struct apply *a, const struct lev_step *parent,
                   uint32_t n, bson_t *out)
{
    static const bson_value_t *const null = &lev_value_null;

    for (size_t k = 0; k < parent->n_kids; k++) {
        const struct lev_step *s = parent->kids[k];

        if (s->index < (long)n || !creates(a, s)) {
            continue;
        }
        if (s->index - (long)n > LEV_PADDING_MAX) {
            return lev_error_set(
                a->err, LEV_E_QUERY, 2,
                "update: index %ld is more than %d behind the "
                "end of the array",
                s->index, LEV_PADDING_MAX);
        }
        while ((long)n < s->index) {
            apply_element(a, NULL, n++, null, out);
        }
        if (apply_element(a, s, n++, &lev_value_missing, out) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
not_viable(const struct apply *a, const struct lev_step *s, const char *key,
           const bson_value_t *old)
{
    return lev_error_set(a->err, LEV_E_QUERY, 28,
                         "update: there can be no field '%s' in '%s', which "
                         "is of type %s",
                         s->name, key, lev_value_type_name(old->value_type));
}

/* Whether $[] or $[id] means this element. */
static int
is_meant(const struct lev_step *s, const bson_value_t *v,
         struct lev_error *err)
{
    bson_t doc = BSON_INITIALIZER;
    int rc;

    if (s->filter == NULL) {
        return 1;
    }
    bson_append_value(&doc, s->filter->id, -1, v);
    rc = lev_match_test(s->filter->match, &doc, NULL, NULL, err);
    bson_destroy(&doc);
    return rc;
}

/* The element as each of $[] and $[id] that means it says. */
static int
apply_meant(const struct apply *a, const struct lev_step *parent, uint32_t n,
            const bson_value_t *v, bson_t *out)
{
    _cleanup_step_ struct lev_step *merged = NULL;
    const struct lev_step *meant = NULL;

    for (size_t k = 0; k < parent->n_kids; k++) {
        const struct lev_step *s = parent->kids[k];
        struct lev_step *more;
        int rc = is_meant(s, v, a->err);

        if (rc < 0) {
            return -1;
        }
        if (rc == 0 || meant == NULL) {
            meant = rc == 0 ? meant : s;
            continue;
        }
        more = lev_step_merge(meant, s, a->err);
        if (more == NULL) {
            return -1;
        }
        lev_step_free(merged);
        meant = merged = more;
    }
    return apply_element(a, meant, n, v, out);
}

static int
apply_elements(const struct apply *a, const struct lev_step *parent,
               const bson_value_t *old, bson_t *out)
{
    bson_iter_t it;
    uint32_t n = 0;

    for (bool ok = lev_value_iter(old, &it); ok && bson_iter_next(&it); n++) {
        bson_value_t v = lev_value_of(&it);

        if (apply_meant(a, parent, n, &v, out) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool
has_elements(const struct lev_step *s)
{
    return s->n_kids > 0 && s->kids[0]->kind == LEV_STEP_ELEMENTS;
}

static int
apply_array(const struct apply *a, const struct lev_step *parent,
            const char *key, const bson_value_t *old, bson_t *out)
{
    bson_iter_t it;
    uint32_t n = 0;

    if (has_elements(parent)) {
        return apply_elements(a, parent, old, out);
    }
    for (size_t k = 0; k < parent->n_kids; k++) {
        const struct lev_step *s = parent->kids[k];

        if (s->index < 0 && (creates(a, s) || is_strict(s))) {
            return not_viable(a, s, key, old);
        }
    }
    for (bool ok = lev_value_iter(old, &it); ok && bson_iter_next(&it); n++) {
        bson_value_t v = lev_value_of(&it);
        ptrdiff_t k = lev_step_find_index(parent, n);

        if (apply_element(a, k < 0 ? NULL : parent->kids[k], n, &v, out) < 0) {
            return -1;
        }
    }
    return apply_new_elements(a, parent, n, out);
}

/* What the kids of `s` make of an object, of nothing or of a scalar. */
static int
apply_below(const struct apply *a, const struct lev_step *s, const char *key,
            const bson_value_t *old, bson_t *out)
{
    bool missing = old->value_type == BSON_TYPE_EOD;
    bson_t doc, part;
    int rc;

    if (has_elements(s)) {
        return lev_error_set(
            a->err, LEV_E_QUERY, 2, "update: %s is for arrays; '%s' is %s",
            s->kids[0]->name, key, lev_value_type_name(old->value_type));
    }
    if (!creates(a, s)) {
        if (missing) {
            return 0;
        }
        if (old->value_type != BSON_TYPE_DOCUMENT && !is_strict(s)) {
            bson_append_value(out, key, -1, old);
            return 0;
        }
    }
    if (!missing && !lev_value_open(old, &doc)) {
        return not_viable(a, s->kids[0], key, old);
    }
    bson_append_document_begin(out, key, -1, &part);
    rc = apply_fields(a, s, missing ? NULL : &doc, &part);
    bson_append_document_end(out, &part);
    return rc;
}

static int
apply_step(const struct apply *a, const struct lev_step *s, const char *key,
           const bson_value_t *old, bson_t *out)
{
    struct lev_update_at at = {
        .path = s->path,
        .operand = &s->operand,
        .data = s->data,
        .doc = a->doc,
        .old = old,
        .key = key,
        .out = out,
    };
    bson_t part;
    int rc;

    if (s->op == NULL && old->value_type == BSON_TYPE_ARRAY) {
        bson_append_array_begin(out, key, -1, &part);
        rc = apply_array(a, s, key, old, &part);
        bson_append_array_end(out, &part);
        return rc;
    }
    if (s->op == NULL) {
        return apply_below(a, s, key, old, out);
    }
    if (is_active(a, s)) {
        return s->op->apply(&at, a->err);
    }
    lev_update_keep(&at);
    return 0;
}

int
lev_step_apply(const struct lev_step *root, const bson_t *old, bool insert,
               bson_t *out, struct lev_error *err)
{
    struct apply a = {old, insert, err};

    return apply_fields(&a, root, old, out);
}
