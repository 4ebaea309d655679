#include <string.h>

#include "aggregate.h"
#include "match.h"
#include "project.h"
#include "sort.h"
#include "sqlite_store.h"
#include "value.h"

/* Bytes of one batch, about. */
#define BATCH_BYTES (16u * 1024 * 1024)

/* Rows between two looks at the scope. */
#define ROWS_PER_CHECK 64

/* A find's, or an aggregate's, which has nothing else. */
struct lev_cursor {
    struct lev_sqlite *store;        /* a reference */
    struct lev_aggregate *aggregate; /* NULL: a find's */
    struct lev_eval ev;              /* of the first batch on */
    char *coll;
    struct lev_match *match;
    struct lev_project *project;
    struct lev_sort *sort;     /* NULL: order of insertion */
    struct lev_sorter *sorter; /* filled by the first batch */
    int64_t skip, limit;       /* still to be skipped; still wanted, or -1 */
    int64_t seq;               /* the last row seen */
    bool ended;
};

static inline void
cursor_closep(struct lev_cursor **c)
{
    lev_sqlite_cursor_close(*c);
}

void
lev_sqlite_cursor_close(struct lev_cursor *c)
{
    if (c == NULL) {
        return;
    }
    lev_aggregate_close(c->aggregate);
    lev_eval_deinit(&c->ev);
    lev_sorter_destroy(c->sorter);
    lev_sort_destroy(c->sort);
    lev_project_destroy(c->project);
    lev_match_destroy(c->match);
    free(c->coll);
    lev_store_unref(&c->store->base);
    free(c);
}

/* A walk over the rows that can match a query, in order of insertion. */
struct walk {
    struct lev_db *db;
    struct lev_scope scope;
    const struct lev_match *match;
    struct lev_eval ev; /* of its $expr */
    sqlite3_stmt *rows; /* NULL: no such collection */
    struct lev_buf key;
    int rows_seen;
};

static void
walk_deinit(struct walk *w)
{
    if (w->rows != NULL) {
        lev_db_resetp(&w->rows);
    }
    lev_buf_deinit(&w->key);
    lev_eval_deinit(&w->ev);
}
#define _cleanup_walk_ _cleanup_(walk_deinit)

sqlite3_stmt *
lev_sqlite_candidates(struct lev_db *db, const struct lev_db_coll *coll,
                      const struct lev_match *match, int64_t seq,
                      struct lev_buf *key, struct lev_error *err)
{
    const bson_value_t *id = lev_match_id(match);
    sqlite3_stmt *stmt =
        lev_db_stmt(db, id != NULL ? LEV_DB_GET : LEV_DB_SCAN, err);

    if (stmt == NULL) {
        return NULL;
    }
    if (id == NULL) {
        sqlite3_bind_int64(stmt, 1, seq < coll->first ? coll->first - 1 : seq);
        sqlite3_bind_int64(stmt, 2, coll->last);
        return stmt;
    }
    return lev_db_key(coll, id, key, err) < 0 ||
                   lev_db_bind(db, stmt, 1, key->data, key->len, err) < 0
               ? NULL
               : stmt;
}

/* From behind row `seq` on. */
static int
walk_init(struct walk *w, struct lev_db *db, const struct lev_scope *scope,
          const char *name, const struct lev_match *match, int64_t seq,
          struct lev_error *err)
{
    struct lev_db_coll coll;
    int rc = lev_db_coll(db, name, &coll, err);

    *w = (struct walk){.db = db, .scope = *scope, .match = match};
    w->ev.scope = &w->scope;
    if (rc <= 0) {
        return rc;
    }
    w->rows = lev_sqlite_candidates(db, &coll, match, seq, &w->key, err);
    return w->rows == NULL ? -1 : 0;
}

/* 1 with the next document that matches, borrowed until the next call; 0 at
 * the end. */
