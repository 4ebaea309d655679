#include <string.h>

#include "mongo.h"

/* Servers' codes that say "not now, or not here": MongoDB's specification of
 * retryable writes and of server discovery lists them. */
static const int unavailable[] = {6,    7,     89,    91,    189,   262,
                                  9001, 10107, 11600, 11602, 13435, 13436};
/* BSONObjectTooLarge, and two of documents that an update made. */
static const int too_large[] = {10334, 17419, 17420};
/* CommandNotFound, CommandNotSupported, NotImplemented */
static const int unsupported[] = {59, 115, 238};

#define HAS(codes, code) has(codes, LEV_ARRAY_LEN(codes), code)

static bool
has(const int *codes, size_t n, int code)
{
    for (size_t i = 0; i < n; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

static enum lev_errcode
code_of_server(int code)
{
    if (HAS(unavailable, code)) {
        return LEV_E_STORE_UNAVAILABLE;
    }
    if (HAS(too_large, code)) {
        return LEV_E_TOO_LARGE;
    }
    if (HAS(unsupported, code)) {
        return LEV_E_UNSUPPORTED_OPERATION;
    }
    /* AuthenticationFailed, Unauthorized: no fault of the query. */
    return code == 18 || code == 13 ? LEV_E_STORE : LEV_E_QUERY;
}

static int
translate(const struct lev_mongo *m, const struct lev_scope *scope,
          const bson_error_t *error, struct lev_error *err)
{
    int code = (int)error->code;

    switch (error->domain) {
    case MONGOC_ERROR_SERVER:
        return lev_error_set(err, code_of_server(code), code, "%s",
                             error->message);
    case MONGOC_ERROR_WRITE_CONCERN:
        return lev_error_set(err, LEV_E_STORE, code,
                             "store %s: written, but not as durably as asked "
                             "for: %s",
                             m->base.url, error->message);
    case MONGOC_ERROR_BSON:
    case MONGOC_ERROR_COMMAND:
        return lev_error_set(err, LEV_E_QUERY, 2, "%s", error->message);
    case MONGOC_ERROR_STREAM:
    case MONGOC_ERROR_SERVER_SELECTION:
        if (lev_scope_check(scope, err) < 0) {
            return lev_error_wrap(err, "store %s", m->base.url);
        }
        return lev_error_set(err, LEV_E_STORE_UNAVAILABLE, 0, "store %s: %s",
                             m->base.url, error->message);
    default:
        if (lev_scope_check(scope, err) < 0) {
            return lev_error_wrap(err, "store %s", m->base.url);
        }
        return lev_error_set(err, LEV_E_STORE, 0, "store %s: %s", m->base.url,
                             error->message);
    }
}

static bool
no_server(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_SERVER_SELECTION &&
           error->code == MONGOC_ERROR_SERVER_SELECTION_FAILURE;
}

int
lev_mongo_call(struct lev_mongo *m, struct lev_mongo_lease *lease,
               const struct lev_scope *scope, lev_mongo_fn *fn, void *arg,
               struct lev_error *err)
{
    struct lev_scope choosing = lev_scope_within(scope, m->select_ns);
    bson_error_t error = {0};
    bool ok;

    lease->scope = *scope;
    for (;;) {
        ok = fn(lease->client, arg, &error);
        if (ok || !no_server(&error) || lev_now() >= choosing.deadline ||
            (scope->cancel != NULL && lev_cancel_fired(scope->cancel)))
        {
            break;
        }
    }
    return ok ? 0 : translate(m, scope, &error, err);
}

int
lev_mongo_do(struct lev_mongo *m, const struct lev_scope *scope,
             lev_mongo_fn *fn, void *arg, struct lev_error *err)
{
    struct lev_mongo_lease *lease = lev_mongo_take(m, scope, err);
    int rc;

    if (lease == NULL) {
        return -1;
    }
    rc = lev_mongo_call(m, lease, scope, fn, arg, err);
    lev_mongo_give(m, lease);
    return rc;
}

int
lev_mongo_check_coll(const char *coll, struct lev_error *err)
{
    return coll[0] != '\0' && strlen(coll) <= LEV_STORE_COLL_MAX
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 73,
                               "collection: a name has 1 to %d bytes, '%s' "
                               "has %zu",
                               LEV_STORE_COLL_MAX, coll, strlen(coll));
}
