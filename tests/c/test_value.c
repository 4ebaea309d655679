/* BSON's order and exact numbers, keys of ids, and paths. */

#include "extjson.h"
#include "id.h"
#include "number.h"
#include "path.h"
#include "value.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* In ascending order; what stands in one line is equal. Canonical Extended
 * JSON with ' for ". */
static const char *const order[][8] = {
    {"{'$minKey': 1}"},
    {"{'$undefined': true}"},
    {"null"},
    {"{'$numberDouble': 'NaN'}", "{'$numberDecimal': 'NaN'}",
     "{'$numberDecimal': '-NaN'}"},
    {"{'$numberDouble': '-Infinity'}", "{'$numberDecimal': '-Infinity'}"},
    {"{'$numberDecimal': '-9.999999999999999999999999999999999E6144'}"},
    {"{'$numberDouble': '-1.7976931348623157e308'}"},
    {"{'$numberLong': '-9223372036854775808'}",
     "{'$numberDouble': '-9223372036854775808'}",
     "{'$numberDecimal': '-9223372036854775808'}"},
    {"{'$numberLong': '-9007199254740993'}",
     "{'$numberDecimal': '-9007199254740993'}"},
    {"{'$numberDouble': '-9007199254740992'}",
     "{'$numberLong': '-9007199254740992'}"},
    {"{'$numberInt': '-1'}", "{'$numberDouble': '-1.0'}",
     "{'$numberDecimal': '-1.000'}"},
    {"{'$numberDouble': '-0.5'}", "{'$numberDecimal': '-5E-1'}"},
    {"{'$numberDouble': '-4.9e-324'}"},
    {"{'$numberDecimal': '-1E-6176'}"},
    {"{'$numberInt': '0'}", "{'$numberDouble': '-0.0'}",
     "{'$numberDecimal': '0E+6111'}", "{'$numberDecimal': '-0E-6176'}",
     "{'$numberLong': '0'}"},
    {"{'$numberDecimal': '1E-6176'}"},
    {"{'$numberDouble': '4.9e-324'}"},
    {"{'$numberDecimal': '4.940656458412465441765687928682214E-324'}"},
    {"{'$numberDecimal': '0.1'}", "{'$numberDecimal': '0.10'}",
     "{'$numberDecimal': '1000E-4'}"},
    {"{'$numberDouble': '0.1'}"}, /* 0.1000000000000000055… */
    {"{'$numberDouble': '0.3'}"}, /* 0.2999999999999999888… */
    {"{'$numberDecimal': '0.3'}"},
    {"{'$numberDouble': '1.5'}", "{'$numberDecimal': '15E-1'}"},
    {"{'$numberDouble': '9007199254740992.0'}",
     "{'$numberLong': '9007199254740992'}",
     "{'$numberDecimal': '9007199254740992'}"},
    {"{'$numberLong': '9007199254740993'}",
     "{'$numberDecimal': '9007199254740993.0'}"},
    {"{'$numberDecimal': '9007199254740993.5'}"},
    {"{'$numberLong': '9223372036854775807'}"},
    {"{'$numberDouble': '9223372036854775808'}",
     "{'$numberDecimal': '9223372036854775808'}"},
    {"{'$numberDecimal': '1E300'}"},
    {"{'$numberDouble': '1e300'}"}, /* 1.00000000000000005…e300 */
    {"{'$numberDouble': '1.7976931348623157e308'}"},
    {"{'$numberDecimal': '1E309'}"},
    {"{'$numberDecimal': '9.999999999999999999999999999999999E6144'}"},
    {"{'$numberDouble': 'Infinity'}", "{'$numberDecimal': 'Infinity'}"},
    {"''"},
    {"'a'", "{'$symbol': 'a'}"},
    {"'a\\u0000'"},
    {"'ab'"},
    {"'b'"},
    {"{}"},
    {"{'a': {'$numberInt': '1'}}", "{'a': {'$numberDouble': '1.0'}}"},
    {"{'a': {'$numberInt': '1'}, 'b': null}"},
    {"{'b': {'$numberInt': '0'}}"},
    {"{'a': 'x'}"}, /* the type of the field comes first */
    {"[]"},
    {"[{'$numberInt': '1'}]", "[{'$numberLong': '1'}]"},
    {"[{'$numberInt': '1'}, {'$numberInt': '0'}]"},
    {"[{'$numberInt': '2'}]"},
    {"{'$binary': {'base64': '', 'subType': '00'}}"},
    {"{'$binary': {'base64': '/w==', 'subType': '00'}}"},
    {"{'$binary': {'base64': 'AA==', 'subType': '05'}}"},
    {"{'$binary': {'base64': 'AAA=', 'subType': '00'}}"},
    {"{'$oid': '5f00000000000000000000a1'}"},
    {"{'$oid': '5f00000000000000000000a2'}"},
    {"false"},
    {"true"},
    {"{'$date': {'$numberLong': '-1'}}"},
    {"{'$date': {'$numberLong': '0'}}"},
    {"{'$timestamp': {'t': 0, 'i': 9}}"},
    {"{'$timestamp': {'t': 3000000000, 'i': 1}}"},
    {"{'$regularExpression': {'pattern': 'a', 'options': ''}}"},
    {"{'$regularExpression': {'pattern': 'a', 'options': 'i'}}"},
    {"{'$code': 'f'}"},
    {"{'$code': 'f', '$scope': {}}"},
    {"{'$maxKey': 1}"},
};

