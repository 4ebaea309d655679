/* What is asked of MongoDB's language on documents in memory is bounded: in
 * memory, in steps, in depth and in time. And what has no recorded answer,
 * because it is made of chance or of the time. */

#include "extjson.h"
#include "match.h"
#include "pipeline.h"
#include "update.h"
#include "value.h"

#include <assert.h>
#include <string.h>

static const struct lev_scope forever = {.deadline = LEV_NEVER};

/* The same document as often as wanted. */
struct source {
    const bson_t *doc;
    int left;
};

static int
next_doc(void *ctx, const struct lev_scope *scope, bson_t *doc,
         struct lev_error *err)
{
    struct source *s = ctx;

    return s->left-- > 0 &&
           bson_init_static(doc, bson_get_data(s->doc), s->doc->len);
}

/* With ' for ". */
static bson_t *
json(const char *text)
{
    char *copy = strdup(text);
    bson_t *doc;

    assert(copy != NULL);
    for (char *p = strchr(copy, '\''); p != NULL; p = strchr(p, '\'')) {
        *p = '"';
    }
    doc = extjson_parse(copy);
    free(copy);
    return doc;
}

/* How many documents come out of {p: [stages]}; the last one is copied. */
static int
run(const char *stages, const bson_t *doc, int n,
    const struct lev_scope *scope, bson_t *last, struct lev_error *err)
{
    bson_t *spec = json(stages), list, given;
    bson_value_t v = lev_value_field(spec, "p");
    struct source source = {doc, n};
    struct lev_pipeline_io io = {&source, next_doc, NULL};
    struct lev_pipeline *p;
    int count = 0, rc = -1;

    assert(lev_value_open(&v, &list));
    p = lev_pipeline_compile(&list, err);
    if (p != NULL) {
        lev_pipeline_start(p, &io);
        while ((rc = lev_pipeline_next(p, scope, &given, err)) > 0) {
            count++;
            bson_reinit(last);
            bson_concat(last, &given);
        }
    }
    lev_pipeline_destroy(p);
    bson_destroy(spec);
    return rc < 0 ? -1 : count;
}

static void
expect(const char *stages, const bson_t *doc, int n, enum lev_errcode code,
       int detail)
{
    struct lev_error err = {0};
    bson_t last = BSON_INITIALIZER;

    assert(run(stages, doc, n, &forever, &last, &err) == -1);
    assert(err.code == code && err.detail == detail);
    bson_destroy(&last);
}

static void
test_values(void)
{
    bson_t *doc = json("{'_id': 1, 's': 'abcdefgh'}");

    expect("{'p': [{'$project': {'r': {'$range': [0, 2000000000]}}}]}", doc, 1,
           LEV_E_QUERY, 10334);
    /* Each round doubles it. */
    expect("{'p': [{'$project': {'r': {'$reduce': {'input': {'$range': [0, "
           "60]}, 'initialValue': '$s', 'in': {'$concat': ['$$value', "
           "'$$value']}}}}}]}",
           doc, 1, LEV_E_QUERY, 10334);
    /* Each round puts it one level deeper. */
    expect("{'p': [{'$project': {'r': {'$reduce': {'input': {'$range': [0, "
           "100000]}, 'initialValue': 1, 'in': ['$$value']}}}}]}",
           doc, 1, LEV_E_QUERY, 15);
    /* Many values that are large together. */
    expect("{'p': [{'$project': {'r': {'$map': {'input': {'$range': [0, "
           "100000]}, 'in': {'$range': [0, 1000]}}}}}]}",
           doc, 1, LEV_E_QUERY, 10334);
    bson_destroy(doc);
}

/* Where no scope can end it. */
static void
expect_steps(const char *query, const bson_t *doc)
{
    bson_t *q = json(query);
    struct lev_error err;
    struct lev_match *m = lev_match_compile(q, &err);

    assert(m != NULL && lev_match_test(m, doc, NULL, NULL, &err) == -1);
    assert(err.code == LEV_E_QUERY && err.detail == 50);
    lev_match_destroy(m);
    bson_destroy(q);
}

static void
test_steps(void)
{
    bson_t *doc = json("{'_id': 1}");

    expect_steps("{'$expr': {'$sum': {'$map': {'input': {'$range': [0, "
                 "100000]}, 'in': {'$size': {'$filter': {'input': {'$range': "
                 "[0, 100000]}, 'cond': false}}}}}}}",
                 doc);
    /* Few nodes, each of which has much to do. */
    expect_steps("{'$expr': {'$let': {'vars': {'a': {'$range': [0, "
                 "1000000]}}, 'in': {'$sum': {'$map': {'input': '$$a', 'in': "
                 "{'$size': '$$a'}}}}}}}",
                 doc);
    bson_destroy(doc);
}

