#include "update.h"

#include <string.h>

#include "id.h"
#include "path.h"
#include "update_tree.h"
#include "value.h"

/* The old document is copied field by field along the tree of the update's
 * paths, so that one pass makes the new one. */
struct lev_updater {
    bson_t *source;
    bool replacement, positional; /* some path has a `$` */
    struct lev_step root;
    struct lev_array_filters filters;
    struct rename *renames;
};

/* A $rename looks at both of its paths before anything is changed. */
struct rename {
    struct lev_path from, to;
    struct rename *next;
};

static void
renames_free(struct rename *r)
{
    struct rename *next;

    for (; r != NULL; r = next) {
        next = r->next;
        lev_path_deinit(&r->from);
        lev_path_deinit(&r->to);
        free(r);
    }
}

void
lev_updater_destroy(struct lev_updater *u)
{
    if (u == NULL) {
        return;
    }
    lev_steps_deinit(&u->root);
    renames_free(u->renames);
    lev_array_filters_deinit(&u->filters);
    bson_destroy(u->source);
    free(u);
}

/* Compiling. */

static int
check_names(const struct lev_path *path, struct lev_error *err)
{
    int positional = 0;

    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;

        if (name[0] == '\0') {
            return lev_error_set(err, LEV_E_QUERY, 56,
                                 "update '%s': a field's name is empty",
                                 path->text);
        }
        positional += strcmp(name, "$") == 0;
        if (i == 0 && (positional > 0 || strncmp(name, "$[", 2) == 0)) {
            return lev_error_set(err, LEV_E_QUERY, 2,
                                 "update '%s': %s needs an array before it",
                                 path->text, name);
        }
    }
    return positional <= 1
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 28,
                               "update '%s': only one $ is possible; name "
                               "elements with $[] and $[id]",
                               path->text);
}

/* Gives the steps along a placed path their array filters. */
static int
bind_filters(struct lev_updater *u, const struct lev_path *path,
             struct lev_error *err)
{
    struct lev_step *at = &u->root;

    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;
        size_t len = strlen(name);
        struct lev_array_filter *filter;

        at = at->kids[lev_step_find(at, name)];
        u->positional |= at->kind == LEV_STEP_POSITIONAL;
        if (at->kind != LEV_STEP_ELEMENTS || strcmp(name, "$[]") == 0) {
            continue;
        }
        filter = lev_array_filters_find(&u->filters, name + 2, len - 3);
        if (filter == NULL) {
            return lev_error_set(err, LEV_E_QUERY, 2,
                                 "update '%s': no array filter is for %s",
                                 path->text, name);
        }
        filter->used = true;
        at->filter = filter;
    }
    return 0;
}

static int
place(struct lev_updater *u, const struct lev_path *path,
      const struct lev_update_op *op, const bson_value_t *operand, void *data,
      struct lev_error *err)
{
    struct lev_step *leaf = lev_step_place(&u->root, path, 40, err);

    if (leaf == NULL) {
        if (op->destroy != NULL) {
            op->destroy(data);
        }
        return -1;
    }
    leaf->op = op;
    leaf->operand = *operand;
    leaf->data = data;
    leaf->path = strdup(path->text);
    return leaf->path == NULL ? lev_error_nomem(err, "update")
                              : bind_filters(u, path, err);
}

/* Both ends are names alone: what `$` means is not known before. */
static int
check_rename(const struct rename *r, struct lev_error *err)
{
    const struct lev_path *const ends[] = {&r->from, &r->to};

    for (size_t i = 0; i < LEV_ARRAY_LEN(ends); i++) {
        if (check_names(ends[i], err) < 0) {
            return -1;
        }
        for (size_t k = 0; k < ends[i]->n; k++) {
            const char *name = ends[i]->part[k].name;

            if (strcmp(name, "$") == 0 || strncmp(name, "$[", 2) == 0) {
                return lev_error_set(err, LEV_E_QUERY, 2,
                                     "update '%s': $rename takes no %s",
                                     ends[i]->text, name);
            }
        }
    }
    return strcmp(r->from.text, r->to.text) != 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 2,
                               "update '%s': $rename to the same name",
                               r->from.text);
}

