#include "sqlite_schema.h"

#include "sqlite_db.h"

/* Tells our files from those of others (sqlite.org/src/file/magic.txt):
 * "levr". */
#define APPLICATION_ID 0x6c657672

static const char *const docs_steps[] = {
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "INSERT INTO meta VALUES ('schema', 0);"
    "CREATE TABLE collections ("
    " id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE docs ("
    " seq INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, doc BLOB NOT NULL);"
    "PRAGMA application_id = 1818588786;", /* APPLICATION_ID */
};

const struct lev_schema lev_schema_docs = {docs_steps,
                                           LEV_ARRAY_LEN(docs_steps)};

static int
read_int(struct lev_db *db, const char *sql, int64_t *value,
         struct lev_error *err)
{
    sqlite3_stmt *stmt;
    int rc;

    if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK) {
        return lev_db_error(db, "store", err);
    }
    rc = lev_db_step(db, stmt, err);
    if (rc > 0) {
        *value = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    return rc < 0 ? -1 : 0;
}

/* 0 for an empty database. */
static int
read_version(struct lev_db *db, int64_t *version, struct lev_error *err)
{
    int64_t id = 0, tables = 0;

    *version = 0;
    /* The id after the tables, which come with it in one transaction: another
     * process may be making both. */
    if (read_int(db, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0) {
        return -1;
    }
    if (tables == 0) {
        return 0;
    }
    if (read_int(db, "PRAGMA application_id", &id, err) < 0) {
        return -1;
    }
    if (id != APPLICATION_ID) {
        return lev_error_set(err, LEV_E_STORE, SQLITE_NOTADB,
                             "store: %s is a database of another program; "
                             "choose another file",
                             db->path);
    }
    if (read_int(db, "SELECT value FROM meta WHERE name = 'schema'", version,
                 err) < 0)
    {
        return -1;
    }
    return *version > 0
               ? 0
               : lev_error_set(err, LEV_E_STORE, SQLITE_CORRUPT,
                               "store: database %s does not tell the version "
                               "of its schema: it is damaged; restore it, or "
                               "choose another file",
                               db->path);
}

static int
check_version(struct lev_db *db, const struct lev_schema *schema,
              int64_t *version, struct lev_error *err)
{
    if (read_version(db, version, err) < 0) {
        return -1;
    }
    return *version <= (int64_t)schema->n
               ? 0
               : lev_error_set(err, LEV_E_STORE, 0,
                               "store: database %s has schema %lld, this "
                               "levrt knows schemas up to %zu; upgrade levrt",
                               db->path, (long long)*version, schema->n);
}

static int
upgrade(struct lev_db *db, const struct lev_schema *schema,
        struct lev_error *err)
{
    int64_t version;
    char sql[80];

    /* Another process may have done it since we looked. */
    if (check_version(db, schema, &version, err) < 0) {
        return -1;
    }
    for (; version < (int64_t)schema->n; version++) {
        if (lev_db_exec(db, schema->steps[version], err) < 0) {
            return lev_error_wrap(err, "make version %lld of the schema",
                                  (long long)version + 1);
        }
    }
    snprintf(sql, sizeof(sql),
             "UPDATE meta SET value = %zu WHERE name = 'schema'", schema->n);
    return lev_db_exec(db, sql, err);
}

/* What check_version() reads is of one moment. */
static int
look(struct lev_db *db, const struct lev_schema *schema, int64_t *version,
     struct lev_error *err)
{
    struct lev_error ignored;
    int rc;

    if (lev_db_exec(db, "BEGIN", err) < 0) {
        return -1;
    }
    rc = check_version(db, schema, version, err);
    lev_db_tx(db, LEV_DB_ROLLBACK, &ignored);
    return rc;
}

int
lev_schema_ensure(struct lev_db *db, const struct lev_schema *schema,
                  struct lev_error *err)
{
    struct lev_error ignored;
    int64_t version;

    if (look(db, schema, &version, err) < 0) {
        return -1;
    }
    if (version == (int64_t)schema->n) {
        return 0;
    }
    if (lev_db_tx(db, LEV_DB_BEGIN, err) < 0) {
        return -1;
    }
    if (upgrade(db, schema, err) < 0 || lev_db_tx(db, LEV_DB_COMMIT, err) < 0)
    {
        lev_db_tx(db, LEV_DB_ROLLBACK, &ignored);
        return -1;
    }
    return 0;
}