/* An array that is gone through by numbers is read once. */
static void
test_elements_by_number(void)
{
    enum { N = 20000 };
    bson_t doc = BSON_INITIALIZER, last = BSON_INITIALIZER, list;
    struct lev_error err;
    bson_iter_t it;

    bson_append_array_begin(&doc, "a", -1, &list);
    for (uint32_t i = 0; i < N; i++) {
        bson_value_t v = {.value_type = BSON_TYPE_INT32};

        v.value.v_int32 = (int32_t)i;
        lev_value_append_element(&list, i, &v);
    }
    bson_append_array_end(&doc, &list);
    bson_append_array_begin(&doc, "b", -1, &list);
    bson_append_int32(&list, "0", -1, 7);
    bson_append_array_end(&doc, &list);
    assert(
        run("{'p': [{'$match': {'$expr': {'$eq': ['$a', {'$map': {'input': "
            "{'$range': [0, {'$size': '$a'}]}, 'in': {'$arrayElemAt': "
            "['$a', '$$this']}}}]}}}, {'$project': {'up': {'$sum': {'$map': "
            "{'input': {'$range': [0, 100]}, 'in': {'$add': "
            "[{'$arrayElemAt': ['$a', '$$this']}, {'$arrayElemAt': ['$b', "
            "0]}, {'$last': '$a'}, {'$first': '$a'}]}}}}, 'none': {'$type': "
            "{'$arrayElemAt': ['$a', 20000]}}}}]}",
            &doc, 1, &forever, &last, &err) == 1);
    assert(bson_iter_init_find(&it, &last, "up"));
    assert(bson_iter_as_int64(&it) == 4950 + 100 * 7 + 100 * (N - 1));
    assert(bson_iter_init_find(&it, &last, "none"));
    assert(strcmp(bson_iter_utf8(&it, NULL), "missing") == 0);
    bson_destroy(&doc);
    bson_destroy(&last);
}

