#include <string.h>

#include "mongo.h"
#include "value.h"
#include "worker.h"

/* Bytes of one batch, about. */
#define BATCH_BYTES (16u * 1024 * 1024)
/* For telling the server that a cursor is not wanted any more. */
#define CLOSE_LIMIT LEV_SECOND

static const bson_t everything = BSON_INITIALIZER;

static inline void
bson_destroyp(bson_t **doc)
{
    bson_destroy(*doc);
}
#define _cleanup_bson_ _cleanup_(bson_destroyp)

struct lev_cursor {
    struct lev_mongo *store;
    struct lev_mongo_lease *lease; /* until its end */
    mongoc_cursor_t *cursor;
    const bson_t *ready; /* read by find(), not given yet */
    struct lev_error failure;
    bool failed; /* `failure` is every further call's */
};

/* The server's cursor and the lease are given back as soon as there is nothing
 * more to come. */
static void
release(struct lev_cursor *c)
{
    c->ready = NULL;
    if (c->lease == NULL) {
        return;
    }
    c->lease->scope = (struct lev_scope){lev_now() + CLOSE_LIMIT, NULL};
    mongoc_cursor_destroy(c->cursor);
    lev_mongo_give(c->store, c->lease);
    c->cursor = NULL;
    c->lease = NULL;
}

static void
destroy(struct lev_cursor *c)
{
    release(c);
    lev_mongo_unref(c->store);
    free(c);
}

static void
count_closing(struct lev_mongo *m, int more)
{
    pthread_mutex_lock(&m->mutex);
    m->closing += more;
    pthread_cond_broadcast(&m->closed);
    pthread_mutex_unlock(&m->mutex);
}

static void
destroy_apart(void *arg)
{
    struct lev_cursor *c = arg;

    release(c);
    count_closing(c->store, -1);
    destroy(c);
}

/* Telling the server takes a round trip, and who closes may be an event loop:
 * that is done apart. */
static int
close_apart(struct lev_cursor *c)
{
    struct lev_error ignored;

    if (c->cursor == NULL || mongoc_cursor_get_id(c->cursor) == 0) {
        return -1; /* there is nothing to tell */
    }
    count_closing(c->store, 1);
    if (lev_thread_start("lev-mongo", destroy_apart, c, &ignored) < 0) {
        count_closing(c->store, -1);
        return -1;
    }
    return 0;
}

void
lev_mongo_cursor_close(struct lev_cursor *c)
{
    if (c == NULL) {
        return;
    }
    if (c->store->pid != getpid()) {
        free(c); /* the rest is the parent's */
    }
    else if (close_apart(c) < 0) {
        destroy(c);
    }
}

static inline void
cursor_closep(struct lev_cursor **c)
{
    lev_mongo_cursor_close(*c);
}

/* Also the end of the documents is a success: `ready` is NULL then. */
static bool
step(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct lev_cursor *c = arg;

    c->ready = NULL;
    return mongoc_cursor_next(c->cursor, &c->ready) ||
           !mongoc_cursor_error(c->cursor, error);
}

/* How a query begins: made anew when no server was there for it. */
struct begin {
    struct lev_cursor *c;
    const char *db, *coll;
    const bson_t *query, *opts;
    bool aggregate;
};

static bool
begin(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct begin *b = arg;
    mongoc_collection_t *coll =
        mongoc_client_get_collection(client, b->db, b->coll);

    mongoc_cursor_destroy(b->c->cursor); /* of the try before */
    b->c->cursor =
        b->aggregate
            ? mongoc_collection_aggregate(coll, MONGOC_QUERY_NONE, b->query,
                                          b->opts, NULL)
            : mongoc_collection_find_with_opts(coll, b->query, b->opts, NULL);
    mongoc_collection_destroy(coll);
    return step(client, b->c, error);
}

static struct lev_cursor *
cursor_begin(struct lev_mongo *m, const struct lev_scope *scope,
             struct begin *b, struct lev_error *err)
{
    _cleanup_(cursor_closep) struct lev_cursor *c = NULL;

    if (lev_mongo_check_coll(b->coll, err) < 0) {
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        lev_error_nomem(err, "cursor");
        return NULL;
    }
    atomic_fetch_add(&m->uses, 1);
    c->store = m;
    c->lease = lev_mongo_take(m, scope, err);
    b->c = c;
    b->db = m->db;
    if (c->lease == NULL ||
        lev_mongo_call(m, c->lease, scope, begin, b, err) < 0) {
        return NULL;
    }
    if (c->ready == NULL) {
        release(c);
    }
    return lev_steal(c);
}

static int
append_find(bson_t *opts, const struct lev_find *f, struct lev_error *err)
{
    if (f->skip < 0 || f->limit < 0) {
        return lev_error_set(err, LEV_E_QUERY, 51024,
                             "find: skip and limit must not be negative");
    }
    if (f->projection != NULL) {
        BSON_APPEND_DOCUMENT(opts, "projection", f->projection);
    }
    if (f->sort != NULL) {
        BSON_APPEND_DOCUMENT(opts, "sort", f->sort);
    }
    BSON_APPEND_INT64(opts, "skip", f->skip);
    BSON_APPEND_INT64(opts, "limit", f->limit);
    return 0;
}

