#include "mongo.h"

#include <string.h>

#include "apart.h"

/* How long closing a store waits for cursors that are being closed. */
#define CURSORS_LIMIT (2 * LEV_SECOND)

/* Building a pool resolves the names of mongodb+srv://. */
struct build {
    mongoc_uri_t *uri;
    mongoc_client_pool_t *pool;
    bson_error_t error;
};

static void
build_run(void *arg)
{
    struct build *b = arg;

    b->pool = mongoc_client_pool_new_with_error(b->uri, &b->error);
}

static void
build_drop(void *arg)
{
    struct build *b = arg;

    if (b->pool != NULL) {
        mongoc_client_pool_destroy(b->pool);
    }
    mongoc_uri_destroy(b->uri);
    free(b);
}

static inline void
build_dropp(struct build **b)
{
    if (*b != NULL) {
        build_drop(*b);
    }
}

/* Takes `uri`. */
static mongoc_client_pool_t *
build_pool(mongoc_uri_t *uri, const struct lev_scope *scope,
           struct lev_error *err)
{
    struct build *b = calloc(1, sizeof(*b));
    _cleanup_(build_dropp) struct build *built = NULL;

    if (b == NULL) {
        mongoc_uri_destroy(uri);
        lev_error_nomem(err, "store");
        return NULL;
    }
    b->uri = uri;
    /* Calls ask again until their own time is over (call.c). */
    mongoc_uri_set_option_as_int32(b->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                                   LEV_MONGO_SELECT_MS);
    if (lev_mongo_apart(build_run, build_drop, b, scope, err) < 0) {
        return NULL;
    }
    built = b;
    if (built->pool == NULL) {
        lev_error_set(err, LEV_E_STORE_UNAVAILABLE, 0, "store: %s",
                      built->error.message);
        return NULL;
    }
    mongoc_client_pool_set_error_api(built->pool, MONGOC_ERROR_API_VERSION_2);
    return lev_steal(built->pool);
}

static void
mongo_free(struct lev_mongo *m)
{
    lev_mongo_pool_end(m);
    pthread_cond_destroy(&m->closed);
    pthread_mutex_destroy(&m->mutex);
    free(m->db);
    free(m->base.url);
    free(m);
}

static inline void
mongo_freep(struct lev_mongo **m)
{
    if (*m != NULL) {
        mongo_free(*m);
    }
}

void
lev_mongo_unref(struct lev_mongo *m)
{
    if (atomic_fetch_sub(&m->uses, 1) == 1) {
        mongo_free(m);
    }
}

static struct lev_mongo *
mongo_create(const char *canonical, struct lev_error *err)
{
    struct lev_mongo *m = calloc(1, sizeof(*m));
    pthread_condattr_t clock;

    if (m == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&m->closed, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&m->mutex, NULL);
    atomic_init(&m->uses, 1);
    m->last = &m->first;
    m->pid = getpid();
    m->base.url = strdup(canonical);
    if (m->base.url == NULL) {
        mongo_free(m);
        lev_error_nomem(err, "store");
        return NULL;
    }
    return m;
}

static const struct lev_store_ops mongo_ops;

static struct lev_store *
mongo_open(const char *url, const char *canonical,
           const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_(mongo_freep) struct lev_mongo *m = mongo_create(canonical, err);
    _cleanup_uri_ mongoc_uri_t *uri =
        m == NULL ? NULL : lev_mongo_uri(url, err);

    if (uri == NULL) {
        return NULL;
    }
    m->base.ops = &mongo_ops;
    m->select_ns = LEV_MS * mongoc_uri_get_option_as_int32(
                                uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                                LEV_MONGO_SELECT_MS);
    m->max = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_MAXPOOLSIZE, 1);
    m->db = strdup(mongoc_uri_get_database(uri));
    if (m->db == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    m->pool = build_pool(lev_steal(uri), scope, err);
    return m->pool == NULL ? NULL : &lev_steal(m)->base;
}

static void
wait_for_cursors(struct lev_mongo *m)
{
    int64_t end = lev_now() + CURSORS_LIMIT;
    struct timespec limit = {end / LEV_SECOND, end % LEV_SECOND};
    int rc = 0;

    pthread_mutex_lock(&m->mutex);
    while (m->closing > 0 && rc == 0) {
        rc = pthread_cond_timedwait(&m->closed, &m->mutex, &limit);
    }
    pthread_mutex_unlock(&m->mutex);
}

static void
mongo_close(struct lev_store *store)
{
    struct lev_mongo *m = lev_mongo_of(store);

    /* In a forked child there are no monitors to end, and the connections are
     * the parent's: all stays as it is. */
    if (m->pid == getpid()) {
        wait_for_cursors(m);
        lev_mongo_unref(m);
    }
}

static const struct lev_store_ops mongo_ops = {
    .scheme = "mongodb",
    .canonical = lev_mongo_canonical,
    .open = mongo_open,
    .close = mongo_close,
    .insert = lev_mongo_insert,
    .update = lev_mongo_update,
    .update_all = lev_mongo_update_all,
    .remove = lev_mongo_remove,
    .count = lev_mongo_count,
    .find = lev_mongo_find,
    .aggregate = lev_mongo_aggregate,
    .next = lev_mongo_next,
    .cursor_close = lev_mongo_cursor_close,
    .collections = lev_mongo_collections,
};

static void
start_driver(void)
{
    mongoc_init();
    mongoc_log_set_handler(lev_mongo_log, NULL);
}

/* What mongo_load.c looks for. */
const struct lev_store_ops *lev_mongo_ops(void);

__attribute__((visibility("default"))) const struct lev_store_ops *
lev_mongo_ops(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start_driver);
    return &mongo_ops;
}
