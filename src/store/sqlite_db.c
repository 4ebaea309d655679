#include "sqlite_db.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "id.h"
#include "sqlite_schema.h"

/* `seq` is a collection's id and 36 bits that count its documents. */
#define SEQ_BITS 36
#define COLL_MAX ((INT64_C(1) << (62 - SEQ_BITS)) - 1)

static inline void
finalizep(sqlite3_stmt **stmt)
{
    sqlite3_finalize(*stmt);
}
#define _cleanup_finalize_ _cleanup_(finalizep)

static int
locked_error(struct lev_db *db, const char *what, int code,
             struct lev_error *err)
{
    return lev_error_set(err, LEV_E_STORE_UNAVAILABLE, code,
                         "%s: the database %s is locked by another process; "
                         "try again, or end the one that keeps it "
                         "(fuser %s tells which)",
                         what, db->path, db->path);
}

/* What there is to do about it; NULL where nobody knows better. */
static const char *
remedy_of(int code)
{
    if (code == SQLITE_READONLY_DBMOVED) {
        return "the file has been moved or deleted while it was in use; put "
               "it back and open it again";
    }
    switch (code & 0xff) {
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return "it is read-only; give this user write permission on the file "
               "and its directory, or choose another store";
    case SQLITE_FULL:
        return "the disk is full; make room (what was stored before is "
               "intact)";
    case SQLITE_CORRUPT:
        return "the file is damaged; restore it from a copy, or save what can "
               "be read with `sqlite3 FILE .recover`";
    case SQLITE_NOTADB:
        return "the file is no database of levrt's; move it away, or choose "
               "another store";
    case SQLITE_CANTOPEN:
        return "it cannot be opened; check that the directory exists and can "
               "be written to";
    case SQLITE_IOERR:
        return "the disk failed; see the kernel's log";
    default:
        return NULL;
    }
}

int
lev_db_error(struct lev_db *db, const char *what, struct lev_error *err)
{
    int code = sqlite3_extended_errcode(db->sqlite);
    int os = sqlite3_system_errno(db->sqlite);
    const char *remedy = remedy_of(code);
    char text[96];

    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return lev_error_nomem(err, what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return lev_scope_check(&db->scope, err) < 0 &&
                       err->code == LEV_E_CANCELLED
                   ? -1
                   : locked_error(db, what, code, err);
    default:
        break;
    }
    if ((code & 0xff) == SQLITE_IOERR && os == ENOSPC) {
        remedy = remedy_of(SQLITE_FULL);
    }
    return lev_error_set(
        err, LEV_E_STORE, code, "%s: database %s: %s%s%s%s%s", what, db->path,
        sqlite3_errmsg(db->sqlite), os != 0 ? ": " : "",
        os != 0 ? strerror_r(os, text, sizeof(text)) : "",
        remedy != NULL ? ": " : "", remedy != NULL ? remedy : "");
}

int
lev_db_exec(struct lev_db *db, const char *sql, struct lev_error *err)
{
    return sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : lev_db_error(db, "store", err);
}

/* SQLite asks again and again while another process holds a lock it needs.
 * Short naps of equal length: growing ones would starve whoever has waited
 * longest. */
static int
on_busy(void *ctx, int tries)
{
    struct lev_db *db = ctx;
    struct lev_error ignored;

    return lev_scope_sleep(&db->scope, LEV_MS, &ignored) == 0;
}

void
lev_db_forget(struct lev_db *db)
{
    for (size_t i = 0; i < LEV_DB_KNOWN; i++) {
        free(lev_steal(db->known[i].name));
    }
}

void
lev_db_close(struct lev_db *db)
{
    if (db == NULL) {
        return;
    }
    lev_db_forget(db);
    for (int i = 0; i < LEV_DB_N_TX; i++) {
        sqlite3_finalize(db->tx[i]);
    }
    for (int i = 0; i < LEV_DB_N_STMTS; i++) {
        sqlite3_finalize(db->stmt[i]);
    }
    sqlite3_close(db->sqlite);
    free(db->path);
    free(db);
}

/* For its owner alone; SQLite gives its side files the same mode. An existing
 * file is not opened: to close it would drop the locks that connections of
 * this process hold on it (fcntl(2)). */
static int
make_file(const char *path, struct lev_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;

    if (fd >= 0) {
        close(fd);
        return 0;
    }
    if (errno != EEXIST) {
        lev_error_errno(err, "store: database %s cannot be made", path);
        err->code = err->code == LEV_E_NOMEM ? LEV_E_NOMEM : LEV_E_STORE;
        return -1;
    }
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "store: %s is no file; give the path of the "
                             "database's file",
                             path);
    }
    return 0;
}

static sqlite3_stmt *
prepare(struct lev_db *db, const char *sql, struct lev_error *err)
{
    sqlite3_stmt *stmt;

    if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK) {
        lev_db_error(db, "store", err);
        return NULL;
    }
    return stmt;
}