static int
place_rename(struct lev_updater *u, const struct rename *r,
             struct lev_error *err)
{
    struct lev_path *from = calloc(1, sizeof(*from));

    if (from == NULL || lev_path_parse(r->from.text, from, err) < 0) {
        free(from);
        return lev_error_nomem(err, "update");
    }
    if (place(u, &r->to, &lev_update_op_rename, &lev_value_null, from, err) <
        0) {
        return -1;
    }
    return place(u, &r->from, &lev_update_op_rename_source, &lev_value_null,
                 NULL, err);
}

static int
add_rename(struct lev_updater *u, const char *from, const bson_value_t *to,
           struct lev_error *err)
{
    struct rename *r;

    if (to->value_type != BSON_TYPE_UTF8) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "update '%s': $rename needs a name, not %s", from,
                             lev_value_type_name(to->value_type));
    }
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return lev_error_nomem(err, "update");
    }
    r->next = u->renames;
    u->renames = r;
    if (lev_path_parse(from, &r->from, err) < 0 ||
        lev_path_parse(to->value.v_utf8.str, &r->to, err) < 0 ||
        check_rename(r, err) < 0)
    {
        return -1;
    }
    return place_rename(u, r, err);
}

static int
add_path(struct lev_updater *u, const char *text,
         const struct lev_update_op *op, const bson_value_t *operand,
         struct lev_error *err)
{
    struct lev_path path;
    void *data = NULL;
    int rc;

    if (lev_path_parse(text, &path, err) < 0) {
        return -1;
    }
    rc = check_names(&path, err);
    if (rc == 0 && op->compile != NULL) {
        rc = op->compile(text, operand, &data, err);
    }
    if (rc == 0) {
        rc = place(u, &path, op, operand, data, err);
    }
    lev_path_deinit(&path);
    return rc;
}

