/* The cases of tests/data, changed at random: whatever is asked, the answer is
 * sound documents or an error that says something. Under a sanitizer this
 * finds what reads or writes where it should not.
 *
 * usage: test_mql_fuzz [ROUNDS [SEED [FIRST]]] */

#include "mqllib.h"
#include "value.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASES_MAX 10000
#define POOL_MAX 200000

static struct {
    bson_t *cases[CASES_MAX];
    size_t n_cases;
    bson_value_t values[POOL_MAX]; /* borrow from the cases */
    const char *keys[POOL_MAX];
    size_t n_pool;
    void *held[16]; /* bytes of the round's case */
    size_t n_held;
    uint64_t random;
    uint64_t round, seed, answered;
} fuzz;

static uint64_t
next_random(void)
{
    fuzz.random ^= fuzz.random >> 12;
    fuzz.random ^= fuzz.random << 25;
    fuzz.random ^= fuzz.random >> 27;
    return fuzz.random * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static bool
one_in(unsigned n)
{
    return next_random() % n == 0;
}

/* Whoever dies says where. */
static void
tell_round(int signal)
{
    char text[100];
    int n = snprintf(text, sizeof(text), "\nround %llu of seed %llu\n",
                     (unsigned long long)fuzz.round,
                     (unsigned long long)fuzz.seed);

    if (write(STDERR_FILENO, text, (size_t)n) < 0) {
        _exit(2);
    }
    _exit(1);
}

static void
collect(bson_iter_t *it)
{
    while (bson_iter_next(it) && fuzz.n_pool < POOL_MAX) {
        bson_iter_t below;

        fuzz.values[fuzz.n_pool] = lev_value_of(it);
        fuzz.keys[fuzz.n_pool++] = bson_iter_key(it);
        if ((BSON_ITER_HOLDS_DOCUMENT(it) || BSON_ITER_HOLDS_ARRAY(it)) &&
            bson_iter_recurse(it, &below))
        {
            collect(&below);
        }
    }
}

static void
load(const char *path)
{
    FILE *file = fopen(path, "r");
    bson_t *c;

    assert(file != NULL);
    while ((c = oracle_read(file)) != NULL) {
        bson_iter_t it, below;

        assert(fuzz.n_cases < CASES_MAX);
        fuzz.cases[fuzz.n_cases++] = c;
        for (bson_iter_init(&it, c); bson_iter_next(&it);) {
            /* What stands in the recorded answers is no seed. */
            if (strcmp(bson_iter_key(&it), "result") != 0 &&
                (BSON_ITER_HOLDS_DOCUMENT(&it) ||
                 BSON_ITER_HOLDS_ARRAY(&it)) &&
                bson_iter_recurse(&it, &below))
            {
                collect(&below);
            }
        }
    }
    fclose(file);
}

/* Numbers and texts at the ends of what there is. */
static void
append_extreme(bson_t *out, const char *key)
{
    static const int64_t ints[] = {
        0, 1, -1, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1000000000,
    };
    static const char *const texts[] = {
        "",         "$",           "$$",    "$$ROOT",  "$a.b.c",  "$$this.x",
        "$$NOW",    "$$REMOVE",    "a.0.b", ".",       "..",      "$.a",
        "(a+)+$",   "\xff\xfe",    "_id",   "+05:30",  "$[]",     "a.$[].b",
        "%Y-%m-%d", "2020-02-29T", "1e400", "-0x1p-3", "e\u0301",
    };
    static const double doubles[] = {0.0, -0.0, 1e308, -1e308, 5e-324, 0.5};
    static const char *const decimals[] = {
        "9.999999999999999999999999999999999E+6144",
        "1E-6176",
        "-0",
        "NaN",
        "-Infinity",
        "0.1",
    };
    bson_decimal128_t dec;

    switch (next_random() % 7) {
    case 0:
        bson_append_int64(out, key, -1,
                          ints[next_random() % LEV_ARRAY_LEN(ints)]);
        break;
    case 1:
        bson_append_utf8(out, key, -1,
                         texts[next_random() % LEV_ARRAY_LEN(texts)], -1);
        break;
    case 2:
        bson_append_double(out, key, -1,
                           doubles[next_random() % LEV_ARRAY_LEN(doubles)]);
        break;
    case 3:
        bson_decimal128_from_string(
            decimals[next_random() % LEV_ARRAY_LEN(decimals)], &dec);
        bson_append_decimal128(out, key, -1, &dec);
        break;
    case 4:
        bson_append_date_time(out, key, -1,
                              ints[next_random() % LEV_ARRAY_LEN(ints)]);
        break;
    case 5:
        bson_append_regex(out, key, -1, "(x+x+)+y", "i");
        break;
    default:
        bson_append_null(out, key, -1);
    }
}

static void mutate(bson_iter_t *it, bson_t *out, unsigned rate, int depth);

static void
mutate_value(bson_iter_t *it, const char *key, bson_t *out, unsigned rate,
             int depth)
{
    bson_iter_t below;
    bson_t part;

    if (one_in(rate)) {
        append_extreme(out, key);
    }
    else if (one_in(rate)) {
        bson_append_value(out, key, -1,
                          &fuzz.values[next_random() % fuzz.n_pool]);
    }
    else if (BSON_ITER_HOLDS_DOCUMENT(it) && depth < 50 &&
             bson_iter_recurse(it, &below))
    {
        bson_append_document_begin(out, key, -1, &part);
        mutate(&below, &part, rate, depth + 1);
        bson_append_document_end(out, &part);
    }
    else if (BSON_ITER_HOLDS_ARRAY(it) && depth < 50 &&
             bson_iter_recurse(it, &below))
    {
        bson_append_array_begin(out, key, -1, &part);
        mutate(&below, &part, rate, depth + 1);
        bson_append_array_end(out, &part);
    }
    else {
        bson_append_iter(out, key, -1, it);
    }
}

static void
mutate(bson_iter_t *it, bson_t *out, unsigned rate, int depth)
{
    while (bson_iter_next(it)) {
        const char *key = bson_iter_key(it);

        if (one_in(rate * 2)) {
            continue;
        }
        if (one_in(rate * 2)) {
            key = fuzz.keys[next_random() % fuzz.n_pool];
        }
        mutate_value(it, key, out, rate, depth);
        if (one_in(rate * 4)) {
            mutate_value(it, key, out, rate, depth);
        }
    }
}

/* Puts the bytes of `made` in the place of a part of a case, until the round
 * ends. */
static void
put(bson_t *part, bson_t *made)
{
    uint32_t len;
    uint8_t *bytes = bson_destroy_with_steal(made, true, &len);

    assert(fuzz.n_held < LEV_ARRAY_LEN(fuzz.held));
    fuzz.held[fuzz.n_held++] = bytes;
    assert(bson_init_static(part, bytes, len));
}

/* A few bytes behind the length. */
static void
break_bytes(bson_t *doc)
{
    uint8_t *bytes = (uint8_t *)bson_get_data(doc);

    for (unsigned n = 1 + next_random() % 3; doc->len > 6 && n > 0; n--) {
        bytes[4 + next_random() % (doc->len - 5)] = (uint8_t)next_random();
    }
}

/* `raw`: its bytes may be no BSON. */
static void
change(bson_t *part, bool raw)
{
    static const unsigned rates[] = {6, 16, 40};
    bson_t made = BSON_INITIALIZER;
    bson_iter_t it;

    if (bson_iter_init(&it, part)) {
        mutate(&it, &made, rates[next_random() % LEV_ARRAY_LEN(rates)], 0);
    }
    if (raw && one_in(12)) {
        break_bytes(&made);
    }
    put(part, &made);
}

/* Documents come from a store: they are sound, and no more than objects. */
static void
change_docs(bson_t *docs)
{
    bson_t sound = BSON_INITIALIZER, doc;
    bson_iter_t it;
    uint32_t n = 0;

    change(docs, false);
    for (bson_iter_init(&it, docs); bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);
        struct lev_error err;

        if (v.value_type == BSON_TYPE_DOCUMENT && lev_value_open(&v, &doc) &&
            lev_value_check(&doc, &err) == 0)
        {
            lev_value_append_element(&sound, n++, &v);
        }
    }
    put(docs, &sound);
}