int
lev_db_tx(struct lev_db *db, enum lev_db_tx what, struct lev_error *err)
{
    static const char *const texts[LEV_DB_N_TX] = {
        [LEV_DB_BEGIN] = "BEGIN IMMEDIATE", [LEV_DB_COMMIT] = "COMMIT",
        [LEV_DB_ROLLBACK] = "ROLLBACK",     [LEV_DB_SAVE] = "SAVEPOINT one",
        [LEV_DB_KEEP] = "RELEASE one",      [LEV_DB_UNDO] = "ROLLBACK TO one",
    };
    int rc;

    if (db->tx[what] == NULL) {
        db->tx[what] = prepare(db, texts[what], err);
    }
    if (db->tx[what] == NULL) {
        return -1;
    }
    rc = lev_db_step(db, db->tx[what], err);
    sqlite3_reset(db->tx[what]);
    return rc < 0 || what != LEV_DB_UNDO ? rc
                                         : lev_db_tx(db, LEV_DB_KEEP, err);
}

/* SQLite answers with the mode that is in force, and where WAL cannot be (it
 * needs shared memory, which network file systems lack) that is another. */
static int
use_wal(struct lev_db *db, struct lev_error *err)
{
    _cleanup_finalize_ sqlite3_stmt *stmt =
        prepare(db, "PRAGMA journal_mode = WAL", err);
    int rc = stmt == NULL ? -1 : lev_db_step(db, stmt, err);

    if (rc < 0) {
        return -1;
    }
    if (rc == 0 ||
        strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") != 0) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "store: database %s cannot use a write-ahead "
                             "log; keep it on a local file system",
                             db->path);
    }
    return 0;
}

static int
set_up_writer(struct lev_db *db, struct lev_error *err)
{
    if (use_wal(db, err) < 0) {
        return -1;
    }
    /* Checkpoints are the writer's business (sqlite_writer.c). */
    if (lev_db_exec(db,
                    "PRAGMA wal_autocheckpoint = 0;"
                    "PRAGMA journal_size_limit = 67108864;"
                    "PRAGMA cell_size_check = ON;",
                    err) < 0)
    {
        return -1;
    }
    if (sqlite3_db_readonly(db->sqlite, "main") == 1) {
        return lev_error_set(err, LEV_E_STORE, SQLITE_READONLY,
                             "store: database %s: %s", db->path,
                             remedy_of(SQLITE_READONLY));
    }
    return lev_schema_ensure(db, &lev_schema_docs, err);
}

static int
set_up(struct lev_db *db, enum lev_db_mode mode, struct lev_error *err)
{
    sqlite3_extended_result_codes(db->sqlite, 1);
    sqlite3_busy_handler(db->sqlite, on_busy, db);
    if (lev_db_exec(db,
                    "PRAGMA trusted_schema = OFF;"
                    "PRAGMA cache_size = -1024;" /* KiB; the kernel has more */
                    "PRAGMA synchronous = FULL;", /* of checkpoints too */
                    err) < 0)
    {
        return -1;
    }
    return mode == LEV_DB_WRITER
               ? set_up_writer(db, err)
               : lev_db_exec(db, "PRAGMA query_only = ON;", err);
}

/* SQLite does not ask on_busy() while it changes a new file's journal mode,
 * which many processes may do at once. */
static int
set_up_patiently(struct lev_db *db, enum lev_db_mode mode,
                 struct lev_error *err)
{
    struct lev_error ignored;
    int rc;

    do {
        rc = set_up(db, mode, err);
    } while (rc < 0 && err->code == LEV_E_STORE_UNAVAILABLE &&
             lev_scope_sleep(&db->scope, LEV_MS, &ignored) == 0);
    return rc;
}

