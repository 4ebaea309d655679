#include <string.h>

#include "id.h"
#include "match.h"
#include "sqlite_store.h"
#include "update.h"
#include "value.h"

static int
duplicate_key(const char *coll, const bson_t *doc, struct lev_error *err)
{
    bson_t id = BSON_INITIALIZER;
    bson_value_t v = lev_value_field(doc, "_id");
    char *text;

    bson_append_value(&id, "_id", 3, &v);
    text = bson_as_relaxed_extended_json(&id, NULL);
    lev_error_set(err, LEV_E_QUERY, LEV_STORE_DUPLICATE_KEY,
                  "collection '%s' has a document with this _id already: "
                  "%.200s",
                  coll, text == NULL ? "?" : text);
    bson_free(text);
    bson_destroy(&id);
    return -1;
}

static int
insert_doc(struct lev_db *db, const char *name, const struct lev_db_coll *coll,
           const bson_t *doc, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf key = {0};
    _cleanup_reset_ sqlite3_stmt *stmt = lev_db_stmt(db, LEV_DB_INSERT, err);
    bson_value_t id = lev_value_field(doc, "_id");

    if (stmt == NULL || lev_db_key(coll, &id, &key, err) < 0 ||
        lev_db_bind(db, stmt, 3, key.data, key.len, err) < 0 ||
        lev_db_bind(db, stmt, 4, bson_get_data(doc), doc->len, err) < 0)
    {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, coll->first);
    sqlite3_bind_int64(stmt, 2, coll->last);
    if (lev_db_step(db, stmt, err) == 0) {
        return 0;
    }
    return sqlite3_extended_errcode(db->sqlite) == SQLITE_CONSTRAINT_UNIQUE
               ? duplicate_key(name, doc, err)
               : -1;
}

/* insert */

struct insert {
    struct lev_write write;
    char *coll;
    bson_t **docs;
    size_t n;
};

static void
insert_destroy(struct lev_write *w)
{
    struct insert *in = lev_container_of(w, struct insert, write);

    for (size_t i = 0; i < in->n; i++) {
        bson_destroy(in->docs[i]);
    }
    free(in->docs);
    free(in->coll);
    free(in);
}

static int
insert_run(struct lev_write *w, struct lev_db *db, struct lev_error *err)
{
    struct insert *in = lev_container_of(w, struct insert, write);
    struct lev_db_coll coll;

    if (lev_db_coll_make(db, in->coll, &coll, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < in->n; i++) {
        if (insert_doc(db, in->coll, &coll, in->docs[i], err) < 0) {
            return -1;
        }
    }
    return 0;
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
    in->write.bytes += doc->len;
    return lev_id_complete(doc, complete, err) < 0
               ? -1
               : lev_document_check_size(complete, err);
}

static struct insert *
insert_create(const char *coll, size_t n, struct lev_error *err)
{
    struct insert *in = calloc(1, sizeof(*in));

    if (in == NULL) {
        lev_error_nomem(err, "insert");
        return NULL;
    }
    lev_write_init(&in->write);
    in->write.run = insert_run;
    in->write.destroy = insert_destroy;
    in->write.many = n > 1;
    in->coll = strdup(coll);
    in->docs = calloc(n, sizeof(bson_t *));
    if (in->coll == NULL || in->docs == NULL) {
        lev_write_unref(&in->write);
        lev_error_nomem(err, "insert");
        return NULL;
    }
    return in;
}

static inline void
write_unrefp(struct lev_write **w)
{
    lev_write_unref(*w);
}

int
lev_sqlite_insert(struct lev_store *store, const struct lev_scope *scope,
                  const char *coll, const bson_t *const *docs, size_t n,
                  struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    _cleanup_(write_unrefp) struct lev_write *w = NULL;
    struct insert *in;

    if (lev_sqlite_check(s, scope, err) < 0 ||
        lev_sqlite_check_coll(coll, err) < 0)
    {
        return -1;
    }
    if (n == 0) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "insert: one document at least is needed");
    }
    in = insert_create(coll, n, err);
    if (in == NULL) {
        return -1;
    }
    w = &in->write;
    for (size_t i = 0; i < n; i++) {
        if (insert_add(in, docs[i], err) < 0) {
            return -1;
        }
    }
    return lev_writer_write(s->writer, w, scope, err);
}