#define ROWS LEV_ARRAY_LEN(order)

static bson_t *
parse(const char *value)
{
    char line[600], *p = line;

    snprintf(line, sizeof(line), "{'v': %s}", value);
    for (; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return extjson_parse(line);
}

static void
same_key(const bson_value_t *a, const bson_value_t *b, bool same,
         const char *text)
{
    _cleanup_buf_ struct lev_buf x = {0}, y = {0};
    struct lev_error err;
    bool equal;

    assert(lev_id_key(a, &x, &err) == 0 && lev_id_key(b, &y, &err) == 0);
    equal = x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
    if (equal != same) {
        fprintf(stderr, "key of %s\n", text);
        abort();
    }
}

static void
test_pair(size_t i, const char *x, size_t k, const char *y)
{
    bson_t *a = parse(x), *b = parse(y);
    bson_value_t va = lev_value_field(a, "v"), vb = lev_value_field(b, "v");
    int c = lev_value_compare(&va, &vb), want = (i > k) - (i < k);

    if ((c > 0) - (c < 0) != want) {
        fprintf(stderr, "%s against %s: %d\n", x, y, c);
        abort();
    }
    same_key(&va, &vb, want == 0, x);
    bson_destroy(a);
    bson_destroy(b);
}

static void
test_order(void)
{
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < ROWS; k++) {
            for (int n = 0; n < 8 && order[i][n] != NULL; n++) {
                for (int m = 0; m < 8 && order[k][m] != NULL; m++) {
                    test_pair(i, order[i][n], k, order[k][m]);
                }
            }
        }
    }
}

static bson_value_t
from_double(double d)
{
    bson_value_t v = {.value_type = BSON_TYPE_DOUBLE};

    v.value.v_double = d;
    return v;
}

static void
test_numbers(void)
{
    bson_value_t dec = {.value_type = BSON_TYPE_DECIMAL128}, v;
    int64_t n;

    v = from_double(-3.7);
    assert(lev_number_truncate(&v, &n) && n == -3);
    assert(!lev_number_whole(&v, &n));
    v = from_double(0x1p63);
    assert(!lev_number_truncate(&v, &n));
    v = from_double(-0x1p63);
    assert(lev_number_whole(&v, &n) && n == INT64_MIN);
    v = from_double(NAN);
    assert(!lev_number_truncate(&v, &n) && lev_number_truth(&v));
    v = from_double(-0.0);
    assert(!lev_number_truth(&v));
    bson_decimal128_from_string("-92233720368547758.08E+2",
                                &dec.value.v_decimal128);
    assert(lev_number_whole(&dec, &n) && n == INT64_MIN);
    bson_decimal128_from_string("9223372036854775808",
                                &dec.value.v_decimal128);
    assert(!lev_number_truncate(&dec, &n));
    bson_decimal128_from_string("1E6000", &dec.value.v_decimal128);
    assert(!lev_number_truncate(&dec, &n));
    bson_decimal128_from_string("-1999E-3", &dec.value.v_decimal128);
    assert(lev_number_truncate(&dec, &n) && n == -1);
    assert(lev_number_double(&dec) == -1.999);
    /* Encodings that stand for no number below 10^34 mean zero. */
    dec.value.v_decimal128.high = UINT64_C(0x6000000000000001);
    dec.value.v_decimal128.low = 5;
    assert(lev_number_whole(&dec, &n) && n == 0);
}

static void
test_complete(void)
{
    bson_t *doc = parse("1, '_id': 'x', 'w': 2"), out = BSON_INITIALIZER;
    struct lev_error err;
    bson_iter_t it;

    assert(lev_id_complete(doc, &out, &err) == 0);
    assert(bson_iter_init(&it, &out) && bson_iter_next(&it));
    assert(strcmp(bson_iter_key(&it), "_id") == 0);
    assert(bson_iter_next(&it) && strcmp(bson_iter_key(&it), "v") == 0);
    assert(bson_iter_next(&it) && strcmp(bson_iter_key(&it), "w") == 0);
    assert(!bson_iter_next(&it));
    bson_destroy(doc);
    bson_destroy(&out);
    doc = parse("1, '_id': [1]");
    bson_init(&out);
    assert(lev_id_complete(doc, &out, &err) < 0 && err.detail == 53);
    bson_destroy(doc);
    bson_destroy(&out);
}

