/* A store: what it keeps, finds and changes, alone and from many threads; the
 * embedded one, or MongoDB with LEV_TEST_STORE=mongo. What can go wrong around
 * them is test_store_faults.c's and test_mongo_faults.c's. */

#include "storelib.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

static void
test_insert(void)
{
    struct lev_store *st = store_open("a.db");
    bson_t *three[] = {json("{'_id': 7}"), json("{'x': 1, '_id': 8}"),
                       json("{'_id': 7.0}")};
    struct lev_error err;

    put(st, "a", "{'_id': 1, 'x': [1, 2]}");
    put(st, "a", "{'x': 'no id', '_id': 'two'}");
    FINDS(st, "a", "{}", "{'_id':1,'x':[1,2]} {'_id':'two','x':'noid'}");
    err = put_fails(st, "a", "{'_id': 1.0}", LEV_E_QUERY);
    assert(err.detail == LEV_STORE_DUPLICATE_KEY);
    assert(store_is_mongo() ? strstr(err.msg, "E11000") != NULL
                            : strstr(err.msg, "'a'") != NULL &&
                                  strstr(err.msg, "1.0") != NULL);
    err = put_fails(st, "a", "{'_id': [1]}", LEV_E_QUERY);
    assert(err.detail == 53);
    err = put_fails(st, "", "{}", LEV_E_QUERY);
    assert(err.detail == 73);
    put(st, "a", "{'_id': null}");
    FINDS(st, "a", "{'_id': null}", "{'_id':null}");

    /* All or none; without transactions: up to the one that fails. */
    assert(st->ops->insert(st, &forever, "b", (const bson_t *const *)three, 3,
                           &err) < 0);
    assert(err.detail == LEV_STORE_DUPLICATE_KEY);
    FINDS(st, "b", "{}", store_is_mongo() ? "{'_id':7} {'_id':8,'x':1}" : "");
    assert(st->ops->insert(st, &forever, "two", (const bson_t *const *)three,
                           2, &err) == 0);
    FINDS(st, "two", "{}", "{'_id':7} {'_id':8,'x':1}");
    assert(st->ops->insert(st, &forever, "b", NULL, 0, &err) < 0);
    for (int i = 0; i < 3; i++) {
        bson_destroy(three[i]);
    }
    put(st, "c", "{}");
    assert(count(st, "c", "{'_id': {'$type': 'objectId'}}") == 1);
    lev_store_unref(st);
}

static void
test_find(void)
{
    struct lev_store *st = store_open("find.db");
    bson_t names = BSON_INITIALIZER;
    struct lev_error err;
    char doc[80], *text;

    for (int i = 0; i < 10; i++) {
        snprintf(doc, sizeof(doc), "{'_id': %d, 'r': %d, '_lev': {'seq': %d}}",
                 i, 9 - i, i);
        put(st, "f", doc);
    }
    expect_text(__FILE__, __LINE__,
                find(st, "f", "{'r': {'$lt': 5}}", "{'r': 1, '_id': 0}",
                     "{'r': -1}", 1, 3),
                "{'r':3} {'r':2} {'r':1}");
    expect_text(__FILE__, __LINE__, find(st, "f", NULL, NULL, NULL, 8, 0),
                "{'_id':8,'r':1} {'_id':9,'r':0}");
    expect_text(__FILE__, __LINE__, find(st, "f", NULL, NULL, NULL, 0, 1),
                "{'_id':0,'r':9}");
    FINDS(st, "f", "{'_id': 3.0, 'r': 6}", "{'_id':3,'r':6}");
    FINDS(st, "f", "{'_id': 3, 'r': 5}", "");
    FINDS(st, "none", "{}", "");

    /* The reserved field is matched, and not given back. */
    FINDS(st, "f", "{'_lev.seq': {'$gt': 8}}", "{'_id':9,'r':0}");
    expect_text(__FILE__, __LINE__,
                find(st, "f", "{'_id': 1}", "{'_lev': 1}", NULL, 0, 0),
                "{'_id':1}");
    assert(count(st, "f", "{}") == 10 && count(st, "none", "{}") == 0);
    assert(count(st, "f", "{'r': {'$in': [1, 2, 77]}}") == 2);
    assert(count(st, "f", "{'_id': 4}") == 1);
    put(st, "b|c", "{}");
    assert(st->ops->collections(st, &forever, &names, &err) == 0);
    text = bson_array_as_json(&names, NULL);
    assert(strcmp(text, "[ \"b|c\", \"f\" ]") == 0);
    bson_free(text);
    bson_destroy(&names);
    lev_store_unref(st);
}