/* update */

struct update {
    struct lev_write write;
    char *coll;
    struct lev_match *match;
    struct lev_updater *updater;
    bool upsert, multi;
    struct lev_update_result result;
};

static void
result_clear(struct lev_update_result *r)
{
    if (r->upserted) {
        bson_value_destroy(&r->upserted_id);
    }
    *r = (struct lev_update_result){0};
}

static void
update_destroy(struct lev_write *w)
{
    struct update *u = lev_container_of(w, struct update, write);

    result_clear(&u->result);
    lev_match_destroy(u->match);
    lev_updater_destroy(u->updater);
    free(u->coll);
    free(u);
}

static int
write_doc(struct lev_db *db, int64_t seq, const bson_t *doc,
          struct lev_error *err)
{
    _cleanup_reset_ sqlite3_stmt *stmt = lev_db_stmt(db, LEV_DB_UPDATE, err);

    if (stmt == NULL ||
        lev_db_bind(db, stmt, 2, bson_get_data(doc), doc->len, err) < 0)
    {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, seq);
    return lev_db_step(db, stmt, err);
}

/* The row that `rows` stands on; 1 when it matches. */
static int
update_row(struct update *u, struct lev_db *db, sqlite3_stmt *rows,
           struct lev_error *err)
{
    bson_t old, made;
    long position = -1;
    int rc = lev_db_doc(db, rows, &old, err);

    if (rc == 0) {
        rc = lev_match_test(u->match, &old, NULL, &position, err);
    }
    if (rc <= 0) {
        return rc;
    }
    /* What is copied must be whole: a damaged page is not written back. */
    if (lev_value_check(&old, err) < 0) {
        return lev_db_damaged(db, rows, err);
    }
    if (lev_updater_apply(u->updater, &old, position, &made, err) < 0) {
        return -1;
    }
    u->result.matched++;
    if (!bson_equal(&old, &made)) {
        u->result.modified++;
        rc = write_doc(db, sqlite3_column_int64(rows, 0), &made, err);
    }
    bson_destroy(&made);
    return rc < 0 ? -1 : 1;
}

static int
update_rows(struct update *u, struct lev_db *db, struct lev_db_coll *coll,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf key = {0};
    /* Rows may be written under the statement that reads them: their `seq`,
     * which gives the order, stays. */
    _cleanup_reset_ sqlite3_stmt *rows =
        lev_sqlite_candidates(db, coll, u->match, INT64_MIN, &key, err);
    int rc;

    if (rows == NULL) {
        return -1;
    }
    while ((rc = lev_db_step(db, rows, err)) > 0) {
        rc = update_row(u, db, rows, err);
        if (rc < 0 || (rc > 0 && !u->multi)) {
            break;
        }
    }
    return rc < 0 ? -1 : 0;
}

static int
update_insert(struct update *u, struct lev_db *db, struct lev_error *err)
{
    struct lev_db_coll coll;
    bson_value_t id;
    bson_t made;
    int rc;

    if (lev_updater_insert(u->updater, u->match, &made, err) < 0) {
        return -1;
    }
    rc = lev_db_coll_make(db, u->coll, &coll, err) < 0
             ? -1
             : insert_doc(db, u->coll, &coll, &made, err);
    if (rc == 0) {
        id = lev_value_field(&made, "_id");
        bson_value_copy(&id, &u->result.upserted_id);
        u->result.upserted = true;
    }
    bson_destroy(&made);
    return rc;
}

static int
update_run(struct lev_write *w, struct lev_db *db, struct lev_error *err)
{
    struct update *u = lev_container_of(w, struct update, write);
    struct lev_db_coll coll;
    int rc;

    result_clear(&u->result); /* of a first try, whose transaction was lost */
    rc = lev_db_coll(db, u->coll, &coll, err);
    if (rc > 0) {
        rc = update_rows(u, db, &coll, err);
    }
    if (rc == 0 && u->result.matched == 0 && u->upsert) {
        rc = update_insert(u, db, err);
    }
    return rc;
}