static void
test_depth(void)
{
    bson_t *doc = bson_new();
    struct lev_error err;

    for (int depth = 1; depth < 300;) {
        bson_t *outer = bson_new();

        if (lev_value_check(doc, &err) == 0) {
            assert(depth <= LEV_VALUE_MAX_DEPTH);
        }
        else {
            assert(depth > LEV_VALUE_MAX_DEPTH && err.detail == 15);
        }
        if (depth % 3 == 0) {
            bson_append_document(outer, "d", 1, doc);
            depth++;
        }
        else {
            bson_t array;

            bson_append_array_begin(outer, "a", 1, &array);
            bson_append_document(&array, "0", 1, doc);
            bson_append_array_end(outer, &array);
            depth += 2;
        }
        bson_destroy(doc);
        doc = outer;
    }
    bson_destroy(doc);
}

static void
test_damaged(void)
{
    bson_t *doc = parse(
        "{'a': [{'b': 'text'}, {'$numberInt': '5'}, null, true, 1.5], 'c': "
        "{'$binary': {'base64': 'AAEC', 'subType': '00'}}, 'd': "
        "[{'$oid': '0123456789abcdef01234567'}, {'$date': 5}, {'$minKey': 1}, "
        "{'$regularExpression': {'pattern': 'x', 'options': 'i'}}, "
        "{'$code': 'f', '$scope': {'g': []}}, {'$numberDecimal': '1'}]}");
    uint32_t len = doc->len;
    uint8_t *data = malloc(len);
    struct lev_error err;

    assert(data != NULL && lev_value_check(doc, &err) == 0);
    /* No byte that is wrong makes anything read outside: the sanitizers see
     * it. */
    for (uint32_t at = 4; at < len - 1; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bson_t bad;
            bson_value_t v;

            memcpy(data, bson_get_data(doc), len);
            data[at] ^= (uint8_t)(1 << bit);
            assert(bson_init_static(&bad, data, len));
            if (lev_value_check(&bad, &err) == 0) {
                v = lev_value_doc(&bad);
                assert(lev_value_compare(&v, &v) == 0);
            }
        }
    }
    free(data);
    bson_destroy(doc);
}

/* Sound enough for libbson's iterators, not for what copies: the end of an
 * array, its first key, the end of a scope. */
static void
test_unsound(void)
{
    static const struct {
        const char *doc;
        uint32_t at;
        uint8_t byte;
    } cases[] = {
        {"[{'$numberInt': '3'}]", 18, 0x20},
        {"[{'$numberInt': '3'}]", 12, '1'},
        {"{'$code': 'f', '$scope': {}}", 21, 1},
    };
    struct lev_error err;

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        bson_t *doc = parse(cases[i].doc);

        assert(lev_value_check(doc, &err) == 0);
        ((uint8_t *)bson_get_data(doc))[cases[i].at] = cases[i].byte;
        if (lev_value_check(doc, &err) == 0 || err.code != LEV_E_INVALID) {
            fprintf(stderr, "unsound %zu\n", i);
            abort();
        }
        bson_destroy(doc);
    }
}

static int
count_hit(void *ctx, const struct lev_path_hit *hit)
{
    ++*(int *)ctx;
    return 0;
}

static void
test_path(void)
{
    static const struct {
        const char *path;
        int whole, elements, keys;
    } cases[] = {
        {"v", 1, 4, 4},    {"v.a", 2, 3, 4},   {"v.0", 3, 3, 1},
        {"v.1", 3, 3, 1},  {"v.7", 2, 2, 3},   {"v.a.b", 1, 1, 3},
        {"x", 1, 1, 1},    {"v.0.a", 3, 4, 2}, {"v.2.0", 3, 3, 1},
        {"v.00", 2, 2, 3}, {"x.y.z", 1, 1, 1},
    };
    bson_t *doc = parse("[{'a': [1]}, {'b': 2}, [3]]");
    struct lev_error err;
    char longest[2 * LEV_PATH_MAX + 4];

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        struct lev_path p;
        int whole = 0, elements = 0, keys = 0;

        assert(lev_path_parse(cases[i].path, &p, &err) == 0);
        lev_path_each(&p, doc, LEV_PATH_WHOLE, count_hit, &whole);
        lev_path_each(&p, doc, LEV_PATH_ELEMENTS, count_hit, &elements);
        lev_path_each(&p, doc, LEV_PATH_KEYS, count_hit, &keys);
        if (whole != cases[i].whole || elements != cases[i].elements ||
            keys != cases[i].keys)
        {
            fprintf(stderr, "%s: %d %d %d\n", cases[i].path, whole, elements,
                    keys);
            abort();
        }
        lev_path_deinit(&p);
    }
    assert(lev_path_index("0") == 0 && lev_path_index("10") == 10);
    assert(lev_path_index("01") < 0 && lev_path_index("-1") < 0 &&
           lev_path_index("") < 0 && lev_path_index("99999999999") < 0);
    memset(longest, '.', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert(lev_path_parse(longest, &(struct lev_path){0}, &err) < 0);
    bson_destroy(doc);
}

int
main(void)
{
    test_order();
    test_numbers();
    test_complete();
    test_depth();
    test_damaged();
    test_unsound();
    test_path();
    return 0;
}
