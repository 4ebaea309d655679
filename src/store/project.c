#include "project.h"

#include <string.h>

#include "match.h"
#include "number.h"
#include "path.h"
#include "predicate.h"
#include "value.h"

/* A projection is a tree of field names. Its leaves say what becomes of a
 * field; `keep` says what becomes of fields that it does not name. */
enum what {
    SUBTREE,
    INCLUDE,
    EXCLUDE,
    SLICE,
    ELEM_MATCH, /* top level only */
    POSITIONAL,
};

struct field {
    char *name;
    enum what what;
    struct field *kids, *last, *next; /* in the projection's order */
    int64_t skip, limit;              /* SLICE; skip < 0: from the end */
    struct lev_match *elem;           /* ELEM_MATCH */
};

struct lev_project {
    struct field root;
    bool keep;       /* an exclusion: what is not named stays */
    bool keep_id;    /* `_id` stays though it is not named */
    bool positional; /* somewhere */
};

static void
fields_free(struct field *f)
{
    struct field *next;

    for (; f != NULL; f = next) {
        next = f->next;
        fields_free(f->kids);
        lev_match_destroy(f->elem);
        free(f->name);
        free(f);
    }
}

void
lev_project_destroy(struct lev_project *p)
{
    if (p != NULL) {
        fields_free(p->root.kids);
        free(p);
    }
}

static struct field *
field_find(const struct field *parent, const char *name)
{
    struct field *f = parent->kids;

    while (f != NULL && strcmp(f->name, name) != 0) {
        f = f->next;
    }
    return f;
}

static struct field *
field_add(struct field *parent, const char *name, struct lev_error *err)
{
    struct field *f = calloc(1, sizeof(*f));

    if (f == NULL || (f->name = strdup(name)) == NULL) {
        free(f);
        lev_error_nomem(err, "projection");
        return NULL;
    }
    *(parent->last == NULL ? &parent->kids : &parent->last->next) = f;
    parent->last = f;
    return f;
}

enum mode { UNDECIDED, INCLUSION, EXCLUSION };

/* What the fields seen so far make of the whole. */
struct parse {
    struct lev_project *p;
    enum mode mode;
    bool id_included, id_excluded, slice, elem_match;
};

static int
check_path(const struct lev_path *path, struct lev_error *err)
{
    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;

        if (name[0] == '\0') {
            int code = path->n == 1 ? 40352 : i == path->n - 1 ? 40353 : 15998;

            return lev_error_set(err, LEV_E_QUERY, code,
                                 "projection '%s': a field's name is empty",
                                 path->text);
        }
        if (name[0] == '$') {
            return lev_error_set(err, LEV_E_QUERY, 16410,
                                 "projection '%s': a field's name cannot "
                                 "begin with '$' here",
                                 path->text);
        }
    }
    return 0;
}

/* The leaf for `path`, made with the fields above it. */
static struct field *
place(struct parse *ps, const struct lev_path *path, struct lev_error *err)
{
    struct field *at = &ps->p->root;

    for (size_t i = 0; i < path->n; i++) {
        bool leaf = i == path->n - 1;
        struct field *f = field_find(at, path->part[i].name);

        if (f != NULL && (leaf || f->what != SUBTREE)) {
            lev_error_set(err, LEV_E_QUERY, 31249,
                          "projection '%s' collides with another of its "
                          "fields",
                          path->text);
            return NULL;
        }
        if (f == NULL && (f = field_add(at, path->part[i].name, err)) == NULL)
        {
            return NULL;
        }
        at = f;
    }
    return at;
}

static int
decide(struct parse *ps, const char *field, bool include,
       struct lev_error *err)
{
    enum mode mode = include ? INCLUSION : EXCLUSION;

    if (ps->mode != UNDECIDED && ps->mode != mode) {
        return lev_error_set(
            err, LEV_E_QUERY, include ? 31253 : 31254,
            "projection: '%s' %s, the fields before it the other way round; "
            "either name what is wanted or what is not (only _id may differ)",
            field, include ? "is included" : "is excluded");
    }
    ps->mode = mode;
    return 0;
}

static int
parse_flag(struct parse *ps, const struct lev_path *path, bool include,
           struct lev_error *err)
{
    struct field *f = place(ps, path, err);

    if (f == NULL) {
        return -1;
    }
    f->what = include ? INCLUDE : EXCLUDE;
    if (strcmp(path->text, "_id") == 0) {
        *(include ? &ps->id_included : &ps->id_excluded) = true;
        return 0;
    }
    return decide(ps, path->text, include, err);
}

