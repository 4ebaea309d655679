/* MongoDB's query language against recorded answers
 * (tests/data/mql-oracle.jsonl). What the embedded store has not, it must
 * refuse with UNSUPPORTED_OPERATION: a wrong answer fails the test. */

#include "extjson.h"
#include "match.h"
#include "project.h"
#include "sort.h"
#include "update.h"
#include "value.h"

#include <assert.h>
#include <string.h>

static struct tally {
    int right, unsupported, wrong;
} finds, updates;

static bool verbose;

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

struct find {
    struct lev_match *match;
    struct lev_project *project;
    struct lev_sort *sort;
    struct lev_sorter *sorter;
    int64_t skip, limit;
    struct lev_buf out;
};

static void
find_deinit(struct find *f)
{
    lev_match_destroy(f->match);
    lev_project_destroy(f->project);
    lev_sorter_destroy(f->sorter);
    lev_sort_destroy(f->sort);
    lev_buf_deinit(&f->out);
}

static int
find_compile(struct find *f, const bson_t *c, struct lev_error *err)
{
    bson_t query, projection, sort;
    bool has_projection = get_doc(c, "projection", &projection);

    assert(get_doc(c, "query", &query));
    f->skip = get_int(c, "skip");
    f->limit = get_int(c, "limit");
    f->match = lev_match_compile(&query, err);
    if (f->match == NULL) {
        return -1;
    }
    f->project = lev_project_compile(has_projection ? &projection : NULL, err);
    if (f->project == NULL) {
        return -1;
    }
    if (get_doc(c, "sort", &sort)) {
        size_t keep = f->limit > 0 ? (size_t)(f->skip + f->limit) : 0;

        f->sort = lev_sort_compile(&sort, err);
        if (f->sort == NULL) {
            return -1;
        }
        f->sorter = lev_sorter_create(f->sort, keep, err);
        assert(f->sorter != NULL);
    }
    return 0;
}

static int
find_give(struct find *f, const bson_t *doc, long index, int *given,
          struct lev_error *err)
{
    if (f->skip > 0) {
        f->skip--;
        return 0;
    }
    if (f->limit > 0 && *given == f->limit) {
        return 0;
    }
    ++*given;
    return lev_project_apply(f->project, doc, index, &f->out, err);
}

