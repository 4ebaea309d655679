#include "path.h"

#include <string.h>

#include "value.h"

long
lev_path_index(const char *name)
{
    long index = 0;

    if (name[0] == '\0' || (name[0] == '0' && name[1] != '\0')) {
        return -1;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || p - name > 8) {
            return -1;
        }
        index = index * 10 + (*p - '0');
    }
    return index;
}

void
lev_path_deinit(struct lev_path *path)
{
    for (size_t i = 0; i < path->n; i++) {
        free(path->part[i].name);
    }
    free(path->part);
    free(path->text);
    *path = (struct lev_path){0};
}

static size_t
count_parts(const char *text)
{
    size_t n = 1;

    for (; *text != '\0'; text++) {
        n += *text == '.';
    }
    return n;
}

static int
fill_parts(struct lev_path *path, size_t n)
{
    const char *at = path->text;

    for (; path->n < n; path->n++) {
        size_t len = strcspn(at, ".");
        char *name = strndup(at, len);

        if (name == NULL) {
            return -1;
        }
        path->part[path->n].name = name;
        path->part[path->n].index = lev_path_index(name);
        at += len + 1;
    }
    return 0;
}

int
lev_path_parse(const char *text, struct lev_path *path, struct lev_error *err)
{
    size_t n = count_parts(text);

    *path = (struct lev_path){0};
    if (n > LEV_PATH_MAX) {
        return lev_error_set(err, LEV_E_QUERY, 15,
                             "a path of %zu parts; at most %d are possible", n,
                             LEV_PATH_MAX);
    }
    path->text = strdup(text);
    path->part = calloc(n, sizeof(*path->part));
    if (path->text == NULL || path->part == NULL || fill_parts(path, n) < 0) {
        lev_path_deinit(path);
        return lev_error_nomem(err, "path");
    }
    return 0;
}

struct walk {
    const struct lev_path *path;
    enum lev_path_leaf leaf;
    lev_path_fn fn;
    void *ctx;
};

static int walk_object(const struct walk *w, bson_iter_t *it, size_t i,
                       long index);

static int
hit(const struct walk *w, const bson_value_t *v, long index)
{
    struct lev_path_hit h = {v, index, false};

    return w->fn(w->ctx, &h);
}

/* The outermost array's index stays. */
static long
outer(long index, long k)
{
    return index >= 0 ? index : k;
}

/* The end of the path. */
static int
end(const struct walk *w, const bson_value_t *v, bool expand, long index)
{
    bson_iter_t it;
    long k = 0;

    if (v->value_type != BSON_TYPE_ARRAY || !expand) {
        return hit(w, v, index);
    }
    for (bool ok = lev_value_iter(v, &it); ok && bson_iter_next(&it); k++) {
        bson_value_t each = lev_value_of(&it);
        int rc = hit(w, &each, outer(index, k));

        if (rc != 0) {
            return rc;
        }
    }
    return w->fn(w->ctx, &(struct lev_path_hit){v, index, true});
}

static int walk_array(const struct walk *w, const bson_value_t *array,
                      size_t i, long index);

/* On from an element that the part before `i` has named by its index. */
static int
walk_indexed(const struct walk *w, const bson_value_t *v, size_t i, long index)
{
    bson_iter_t it;

    if (i == w->path->n) {
        return end(w, v, w->leaf == LEV_PATH_KEYS, index);
    }
    if (v->value_type == BSON_TYPE_ARRAY) {
        return walk_array(w, v, i, index);
    }
    if (v->value_type == BSON_TYPE_DOCUMENT && lev_value_iter(v, &it)) {
        return walk_object(w, &it, i, index);
    }
    return w->leaf == LEV_PATH_KEYS ? hit(w, &lev_value_missing, index) : 0;
}

/* On from an element of an array that is entered as a whole. */
static int
walk_element(const struct walk *w, const bson_value_t *v, size_t i, long index)
{
    bson_iter_t it;

    if (v->value_type == BSON_TYPE_DOCUMENT && lev_value_iter(v, &it)) {
        return walk_object(w, &it, i, index);
    }
    return w->leaf == LEV_PATH_KEYS ? hit(w, &lev_value_missing, index) : 0;
}

static bool
has_index(const bson_value_t *array, long index)
{
    bson_iter_t it;
    bool ok = index >= 0 && lev_value_iter(array, &it);

    for (long k = 0; ok && k <= index; k++) {
        ok = bson_iter_next(&it);
    }
    return ok;
}

static int
walk_array(const struct walk *w, const bson_value_t *array, size_t i,
           long index)
{
    long named = w->path->part[i].index;
    bool only = w->leaf == LEV_PATH_KEYS && has_index(array, named);
    bson_iter_t it;
    long k = 0;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it); k++)
    {
        bson_value_t v = lev_value_of(&it);
        int rc = only ? 0 : walk_element(w, &v, i, outer(index, k));

        if (rc == 0 && named == k) {
            rc = walk_indexed(w, &v, i + 1, outer(index, k));
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int
walk_object(const struct walk *w, bson_iter_t *it, size_t i, long index)
{
    bson_value_t v;
    bson_iter_t below;

    if (!bson_iter_find(it, w->path->part[i].name)) {
        return hit(w, &lev_value_missing, index);
    }
    v = lev_value_of(it);
    if (i + 1 == w->path->n) {
        return end(w, &v, w->leaf != LEV_PATH_WHOLE, index);
    }
    if (v.value_type == BSON_TYPE_ARRAY) {
        return walk_array(w, &v, i + 1, index);
    }
    if (v.value_type == BSON_TYPE_DOCUMENT && lev_value_iter(&v, &below)) {
        return walk_object(w, &below, i + 1, index);
    }
    return hit(w, &lev_value_missing, index);
}

int
lev_path_each(const struct lev_path *path, const bson_t *doc,
              enum lev_path_leaf leaf, lev_path_fn fn, void *ctx)
{
    struct walk w = {path, leaf, fn, ctx};
    bson_iter_t it;

    return bson_iter_init(&it, doc) ? walk_object(&w, &it, 0, -1) : 0;
}

bson_value_t
lev_path_value(const struct lev_path *path, const bson_t *doc)
{
    bson_value_t v = lev_value_doc(doc);

    for (size_t i = 0; i < path->n; i++) {
        bson_t part;

        if (v.value_type != BSON_TYPE_DOCUMENT || !lev_value_open(&v, &part)) {
            return lev_value_missing;
        }
        v = lev_value_field(&part, path->part[i].name);
    }
    return v;
}
