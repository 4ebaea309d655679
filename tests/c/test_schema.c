/* The schema of the embedded store's file: older ones are upgraded, newer and
 * damaged ones refused. There is one version so far; the later ones are the
 * test's own.
 */

#include "sqlite_schema.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqlite_db.h"
#include "storelib.h"

#define FUTURE 4

static const char *future_steps[FUTURE];
static const struct lev_schema future = {future_steps, FUTURE};

/* Each needs the one before it, and none can be done twice. */
static void
make_future(void)
{
    assert(lev_schema_docs.n == 1);
    future_steps[0] = lev_schema_docs.steps[0];
    future_steps[1] = "CREATE TABLE second (x INTEGER);"
                      "INSERT INTO second VALUES (2);";
    future_steps[2] = "ALTER TABLE second RENAME TO third;"
                      "UPDATE third SET x = x + 1;";
    future_steps[3] = "UPDATE third SET x = x * 10;";
}

/* One row's integer; -1 where the statement cannot be. */
static int
value(struct lev_db *db, const char *sql)
{
    sqlite3_stmt *stmt;
    int n;

    if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK) {
        return -1;
    }
    assert(sqlite3_step(stmt) == SQLITE_ROW);
    n = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return n;
}

#define VERSION "SELECT value FROM meta WHERE name = 'schema'"

