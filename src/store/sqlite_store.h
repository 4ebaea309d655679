/* sqlite_store.h - the embedded store from the inside (sqlite.c,
 * sqlite_find.c, sqlite_write.c): one file, one writer (sqlite_writer.h),
 * connections for readers as they are needed.
 *
 * A reader takes an idle connection for one batch and gives it back: each
 * batch sees the database as it was at one moment, and no snapshot is held
 * while nobody reads, which would keep the write-ahead log from being emptied.
 */
#ifndef LEV_SQLITE_STORE_H
#define LEV_SQLITE_STORE_H

#include <pthread.h>
#include <sys/types.h>

#include "match.h"
#include "sqlite_db.h"
#include "sqlite_writer.h"
#include "store.h"

struct lev_sqlite {
    struct lev_store base; /* first */
    char *path;
    pid_t pid; /* whose threads and locks these are */
    struct lev_writer *writer;
    pthread_mutex_t mutex; /* over the idle readers */
    struct lev_db *idle;
    int n_idle;
};

static inline struct lev_sqlite *
lev_sqlite_of(struct lev_store *store)
{
    return (struct lev_sqlite *)store;
}

/* STORE in a forked child; the scope's error when it has ended. */
int lev_sqlite_check(struct lev_sqlite *s, const struct lev_scope *scope,
                     struct lev_error *err);
int lev_sqlite_check_coll(const char *coll, struct lev_error *err);
struct lev_db *lev_sqlite_take_reader(struct lev_sqlite *s,
                                      const struct lev_scope *scope,
                                      struct lev_error *err);
void lev_sqlite_give_reader(struct lev_sqlite *s, struct lev_db *db);

/* The rows behind `seq` that can match, in order: the one of an `_id`, or all
 * of the collection. `key` must stay until the statement is reset. */
sqlite3_stmt *lev_sqlite_candidates(struct lev_db *db,
                                    const struct lev_db_coll *coll,
                                    const struct lev_match *match, int64_t seq,
                                    struct lev_buf *key,
                                    struct lev_error *err);

/* The operations of the table, each in the file of its kind. */
int lev_sqlite_insert(struct lev_store *store, const struct lev_scope *scope,
                      const char *coll, const bson_t *const *docs, size_t n,
                      struct lev_error *err);
int lev_sqlite_update(struct lev_store *store, const struct lev_scope *scope,
                      const struct lev_update *u,
                      struct lev_update_result *result, struct lev_error *err);
int lev_sqlite_update_all(struct lev_store *store,
                          const struct lev_scope *scope,
                          const struct lev_update *all, size_t n,
                          struct lev_error *err);
int lev_sqlite_remove(struct lev_store *store, const struct lev_scope *scope,
                      const char *coll, const bson_t *query, bool multi,
                      int64_t *n, struct lev_error *err);
struct lev_cursor *lev_sqlite_find(struct lev_store *store,
                                   const struct lev_scope *scope,
                                   const struct lev_find *f,
                                   struct lev_error *err);
struct lev_cursor *lev_sqlite_aggregate(struct lev_store *store,
                                        const struct lev_scope *scope,
                                        const char *coll,
                                        const bson_t *pipeline,
                                        struct lev_error *err);
int lev_sqlite_next(struct lev_cursor *cursor, const struct lev_scope *scope,
                    int max, struct lev_buf *out, struct lev_error *err);
void lev_sqlite_cursor_close(struct lev_cursor *cursor);
int lev_sqlite_count(struct lev_store *store, const struct lev_scope *scope,
                     const char *coll, const bson_t *query, int64_t *n,
                     struct lev_error *err);
int lev_sqlite_collections(struct lev_store *store,
                           const struct lev_scope *scope, bson_t *names,
                           struct lev_error *err);

#endif
