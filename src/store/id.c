#include "id.h"

#include <math.h>
#include <string.h>

#include "number.h"
#include "value.h"

int
lev_id_check(const bson_value_t *id, struct lev_error *err)
{
    switch (id->value_type) {
    case BSON_TYPE_ARRAY:
    case BSON_TYPE_REGEX:
    case BSON_TYPE_UNDEFINED:
        return lev_error_set(err, LEV_E_QUERY, 53,
                             "_id: %s cannot be the identity of a document",
                             lev_value_type_name(id->value_type));
    default:
        return 0;
    }
}

int
lev_id_complete(const bson_t *doc, bson_t *out, struct lev_error *err)
{
    bson_value_t id = lev_value_field(doc, "_id");
    bson_oid_t oid;

    if (lev_id_check(&id, err) < 0) {
        return -1;
    }
    if (id.value_type == BSON_TYPE_EOD) {
        bson_oid_init(&oid, NULL);
        bson_append_oid(out, "_id", 3, &oid);
        bson_concat(out, doc);
        return 0;
    }
    bson_append_value(out, "_id", 3, &id);
    lev_value_copy_except(doc, "_id", out);
    return 0;
}

/* Keys: the class as one byte, then what tells values of the class apart.
 * They are kept in files, so numbers are little-endian everywhere. */

static void
put_u32(struct lev_buf *out, uint32_t n)
{
    n = BSON_UINT32_TO_LE(n);
    lev_buf_append(out, &n, sizeof(n));
}

static void
put_u64(struct lev_buf *out, uint64_t n)
{
    n = BSON_UINT64_TO_LE(n);
    lev_buf_append(out, &n, sizeof(n));
}

static void
put_bytes(struct lev_buf *out, const void *data, uint32_t len)
{
    put_u32(out, len);
    lev_buf_append(out, data, len);
}

/* A decimal that is neither a whole int64 nor a double: digits without
 * trailing zeros and their exponent. */
static void
put_decimal(struct lev_buf *out, const bson_decimal128_t *v)
{
    struct lev_decimal d;

    lev_decimal_split(v, &d);
    while (d.coef != 0 && d.coef % 10 == 0) {
        d.coef /= 10;
        d.exp++;
    }
    lev_buf_putc(out, d.negative ? '-' : '+');
    put_u32(out, (uint32_t)d.exp);
    put_u64(out, (uint64_t)d.coef);
    put_u64(out, (uint64_t)(d.coef >> 64));
}

/* Every number has one form, whatever its type: the first of int64, double,
 * decimal that holds it exactly. */
static void
put_number(struct lev_buf *out, const bson_value_t *v)
{
    bson_value_t d = {.value_type = BSON_TYPE_DOUBLE};
    uint64_t bits;
    int64_t whole;

    if (lev_number_whole(v, &whole)) {
        lev_buf_putc(out, 'i');
        put_u64(out, (uint64_t)whole);
        return;
    }
    d.value.v_double = lev_number_is_nan(v) ? NAN : lev_number_double(v);
    if (lev_number_compare(v, &d) == 0) {
        lev_buf_putc(out, 'd');
        memcpy(&bits, &d.value.v_double, sizeof(bits));
        put_u64(out, bits);
        return;
    }
    lev_buf_putc(out, 'm');
    put_decimal(out, &v->value.v_decimal128);
}

static void put_value(struct lev_buf *out, const bson_value_t *v);

static void
put_fields(struct lev_buf *out, bson_iter_t *it, bool named)
{
    while (bson_iter_next(it)) {
        bson_value_t v = lev_value_of(it);

        if (named) {
            put_bytes(out, bson_iter_key(it), bson_iter_key_len(it));
        }
        put_value(out, &v);
    }
    lev_buf_putc(out, (char)0xff); /* no class */
}

static void
put_scope(struct lev_buf *out, const bson_value_t *v)
{
    bson_iter_t it;

    put_bytes(out, v->value.v_codewscope.code, v->value.v_codewscope.code_len);
    if (bson_iter_init_from_data(&it, v->value.v_codewscope.scope_data,
                                 v->value.v_codewscope.scope_len))
    {
        put_fields(out, &it, true);
    }
}

static void
put_value(struct lev_buf *out, const bson_value_t *v)
{
    bson_iter_t it;

    /* MinKey's class is -1; 0xfe keeps it apart from the end of a list. */
    lev_buf_putc(out, v->value_type == BSON_TYPE_MINKEY
                          ? (char)0xfe
                          : (char)lev_value_class(v->value_type));
    switch (v->value_type) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
        put_number(out, v);
        break;
    case BSON_TYPE_UTF8:
        put_bytes(out, v->value.v_utf8.str, v->value.v_utf8.len);
        break;
    case BSON_TYPE_SYMBOL:
        put_bytes(out, v->value.v_symbol.symbol, v->value.v_symbol.len);
        break;
    case BSON_TYPE_CODE:
        put_bytes(out, v->value.v_code.code, v->value.v_code.code_len);
        break;
    case BSON_TYPE_CODEWSCOPE:
        put_scope(out, v);
        break;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        if (lev_value_iter(v, &it)) {
            put_fields(out, &it, v->value_type == BSON_TYPE_DOCUMENT);
        }
        break;
    case BSON_TYPE_BINARY:
        lev_buf_putc(out, (char)v->value.v_binary.subtype);
        put_bytes(out, v->value.v_binary.data, v->value.v_binary.data_len);
        break;
    case BSON_TYPE_OID:
        lev_buf_append(out, &v->value.v_oid, sizeof(v->value.v_oid));
        break;
    case BSON_TYPE_BOOL:
        lev_buf_putc(out, v->value.v_bool);
        break;
    case BSON_TYPE_DATE_TIME:
        put_u64(out, (uint64_t)v->value.v_datetime);
        break;
    case BSON_TYPE_TIMESTAMP:
        put_u32(out, v->value.v_timestamp.timestamp);
        put_u32(out, v->value.v_timestamp.increment);
        break;
    case BSON_TYPE_REGEX:
        put_bytes(out, v->value.v_regex.regex,
                  (uint32_t)strlen(v->value.v_regex.regex));
        put_bytes(out, v->value.v_regex.options,
                  (uint32_t)strlen(v->value.v_regex.options));
        break;
    case BSON_TYPE_DBPOINTER:
        put_bytes(out, v->value.v_dbpointer.collection,
                  v->value.v_dbpointer.collection_len);
        lev_buf_append(out, &v->value.v_dbpointer.oid, sizeof(bson_oid_t));
        break;
    default: /* null, MinKey, MaxKey: the class says it all */
        break;
    }
}

int
lev_id_key(const bson_value_t *id, struct lev_buf *out, struct lev_error *err)
{
    put_value(out, id);
    return lev_buf_check(out, "_id", err);
}
