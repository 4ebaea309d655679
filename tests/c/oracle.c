#include "oracle.h"

#include "extjson.h"
#include "value.h"

#include <assert.h>
#include <string.h>

struct tally {
    int right, unsupported, wrong;
};

struct run {
    const struct oracle_backend *backend;
    struct tally finds, updates, aggregates;
    bool verbose;
};

static bool
get_doc(const bson_t *c, const char *key, bson_t *doc)
{
    bson_value_t v = lev_value_field(c, key);

    return lev_value_open(&v, doc);
}

static int64_t
get_int(const bson_t *c, const char *key)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, c, key) ? bson_iter_as_int64(&it) : 0;
}

static const char *
get_text(const bson_t *c, const char *key)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, c, key) ? bson_iter_utf8(&it, NULL) : "";
}

/* The documents of an array, one after another. */
static void
flatten(const bson_t *array, struct lev_buf *out)
{
    bson_iter_t it;

    for (bson_iter_init(&it, array); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        lev_buf_append(out, v.value.v_doc.data, v.value.v_doc.data_len);
    }
}

static void
print_docs(const char *what, const struct lev_buf *docs)
{
    fprintf(stderr, "  %s:\n", what);
    for (size_t at = 0; at < docs->len;) {
        bson_t doc;
        char *text;
        uint32_t len;

        memcpy(&len, docs->data + at, sizeof(len));
        assert(bson_init_static(&doc, (uint8_t *)docs->data + at, len));
        text = extjson_show(&doc);
        fprintf(stderr, "    %s\n", text);
        bson_free(text);
        at += len;
    }
}

static void
print_case(const bson_t *c)
{
    char *text = extjson_show(c);

    fprintf(stderr, "%s: %s\n", get_text(c, "id"), text);
    bson_free(text);
}

static bool
is_expected(const bson_t *c, const struct lev_error *err)
{
    bson_t result, error;
    bson_iter_t it;

    if (!get_doc(c, "result", &result) || !get_doc(&result, "error", &error)) {
        return false;
    }
    return err->code == LEV_E_QUERY &&
           (!bson_iter_init_find(&it, &error, "code") ||
            bson_iter_as_int64(&it) == err->detail);
}

static void
failed(const struct run *r, struct tally *t, const bson_t *c,
       const struct lev_error *err)
{
    if (err->code == LEV_E_UNSUPPORTED_OPERATION) {
        t->unsupported++;
        if (r->verbose) {
            fprintf(stderr, "%s: %s\n", get_text(c, "id"), err->msg);
        }
    }
    else if (is_expected(c, err)) {
        t->right++;
    }
    else {
        t->wrong++;
        print_case(c);
        fprintf(stderr, "  got error %d: %s\n", err->detail, err->msg);
    }
}

static void
answered(struct tally *t, const bson_t *c, bool good,
         const struct lev_buf *got, const struct lev_buf *want)
{
    good = good && want->len == got->len &&
           memcmp(lev_buf_text(want), lev_buf_text(got), want->len) == 0;
    if (good) {
        t->right++;
        return;
    }
    t->wrong++;
    print_case(c);
    print_docs("got", got);
    print_docs("want", want);
}

static void
check_find(struct run *r, const bson_t *c, const struct oracle_case *oc)
{
    _cleanup_buf_ struct lev_buf got = {0}, want = {0};
    struct lev_error err = {0};
    bson_iter_t it;
    bson_t result;
    bool good;

    if (r->backend->find(r->backend->ctx, oc, &got, &err) < 0) {
        failed(r, &r->finds, c, &err);
        return;
    }
    good = bson_iter_init_find(&it, c, "result") && BSON_ITER_HOLDS_ARRAY(&it);
    if (good && get_doc(c, "result", &result)) {
        flatten(&result, &want);
    }
    answered(&r->finds, c, good, &got, &want);
}

static void
check_update(struct run *r, const bson_t *c, const struct oracle_case *oc)
{
    _cleanup_buf_ struct lev_buf got = {0}, want = {0};
    struct oracle_counts n = {0};
    struct lev_error err = {0};
    bson_t result, after;
    bool good;

    if (r->backend->update(r->backend->ctx, oc, &n, &got, &err) < 0) {
        failed(r, &r->updates, c, &err);
        return;
    }
    assert(get_doc(c, "result", &result));
    good = get_doc(&result, "docs", &after);
    if (good) {
        flatten(&after, &want);
    }
    answered(&r->updates, c,
             good && n.matched == get_int(&result, "matched") &&
                 n.modified == get_int(&result, "modified") &&
                 n.upserted == get_int(&result, "upserted"),
             &got, &want);
}

/* Sets come in any order: their arrays are compared sorted. */

static int
compare_values(const void *a, const void *b)
{
    return lev_value_compare(a, b);
}

static void
append_sorted(bson_t *out, const char *key, const bson_value_t *array)
{
    bson_value_t all[64];
    bson_iter_t it;
    bson_t part;
    size_t n = 0;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        assert(n < LEV_ARRAY_LEN(all));
        all[n++] = lev_value_of(&it);
    }
    qsort(all, n, sizeof(all[0]), compare_values);
    bson_append_array_begin(out, key, -1, &part);
    for (size_t i = 0; i < n; i++) {
        lev_value_append_element(&part, (uint32_t)i, &all[i]);
    }
    bson_append_array_end(out, &part);
}