struct lev_db *
lev_db_open(const char *path, enum lev_db_mode mode,
            const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_db_ struct lev_db *db = calloc(1, sizeof(*db));

    if (db == NULL || (db->path = strdup(path)) == NULL) {
        lev_error_nomem(err, "database");
        return NULL;
    }
    db->scope = lev_scope_within(scope, LEV_DB_LOCK_LIMIT);
    if (mode == LEV_DB_WRITER && make_file(path, err) < 0) {
        return NULL;
    }
    /* NOMUTEX: one thread at a time is the rule here anyway. */
    if (sqlite3_open_v2(path, &db->sqlite,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                            SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK)
    {
        if (db->sqlite == NULL) {
            lev_error_nomem(err, "database");
        }
        else {
            lev_db_error(db, "store", err);
        }
        return NULL;
    }
    return set_up_patiently(db, mode, err) < 0 ? NULL : lev_steal(db);
}

sqlite3_stmt *
lev_db_stmt(struct lev_db *db, enum lev_db_stmt kind, struct lev_error *err)
{
    static const char *const texts[LEV_DB_N_STMTS] = {
        [LEV_DB_COLL] = "SELECT id FROM collections WHERE name = ?1",
        [LEV_DB_COLL_ADD] = "INSERT INTO collections (name) VALUES (?1)",
        [LEV_DB_GET] = "SELECT seq, doc FROM docs WHERE key = ?1",
        [LEV_DB_SCAN] = "SELECT seq, doc FROM docs"
                        " WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
        [LEV_DB_COUNT] =
            "SELECT count(*) FROM docs WHERE key >= ?1 AND key < ?2",
        [LEV_DB_INSERT] =
            "INSERT INTO docs (seq, key, doc) VALUES (coalesce("
            "(SELECT seq + 1 FROM docs WHERE seq BETWEEN ?1 AND ?2"
            " ORDER BY seq DESC LIMIT 1), ?1), ?3, ?4)",
        [LEV_DB_UPDATE] = "UPDATE docs SET doc = ?2 WHERE seq = ?1",
        [LEV_DB_DELETE] = "DELETE FROM docs WHERE seq = ?1",
        [LEV_DB_NAMES] = "SELECT name FROM collections ORDER BY name",
    };

    if (db->stmt[kind] == NULL) {
        db->stmt[kind] = prepare(db, texts[kind], err);
    }
    return db->stmt[kind];
}

int
lev_db_bind(struct lev_db *db, sqlite3_stmt *stmt, int at, const void *data,
            size_t len, struct lev_error *err)
{
    return sqlite3_bind_blob(stmt, at, data, (int)len, SQLITE_STATIC) ==
                   SQLITE_OK
               ? 0
               : lev_db_error(db, "store", err);
}

static struct lev_db_known *
known(struct lev_db *db, const char *name)
{
    uint32_t hash = 2166136261; /* FNV-1a */

    for (const char *p = name; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619;
    }
    return &db->known[hash % LEV_DB_KNOWN];
}

static int
coll_init(struct lev_db *db, const char *name, int64_t id,
          struct lev_db_coll *coll, struct lev_error *err)
{
    struct lev_db_known *k = known(db, name);

    if (id > COLL_MAX) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "store: database %s has too many collections "
                             "(%lld)",
                             db->path, (long long)id);
    }
    if (k->name == NULL || strcmp(k->name, name) != 0) {
        free(k->name);
        k->name = strdup(name); /* NULL: it is looked up again */
        k->id = id;
    }
    coll->id = id;
    coll->first = id << SEQ_BITS;
    coll->last = coll->first + ((INT64_C(1) << SEQ_BITS) - 1);
    return 1;
}

int
lev_db_coll(struct lev_db *db, const char *name, struct lev_db_coll *coll,
            struct lev_error *err)
{
    struct lev_db_known *k = known(db, name);
    _cleanup_reset_ sqlite3_stmt *stmt = NULL;
    int rc;

    if (k->name != NULL && strcmp(k->name, name) == 0) {
        return coll_init(db, name, k->id, coll, err);
    }
    stmt = lev_db_stmt(db, LEV_DB_COLL, err);
    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    rc = lev_db_step(db, stmt, err);
    return rc <= 0
               ? rc
               : coll_init(db, name, sqlite3_column_int64(stmt, 0), coll, err);
}

int
lev_db_coll_make(struct lev_db *db, const char *name, struct lev_db_coll *coll,
                 struct lev_error *err)
{
    int rc = lev_db_coll(db, name, coll, err);
    _cleanup_reset_ sqlite3_stmt *stmt = NULL;

    if (rc != 0) {
        return rc;
    }
    stmt = lev_db_stmt(db, LEV_DB_COLL_ADD, err);
    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    return lev_db_step(db, stmt, err) < 0
               ? -1
               : coll_init(db, name, sqlite3_last_insert_rowid(db->sqlite),
                           coll, err);
}

int
lev_db_key(const struct lev_db_coll *coll, const bson_value_t *id,
           struct lev_buf *key, struct lev_error *err)
{
    /* Big-endian, so that the keys of a collection lie together. */
    uint32_t prefix = BSON_UINT32_TO_BE((uint32_t)coll->id);

    lev_buf_append(key, &prefix, sizeof(prefix));
    return id == NULL ? lev_buf_check(key, "key", err)
                      : lev_id_key(id, key, err);
}

int
lev_db_step(struct lev_db *db, sqlite3_stmt *stmt, struct lev_error *err)
{
    switch (sqlite3_step(stmt)) {
    case SQLITE_ROW:
        return 1;
    case SQLITE_DONE:
        return 0;
    default:
        return lev_db_error(db, "store", err);
    }
}

int
lev_db_damaged(struct lev_db *db, sqlite3_stmt *stmt, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_STORE, SQLITE_CORRUPT,
                         "store: database %s: document %lld is no BSON: %s",
                         db->path, (long long)sqlite3_column_int64(stmt, 0),
                         remedy_of(SQLITE_CORRUPT));
}

int
lev_db_doc(struct lev_db *db, sqlite3_stmt *stmt, bson_t *doc,
           struct lev_error *err)
{
    const void *data = sqlite3_column_blob(stmt, 1);
    int len = sqlite3_column_bytes(stmt, 1);

    return data != NULL && bson_init_static(doc, data, (size_t)len)
               ? 0
               : lev_db_damaged(db, stmt, err);
}