static int
find_error(struct lev_store *st, struct lev_find f, enum lev_errcode code)
{
    struct lev_error err;

    assert(st->ops->find(st, &forever, &f, &err) == NULL);
    assert(err.code == code && err.msg[0] != '\0');
    return err.detail;
}

static void
test_bad_find(void)
{
    struct lev_store *st = store_open("find.db");
    bson_t *query = json("{'r': {'$gtt': 1}}"), *sort = json("{'a': 3}");
    bson_t *where = json("{'$where': '1'}");
    bson_t *mixed = json("{'a': 1, 'b': 0}");

    assert(find_error(st, (struct lev_find){.coll = "f", .query = query},
                      LEV_E_QUERY) == 2);
    if (!store_is_mongo()) { /* the tests' server takes these */
        assert(find_error(st,
                          (struct lev_find){.coll = "f", .projection = mixed},
                          LEV_E_QUERY) == 31254);
        find_error(st, (struct lev_find){.coll = "f", .sort = sort},
                   LEV_E_QUERY);
        find_error(st, (struct lev_find){.coll = "f", .query = where},
                   LEV_E_UNSUPPORTED_OPERATION);
    }
    find_error(st, (struct lev_find){.coll = "f", .skip = -1}, LEV_E_QUERY);
    find_error(st, (struct lev_find){.coll = "f", .limit = -1}, LEV_E_QUERY);
    find_error(st, (struct lev_find){.coll = ""}, LEV_E_QUERY);
    bson_destroy(query);
    bson_destroy(sort);
    bson_destroy(where);
    bson_destroy(mixed);
    lev_store_unref(st);
}

/* A pattern that explodes is given up, in the middle of a find. */
static void
test_regex_limit(void)
{
    struct lev_store *st = store_open("regex.db");
    bson_t *q = json("{'t': {'$regularExpression':"
                     " {'pattern': '^(a+)+$', 'options': ''}}}");
    struct lev_find f = {.coll = "r", .query = q};
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_error err;
    struct lev_cursor *c;

    put(st, "r", "{'t': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab'}");
    c = st->ops->find(st, &forever, &f, &err);
    assert(c != NULL);
    assert(st->ops->next(c, &forever, 1, &out, &err) < 0);
    assert(err.code == LEV_E_QUERY && strstr(err.msg, "^(a+)+$") != NULL);
    st->ops->cursor_close(c);
    bson_destroy(q);
    lev_store_unref(st);
}

