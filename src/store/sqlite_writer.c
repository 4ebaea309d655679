#include "sqlite_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "worker.h"

/* How long the writer waits for company. Writers that are answered together
 * come back together: without this half of them would always just miss the
 * batch (measured: 16 writers in batches of 8; 15 with it). */
#define LINGER_NS 100000

/* Bounds of one transaction. */
#define BATCH_MAX 256
#define BATCH_BYTES (32u * 1024 * 1024)

/* Pages of the write-ahead log: from the first on a thread of its own copies
 * them into the database while writes go on; at the second the writer does it
 * itself, since only then is the log ever seen through and begun anew. */
#define CHECKPOINT_PAGES 1000
#define CHECKPOINT_NOW_PAGES 16000

/* How long lev_writer_stop() waits for a writer that waits for the lock of
 * another process although nobody wants to write any more. */
#define STOP_LIMIT (5 * LEV_SECOND)

struct lev_writer {
    struct lev_db *db;
    int lock_fd; /* -1: none could be made; SQLite's own lock must do */

    pthread_mutex_t mutex; /* over what follows */
    int threads;           /* that run */
    pthread_cond_t ended;  /* one of them has ended */
    bool abandoned;        /* the last one frees */
    pthread_cond_t wake;   /* the writer: there is something to do */
    struct lev_write *head, **tail;
    size_t queued;
    size_t enough; /* the writer sleeps until so many are queued */
    bool stopping;
    int64_t waiting_since; /* for another process's lock; 0: it does not */

    pthread_cond_t checkpoint; /* the checkpointer: the log is long */
    bool log_is_long;

    size_t expected; /* the writer's own: how many are likely to come */
};

