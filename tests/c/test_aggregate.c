/* Pipelines over a store's collections; what stages do to documents is
 * test_mql.c's. */

#include "storelib.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define DOCS 1000

static void
fill(struct lev_store *st)
{
    bson_t *docs[DOCS];
    struct lev_error err;

    for (int i = 0; i < DOCS; i++) {
        docs[i] = BCON_NEW("_id", BCON_INT32(i), "g", BCON_INT32(i % 3),
                           "_lev", "{", "seq", BCON_INT32(i), "}");
    }
    assert(st->ops->insert(st, &forever, "c", (const bson_t *const *)docs,
                           DOCS, &err) == 0);
    for (int i = 0; i < DOCS; i++) {
        bson_destroy(docs[i]);
    }
}

static struct lev_cursor *
start(struct lev_store *st, const char *coll, const char *stages,
      struct lev_error *err)
{
    bson_t *pipeline = json(stages);
    struct lev_cursor *c =
        st->ops->aggregate(st, &forever, coll, pipeline, err);

    bson_destroy(pipeline);
    return c;
}

/* All documents of a pipeline, in batches of 7, as relaxed JSON without
 * spaces and with ' for "; free(). */
static char *
all(struct lev_store *st, const char *coll, const char *stages)
{
    struct lev_error err;
    struct lev_cursor *c = start(st, coll, stages, &err);
    struct lev_buf out = {0}, text = {0};
    int n;

    assert(c != NULL);
    while ((n = st->ops->next(c, &forever, 7, &out, &err)) > 0) {
        assert(n <= 7);
    }
    assert(n == 0 && st->ops->next(c, &forever, 7, &out, &err) == 0);
    st->ops->cursor_close(c);
    for (size_t at = 0; at < out.len;) {
        uint32_t len;
        bson_t doc;
        char *one;

        memcpy(&len, out.data + at, sizeof(len));
        assert(bson_init_static(&doc, (uint8_t *)out.data + at, len));
        one = bson_as_relaxed_extended_json(&doc, NULL);
        lev_buf_puts(&text, at == 0 ? "" : " ");
        for (const char *p = one; *p != '\0'; p++) {
            if (*p != ' ') {
                lev_buf_putc(&text, (char)(*p == '"' ? '\'' : *p));
            }
        }
        bson_free(one);
        at += len;
    }
    lev_buf_deinit(&out);
    return text.len == 0 ? strdup("") : lev_buf_take(&text);
}

#define GIVES(st, coll, stages, want)                                         \
    expect_text(__FILE__, __LINE__, all(st, coll, stages), want)

/* The same with and without what the find takes over. */
static void
test_beginning(struct lev_store *st)
{
    static const char *const beginnings[] = {
        "{'0': {'$match': {'g': 1}}, '1': {'$sort': {'_id': -1}}, '2': "
        "{'$skip': 2}, '3': {'$limit': 3}}",
        "{'0': {'$unset': 'none'}, '1': {'$match': {'g': 1}}, '2': {'$sort': "
        "{'_id': -1}}, '3': {'$skip': 2}, '4': {'$limit': 3}}",
        "{'0': {'$sort': {'_id': -1}}, '1': {'$match': {'g': 1}}, '2': "
        "{'$skip': 2}, '3': {'$limit': 3}}",
        "{'0': {'$match': {'g': 1}}, '1': {'$match': {'_id': {'$gte': 0}}}, "
        "'2': {'$sort': {'_id': -1}}, '3': {'$limit': 5}, '4': {'$skip': 2}}",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(beginnings); i++) {
        GIVES(st, "c", beginnings[i],
              "{'_id':991,'g':1} {'_id':988,'g':1} {'_id':985,'g':1}");
    }
    GIVES(st, "c", "{'0': {'$limit': 2}, '1': {'$skip': 1}}",
          "{'_id':1,'g':1}");
    GIVES(st, "c", "{'0': {'$skip': 998}}",
          "{'_id':998,'g':2} {'_id':999,'g':0}");
}

static void
test_whole(struct lev_store *st)
{
    GIVES(st, "c",
          "{'0': {'$group': {'_id': '$g', 'n': {'$sum': 1}, 's': {'$sum': "
          "'$_id'}}}, '1': {'$sort': {'_id': 1}}}",
          "{'_id':0,'n':334,'s':166833} {'_id':1,'n':333,'s':166167} "
          "{'_id':2,'n':333,'s':166500}");
    GIVES(st, "c", "{'0': {'$match': {'_id': 5}}}", "{'_id':5,'g':2}");
    GIVES(st, "none", "{}", "");
    GIVES(st, "none", "{'0': {'$count': 'n'}}", "");
    /* The reserved field is not seen, nor by the whole document's name. */
    GIVES(st, "c",
          "{'0': {'$limit': 1}, '1': {'$project': {'r': '$$ROOT', 's': "
          "'$_lev.seq'}}}",
          "{'_id':0,'r':{'_id':0,'g':0}}");
}

