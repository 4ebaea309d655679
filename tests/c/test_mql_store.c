/* MongoDB's language through a store's operations, each case in a collection
 * of its own. */

#include "oracle.h"
#include "storelib.h"
#include "value.h"

#include <assert.h>

static int
fill_coll(struct lev_store *st, const char *coll, const bson_t *list,
          struct lev_error *err)
{
    bson_t all[16];
    const bson_t *docs[LEV_ARRAY_LEN(all)];
    bson_iter_t it;
    size_t n = 0;

    for (bson_iter_init(&it, list); bson_iter_next(&it); n++) {
        bson_value_t v = lev_value_of(&it);

        assert(n < LEV_ARRAY_LEN(all) && lev_value_open(&v, &all[n]));
        docs[n] = &all[n];
    }
    return n == 0 ? 0 : st->ops->insert(st, &forever, coll, docs, n, err);
}

static int
fill(struct lev_store *st, const struct oracle_case *c, struct lev_error *err)
{
    return fill_coll(st, c->id, &c->docs, err);
}

static int
read_cursor(struct lev_store *st, struct lev_cursor *cursor,
            struct lev_buf *out, struct lev_error *err)
{
    int n;

    if (cursor == NULL) {
        return -1;
    }
    do {
        n = st->ops->next(cursor, &forever, 3, out, err);
    } while (n > 0);
    st->ops->cursor_close(cursor);
    return n;
}

static int
read_all(struct lev_store *st, const struct lev_find *f, struct lev_buf *out,
         struct lev_error *err)
{
    return read_cursor(st, st->ops->find(st, &forever, f, err), out, err);
}

static int
find_in_store(void *ctx, const struct oracle_case *c, struct lev_buf *out,
              struct lev_error *err)
{
    struct lev_store *st = ctx;
    struct lev_find f = {
        .coll = c->id,
        .query = &c->query,
        .projection = c->has_projection ? &c->projection : NULL,
        .sort = c->has_sort ? &c->sort : NULL,
        .skip = c->skip,
        .limit = c->limit,
    };

    return fill(st, c, err) < 0 ? -1 : read_all(st, &f, out, err);
}

static int
update_in_store(void *ctx, const struct oracle_case *c,
                struct oracle_counts *n, struct lev_buf *out,
                struct lev_error *err)
{
    struct lev_store *st = ctx;
    struct lev_update u = {
        .coll = c->id,
        .query = &c->query,
        .update = &c->update,
        .upsert = c->upsert,
        .multi = c->multi,
        .array_filters = c->has_array_filters ? &c->array_filters : NULL,
    };
    struct lev_find all = {.coll = c->id};
    struct lev_update_result r;

    if (fill(st, c, err) < 0 || st->ops->update(st, &forever, &u, &r, err) < 0)
    {
        return -1;
    }
    *n = (struct oracle_counts){r.matched, r.modified, r.upserted};
    if (r.upserted) {
        bson_value_destroy(&r.upserted_id);
    }
    return read_all(st, &all, out, err);
}

static int
aggregate_in(struct lev_store *st, const struct oracle_case *c,
             struct lev_buf *out, struct lev_error *err)
{
    return fill(st, c, err) < 0
               ? -1
               : read_cursor(st,
                             st->ops->aggregate(st, &forever, c->id,
                                                &c->pipeline, err),
                             out, err);
}

/* $lookup names collections: cases that have any get a store of their own. */
static int
aggregate_in_store(void *ctx, const struct oracle_case *c, struct lev_buf *out,
                   struct lev_error *err)
{
    struct lev_store *own;
    bson_iter_t it;
    int rc = 0;

    if (bson_empty(&c->others)) {
        return aggregate_in(ctx, c, out, err);
    }
    own = store_open(c->id);
    for (bson_iter_init(&it, &c->others); rc == 0 && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        bson_t list;

        assert(lev_value_open(&v, &list));
        rc = fill_coll(own, bson_iter_key(&it), &list, err);
    }
    if (rc == 0) {
        rc = aggregate_in(own, c, out, err);
    }
    lev_store_unref(own);
    return rc;
}

int
main(int argc, char **argv)
{
    struct oracle_backend backend = {find_in_store, update_in_store,
                                     aggregate_in_store, NULL};
    const char *only = argc > 1 ? argv[1] : "";
    struct lev_store *st;
    int wrong;

    dir_make();
    st = store_open("mql.db");
    backend.ctx = st;
    wrong = oracle_run(&backend, "mql-oracle.jsonl", only) +
            oracle_run(&backend, "mql-more.jsonl", only);
    lev_store_unref(st);
    dir_remove();
    return wrong != 0;
}
