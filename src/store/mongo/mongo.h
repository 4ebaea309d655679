/* mongo.h - the MongoDB store from the inside: one libmongoc pool per store.
 *
 * libmongoc's calls block and know no cancel. What they wait for is made
 * cancellable by streams of ours (stream.c): each of a client's connections
 * polls its socket within the scope of the call that the client is leased for.
 * What that cannot reach is bounded: choosing a server comes back every
 * LEV_MONGO_SELECT_MS (call.c) and is asked for again; names are resolved on a
 * thread that may be left behind (apart.h).
 *
 * Operations may come from any thread; a lease is used by one at a time.
 */
#ifndef LEV_MONGO_H
#define LEV_MONGO_H

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <sys/types.h>

#include "store.h"

/* Not less: the driver looks at a server that it has lost again after half a
 * second, and repeats a write only when it finds one in this time. */
#define LEV_MONGO_SELECT_MS 1000

/* A client that is leased for one call, or for a cursor's life. */
struct lev_mongo_lease {
    mongoc_client_t *client;
    struct lev_scope scope; /* of the call that runs; streams look at it */
    struct lev_mongo_lease *next;
};

struct lev_mongo_waiter;

struct lev_mongo {
    struct lev_store base; /* first */
    _Atomic int uses;      /* the store itself, and its cursors */
    pid_t pid;             /* whose threads and connections these are */
    char *db;
    int64_t select_ns; /* how long a call waits for a server */
    mongoc_client_pool_t *pool;

    pthread_mutex_t mutex; /* over what follows */
    struct lev_mongo_lease *idle;
    struct lev_mongo_waiter *first, **last;
    int closing; /* cursors that are being closed on threads of their own */
    pthread_cond_t closed;
    int n, max; /* leases that exist, that may exist */
};

static inline struct lev_mongo *
lev_mongo_of(struct lev_store *store)
{
    return (struct lev_mongo *)store;
}

/* mongo.c */
void lev_mongo_unref(struct lev_mongo *m);

/* url.c: the URL with levrt's defaults; INVALID names the option, never a
 * password. */
mongoc_uri_t *lev_mongo_uri(const char *url, struct lev_error *err);
static inline void
lev_mongo_urip(mongoc_uri_t **uri)
{
    mongoc_uri_destroy(*uri);
}
#define _cleanup_uri_ _cleanup_(lev_mongo_urip)
char *lev_mongo_canonical(const char *url, struct lev_error *err);

/* The driver's log handler: it must not write to the terminal, and what counts
 * comes as errors. */
void lev_mongo_log(mongoc_log_level_t level, const char *domain,
                   const char *message, void *unused);

/* pool.c. STORE in a forked child; the scope's error when it has ended. */
struct lev_mongo_lease *lev_mongo_take(struct lev_mongo *m,
                                       const struct lev_scope *scope,
                                       struct lev_error *err);
void lev_mongo_give(struct lev_mongo *m, struct lev_mongo_lease *lease);
/* Ends libmongoc's pool, on a thread that is waited for only briefly: the
 * driver waits for its monitors. */
void lev_mongo_pool_end(struct lev_mongo *m);

/* stream.c: a mongoc_stream_initiator_t; `lease` is its user data. */
mongoc_stream_t *lev_mongo_stream(const mongoc_uri_t *uri,
                                  const mongoc_host_list_t *host, void *lease,
                                  bson_error_t *error);
/* tls.c: `stream` within TLS as the URL asks for, owning it. */
mongoc_stream_t *lev_mongo_tls(mongoc_stream_t *stream,
                               const mongoc_uri_t *uri,
                               const mongoc_host_list_t *host, int32_t ms,
                               bson_error_t *error);

/* call.c: one driver's call with its arguments; false with `error` set. */
typedef bool lev_mongo_fn(mongoc_client_t *client, void *arg,
                          bson_error_t *error);
/* Calls it, again while there is no server to be had, within the scope and the
 * store's time for that. */
int lev_mongo_call(struct lev_mongo *m, struct lev_mongo_lease *lease,
                   const struct lev_scope *scope, lev_mongo_fn *fn, void *arg,
                   struct lev_error *err);
/* The same with a lease for this one call. */
int lev_mongo_do(struct lev_mongo *m, const struct lev_scope *scope,
                 lev_mongo_fn *fn, void *arg, struct lev_error *err);
int lev_mongo_check_coll(const char *coll, struct lev_error *err);

/* The operations of the table. */
int lev_mongo_insert(struct lev_store *store, const struct lev_scope *scope,
                     const char *coll, const bson_t *const *docs, size_t n,
                     struct lev_error *err);
int lev_mongo_update(struct lev_store *store, const struct lev_scope *scope,
                     const struct lev_update *u,
                     struct lev_update_result *result, struct lev_error *err);
int lev_mongo_update_all(struct lev_store *store,
                         const struct lev_scope *scope,
                         const struct lev_update *all, size_t n,
                         struct lev_error *err);
int lev_mongo_remove(struct lev_store *store, const struct lev_scope *scope,
                     const char *coll, const bson_t *query, bool multi,
                     int64_t *n, struct lev_error *err);
struct lev_cursor *lev_mongo_find(struct lev_store *store,
                                  const struct lev_scope *scope,
                                  const struct lev_find *f,
                                  struct lev_error *err);
struct lev_cursor *lev_mongo_aggregate(struct lev_store *store,
                                       const struct lev_scope *scope,
                                       const char *coll,
                                       const bson_t *pipeline,
                                       struct lev_error *err);
int lev_mongo_next(struct lev_cursor *cursor, const struct lev_scope *scope,
                   int max, struct lev_buf *out, struct lev_error *err);
void lev_mongo_cursor_close(struct lev_cursor *cursor);
int lev_mongo_count(struct lev_store *store, const struct lev_scope *scope,
                    const char *coll, const bson_t *query, int64_t *n,
                    struct lev_error *err);
int lev_mongo_collections(struct lev_store *store,
                          const struct lev_scope *scope, bson_t *names,
                          struct lev_error *err);

#endif