static int
parse_positional(struct parse *ps, const char *name, bool include,
                 struct lev_error *err)
{
    struct lev_path path;
    struct field *f = NULL;

    if (!include) {
        return lev_error_set(err, LEV_E_QUERY, 31395,
                             "projection '%s.$' cannot be excluded", name);
    }
    if (ps->p->positional) {
        return lev_error_set(err, LEV_E_QUERY, 31276,
                             "projection '%s.$': only one field can have a $",
                             name);
    }
    if (ps->slice || ps->elem_match) {
        return lev_error_set(err, LEV_E_QUERY, ps->slice ? 31256 : 31255,
                             "projection '%s.$' cannot go with $slice or "
                             "$elemMatch",
                             name);
    }
    if (lev_path_parse(name, &path, err) < 0) {
        return -1;
    }
    if (check_path(&path, err) == 0) {
        f = place(ps, &path, err);
    }
    lev_path_deinit(&path);
    if (f == NULL) {
        return -1;
    }
    f->what = POSITIONAL;
    ps->p->positional = true;
    return decide(ps, name, true, err);
}

static int
parse_slice_pair(struct field *f, const char *name, const bson_value_t *v,
                 struct lev_error *err)
{
    int64_t pair[3] = {0};
    size_t n = 0;
    bson_iter_t it;

    for (bool ok = lev_value_iter(v, &it); ok && bson_iter_next(&it); n++) {
        bson_value_t each = lev_value_of(&it);

        if (n == 2 || !lev_number_is(&each) ||
            !lev_number_truncate(&each, &pair[n])) {
            n = 0;
            break;
        }
    }
    if (n != 2 || pair[1] <= 0) {
        return lev_error_set(err, LEV_E_QUERY, 28724,
                             "projection '%s': $slice needs a number or "
                             "[skip, limit] with a limit above 0",
                             name);
    }
    f->skip = pair[0];
    f->limit = pair[1];
    return 0;
}

static int
parse_slice(struct parse *ps, const struct lev_path *path,
            const bson_value_t *v, struct lev_error *err)
{
    struct field *f = place(ps, path, err);
    int64_t n;

    if (f == NULL) {
        return -1;
    }
    if (ps->p->positional) {
        return lev_error_set(err, LEV_E_QUERY, 31256,
                             "projection '%s': $slice cannot go with a "
                             "positional $",
                             path->text);
    }
    f->what = SLICE;
    ps->slice = true;
    if (v->value_type == BSON_TYPE_ARRAY) {
        return parse_slice_pair(f, path->text, v, err);
    }
    if (!lev_number_is(v) || !lev_number_truncate(v, &n)) {
        return lev_error_set(err, LEV_E_QUERY, 28667,
                             "projection '%s': $slice needs a number or an "
                             "array, not %s",
                             path->text, lev_value_type_name(v->value_type));
    }
    if (n < 0) {
        f->skip = n;
        f->limit = n == INT64_MIN ? INT64_MAX : -n;
    }
    else {
        f->limit = n;
    }
    return 0;
}

static int
parse_elem_match(struct parse *ps, const struct lev_path *path,
                 const bson_value_t *v, struct lev_error *err)
{
    struct field *f = NULL;

    if (v->value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(err, LEV_E_QUERY, 31274,
                             "projection '%s': $elemMatch needs an object, "
                             "not %s",
                             path->text, lev_value_type_name(v->value_type));
    }
    if (path->n > 1 || ps->p->positional) {
        return lev_error_set(err, LEV_E_QUERY, path->n > 1 ? 31275 : 31255,
                             "projection '%s': $elemMatch is for top-level "
                             "fields, and not beside a positional $",
                             path->text);
    }
    f = place(ps, path, err);
    if (f == NULL) {
        return -1;
    }
    f->what = ELEM_MATCH;
    f->elem = lev_match_compile_elem(v, err);
    ps->elem_match = true;
    return f->elem == NULL ? -1 : 0;
}

static int
unsupported(const char *name, const char *what, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                         "projection '%s': the embedded store computes no "
                         "fields (%s); compute them in Python",
                         name, what);
}

static int parse_fields(struct parse *ps, const char *prefix,
                        const bson_value_t *doc, int depth,
                        struct lev_error *err);

