/* storelib.h - what the tests of stores share. Everything aborts on what is
 * not expected. JSON is written with ' for ". */
#ifndef LEV_TEST_STORELIB_H
#define LEV_TEST_STORELIB_H

#include "store.h"

/* No deadline, no token. */
extern const struct lev_scope forever;

/* A new directory below TMPDIR or /tmp; path within, static buffer each. */
void dir_make(void);
void dir_remove(void);
const char *dir_path(const char *name);

bson_t *json(const char *text); /* bson_destroy() */
/* LEV_TEST_STORE=mongo: databases of the server LEVRT_TEST_MONGO, else files
 * in the directory. */
bool store_is_mongo(void);
struct lev_store *store_open(const char *name);
void put(struct lev_store *st, const char *coll, const char *doc);
/* As put(), but the expected failure: its code and MongoDB's. */
struct lev_error put_fails(struct lev_store *st, const char *coll,
                           const char *doc, enum lev_errcode code);
int64_t count(struct lev_store *st, const char *coll, const char *query);
/* "{…} {…}" in relaxed JSON without spaces and with ' for "; free(). Reads in
 * batches of two. NULL for what is not given. */
char *find(struct lev_store *st, const char *coll, const char *query,
           const char *projection, const char *sort, int64_t skip,
           int64_t limit);
/* "matched modified upserted" */
const char *update(struct lev_store *st, const char *coll, const char *query,
                   const char *how, bool upsert, bool multi);

#define FINDS(st, coll, query, want)                                          \
    expect_text(__FILE__, __LINE__, find(st, coll, query, NULL, NULL, 0, 0),  \
                want)
/* Frees `got`. */
void expect_text(const char *file, int line, char *got, const char *want);

#endif