static void
writer_free(struct lev_writer *w)
{
    lev_db_close(w->db);
    lev_closep(&w->lock_fd);
    pthread_cond_destroy(&w->ended);
    pthread_cond_destroy(&w->wake);
    pthread_cond_destroy(&w->checkpoint);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

void
lev_write_init(struct lev_write *w)
{
    atomic_init(&w->refs, 1);
    lev_event_init(&w->done);
}

void
lev_write_unref(struct lev_write *w)
{
    if (w != NULL && atomic_fetch_sub(&w->refs, 1) == 1) {
        lev_event_deinit(&w->done);
        w->destroy(w);
    }
}

static void
answer(struct lev_write *w)
{
    lev_event_set(&w->done);
    lev_write_unref(w);
}

/* Turns between processes. POSIX locks: they die with their process, and a
 * forked child does not have them. */

static void
lock_set(struct lev_writer *w, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    int rc;

    if (w->lock_fd < 0) {
        return;
    }
    do {
        rc = fcntl(w->lock_fd, type == F_UNLCK ? F_SETLK : F_SETLKW, &lock);
    } while (rc < 0 && errno == EINTR);
    /* A failure (EDEADLK, as the kernel takes two threads of one process for
     * one; ENOLCK) costs fairness only: SQLite has its own lock. */
}

static void
set_waiting(struct lev_writer *w, int64_t since)
{
    pthread_mutex_lock(&w->mutex);
    w->waiting_since = since;
    pthread_mutex_unlock(&w->mutex);
}

/* The queue. */

/* With the mutex held. */
static struct lev_write *
take_batch(struct lev_writer *w, size_t *n)
{
    struct lev_write *batch = w->head, **end = &w->head;
    size_t bytes = 0;

    *n = 0;
    while (*end != NULL && *n < BATCH_MAX &&
           (*n == 0 || bytes + (*end)->bytes <= BATCH_BYTES))
    {
        bytes += (*end)->bytes;
        (*end)->queued = false;
        end = &(*end)->next;
        ++*n;
    }
    w->queued -= *n;
    w->head = *end;
    *end = NULL;
    if (w->head == NULL) {
        w->tail = &w->head;
    }
    return *n == 0 ? NULL : batch;
}

/* With the mutex held. */
static void
withdraw(struct lev_writer *w, struct lev_write *out)
{
    struct lev_write **link = &w->head;

    while (*link != out) {
        link = &(*link)->next;
    }
    *link = out->next;
    if (*link == NULL) {
        w->tail = link;
    }
    w->queued--;
    out->queued = false;
}

/* Waits until there is something to write and, for a moment, for as many as
 * came the last time. False: the end. */
static bool
wait_for_work(struct lev_writer *w)
{
    struct timespec end;
    bool more;

    pthread_mutex_lock(&w->mutex);
    w->enough = 1;
    while (w->queued == 0 && !w->stopping) {
        pthread_cond_wait(&w->wake, &w->mutex);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += LINGER_NS;
    if (end.tv_nsec >= LEV_SECOND) {
        end.tv_nsec -= LEV_SECOND;
        end.tv_sec++;
    }
    w->enough = w->expected;
    while (w->queued > 0 && w->queued < w->enough && !w->stopping &&
           pthread_cond_timedwait(&w->wake, &w->mutex, &end) == 0)
    {
    }
    w->enough = SIZE_MAX;
    more = w->queued > 0;
    pthread_mutex_unlock(&w->mutex);
    return more;
}

/* Transactions. */

static int
begin(struct lev_writer *w, struct lev_error *err)
{
    struct lev_scope forever = {LEV_NEVER, NULL};

    w->db->scope = lev_scope_within(&forever, LEV_DB_LOCK_LIMIT);
    return lev_db_tx(w->db, LEV_DB_BEGIN, err);
}

static void
rollback(struct lev_writer *w)
{
    struct lev_error ignored;

    if (!sqlite3_get_autocommit(w->db->sqlite)) {
        lev_db_tx(w->db, LEV_DB_ROLLBACK, &ignored);
    }
    lev_db_forget(w->db);
}

static int
run_saved(struct lev_write *write, struct lev_db *db)
{
    struct lev_error ignored;

    if (lev_db_tx(db, LEV_DB_SAVE, &write->err) < 0) {
        return -1;
    }
    if (write->run(write, db, &write->err) == 0) {
        return lev_db_tx(db, LEV_DB_KEEP, &write->err);
    }
    /* Where half of a write cannot be undone, the whole transaction is. */
    if (!sqlite3_get_autocommit(db->sqlite) &&
        lev_db_tx(db, LEV_DB_UNDO, &ignored) < 0)
    {
        lev_db_tx(db, LEV_DB_ROLLBACK, &ignored);
    }
    lev_db_forget(db); /* it may have made a collection */
    return -1;
}

/* -1: the whole transaction is lost, as SQLite rolls it back for some errors.
 * The write's own failure is no reason. */
static int
run_one(struct lev_writer *w, struct lev_write *write)
{
    write->rc = write->many ? run_saved(write, w->db)
                            : write->run(write, w->db, &write->err);
    return write->rc < 0 && sqlite3_get_autocommit(w->db->sqlite) ? -1 : 0;
}

/* All of the batch in one transaction; -1: nothing has been written. */
static int
run_batch(struct lev_writer *w, struct lev_write *batch, struct lev_error *err)
{
    for (struct lev_write *one = batch; one != NULL; one = one->next) {
        if (run_one(w, one) < 0) {
            *err = one->err;
            return -1;
        }
    }
    return lev_db_tx(w->db, LEV_DB_COMMIT, err);
}

static void
fail(struct lev_write *one, const struct lev_error *err)
{
    one->rc = -1;
    one->err = *err;
}

/* A transaction that was lost (full disk, say) may have been so for one of
 * its writes: each is tried again in one of its own. */
static void
run_singly(struct lev_writer *w, struct lev_write *batch)
{
    struct lev_write *next;

    for (struct lev_write *one = batch; one != NULL; one = next) {
        struct lev_error err;

        next = one->next;
        one->next = NULL;
        if (begin(w, &err) < 0) {
            fail(one, &err);
        }
        else if (run_batch(w, one, &err) < 0) {
            fail(one, &err);
            rollback(w);
        }
        one->next = next;
    }
}

static void
run_all(struct lev_writer *w, struct lev_write *batch)
{
    struct lev_error err;

    if (run_batch(w, batch, &err) == 0) {
        return;
    }
    rollback(w);
    if (batch->next == NULL) {
        fail(batch, &err);
        return;
    }
    run_singly(w, batch);
}

static void
answer_all(struct lev_write *batch)
{
    struct lev_write *next;

    for (; batch != NULL; batch = next) {
        next = batch->next;
        answer(batch);
    }
}

/* The lock first, then the batch: whoever gives up while the writer waits has
 * its write withdrawn, and late comers join. */
static void
write_once(struct lev_writer *w)
{
    struct lev_write *batch;
    struct lev_error err;
    size_t n;
    int rc;

    set_waiting(w, lev_now());
    lock_set(w, F_WRLCK);
    rc = begin(w, &err);
    pthread_mutex_lock(&w->mutex);
    w->waiting_since = 0;
    batch = take_batch(w, &n);
    pthread_mutex_unlock(&w->mutex);
    if (rc < 0) {
        for (struct lev_write *one = batch; one != NULL; one = one->next) {
            fail(one, &err);
        }
    }
    else if (batch != NULL) {
        run_all(w, batch);
    }
    else {
        rollback(w);
    }
    lock_set(w, F_UNLCK);
    pthread_mutex_lock(&w->mutex);
    w->expected = n + w->queued;
    pthread_mutex_unlock(&w->mutex);
    answer_all(batch);
}

/* The write-ahead log. */

/* SQLite's, after each commit: the log has so many pages. */
static int
on_commit(void *ctx, sqlite3 *sqlite, const char *name, int pages)
{
    struct lev_writer *w = ctx;

    if (pages >= CHECKPOINT_NOW_PAGES) {
        sqlite3_wal_checkpoint_v2(sqlite, name, SQLITE_CHECKPOINT_PASSIVE,
                                  NULL, NULL);
    }
    else if (pages >= CHECKPOINT_PAGES) {
        pthread_mutex_lock(&w->mutex);
        w->log_is_long = true;
        pthread_cond_signal(&w->checkpoint);
        pthread_mutex_unlock(&w->mutex);
    }
    return SQLITE_OK;
}

static bool
wait_for_long_log(struct lev_writer *w)
{
    bool stopping;

    pthread_mutex_lock(&w->mutex);
    while (!w->log_is_long && !w->stopping) {
        pthread_cond_wait(&w->checkpoint, &w->mutex);
    }
    w->log_is_long = false;
    stopping = w->stopping;
    pthread_mutex_unlock(&w->mutex);
    return !stopping;
}

/* The last that a thread does. */
static void
thread_ends(struct lev_writer *w)
{
    bool last;

    pthread_mutex_lock(&w->mutex);
    w->threads--;
    last = w->abandoned && w->threads == 0;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mutex);
    if (last) {
        writer_free(w);
    }
}

/* A checkpoint that fails is made later: the log only grows meanwhile, and the
 * writer reports what is wrong with the disk. */
static void
checkpointer_main(void *arg)
{
    struct lev_writer *w = arg;
    struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_error ignored;
    struct lev_db *db = NULL;

    while (wait_for_long_log(w)) {
        if (db == NULL) {
            db = lev_db_open(w->db->path, LEV_DB_READER, &forever, &ignored);
        }
        if (db != NULL) {
            sqlite3_wal_checkpoint_v2(db->sqlite, NULL,
                                      SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        }
    }
    lev_db_close(db);
    thread_ends(w);
}

static void
writer_main(void *arg)
{
    struct lev_writer *w = arg;

    while (wait_for_work(w)) {
        write_once(w);
    }
    thread_ends(w);
}

static int
lock_open(const char *db_path)
{
    _cleanup_free_ char *path = NULL;

    if (asprintf(&path, "%s-lock", db_path) < 0) {
        path = NULL;
        return -1;
    }
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static struct lev_writer *
writer_create(struct lev_db *db)
{
    struct lev_writer *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;

    if (w == NULL) {
        return NULL;
    }
    w->db = db;
    w->lock_fd = lock_open(db->path);
    w->tail = &w->head;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->ended, &attr);
    pthread_cond_init(&w->wake, &attr);
    pthread_cond_init(&w->checkpoint, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

static int
thread_start(struct lev_writer *w, const char *name, void (*fn)(void *),
             struct lev_error *err)
{
    int rc;

    pthread_mutex_lock(&w->mutex);
    rc = lev_thread_start(name, fn, w, err);
    w->threads += rc == 0;
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

struct lev_writer *
lev_writer_start(struct lev_db *db, struct lev_error *err)
{
    struct lev_writer *w = writer_create(db);

    if (w == NULL) {
        lev_db_close(db);
        lev_error_nomem(err, "writer");
        return NULL;
    }
    sqlite3_wal_hook(db->sqlite, on_commit, w);
    if (thread_start(w, "lev-checkpoint", checkpointer_main, err) < 0 ||
        thread_start(w, "lev-store", writer_main, err) < 0)
    {
        lev_writer_stop(w);
        return NULL;
    }
    return w;
}

void
lev_writer_stop(struct lev_writer *w)
{
    int64_t until = lev_now() + STOP_LIMIT;
    struct timespec end = {until / LEV_SECOND, until % LEV_SECOND};
    int rc = 0;
    bool ended;

    pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_cond_signal(&w->checkpoint);
    while (w->threads > 0 && rc == 0) {
        rc = pthread_cond_timedwait(&w->ended, &w->mutex, &end);
    }
    ended = w->threads == 0;
    w->abandoned = !ended;
    pthread_mutex_unlock(&w->mutex);
    /* A writer that waits for another process's lock is left to itself: it
     * has nothing to write, and ends when it gets the lock. */
    if (ended) {
        writer_free(w);
    }
}

static void
enqueue(struct lev_writer *w, struct lev_write *write)
{
    atomic_fetch_add(&write->refs, 1);
    pthread_mutex_lock(&w->mutex);
    write->next = NULL;
    write->queued = true;
    *w->tail = write;
    w->tail = &write->next;
    w->queued++;
    if (w->queued >= w->enough) {
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
}

static int
locked_out(struct lev_writer *w, int64_t since, struct lev_error *err)
{
    return lev_error_set(
        err, LEV_E_STORE_UNAVAILABLE, SQLITE_BUSY,
        "store: the database %s has been locked by another process for "
        "%.1f s; nothing was written; try again, or end the one that keeps it "
        "(fuser %s-lock tells which)",
        w->db->path, (double)(lev_now() - since) / LEV_SECOND, w->db->path);
}

/* Takes a write back that is still queued; `*since` says since when the writer
 * has waited for another process, 0: it does not. */
static bool
take_back(struct lev_writer *w, struct lev_write *write, int64_t *since)
{
    bool queued;

    pthread_mutex_lock(&w->mutex);
    *since = w->waiting_since;
    queued = write->queued;
    if (queued) {
        withdraw(w, write);
    }
    pthread_mutex_unlock(&w->mutex);
    if (queued) {
        lev_write_unref(write);
    }
    return queued;
}

/* The scope has ended, which `err` says. */
static int
give_up(struct lev_writer *w, struct lev_write *write, struct lev_error *err)
{
    int64_t since;

    if (!take_back(w, write, &since)) {
        return lev_error_wrap(err,
                              "store: the write may or may not have happened");
    }
    return err->code == LEV_E_TIMEOUT && since != 0
               ? locked_out(w, since, err)
               : lev_error_wrap(err, "store: nothing was written");
}

static bool
is_locked_out(struct lev_writer *w)
{
    bool is;

    pthread_mutex_lock(&w->mutex);
    is = w->waiting_since != 0 &&
         lev_now() - w->waiting_since > LEV_DB_LOCK_LIMIT;
    pthread_mutex_unlock(&w->mutex);
    return is;
}

/* As the scope allows, but not for ever for another process's lock. */
static int
wait_for_answer(struct lev_writer *w, struct lev_write *write,
                const struct lev_scope *scope, struct lev_error *err)
{
    for (;;) {
        struct lev_scope s = lev_scope_within(scope, LEV_DB_LOCK_LIMIT / 4);
        int64_t since;

        if (lev_scope_wait(&s, &write->done, err) == 0) {
            return 0;
        }
        if (err->code != LEV_E_TIMEOUT || lev_scope_check(scope, err) < 0) {
            return give_up(w, write, err);
        }
        if (is_locked_out(w) && take_back(w, write, &since)) {
            return locked_out(w, since, err);
        }
    }
}

int
lev_writer_write(struct lev_writer *w, struct lev_write *write,
                 const struct lev_scope *scope, struct lev_error *err)
{
    enqueue(w, write);
    if (wait_for_answer(w, write, scope, err) < 0) {
        return -1;
    }
    if (write->rc < 0) {
        *err = write->err;
    }
    return write->rc;
}
