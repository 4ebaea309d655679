#include "aggregate.h"

#include <string.h>

#include "number.h"
#include "pipeline.h"
#include "value.h"

/* Bytes of one batch, about. */
#define BATCH_BYTES (16u * 1024 * 1024)

/* Documents that are fetched at once; more of them at a time as it goes on. */
#define FETCH_MIN 64
#define FETCH_MAX 4096

/* Documents of a find, one at a time. */
struct reader {
    struct lev_store *store; /* borrowed */
    struct lev_cursor *cursor;
    struct lev_buf batch;
    size_t at; /* in the batch */
    int max;   /* of the next batch */
};

struct lev_aggregate {
    struct lev_store *store; /* a reference */
    struct lev_pipeline *pipeline;
    struct reader source;
    struct lev_error failed; /* code LEV_OK: it has not */
    bool ended;
};

static void
reader_deinit(struct reader *r)
{
    if (r->cursor != NULL) {
        r->store->ops->cursor_close(r->cursor);
    }
    lev_buf_deinit(&r->batch);
}

static int
reader_open(struct reader *r, struct lev_store *store,
            const struct lev_scope *scope, const struct lev_find *f,
            struct lev_error *err)
{
    *r = (struct reader){.store = store, .max = FETCH_MIN};
    r->cursor = store->ops->find(store, scope, f, err);
    return r->cursor == NULL ? -1 : 0;
}

static int
reader_next(struct reader *r, const struct lev_scope *scope, bson_t *doc,
            struct lev_error *err)
{
    uint32_t len;

    if (r->at == r->batch.len) {
        int n;

        lev_buf_clear(&r->batch);
        r->at = 0;
        n = r->store->ops->next(r->cursor, scope, r->max, &r->batch, err);
        if (n <= 0) {
            return n;
        }
        r->max = r->max < FETCH_MAX ? r->max * 2 : FETCH_MAX;
    }
    memcpy(&len, r->batch.data + r->at, sizeof(len));
    len = BSON_UINT32_FROM_LE(len);
    if (!bson_init_static(doc, (const uint8_t *)r->batch.data + r->at, len)) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "aggregate: a document is damaged");
    }
    r->at += len;
    return 1;
}

/* What the pipeline asks of us. */

static int
next_source(void *ctx, const struct lev_scope *scope, bson_t *doc,
            struct lev_error *err)
{
    struct lev_aggregate *a = ctx;

    return reader_next(&a->source, scope, doc, err);
}

static int
each_of_other(void *ctx, const struct lev_scope *scope, const char *coll,
              lev_pipeline_doc_fn fn, void *fn_ctx, struct lev_error *err)
{
    const struct lev_aggregate *a = ctx;
    struct lev_find all = {.coll = coll};
    struct reader r;
    bson_t doc;
    int rc;

    if (reader_open(&r, a->store, scope, &all, err) < 0) {
        return -1;
    }
    while ((rc = reader_next(&r, scope, &doc, err)) > 0) {
        rc = fn(fn_ctx, &doc, err);
        if (rc != 0) {
            break;
        }
    }
    reader_deinit(&r);
    return rc;
}

/* The pipeline's beginning as a find. */

struct beginning {
    struct lev_find find;
    bson_t query, sort;
    size_t n; /* stages */
};

/* The value of the stage `name` where that is the next one. */
static bool
take_stage(bson_iter_t *it, const char *name, bson_value_t *spec)
{
    bson_value_t stage = lev_value_of(it);
    bson_t doc;

    if (stage.value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_open(&stage, &doc)) {
        return false;
    }
    *spec = lev_value_field(&doc, name);
    return spec->value_type != BSON_TYPE_EOD;
}

/* In the order in which a find does them. The stages are sound: they have been
 * compiled. */
static void
find_beginning(const bson_t *pipeline, struct beginning *b)
{
    bson_value_t spec;
    bson_iter_t it;
    bool more = bson_iter_init(&it, pipeline) && bson_iter_next(&it);

    if (more && take_stage(&it, "$match", &spec) &&
        lev_value_open(&spec, &b->query))
    {
        b->find.query = &b->query;
        b->n++;
        more = bson_iter_next(&it);
    }
    if (more && take_stage(&it, "$sort", &spec) &&
        lev_value_open(&spec, &b->sort)) {
        b->find.sort = &b->sort;
        b->n++;
        more = bson_iter_next(&it);
    }
    if (more && take_stage(&it, "$skip", &spec) &&
        lev_number_whole(&spec, &b->find.skip))
    {
        b->n++;
        more = bson_iter_next(&it);
    }
    if (more && take_stage(&it, "$limit", &spec) &&
        lev_number_whole(&spec, &b->find.limit))
    {
        b->n++;
    }
}

static inline void
aggregate_closep(struct lev_aggregate **a)
{
    lev_aggregate_close(*a);
}

void
lev_aggregate_close(struct lev_aggregate *a)
{
    if (a == NULL) {
        return;
    }
    reader_deinit(&a->source);
    lev_pipeline_destroy(a->pipeline);
    lev_store_unref(a->store);
    free(a);
}

struct lev_aggregate *
lev_aggregate_open(struct lev_store *store, const struct lev_scope *scope,
                   const char *coll, const bson_t *pipeline,
                   struct lev_error *err)
{
    _cleanup_(aggregate_closep) struct lev_aggregate *a =
        calloc(1, sizeof(*a));
    struct lev_pipeline_io io = {a, next_source, each_of_other};
    struct beginning b = {.find = {.coll = coll}};

    if (a == NULL) {
        lev_error_nomem(err, "aggregate");
        return NULL;
    }
    a->store = lev_store_ref(store);
    a->pipeline = lev_pipeline_compile(pipeline, err);
    if (a->pipeline == NULL) {
        return NULL;
    }
    find_beginning(pipeline, &b);
    lev_pipeline_drop(a->pipeline, b.n);
    lev_pipeline_start(a->pipeline, &io);
    return reader_open(&a->source, store, scope, &b.find, err) < 0
               ? NULL
               : lev_steal(a);
}

static int
fill(struct lev_aggregate *a, const struct lev_scope *scope, int max,
     struct lev_buf *out, struct lev_error *err)
{
    size_t start = out->len;
    int n = 0, rc = 1;
    bson_t doc;

    while (n < max && out->len - start < BATCH_BYTES &&
           (rc = lev_pipeline_next(a->pipeline, scope, &doc, err)) > 0)
    {
        lev_buf_append(out, bson_get_data(&doc), doc.len);
        if (lev_buf_check(out, "aggregate", err) < 0) {
            return -1;
        }
        n++;
    }
    a->ended = rc == 0;
    return rc < 0 ? -1 : n;
}

int
lev_aggregate_next(struct lev_aggregate *a, const struct lev_scope *scope,
                   int max, struct lev_buf *out, struct lev_error *err)
{
    size_t start = out->len;
    int n;

    if (a->failed.code != LEV_OK) {
        *err = a->failed;
        return -1;
    }
    if (a->ended) {
        return 0;
    }
    n = fill(a, scope, max, out, err);
    if (n < 0) {
        /* Documents have been used up that are in no result. */
        a->failed = *err;
        out->len = start;
    }
    return n;
}