static void
test_deadline(void)
{
    struct lev_scope over = lev_scope_within(&forever, 0);
    struct lev_error err = {0};
    struct lev_cancel cancel;
    bson_t *doc = json("{'_id': 1}"), last = BSON_INITIALIZER;
    struct lev_scope cancelled;

    assert(run("{'p': [{'$match': {}}]}", doc, 1, &over, &last, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT);
    lev_cancel_init(&cancel, NULL);
    cancelled = (struct lev_scope){LEV_NEVER, &cancel};
    lev_cancel_fire(&cancel);
    assert(run("{'p': [{'$match': {}}]}", doc, 1, &cancelled, &last, &err) ==
           -1);
    assert(err.code == LEV_E_CANCELLED);
    lev_cancel_deinit(&cancel);
    bson_destroy(&last);
    bson_destroy(doc);
}

/* A deadline that passes within one expression, which nothing interrupts but
 * its own look at the scope. */
static void
test_deadline_inside(void)
{
    struct lev_scope soon = lev_scope_within(&forever, 20 * LEV_MS);
    struct lev_error err = {0};
    bson_t *doc = json("{'_id': 1}"), last = BSON_INITIALIZER;

    assert(run("{'p': [{'$project': {'r': {'$reduce': {'input': {'$range': "
               "[0, 900000]}, 'initialValue': 0, 'in': {'$max': ['$$value', "
               "{'$size': {'$range': [0, 900000]}}]}}}}}]}",
               doc, 1, &soon, &last, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT);
    bson_destroy(&last);
    bson_destroy(doc);
}

/* Stages that hold documents give up at 100 MiB. */
static void
test_stages(void)
{
    bson_t large = BSON_INITIALIZER;
    char *text = malloc(1024 * 1024 + 1);

    assert(text != NULL);
    memset(text, 'x', 1024 * 1024);
    text[1024 * 1024] = '\0';
    bson_append_utf8(&large, "s", -1, text, -1);
    expect("{'p': [{'$sort': {'s': 1}}]}", &large, 200, LEV_E_QUERY, 292);
    expect("{'p': [{'$facet': {'a': [{'$limit': 1}]}}]}", &large, 200,
           LEV_E_QUERY, 292);
    expect("{'p': [{'$sample': {'size': 1000}}]}", &large, 200, LEV_E_QUERY,
           292);
    expect("{'p': [{'$group': {'_id': 1, 'all': {'$push': '$s'}}}]}", &large,
           200, LEV_E_QUERY, 10334);
    free(text);
    bson_destroy(&large);
}

/* … but what a $limit lets them forget, they do not hold. */
static void
test_sort_limit(void)
{
    bson_t large = BSON_INITIALIZER, last = BSON_INITIALIZER;
    char *text = malloc(1024 * 1024 + 1);
    struct lev_error err;

    assert(text != NULL);
    memset(text, 'x', 1024 * 1024);
    text[1024 * 1024] = '\0';
    bson_append_utf8(&large, "s", -1, text, -1);
    assert(run("{'p': [{'$sort': {'s': 1}}, {'$skip': 2}, {'$limit': 3}]}",
               &large, 200, &forever, &last, &err) == 3);
    assert(run("{'p': [{'$sample': {'size': 3}}]}", &large, 200, &forever,
               &last, &err) == 3);
    free(text);
    bson_destroy(&last);
    bson_destroy(&large);
}

/* 101 levels come of two stages that make 60 each. */
static void
test_depth(void)
{
    char stages[2000] = "{'p': [";
    bson_t *doc = json("{'_id': 1, 'a': 1}");

    for (int stage = 0; stage < 2; stage++) {
        strcat(stages, stage == 0 ? "" : ", ");
        strcat(stages, "{'$project': {'a': ");
        for (int i = 0; i < 60; i++) {
            strcat(stages, "[");
        }
        strcat(stages, "'$a'");
        for (int i = 0; i < 60; i++) {
            strcat(stages, "]");
        }
        strcat(stages, "}}");
    }
    strcat(stages, "]}");
    expect(stages, doc, 1, LEV_E_QUERY, 15);
    bson_destroy(doc);
}

static void
test_sample_is_random(void)
{
    struct lev_error err;
    bson_t *doc = json("{'_id': 1, 'a': [1, 2, 3, 4, 5, 6, 7, 8]}");
    bson_t first = BSON_INITIALIZER, again = BSON_INITIALIZER;
    bool differed = false;

    /* One in 8^63 times this fails though all is well. */
    assert(run("{'p': [{'$unwind': '$a'}, {'$sample': {'size': 1}}]}", doc, 1,
               &forever, &first, &err) == 1);
    for (int i = 0; i < 63; i++) {
        assert(run("{'p': [{'$unwind': '$a'}, {'$sample': {'size': 1}}]}", doc,
                   1, &forever, &again, &err) == 1);
        differed |= !bson_equal(&first, &again);
    }
    assert(differed);
    bson_destroy(&first);
    bson_destroy(&again);
    bson_destroy(doc);
}

static void
test_now(void)
{
    struct lev_error err;
    bson_t *doc = json("{'_id': 1}"), last = BSON_INITIALIZER;
    bson_iter_t it;

    assert(run("{'p': [{'$project': {'_id': 0, 'a': {'$eq': ['$$NOW', "
               "'$$NOW']}, 'b': {'$gt': ['$$NOW', {'$toDate': "
               "'2024-01-01'}]}, 'c': {'$type': '$$NOW'}}}]}",
               doc, 1, &forever, &last, &err) == 1);
    assert(bson_iter_init_find(&it, &last, "a") && bson_iter_bool(&it));
    assert(bson_iter_init_find(&it, &last, "b") && bson_iter_bool(&it));
    assert(bson_iter_init_find(&it, &last, "c"));
    assert(strcmp(bson_iter_utf8(&it, NULL), "date") == 0);
    bson_destroy(&last);
    bson_destroy(doc);
}

static void
test_current_date(void)
{
    struct lev_error err;
    bson_t *update = json("{'$currentDate': {'a': true, 'b.c': {'$type': "
                          "'timestamp'}, 'd': {'$type': 'date'}}}");
    bson_t *doc = json("{'_id': 1, 'a': 'old'}"), made;
    struct lev_updater *u = lev_updater_compile(update, NULL, false, &err);
    bson_iter_t it, below;

    assert(u != NULL && lev_updater_apply(u, doc, -1, &made, &err) == 0);
    assert(bson_iter_init_find(&it, &made, "a"));
    assert(BSON_ITER_HOLDS_DATE_TIME(&it));
    assert(bson_iter_date_time(&it) > INT64_C(1704067200000));
    assert(bson_iter_init(&it, &made) &&
           bson_iter_find_descendant(&it, "b.c", &below));
    assert(BSON_ITER_HOLDS_TIMESTAMP(&below));
    assert(bson_iter_init_find(&it, &made, "d"));
    assert(BSON_ITER_HOLDS_DATE_TIME(&it));
    bson_destroy(&made);
    lev_updater_destroy(u);
    bson_destroy(doc);
    bson_destroy(update);
}

/* Old fields stay where they are, new ones come in order of their names. */
static void
test_many_fields(void)
{
    enum { N = 20000 };
    bson_t doc = BSON_INITIALIZER, want = BSON_INITIALIZER, made;
    bson_t update = BSON_INITIALIZER, set;
    struct lev_updater *u;
    struct lev_error err;
    char key[16];

    bson_append_document_begin(&update, "$set", -1, &set);
    for (int i = N; i-- > 0;) {
        snprintf(key, sizeof(key), "k%05d", i);
        bson_append_int32(&set, key, -1, 1);
    }
    bson_append_document_end(&update, &set);
    for (int i = N - 1; i >= 0; i -= 2) {
        snprintf(key, sizeof(key), "k%05d", i);
        bson_append_int32(&doc, key, -1, 0);
        bson_append_int32(&want, key, -1, 1);
    }
    for (int i = 0; i < N; i += 2) {
        snprintf(key, sizeof(key), "k%05d", i);
        bson_append_int32(&want, key, -1, 1);
    }
    u = lev_updater_compile(&update, NULL, false, &err);
    assert(u != NULL && lev_updater_apply(u, &doc, -1, &made, &err) == 0);
    assert(bson_equal(&made, &want));
    lev_updater_destroy(u);
    bson_destroy(&made);
    bson_destroy(&update);
    bson_destroy(&doc);
    bson_destroy(&want);
}

static int
compile_query(const char *text, struct lev_error *err)
{
    bson_t *query = json(text);
    struct lev_match *m = lev_match_compile(query, err);
    int rc = m == NULL ? -1 : 0;

    lev_match_destroy(m);
    bson_destroy(query);
    return rc;
}

static void
test_unsupported(void)
{
    bson_t *doc = json("{'_id': 1}");
    struct lev_error err;

    expect("{'p': [{'$graphLookup': {}}]}", doc, 1,
           LEV_E_UNSUPPORTED_OPERATION, 0);
    expect("{'p': [{'$lookup': {'from': 'x', 'pipeline': [], 'as': 'y'}}]}",
           doc, 1, LEV_E_UNSUPPORTED_OPERATION, 0);
    expect("{'p': [{'$group': {'_id': 1, 'a': {'$top': {}}}}]}", doc, 1,
           LEV_E_UNSUPPORTED_OPERATION, 0);
    expect("{'p': [{'$project': {'a': {'$regexMatch': {}}}}]}", doc, 1,
           LEV_E_UNSUPPORTED_OPERATION, 0);
    assert(compile_query("{'$expr': {'$rand': {}}}", &err) == -1);
    assert(err.code == LEV_E_UNSUPPORTED_OPERATION);
    assert(strstr(err.msg, "$rand") != NULL);
    bson_destroy(doc);
}

static void
test_expr_elsewhere(void)
{
    bson_t *update = json("{'$pull': {'a': {'x': 1, '$expr': true}}}");
    bson_t *plain = json("{'$set': {'a.$[e]': 1}}");
    bson_t *filters = json("{'0': {'$and': [{'e': 1}, {'$expr': true}]}}");
    struct lev_error err;

    assert(compile_query("{'a': {'$elemMatch': {'$expr': true}}}", &err) ==
           -1);
    assert(err.code == LEV_E_QUERY && err.detail == 224);
    assert(compile_query("{'$or': [{'$expr': '$a'}]}", &err) == 0);
    assert(lev_updater_compile(update, NULL, false, &err) == NULL);
    assert(err.code == LEV_E_QUERY && err.detail == 224);
    assert(lev_updater_compile(plain, filters, false, &err) == NULL);
    assert(err.code == LEV_E_QUERY && err.detail == 224);
    bson_destroy(update);
    bson_destroy(plain);
    bson_destroy(filters);
}

int
main(void)
{
    test_expr_elsewhere();
    test_values();
    test_steps();
    test_elements_by_number();
    test_deadline();
    test_deadline_inside();
    test_stages();
    test_sort_limit();
    test_depth();
    test_sample_is_random();
    test_now();
    test_current_date();
    test_many_fields();
    test_unsupported();
    return 0;
}