static void
test_update(void)
{
    struct lev_store *st = store_open("update.db");
    bson_t *q = json("{'_id': 1}"), *u = json("{'$set': {'_id': 2}}");
    struct lev_update up = {"u", q, u, false, false, NULL};
    struct lev_update_result r;
    struct lev_error err;

    assert(strcmp(update(st, "u", "{'_id': 1}", "{'$set': {'a.b': 1}}", false,
                         false),
                  "0 0 0") == 0);
    assert(strcmp(update(st, "u", "{'_id': 1}", "{'$set': {'a.b': 1}}", true,
                         false),
                  "0 0 1") == 0);
    assert(strcmp(update(st, "u", "{'_id': 1}", "{'$set': {'a.b': 1}}", true,
                         false),
                  "1 0 0") == 0);
    assert(strcmp(update(st, "u", "{'a.b': 1}", "{'$set': {'k': 'v'}}", true,
                         false),
                  "1 1 0") == 0);
    put(st, "u", "{'_id': 2, 'k': 'w'}");
    assert(strcmp(update(st, "u", "{}", "{'$set': {'k': 'x'}}", false, true),
                  "2 2 0") == 0);
    FINDS(st, "u", "{'k': 'x'}",
          "{'_id':1,'a':{'b':1},'k':'x'} {'_id':2,'k':'x'}");
    assert(strcmp(update(st, "u", "{'_id': 2}", "{'z': 1}", false, false),
                  "1 1 0") == 0);
    FINDS(st, "u", "{'_id': 2}", "{'_id':2,'z':1}");
    assert(st->ops->update(st, &forever, &up, &r, &err) < 0);
    assert(err.code == LEV_E_QUERY && err.detail == 66);

    /* A guest's write: again is a duplicate key, as it is stored already. */
    bson_destroy(q);
    bson_destroy(u);
    q = json("{'_id': 2, '_lev.seq': {'$lt': 1}}");
    u = json("{'$set': {'_lev.seq': 1, 'z': 2}}");
    up = (struct lev_update){"u", q, u, true, false, NULL};
    assert(st->ops->update(st, &forever, &up, &r, &err) < 0);
    assert(err.detail == LEV_STORE_DUPLICATE_KEY);
    FINDS(st, "u", "{'_id': 2}", "{'_id':2,'z':1}");
    bson_destroy(q);
    bson_destroy(u);
    lev_store_unref(st);
}

/* One that fails in the middle has changed nothing. */
static void
test_update_many_fails(void)
{
    struct lev_store *st = store_open("many.db");
    bson_t *q = json("{}"), *u = json("{'$set': {'a.b': 1}}");
    struct lev_update up = {"m", q, u, false, true, NULL};
    struct lev_update_result r;
    struct lev_error err;

    put(st, "m", "{'_id': 1}");
    put(st, "m", "{'_id': 2, 'a': 5}");
    assert(st->ops->update(st, &forever, &up, &r, &err) < 0);
    assert(err.code == LEV_E_QUERY && err.detail == 28);
    FINDS(st, "m", "{}", "{'_id':1} {'_id':2,'a':5}");
    bson_destroy(q);
    bson_destroy(u);
    lev_store_unref(st);
}

/* Exactly so many bytes of BSON. */
static bson_t *
doc_of_size(int id, uint32_t size)
{
    bson_t *doc = BCON_NEW("_id", BCON_INT32(id));
    uint32_t left = size - doc->len - (uint32_t)sizeof("_fill") - 5;
    uint8_t *fill = calloc(1, left);

    assert(fill != NULL);
    bson_append_binary(doc, "fill", 4, BSON_SUBTYPE_BINARY, fill, left);
    free(fill);
    assert(doc->len == size);
    return doc;
}

static int
update_both(struct lev_store *st, const char *first, const char *second,
            struct lev_error *err)
{
    bson_t *query = json("{'_id': 1}"), *a = json(first), *b = json(second);
    const struct lev_update all[] = {
        {.coll = "one", .query = query, .update = a, .upsert = true},
        {.coll = "two", .query = query, .update = b, .upsert = true},
    };
    int rc = st->ops->update_all(st, &forever, all, 2, err);

    bson_destroy(query);
    bson_destroy(a);
    bson_destroy(b);
    return rc;
}

static void
test_update_all(void)
{
    struct lev_store *st = store_open("all.db");
    struct lev_error err;

    assert(update_both(st, "{'$set': {'a': 1}}", "{'$set': {'b': 1}}", &err) ==
           0);
    FINDS(st, "one", "{}", "{'_id':1,'a':1}");
    FINDS(st, "two", "{}", "{'_id':1,'b':1}");
    /* The second fails: the first has not happened either. */
    assert(update_both(st, "{'$set': {'a': 2}}", "{'$set': {'b.c': 1}}",
                       &err) == -1);
    assert(err.code == LEV_E_QUERY);
    assert(update_both(st, "{'$set': {'a': 2}}", "{'$bad': {'b': 2}}", &err) ==
           -1);
    FINDS(st, "one", "{}", "{'_id':1,'a':1}");
    FINDS(st, "two", "{}", "{'_id':1,'b':1}");
    lev_store_unref(st);
}

