#include "project_tree.h"

#include <string.h>

#include "value.h"

struct apply {
    const struct lev_project *p;
    struct lev_eval *ev;
    long index;
    struct lev_error *err;
};

static int apply_fields(const struct apply *a,
                        const struct lev_project_field *parent,
                        const bson_t *doc, bson_t *out);

static int
check_size(const struct apply *a, const bson_t *out)
{
    return out->len <= LEV_RESULT_MAX
               ? 0
               : lev_error_set(a->err, LEV_E_QUERY, 10334,
                               "projection: a document of more than %u MiB",
                               LEV_RESULT_MAX >> 20);
}

/* Array elements are numbered anew as they are kept. */
static void
append_numbered(bson_t *out, uint32_t n, bson_iter_t *it)
{
    char text[16];
    const char *key;
    size_t len = bson_uint32_to_string(n, &key, text, sizeof(text));

    bson_append_iter(out, key, (int)len, it);
}

static int64_t
count(const bson_iter_t *array)
{
    bson_iter_t it;
    int64_t n = 0;

    for (bool ok = bson_iter_recurse(array, &it); ok && bson_iter_next(&it);) {
        n++;
    }
    return n;
}

/* Elements from `skip` on, `limit` at most. */
static void
append_part(bson_t *out, const char *key, const bson_iter_t *array,
            int64_t skip, int64_t limit)
{
    bson_iter_t it;
    bson_t part;
    uint32_t n = 0;

    bson_append_array_begin(out, key, -1, &part);
    for (bool ok = bson_iter_recurse(array, &it);
         ok && n < limit && bson_iter_next(&it);)
    {
        if (skip-- <= 0) {
            append_numbered(&part, n++, &it);
        }
    }
    bson_append_array_end(out, &part);
}

static void
append_slice(bson_t *out, const struct lev_project_field *f,
             const bson_iter_t *array)
{
    int64_t skip = f->skip;

    if (skip < 0) {
        skip += count(array);
    }
    append_part(out, f->name, array, skip > 0 ? skip : 0, f->limit);
}

static int
append_positional(const struct apply *a, bson_t *out,
                  const struct lev_project_field *f, const bson_iter_t *array)
{
    if (a->index < 0 || a->index >= count(array)) {
        return lev_error_set(a->err, LEV_E_QUERY, a->index < 0 ? 51246 : 51247,
                             "projection '%s.$': the query matches through no "
                             "element of this array",
                             f->name);
    }
    append_part(out, f->name, array, a->index, 1);
    return 0;
}

static int apply_nested(const struct apply *a,
                        const struct lev_project_field *f, const char *key,
                        const bson_iter_t *it, bson_t *out);

static int
compute(const struct apply *a, const struct lev_project_field *f, bson_t *out)
{
    bson_value_t v;

    if (lev_expr_eval(f->expr, a->ev, &v, a->err) < 0) {
        return -1;
    }
    if (v.value_type != BSON_TYPE_EOD) {
        bson_append_value(out, f->name, -1, &v);
    }
    return check_size(a, out);
}

/* What the fields below `f` make where there is no object. */
static int
apply_nothing(const struct apply *a, const struct lev_project_field *f,
              const char *key, bson_t *out)
{
    static const bson_t nothing = BSON_INITIALIZER;
    bson_t part;
    int rc;

    bson_append_document_begin(out, key, -1, &part);
    rc = apply_fields(a, f, &nothing, &part);
    bson_append_document_end(out, &part);
    return rc;
}