static bool
is_listed(const bson_t *names, const char *name)
{
    bson_iter_t it;

    for (bson_iter_init(&it, names); bson_iter_next(&it);) {
        if (strcmp(bson_iter_utf8(&it, NULL), name) == 0) {
            return true;
        }
    }
    return false;
}

static void
sort_sets(const bson_t *names, struct lev_buf *docs)
{
    _cleanup_buf_ struct lev_buf sorted = {0};

    for (size_t at = 0; at < docs->len;) {
        bson_t doc, out = BSON_INITIALIZER;
        bson_iter_t it;
        uint32_t len;

        memcpy(&len, docs->data + at, sizeof(len));
        assert(bson_init_static(&doc, (uint8_t *)docs->data + at, len));
        for (bson_iter_init(&it, &doc); bson_iter_next(&it);) {
            bson_value_t v = lev_value_of(&it);

            if (v.value_type == BSON_TYPE_ARRAY &&
                is_listed(names, bson_iter_key(&it))) {
                append_sorted(&out, bson_iter_key(&it), &v);
            }
            else {
                bson_append_value(&out, bson_iter_key(&it), -1, &v);
            }
        }
        lev_buf_append(&sorted, bson_get_data(&out), out.len);
        bson_destroy(&out);
        at += len;
    }
    lev_buf_clear(docs);
    lev_buf_append(docs, lev_buf_text(&sorted), sorted.len);
}

static void
check_aggregate(struct run *r, const bson_t *c, const struct oracle_case *oc)
{
    _cleanup_buf_ struct lev_buf got = {0}, want = {0};
    struct lev_error err = {0};
    bson_t result, unordered;
    bson_iter_t it;
    bool good;

    if (r->backend->aggregate(r->backend->ctx, oc, &got, &err) < 0) {
        failed(r, &r->aggregates, c, &err);
        return;
    }
    good = bson_iter_init_find(&it, c, "result") && BSON_ITER_HOLDS_ARRAY(&it);
    if (good && get_doc(c, "result", &result)) {
        flatten(&result, &want);
    }
    if (get_doc(c, "unordered", &unordered)) {
        sort_sets(&unordered, &got);
        sort_sets(&unordered, &want);
    }
    answered(&r->aggregates, c, good, &got, &want);
}

void
oracle_take(const bson_t *c, struct oracle_case *oc)
{
    *oc = (struct oracle_case){.id = get_text(c, "id"),
                               .kind = get_text(c, "kind")};
    assert(get_doc(c, "docs", &oc->docs));
    if (!get_doc(c, "query", &oc->query)) {
        bson_init(&oc->query);
    }
    if (!get_doc(c, "update", &oc->update)) {
        bson_init(&oc->update);
    }
    if (!get_doc(c, "pipeline", &oc->pipeline)) {
        bson_init(&oc->pipeline);
    }
    if (!get_doc(c, "others", &oc->others)) {
        bson_init(&oc->others);
    }
    oc->has_projection = get_doc(c, "projection", &oc->projection);
    oc->has_array_filters = get_doc(c, "array_filters", &oc->array_filters);
    oc->has_sort = get_doc(c, "sort", &oc->sort);
    oc->skip = get_int(c, "skip");
    oc->limit = get_int(c, "limit");
    oc->upsert = get_int(c, "upsert") != 0;
    oc->multi = get_int(c, "multi") != 0;
}

static void
check(struct run *r, const bson_t *c)
{
    struct oracle_case oc;

    oracle_take(c, &oc);
    if (strcmp(oc.kind, "find") == 0) {
        check_find(r, c, &oc);
    }
    else if (strcmp(oc.kind, "update") == 0) {
        check_update(r, c, &oc);
    }
    else {
        check_aggregate(r, c, &oc);
    }
}

static void
report(const char *kind, const struct tally *t)
{
    printf("%s: %d right, %d unsupported, %d wrong\n", kind, t->right,
           t->unsupported, t->wrong);
}

bson_t *
oracle_read(FILE *file)
{
    char *line = NULL;
    size_t cap = 0;
    bson_t *c = getline(&line, &cap, file) > 0 ? extjson_parse(line) : NULL;

    free(line);
    return c;
}

int
oracle_run(const struct oracle_backend *b, const char *name, const char *only)
{
    _cleanup_buf_ struct lev_buf path = {0};
    struct run r = {.backend = b, .verbose = getenv("VERBOSE") != NULL};
    FILE *file;
    bson_t *c;

    lev_buf_printf(&path, LEV_TEST_DATA "/%s", name);
    file = fopen(lev_buf_text(&path), "r");
    assert(file != NULL);
    while ((c = oracle_read(file)) != NULL) {
        if (strncmp(get_text(c, "id"), only, strlen(only)) == 0) {
            check(&r, c);
        }
        bson_destroy(c);
    }
    fclose(file);
    printf("%s\n", name);
    report("find", &r.finds);
    report("update", &r.updates);
    report("aggregate", &r.aggregates);
    return r.finds.wrong + r.updates.wrong + r.aggregates.wrong;
}
