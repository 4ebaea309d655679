/* sqlite_db.h - one connection to the database file of an embedded store:
 * opening, the schema, prepared statements, and what SQLite's errors mean.
 *
 * A connection is used by one thread at a time. Every function that can wait
 * for another process's lock does so as `db->scope` allows, which the user of
 * the connection sets beforehand.
 *
 * The schema: `meta` (name, value) holds the schema's version; `collections`
 * (id, name); and for each collection a table `c<id>`: `seq` counts in order
 * of insertion, `key` is the `_id` as lev_id_key() makes it, `doc` the BSON.
 */
#ifndef LEV_SQLITE_DB_H
#define LEV_SQLITE_DB_H

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

/* Of one collection. */
enum lev_db_stmt {
    LEV_DB_GET,    /* key → seq, doc */
    LEV_DB_SCAN,   /* after which seq → seq, doc in order */
    LEV_DB_COUNT,  /* → number of documents */
    LEV_DB_INSERT, /* key, doc */
    LEV_DB_UPDATE, /* seq, doc */
    LEV_DB_N_STMTS,
};

/* A collection as one connection knows it. */
struct lev_db_coll {
    struct lev_db_coll *next;
    int64_t id;
    sqlite3_stmt *stmt[LEV_DB_N_STMTS]; /* made when first used */
    char name[];
};

struct lev_db {
    sqlite3 *sqlite;
    char *path;
    struct lev_scope scope;        /* of the call in progress */
    sqlite3_stmt *tx[LEV_DB_N_TX]; /* made when first used */
    struct lev_db_coll *colls;
    int n_colls;
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

/* 1 with the collection, 0 when there is none, -1. Valid until the next
 * lookup. */
int lev_db_coll(struct lev_db *db, const char *name, struct lev_db_coll **coll,
                struct lev_error *err);
/* As above, making it; inside a transaction. What it has begun when it fails
 * is undone. */
int lev_db_coll_make(struct lev_db *db, const char *name,
                     struct lev_db_coll **coll, struct lev_error *err);
/* Forgets all collections: after a rollback some may not exist. */
void lev_db_forget(struct lev_db *db);
/* Ready to be bound; reset by whoever used it. */
sqlite3_stmt *lev_db_stmt(struct lev_db *db, struct lev_db_coll *coll,
                          enum lev_db_stmt kind, struct lev_error *err);

/* One step: 1 a row, 0 the end, -1 error. */
int lev_db_step(struct lev_db *db, sqlite3_stmt *stmt, struct lev_error *err);
/* The document in column 1; borrows until the next step. */
int lev_db_doc(struct lev_db *db, sqlite3_stmt *stmt, bson_t *doc,
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
