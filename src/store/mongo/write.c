#include <string.h>

#include "id.h"
#include "mongo.h"
#include "update.h"

static inline void
coll_destroyp(mongoc_collection_t **coll)
{
    if (*coll != NULL) {
        mongoc_collection_destroy(*coll);
    }
}
#define _cleanup_coll_ _cleanup_(coll_destroyp)

static inline void
bson_destroyp(bson_t **doc)
{
    bson_destroy(*doc);
}
#define _cleanup_bson_ _cleanup_(bson_destroyp)

/* insert */

struct insert {
    const char *db, *coll;
    bson_t **docs;
    size_t n;
};

static void
insert_deinit(struct insert *in)
{
    for (size_t i = 0; i < in->n; i++) {
        bson_destroy(in->docs[i]);
    }
    free(in->docs);
}
#define _cleanup_insert_ _cleanup_(insert_deinit)

static bool
insert_call(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct insert *in = arg;
    _cleanup_coll_ mongoc_collection_t *coll =
        mongoc_client_get_collection(client, in->db, in->coll);
    /* What is sound was looked at; the driver refuses what servers take. */
    _cleanup_bson_ bson_t *opts = BCON_NEW("validate", BCON_BOOL(false));

    return mongoc_collection_insert_many(coll, (const bson_t **)in->docs,
                                         in->n, opts, NULL, error);
}

static int
insert_add(struct insert *in, const bson_t *doc, struct lev_error *err)
{
    bson_t *complete;

    if (lev_document_check(doc, err) < 0) {
        return -1;
    }
    complete = bson_sized_new(doc->len + 32); /* room for an `_id` */
    in->docs[in->n++] = complete;
    return lev_id_complete(doc, complete, err) < 0
               ? -1
               : lev_document_check_size(complete, err);
}

int
lev_mongo_insert(struct lev_store *store, const struct lev_scope *scope,
                 const char *coll, const bson_t *const *docs, size_t n,
                 struct lev_error *err)
{
    struct lev_mongo *m = lev_mongo_of(store);
    _cleanup_insert_ struct insert in = {m->db, coll, NULL, 0};

    if (lev_mongo_check_coll(coll, err) < 0) {
        return -1;
    }
    if (n == 0) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "insert: one document at least is needed");
    }
    in.docs = calloc(n, sizeof(bson_t *));
    if (in.docs == NULL) {
        return lev_error_nomem(err, "insert");
    }
    for (size_t i = 0; i < n; i++) {
        if (insert_add(&in, docs[i], err) < 0) {
            return -1;
        }
    }
    return lev_mongo_do(m, scope, insert_call, &in, err);
}

/* update */

struct update {
    const char *db;
    const struct lev_update *of;
    bson_t *opts;
    bson_t reply; /* once called */
    bool called;
};

static void
update_deinit(struct update *u)
{
    bson_destroy(u->opts);
    if (u->called) {
        bson_destroy(&u->reply);
    }
}
#define _cleanup_update_ _cleanup_(update_deinit)

static bool
is_replacement(const bson_t *update)
{
    bson_iter_t it;

    return !bson_iter_init(&it, update) || !bson_iter_next(&it) ||
           bson_iter_key(&it)[0] != '$';
}

static bool
update_call(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct update *u = arg;
    const struct lev_update *of = u->of;
    _cleanup_coll_ mongoc_collection_t *coll =
        mongoc_client_get_collection(client, u->db, of->coll);
    bool (*call)(mongoc_collection_t *, const bson_t *, const bson_t *,
                 const bson_t *, bson_t *, bson_error_t *) =
        is_replacement(of->update) ? mongoc_collection_replace_one
        : of->multi                ? mongoc_collection_update_many
                                   : mongoc_collection_update_one;

    if (u->called) { /* and found no server */
        bson_destroy(&u->reply);
    }
    u->called = true;
    return call(coll, of->query, of->update, u->opts, &u->reply, error);
}

