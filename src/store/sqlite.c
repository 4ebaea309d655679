#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "sqlite_store.h"
#include "value.h"

/* Idle connections that are kept; more exist only while more are in use. */
#define IDLE_MAX 4

int
lev_sqlite_check(struct lev_sqlite *s, const struct lev_scope *scope,
                 struct lev_error *err)
{
    if (s->pid != getpid()) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "store: the database %s was opened by process "
                             "%d and cannot be used in one forked from it",
                             s->path, (int)s->pid);
    }
    return lev_scope_check(scope, err);
}

int
lev_sqlite_check_coll(const char *coll, struct lev_error *err)
{
    return coll[0] != '\0' && strlen(coll) <= LEV_STORE_COLL_MAX
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 73,
                               "collection: a name has 1 to %d bytes, '%s' "
                               "has %zu",
                               LEV_STORE_COLL_MAX, coll, strlen(coll));
}

struct lev_db *
lev_sqlite_take_reader(struct lev_sqlite *s, const struct lev_scope *scope,
                       struct lev_error *err)
{
    struct lev_db *db;

    pthread_mutex_lock(&s->mutex);
    db = s->idle;
    if (db != NULL) {
        s->idle = db->next;
        s->n_idle--;
    }
    pthread_mutex_unlock(&s->mutex);
    if (db == NULL) {
        return lev_db_open(s->path, LEV_DB_READER, scope, err);
    }
    db->scope = lev_scope_within(scope, LEV_DB_LOCK_LIMIT);
    return db;
}

void
lev_sqlite_give_reader(struct lev_sqlite *s, struct lev_db *db)
{
    bool keep;

    pthread_mutex_lock(&s->mutex);
    keep = s->n_idle < IDLE_MAX;
    if (keep) {
        db->next = s->idle;
        s->idle = db;
        s->n_idle++;
    }
    pthread_mutex_unlock(&s->mutex);
    if (!keep) {
        lev_db_close(db);
    }
}

/* The directories above `path`, for this user alone. */
static int
make_parents(const char *path, struct lev_error *err)
{
    _cleanup_free_ char *copy = strdup(path);

    if (copy == NULL) {
        return lev_error_nomem(err, "path");
    }
    for (char *p = strchr(copy + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST) {
            /* What exists need not be writable, a missing directory fails. */
            int saved = errno;
            struct stat st;

            if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode)) {
                errno = saved;
                lev_error_errno(err, "store: directory %s cannot be made",
                                copy);
                err->code = LEV_E_STORE;
                return -1;
            }
        }
        *p = '/';
    }
    return 0;
}

/* Without symbolic links and dots: the directory of a file that need not
 * exist yet, or the file. */
static char *
resolve(const char *path, struct lev_error *err)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir = NULL, *real = realpath(path, NULL);
    char *full;

    if (real != NULL) {
        return lev_steal(real);
    }
    dir = slash == NULL
              ? strdup(".")
              : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    real = dir == NULL ? NULL : realpath(dir, NULL);
    if (real == NULL) {
        lev_error_errno(err, "store: %s", path);
        return NULL;
    }
    if (asprintf(&full, "%s/%s", strcmp(real, "/") == 0 ? "" : real,
                 slash == NULL ? path : slash + 1) < 0)
    {
        lev_error_nomem(err, "path");
        return NULL;
    }
    return full;
}

/* sqlite:PATH; the answer's path is absolute. */
static char *
sqlite_canonical(const char *url, struct lev_error *err)
{
    const char *path = url + strlen("sqlite:");
    _cleanup_free_ char *full = NULL;
    char *canonical;
    size_t len = strlen(path);

    if (len == 0 || path[len - 1] == '/') {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "store '%s': name the database's file: "
                      "sqlite:/path/to/file.db",
                      url);
        return NULL;
    }
    if (make_parents(path, err) < 0) {
        return NULL;
    }
    full = resolve(path, err);
    if (full == NULL) {
        return NULL;
    }
    if (asprintf(&canonical, "sqlite:%s", full) < 0) {
        lev_error_nomem(err, "path");
        return NULL;
    }
    return canonical;
}

static void
sqlite_free(struct lev_sqlite *s)
{
    struct lev_db *next;

    for (struct lev_db *db = s->idle; db != NULL; db = next) {
        next = db->next;
        lev_db_close(db);
    }
    if (s->writer != NULL) {
        lev_writer_stop(s->writer);
    }
    pthread_mutex_destroy(&s->mutex);
    free(s->path);
    free(s->base.url);
    free(s);
}

static inline void
sqlite_freep(struct lev_sqlite **s)
{
    if (*s != NULL) {
        sqlite_free(*s);
    }
}

static struct lev_store *
sqlite_open(const char *url, const char *canonical,
            const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_(sqlite_freep) struct lev_sqlite *s = calloc(1, sizeof(*s));
    struct lev_db *db;

    if (s == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    pthread_mutex_init(&s->mutex, NULL);
    s->base.ops = &lev_store_sqlite;
    s->pid = getpid();
    s->path = strdup(canonical + strlen("sqlite:"));
    s->base.url = strdup(canonical);
    if (s->path == NULL || s->base.url == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    db = lev_db_open(s->path, LEV_DB_WRITER, scope, err);
    if (db == NULL) {
        return NULL;
    }
    s->writer = lev_writer_start(db, err);
    return s->writer == NULL ? NULL : &lev_steal(s)->base;
}

static void
sqlite_close(struct lev_store *store)
{
    struct lev_sqlite *s = lev_sqlite_of(store);

    /* In a forked child the threads are gone, and to close the connections
     * would touch files that are the parent's: they are left as they are. */
    if (s->pid == getpid()) {
        sqlite_free(s);
    }
}

const struct lev_store_ops lev_store_sqlite = {
    .scheme = "sqlite",
    .canonical = sqlite_canonical,
    .open = sqlite_open,
    .close = sqlite_close,
    .insert = lev_sqlite_insert,
    .update = lev_sqlite_update,
    .update_all = lev_sqlite_update_all,
    .remove = lev_sqlite_remove,
    .count = lev_sqlite_count,
    .find = lev_sqlite_find,
    .aggregate = lev_sqlite_aggregate,
    .next = lev_sqlite_next,
    .cursor_close = lev_sqlite_cursor_close,
    .collections = lev_sqlite_collections,
};
