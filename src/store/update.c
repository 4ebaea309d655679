#include "update.h"

#include <string.h>

#include "id.h"
#include "path.h"
#include "update_ops.h"
#include "value.h"

/* The paths of an update are a tree; its leaves carry an operator each. The
 * old document is copied field by field along the tree, so that one pass
 * makes the new one. */
struct step {
    char *name;
    long index;                     /* of `name` in an array; -1: it is none */
    struct step *kids, *next;       /* in the order in which new fields come */
    const struct lev_update_op *op; /* NULL: there are kids */
    bson_value_t operand;           /* borrows from the update */
    char *path;                     /* for messages */
};

struct lev_updater {
    bson_t *source;
    bool replacement;
    struct step root;
};

static void
steps_free(struct step *s)
{
    struct step *next;

    for (; s != NULL; s = next) {
        next = s->next;
        steps_free(s->kids);
        free(s->name);
        free(s->path);
        free(s);
    }
}

static inline void
root_deinit(struct step *root)
{
    steps_free(root->kids);
}

void
lev_updater_destroy(struct lev_updater *u)
{
    if (u == NULL) {
        return;
    }
    root_deinit(&u->root);
    bson_destroy(u->source);
    free(u);
}

/* Numbers by value and before other names, those by their bytes. */
static int
compare_names(const struct lev_path_part *a, const struct step *b)
{
    if (a->index >= 0 && b->index >= 0) {
        return (a->index > b->index) - (a->index < b->index);
    }
    if (a->index >= 0 || b->index >= 0) {
        return a->index >= 0 ? -1 : 1;
    }
    return strcmp(a->name, b->name);
}

/* The kid of that name, made in its place if there is none. */
static struct step *
step_get(struct step *parent, const struct lev_path_part *part, bool *made,
         struct lev_error *err)
{
    struct step **link = &parent->kids, *s;

    while (*link != NULL && compare_names(part, *link) > 0) {
        link = &(*link)->next;
    }
    if (*link != NULL && compare_names(part, *link) == 0) {
        *made = false;
        return *link;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL || (s->name = strdup(part->name)) == NULL) {
        free(s);
        lev_error_nomem(err, "update");
        return NULL;
    }
    s->index = part->index;
    s->next = *link;
    *link = s;
    *made = true;
    return s;
}

static int
check_names(const struct lev_path *path, struct lev_error *err)
{
    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;

        if (name[0] == '\0') {
            return lev_error_set(err, LEV_E_QUERY, 56,
                                 "update '%s': a field's name is empty",
                                 path->text);
        }
        if (strcmp(name, "$") == 0 || strncmp(name, "$[", 2) == 0) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "update '%s': the embedded store has no "
                                 "positional %s; name the index",
                                 path->text, name);
        }
    }
    return 0;
}

/* Puts `op` where `path` leads. `conflict` is the code for two of a kind:
 * paths that are the same or one above the other. */
static int
place(struct step *root, const struct lev_path *path,
      const struct lev_update_op *op, const bson_value_t *operand,
      int conflict, struct lev_error *err)
{
    struct step *at = root;
    bool made = false;

    for (size_t i = 0; i < path->n; i++) {
        at = step_get(at, &path->part[i], &made, err);
        if (at == NULL) {
            return -1;
        }
        if (!made && (at->op != NULL || i == path->n - 1)) {
            return lev_error_set(err, LEV_E_QUERY, conflict,
                                 "'%s' collides with another path at '%s'",
                                 path->text, at->name);
        }
    }
    at->op = op;
    at->operand = *operand;
    at->path = strdup(path->text);
    return at->path == NULL ? lev_error_nomem(err, "update") : 0;
}