static int
find_run(struct find *f, const bson_t *docs, struct lev_error *err)
{
    bson_iter_t it;
    bson_t doc;
    long index;
    int given = 0;

    for (bson_iter_init(&it, docs); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        int rc;

        assert(lev_value_open(&v, &doc));
        rc = lev_match_test(f->match, &doc, &index, err);
        if (rc < 0) {
            return -1;
        }
        if (rc > 0 &&
            (f->sorter != NULL ? lev_sorter_add(f->sorter, &doc, index, err)
                               : find_give(f, &doc, index, &given, err)) < 0)
        {
            return -1;
        }
    }
    while (f->sorter != NULL && lev_sorter_next(f->sorter, &doc, &index)) {
        if (find_give(f, &doc, index, &given, err) < 0) {
            return -1;
        }
    }
    return 0;
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
complain(const bson_t *c, const struct lev_buf *got,
         const struct lev_buf *want, const struct lev_error *err)
{
    char *text = extjson_show(c);

    fprintf(stderr, "%s: %s\n", get_text(c, "id"), text);
    bson_free(text);
    if (err != NULL) {
        fprintf(stderr, "  got error %d: %s\n", err->detail, err->msg);
    }
    if (got != NULL) {
        print_docs("got", got);
    }
    if (want != NULL) {
        print_docs("want", want);
    }
}

/* Whether a failure is the expected one. */
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
tally_failure(struct tally *t, const bson_t *c, const struct lev_error *err)
{
    if (err->code == LEV_E_UNSUPPORTED_OPERATION) {
        t->unsupported++;
        if (verbose) {
            fprintf(stderr, "%s: %s\n", get_text(c, "id"), err->msg);
        }
    }
    else if (is_expected(c, err)) {
        t->right++;
    }
    else {
        t->wrong++;
        complain(c, NULL, NULL, err);
    }
}

static void
check_find(const bson_t *c)
{
    struct lev_error err = {0};
    struct find f = {0};
    _cleanup_buf_ struct lev_buf want = {0};
    bson_t docs, result;
    bson_iter_t it;
    bool good;

    assert(get_doc(c, "docs", &docs) && get_doc(c, "result", &result));
    if (find_compile(&f, c, &err) < 0 || find_run(&f, &docs, &err) < 0) {
        tally_failure(&finds, c, &err);
        find_deinit(&f);
        return;
    }
    if (bson_iter_init_find(&it, c, "result") && BSON_ITER_HOLDS_ARRAY(&it)) {
        flatten(&result, &want);
        good = want.len == f.out.len &&
               (want.len == 0 || memcmp(want.data, f.out.data, want.len) == 0);
    }
    else {
        good = false;
    }
    if (good) {
        finds.right++;
    }
    else {
        finds.wrong++;
        complain(c, &f.out, &want, NULL);
    }
    find_deinit(&f);
}

struct update {
    struct lev_match *match;
    struct lev_updater *updater;
    bool upsert, multi;
    int64_t matched, modified, upserted;
    struct lev_buf out;
};

static int
update_compile(struct update *u, const bson_t *c, struct lev_error *err)
{
    bson_t query, update;
    bson_iter_t it;

    assert(get_doc(c, "query", &query) && get_doc(c, "update", &update));
    u->upsert =
        bson_iter_init_find(&it, c, "upsert") && bson_iter_as_bool(&it);
    u->multi = bson_iter_init_find(&it, c, "multi") && bson_iter_as_bool(&it);
    u->match = lev_match_compile(&query, err);
    if (u->match == NULL) {
        return -1;
    }
    u->updater = lev_updater_compile(&update, u->multi, err);
    return u->updater == NULL ? -1 : 0;
}

static int
update_one(struct update *u, const bson_t *doc, struct lev_error *err)
{
    bson_t made;
    int rc = u->matched > 0 && !u->multi
                 ? 0
                 : lev_match_test(u->match, doc, NULL, err);

    if (rc <= 0) {
        lev_buf_append(&u->out, bson_get_data(doc), doc->len);
        return rc;
    }
    u->matched++;
    if (lev_updater_apply(u->updater, doc, &made, err) < 0) {
        return -1;
    }
    u->modified += !bson_equal(doc, &made);
    lev_buf_append(&u->out, bson_get_data(&made), made.len);
    bson_destroy(&made);
    return 0;
}

static int
update_run(struct update *u, const bson_t *docs, struct lev_error *err)
{
    bson_iter_t it;
    bson_t made;

    for (bson_iter_init(&it, docs); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        bson_t doc;

        assert(lev_value_open(&v, &doc));
        if (update_one(u, &doc, err) < 0) {
            return -1;
        }
    }
    if (u->matched > 0 || !u->upsert) {
        return 0;
    }
    if (lev_updater_insert(u->updater, u->match, &made, err) < 0) {
        return -1;
    }
    u->upserted = 1;
    lev_buf_append(&u->out, bson_get_data(&made), made.len);
    bson_destroy(&made);
    return 0;
}

static void
check_update(const bson_t *c)
{
    struct lev_error err = {0};
    struct update u = {0};
    _cleanup_buf_ struct lev_buf want = {0};
    bson_t docs, result, after;

    assert(get_doc(c, "docs", &docs) && get_doc(c, "result", &result));
    if (update_compile(&u, c, &err) < 0 || update_run(&u, &docs, &err) < 0) {
        tally_failure(&updates, c, &err);
    }
    else {
        bool good = get_doc(&result, "docs", &after);

        if (good) {
            flatten(&after, &want);
        }
        good =
            good && want.len == u.out.len &&
            (want.len == 0 || memcmp(want.data, u.out.data, want.len) == 0) &&
            u.matched == get_int(&result, "matched") &&
            u.modified == get_int(&result, "modified") &&
            u.upserted == get_int(&result, "upserted");
        *(good ? &updates.right : &updates.wrong) += 1;
        if (!good) {
            complain(c, &u.out, &want, NULL);
        }
    }
    lev_match_destroy(u.match);
    lev_updater_destroy(u.updater);
    lev_buf_deinit(&u.out);
}

static void
check(const bson_t *c)
{
    if (strcmp(get_text(c, "kind"), "find") == 0) {
        check_find(c);
    }
    if (strcmp(get_text(c, "kind"), "update") != 0) {
        return;
    }
    if (bson_has_field(c, "array_filters")) {
        updates.unsupported++; /* `struct lev_update` cannot carry them */
        return;
    }
    check_update(c);
}

static void
report(const char *kind, const struct tally *t)
{
    printf("%s: %d right, %d unsupported, %d wrong\n", kind, t->right,
           t->unsupported, t->wrong);
}

int
main(int argc, char **argv)
{
    FILE *file = fopen(LEV_TEST_DATA "/mql-oracle.jsonl", "r");
    const char *only = argc > 1 ? argv[1] : "";
    char *line = NULL;
    size_t cap = 0;

    assert(file != NULL);
    verbose = getenv("VERBOSE") != NULL;
    while (getline(&line, &cap, file) > 0) {
        bson_t *c = extjson_parse(line);

        if (strncmp(get_text(c, "id"), only, strlen(only)) == 0) {
            check(c);
        }
        bson_destroy(c);
    }
    free(line);
    fclose(file);
    report("find", &finds);
    report("update", &updates);
    return finds.wrong + updates.wrong != 0;
}