static void
test_lookup(struct lev_store *st)
{
    put(st, "names", "{'_id': 'zero', 'of': 0, '_lev': 1}");
    put(st, "names", "{'_id': 'two', 'of': [2, 7]}");
    GIVES(st, "c",
          "{'0': {'$limit': 3}, '1': {'$lookup': {'from': 'names', "
          "'localField': 'g', 'foreignField': 'of', 'as': 'n'}}}",
          "{'_id':0,'g':0,'n':[{'_id':'zero','of':0}]} {'_id':1,'g':1,'n':[]} "
          "{'_id':2,'g':2,'n':[{'_id':'two','of':[2,7]}]}");
    GIVES(st, "names",
          "{'0': {'$lookup': {'from': 'missing', 'localField': 'of', "
          "'foreignField': 'x', 'as': 'of'}}}",
          "{'_id':'zero','of':[]} {'_id':'two','of':[]}");
}

/* Writes between two batches neither fail nor tear. */
static void
test_writes_between(struct lev_store *st)
{
    struct lev_error err;
    struct lev_cursor *c =
        start(st, "c", "{'0': {'$project': {'_id': 1}}}", &err);
    struct lev_buf out = {0};
    int total = 0, n;

    assert(c != NULL);
    while ((n = st->ops->next(c, &forever, 100, &out, &err)) > 0) {
        total += n;
        update(st, "c", "{}", "{'$inc': {'more': 1}}", false, true);
    }
    assert(n == 0 && total == DOCS);
    st->ops->cursor_close(c);
    lev_buf_deinit(&out);
    update(st, "c", "{}", "{'$unset': {'more': 1}}", false, true);
}

/* What has failed fails again, and gives nothing of the failed batch. */
static void
test_failing(struct lev_store *st)
{
    struct lev_error err, again;
    struct lev_cursor *c =
        start(st, "c",
              "{'0': {'$project': {'r': {'$divide': [1, {'$subtract': "
              "['$_id', 50]}]}}}}",
              &err);
    struct lev_buf out = {0};
    size_t before;

    assert(c != NULL);
    assert(st->ops->next(c, &forever, 40, &out, &err) == 40);
    before = out.len;
    assert(st->ops->next(c, &forever, 40, &out, &err) == -1);
    assert(err.code == LEV_E_QUERY && err.detail == 2 && out.len == before);
    assert(st->ops->next(c, &forever, 40, &out, &again) == -1);
    assert(again.detail == err.detail && strcmp(again.msg, err.msg) == 0);
    st->ops->cursor_close(c);
    lev_buf_deinit(&out);
}

static void
test_bad(struct lev_store *st)
{
    struct lev_error err;

    assert(start(st, "c", "{'0': {'$nothing': 1}}", &err) == NULL);
    assert(err.code == LEV_E_QUERY && err.detail == 40324);
    assert(start(st, "c", "{'0': {'$match': {'a': {'$nothing': 1}}}}", &err) ==
           NULL);
    assert(err.code == LEV_E_QUERY && err.detail == 2);
    assert(start(st, "c", "{'0': {'$merge': 'x'}}", &err) == NULL);
    assert(err.code == LEV_E_UNSUPPORTED_OPERATION);
    assert(start(st, "", "{}", &err) == NULL);
    assert(err.code == LEV_E_QUERY && err.detail == 73);
}

static void
test_deadline(struct lev_store *st)
{
    struct lev_scope over = lev_scope_within(&forever, 0);
    struct lev_error err;
    struct lev_cursor *c =
        start(st, "c", "{'0': {'$group': {'_id': '$g'}}}", &err);
    struct lev_buf out = {0};

    assert(c != NULL);
    assert(st->ops->next(c, &over, 10, &out, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT && out.len == 0);
    st->ops->cursor_close(c);
    lev_buf_deinit(&out);
}

int
main(void)
{
    struct lev_store *st;

    dir_make();
    st = store_open("aggregate.db");
    fill(st);
    test_beginning(st);
    test_whole(st);
    test_lookup(st);
    test_writes_between(st);
    test_failing(st);
    test_bad(st);
    test_deadline(st);
    lev_store_unref(st);
    dir_remove();
    return 0;
}