static int
add_path(struct step *root, const char *text, const struct lev_update_op *op,
         const bson_value_t *operand, struct lev_error *err)
{
    struct lev_path path;
    int rc;

    if (lev_path_parse(text, &path, err) < 0) {
        return -1;
    }
    rc = check_names(&path, err);
    if (rc == 0 && op->check != NULL) {
        rc = op->check(text, operand, err);
    }
    if (rc == 0) {
        rc = place(root, &path, op, operand, 40, err);
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
        bson_value_t operand = lev_value_of(&it);

        if (add_path(&u->root, bson_iter_key(&it), op, &operand, err) < 0) {
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

struct lev_updater *
lev_updater_compile(const bson_t *update, bool multi, struct lev_error *err)
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
    if (u->replacement && multi) {
        lev_error_set(err, LEV_E_QUERY, 9,
                      "a replacement is for one document; use operators to "
                      "update many");
        return NULL;
    }
    for (bool ok = bson_iter_init(&it, u->source); ok && bson_iter_next(&it);)
    {
        if (add_field(u, &it, err) < 0) {
            return NULL;
        }
    }
    return lev_steal(u);
}

/* Applying. */

struct apply {
    bool insert; /* an upsert's new document */
    struct lev_error *err;
};

static int apply_step(const struct apply *a, const struct step *s,
                      const char *key, const bson_value_t *old, bson_t *out);

static bool
is_active(const struct apply *a, const struct step *s)
{
    return a->insert || !s->op->insert_only;
}

/* Whether `s` makes something where there is nothing. */
static bool
creates(const struct apply *a, const struct step *s)
{
    if (s->op != NULL) {
        return s->op->creates && is_active(a, s);
    }
    for (const struct step *kid = s->kids; kid != NULL; kid = kid->next) {
        if (creates(a, kid)) {
            return true;
        }
    }
    return false;
}

static const struct step *
find_kid(const struct step *parent, const char *name)
{
    const struct step *s = parent->kids;

    while (s != NULL && strcmp(s->name, name) != 0) {
        s = s->next;
    }
    return s;
}

static const struct step *
find_index(const struct step *parent, long index)
{
    const struct step *s = parent->kids;

    while (s != NULL && s->index != index) {
        s = s->next;
    }
    return s;
}

static int
apply_new_fields(const struct apply *a, const struct step *parent,
                 const bson_t *old, bson_t *out)
{
    for (const struct step *s = parent->kids; s != NULL; s = s->next) {
        if (old != NULL && bson_has_field(old, s->name)) {
            continue;
        }
        if (s->name[0] == '$' && creates(a, s)) {
            return lev_error_set(a->err, LEV_E_QUERY, 52,
                                 "update: the field '%s' begins with '$'",
                                 s->name);
        }
        if (apply_step(a, s, s->name, &lev_value_missing, out) < 0) {
            return -1;
        }
    }
    return 0;
}

/* `old` NULL: a new object. */
static int
apply_fields(const struct apply *a, const struct step *parent,
             const bson_t *old, bson_t *out)
{
    bson_iter_t it;

    for (bool ok = old != NULL && bson_iter_init(&it, old);
         ok && bson_iter_next(&it);)
    {
        const struct step *s = find_kid(parent, bson_iter_key(&it));
        bson_value_t v;

        if (s == NULL) {
            bson_append_iter(out, bson_iter_key(&it),
                             (int)bson_iter_key_len(&it), &it);
            continue;
        }
        v = lev_value_of(&it);
        if (apply_step(a, s, s->name, &v, out) < 0) {
            return -1;
        }
    }
    return apply_new_fields(a, parent, old, out);
}

/* An element keeps its place: what would remove it leaves null. */
static int
apply_element(const struct apply *a, const struct step *s, uint32_t n,
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
apply_new_elements(const struct apply *a, const struct step *parent,
                   uint32_t n, bson_t *out)
{
    static const bson_value_t *const null = &lev_value_null;

    for (const struct step *s = parent->kids; s != NULL; s = s->next) {
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
not_viable(const struct apply *a, const struct step *s, const char *key,
           const bson_value_t *old)
{
    return lev_error_set(a->err, LEV_E_QUERY, 28,
                         "update: there can be no field '%s' in '%s', which "
                         "is of type %s",
                         s->name, key, lev_value_type_name(old->value_type));
}

static int
apply_array(const struct apply *a, const struct step *parent, const char *key,
            const bson_value_t *old, bson_t *out)
{
    bson_iter_t it;
    uint32_t n = 0;

    for (const struct step *s = parent->kids; s != NULL; s = s->next) {
        if (s->index < 0 && creates(a, s)) {
            return not_viable(a, s, key, old);
        }
    }
    for (bool ok = lev_value_iter(old, &it); ok && bson_iter_next(&it); n++) {
        bson_value_t v = lev_value_of(&it);

        if (apply_element(a, find_index(parent, n), n, &v, out) < 0) {
            return -1;
        }
    }
    return apply_new_elements(a, parent, n, out);
}

/* What the kids of `s` make of an object, of nothing or of a scalar. */
static int
apply_below(const struct apply *a, const struct step *s, const char *key,
            const bson_value_t *old, bson_t *out)
{
    bool missing = old->value_type == BSON_TYPE_EOD;
    bson_t doc, part;
    int rc;

    if (!creates(a, s)) {
        if (missing) {
            return 0;
        }
        if (old->value_type != BSON_TYPE_DOCUMENT) {
            bson_append_value(out, key, -1, old);
            return 0;
        }
    }
    if (!missing && !lev_value_open(old, &doc)) {
        return not_viable(a, s->kids, key, old);
    }
    bson_append_document_begin(out, key, -1, &part);
    rc = apply_fields(a, s, missing ? NULL : &doc, &part);
    bson_append_document_end(out, &part);
    return rc;
}

static int
apply_step(const struct apply *a, const struct step *s, const char *key,
           const bson_value_t *old, bson_t *out)
{
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
        return s->op->apply(s->path, &s->operand, old, key, out, a->err);
    }
    if (old->value_type != BSON_TYPE_EOD) {
        bson_append_value(out, key, -1, old);
    }
    return 0;
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

static int
make(const struct lev_updater *u, const bson_t *old, bool insert, bson_t *made,
     struct lev_error *err)
{
    struct apply a = {insert, err};
    bson_value_t id = lev_value_field(old, "_id");

    if (!u->replacement) {
        return apply_fields(&a, &u->root, old, made) < 0
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
lev_updater_apply(const struct lev_updater *u, const bson_t *old, bson_t *made,
                  struct lev_error *err)
{
    bson_init(made);
    if (make(u, old, false, made, err) < 0 ||
        lev_document_check(made, err) < 0) {
        bson_destroy(made);
        return -1;
    }
    return 0;
}

struct equalities {
    struct step root;
    struct lev_error *err;
};

static int
add_equality(void *ctx, const char *text, const bson_value_t *value)
{
    struct equalities *e = ctx;
    struct lev_path path;
    int rc;

    if (lev_path_parse(text, &path, e->err) < 0) {
        return -1;
    }
    rc = place(&e->root, &path, &lev_update_op_set, value, 54, e->err);
    lev_path_deinit(&path);
    return rc;
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
    struct apply a = {true, err};
    int rc =
        lev_match_equalities(m, u->replacement ? add_id : add_equality, &e);

    if (rc == 0) {
        rc = apply_fields(&a, &e.root, NULL, doc);
    }
    root_deinit(&e.root);
    return rc;
}

int
lev_updater_insert(const struct lev_updater *u, const struct lev_match *m,
                   bson_t *made, struct lev_error *err)
{
    bson_t base = BSON_INITIALIZER, doc = BSON_INITIALIZER;
    int rc = from_query(u, m, &base, err);

    if (rc == 0) {
        rc = make(u, &base, true, &doc, err);
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
