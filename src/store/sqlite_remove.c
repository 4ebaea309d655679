#include <string.h>

#include "match.h"
#include "sqlite_store.h"

struct removal {
    struct lev_write write;
    char *coll;
    struct lev_match *match;
    bool multi;
    int64_t n;
};

static void
removal_destroy(struct lev_write *w)
{
    struct removal *r = lev_container_of(w, struct removal, write);

    lev_match_destroy(r->match);
    free(r->coll);
    free(r);
}

static int
delete_row(struct lev_db *db, int64_t seq, struct lev_error *err)
{
    _cleanup_reset_ sqlite3_stmt *stmt = lev_db_stmt(db, LEV_DB_DELETE, err);

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, seq);
    return lev_db_step(db, stmt, err);
}

/* The row that `rows` stands on; 1 when it matched and is gone. */
static int
remove_row(struct removal *r, struct lev_db *db, sqlite3_stmt *rows,
           struct lev_error *err)
{
    long position = -1;
    bson_t doc;
    int rc = lev_db_doc(db, rows, &doc, err);

    if (rc == 0) {
        rc = lev_match_test(r->match, &doc, NULL, &position, err);
    }
    if (rc <= 0) {
        return rc;
    }
    r->n++;
    return delete_row(db, sqlite3_column_int64(rows, 0), err) < 0 ? -1 : 1;
}

static int
removal_run(struct lev_write *w, struct lev_db *db, struct lev_error *err)
{
    struct removal *r = lev_container_of(w, struct removal, write);
    _cleanup_buf_ struct lev_buf key = {0};
    _cleanup_reset_ sqlite3_stmt *rows = NULL;
    struct lev_db_coll coll;
    int rc = lev_db_coll(db, r->coll, &coll, err);

    r->n = 0; /* of a first try, whose transaction was lost */
    if (rc <= 0) {
        return rc;
    }
    rows = lev_sqlite_candidates(db, &coll, r->match, INT64_MIN, &key, err);
    if (rows == NULL) {
        return -1;
    }
    /* A statement may stand on a row that is deleted: it goes on behind. */
    while ((rc = lev_db_step(db, rows, err)) > 0) {
        rc = remove_row(r, db, rows, err);
        if (rc < 0 || (rc > 0 && !r->multi)) {
            break;
        }
    }
    return rc < 0 ? -1 : 0;
}

static struct removal *
removal_create(const char *coll, const bson_t *query, bool multi,
               struct lev_error *err)
{
    struct removal *r = calloc(1, sizeof(*r));

    if (r == NULL) {
        lev_error_nomem(err, "delete");
        return NULL;
    }
    lev_write_init(&r->write);
    r->write.run = removal_run;
    r->write.destroy = removal_destroy;
    r->write.many = multi;
    r->multi = multi;
    r->coll = strdup(coll);
    if (r->coll == NULL) {
        lev_error_nomem(err, "delete");
    }
    else {
        r->match = lev_match_compile(query, err);
    }
    if (r->match == NULL) {
        lev_write_unref(&r->write);
        return NULL;
    }
    return r;
}

int
lev_sqlite_remove(struct lev_store *store, const struct lev_scope *scope,
                  const char *coll, const bson_t *query, bool multi,
                  int64_t *n, struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    struct removal *r;
    int rc;

    if (lev_sqlite_check(s, scope, err) < 0 ||
        lev_sqlite_check_coll(coll, err) < 0)
    {
        return -1;
    }
    r = removal_create(coll, query, multi, err);
    if (r == NULL) {
        return -1;
    }
    rc = lev_writer_write(s->writer, &r->write, scope, err);
    if (rc == 0) {
        *n = r->n;
    }
    lev_write_unref(&r->write);
    return rc;
}
