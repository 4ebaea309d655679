/* floor.c - the least that storing findings durably can cost: libbson and
 * SQLite with nothing around them.
 *
 * usage: floor DATABASE WRITERS SIZE
 *
 * So many threads each encode a finding of about 20 KB (SIZE bytes, which is
 * checked), queue it for one thread that writes what is queued as one
 * transaction, and wait until that has been committed with synchronous=FULL.
 * Each thread replaces a document of its own.
 *
 * Each line of the input is a number of seconds; each line of the output is
 * JSON: how many findings were stored, and in how many seconds.
 */

#include <bson/bson.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_WRITERS 64
#define PORTS 70
/* As long as the writer waits for the others of a group. */
#define LINGER_NS 100000
/* Of the log, when a thread of its own copies it into the database: done by
 * the writer, inside of its commits, that takes half of the speed. */
#define CHECKPOINT_PAGES 1000

struct entry {
    struct entry *next;
    int key;
    const uint8_t *data;
    uint32_t len;
    bool stored;
    pthread_cond_t done;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;
static pthread_cond_t checkpoint = PTHREAD_COND_INITIALIZER;
static bool log_is_long; /* mutex */
static const char *path;
static struct entry *queue;
static unsigned queued, writers;
static bool over; /* mutex */
static uint32_t expected_size;
static double stop_at; /* of the round */
static unsigned long stored[MAX_WRITERS];

static double
now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void __attribute__((noreturn)) die(const char *what, const char *why)
{
    fprintf(stderr, "floor: %s: %s\n", what, why);
    exit(1);
}

/* ---- a finding, as bench_bson.py makes it ---- */

static void
append_service(bson_t *port, int n)
{
    bson_t service, cpe;
    char text[64];

    BSON_APPEND_DOCUMENT_BEGIN(port, "service", &service);
    BSON_APPEND_UTF8(&service, "name", "http");
    BSON_APPEND_UTF8(&service, "product", "nginx");
    snprintf(text, sizeof(text), "1.%d.0", n);
    BSON_APPEND_UTF8(&service, "version", text);
    BSON_APPEND_INT32(&service, "conf", 10);
    BSON_APPEND_ARRAY_BEGIN(&service, "cpe", &cpe);
    snprintf(text, sizeof(text), "cpe:/a:igor_sysoev:nginx:1.%d.0", n);
    BSON_APPEND_UTF8(&cpe, "0", text);
    bson_append_array_end(&service, &cpe);
    bson_append_document_end(port, &service);
}

static void
append_scripts(bson_t *port, int n)
{
    bson_t scripts, script;
    char text[64];

    BSON_APPEND_ARRAY_BEGIN(port, "scripts", &scripts);
    BSON_APPEND_DOCUMENT_BEGIN(&scripts, "0", &script);
    BSON_APPEND_UTF8(&script, "id", "http-title");
    snprintf(text, sizeof(text), "Site number %d", n);
    BSON_APPEND_UTF8(&script, "output", text);
    bson_append_document_end(&scripts, &script);
    bson_append_array_end(port, &scripts);
}

static void
append_port(bson_t *ports, int n)
{
    bson_t port, state;
    char buf[16];
    const char *key;

    bson_uint32_to_string((uint32_t)n, &key, buf, sizeof(buf));
    BSON_APPEND_DOCUMENT_BEGIN(ports, key, &port);
    BSON_APPEND_INT32(&port, "port", 1000 + n);
    BSON_APPEND_UTF8(&port, "protocol", "tcp");
    BSON_APPEND_DOCUMENT_BEGIN(&port, "state", &state);
    BSON_APPEND_UTF8(&state, "state", "open");
    BSON_APPEND_UTF8(&state, "reason", "syn-ack");
    BSON_APPEND_INT32(&state, "ttl", 64);
    bson_append_document_end(&port, &state);
    append_service(&port, n);
    append_scripts(&port, n);
    bson_append_document_end(ports, &port);
}

static void
finding(bson_t *doc)
{
    bson_t list, one;

    BSON_APPEND_UTF8(doc, "target", "192.168.17.5");
    BSON_APPEND_ARRAY_BEGIN(doc, "hostnames", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &one);
    BSON_APPEND_UTF8(&one, "name", "host.example.org");
    BSON_APPEND_UTF8(&one, "type", "PTR");
    bson_append_document_end(&list, &one);
    bson_append_array_end(doc, &list);
    BSON_APPEND_DOCUMENT_BEGIN(doc, "times", &one);
    BSON_APPEND_INT32(&one, "srtt", 1432);
    BSON_APPEND_INT32(&one, "rttvar", 512);
    BSON_APPEND_INT32(&one, "to", 100000);
    bson_append_document_end(doc, &one);
    BSON_APPEND_ARRAY_BEGIN(doc, "ports", &list);
    for (int n = 0; n < PORTS; n++) {
        append_port(&list, n);
    }
    bson_append_array_end(doc, &list);
    BSON_APPEND_BOOL(doc, "up", true);
    if (doc->len != expected_size) {
        fprintf(stderr, "floor: %u bytes, not %u\n", doc->len, expected_size);
        exit(1);
    }
}

/* ---- the one who writes ---- */

static void
run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        die(sql, sqlite3_errmsg(db));
    }
}

