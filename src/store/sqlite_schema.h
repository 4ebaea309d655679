/* sqlite_schema.h - the schema of the embedded store's file, and its history.
 */
#ifndef LEV_SQLITE_SCHEMA_H
#define LEV_SQLITE_SCHEMA_H

#include "error.h"

struct lev_db;

/* Makes the schema in an empty database, upgrades an older one. STORE when it
 * is newer than this levrt, or of another program. */
int lev_schema_ensure(struct lev_db *db, struct lev_error *err);

#endif