static int
add_operator(struct lev_updater *u, const char *name,
             const bson_value_t *fields, struct lev_error *err)
{
    const struct lev_update_op *op = lev_update_op_find(name, err);
    bson_iter_t it;

    if (op == NULL) {
        return -1;
    }
    if (fields->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_iter(fields, &it)) {
        return lev_error_set(err, LEV_E_QUERY, 9,
                             "%s needs an object of fields, not %s", name,
                             lev_value_type_name(fields->value_type));
    }
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);

        if ((op == &lev_update_op_rename ? add_rename(u, key, &v, err)
                                         : add_path(u, key, op, &v, err)) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
add_field(struct lev_updater *u, bson_iter_t *it, struct lev_error *err)
{
    const char *key = bson_iter_key(it);
    bson_value_t v = lev_value_of(it);

    if (!u->replacement && key[0] != '$') {
        return lev_error_set(
            err, LEV_E_QUERY, 9,
            "update: '%s' stands among operators; put it into "
            "a $set",
            key);
    }
    if (u->replacement && key[0] == '$') {
        return lev_error_set(err, LEV_E_QUERY, 52,
                             "replacement: the field '%s' begins with '$'",
                             key);
    }
    return u->replacement ? 0 : add_operator(u, key, &v, err);
}

static struct lev_updater *
updater_create(const bson_t *update, struct lev_error *err)
{
    _cleanup_updater_ struct lev_updater *u = calloc(1, sizeof(*u));
    bson_iter_t it;

    if (u == NULL) {
        lev_error_nomem(err, "update");
        return NULL;
    }
    /* Later a document that grows too large is told by its size, which libbson
     * keeps in 31 bits. */
    if (update->len > 4 * LEV_DOCUMENT_MAX) {
        lev_error_set(err, LEV_E_TOO_LARGE, 10334,
                      "an update of %u bytes; a document has at most %u "
                      "(16 MiB)",
                      update->len, LEV_DOCUMENT_MAX);
        return NULL;
    }
    u->source = bson_copy(update);
    if (lev_value_check(u->source, err) < 0) {
        return NULL;
    }
    u->replacement = !bson_iter_init(&it, u->source) || !bson_iter_next(&it) ||
                     bson_iter_key(&it)[0] != '$';
    return lev_steal(u);
}

struct lev_updater *
lev_updater_compile(const bson_t *update, const bson_t *array_filters,
                    bool multi, struct lev_error *err)
{
    _cleanup_updater_ struct lev_updater *u = updater_create(update, err);
    bson_iter_t it;

    if (u == NULL) {
        return NULL;
    }
    if (u->replacement && multi) {
        lev_error_set(err, LEV_E_QUERY, 9,
                      "a replacement is for one document; use operators to "
                      "update many");
        return NULL;
    }
    if (lev_array_filters_compile(&u->filters, array_filters, err) < 0) {
        return NULL;
    }
    for (bool ok = bson_iter_init(&it, u->source); ok && bson_iter_next(&it);)
    {
        if (add_field(u, &it, err) < 0) {
            return NULL;
        }
    }
    return lev_array_filters_check(&u->filters, err) < 0 ? NULL : lev_steal(u);
}

int
lev_document_check_size(const bson_t *doc, struct lev_error *err)
{
    return doc->len <= LEV_DOCUMENT_MAX
               ? 0
               : lev_error_set(err, LEV_E_TOO_LARGE, 10334,
                               "a document of %u bytes; at most %u (16 MiB) "
                               "can be stored in one",
                               doc->len, LEV_DOCUMENT_MAX);
}

int
lev_document_check(const bson_t *doc, struct lev_error *err)
{
    return lev_document_check_size(doc, err) < 0 ? -1
                                                 : lev_value_check(doc, err);
}

/* The new document has the old one's `_id`, or none where there was none. */
static int
check_id(const bson_value_t *old, const bson_t *made, struct lev_error *err)
{
    bson_value_t id = lev_value_field(made, "_id");

    return old->value_type == BSON_TYPE_EOD || lev_value_equal(old, &id)
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 66,
                               "update: _id cannot be changed");
}

/* The replacement with the old document's `_id`. */
static void
replace(const struct lev_updater *u, const bson_value_t *id, bson_t *made)
{
    if (id->value_type != BSON_TYPE_EOD) {
        bson_append_value(made, "_id", 3, id);
        lev_value_copy_except(u->source, "_id", made);
    }
    else {
        bson_concat(made, u->source);
    }
}

/* Nothing is created in arrays by a $rename, nor taken out of them. */
static int
check_no_array(const struct lev_path *path, const bson_t *doc, bool source,
               bool *missing, struct lev_error *err)
{
    bson_value_t v = lev_value_doc(doc);
    bson_t part;

    for (size_t i = 0; i < path->n && v.value_type != BSON_TYPE_EOD; i++) {
        if (v.value_type == BSON_TYPE_ARRAY) {
            return lev_error_set(
                err, LEV_E_QUERY, source && path->part[i].index < 0 ? 28 : 2,
                "update '%s': $rename leads through an array", path->text);
        }
        if (v.value_type != BSON_TYPE_DOCUMENT || !lev_value_open(&v, &part)) {
            return !source ? 0
                           : lev_error_set(err, LEV_E_QUERY, 28,
                                           "update '%s': $rename from below "
                                           "a value of type %s",
                                           path->text,
                                           lev_value_type_name(v.value_type));
        }
        v = lev_value_field(&part, path->part[i].name);
    }
    *missing = v.value_type == BSON_TYPE_EOD;
    return 0;
}