static int
apply_array(const struct apply *a, const struct lev_project_field *f,
            bson_iter_t *it, bson_t *out)
{
    uint32_t n = 0;

    while (bson_iter_next(it)) {
        char text[16];
        const char *key;
        int rc = 0;

        bson_uint32_to_string(n, &key, text, sizeof(text));
        if (BSON_ITER_HOLDS_DOCUMENT(it) || BSON_ITER_HOLDS_ARRAY(it)) {
            rc = apply_nested(a, f, key, it, out);
        }
        else if (f->computes) {
            rc = apply_nothing(a, f, key, out);
        }
        else if (a->p->keep) {
            append_numbered(out, n, it);
        }
        else {
            continue;
        }
        n++;
        if (rc < 0 || check_size(a, out) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The object or array that `it` stands on, as the fields below `f` say. */
static int
apply_nested(const struct apply *a, const struct lev_project_field *f,
             const char *key, const bson_iter_t *it, bson_t *out)
{
    bson_value_t v = *bson_iter_value((bson_iter_t *)it);
    bson_iter_t below;
    bson_t part, doc;
    int rc;

    if (!lev_value_open(&v, &doc) || !bson_iter_init(&below, &doc)) {
        return lev_error_set(a->err, LEV_E_STORE, 0,
                             "field '%s' of a document is damaged", key);
    }
    if (v.value_type == BSON_TYPE_ARRAY) {
        bson_append_array_begin(out, key, -1, &part);
        rc = apply_array(a, f, &below, &part);
        bson_append_array_end(out, &part);
    }
    else {
        bson_append_document_begin(out, key, -1, &part);
        rc = apply_fields(a, f, &doc, &part);
        bson_append_document_end(out, &part);
    }
    return rc;
}

static int
apply_field(const struct apply *a, const struct lev_project_field *f,
            bson_iter_t *it, bson_t *out)
{
    bool array = BSON_ITER_HOLDS_ARRAY(it);

    switch (f->what) {
    case LEV_PROJECT_SUBTREE:
        if (array || BSON_ITER_HOLDS_DOCUMENT(it)) {
            return apply_nested(a, f, f->name, it, out);
        }
        if (f->computes) {
            return apply_nothing(a, f, f->name, out);
        }
        if (a->p->keep) {
            bson_append_iter(out, f->name, -1, it);
        }
        return 0;
    case LEV_PROJECT_EXCLUDE:
    case LEV_PROJECT_ELEM_MATCH: /* comes last */
        return 0;
    case LEV_PROJECT_COMPUTE: /* comes last, unless it takes a place */
        return a->p->keep ? compute(a, f, out) : 0;
    case LEV_PROJECT_SLICE:
        if (array) {
            append_slice(out, f, it);
            return 0;
        }
        break;
    case LEV_PROJECT_POSITIONAL:
        if (array) {
            return append_positional(a, out, f, it);
        }
        break;
    case LEV_PROJECT_INCLUDE:
        break;
    }
    bson_append_iter(out, f->name, -1, it);
    return 0;
}

/* Computed fields that have not been in `doc`. */
static int
apply_new_fields(const struct apply *a, const struct lev_project_field *parent,
                 const bson_t *doc, bson_t *out)
{
    for (const struct lev_project_field *f = parent->kids; f != NULL;
         f = f->next) {
        bool leaf = f->what == LEV_PROJECT_COMPUTE;
        bool done = leaf && !a->p->keep ? false : bson_has_field(doc, f->name);

        if (f->computes && !done &&
            (leaf ? compute(a, f, out) : apply_nothing(a, f, f->name, out)) <
                0)
        {
            return -1;
        }
    }
    return 0;
}

static int
apply_fields(const struct apply *a, const struct lev_project_field *parent,
             const bson_t *doc, bson_t *out)
{
    bool top = parent == &a->p->root;
    bson_iter_t it;

    for (bool ok = bson_iter_init(&it, doc); ok && bson_iter_next(&it);) {
        const char *key = bson_iter_key(&it);
        const struct lev_project_field *f = lev_project_find(parent, key);

        if (top && strcmp(key, LEV_RESERVED_FIELD) == 0) {
            continue;
        }
        if (f != NULL) {
            if (apply_field(a, f, &it, out) < 0) {
                return -1;
            }
        }
        else if (a->p->keep ||
                 (top && a->p->keep_id && strcmp(key, "_id") == 0)) {
            bson_append_iter(out, key, (int)bson_iter_key_len(&it), &it);
        }
    }
    return parent->computes ? apply_new_fields(a, parent, doc, out) : 0;
}

/* $elemMatch makes new fields, which come behind those of the document. */
static int
apply_elem_matches(const struct apply *a, const bson_t *doc, bson_t *out)
{
    for (const struct lev_project_field *f = a->p->root.kids; f != NULL;
         f = f->next)
    {
        bson_iter_t it;
        bson_value_t v;
        long index;
        int rc;

        if (f->what != LEV_PROJECT_ELEM_MATCH ||
            !bson_iter_init_find(&it, doc, f->name))
        {
            continue;
        }
        v = lev_value_of(&it);
        rc = lev_match_elem(f->elem, &v, &index, a->err);
        if (rc < 0) {
            return -1;
        }
        if (rc > 0) {
            append_part(out, f->name, &it, index, 1);
        }
    }
    return 0;
}

static int
apply_whole(const bson_t *doc, struct lev_buf *out, struct lev_error *err)
{
    lev_buf_append(out, bson_get_data(doc), doc->len);
    return lev_buf_check(out, "document", err);
}

static int
apply(const struct apply *a, const bson_t *doc, struct lev_buf *out)
{
    bson_t made = BSON_INITIALIZER;
    int rc = apply_fields(a, &a->p->root, doc, &made);

    if (rc == 0) {
        rc = apply_elem_matches(a, doc, &made);
    }
    if (rc == 0 && a->p->root.computes) { /* it may have grown too deep */
        rc = lev_value_check(&made, a->err);
    }
    if (rc == 0) {
        rc = apply_whole(&made, out, a->err);
    }
    bson_destroy(&made);
    return rc;
}

/* Expressions see the document without the reserved field. */
static int
apply_computing(struct apply *a, const bson_t *doc, struct lev_buf *out)
{
    bson_t visible = BSON_INITIALIZER;
    int rc;

    if (!bson_has_field(doc, LEV_RESERVED_FIELD)) {
        lev_eval_start(a->ev, doc);
        return apply(a, doc, out);
    }
    lev_value_copy_except(doc, LEV_RESERVED_FIELD, &visible);
    lev_eval_start(a->ev, &visible);
    rc = apply(a, &visible, out);
    bson_destroy(&visible);
    return rc;
}

int
lev_project_apply(const struct lev_project *p, const bson_t *doc, long index,
                  struct lev_eval *ev, struct lev_buf *out,
                  struct lev_error *err)
{
    _cleanup_eval_ struct lev_eval own = {0};
    struct apply a = {p, ev == NULL ? &own : ev, index, err};

    if (p->keep && p->root.kids == NULL &&
        !bson_has_field(doc, LEV_RESERVED_FIELD))
    {
        return apply_whole(doc, out, err);
    }
    return p->root.computes ? apply_computing(&a, doc, out)
                            : apply(&a, doc, out);
}
