#include "storelib.h"

#include <assert.h>
#include <ftw.h>
#include <string.h>

const struct lev_scope forever = {LEV_NEVER, NULL};

static char dir[200];

void
dir_make(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof(dir), "%s/lev-store-XXXXXX",
             tmp == NULL ? "/tmp" : tmp);
    assert(mkdtemp(dir) != NULL);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void
dir_remove(void)
{
    assert(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

const char *
dir_path(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

bson_t *
json(const char *text)
{
    char *copy = strdup(text);
    bson_error_t error;
    bson_t *doc;

    assert(copy != NULL);
    for (char *p = copy; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    doc = bson_new_from_json((const uint8_t *)copy, -1, &error);
    if (doc == NULL) {
        fprintf(stderr, "%s: %s\n", text, error.message);
        abort();
    }
    free(copy);
    return doc;
}

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "unexpected: %s\n", err->msg);
        abort();
    }
}

bool
store_is_mongo(void)
{
    const char *kind = getenv("LEV_TEST_STORE");

    return kind != NULL && strcmp(kind, "mongo") == 0;
}

/* A database of this process's own for each name. */
static void
mongo_url(char *url, size_t size, const char *name)
{
    const char *server = getenv("LEVRT_TEST_MONGO");
    int len = snprintf(url, size, "%s/t%d-%s", server, (int)getpid(), name);

    for (char *p = url + len - strlen(name); *p != '\0'; p++) {
        *p = *p == '.' ? '_' : *p;
    }
}

struct lev_store *
store_open(const char *name)
{
    struct lev_error err;
    char url[600];
    struct lev_store *st;

    if (store_is_mongo()) {
        mongo_url(url, sizeof(url), name);
    }
    else {
        snprintf(url, sizeof(url), "sqlite:%s", dir_path(name));
    }
    st = lev_store_open(url, &forever, &err);
    must(st == NULL ? -1 : 0, &err);
    return st;
}

void
put(struct lev_store *st, const char *coll, const char *doc)
{
    bson_t *b = json(doc);
    const bson_t *docs[] = {b};
    struct lev_error err;

    must(st->ops->insert(st, &forever, coll, docs, 1, &err), &err);
    bson_destroy(b);
}

struct lev_error
put_fails(struct lev_store *st, const char *coll, const char *doc,
          enum lev_errcode code)
{
    bson_t *b = json(doc);
    const bson_t *docs[] = {b};
    struct lev_error err = {0};

    assert(st->ops->insert(st, &forever, coll, docs, 1, &err) < 0);
    assert(err.code == code);
    bson_destroy(b);
    return err;
}

int64_t
count(struct lev_store *st, const char *coll, const char *query)
{
    bson_t *q = json(query);
    struct lev_error err;
    int64_t n;

    must(st->ops->count(st, &forever, coll, q, &n, &err), &err);
    bson_destroy(q);
    return n;
}

static void
append_shown(struct lev_buf *text, const struct lev_buf *docs)
{
    for (size_t at = 0; at < docs->len;) {
        bson_t doc;
        uint32_t len;
        char *one;

        memcpy(&len, docs->data + at, sizeof(len));
        assert(bson_init_static(&doc, (uint8_t *)docs->data + at, len));
        at += len;
        one = bson_as_relaxed_extended_json(&doc, NULL);
        if (text->len > 0) {
            lev_buf_putc(text, ' ');
        }
        for (const char *p = one; *p != '\0'; p++) {
            if (*p != ' ') {
                lev_buf_putc(text, *p == '"' ? '\'' : *p);
            }
        }
        bson_free(one);
    }
}

char *
find(struct lev_store *st, const char *coll, const char *query,
     const char *projection, const char *sort, int64_t skip, int64_t limit)
{
    bson_t *q = query == NULL ? NULL : json(query);
    bson_t *p = projection == NULL ? NULL : json(projection);
    bson_t *s = sort == NULL ? NULL : json(sort);
    struct lev_find f = {coll, q, p, s, skip, limit};
    _cleanup_buf_ struct lev_buf docs = {0}, text = {0};
    struct lev_error err;
    struct lev_cursor *c = st->ops->find(st, &forever, &f, &err);
    int n;

    must(c == NULL ? -1 : 0, &err);
    do {
        n = st->ops->next(c, &forever, 2, &docs, &err);
        must(n, &err);
        append_shown(&text, &docs);
        lev_buf_clear(&docs);
    } while (n > 0);
    st->ops->cursor_close(c);
    bson_destroy(q);
    bson_destroy(p);
    bson_destroy(s);
    return lev_buf_take(&text);
}

const char *
update(struct lev_store *st, const char *coll, const char *query,
       const char *how, bool upsert, bool multi)
{
    static char text[64];
    bson_t *q = json(query), *u = json(how);
    struct lev_update up = {coll, q, u, upsert, multi, NULL};
    struct lev_update_result r;
    struct lev_error err;

    must(st->ops->update(st, &forever, &up, &r, &err), &err);
    snprintf(text, sizeof(text), "%d %d %d", (int)r.matched, (int)r.modified,
             r.upserted);
    if (r.upserted) {
        bson_value_destroy(&r.upserted_id);
    }
    bson_destroy(q);
    bson_destroy(u);
    return text;
}

void
expect_text(const char *file, int line, char *got, const char *want)
{
    if (got == NULL || strcmp(got, want) != 0) {
        fprintf(stderr, "%s:%d: got\n  %s\nwant\n  %s\n", file, line, got,
                want);
        abort();
    }
    free(got);
}