static int
check_renames(const struct lev_updater *u, const bson_t *old,
              struct lev_error *err)
{
    for (const struct rename *r = u->renames; r != NULL; r = r->next) {
        bool missing = false, ignored;

        if (check_no_array(&r->from, old, true, &missing, err) < 0 ||
            (!missing &&
             check_no_array(&r->to, old, false, &ignored, err) < 0))
        {
            return -1;
        }
    }
    return 0;
}

static int
apply_operators(const struct lev_updater *u, const bson_t *old, long position,
                bool insert, bson_t *made, struct lev_error *err)
{
    _cleanup_step_ struct lev_step *resolved = NULL;

    if (check_renames(u, old, err) < 0) {
        return -1;
    }
    if (!u->positional) {
        return lev_step_apply(&u->root, old, insert, made, err);
    }
    if (position < 0) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "update: the query matches through no element "
                             "of an array, so $ means none");
    }
    resolved = lev_step_resolve(&u->root, position, err);
    return resolved == NULL ? -1
                            : lev_step_apply(resolved, old, insert, made, err);
}

static int
make(const struct lev_updater *u, const bson_t *old, long position,
     bool insert, bson_t *made, struct lev_error *err)
{
    bson_value_t id = lev_value_field(old, "_id");

    if (!u->replacement) {
        return apply_operators(u, old, position, insert, made, err) < 0
                   ? -1
                   : check_id(&id, made, err);
    }
    if (bson_has_field(u->source, "_id") && check_id(&id, u->source, err) < 0)
    {
        return -1;
    }
    replace(u, &id, made);
    return 0;
}

int
lev_updater_apply(const struct lev_updater *u, const bson_t *old,
                  long position, bson_t *made, struct lev_error *err)
{
    bson_init(made);
    if (make(u, old, position, false, made, err) < 0 ||
        lev_document_check(made, err) < 0)
    {
        bson_destroy(made);
        return -1;
    }
    return 0;
}

struct equalities {
    struct lev_step root;
    struct lev_error *err;
};

static int
add_equality(void *ctx, const char *text, const bson_value_t *value)
{
    struct equalities *e = ctx;
    struct lev_path path;
    struct lev_step *leaf;

    if (lev_path_parse(text, &path, e->err) < 0) {
        return -1;
    }
    leaf = lev_step_place(&e->root, &path, 54, e->err);
    lev_path_deinit(&path);
    if (leaf == NULL) {
        return -1;
    }
    leaf->op = &lev_update_op_set;
    leaf->operand = *value;
    return 0;
}

static int
add_id(void *ctx, const char *text, const bson_value_t *value)
{
    return strcmp(text, "_id") == 0 ? add_equality(ctx, text, value) : 0;
}

/* The document that an upsert's query describes; a replacement takes only its
 * `_id`. */
static int
from_query(const struct lev_updater *u, const struct lev_match *m, bson_t *doc,
           struct lev_error *err)
{
    struct equalities e = {.err = err};
    static const bson_t nothing = BSON_INITIALIZER;
    int rc =
        lev_match_equalities(m, u->replacement ? add_id : add_equality, &e);

    if (rc == 0) {
        rc = lev_step_apply(&e.root, &nothing, true, doc, err);
    }
    lev_steps_deinit(&e.root);
    return rc;
}

int
lev_updater_insert(const struct lev_updater *u, const struct lev_match *m,
                   bson_t *made, struct lev_error *err)
{
    bson_t base = BSON_INITIALIZER, doc = BSON_INITIALIZER;
    int rc = from_query(u, m, &base, err);

    if (rc == 0) {
        rc = make(u, &base, -1, true, &doc, err);
    }
    bson_init(made);
    if (rc == 0) {
        rc = lev_id_complete(&doc, made, err);
    }
    bson_destroy(&base);
    bson_destroy(&doc);
    if (rc < 0 || lev_document_check(made, err) < 0) {
        bson_destroy(made);
        return -1;
    }
    return 0;
}
