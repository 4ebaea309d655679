#include "stage.h"

#include <string.h>

/* All documents are held; then each pipeline goes over them. */

struct branch {
    char *name;
    struct lev_chain chain;
};

/* The first stage of each branch. */
struct replay {
    struct lev_stage stage;
    const struct lev_buf *docs; /* the facet's */
    size_t at;
};

struct facet {
    struct lev_stage stage;
    struct branch *branches;
    size_t n;
    struct lev_buf docs;
    struct lev_buf out;
    bool given;
};

static int
replay_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct replay *r = (struct replay *)s;
    uint32_t len;

    if (r->at == r->docs->len) {
        return 0;
    }
    memcpy(&len, r->docs->data + r->at, sizeof(len));
    len = BSON_UINT32_FROM_LE(len);
    bson_init_static(doc, (const uint8_t *)r->docs->data + r->at, len);
    r->at += len;
    return 1;
}

static void
replay_destroy(struct lev_stage *s)
{
}

static const struct lev_stage_ops replay_ops = {replay_next, replay_destroy};

static int
hold_all(struct facet *f, struct lev_error *err)
{
    bson_t doc;
    int rc;

    while ((rc = lev_stage_pull(&f->stage, &doc, err)) > 0) {
        lev_buf_append(&f->docs, bson_get_data(&doc), doc.len);
        if (lev_buf_check(&f->docs, "$facet", err) < 0) {
            return -1;
        }
        if (f->docs.len > LEV_STAGE_MAX) {
            return lev_stage_too_much("$facet", err);
        }
    }
    return rc;
}

static int
run_branch(const struct branch *b, struct lev_build *made,
           struct lev_error *err)
{
    struct lev_stage end = {.source = b->chain.last, .env = b->chain.env};
    _cleanup_build_ struct lev_build list;
    bson_value_t v;
    bson_t doc;
    int rc;

    lev_build_init(&list);
    while ((rc = lev_stage_pull(&end, &doc, err)) > 0) {
        v = lev_value_doc(&doc);
        if (lev_build_add(&list, &v, err) < 0) {
            return -1;
        }
    }
    v = lev_value_doc(&list.doc);
    v.value_type = BSON_TYPE_ARRAY;
    return rc < 0 ? -1 : lev_build_set(made, b->name, &v, err);
}

static int
facet_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct facet *f = (struct facet *)s;
    _cleanup_build_ struct lev_build made;

    lev_build_init(&made);
    if (f->given) {
        return 0;
    }
    if (hold_all(f, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < f->n; i++) {
        if (run_branch(&f->branches[i], &made, err) < 0) {
            return -1;
        }
    }
    f->given = true;
    lev_buf_append(&f->out, bson_get_data(&made.doc), made.doc.len);
    if (lev_buf_check(&f->out, "$facet", err) < 0) {
        return -1;
    }
    return lev_stage_give(&f->out, doc, err);
}

static void
facet_destroy(struct lev_stage *s)
{
    struct facet *f = (struct facet *)s;

    for (size_t i = 0; i < f->n; i++) {
        lev_chain_destroy(&f->branches[i].chain);
        free(f->branches[i].name);
    }
    free(f->branches);
    lev_buf_deinit(&f->docs);
    lev_buf_deinit(&f->out);
}

static const struct lev_stage_ops facet_ops = {facet_next, facet_destroy};

static int
add_branch(struct facet *f, const char *name, const bson_value_t *stages,
           struct lev_error *err)
{
    struct branch *b = &f->branches[f->n];
    struct replay *r;

    if (stages->value_type != BSON_TYPE_ARRAY) {
        return lev_stage_bad("$facet", 14, "each field is a pipeline", err);
    }
    if (name[0] == '\0' || name[0] == '$' || strchr(name, '.') != NULL) {
        return lev_stage_bad("$facet",
                             name[0] == '\0'  ? 40352
                             : name[0] == '$' ? 16410
                                              : 16412,
                             "a field's name is empty, begins with '$' or "
                             "holds a '.'",
                             err);
    }
    b->chain = (struct lev_chain){.env = f->stage.env, .nested = true};
    b->name = strdup(name);
    f->n++;
    r = (struct replay *)lev_stage_add(&b->chain, &replay_ops, sizeof(*r),
                                       err);
    if (b->name == NULL || r == NULL) {
        return lev_error_nomem(err, "$facet");
    }
    r->docs = &f->docs;
    return lev_chain_compile(&b->chain, stages, err);
}

int
lev_stage_facet(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    struct facet *f;
    bson_iter_t it;
    bson_t doc;

    if (chain->nested) {
        return lev_stage_bad(name, 40600, "cannot be within a $facet", err);
    }
    if (lev_stage_object(name, spec, 40169, err) < 0 ||
        !lev_value_open(spec, &doc))
    {
        return -1;
    }
    if (bson_empty(&doc)) {
        return lev_stage_bad(name, 40169, "needs one pipeline at least", err);
    }
    f = (struct facet *)lev_stage_add(chain, &facet_ops, sizeof(*f), err);
    if (f == NULL) {
        return -1;
    }
    f->branches = calloc(bson_count_keys(&doc), sizeof(*f->branches));
    if (f->branches == NULL) {
        return lev_error_nomem(err, "$facet");
    }
    for (bool ok = bson_iter_init(&it, &doc); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_branch(f, bson_iter_key(&it), &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}