static int
walk_next(struct walk *w, bson_t *doc, int64_t *seq, long *index,
          struct lev_error *err)
{
    while (w->rows != NULL) {
        int rc = lev_db_step(w->db, w->rows, err);

        if (rc <= 0) {
            return rc;
        }
        if (++w->rows_seen % ROWS_PER_CHECK == 0 &&
            lev_scope_check(&w->scope, err) < 0)
        {
            return -1;
        }
        *seq = sqlite3_column_int64(w->rows, 0);
        if (lev_db_doc(w->db, w->rows, doc, err) < 0) {
            return -1;
        }
        rc = lev_match_test(w->match, doc, &w->ev, index, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Cursors. */

static int
cursor_sort(struct lev_cursor *c, const bson_t *spec, struct lev_error *err)
{
    if (spec == NULL || bson_empty(spec)) {
        return 0;
    }
    c->sort = lev_sort_compile(spec, err);
    return c->sort == NULL ? -1 : 0;
}

static int
check_bounds(const struct lev_find *f, struct lev_error *err)
{
    if (f->skip < 0) {
        return lev_error_set(err, LEV_E_QUERY, 51024,
                             "skip: it must be ≥ 0, not %lld",
                             (long long)f->skip);
    }
    if (f->limit < 0) {
        return lev_error_set(err, LEV_E_QUERY, 51024,
                             "limit: it must be ≥ 0, not %lld (0: no limit)",
                             (long long)f->limit);
    }
    return 0;
}

struct lev_cursor *
lev_sqlite_find(struct lev_store *store, const struct lev_scope *scope,
                const struct lev_find *f, struct lev_error *err)
{
    _cleanup_(cursor_closep) struct lev_cursor *c = NULL;

    if (lev_sqlite_check(lev_sqlite_of(store), scope, err) < 0 ||
        lev_sqlite_check_coll(f->coll, err) < 0 || check_bounds(f, err) < 0)
    {
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        lev_error_nomem(err, "cursor");
        return NULL;
    }
    c->store = lev_sqlite_of(lev_store_ref(store));
    c->skip = f->skip;
    c->limit = f->limit == 0 ? -1 : f->limit;
    c->seq = INT64_MIN;
    c->coll = strdup(f->coll);
    if (c->coll == NULL) {
        lev_error_nomem(err, "cursor");
        return NULL;
    }
    c->match = lev_match_compile(f->query, err);
    if (c->match == NULL) {
        return NULL;
    }
    c->project = lev_project_compile(f->projection, LEV_PROJECT_FIND, err);
    if (c->project == NULL || cursor_sort(c, f->sort, err) < 0) {
        return NULL;
    }
    return lev_steal(c);
}

struct lev_cursor *
lev_sqlite_aggregate(struct lev_store *store, const struct lev_scope *scope,
                     const char *coll, const bson_t *pipeline,
                     struct lev_error *err)
{
    _cleanup_(cursor_closep) struct lev_cursor *c = NULL;

    if (lev_sqlite_check(lev_sqlite_of(store), scope, err) < 0 ||
        lev_sqlite_check_coll(coll, err) < 0)
    {
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        lev_error_nomem(err, "cursor");
        return NULL;
    }
    c->store = lev_sqlite_of(lev_store_ref(store));
    c->aggregate = lev_aggregate_open(store, scope, coll, pipeline, err);
    return c->aggregate == NULL ? NULL : lev_steal(c);
}

/* One batch: how much of it there is. */
struct batch {
    int n, max;
    size_t start;
    struct lev_buf *out;
};

static bool
is_full(const struct lev_cursor *c, const struct batch *b)
{
    return b->n == b->max || c->limit == 0 ||
           b->out->len - b->start >= BATCH_BYTES;
}

static int
give(struct lev_cursor *c, struct batch *b, const bson_t *doc, long index,
     struct lev_error *err)
{
    if (c->skip > 0) {
        c->skip--;
        return 0;
    }
    if (lev_project_apply(c->project, doc, index, &c->ev, b->out, err) < 0) {
        return -1;
    }
    b->n++;
    if (c->limit > 0) {
        c->limit--;
    }
    return 0;
}

static int
batch_in_order(struct lev_cursor *c, struct walk *w, struct batch *b,
               struct lev_error *err)
{
    bool point = lev_match_id(c->match) != NULL;
    bson_t doc;
    long index;
    int rc = 1;

    while (!is_full(c, b) &&
           (rc = walk_next(w, &doc, &c->seq, &index, err)) > 0) {
        if (give(c, b, &doc, index, err) < 0) {
            return -1;
        }
    }
    c->ended = rc == 0 || point || c->limit == 0;
    return rc < 0 ? -1 : 0;
}

/* All that matches, as it is at this moment. */
static int
fill_sorter(struct lev_cursor *c, struct walk *w, struct lev_error *err)
{
    size_t keep = c->limit < 0 || c->limit > INT32_MAX || c->skip > INT32_MAX
                      ? 0
                      : (size_t)(c->skip + c->limit);
    int64_t seq;
    bson_t doc;
    long index;
    int rc;

    c->sorter = lev_sorter_create(c->sort, keep, err);
    if (c->sorter == NULL) {
        return -1;
    }
    while ((rc = walk_next(w, &doc, &seq, &index, err)) > 0) {
        if (lev_sorter_add(c->sorter, &doc, index, err) < 0) {
            return -1;
        }
    }
    return rc;
}

static int
batch_sorted(struct lev_cursor *c, struct batch *b, struct lev_error *err)
{
    bson_t doc;
    long index;

    while (!is_full(c, b)) {
        if (!lev_sorter_next(c->sorter, &doc, &index)) {
            c->ended = true;
            return 0;
        }
        if (give(c, b, &doc, index, err) < 0) {
            return -1;
        }
    }
    c->ended = c->limit == 0;
    return 0;
}

static int
batch_from_db(struct lev_cursor *c, struct lev_db *db,
              const struct lev_scope *scope, struct batch *b,
              struct lev_error *err)
{
    _cleanup_walk_ struct walk w = {0};

    if (walk_init(&w, db, scope, c->coll, c->match, c->seq, err) < 0) {
        return -1;
    }
    return c->sort == NULL ? batch_in_order(c, &w, b, err)
                           : fill_sorter(c, &w, err);
}

static int
next_batch(struct lev_cursor *c, const struct lev_scope *scope,
           struct batch *b, struct lev_error *err)
{
    int rc = 0;

    if (c->sorter == NULL) {
        struct lev_db *db = lev_sqlite_take_reader(c->store, scope, err);

        if (db == NULL) {
            return -1;
        }
        rc = batch_from_db(c, db, scope, b, err);
        lev_sqlite_give_reader(c->store, db);
    }
    if (rc == 0 && c->sorter != NULL) {
        rc = batch_sorted(c, b, err);
    }
    return rc;
}

int
lev_sqlite_next(struct lev_cursor *c, const struct lev_scope *scope, int max,
                struct lev_buf *out, struct lev_error *err)
{
    struct batch b = {.max = max, .start = out->len, .out = out};
    int64_t seq = c->seq, skip = c->skip, limit = c->limit;
    bool sorted = c->sorter != NULL;

    if (lev_sqlite_check(c->store, scope, err) < 0) {
        return -1;
    }
    if (max <= 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "next: max must be ≥ 1, not %d", max);
    }
    if (c->aggregate != NULL) {
        return lev_aggregate_next(c->aggregate, scope, max, out, err);
    }
    c->ev.scope = scope;
    if (c->ended || next_batch(c, scope, &b, err) == 0) {
        return b.n;
    }
    /* As if it had not been called: a batch that was cut short by its scope
     * can be asked for again. */
    if (!sorted) {
        lev_sorter_destroy(lev_steal(c->sorter));
    }
    c->seq = seq;
    c->skip = skip;
    c->limit = limit;
    c->ended = false;
    out->len = b.start;
    return -1;
}

/* Counting. */

/* By the keys alone, without the documents. */
static int
count_all(struct lev_db *db, const char *name, int64_t *n,
          struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf from = {0}, to = {0};
    _cleanup_reset_ sqlite3_stmt *stmt = NULL;
    struct lev_db_coll coll, next;
    int rc = lev_db_coll(db, name, &coll, err);

    *n = 0;
    if (rc <= 0) {
        return rc;
    }
    next = (struct lev_db_coll){.id = coll.id + 1};
    stmt = lev_db_stmt(db, LEV_DB_COUNT, err);
    if (stmt == NULL || lev_db_key(&coll, NULL, &from, err) < 0 ||
        lev_db_key(&next, NULL, &to, err) < 0 ||
        lev_db_bind(db, stmt, 1, from.data, from.len, err) < 0 ||
        lev_db_bind(db, stmt, 2, to.data, to.len, err) < 0 ||
        lev_db_step(db, stmt, err) < 0)
    {
        return -1;
    }
    *n = sqlite3_column_int64(stmt, 0);
    return 0;
}

static int
count_matches(struct lev_db *db, const struct lev_scope *scope,
              const char *coll, const struct lev_match *match, int64_t *n,
              struct lev_error *err)
{
    _cleanup_walk_ struct walk w = {0};
    int64_t seq;
    bson_t doc;
    int rc;

    *n = 0;
    if (walk_init(&w, db, scope, coll, match, INT64_MIN, err) < 0) {
        return -1;
    }
    while ((rc = walk_next(&w, &doc, &seq, NULL, err)) > 0) {
        ++*n;
    }
    return rc;
}

int
lev_sqlite_count(struct lev_store *store, const struct lev_scope *scope,
                 const char *coll, const bson_t *query, int64_t *n,
                 struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    _cleanup_match_ struct lev_match *match = NULL;
    struct lev_db *db;
    int rc;

    if (lev_sqlite_check(s, scope, err) < 0 ||
        lev_sqlite_check_coll(coll, err) < 0)
    {
        return -1;
    }
    match = lev_match_compile(query, err);
    db = match == NULL ? NULL : lev_sqlite_take_reader(s, scope, err);
    if (db == NULL) {
        return -1;
    }
    rc = lev_match_all(match) ? count_all(db, coll, n, err)
                              : count_matches(db, scope, coll, match, n, err);
    lev_sqlite_give_reader(s, db);
    return rc;
}

/* Names. */

static int
append_names(struct lev_db *db, bson_t *names, struct lev_error *err)
{
    _cleanup_reset_ sqlite3_stmt *stmt = lev_db_stmt(db, LEV_DB_NAMES, err);
    uint32_t n = 0;
    int rc;

    if (stmt == NULL) {
        return -1;
    }
    while ((rc = lev_db_step(db, stmt, err)) > 0) {
        char text[16];
        const char *key;

        bson_uint32_to_string(n++, &key, text, sizeof(text));
        bson_append_utf8(names, key, -1,
                         (const char *)sqlite3_column_text(stmt, 0), -1);
    }
    return rc;
}

int
lev_sqlite_collections(struct lev_store *store, const struct lev_scope *scope,
                       bson_t *names, struct lev_error *err)
{
    struct lev_sqlite *s = lev_sqlite_of(store);
    struct lev_db *db = lev_sqlite_check(s, scope, err) < 0
                            ? NULL
                            : lev_sqlite_take_reader(s, scope, err);
    int rc;

    if (db == NULL) {
        return -1;
    }
    rc = append_names(db, names, err);
    lev_sqlite_give_reader(s, db);
    return rc;
}
