#include "value.h"

#include <string.h>

#include "number.h"

const bson_value_t lev_value_missing = {.value_type = BSON_TYPE_EOD};
const bson_value_t lev_value_null = {.value_type = BSON_TYPE_NULL};

bson_value_t
lev_value_of(bson_iter_t *it)
{
    return *bson_iter_value(it);
}

bson_value_t
lev_value_field(const bson_t *doc, const char *key)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, doc, key) ? lev_value_of(&it)
                                              : lev_value_missing;
}

bson_value_t
lev_value_doc(const bson_t *doc)
{
    bson_value_t v = {.value_type = BSON_TYPE_DOCUMENT};

    v.value.v_doc.data = (uint8_t *)bson_get_data(doc);
    v.value.v_doc.data_len = doc->len;
    return v;
}

static bool
is_nested(const bson_value_t *v)
{
    return v->value_type == BSON_TYPE_DOCUMENT ||
           v->value_type == BSON_TYPE_ARRAY;
}

bool
lev_value_open(const bson_value_t *v, bson_t *doc)
{
    return is_nested(v) &&
           bson_init_static(doc, v->value.v_doc.data, v->value.v_doc.data_len);
}

bool
lev_value_iter(const bson_value_t *v, bson_iter_t *it)
{
    return is_nested(v) && bson_iter_init_from_data(it, v->value.v_doc.data,
                                                    v->value.v_doc.data_len);
}

struct type_info {
    int class;
    const char *name;
};

static const struct type_info *
info_of(bson_type_t type)
{
    static const struct type_info types[] = {
        [BSON_TYPE_EOD] = {0, "missing"},
        [BSON_TYPE_UNDEFINED] = {0, "undefined"},
        [BSON_TYPE_NULL] = {5, "null"},
        [BSON_TYPE_DOUBLE] = {10, "double"},
        [BSON_TYPE_INT32] = {10, "int"},
        [BSON_TYPE_INT64] = {10, "long"},
        [BSON_TYPE_DECIMAL128] = {10, "decimal"},
        [BSON_TYPE_UTF8] = {15, "string"},
        [BSON_TYPE_SYMBOL] = {15, "symbol"},
        [BSON_TYPE_DOCUMENT] = {20, "object"},
        [BSON_TYPE_ARRAY] = {25, "array"},
        [BSON_TYPE_BINARY] = {30, "binData"},
        [BSON_TYPE_OID] = {35, "objectId"},
        [BSON_TYPE_BOOL] = {40, "bool"},
        [BSON_TYPE_DATE_TIME] = {45, "date"},
        [BSON_TYPE_TIMESTAMP] = {47, "timestamp"},
        [BSON_TYPE_REGEX] = {50, "regex"},
        [BSON_TYPE_DBPOINTER] = {55, "dbPointer"},
        [BSON_TYPE_CODE] = {60, "javascript"},
        [BSON_TYPE_CODEWSCOPE] = {65, "javascriptWithScope"},
        [BSON_TYPE_MAXKEY] = {127, "maxKey"},
    };
    static const struct type_info min_key = {-1, "minKey"};

    return (size_t)type < LEV_ARRAY_LEN(types) ? &types[type] : &min_key;
}

int
lev_value_class(bson_type_t type)
{
    return info_of(type)->class;
}

const char *
lev_value_type_name(bson_type_t type)
{
    return info_of(type)->name;
}

static int
sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Bytes in common decide, then the length. */
static int
compare_bytes(const void *a, size_t len_a, const void *b, size_t len_b)
{
    size_t common = len_a < len_b ? len_a : len_b;
    int c = common == 0 ? 0 : memcmp(a, b, common);

    return c != 0 ? c : sign((int64_t)len_a, (int64_t)len_b);
}

struct text {
    const char *s;
    size_t len;
};

static struct text
text_of(const bson_value_t *v)
{
    switch (v->value_type) {
    case BSON_TYPE_SYMBOL:
        return (struct text){v->value.v_symbol.symbol, v->value.v_symbol.len};
    case BSON_TYPE_CODE:
        return (struct text){v->value.v_code.code, v->value.v_code.code_len};
    case BSON_TYPE_CODEWSCOPE:
        return (struct text){v->value.v_codewscope.code,
                             v->value.v_codewscope.code_len};
    default:
        return (struct text){v->value.v_utf8.str, v->value.v_utf8.len};
    }
}

static int
compare_text(const bson_value_t *a, const bson_value_t *b)
{
    struct text x = text_of(a), y = text_of(b);

    return compare_bytes(x.s, x.len, y.s, y.len);
}

static int
compare_binary(const bson_value_t *a, const bson_value_t *b)
{
    uint32_t len_a = a->value.v_binary.data_len;
    uint32_t len_b = b->value.v_binary.data_len;

    if (len_a != len_b) {
        return sign(len_a, len_b);
    }
    if (a->value.v_binary.subtype != b->value.v_binary.subtype) {
        return sign(a->value.v_binary.subtype, b->value.v_binary.subtype);
    }
    return compare_bytes(a->value.v_binary.data, len_a, b->value.v_binary.data,
                         len_b);
}