/* `{field: {…}}`: an operator or further fields. */
static int
parse_object(struct parse *ps, const struct lev_path *path,
             const bson_value_t *v, int depth, struct lev_error *err)
{
    bson_iter_t it;
    bson_value_t operand;

    if (!lev_value_iter(v, &it) || !bson_iter_next(&it)) {
        return lev_error_set(err, LEV_E_QUERY, 51270,
                             "projection '%s': an empty object says nothing",
                             path->text);
    }
    if (bson_iter_key(&it)[0] != '$') {
        return parse_fields(ps, path->text, v, depth + 1, err);
    }
    operand = lev_value_of(&it);
    if (strcmp(bson_iter_key(&it), "$slice") == 0) {
        return parse_slice(ps, path, &operand, err);
    }
    if (strcmp(bson_iter_key(&it), "$elemMatch") == 0) {
        return parse_elem_match(ps, path, &operand, err);
    }
    return unsupported(path->text, bson_iter_key(&it), err);
}

static int
parse_value(struct parse *ps, const struct lev_path *path,
            const bson_value_t *v, int depth, struct lev_error *err)
{
    if (check_path(path, err) < 0) {
        return -1;
    }
    if (v->value_type == BSON_TYPE_BOOL) {
        return parse_flag(ps, path, v->value.v_bool, err);
    }
    if (lev_number_is(v)) {
        return parse_flag(ps, path, lev_number_truth(v), err);
    }
    return v->value_type == BSON_TYPE_DOCUMENT
               ? parse_object(ps, path, v, depth, err)
               : unsupported(path->text, lev_value_type_name(v->value_type),
                             err);
}

static int
parse_field(struct parse *ps, const char *name, const bson_value_t *v,
            int depth, struct lev_error *err)
{
    size_t len = strlen(name);
    struct lev_path path;
    int rc;

    if (len > 2 && strcmp(name + len - 2, ".$") == 0) {
        _cleanup_free_ char *array = strndup(name, len - 2);
        bool yes = v->value_type == BSON_TYPE_BOOL
                       ? v->value.v_bool
                       : !lev_number_is(v) || lev_number_truth(v);

        return array == NULL ? lev_error_nomem(err, "projection")
                             : parse_positional(ps, array, yes, err);
    }
    if (lev_path_parse(name, &path, err) < 0) {
        return -1;
    }
    rc = parse_value(ps, &path, v, depth, err);
    lev_path_deinit(&path);
    return rc;
}