static void
test_too_large(void)
{
    struct lev_store *st = store_open("large.db");
    bson_t *fits = doc_of_size(1, 16 * 1024 * 1024);
    bson_t *large = doc_of_size(2, 16 * 1024 * 1024 + 1);
    bson_t *q = json("{'_id': 1}"), *u = json("{'$set': {'more': 1}}");
    struct lev_update up = {"l", q, u, false, false, NULL};
    struct lev_update_result r;
    struct lev_error err;

    assert(st->ops->insert(st, &forever, "l", (const bson_t *[]){fits}, 1,
                           &err) == 0);
    assert(st->ops->insert(st, &forever, "l", (const bson_t *[]){large}, 1,
                           &err) < 0);
    assert(err.code == LEV_E_TOO_LARGE);
    assert(strstr(err.msg, "16777217") != NULL);
    if (!store_is_mongo()) { /* the tests' server has no limit here */
        assert(st->ops->update(st, &forever, &up, &r, &err) < 0);
        assert(err.code == LEV_E_TOO_LARGE);
        assert(count(st, "l", "{'more': {'$exists': false}}") == 1);
    }
    bson_destroy(fits);
    bson_destroy(large);
    bson_destroy(q);
    bson_destroy(u);
    lev_store_unref(st);
}

/* Writes while a cursor is open: no document twice, none torn, and those that
 * were there at the start all come. */
static void
test_cursor(void)
{
    struct lev_store *st = store_open("cursor.db");
    struct lev_find f = {.coll = "c"};
    struct lev_error err;
    struct lev_cursor *c;
    bool seen[200] = {false};
    char doc[80];
    int n, made = 0;

    for (; made < 100; made++) {
        snprintf(doc, sizeof(doc), "{'_id': %d, 'a': 0, 'b': 0}", made);
        put(st, "c", doc);
    }
    c = st->ops->find(st, &forever, &f, &err);
    assert(c != NULL);
    do {
        _cleanup_buf_ struct lev_buf out = {0};

        n = st->ops->next(c, &forever, 10, &out, &err);
        assert(n >= 0);
        for (size_t at = 0; at < out.len;) {
            bson_iter_t it;
            bson_t one;
            uint32_t len;
            int id, a;

            memcpy(&len, out.data + at, sizeof(len));
            assert(bson_init_static(&one, (uint8_t *)out.data + at, len));
            at += len;
            assert(bson_iter_init_find(&it, &one, "_id"));
            id = bson_iter_int32(&it);
            assert(!seen[id]);
            seen[id] = true;
            assert(bson_iter_init_find(&it, &one, "a"));
            a = bson_iter_int32(&it);
            assert(bson_iter_init_find(&it, &one, "b"));
            assert(bson_iter_int32(&it) == a);
        }
        if (made < 130) {
            snprintf(doc, sizeof(doc), "{'_id': %d, 'a': 0, 'b': 0}", made++);
            put(st, "c", doc);
        }
        snprintf(doc, sizeof(doc), "{'$set': {'a': %d, 'b': %d}}", n, n);
        update(st, "c", "{}", doc, false, true);
    } while (n > 0);
    for (int i = 0; i < 100; i++) {
        assert(seen[i]);
    }
    st->ops->cursor_close(c);
    lev_store_unref(st);
}

#define THREADS 16
#define DOCS 40

static struct lev_store *shared;
static atomic_int failed;

/* Half of its documents are another thread's too: one of both fails. */
static void *
writer(void *arg)
{
    long me = (long)arg;

    for (int i = 0; i < DOCS; i++) {
        int id = i % 2 == 0 ? (int)(me * DOCS + i) : (int)(me / 2 * DOCS + i);
        bson_t *doc = BCON_NEW("_id", "{", "k", BCON_INT32(i % 2), "n",
                               BCON_INT32(id), "}", "by", BCON_INT64(me));
        struct lev_error err = {0};

        if (shared->ops->insert(shared, &forever, "t", (const bson_t *[]){doc},
                                1, &err) < 0)
        {
            assert(err.code == LEV_E_QUERY &&
                   err.detail == LEV_STORE_DUPLICATE_KEY && i % 2 == 1);
            atomic_fetch_add(&failed, 1);
        }
        bson_destroy(doc);
    }
    return NULL;
}