static int
compare_timestamp(const bson_value_t *a, const bson_value_t *b)
{
    int c =
        sign(a->value.v_timestamp.timestamp, b->value.v_timestamp.timestamp);

    return c != 0 ? c
                  : sign(a->value.v_timestamp.increment,
                         b->value.v_timestamp.increment);
}

static int
compare_regex(const bson_value_t *a, const bson_value_t *b)
{
    int c = strcmp(a->value.v_regex.regex, b->value.v_regex.regex);

    return c != 0 ? c
                  : strcmp(a->value.v_regex.options, b->value.v_regex.options);
}

static int
compare_dbpointer(const bson_value_t *a, const bson_value_t *b)
{
    int c = compare_bytes(
        a->value.v_dbpointer.collection, a->value.v_dbpointer.collection_len,
        b->value.v_dbpointer.collection, b->value.v_dbpointer.collection_len);

    return c != 0 ? c
                  : bson_oid_compare(&a->value.v_dbpointer.oid,
                                     &b->value.v_dbpointer.oid);
}

/* Field by field: class, then name (objects only), then value. */
static int
compare_iters(bson_iter_t *x, bson_iter_t *y, bool named)
{
    for (;;) {
        bool more_x = bson_iter_next(x), more_y = bson_iter_next(y);
        bson_value_t a, b;
        int c;

        if (!more_x || !more_y) {
            return (int)more_x - (int)more_y;
        }
        a = lev_value_of(x);
        b = lev_value_of(y);
        c = sign(lev_value_class(a.value_type), lev_value_class(b.value_type));
        if (c == 0 && named) {
            c = strcmp(bson_iter_key(x), bson_iter_key(y));
        }
        if (c == 0) {
            c = lev_value_compare(&a, &b);
        }
        if (c != 0) {
            return c;
        }
    }
}

static int
compare_nested(const bson_value_t *a, const bson_value_t *b)
{
    bson_iter_t x, y;

    if (!lev_value_iter(a, &x) || !lev_value_iter(b, &y)) {
        return compare_bytes(a->value.v_doc.data, a->value.v_doc.data_len,
                             b->value.v_doc.data, b->value.v_doc.data_len);
    }
    return compare_iters(&x, &y, a->value_type == BSON_TYPE_DOCUMENT);
}

static int
compare_codewscope(const bson_value_t *a, const bson_value_t *b)
{
    int c = compare_text(a, b);
    bson_iter_t x, y;

    if (c != 0 ||
        !bson_iter_init_from_data(&x, a->value.v_codewscope.scope_data,
                                  a->value.v_codewscope.scope_len) ||
        !bson_iter_init_from_data(&y, b->value.v_codewscope.scope_data,
                                  b->value.v_codewscope.scope_len))
    {
        return c;
    }
    return compare_iters(&x, &y, true);
}

/* Both of the class of `a`. */
static int
compare_within(const bson_value_t *a, const bson_value_t *b)
{
    switch (a->value_type) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
        return lev_number_compare(a, b);
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_CODE:
        return compare_text(a, b);
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        return compare_nested(a, b);
    case BSON_TYPE_BINARY:
        return compare_binary(a, b);
    case BSON_TYPE_OID:
        return bson_oid_compare(&a->value.v_oid, &b->value.v_oid);
    case BSON_TYPE_BOOL:
        return (int)a->value.v_bool - (int)b->value.v_bool;
    case BSON_TYPE_DATE_TIME:
        return sign(a->value.v_datetime, b->value.v_datetime);
    case BSON_TYPE_TIMESTAMP:
        return compare_timestamp(a, b);
    case BSON_TYPE_REGEX:
        return compare_regex(a, b);
    case BSON_TYPE_DBPOINTER:
        return compare_dbpointer(a, b);
    case BSON_TYPE_CODEWSCOPE:
        return compare_codewscope(a, b);
    default: /* missing, undefined, null, MinKey, MaxKey: all alike */
        return 0;
    }
}

int
lev_value_compare(const bson_value_t *a, const bson_value_t *b)
{
    int c =
        sign(lev_value_class(a->value_type), lev_value_class(b->value_type));

    return c != 0 ? c : compare_within(a, b);
}

bool
lev_value_equal(const bson_value_t *a, const bson_value_t *b)
{
    return lev_value_compare(a, b) == 0;
}

/* What libbson's iterators let pass, but its appending functions do not: they
 * fail, complain on stderr or abort. */
static bool
is_whole(const uint8_t *data, uint32_t len, bool array)
{
    bson_iter_t it;

    if (len < 5 || data[len - 1] != '\0' ||
        !bson_iter_init_from_data(&it, data, len))
    {
        return false;
    }
    return !array || !bson_iter_next(&it) ||
           strcmp(bson_iter_key(&it), "0") == 0;
}

/* The document below the iterator; false where there is none. */
static bool
below_of(const bson_iter_t *it, const uint8_t **data, uint32_t *len)
{
    uint32_t ignored;

    switch (bson_iter_type(it)) {
    case BSON_TYPE_DOCUMENT:
        bson_iter_document(it, len, data);
        return true;
    case BSON_TYPE_ARRAY:
        bson_iter_array(it, len, data);
        return true;
    case BSON_TYPE_CODEWSCOPE:
        bson_iter_codewscope(it, &ignored, len, data);
        return true;
    default:
        return false;
    }
}

