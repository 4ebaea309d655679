#include "run_internal.h"

#include <string.h>

/* Keys that a guest must not set: the document's identity and our own field.
 */
static int
check_keys(const bson_t *data, struct lev_error *err)
{
    bson_iter_t it;

    if (!bson_iter_init(&it, data)) {
        return lev_error_set(err, LEV_E_INVALID, 0, "the data is no document");
    }
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        size_t head = strcspn(key, ".");

        if ((head == 4 && strncmp(key, "_lev", 4) == 0) ||
            (head == 3 && strncmp(key, "_id", 3) == 0))
        {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "the key %s is reserved", key);
        }
    }
    return 0;
}

static int
update(struct lev_run *run, const struct lev_scope *scope, const char *coll,
       const bson_t *query, const bson_t *change, struct lev_error *err)
{
    struct lev_store *store = lev_session_store(run->session, scope, err);
    const struct lev_update u = {
        .coll = coll, .query = query, .update = change, .upsert = true};
    struct lev_update_result result = {0};

    if (store == NULL ||
        store->ops->update(store, scope, &u, &result, err) < 0) {
        return -1;
    }
    if (result.upserted) {
        bson_value_destroy(&result.upserted_id);
    }
    return 0;
}

static void
append_id(bson_t *query, const struct lev_run *run)
{
    bson_oid_t oid;

    bson_oid_init_from_data(&oid, run->spec->doc_id);
    BSON_APPEND_OID(query, "_id", &oid);
}

int
lev_run_store(struct lev_run *run, const struct lev_scope *scope, int64_t seq,
              const bson_t *data, struct lev_error *err)
{
    bson_t query = BSON_INITIALIZER, change = BSON_INITIALIZER, set, before;
    int rc;

    if (check_keys(data, err) < 0) {
        return -1;
    }
    append_id(&query, run);
    BSON_APPEND_DOCUMENT_BEGIN(&query, "_lev.seq", &before);
    BSON_APPEND_INT64(&before, "$lt", seq);
    bson_append_document_end(&query, &before);
    BSON_APPEND_DOCUMENT_BEGIN(&change, "$set", &set);
    bson_concat(&set, data);
    BSON_APPEND_INT64(&set, "_lev.seq", seq);
    bson_append_document_end(&change, &set);
    rc = update(run, scope, run->spec->coll, &query, &change, err);
    bson_destroy(&query);
    bson_destroy(&change);
    /* It was stored before: the document exists with this number or a later
     * one, so the query missed it and the insert met its _id. */
    if (rc < 0 && err->code == LEV_E_QUERY && err->detail == 11000) {
        rc = 0;
    }
    run->stored |= rc == 0;
    return rc;
}

/* A document for a run that has stored nothing. */
static void
append_first(bson_t *change)
{
    bson_t set;

    BSON_APPEND_DOCUMENT_BEGIN(change, "$setOnInsert", &set);
    BSON_APPEND_INT64(&set, "_lev.seq", 0);
    bson_append_document_end(change, &set);
}

static void
append_text(bson_t *doc, const char *key, const char *value)
{
    if (value == NULL || !bson_utf8_validate(value, strlen(value), false)) {
        BSON_APPEND_NULL(doc, key);
    }
    else {
        BSON_APPEND_UTF8(doc, key, value);
    }
}

static void
append_time(bson_t *doc, const char *key, int64_t ms)
{
    if (ms == 0) {
        BSON_APPEND_NULL(doc, key);
    }
    else {
        BSON_APPEND_DATE_TIME(doc, key, ms);
    }
}

static void
append_argv(bson_t *doc, char **argv)
{
    bson_t array;

    BSON_APPEND_ARRAY_BEGIN(doc, "argv", &array);
    for (uint32_t i = 0; argv != NULL && argv[i] != NULL; i++) {
        char buf[16];
        const char *key;

        bson_uint32_to_string(i, &key, buf, sizeof(buf));
        append_text(&array, key, argv[i]);
    }
    bson_append_array_end(doc, &array);
}

static void
append_record(bson_t *doc, const struct lev_run *run)
{
    const struct lev_run_result *r = &run->result;

    append_text(doc, "coll", run->spec->coll);
    append_text(doc, "job", lev_session_config(run->session)->job);
    append_text(doc, "session", lev_session_id(run->session));
    append_text(doc, "name", run->name);
    append_text(doc, "image", r->image);
    append_text(doc, "digest", r->digest);
    append_argv(doc, r->argv);
    if (r->exit_code >= 0) {
        BSON_APPEND_INT32(doc, "exit_code", r->exit_code);
    }
    else {
        BSON_APPEND_NULL(doc, "exit_code");
    }
    BSON_APPEND_INT32(doc, "signal", r->signal);
    BSON_APPEND_BOOL(doc, "oom", r->oom_killed);
    append_time(doc, "started", r->started);
    append_time(doc, "finished", r->finished);
    if (r->peak_memory >= 0) {
        BSON_APPEND_INT64(doc, "peak_memory", r->peak_memory);
    }
    else {
        BSON_APPEND_NULL(doc, "peak_memory");
    }
    append_text(doc, "phase", r->err.code == LEV_OK ? NULL : r->phase);
    append_text(doc, "error", r->err.code == LEV_OK ? NULL : r->err.msg);
}

int
lev_run_record(struct lev_run *run, const struct lev_scope *scope,
               struct lev_error *err)
{
    struct lev_store *store = lev_session_store(run->session, scope, err);
    bson_t query = BSON_INITIALIZER, record = BSON_INITIALIZER,
           first = BSON_INITIALIZER, set;
    const struct lev_update all[] = {
        {.coll = "lev.runs",
         .query = &query,
         .update = &record,
         .upsert = true},
        {.coll = run->spec->coll,
         .query = &query,
         .update = &first,
         .upsert = true},
    };
    int rc = -1;

    append_id(&query, run);
    BSON_APPEND_DOCUMENT_BEGIN(&record, "$set", &set);
    append_record(&set, run);
    bson_append_document_end(&record, &set);
    append_first(&first);
    /* Together, for one wait for the disk. */
    if (store != NULL) {
        rc = store->ops->update_all(store, scope, all, run->stored ? 1 : 2,
                                    err);
    }
    bson_destroy(&query);
    bson_destroy(&record);
    bson_destroy(&first);
    return rc;
}
