/* sqlite_db.h - one connection to the database file of an embedded store:
 * opening, the schema, prepared statements, and what SQLite's errors mean.
 *
 * A connection is used by one thread at a time. Every function that can wait
 * for another process's lock does so as `db->scope` allows, which the user of
 * the connection sets beforehand.
 *
 * The schema: `meta` (name, value) holds the schema's version; `collections`
 * (id, name); `docs` (seq, key, doc) all documents. `seq` is the collection's
 * id and a number that counts in order of insertion, so that a collection's
 * documents lie together and in order; `key` is the id and what lev_id_key()
 * makes of the `_id`; `doc` is the BSON. No collection has a table of its own:
 * users make thousands, and every table costs every connection time and
 * memory.
 */
#ifndef LEV_SQLITE_DB_H
#define LEV_SQLITE_DB_H

#include "buf.h"
#include "scope.h"
#include <bson/bson.h>
#include <sqlite3.h>

/* No call waits longer for another process's lock, whatever its scope says: a
 * lock that is held so long is not coming back by itself. */
#define LEV_DB_LOCK_LIMIT (60 * LEV_SECOND)

enum lev_db_mode {
    LEV_DB_WRITER, /* makes the file and its schema where they are missing */
    LEV_DB_READER,
};

/* Of transactions. */
enum lev_db_tx {
    LEV_DB_BEGIN, /* waits for the right to write */
    LEV_DB_COMMIT,
    LEV_DB_ROLLBACK,
    LEV_DB_SAVE,
    LEV_DB_KEEP, /* ends the savepoint */
    LEV_DB_UNDO, /* goes back to the savepoint and ends it */
    LEV_DB_N_TX,
};

/* Of documents. */
enum lev_db_stmt {
    LEV_DB_COLL,     /* name → id */
    LEV_DB_COLL_ADD, /* name */
    LEV_DB_GET,      /* key → seq, doc */
    LEV_DB_SCAN,     /* after which seq, last seq → seq, doc in order */
    LEV_DB_COUNT,    /* first key, key behind the last → how many */
    LEV_DB_INSERT,   /* first seq, last seq, key, doc */
    LEV_DB_UPDATE,   /* seq, doc */
    LEV_DB_DELETE,   /* seq */
    LEV_DB_NAMES,    /* → names of collections, sorted */
    LEV_DB_N_STMTS,
};

/* Where the documents of a collection lie. */
struct lev_db_coll {
    int64_t id;
    int64_t first, last; /* of `seq` */
};

/* A name that a connection has looked up before; by a hash of it. */
struct lev_db_known {
    char *name;
    int64_t id;
};

#define LEV_DB_KNOWN 64

struct lev_db {
    sqlite3 *sqlite;
    char *path;
    struct lev_scope scope;        /* of the call in progress */
    sqlite3_stmt *tx[LEV_DB_N_TX]; /* made when first used */
    sqlite3_stmt *stmt[LEV_DB_N_STMTS];
    struct lev_db_known known[LEV_DB_KNOWN];
    struct lev_db *next; /* in a list of idle ones */
};

struct lev_db *lev_db_open(const char *path, enum lev_db_mode mode,
                           const struct lev_scope *scope,
                           struct lev_error *err);
void lev_db_close(struct lev_db *db); /* NULL is fine */
static inline void
lev_db_closep(struct lev_db **db)
{
    lev_db_close(*db);
}
#define _cleanup_db_ _cleanup_(lev_db_closep)

/* -1 with what SQLite's last failure means: STORE_UNAVAILABLE (locked), STORE
 * (read-only, full, damaged, …), with the path and what to do; `detail` is
 * SQLite's extended code. */
int lev_db_error(struct lev_db *db, const char *what, struct lev_error *err);
/* Statements without results. */
int lev_db_exec(struct lev_db *db, const char *sql, struct lev_error *err);
int lev_db_tx(struct lev_db *db, enum lev_db_tx what, struct lev_error *err);

/* 1 with the collection, 0 when there is none, -1. */
int lev_db_coll(struct lev_db *db, const char *name, struct lev_db_coll *coll,
                struct lev_error *err);
/* As above, making it; inside a transaction. One statement. */
int lev_db_coll_make(struct lev_db *db, const char *name,
                     struct lev_db_coll *coll, struct lev_error *err);
/* Forgets all collections: after a rollback some may not exist. */
void lev_db_forget(struct lev_db *db);
/* Appends the key of a document; with `id` NULL what the keys of the whole
 * collection begin with. */
int lev_db_key(const struct lev_db_coll *coll, const bson_value_t *id,
               struct lev_buf *key, struct lev_error *err);
/* Ready to be bound; reset by whoever used it. */
sqlite3_stmt *lev_db_stmt(struct lev_db *db, enum lev_db_stmt kind,
                          struct lev_error *err);
/* The bytes must stay until the statement is reset. */
int lev_db_bind(struct lev_db *db, sqlite3_stmt *stmt, int at,
                const void *data, size_t len, struct lev_error *err);

/* One step: 1 a row, 0 the end, -1 error. */
int lev_db_step(struct lev_db *db, sqlite3_stmt *stmt, struct lev_error *err);
/* The document in column 1; borrows until the next step. */
int lev_db_doc(struct lev_db *db, sqlite3_stmt *stmt, bson_t *doc,
               struct lev_error *err);
/* -1 with STORE: what is in column 1 is no sound document. */
int lev_db_damaged(struct lev_db *db, sqlite3_stmt *stmt,
                   struct lev_error *err);
static inline void
lev_db_resetp(sqlite3_stmt **stmt)
{
    if (*stmt != NULL) {
        sqlite3_reset(*stmt);
        sqlite3_clear_bindings(*stmt);
    }
}
/* For a statement from lev_db_stmt(): reset at the end of the scope. */
#define _cleanup_reset_ _cleanup_(lev_db_resetp)

#endif
