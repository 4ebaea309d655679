/* store.h - where documents are kept: a table of functions per back end.
 *
 * A store holds collections of BSON documents by name, in MongoDB's terms and
 * with MongoDB's answers. Calls block, as their scope allows, and may come
 * from any thread at once. A write has been acknowledged when its call returns
 * 0: it is durable then. The reserved field `_lev` is stored and matched like
 * any other, and never given back by a find.
 */
#ifndef LEV_STORE_H
#define LEV_STORE_H

#include "buf.h"
#include "scope.h"
#include <bson/bson.h>

struct lev_store;
struct lev_cursor;

struct lev_find {
    const char *coll;
    const bson_t *query;      /* NULL: everything */
    const bson_t *projection; /* NULL: whole documents */
    const bson_t *sort;       /* {key: 1 | -1, …} or NULL: insertion order */
    int64_t skip, limit;      /* limit 0: none */
};

struct lev_update {
    const char *coll;
    const bson_t *query;
    const bson_t *update; /* operators, or a whole document to replace with */
    bool upsert, multi;
    const bson_t *array_filters; /* an array of queries, or NULL */
};

struct lev_update_result {
    int64_t matched, modified;
    bool upserted;
    bson_value_t upserted_id; /* when upserted; bson_value_destroy() */
};

/* Bytes of a collection's name; a longer one is a QUERY error. */
#define LEV_STORE_COLL_MAX 255

/* `detail` of a QUERY error: MongoDB's code for an `_id` that exists. */
#define LEV_STORE_DUPLICATE_KEY 11000

/* Errors: STORE (and STORE_UNAVAILABLE, TOO_LARGE), QUERY with MongoDB's code
 * in `detail`, UNSUPPORTED_OPERATION, CANCELLED, TIMEOUT, NOMEM. Cancelled or
 * timed out writes may or may not have happened. */
struct lev_store_ops {
    const char *scheme; /* of its URLs: "sqlite", "mongodb" */

    /* The one spelling of a URL, without credentials, by which open stores
     * are told apart; allocated. INVALID when it is none, STORE when a
     * directory it needs cannot be made. */
    char *(*canonical)(const char *url, struct lev_error *err);
    /* Opens what `url` names, making it where it does not exist; `canonical`
     * is its one spelling, which becomes the store's `url`. The reference
     * count is the caller's to set. */
    struct lev_store *(*open)(const char *url, const char *canonical,
                              const struct lev_scope *scope,
                              struct lev_error *err);
    /* Waits for what was submitted; the store is gone afterwards. In a forked
     * child it leaves everything as it is. */
    void (*close)(struct lev_store *store);

    /* Appends documents, giving an `_id` (ObjectId) to those without one: all
     * or none where the back end has transactions, else those before the
     * first that fails. QUERY with LEV_STORE_DUPLICATE_KEY when one is there
     * already; an upsert can fail with it, too. */
    int (*insert)(struct lev_store *store, const struct lev_scope *scope,
                  const char *coll, const bson_t *const *docs, size_t n,
                  struct lev_error *err);
    int (*update)(struct lev_store *store, const struct lev_scope *scope,
                  const struct lev_update *u, struct lev_update_result *result,
                  struct lev_error *err);
    /* Several updates at once, of any collections: all or none where the back
     * end has transactions, else one after the other. */
    int (*update_all)(struct lev_store *store, const struct lev_scope *scope,
                      const struct lev_update *all, size_t n,
                      struct lev_error *err);
    /* Takes away what matches, or the first of it; how many. */
    int (*remove)(struct lev_store *store, const struct lev_scope *scope,
                  const char *coll, const bson_t *query, bool multi,
                  int64_t *n, struct lev_error *err);
    int (*count)(struct lev_store *store, const struct lev_scope *scope,
                 const char *coll, const bson_t *query, int64_t *n,
                 struct lev_error *err);
    /* Checks the arguments; a cursor is used by one thread at a time, keeps
     * the store open, and holds nothing of the database between batches (with
     * a sort: the documents that are still to come, 100 MiB at most; on
     * MongoDB: a connection and the server's cursor, until its end). */
    struct lev_cursor *(*find)(struct lev_store *store,
                               const struct lev_scope *scope,
                               const struct lev_find *f,
                               struct lev_error *err);
    /* What a pipeline (an array of stages) makes of a collection: a cursor as
     * find's, but one whose `next` has failed stays so. */
    struct lev_cursor *(*aggregate)(struct lev_store *store,
                                    const struct lev_scope *scope,
                                    const char *coll, const bson_t *pipeline,
                                    struct lev_error *err);
    /* The next documents, at most `max` and about 16 MiB, appended to `out` as
     * BSON one after another; how many (0 at the end) or -1: then nothing was
     * appended, and it may be called again. No document comes twice, none is
     * torn. */
    int (*next)(struct lev_cursor *cursor, const struct lev_scope *scope,
                int max, struct lev_buf *out, struct lev_error *err);
    void (*cursor_close)(struct lev_cursor *cursor); /* NULL is fine */
    /* Names of the collections, as a BSON array of strings, sorted. */
    int (*collections)(struct lev_store *store, const struct lev_scope *scope,
                       bson_t *names, struct lev_error *err);
};

struct lev_store {
    const struct lev_store_ops *ops;
    char *url; /* without credentials; for messages */
    _Atomic int refs;
};

extern const struct lev_store_ops lev_store_sqlite;

/* MongoDB's table: "mongodb" and "mongodb+srv". It is in a library of its own,
 * lib/lev_mongo.so beside the file that this function is in, because the
 * driver costs those who do not use it a quarter of the time of an import;
 * loaded by the first call, and never unloaded. STORE when it is not there. */
const struct lev_store_ops *lev_store_mongo(struct lev_error *err);

/* The back end that `url` asks for. Stores of one URL in one process are one
 * object, closed with its last reference. */
struct lev_store *lev_store_open(const char *url,
                                 const struct lev_scope *scope,
                                 struct lev_error *err);
struct lev_store *lev_store_ref(struct lev_store *store);
void lev_store_unref(struct lev_store *store); /* NULL is fine; may wait */

#endif
