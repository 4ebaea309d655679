#include "stage.h"

#include <string.h>

#include "keymap.h"

/* The other collection is read once: its documents, and for each value of
 * their `foreignField` a list of those that have it. */

struct entry {
    uint32_t doc;
    int64_t before; /* the entry before in the value's list; -1: none */
};

struct lookup {
    struct lev_stage stage;
    char *from;
    struct lev_path local, foreign, as;

    bool loaded;
    struct lev_buf docs;
    size_t *starts; /* of documents in `docs` */
    size_t n_docs, docs_cap;
    struct lev_keymap values;
    int64_t *lists; /* the last entry of each value's list */
    size_t lists_cap;
    struct entry *entries;
    size_t n_entries, entries_cap;
    uint8_t *chosen; /* of the documents, for the one at hand */
    struct lev_buf out;
};

static void
lookup_destroy(struct lev_stage *s)
{
    struct lookup *l = (struct lookup *)s;

    free(l->from);
    lev_path_deinit(&l->local);
    lev_path_deinit(&l->foreign);
    lev_path_deinit(&l->as);
    lev_buf_deinit(&l->docs);
    lev_keymap_deinit(&l->values);
    free(l->starts);
    free(l->lists);
    free(l->entries);
    free(l->chosen);
    lev_buf_deinit(&l->out);
}

/* Room for one more of `size` bytes each. */
static int
grow(void *array, size_t n, size_t *cap, size_t size, struct lev_error *err)
{
    void **p = array;
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown;

    if (n < *cap) {
        return 0;
    }
    grown = realloc(*p, more * size);
    if (grown == NULL) {
        return lev_error_nomem(err, "$lookup");
    }
    *p = grown;
    *cap = more;
    return 0;
}

/* Reading the other collection. */

struct loading {
    struct lookup *l;
    struct lev_error *err;
};

static int
add_entry(struct lookup *l, const bson_value_t *v, struct lev_error *err)
{
    uint32_t doc = (uint32_t)(l->n_docs - 1);
    size_t value;
    int rc = lev_keymap_add(&l->values, v, &value, err);

    if (rc < 0 ||
        grow(&l->lists, value, &l->lists_cap, sizeof(*l->lists), err) < 0 ||
        grow(&l->entries, l->n_entries, &l->entries_cap, sizeof(*l->entries),
             err) < 0)
    {
        return -1;
    }
    if (rc > 0) {
        l->lists[value] = -1;
    }
    if (l->lists[value] >= 0 && l->entries[l->lists[value]].doc == doc) {
        return 0;
    }
    l->entries[l->n_entries] = (struct entry){doc, l->lists[value]};
    l->lists[value] = (int64_t)l->n_entries++;
    return 0;
}

static int
take_foreign(void *ctx, const struct lev_path_hit *hit)
{
    const struct loading *load = ctx;

    return add_entry(load->l,
                     hit->value->value_type == BSON_TYPE_EOD ? &lev_value_null
                                                             : hit->value,
                     load->err);
}

static int
load_document(void *ctx, const bson_t *doc, struct lev_error *err)
{
    struct lookup *l = ctx;
    struct loading load = {l, err};

    if (grow(&l->starts, l->n_docs, &l->docs_cap, sizeof(*l->starts), err) < 0)
    {
        return -1;
    }
    l->starts[l->n_docs++] = l->docs.len;
    lev_buf_append(&l->docs, bson_get_data(doc), doc->len);
    if (lev_buf_check(&l->docs, "$lookup", err) < 0) {
        return -1;
    }
    if (l->docs.len + lev_keymap_bytes(&l->values) +
            l->n_entries * sizeof(*l->entries) >
        LEV_STAGE_MAX)
    {
        return lev_stage_too_much("$lookup", err);
    }
    return lev_path_each(&l->foreign, doc, LEV_PATH_ELEMENTS, take_foreign,
                         &load);
}

static int
load(struct lookup *l, struct lev_error *err)
{
    const struct lev_stage_env *env = l->stage.env;

    /* A try before that was cut short does not count. */
    lev_buf_clear(&l->docs);
    lev_keymap_deinit(&l->values);
    l->n_docs = l->n_entries = 0;
    if (env->io.each != NULL && env->io.each(env->io.ctx, env->scope, l->from,
                                             load_document, l, err) != 0)
    {
        return -1;
    }
    l->chosen = calloc(l->n_docs + 1, 1);
    if (l->chosen == NULL) {
        return lev_error_nomem(err, "$lookup");
    }
    l->loaded = true;
    return 0;
}

/* Joining. */