static void
check_outcome(int rc, const struct lev_buf *out, const struct lev_error *err)
{
    struct lev_error bad;

    if (rc < 0) {
        assert(err->code != LEV_OK && err->msg[0] != '\0');
        assert(err->code == LEV_E_QUERY || err->code == LEV_E_TOO_LARGE ||
               err->code == LEV_E_INVALID || err->code == LEV_E_TIMEOUT ||
               err->code == LEV_E_UNSUPPORTED_OPERATION);
        return;
    }
    fuzz.answered++;
    for (size_t at = 0; at < out->len;) {
        uint32_t len;
        bson_t doc;

        memcpy(&len, out->data + at, sizeof(len));
        assert(bson_init_static(&doc, (uint8_t *)out->data + at, len));
        assert(lev_value_check(&doc, &bad) == 0);
        at += len;
    }
}

static void
run_round(void)
{
    _cleanup_buf_ struct lev_buf out = {0};
    struct oracle_counts counts = {0};
    struct lev_error err = {0};
    struct oracle_case c;
    int rc;

    oracle_take(fuzz.cases[next_random() % fuzz.n_cases], &c);
    change_docs(&c.docs);
    change(&c.query, true);
    change(&c.update, true);
    change(&c.pipeline, true);
    if (c.has_projection) {
        change(&c.projection, true);
    }
    if (c.has_sort) {
        change(&c.sort, true);
    }
    if (c.has_array_filters) {
        change(&c.array_filters, true);
    }
    if (strcmp(c.kind, "find") == 0) {
        rc = mql_find(NULL, &c, &out, &err);
    }
    else if (strcmp(c.kind, "update") == 0) {
        rc = mql_update(NULL, &c, &counts, &out, &err);
    }
    else {
        rc = mql_aggregate(NULL, &c, &out, &err);
    }
    check_outcome(rc, &out, &err);
    while (fuzz.n_held > 0) {
        bson_free(fuzz.held[--fuzz.n_held]);
    }
}

int
main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;

    fuzz.round = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    fuzz.seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    load(LEV_TEST_DATA "/mql-oracle.jsonl");
    load(LEV_TEST_DATA "/mql-more.jsonl");
    signal(SIGABRT, tell_round);
    for (; fuzz.round < rounds; fuzz.round++) {
        fuzz.random = (fuzz.seed << 32) + fuzz.round + 1;
        next_random();
        run_round();
    }
    printf("%llu rounds of seed %llu, %llu without an error\n",
           (unsigned long long)rounds, (unsigned long long)fuzz.seed,
           (unsigned long long)fuzz.answered);
    assert(argc > 3 || rounds < 100 || fuzz.answered > rounds / 10);
    for (size_t i = 0; i < fuzz.n_cases; i++) {
        bson_destroy(fuzz.cases[i]);
    }
    return 0;
}