static int
parse_fields(struct parse *ps, const char *prefix, const bson_value_t *doc,
             int depth, struct lev_error *err)
{
    bson_iter_t it;

    if (depth > LEV_VALUE_MAX_DEPTH) {
        return lev_error_set(err, LEV_E_QUERY, 15,
                             "projection: nested deeper than %d levels",
                             LEV_VALUE_MAX_DEPTH);
    }
    for (bool ok = lev_value_iter(doc, &it); ok && bson_iter_next(&it);) {
        _cleanup_buf_ struct lev_buf name = {0};
        bson_value_t v = lev_value_of(&it);

        if (prefix != NULL) {
            lev_buf_printf(&name, "%s.", prefix);
        }
        lev_buf_puts(&name, bson_iter_key(&it));
        if (lev_buf_check(&name, "projection", err) < 0 ||
            parse_field(ps, lev_buf_text(&name), &v, depth, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* MongoDB's rule where no field is plainly in or out. */
static void
settle(struct parse *ps)
{
    if (ps->mode == UNDECIDED) {
        bool out = ps->id_excluded ||
                   (!ps->elem_match && (ps->slice || !ps->id_included));

        ps->mode = out ? EXCLUSION : INCLUSION;
    }
    ps->p->keep = ps->mode == EXCLUSION;
    ps->p->keep_id = !ps->id_excluded;
}

struct lev_project *
lev_project_compile(const bson_t *projection, struct lev_error *err)
{
    _cleanup_project_ struct lev_project *p = calloc(1, sizeof(*p));
    struct parse ps = {.p = p};
    bson_value_t v;

    if (p == NULL) {
        lev_error_nomem(err, "projection");
        return NULL;
    }
    if (projection != NULL) {
        v = lev_value_doc(projection);
        if (lev_value_check(projection, err) < 0 ||
            parse_fields(&ps, NULL, &v, 0, err) < 0)
        {
            return NULL;
        }
    }
    settle(&ps);
    return lev_steal(p);
}

/* Applying. */

struct apply {
    const struct lev_project *p;
    long index;
    struct lev_error *err;
};

static int apply_fields(const struct apply *a, const struct field *parent,
                        bson_iter_t *it, bson_t *out);

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
append_slice(bson_t *out, const struct field *f, const bson_iter_t *array)
{
    int64_t skip = f->skip;

    if (skip < 0) {
        skip += count(array);
    }
    append_part(out, f->name, array, skip > 0 ? skip : 0, f->limit);
}

static int
append_positional(const struct apply *a, bson_t *out, const struct field *f,
                  const bson_iter_t *array)
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

static int apply_nested(const struct apply *a, const struct field *f,
                        const char *key, const bson_iter_t *it, bson_t *out);

static int
apply_array(const struct apply *a, const struct field *f, bson_iter_t *it,
            bson_t *out)
{
    uint32_t n = 0;

    while (bson_iter_next(it)) {
        char text[16];
        const char *key;

        if (BSON_ITER_HOLDS_DOCUMENT(it) || BSON_ITER_HOLDS_ARRAY(it)) {
            bson_uint32_to_string(n++, &key, text, sizeof(text));
            if (apply_nested(a, f, key, it, out) < 0) {
                return -1;
            }
        }
        else if (a->p->keep) {
            append_numbered(out, n++, it);
        }
    }
    return 0;
}

/* The object or array that `it` stands on, as the fields below `f` say. */
static int
apply_nested(const struct apply *a, const struct field *f, const char *key,
             const bson_iter_t *it, bson_t *out)
{
    bson_iter_t below;
    bson_t part;
    int rc;

    if (!bson_iter_recurse(it, &below)) {
        return lev_error_set(a->err, LEV_E_STORE, 0,
                             "field '%s' of a document is damaged", key);
    }
    if (BSON_ITER_HOLDS_ARRAY(it)) {
        bson_append_array_begin(out, key, -1, &part);
        rc = apply_array(a, f, &below, &part);
        bson_append_array_end(out, &part);
    }
    else {
        bson_append_document_begin(out, key, -1, &part);
        rc = apply_fields(a, f, &below, &part);
        bson_append_document_end(out, &part);
    }
    return rc;
}

static int
apply_field(const struct apply *a, const struct field *f, bson_iter_t *it,
            bson_t *out)
{
    bool array = BSON_ITER_HOLDS_ARRAY(it);

    switch (f->what) {
    case SUBTREE:
        if (array || BSON_ITER_HOLDS_DOCUMENT(it)) {
            return apply_nested(a, f, f->name, it, out);
        }
        if (a->p->keep) {
            bson_append_iter(out, f->name, -1, it);
        }
        return 0;
    case EXCLUDE:
    case ELEM_MATCH: /* comes last */
        return 0;
    case SLICE:
        if (array) {
            append_slice(out, f, it);
            return 0;
        }
        break;
    case POSITIONAL:
        if (array) {
            return append_positional(a, out, f, it);
        }
        break;
    case INCLUDE:
        break;
    }
    bson_append_iter(out, f->name, -1, it);
    return 0;
}

static int
apply_fields(const struct apply *a, const struct field *parent,
             bson_iter_t *it, bson_t *out)
{
    bool top = parent == &a->p->root;

    while (bson_iter_next(it)) {
        const char *key = bson_iter_key(it);
        const struct field *f = field_find(parent, key);

        if (top && strcmp(key, LEV_RESERVED_FIELD) == 0) {
            continue;
        }
        if (f != NULL) {
            if (apply_field(a, f, it, out) < 0) {
                return -1;
            }
        }
        else if (a->p->keep ||
                 (top && a->p->keep_id && strcmp(key, "_id") == 0)) {
            bson_append_iter(out, key, (int)bson_iter_key_len(it), it);
        }
    }
    return 0;
}

/* $elemMatch makes new fields, which come behind those of the document. */
static int
apply_elem_matches(const struct apply *a, const bson_t *doc, bson_t *out)
{
    for (const struct field *f = a->p->root.kids; f != NULL; f = f->next) {
        bson_iter_t it;
        bson_value_t v;
        long index;
        int rc;

        if (f->what != ELEM_MATCH || !bson_iter_init_find(&it, doc, f->name)) {
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

int
lev_project_apply(const struct lev_project *p, const bson_t *doc, long index,
                  struct lev_buf *out, struct lev_error *err)
{
    struct apply a = {p, index, err};
    bson_t made = BSON_INITIALIZER;
    bson_iter_t it;
    int rc = 0;

    if (p->keep && p->root.kids == NULL &&
        !bson_has_field(doc, LEV_RESERVED_FIELD))
    {
        return apply_whole(doc, out, err);
    }
    if (bson_iter_init(&it, doc)) {
        rc = apply_fields(&a, &p->root, &it, &made);
    }
    if (rc == 0) {
        rc = apply_elem_matches(&a, doc, &made);
    }
    if (rc == 0) {
        rc = apply_whole(&made, out, err);
    }
    bson_destroy(&made);
    return rc;
}