static int
choose(void *ctx, const struct lev_path_hit *hit)
{
    const struct loading *load = ctx;
    struct lookup *l = load->l;
    size_t value;
    int rc;

    if (hit->whole) { /* its elements have been here */
        return 0;
    }
    rc = lev_keymap_find(
        &l->values,
        hit->value->value_type == BSON_TYPE_EOD ? &lev_value_null : hit->value,
        &value, load->err);
    for (int64_t i = rc > 0 ? l->lists[value] : -1; i >= 0;
         i = l->entries[i].before)
    {
        l->chosen[l->entries[i].doc] = 1;
    }
    return rc < 0 ? -1 : 0;
}

static int
append_chosen(struct lookup *l, struct lev_build *list, struct lev_error *err)
{
    for (size_t i = 0; i < l->n_docs; i++) {
        size_t end = i + 1 < l->n_docs ? l->starts[i + 1] : l->docs.len;
        bson_value_t v = {.value_type = BSON_TYPE_DOCUMENT};

        if (!l->chosen[i]) {
            continue;
        }
        l->chosen[i] = 0;
        v.value.v_doc.data = (uint8_t *)l->docs.data + l->starts[i];
        v.value.v_doc.data_len = (uint32_t)(end - l->starts[i]);
        if (lev_build_add(list, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
join(struct lookup *l, const bson_t *doc, struct lev_error *err)
{
    _cleanup_build_ struct lev_build list, made;
    struct loading load = {l, err};
    bson_value_t v;

    lev_build_init(&list);
    lev_build_init(&made);
    if (lev_path_each(&l->local, doc, LEV_PATH_ELEMENTS, choose, &load) != 0 ||
        append_chosen(l, &list, err) < 0)
    {
        return -1;
    }
    v = lev_value_doc(&list.doc);
    v.value_type = BSON_TYPE_ARRAY;
    lev_stage_set(doc, &l->as, &v, &made.doc);
    lev_buf_clear(&l->out);
    lev_buf_append(&l->out, bson_get_data(&made.doc), made.doc.len);
    return lev_buf_check(&l->out, "$lookup", err);
}

static int
lookup_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct lookup *l = (struct lookup *)s;
    int rc = !l->loaded && load(l, err) < 0 ? -1 : lev_stage_pull(s, doc, err);

    if (rc <= 0) {
        return rc;
    }
    if (join(l, doc, err) < 0) {
        return -1;
    }
    return lev_stage_give(&l->out, doc, err);
}

static const struct lev_stage_ops lookup_ops = {lookup_next, lookup_destroy};

/* Compiling. */

static int
take_text(const char *key, const bson_value_t *v, const char **text,
          struct lev_error *err)
{
    if (v->value_type != BSON_TYPE_UTF8) {
        return lev_error_set(err, LEV_E_QUERY, 9,
                             "$lookup: '%s' is a string, not %s", key,
                             lev_value_type_name(v->value_type));
    }
    *text = v->value.v_utf8.str;
    return 0;
}

enum { FROM, LOCAL, FOREIGN, AS, N_TEXTS };

static int
take_fields(const bson_value_t *spec, const char **texts,
            struct lev_error *err)
{
    static const char *const names[] = {"from", "localField", "foreignField",
                                        "as"};
    bson_iter_t it;

    for (bool ok = lev_value_iter(spec, &it); ok && bson_iter_next(&it);) {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);
        size_t i = 0;

        if (strcmp(key, "pipeline") == 0 || strcmp(key, "let") == 0) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "the embedded store has no $lookup with a "
                                 "pipeline; use localField and foreignField");
        }
        while (i < N_TEXTS && strcmp(names[i], key) != 0) {
            i++;
        }
        if (i == N_TEXTS) {
            return lev_error_set(err, LEV_E_QUERY, 9, "$lookup knows no '%s'",
                                 key);
        }
        if (take_text(key, &v, &texts[i], err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < N_TEXTS; i++) {
        if (texts[i] == NULL) {
            return lev_error_set(err, LEV_E_QUERY, 9, "$lookup needs '%s'",
                                 names[i]);
        }
    }
    return 0;
}

int
lev_stage_lookup(struct lev_chain *chain, const char *name,
                 const bson_value_t *spec, struct lev_error *err)
{
    const char *texts[N_TEXTS] = {NULL};
    struct lookup *l;

    if (lev_stage_object(name, spec, 9, err) < 0 ||
        take_fields(spec, texts, err) < 0 ||
        (l = (struct lookup *)lev_stage_add(chain, &lookup_ops, sizeof(*l),
                                            err)) == NULL)
    {
        return -1;
    }
    l->from = strdup(texts[FROM]);
    if (l->from == NULL) {
        return lev_error_nomem(err, "$lookup");
    }
    return lev_stage_path(texts[LOCAL], &l->local, err) < 0 ||
                   lev_stage_path(texts[FOREIGN], &l->foreign, err) < 0 ||
                   lev_stage_path(texts[AS], &l->as, err) < 0
               ? -1
               : 0;
}