static struct update *
update_create(const struct lev_update *from, struct lev_error *err)
{
    struct update *u = calloc(1, sizeof(*u));

    if (u == NULL) {
        lev_error_nomem(err, "update");
        return NULL;
    }
    lev_write_init(&u->write);
    u->write.run = update_run;
    u->write.destroy = update_destroy;
    u->write.many = from->multi;
    u->write.bytes = from->update->len;
    u->upsert = from->upsert;
    u->multi = from->multi;
    u->coll = strdup(from->coll);
    u->match = u->coll == NULL ? NULL : lev_match_compile(from->query, err);
    u->updater = u->match == NULL
                     ? NULL
                     : lev_updater_compile(from->update, from->array_filters,
                                           from->multi, err);
    if (u->coll == NULL) {
        lev_error_nomem(err, "update");
    }
    if (u->updater == NULL ||
        (u->upsert && lev_match_check_no_expr(u->match, "upsert", err) < 0))
    {
        lev_write_unref(&u->write);
        return NULL;
    }
    return u;
}

int
lev_sqlite_update(struct lev_store *store, const struct lev_scope *scope,
                  const struct lev_update *from,
                  struct lev_update_result *result, struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    _cleanup_(write_unrefp) struct lev_write *w = NULL;
    struct update *u;

    if (lev_sqlite_check(s, scope, err) < 0 ||
        lev_sqlite_check_coll(from->coll, err) < 0)
    {
        return -1;
    }
    u = update_create(from, err);
    if (u == NULL) {
        return -1;
    }
    w = &u->write;
    if (lev_writer_write(s->writer, w, scope, err) < 0) {
        return -1;
    }
    *result = u->result;
    u->result.upserted = false; /* the id is the caller's now */
    return 0;
}

/* update_all */

struct updates {
    struct lev_write write;
    struct update **each;
    size_t n;
};

static void
updates_destroy(struct lev_write *w)
{
    struct updates *all = lev_container_of(w, struct updates, write);

    for (size_t i = 0; i < all->n; i++) {
        lev_write_unref(&all->each[i]->write);
    }
    free(all->each);
    free(all);
}

static int
updates_run(struct lev_write *w, struct lev_db *db, struct lev_error *err)
{
    struct updates *all = lev_container_of(w, struct updates, write);

    for (size_t i = 0; i < all->n; i++) {
        if (update_run(&all->each[i]->write, db, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static struct updates *
updates_create(size_t n, struct lev_error *err)
{
    struct updates *all = calloc(1, sizeof(*all));

    if (all == NULL) {
        lev_error_nomem(err, "update");
        return NULL;
    }
    lev_write_init(&all->write);
    all->write.run = updates_run;
    all->write.destroy = updates_destroy;
    all->write.many = true;
    all->each = calloc(n, sizeof(*all->each));
    if (all->each == NULL) {
        lev_write_unref(&all->write);
        lev_error_nomem(err, "update");
        return NULL;
    }
    return all;
}

int
lev_sqlite_update_all(struct lev_store *store, const struct lev_scope *scope,
                      const struct lev_update *from, size_t n,
                      struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    _cleanup_(write_unrefp) struct lev_write *w = NULL;
    struct updates *all;

    if (lev_sqlite_check(s, scope, err) < 0) {
        return -1;
    }
    all = updates_create(n, err);
    if (all == NULL) {
        return -1;
    }
    w = &all->write;
    for (size_t i = 0; i < n; i++) {
        if (lev_sqlite_check_coll(from[i].coll, err) < 0) {
            return -1;
        }
        all->each[i] = update_create(&from[i], err);
        if (all->each[i] == NULL) {
            return -1;
        }
        all->n++;
        w->bytes += all->each[i]->write.bytes;
    }
    return lev_writer_write(s->writer, w, scope, err);
}
