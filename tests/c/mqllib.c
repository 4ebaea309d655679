#include "mqllib.h"

#include <assert.h>

#include "match.h"
#include "pipeline.h"
#include "project.h"
#include "sort.h"
#include "update.h"
#include "value.h"

/* A pipeline that takes longer is given up; the cases take milliseconds. */
#define MQL_PATIENCE (20 * LEV_SECOND)

struct find {
    struct lev_match *match;
    struct lev_project *project;
    struct lev_sort *sort;
    struct lev_sorter *sorter;
    int64_t skip, limit;
    struct lev_buf *out;
    int given;
};

static int
find_compile(struct find *f, const struct oracle_case *c,
             struct lev_error *err)
{
    f->match = lev_match_compile(&c->query, err);
    if (f->match == NULL) {
        return -1;
    }
    f->project = lev_project_compile(c->has_projection ? &c->projection : NULL,
                                     LEV_PROJECT_FIND, err);
    if (f->project == NULL || !c->has_sort) {
        return f->project == NULL ? -1 : 0;
    }
    f->sort = lev_sort_compile(&c->sort, err);
    if (f->sort == NULL) {
        return -1;
    }
    f->sorter = lev_sorter_create(
        f->sort, c->limit > 0 ? (size_t)(c->skip + c->limit) : 0, err);
    return f->sorter == NULL ? -1 : 0;
}

static int
find_give(struct find *f, const bson_t *doc, long index, struct lev_error *err)
{
    if (f->skip > 0) {
        f->skip--;
        return 0;
    }
    if (f->limit > 0 && f->given == f->limit) {
        return 0;
    }
    f->given++;
    return lev_project_apply(f->project, doc, index, NULL, f->out, err);
}

static int
find_run(struct find *f, const bson_t *docs, struct lev_error *err)
{
    bson_iter_t it;
    bson_t doc;
    long index;

    for (bson_iter_init(&it, docs); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc;

        assert(lev_value_open(&v, &doc));
        rc = lev_match_test(f->match, &doc, NULL, &index, err);
        if (rc > 0) {
            rc = f->sorter != NULL
                     ? lev_sorter_add(f->sorter, &doc, index, err)
                     : find_give(f, &doc, index, err);
        }
        if (rc < 0) {
            return -1;
        }
    }
    while (f->sorter != NULL && lev_sorter_next(f->sorter, &doc, &index)) {
        if (find_give(f, &doc, index, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
mql_find(void *ctx, const struct oracle_case *c, struct lev_buf *out,
         struct lev_error *err)
{
    struct find f = {.out = out, .skip = c->skip, .limit = c->limit};
    int rc = find_compile(&f, c, err);

    if (rc == 0) {
        rc = find_run(&f, &c->docs, err);
    }
    lev_match_destroy(f.match);
    lev_project_destroy(f.project);
    lev_sorter_destroy(f.sorter);
    lev_sort_destroy(f.sort);
    return rc;
}

struct update {
    const struct oracle_case *c;
    struct lev_match *match;
    struct lev_updater *updater;
    struct oracle_counts *n;
    struct lev_buf *out;
};

static int
update_one(struct update *u, const bson_t *doc, struct lev_error *err)
{
    bson_t made;
    long position = -1;
    int rc = u->n->matched > 0 && !u->c->multi
                 ? 0
                 : lev_match_test(u->match, doc, NULL, &position, err);

    if (rc <= 0) {
        lev_buf_append(u->out, bson_get_data(doc), doc->len);
        return rc;
    }
    u->n->matched++;
    if (lev_updater_apply(u->updater, doc, position, &made, err) < 0) {
        return -1;
    }
    u->n->modified += !bson_equal(doc, &made);
    lev_buf_append(u->out, bson_get_data(&made), made.len);
    bson_destroy(&made);
    return 0;
}

static int
update_run(struct update *u, struct lev_error *err)
{
    bson_iter_t it;
    bson_t made;

    for (bson_iter_init(&it, &u->c->docs); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        bson_t doc;

        assert(lev_value_open(&v, &doc));
        if (update_one(u, &doc, err) < 0) {
            return -1;
        }
    }
    if (u->n->matched > 0 || !u->c->upsert) {
        return 0;
    }
    if (lev_updater_insert(u->updater, u->match, &made, err) < 0) {
        return -1;
    }
    u->n->upserted = 1;
    lev_buf_append(u->out, bson_get_data(&made), made.len);
    bson_destroy(&made);
    return 0;
}

int
mql_update(void *ctx, const struct oracle_case *c, struct oracle_counts *n,
           struct lev_buf *out, struct lev_error *err)
{
    struct update u = {.c = c, .n = n, .out = out};
    int rc = -1;

    u.match = lev_match_compile(&c->query, err);
    if (u.match != NULL) {
        u.updater = lev_updater_compile(
            &c->update, c->has_array_filters ? &c->array_filters : NULL,
            c->multi, err);
    }
    if (u.updater != NULL) {
        rc = update_run(&u, err);
    }
    lev_match_destroy(u.match);
    lev_updater_destroy(u.updater);
    return rc;
}

struct aggregate {
    const struct oracle_case *c;
    bson_iter_t docs;
};

static int
next_doc(void *ctx, const struct lev_scope *scope, bson_t *doc,
         struct lev_error *err)
{
    struct aggregate *a = ctx;
    bson_value_t v;

    if (!bson_iter_next(&a->docs)) {
        return 0;
    }
    v = lev_value_of(&a->docs);
    return lev_value_open(&v, doc);
}

static int
each_other(void *ctx, const struct lev_scope *scope, const char *coll,
           lev_pipeline_doc_fn fn, void *fn_ctx, struct lev_error *err)
{
    const struct aggregate *a = ctx;
    bson_value_t list = lev_value_field(&a->c->others, coll);
    bson_iter_t it;

    for (bool ok = lev_value_iter(&list, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        bson_t doc;
        int rc;

        assert(lev_value_open(&v, &doc));
        rc = fn(fn_ctx, &doc, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int
mql_aggregate(void *ctx, const struct oracle_case *c, struct lev_buf *out,
              struct lev_error *err)
{
    _cleanup_pipeline_ struct lev_pipeline *p =
        lev_pipeline_compile(&c->pipeline, err);
    struct aggregate a = {.c = c};
    struct lev_pipeline_io io = {&a, next_doc, each_other};
    struct lev_scope scope = lev_scope_within(
        &(struct lev_scope){.deadline = LEV_NEVER}, MQL_PATIENCE);
    bson_t doc;
    int rc;

    if (p == NULL) {
        return -1;
    }
    bson_iter_init(&a.docs, &c->docs);
    lev_pipeline_start(p, &io);
    while ((rc = lev_pipeline_next(p, &scope, &doc, err)) > 0) {
        lev_buf_append(out, bson_get_data(&doc), doc.len);
    }
    return rc;
}