static struct lev_db *
open_db(const char *name)
{
    struct lev_error err;
    struct lev_db *db =
        lev_db_open(dir_path(name), LEV_DB_WRITER, &forever, &err);

    if (db == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return db;
}

static void
exec(struct lev_db *db, const char *sql)
{
    struct lev_error err;

    if (lev_db_exec(db, sql, &err) < 0) {
        fprintf(stderr, "%s: %s\n", sql, err.msg);
        abort();
    }
}

/* A file of today, with a document. */
static void
make(const char *name)
{
    struct lev_store *st = store_open(name);

    put(st, "c", "{'_id': 1, 'x': 'kept'}");
    lev_store_unref(st);
}

static struct lev_error
refused(const char *name)
{
    struct lev_error err;
    char url[600];

    snprintf(url, sizeof(url), "sqlite:%s", dir_path(name));
    assert(lev_store_open(url, &forever, &err) == NULL);
    if (err.code != LEV_E_STORE || strstr(err.msg, dir_path(name)) == NULL) {
        fprintf(stderr, "code %d: %s\n", err.code, err.msg);
        abort();
    }
    return err;
}

static void
test_upgrade(void)
{
    struct lev_error err;
    struct lev_db *db;

    make("old.db");
    db = open_db("old.db");
    assert(value(db, VERSION) == 1);
    assert(lev_schema_ensure(db, &future, &err) == 0);
    assert(value(db, VERSION) == FUTURE);
    assert(value(db, "SELECT x FROM third") == 30);
    assert(value(db, "SELECT count(*) FROM docs") == 1);
    /* Done once. */
    assert(lev_schema_ensure(db, &future, &err) == 0);
    assert(value(db, "SELECT x FROM third") == 30);
    /* From half the way, as an intermediate levrt has left it. */
    exec(db, "ALTER TABLE third RENAME TO second; UPDATE second SET x = 2;"
             "UPDATE meta SET value = 2 WHERE name = 'schema'");
    assert(lev_schema_ensure(db, &future, &err) == 0);
    assert(value(db, "SELECT x FROM third") == 30);
    lev_db_close(db);
    /* This levrt is older than the file now. */
    err = refused("old.db");
    assert(strstr(err.msg, "has schema 4, this levrt knows schemas up to 1; "
                           "upgrade levrt") != NULL);
}

/* All or nothing: the next try begins where this one did. */
static void
test_a_step_that_fails(void)
{
    const char *works = future_steps[3];
    struct lev_error err;
    struct lev_db *db;

    make("half.db");
    db = open_db("half.db");
    future_steps[3] =
        "CREATE TABLE fourth (x); INSERT INTO missing VALUES (1)";
    assert(lev_schema_ensure(db, &future, &err) < 0);
    assert(strstr(err.msg, "make version 4 of the schema: ") != NULL);
    assert(strstr(err.msg, "missing") != NULL);
    assert(value(db, VERSION) == 1);
    assert(value(db, "SELECT count(*) FROM third") == -1);
    assert(value(db, "SELECT count(*) FROM fourth") == -1);
    future_steps[3] = works;
    assert(lev_schema_ensure(db, &future, &err) == 0);
    assert(value(db, "SELECT x FROM third") == 30);
    lev_db_close(db);
}

#define PROCESSES 6

/* One does it; the others wait and find it done. */
static void
test_many_at_once(void)
{
    pid_t pids[PROCESSES];
    struct lev_db *db;
    int status, gate[2];
    char byte;

    make("many.db");
    assert(pipe(gate) == 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert(pids[i] >= 0);
        if (pids[i] == 0) {
            struct lev_error err;

            db = open_db("many.db");
            close(gate[1]);
            (void)!read(gate[0], &byte, 1); /* when all have opened it */
            if (lev_schema_ensure(db, &future, &err) < 0) {
                fprintf(stderr, "%s\n", err.msg);
                _exit(1);
            }
            lev_db_close(db);
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < PROCESSES; i++) {
        assert(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
    }
}

static void
check_many(void)
{
    struct lev_error err;
    sqlite3 *sqlite;
    struct lev_db db = {0};

    assert(sqlite3_open(dir_path("many.db"), &sqlite) == SQLITE_OK);
    db.sqlite = sqlite;
    assert(value(&db, VERSION) == FUTURE);
    assert(value(&db, "SELECT x FROM third") == 30);
    assert(sqlite3_close(sqlite) == SQLITE_OK);
    err = refused("many.db");
    assert(strstr(err.msg, "upgrade levrt") != NULL);
}

static void
test_without_a_version(void)
{
    static const char *const damages[] = {
        "UPDATE meta SET value = 0 WHERE name = 'schema'",
        "UPDATE meta SET value = -1 WHERE name = 'schema'",
        "UPDATE meta SET value = 'one' WHERE name = 'schema'",
        "UPDATE meta SET value = NULL WHERE name = 'schema'",
        "DELETE FROM meta",
    };
    struct lev_error err;

    for (size_t i = 0; i < LEV_ARRAY_LEN(damages); i++) {
        char name[20];
        struct lev_db *db;

        snprintf(name, sizeof(name), "none%zu.db", i);
        make(name);
        db = open_db(name);
        exec(db, damages[i]);
        lev_db_close(db);
        err = refused(name);
        assert(strstr(err.msg, "does not tell the version") != NULL);
    }
}

/* Bytes `at` of the file's header become `text`. */
static void
overwrite(const char *name, off_t at, const char *text, size_t len)
{
    int fd = open(dir_path(name), O_RDWR);

    assert(fd >= 0 && pwrite(fd, text, len, at) == (ssize_t)len);
    close(fd);
}

/* sqlite.org/fileformat2.html, 1.3 */
static void
test_header(void)
{
    struct lev_error err;

    make("magic.db");
    overwrite("magic.db", 0, "SQLite format 9", 15);
    err = refused("magic.db");
    assert(strstr(err.msg, "no database") != NULL);
    make("page.db");
    overwrite("page.db", 16, "\x12\x34", 2);
    refused("page.db");
    make("short.db");
    assert(truncate(dir_path("short.db"), 50) == 0);
    refused("short.db");
    make("cut.db");
    assert(truncate(dir_path("cut.db"), 4096) == 0);
    refused("cut.db");
    make("id.db");
    overwrite("id.db", 68, "else", 4);
    err = refused("id.db");
    assert(strstr(err.msg, "another program") != NULL);
    /* Nothing at all is a new one. */
    make("empty.db");
    assert(truncate(dir_path("empty.db"), 0) == 0);
    lev_store_unref(store_open("empty.db"));
}

int
main(void)
{
    dir_make();
    make_future();
    test_many_at_once();
    check_many();
    test_upgrade();
    test_a_step_that_fails();
    test_without_a_version();
    test_header();
    dir_remove();
    return 0;
}