static void *
reader(void *arg)
{
    int64_t before = 0;

    for (int i = 0; i < 100; i++) {
        int64_t n = count(shared, "t", "{'by': {'$gte': 0}}");

        assert(n >= before);
        before = n;
    }
    return NULL;
}

static void
test_threads(void)
{
    pthread_t threads[THREADS + 4];

    shared = store_open("threads.db");
    for (long i = 0; i < THREADS + 4; i++) {
        assert(pthread_create(&threads[i], NULL, i < THREADS ? writer : reader,
                              (void *)i) == 0);
    }
    for (int i = 0; i < THREADS + 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert(failed == THREADS / 2 * DOCS / 2);
    assert(count(shared, "t", "{}") == THREADS * DOCS - failed);
    lev_store_unref(shared);
    shared = store_open("threads.db");
    assert(count(shared, "t", "{}") == THREADS * DOCS - failed);
    lev_store_unref(shared);
}

static void
test_scope(void)
{
    struct lev_store *st = store_open("scope.db");
    bson_t *doc = json("{}");
    struct lev_cancel cancel;
    struct lev_scope gone = {LEV_NEVER, &cancel}, past = {1, NULL};
    struct lev_error err;
    int64_t n;

    lev_cancel_init(&cancel, NULL);
    lev_cancel_fire(&cancel);
    assert(st->ops->insert(st, &gone, "s", (const bson_t *[]){doc}, 1, &err) <
           0);
    assert(err.code == LEV_E_CANCELLED);
    assert(st->ops->count(st, &past, "s", NULL, &n, &err) < 0);
    assert(err.code == LEV_E_TIMEOUT);
    assert(count(st, "s", "{}") == 0);
    lev_cancel_deinit(&cancel);
    bson_destroy(doc);
    lev_store_unref(st);
}

static void
test_urls(void)
{
    static const char *const bad[] = {"sqlite:", "sqlite:/tmp/", "redis://x",
                                      "", "sqlite"};
    struct lev_store *a, *b, *c;
    struct lev_error err;
    struct stat st;
    char url[700];

    for (size_t i = 0; i < LEV_ARRAY_LEN(bad); i++) {
        assert(lev_store_open(bad[i], &forever, &err) == NULL);
        assert(err.code == LEV_E_INVALID);
    }
    a = store_open("deep/er/x.db");
    assert(stat(dir_path("deep"), &st) == 0 && (st.st_mode & 0777) == 0700);
    assert(stat(dir_path("deep/er/x.db"), &st) == 0);
    assert((st.st_mode & 0777) == 0600);
    assert(stat(dir_path("deep/er/x.db-wal"), &st) == 0);
    assert((st.st_mode & 0777) == 0600);
    b = store_open("deep/er/../er/x.db");
    assert(a == b);
    assert(symlink("deep/er", dir_path("link")) == 0);
    assert(chdir(dir_path("link")) == 0);
    c = lev_store_open("sqlite:x.db", &forever, &err);
    assert(c == a);
    snprintf(url, sizeof(url), "sqlite:%s", dir_path("deep/er/x.db"));
    assert(strcmp(a->url, url) == 0);
    lev_store_unref(a);
    lev_store_unref(b);
    put(c, "still", "{}");
    lev_store_unref(c);
    assert(chdir("/") == 0);
}

int
main(void)
{
    if (store_is_mongo() && getenv("LEVRT_TEST_MONGO") == NULL) {
        fprintf(stderr, "no LEVRT_TEST_MONGO=mongodb://…\n");
        return 77;
    }
    dir_make();
    test_insert();
    test_find();
    test_bad_find();
    test_update();
    test_too_large();
    test_cursor();
    test_threads();
    test_scope();
    if (!store_is_mongo()) { /* a server's own affair, or a file's */
        test_regex_limit();
        test_update_many_fails();
        test_update_all();
        test_urls();
    }
    dir_remove();
    return 0;
}
