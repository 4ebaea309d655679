#include "project.h"

#include <string.h>

#include "number.h"
#include "path.h"
#include "predicate.h"
#include "project_tree.h"
#include "value.h"

static void
fields_free(struct lev_project_field *f)
{
    struct lev_project_field *next;

    for (; f != NULL; f = next) {
        next = f->next;
        fields_free(f->kids);
        lev_match_destroy(f->elem);
        lev_expr_destroy(f->expr);
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

struct lev_project_field *
lev_project_find(const struct lev_project_field *parent, const char *name)
{
    struct lev_project_field *f = parent->kids;

    while (f != NULL && strcmp(f->name, name) != 0) {
        f = f->next;
    }
    return f;
}

static struct lev_project_field *
field_add(struct lev_project_field *parent, const char *name,
          struct lev_error *err)
{
    struct lev_project_field *f = calloc(1, sizeof(*f));

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
    enum lev_project_kind kind;
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
static struct lev_project_field *
place(struct parse *ps, const struct lev_path *path, struct lev_error *err)
{
    struct lev_project_field *at = &ps->p->root;

    for (size_t i = 0; i < path->n; i++) {
        bool leaf = i == path->n - 1;
        struct lev_project_field *f = lev_project_find(at, path->part[i].name);

        if (f != NULL && (leaf || f->what != LEV_PROJECT_SUBTREE)) {
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
    struct lev_project_field *f = place(ps, path, err);

    if (f == NULL) {
        return -1;
    }
    f->what = include ? LEV_PROJECT_INCLUDE : LEV_PROJECT_EXCLUDE;
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
    struct lev_project_field *f = NULL;

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
    f->what = LEV_PROJECT_POSITIONAL;
    ps->p->positional = true;
    return decide(ps, name, true, err);
}

static int
parse_slice_pair(struct lev_project_field *f, const char *name,
                 const bson_value_t *v, struct lev_error *err)
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
    struct lev_project_field *f = place(ps, path, err);
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
    f->what = LEV_PROJECT_SLICE;
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
    struct lev_project_field *f = NULL;

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
    f->what = LEV_PROJECT_ELEM_MATCH;
    f->elem = lev_match_compile_elem(v, err);
    ps->elem_match = true;
    return f->elem == NULL ? -1 : 0;
}

static void
mark_computing(struct parse *ps, const struct lev_path *path)
{
    struct lev_project_field *f = &ps->p->root;

    f->computes = true;
    for (size_t i = 0; f != NULL && i < path->n; i++) {
        f = lev_project_find(f, path->part[i].name);
        if (f != NULL) {
            f->computes = true;
        }
    }
}

static int
parse_computed(struct parse *ps, const struct lev_path *path,
               const bson_value_t *v, struct lev_error *err)
{
    struct lev_project_field *f = place(ps, path, err);

    if (f == NULL) {
        return -1;
    }
    f->what = LEV_PROJECT_COMPUTE;
    f->expr = lev_expr_compile(v, err);
    if (f->expr == NULL) {
        return lev_error_wrap(err, "'%s'", path->text);
    }
    mark_computing(ps, path);
    return ps->kind == LEV_PROJECT_ADD ? 0 : decide(ps, path->text, true, err);
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
        if (ps->kind == LEV_PROJECT_ADD) {
            return parse_computed(ps, path, v, err);
        }
        return lev_error_set(err, LEV_E_QUERY, 51270,
                             "projection '%s': an empty object says nothing",
                             path->text);
    }
    if (bson_iter_key(&it)[0] != '$') {
        return parse_fields(ps, path->text, v, depth + 1, err);
    }
    operand = lev_value_of(&it);
    if (ps->kind == LEV_PROJECT_FIND &&
        strcmp(bson_iter_key(&it), "$slice") == 0) {
        return parse_slice(ps, path, &operand, err);
    }
    if (ps->kind == LEV_PROJECT_FIND &&
        strcmp(bson_iter_key(&it), "$elemMatch") == 0)
    {
        return parse_elem_match(ps, path, &operand, err);
    }
    return parse_computed(ps, path, v, err);
}

static int
parse_value(struct parse *ps, const struct lev_path *path,
            const bson_value_t *v, int depth, struct lev_error *err)
{
    if (check_path(path, err) < 0) {
        return -1;
    }
    if (v->value_type == BSON_TYPE_DOCUMENT) {
        return parse_object(ps, path, v, depth, err);
    }
    if (ps->kind == LEV_PROJECT_ADD) {
        return parse_computed(ps, path, v, err);
    }
    if (v->value_type == BSON_TYPE_BOOL) {
        return parse_flag(ps, path, v->value.v_bool, err);
    }
    return lev_number_is(v) ? parse_flag(ps, path, lev_number_truth(v), err)
                            : parse_computed(ps, path, v, err);
}

static int
parse_field(struct parse *ps, const char *name, const bson_value_t *v,
            int depth, struct lev_error *err)
{
    size_t len = strlen(name);
    struct lev_path path;
    int rc;

    if (ps->kind == LEV_PROJECT_FIND && len > 2 &&
        strcmp(name + len - 2, ".$") == 0)
    {
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
    ps->p->keep = ps->mode == EXCLUSION || ps->kind == LEV_PROJECT_ADD;
    ps->p->keep_id = !ps->id_excluded;
}

struct lev_project *
lev_project_compile(const bson_t *projection, enum lev_project_kind kind,
                    struct lev_error *err)
{
    _cleanup_project_ struct lev_project *p = calloc(1, sizeof(*p));
    struct parse ps = {.p = p, .kind = kind};
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
