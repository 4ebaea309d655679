/* sqlite_writer.h - the one thread that writes to an embedded store's file.
 *
 * Writes queue up from any thread; the writer takes what is queued and commits
 * it as one transaction, so that many small writes share one wait for the
 * disk. Each is answered after that commit, with a result of its own: one that
 * fails takes nothing with it. Between processes, a lock on a side file (PATH
 * with "-lock") lets writers take turns.
 */
#ifndef LEV_SQLITE_WRITER_H
#define LEV_SQLITE_WRITER_H

#include <stdatomic.h>

#include "sqlite_db.h"

struct lev_writer;

/* One write, embedded in what it is about. It may be run more than once: when
 * its transaction was lost, it is tried again alone. */
struct lev_write {
    /* On the writer's thread, inside a transaction. When it fails, what it has
     * changed is undone: by SQLite where it is one statement, by a savepoint
     * where `many` is set. */
    int (*run)(struct lev_write *w, struct lev_db *db, struct lev_error *err);
    void (*destroy)(struct lev_write *w); /* with the last reference */
    size_t bytes;                         /* about how much it writes */
    bool many;                            /* more than one statement */

    /* The writer's. */
    struct lev_write *next;
    atomic_int refs;
    bool queued;
    struct lev_event done;
    int rc;
    struct lev_error err;
};

/* Takes the connection, which it closes when it ends; NULL closes it too. */
struct lev_writer *lev_writer_start(struct lev_db *db, struct lev_error *err);
/* Waits for what was submitted. */
void lev_writer_stop(struct lev_writer *writer);

/* Makes `w` ready for lev_writer_write(); one reference, the caller's. */
void lev_write_init(struct lev_write *w);
void lev_write_unref(struct lev_write *w); /* NULL is fine */

/* Waits until `w` has been committed or has failed. When the scope ends first,
 * a write that is still queued is withdrawn and has not happened; one that has
 * begun goes on without its caller. On success its results can be read. */
int lev_writer_write(struct lev_writer *writer, struct lev_write *w,
                     const struct lev_scope *scope, struct lev_error *err);

#endif
