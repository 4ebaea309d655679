/* sqlite_schema.h - the schema of the embedded store's file, and its history.
 */
#ifndef LEV_SQLITE_SCHEMA_H
#define LEV_SQLITE_SCHEMA_H

#include "error.h"

struct lev_db;

/* SQL that makes version n + 1 of version n, n = 0 being an empty database. A
 * step never changes once it has been released: files of every version are
 * about. */
struct lev_schema {
    const char *const *steps;
    size_t n;
};

extern const struct lev_schema
    lev_schema_docs; /* what sqlite_db.h describes */

/* Makes the schema in an empty database, upgrades an older one, all in one
 * transaction. STORE when it is newer than `schema`, damaged, or another
 * program's. */
int lev_schema_ensure(struct lev_db *db, const struct lev_schema *schema,
                      struct lev_error *err);

#endif