struct lev_cursor *
lev_mongo_find(struct lev_store *store, const struct lev_scope *scope,
               const struct lev_find *f, struct lev_error *err)
{
    _cleanup_bson_ bson_t *opts = bson_new();
    struct begin b = {
        .coll = f->coll,
        .query = f->query == NULL ? &everything : f->query,
        .opts = opts,
    };

    if (append_find(opts, f, err) < 0) {
        return NULL;
    }
    return cursor_begin(lev_mongo_of(store), scope, &b, err);
}

struct lev_cursor *
lev_mongo_aggregate(struct lev_store *store, const struct lev_scope *scope,
                    const char *coll, const bson_t *pipeline,
                    struct lev_error *err)
{
    _cleanup_bson_ bson_t *wrapped = bson_new();
    struct begin b = {.coll = coll, .query = wrapped, .aggregate = true};

    BSON_APPEND_ARRAY(wrapped, "pipeline", pipeline);
    return cursor_begin(lev_mongo_of(store), scope, &b, err);
}

/* Without the reserved field. */
static void
append_doc(struct lev_buf *out, const bson_t *doc)
{
    bson_t shown;

    if (!bson_has_field(doc, "_lev")) {
        lev_buf_append(out, bson_get_data(doc), doc->len);
        return;
    }
    bson_init(&shown);
    lev_value_copy_except(doc, "_lev", &shown);
    lev_buf_append(out, bson_get_data(&shown), shown.len);
    bson_destroy(&shown);
}

/* Every further call fails alike; the documents before it are good, and are
 * given first. */
static int
fail(struct lev_cursor *c, int n, struct lev_error *err)
{
    release(c);
    c->failed = true;
    if (n == 0) {
        *err = c->failure;
    }
    return n > 0 ? n : -1;
}

/* What can be had without a wait is taken until the batch is full. */
int
lev_mongo_next(struct lev_cursor *c, const struct lev_scope *scope, int max,
               struct lev_buf *out, struct lev_error *err)
{
    size_t before = out->len;
    int n = 0;

    if (c->failed) {
        *err = c->failure;
        return -1;
    }
    if (lev_scope_check(scope, err) < 0) {
        return -1;
    }
    if (c->lease != NULL) {
        mongoc_cursor_set_batch_size(c->cursor, (uint32_t)max);
    }
    while (n < max && c->ready != NULL && out->len - before < BATCH_BYTES) {
        append_doc(out, c->ready);
        n++;
        if (lev_mongo_call(c->store, c->lease, scope, step, c, &c->failure) <
            0) {
            return fail(c, n, err);
        }
    }
    if (c->ready == NULL) {
        release(c);
    }
    return lev_buf_check(out, "documents", err) < 0 ? -1 : n;
}

/* Numbers. */

struct counting {
    const char *db, *coll;
    const bson_t *query;
    int64_t n;
};

static bool
count_call(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct counting *c = arg;
    mongoc_collection_t *coll =
        mongoc_client_get_collection(client, c->db, c->coll);

    c->n = mongoc_collection_count_documents(coll, c->query, NULL, NULL, NULL,
                                             error);
    mongoc_collection_destroy(coll);
    return c->n >= 0;
}

int
lev_mongo_count(struct lev_store *store, const struct lev_scope *scope,
                const char *coll, const bson_t *query, int64_t *n,
                struct lev_error *err)
{
    struct lev_mongo *m = lev_mongo_of(store);
    struct counting c = {m->db, coll, query == NULL ? &everything : query, 0};

    if (lev_mongo_check_coll(coll, err) < 0 ||
        lev_mongo_do(m, scope, count_call, &c, err) < 0)
    {
        return -1;
    }
    *n = c.n;
    return 0;
}

/* Names. */

struct names {
    const char *db;
    char **found;
};

static bool
names_call(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct names *names = arg;
    mongoc_database_t *db = mongoc_client_get_database(client, names->db);

    names->found =
        mongoc_database_get_collection_names_with_opts(db, NULL, error);
    mongoc_database_destroy(db);
    return names->found != NULL;
}

static int
by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int
lev_mongo_collections(struct lev_store *store, const struct lev_scope *scope,
                      bson_t *names, struct lev_error *err)
{
    struct lev_mongo *m = lev_mongo_of(store);
    struct names found = {m->db, NULL};
    uint32_t n = 0;
    size_t len = 0;

    if (lev_mongo_do(m, scope, names_call, &found, err) < 0) {
        return -1;
    }
    while (found.found[len] != NULL) {
        len++;
    }
    qsort(found.found, len, sizeof(char *), by_bytes);
    for (size_t i = 0; i < len; i++) {
        char text[16];
        const char *key;

        if (strncmp(found.found[i], "system.", 7) != 0) {
            bson_uint32_to_string(n++, &key, text, sizeof(text));
            bson_append_utf8(names, key, -1, found.found[i], -1);
        }
    }
    bson_strfreev(found.found);
    return 0;
}