static int
update_init(struct update *u, const struct lev_mongo *m,
            const struct lev_update *of, struct lev_error *err)
{
    *u = (struct update){.db = m->db, .of = of, .opts = bson_new()};
    if (lev_mongo_check_coll(of->coll, err) < 0) {
        return -1;
    }
    if (is_replacement(of->update)) {
        if (of->multi) {
            return lev_error_set(err, LEV_E_QUERY, 9,
                                 "update: a whole document replaces one "
                                 "document, not many");
        }
        if (lev_document_check(of->update, err) < 0) {
            return -1;
        }
    }
    BSON_APPEND_BOOL(u->opts, "validate", false);
    BSON_APPEND_BOOL(u->opts, "upsert", of->upsert);
    if (of->array_filters != NULL) {
        BSON_APPEND_ARRAY(u->opts, "arrayFilters", of->array_filters);
    }
    return 0;
}

static int64_t
number(const bson_t *reply, const char *key)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, reply, key) ? bson_iter_as_int64(&it) : 0;
}

static void
read_reply(const bson_t *reply, struct lev_update_result *result)
{
    bson_iter_t it;

    *result = (struct lev_update_result){
        .matched = number(reply, "matchedCount"),
        .modified = number(reply, "modifiedCount"),
    };
    if (bson_iter_init_find(&it, reply, "upsertedId")) {
        result->upserted = true;
        bson_value_copy(bson_iter_value(&it), &result->upserted_id);
    }
}

/* A guest's write: `_lev.seq` in its query is below the number that it sets,
 * so that a second time changes nothing. */
static bool
is_guarded(const struct lev_update *u)
{
    bson_iter_t it;

    return u->upsert && bson_iter_init_find(&it, u->query, "_lev.seq");
}

/* Where the driver does not repeat a write whose answer was lost (no replica
 * set, no session, a second failure), a guarded one is repeated here for as
 * long as a server is waited for. */
static int
update_guarded(struct lev_mongo *m, const struct lev_scope *scope,
               struct update *u, struct lev_error *err)
{
    struct lev_scope limit = lev_scope_within(scope, m->select_ns);
    struct lev_error pause;
    int rc;

    for (;;) {
        rc = lev_mongo_do(m, scope, update_call, u, err);
        if (rc == 0 || err->code != LEV_E_STORE_UNAVAILABLE ||
            !is_guarded(u->of) ||
            lev_scope_sleep(&limit, 100 * LEV_MS, &pause) < 0)
        {
            return rc;
        }
    }
}

int
lev_mongo_update(struct lev_store *store, const struct lev_scope *scope,
                 const struct lev_update *of, struct lev_update_result *result,
                 struct lev_error *err)
{
    struct lev_mongo *m = lev_mongo_of(store);
    _cleanup_update_ struct update u;

    if (update_init(&u, m, of, err) < 0 ||
        update_guarded(m, scope, &u, err) < 0) {
        return -1;
    }
    read_reply(&u.reply, result);
    return 0;
}

int
lev_mongo_update_all(struct lev_store *store, const struct lev_scope *scope,
                     const struct lev_update *all, size_t n,
                     struct lev_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct lev_update_result result;

        if (lev_mongo_update(store, scope, &all[i], &result, err) < 0) {
            return -1;
        }
        if (result.upserted) {
            bson_value_destroy(&result.upserted_id);
        }
    }
    return 0;
}

/* remove */

struct removal {
    const char *db, *coll;
    const bson_t *query;
    bool multi;
    int64_t n;
};

static bool
removal_call(mongoc_client_t *client, void *arg, bson_error_t *error)
{
    struct removal *r = arg;
    _cleanup_coll_ mongoc_collection_t *coll =
        mongoc_client_get_collection(client, r->db, r->coll);
    bson_t reply;
    bool ok = (r->multi ? mongoc_collection_delete_many
                        : mongoc_collection_delete_one)(coll, r->query, NULL,
                                                        &reply, error);

    r->n = number(&reply, "deletedCount");
    bson_destroy(&reply);
    return ok;
}

int
lev_mongo_remove(struct lev_store *store, const struct lev_scope *scope,
                 const char *coll, const bson_t *query, bool multi, int64_t *n,
                 struct lev_error *err)
{
    static const bson_t everything = BSON_INITIALIZER;
    struct lev_mongo *m = lev_mongo_of(store);
    struct removal r = {m->db, coll, query == NULL ? &everything : query,
                        multi, 0};

    if (lev_mongo_check_coll(coll, err) < 0 ||
        lev_mongo_do(m, scope, removal_call, &r, err) < 0)
    {
        return -1;
    }
    *n = r.n;
    return 0;
}