static int
check_below(bson_iter_t *it, int depth, struct lev_error *err)
{
    while (bson_iter_next(it)) {
        const uint8_t *data;
        uint32_t len;
        bson_iter_t below;

        if (!below_of(it, &data, &len)) {
            continue;
        }
        if (depth == LEV_VALUE_MAX_DEPTH) {
            return lev_error_set(err, LEV_E_QUERY, 15,
                                 "'%s' lies deeper than %d levels",
                                 bson_iter_key(it), LEV_VALUE_MAX_DEPTH);
        }
        if (!is_whole(data, len, BSON_ITER_HOLDS_ARRAY(it))) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "'%s' holds damaged BSON", bson_iter_key(it));
        }
        bson_iter_init_from_data(&below, data, len);
        if (check_below(&below, depth + 1, err) < 0) {
            return -1;
        }
    }
    if (it->err_off != 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "damaged BSON at byte %u of a document",
                             it->err_off);
    }
    return 0;
}

void
lev_value_append_element(bson_t *array, uint32_t n, const bson_value_t *v)
{
    char text[16];
    const char *key;
    size_t len = bson_uint32_to_string(n, &key, text, sizeof(text));

    bson_append_value(array, key, (int)len, v);
}

void
lev_value_copy_except(const bson_t *doc, const char *key, bson_t *out)
{
    bson_iter_t it;

    for (bool ok = bson_iter_init(&it, doc); ok && bson_iter_next(&it);) {
        if (strcmp(bson_iter_key(&it), key) != 0) {
            bson_append_iter(out, bson_iter_key(&it),
                             (int)bson_iter_key_len(&it), &it);
        }
    }
}

/* What a value of that type takes at `p`, of at most `left` bytes: SIZE_MAX
 * where that is not seen at a glance. Documents and arrays: their length. */
static size_t
size_at_a_glance(uint8_t type, const uint8_t *p, size_t left)
{
    uint32_t len = 0;

    if (left >= sizeof(len)) {
        memcpy(&len, p, sizeof(len));
        len = BSON_UINT32_FROM_LE(len);
    }
    switch (type) {
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DATE_TIME:
    case BSON_TYPE_TIMESTAMP:
    case BSON_TYPE_INT64:
        return 8;
    case BSON_TYPE_INT32:
        return 4;
    case BSON_TYPE_OID:
        return 12;
    case BSON_TYPE_DECIMAL128:
        return 16;
    case BSON_TYPE_NULL:
    case BSON_TYPE_MINKEY:
    case BSON_TYPE_MAXKEY:
        return 0;
    case BSON_TYPE_BOOL:
        return left > 0 && *p <= 1 ? 1 : SIZE_MAX;
    case BSON_TYPE_UTF8:
        return left > 4 && len > 0 && len <= left - 4 && p[3 + len] == '\0'
                   ? 4 + (size_t)len
                   : SIZE_MAX;
    case BSON_TYPE_BINARY:
        return left > 5 && len <= left - 5 &&
                       p[4] != BSON_SUBTYPE_BINARY_DEPRECATED
                   ? 5 + (size_t)len
                   : SIZE_MAX;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        return len;
    default: /* the rare ones */
        return SIZE_MAX;
    }
}

/* True of most sound documents and of no other: a look at the bytes takes a
 * tenth of what libbson's iterators take, and each write has two documents to
 * be checked, one of them on the one thread that writes. */
static bool
is_sound_at_a_glance(const uint8_t *data, size_t len, bool array, int depth)
{
    const uint8_t *p = data + 4, *end = data + len - 1;

    if (len < 5 || len > INT32_MAX || *end != '\0' ||
        size_at_a_glance(BSON_TYPE_DOCUMENT, data, len) != len)
    {
        return false;
    }
    for (bool first = true; p < end; first = false) {
        uint8_t type = *p++;
        const uint8_t *key = p;
        size_t size;

        p = memchr(p, '\0', (size_t)(end - p));
        if (p == NULL ||
            (array && first && strcmp((const char *)key, "0") != 0)) {
            return false;
        }
        p++;
        size = size_at_a_glance(type, p, (size_t)(end - p));
        if (size > (size_t)(end - p) ||
            ((type == BSON_TYPE_DOCUMENT || type == BSON_TYPE_ARRAY) &&
             (depth == LEV_VALUE_MAX_DEPTH ||
              !is_sound_at_a_glance(p, size, type == BSON_TYPE_ARRAY,
                                    depth + 1))))
        {
            return false;
        }
        p += size;
    }
    return true;
}

int
lev_value_check(const bson_t *doc, struct lev_error *err)
{
    bson_iter_t it;

    if (is_sound_at_a_glance(bson_get_data(doc), doc->len, false, 1)) {
        return 0;
    }
    if (!bson_iter_init(&it, doc)) {
        return lev_error_set(err, LEV_E_INVALID, 0, "not a BSON document");
    }
    return check_below(&it, 1, err);
}