static void
write_all(sqlite3 *db, sqlite3_stmt *put, const struct entry *batch)
{
    run(db, "BEGIN IMMEDIATE");
    for (const struct entry *e = batch; e != NULL; e = e->next) {
        sqlite3_bind_int(put, 1, e->key);
        sqlite3_bind_blob(put, 2, e->data, (int)e->len, SQLITE_STATIC);
        if (sqlite3_step(put) != SQLITE_DONE) {
            die("insert", sqlite3_errmsg(db));
        }
        sqlite3_reset(put);
    }
    run(db, "COMMIT");
}

/* NULL at the end. */
static struct entry *
take_batch(void)
{
    struct entry *batch;
    struct timespec end;

    pthread_mutex_lock(&mutex);
    while (queue == NULL && !over) {
        pthread_cond_wait(&wake, &mutex);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += LINGER_NS;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    while (queued < writers && !over &&
           pthread_cond_timedwait(&wake, &mutex, &end) == 0)
    {
    }
    batch = queue;
    queue = NULL;
    queued = 0;
    pthread_mutex_unlock(&mutex);
    return batch;
}

static void
answer(struct entry *batch)
{
    pthread_mutex_lock(&mutex);
    while (batch != NULL) {
        struct entry *next = batch->next;

        batch->stored = true;
        pthread_cond_signal(&batch->done);
        batch = next;
    }
    pthread_mutex_unlock(&mutex);
}

static void *
store_main(void *arg)
{
    sqlite3 *db = arg;
    sqlite3_stmt *put;
    struct entry *batch;

    if (sqlite3_prepare_v2(db, "REPLACE INTO docs VALUES (?, ?)", -1, &put,
                           NULL) != SQLITE_OK)
    {
        die("prepare", sqlite3_errmsg(db));
    }
    while ((batch = take_batch()) != NULL) {
        write_all(db, put, batch);
        answer(batch);
    }
    sqlite3_finalize(put);
    return NULL;
}

/* ---- the one who copies the log ---- */

static int
on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
    (void)arg, (void)db, (void)name;
    if (pages >= CHECKPOINT_PAGES) {
        pthread_mutex_lock(&mutex);
        log_is_long = true;
        pthread_cond_signal(&checkpoint);
        pthread_mutex_unlock(&mutex);
    }
    return SQLITE_OK;
}

static sqlite3 *
open_database(void)
{
    sqlite3 *db;

    if (sqlite3_open(path, &db) != SQLITE_OK) {
        die(path, sqlite3_errmsg(db));
    }
    run(db, "PRAGMA journal_mode=WAL");
    run(db, "PRAGMA synchronous=FULL");
    return db;
}

static void *
checkpoint_main(void *arg)
{
    sqlite3 *db = open_database();

    (void)arg;
    pthread_mutex_lock(&mutex);
    while (!over) {
        if (!log_is_long) {
            pthread_cond_wait(&checkpoint, &mutex);
            continue;
        }
        log_is_long = false;
        pthread_mutex_unlock(&mutex);
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL,
                                  NULL);
        pthread_mutex_lock(&mutex);
    }
    pthread_mutex_unlock(&mutex);
    sqlite3_close(db);
    return NULL;
}

/* ---- those who store ---- */

static void
store(struct entry *e)
{
    pthread_mutex_lock(&mutex);
    e->stored = false;
    e->next = queue;
    queue = e;
    queued++;
    pthread_cond_signal(&wake);
    while (!e->stored) {
        pthread_cond_wait(&e->done, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

static void *
writer_main(void *arg)
{
    unsigned long *count = arg;
    struct entry e = {.key = (int)(count - stored),
                      .done = PTHREAD_COND_INITIALIZER};

    *count = 0;
    while (now() < stop_at) {
        bson_t doc = BSON_INITIALIZER;

        finding(&doc);
        e.data = bson_get_data(&doc);
        e.len = doc.len;
        store(&e);
        bson_destroy(&doc);
        ++*count;
    }
    return NULL;
}

static void
measure(sqlite3 *db, double seconds)
{
    pthread_t threads[MAX_WRITERS], store_thread, checkpointer;
    unsigned long total = 0;
    double start = now();

    over = false;
    stop_at = start + seconds;
    pthread_create(&checkpointer, NULL, checkpoint_main, NULL);
    pthread_create(&store_thread, NULL, store_main, db);
    for (unsigned i = 0; i < writers; i++) {
        pthread_create(&threads[i], NULL, writer_main, &stored[i]);
    }
    for (unsigned i = 0; i < writers; i++) {
        pthread_join(threads[i], NULL);
        total += stored[i];
    }
    seconds = now() - start;
    pthread_mutex_lock(&mutex);
    over = true;
    pthread_cond_signal(&wake);
    pthread_cond_signal(&checkpoint);
    pthread_mutex_unlock(&mutex);
    pthread_join(store_thread, NULL);
    pthread_join(checkpointer, NULL);
    printf("{\"stored\": %lu, \"seconds\": %.6f}\n", total, seconds);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    pthread_condattr_t attr;
    sqlite3 *db;
    double seconds;

    if (argc != 4 || (writers = (unsigned)atoi(argv[2])) < 1 ||
        writers > MAX_WRITERS)
    {
        die("usage", "floor DATABASE WRITERS SIZE");
    }
    expected_size = (uint32_t)atoi(argv[3]);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&wake, &attr);
    path = argv[1];
    db = open_database();
    sqlite3_wal_hook(db, on_commit, NULL); /* instead of its own checkpoints */
    run(db, "CREATE TABLE IF NOT EXISTS docs (key INTEGER PRIMARY KEY, doc)");
    while (scanf("%lf", &seconds) == 1) {
        measure(db, seconds);
    }
    sqlite3_close(db);
    return 0;
}
