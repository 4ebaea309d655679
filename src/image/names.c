#include "names.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static void
finalizep(sqlite3_stmt **stmt)
{
    sqlite3_finalize(*stmt);
}
#define _cleanup_stmt_ _cleanup_(finalizep)

static int
failed(struct lev_names *n, struct lev_error *err)
{
    int code = sqlite3_extended_errcode(n->db);

    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return lev_error_nomem(err, "image store");
    case SQLITE_FULL:
        errno = ENOSPC;
        return lev_error_errno(err, "image store: names.db");
    case SQLITE_BUSY:
        if (lev_scope_check(&n->scope, err) < 0) {
            return -1;
        }
        break;
    default:
        if (sqlite3_system_errno(n->db) == ENOSPC) {
            errno = ENOSPC;
            return lev_error_errno(err, "image store: names.db");
        }
        break;
    }
    return lev_error_set(err, LEV_E_IMAGE, code, "image store: names.db: %s",
                         sqlite3_errmsg(n->db));
}

static int
on_busy(void *ctx, int tries)
{
    struct lev_names *n = ctx;
    struct lev_error ignored;

    return lev_scope_sleep(&n->scope, LEV_MS, &ignored) == 0;
}

static int
exec(struct lev_names *n, const char *sql, struct lev_error *err)
{
    return sqlite3_exec(n->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : failed(n, err);
}

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA trusted_schema = OFF;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS images("
    " id TEXT PRIMARY KEY, digest TEXT, size INTEGER NOT NULL,"
    " created INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS layers("
    " image TEXT NOT NULL, n INTEGER NOT NULL, diff_id TEXT NOT NULL,"
    " PRIMARY KEY(image, n)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS layers_diff_id ON layers(diff_id);"
    "CREATE TABLE IF NOT EXISTS names("
    " name TEXT PRIMARY KEY, image TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS names_image ON names(image);"
    "COMMIT;";

int
lev_names_open(struct lev_names *n, const char *path, struct lev_error *err)
{
    struct lev_error ignored;
    int rc;

    *n =
        (struct lev_names){.scope = {.deadline = lev_now() + 30 * LEV_SECOND}};
    if (sqlite3_open_v2(path, &n->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK)
    {
        rc = n->db == NULL ? lev_error_nomem(err, "names.db") : failed(n, err);
        lev_names_close(n);
        return rc;
    }
    sqlite3_extended_result_codes(n->db, 1);
    sqlite3_busy_handler(n->db, on_busy, n);
    /* SQLite does not ask on_busy() while it changes a new file's journal
     * mode, which many processes may do at once. */
    do {
        sqlite3_exec(n->db, "ROLLBACK", NULL, NULL, NULL);
        rc = exec(n, schema, err);
    } while (rc < 0 && (err->detail & 0xff) == SQLITE_BUSY &&
             err->code == LEV_E_IMAGE &&
             lev_scope_sleep(&n->scope, LEV_MS, &ignored) == 0);
    if (rc < 0) {
        lev_names_close(n);
    }
    return rc;
}

void
lev_names_close(struct lev_names *n)
{
    sqlite3_close(lev_steal(n->db));
}

int
lev_names_begin(struct lev_names *n, struct lev_error *err)
{
    if (exec(n, "BEGIN IMMEDIATE", err) < 0) {
        return -1;
    }
    n->writing = true;
    return 0;
}

int
lev_names_commit(struct lev_names *n, struct lev_error *err)
{
    if (exec(n, "COMMIT", err) < 0) {
        return -1;
    }
    n->writing = false;
    return 0;
}

void
lev_names_end(struct lev_names *n)
{
    if (n->writing) {
        sqlite3_exec(n->db, "ROLLBACK", NULL, NULL, NULL);
        n->writing = false;
    }
}

/* Texts may be NULL (bound as such); `b` is not bound when the statement has
 * one parameter. */
static sqlite3_stmt *
prepare(struct lev_names *n, const char *sql, const char *a, const char *b,
        struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(n->db, sql, -1, &stmt, NULL) != SQLITE_OK ||
        (sqlite3_bind_parameter_count(stmt) >= 1 &&
         sqlite3_bind_text(stmt, 1, a, -1, SQLITE_STATIC) != SQLITE_OK) ||
        (sqlite3_bind_parameter_count(stmt) >= 2 &&
         sqlite3_bind_text(stmt, 2, b, -1, SQLITE_STATIC) != SQLITE_OK))
    {
        failed(n, err);
        return NULL;
    }
    return lev_steal(stmt);
}

/* 1 with a row, 0 at the end. */
static int
step(struct lev_names *n, sqlite3_stmt *stmt, struct lev_error *err)
{
    int rc = sqlite3_step(stmt);

    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : failed(n, err);
}

static int
change(struct lev_names *n, const char *sql, const char *a, const char *b,
       struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = prepare(n, sql, a, b, err);

    return stmt == NULL ? -1 : step(n, stmt, err);
}

static int
find_id(struct lev_names *n, const char *sql, const char *what, char id[72],
        struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = prepare(n, sql, what, NULL, err);
    int rc = stmt == NULL ? -1 : step(n, stmt, err);

    if (rc > 0) {
        snprintf(id, 72, "%s", (const char *)sqlite3_column_text(stmt, 0));
    }
    return rc;
}

int
lev_names_find(struct lev_names *n, const char *name, char id[72],
               struct lev_error *err)
{
    return find_id(n, "SELECT image FROM names WHERE name = ?", name, id, err);
}

int
lev_names_find_digest(struct lev_names *n, const char *digest, char id[72],
                      struct lev_error *err)
{
    return find_id(n, "SELECT id FROM images WHERE digest = ? LIMIT 1", digest,
                   id, err);
}

int
lev_names_find_id(struct lev_names *n, const char *prefix, char id[72],
                  struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt =
        prepare(n,
                "SELECT id FROM images WHERE id >= ?1 AND id < ?1 || 'g' "
                "LIMIT 2",
                prefix, NULL, err);
    int rc = stmt == NULL ? -1 : step(n, stmt, err);

    if (rc <= 0) {
        return rc;
    }
    snprintf(id, 72, "%s", (const char *)sqlite3_column_text(stmt, 0));
    rc = step(n, stmt, err);
    if (rc > 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "image '%.80s': several ids begin so; write more "
                             "of it",
                             prefix);
    }
    return rc < 0 ? -1 : 1;
}

int
lev_names_image(struct lev_names *n, const char *id, struct lev_buf *digest,
                int64_t *size, int64_t *created, struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt =
        prepare(n, "SELECT digest, size, created FROM images WHERE id = ?", id,
                NULL, err);
    int rc = stmt == NULL ? -1 : step(n, stmt, err);

    if (rc <= 0) {
        return rc;
    }
    if (sqlite3_column_type(stmt, 0) == SQLITE_TEXT) {
        lev_buf_puts(digest, (const char *)sqlite3_column_text(stmt, 0));
    }
    *size = sqlite3_column_int64(stmt, 1);
    *created = sqlite3_column_int64(stmt, 2);
    return lev_buf_check(digest, "digest", err) < 0 ? -1 : 1;
}

static int
add_layers(struct lev_names *n, const char *id, const char *const *layers,
           struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt =
        prepare(n, "INSERT INTO layers(image, diff_id, n) VALUES(?, ?, ?)", id,
                NULL, err);

    if (stmt == NULL) {
        return -1;
    }
    for (int i = 0; layers[i] != NULL; i++) {
        sqlite3_reset(stmt);
        if (sqlite3_bind_text(stmt, 2, layers[i], -1, SQLITE_STATIC) !=
                SQLITE_OK ||
            sqlite3_bind_int(stmt, 3, i) != SQLITE_OK)
        {
            return failed(n, err);
        }
        if (step(n, stmt, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_names_add_image(struct lev_names *n, const char *id, const char *digest,
                    int64_t size, const char *const *layers,
                    struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt = NULL;

    if (change(n, "DELETE FROM layers WHERE image = ?", id, NULL, err) < 0) {
        return -1;
    }
    stmt = prepare(n,
                   "INSERT INTO images(id, digest, size, created) "
                   "VALUES(?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "
                   "digest = coalesce(excluded.digest, digest), "
                   "size = excluded.size",
                   id, digest, err);
    if (stmt == NULL) {
        return -1;
    }
    if (sqlite3_bind_int64(stmt, 3, size) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 4, time(NULL)) != SQLITE_OK)
    {
        return failed(n, err);
    }
    return step(n, stmt, err) < 0 ? -1 : add_layers(n, id, layers, err);
}

int
lev_names_remove_image(struct lev_names *n, const char *id,
                       struct lev_error *err)
{
    return change(n, "DELETE FROM names WHERE image = ?", id, NULL, err) < 0 ||
                   change(n, "DELETE FROM layers WHERE image = ?", id, NULL,
                          err) < 0
               ? -1
               : change(n, "DELETE FROM images WHERE id = ?", id, NULL, err);
}

int
lev_names_set(struct lev_names *n, const char *name, const char *id,
              struct lev_error *err)
{
    return change(n, "INSERT OR REPLACE INTO names(name, image) VALUES(?, ?)",
                  name, id, err);
}

int
lev_names_unset(struct lev_names *n, const char *name, const char *id,
                struct lev_error *err)
{
    return name != NULL
               ? change(n, "DELETE FROM names WHERE name = ?", name, NULL, err)
               : change(n, "DELETE FROM names WHERE image = ?", id, NULL, err);
}

int
lev_names_list(struct lev_names *n, enum lev_names_list what, const char *id,
               struct lev_buf *lines, struct lev_error *err)
{
    static const char *const sql[] = {
        [LEV_NAMES_IMAGES] = "SELECT id FROM images ORDER BY created DESC, id",
        [LEV_NAMES_NAMELESS] =
            ("SELECT id FROM images WHERE NOT EXISTS"
             "(SELECT 1 FROM names WHERE image = images.id)"),
        [LEV_NAMES_OF] = "SELECT name FROM names WHERE image = ?",
        [LEV_NAMES_LAYERS] =
            "SELECT diff_id FROM layers WHERE image = ? ORDER BY n",
    };
    _cleanup_stmt_ sqlite3_stmt *stmt = prepare(n, sql[what], id, NULL, err);
    int rc = -1;

    while (stmt != NULL && (rc = step(n, stmt, err)) > 0) {
        lev_buf_puts(lines, (const char *)sqlite3_column_text(stmt, 0));
        lev_buf_putc(lines, '\n');
    }
    return rc < 0 ? -1 : lev_buf_check(lines, "list of images", err);
}

int
lev_names_uses_layer(struct lev_names *n, const char *diff_id,
                     struct lev_error *err)
{
    _cleanup_stmt_ sqlite3_stmt *stmt =
        prepare(n, "SELECT 1 FROM layers WHERE diff_id = ? LIMIT 1", diff_id,
                NULL, err);

    return stmt == NULL ? -1 : step(n, stmt, err);
}
