/* encode_rare.c - values of types that other modules define, and subclasses of
 * the plain types. */

#include "encoder.h"

/* collections.abc sets this flag on every class that inherits from Mapping or
 * is registered with it, for `match`: no need to import it. */
bool
levbson_is_mapping(PyObject *value)
{
    return PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_MAPPING);
}

int
levbson_is_enum(struct levbson_state *st, PyObject *value)
{
    return levbson_is_instance(value, &st->enum_type, st->mod_enum, "Enum");
}

static int
refuse_attr(struct encoder *e, PyObject *value, PyObject *attr,
            const char *wanted)
{
    _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(value));

    if (name == NULL) {
        return -1;
    }
    return levbson_refuse(e, PyExc_TypeError, "%U.%U must be %s", name, attr,
                          wanted);
}

/* The attribute, checked to be of a type: what it is read from may have been
 * made by somebody else's subclass. */
static PyObject *
get_attr(struct encoder *e, PyObject *value, PyObject *attr,
         PyTypeObject *type)
{
    PyObject *got = PyObject_GetAttr(value, attr);

    if (got != NULL && !PyObject_TypeCheck(got, type)) {
        refuse_attr(e, value, attr, type->tp_name);
        Py_CLEAR(got);
    }
    return got;
}

/* An int attribute in 0 … max. */
static int
get_unsigned(struct encoder *e, PyObject *value, PyObject *attr, uint32_t max,
             uint32_t *n)
{
    _cleanup_pydecref_ PyObject *got = get_attr(e, value, attr, &PyLong_Type);
    long long wide;
    int overflow;

    if (got == NULL) {
        return -1;
    }
    wide = PyLong_AsLongLongAndOverflow(got, &overflow);
    if (overflow != 0 || wide < 0 || wide > max) {
        return refuse_attr(e, value, attr, "in its range");
    }
    *n = (uint32_t)wide;
    return 0;
}

static int
put_uuid(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *data =
        get_attr(e, value, e->st->str_bytes, &PyBytes_Type);

    if (data == NULL) {
        return -1;
    }
    return levbson_put_binary(e, PyBytes_AS_STRING(data),
                              PyBytes_GET_SIZE(data), BSON_SUBTYPE_UUID);
}

static int
put_bid(struct encoder *e, const uint8_t bid[BSON_DECIMAL128_LEN])
{
    uint8_t *p = reserve(e, BSON_DECIMAL128_LEN);

    if (p == NULL) {
        return -1;
    }
    memcpy(p, bid, BSON_DECIMAL128_LEN);
    e->out->len += BSON_DECIMAL128_LEN;
    return BSON_DECIMAL128;
}

static int
put_decimal(struct encoder *e, PyObject *value)
{
    uint8_t bid[BSON_DECIMAL128_LEN];
    int rc = levbson_decimal_get(e->st, value, bid);

    if (rc == 0) {
        return levbson_refuse(
            e, PyExc_ValueError,
            "the Decimal has more than the 34 digits, or an exponent beyond "
            "the -6176 to 6111, of Decimal128; round it or store str(value)");
    }
    return rc < 0 ? -1 : put_bid(e, bid);
}

/* re's flags as options, in BSON's (alphabetical) order. */
static int
put_options(struct encoder *e, long flags)
{
    static const struct {
        long flag;
        char option;
    } options[] = {
        {2, 'i'}, {4, 'l'}, {8, 'm'}, {16, 's'}, {32, 'u'}, {64, 'x'},
    };
    const size_t n = sizeof(options) / sizeof(options[0]);
    uint8_t *p = reserve(e, n + 1);

    if (p == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (flags & options[i].flag) {
            *p++ = (uint8_t)options[i].option;
        }
    }
    *p++ = '\0';
    e->out->len = (size_t)(p - e->out->data);
    return BSON_REGEX;
}

static int
put_pattern(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *pattern =
        PyObject_GetAttr(value, e->st->str_pattern);
    _cleanup_pydecref_ PyObject *flags =
        get_attr(e, value, e->st->str_flags, &PyLong_Type);

    if (pattern == NULL || flags == NULL) {
        return -1;
    }
    if (!PyUnicode_Check(pattern)) {
        return levbson_refuse(e, PyExc_TypeError,
                              "a regular expression over bytes has no BSON "
                              "type; compile it from str");
    }
    if (levbson_put_cstring(e, pattern, "the pattern") < 0) {
        return -1;
    }
    return put_options(e, PyLong_AsLong(flags));
}

/* levrt.bson's classes */

static int
put_binary_class(struct encoder *e, PyObject *value)
{
    uint32_t subtype;

    if (get_unsigned(e, value, e->st->str_subtype, 0xff, &subtype) < 0) {
        return -1;
    }
    return levbson_put_binary(e, PyBytes_AS_STRING(value),
                              PyBytes_GET_SIZE(value), (uint8_t)subtype);
}

static int
put_timestamp(struct encoder *e, PyObject *value)
{
    uint32_t seconds, inc;

    if (get_unsigned(e, value, e->st->str_time, UINT32_MAX, &seconds) < 0 ||
        get_unsigned(e, value, e->st->str_inc, UINT32_MAX, &inc) < 0)
    {
        return -1;
    }
    return levbson_put_int64(e, (int64_t)((uint64_t)seconds << 32 | inc),
                             BSON_TIMESTAMP);
}

static int
put_int_as(struct encoder *e, PyObject *number, enum bson_type type)
{
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(number, &overflow);

    if (overflow != 0) {
        return levbson_refuse(e, PyExc_OverflowError,
                              "the int is beyond int64; store it as str or "
                              "decimal.Decimal");
    }
    return levbson_put_int64(e, n, type);
}

static int
put_datetime_ms(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *ms =
        get_attr(e, value, e->st->str_ms, &PyLong_Type);

    return ms == NULL ? -1 : put_int_as(e, ms, BSON_DATETIME);
}

static int
put_decimal_class(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *bid =
        get_attr(e, value, e->st->str_bid, &PyBytes_Type);

    if (bid == NULL) {
        return -1;
    }
    if (PyBytes_GET_SIZE(bid) != BSON_DECIMAL128_LEN) {
        return refuse_attr(e, value, e->st->str_bid, "16 bytes");
    }
    return put_bid(e, (const uint8_t *)PyBytes_AS_STRING(bid));
}

static int
put_regex_class(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *pattern =
        get_attr(e, value, e->st->str_pattern, &PyUnicode_Type);
    _cleanup_pydecref_ PyObject *flags =
        pattern == NULL
            ? NULL
            : get_attr(e, value, e->st->str_flags, &PyUnicode_Type);

    if (flags == NULL || levbson_put_cstring(e, pattern, "the pattern") < 0 ||
        levbson_put_cstring(e, flags, "the flags") < 0)
    {
        return -1;
    }
    return BSON_REGEX;
}

/* A str attribute as a BSON string. */
static int
put_text_attr(struct encoder *e, PyObject *value, PyObject *attr)
{
    _cleanup_pydecref_ PyObject *text =
        get_attr(e, value, attr, &PyUnicode_Type);

    return text == NULL ? -1 : levbson_put_str(e, text);
}

static int
put_symbol(struct encoder *e, PyObject *value)
{
    return put_text_attr(e, value, e->st->str_value) < 0 ? -1 : BSON_SYMBOL;
}

static int
put_code(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *scope =
        PyObject_GetAttr(value, e->st->str_scope);
    size_t start = e->out->len;

    if (scope == NULL) {
        return -1;
    }
    if (scope == Py_None) {
        return put_text_attr(e, value, e->st->str_code) < 0 ? -1 : BSON_CODE;
    }
    if (!levbson_is_mapping(scope)) {
        return refuse_attr(e, value, e->st->str_scope, "a Mapping or None");
    }
    if (reserve(e, 4) == NULL) {
        return -1;
    }
    e->out->len += 4;
    if (put_text_attr(e, value, e->st->str_code) < 0 ||
        levbson_put_mapping(e, scope) < 0)
    {
        return -1;
    }
    set_le32(e->out->data + start, (uint32_t)(e->out->len - start));
    return BSON_CODE_SCOPE;
}

static int
put_dbpointer(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *id = PyObject_GetAttr(value, e->st->str_id);
    uint8_t oid[LEVBSON_OID_LEN];
    int rc = id == NULL ? -1 : levbson_oid_get(e->st, id, oid);

    if (rc == 0) {
        return refuse_attr(e, value, e->st->str_id, "an ObjectId");
    }
    if (rc < 0 || put_text_attr(e, value, e->st->str_namespace) < 0 ||
        levbson_put_oid(e, oid) < 0)
    {
        return -1;
    }
    return BSON_DBPOINTER;
}

/* levrt.bson._KINDS, class -> BSON type, into st->kinds. 1: it is there; 0:
 * levrt.bson is not loaded; -1: exception. */
static int
find_kinds(struct levbson_state *st)
{
    _cleanup_pydecref_ PyObject *module = NULL, *kinds = NULL;
    int rc;

    if (st->kinds != NULL) {
        return 1;
    }
    module = PyImport_GetModule(st->mod_levbson);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    rc = levbson_lookup(module, "_KINDS", &kinds);
    if (rc > 0 && PyDict_Check(kinds)) {
        st->kinds = lev_steal(kinds);
        return 1;
    }
    return rc < 0 ? -1 : 0;
}

static int
put_kind(struct encoder *e, PyObject *value, long kind)
{
    switch (kind) {
    case BSON_BINARY:
        return put_binary_class(e, value);
    case BSON_DATETIME:
        return put_datetime_ms(e, value);
    case BSON_REGEX:
        return put_regex_class(e, value);
    case BSON_DBPOINTER:
        return put_dbpointer(e, value);
    case BSON_CODE:
        return put_code(e, value);
    case BSON_SYMBOL:
        return put_symbol(e, value);
    case BSON_TIMESTAMP:
        return put_timestamp(e, value);
    case BSON_INT64:
        return put_int_as(e, value, BSON_INT64);
    case BSON_DECIMAL128:
        return put_decimal_class(e, value);
    case BSON_UNDEFINED:
    case BSON_MINKEY:
    case BSON_MAXKEY:
        return (int)kind;
    default:
        PyErr_SetString(PyExc_SystemError, "levrt.bson._KINDS is damaged");
        return -1;
    }
}

/* Puts a value of levrt.bson's classes; 0: it is none of them. */
static int
put_levbson(struct encoder *e, PyObject *value)
{
    int rc = find_kinds(e->st);
    PyObject *kind;

    if (rc <= 0) {
        return rc;
    }
    kind = PyDict_GetItemWithError(e->st->kinds, (PyObject *)Py_TYPE(value));
    if (kind == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return put_kind(e, value, PyLong_AsLong(kind));
}

/* What lies in memory: bytes and its subclasses, bytearray, memoryview. */
static int
put_buffer(struct encoder *e, PyObject *value)
{
    Py_buffer view;
    int type;

    if (PyObject_GetBuffer(value, &view, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    if (PyBuffer_IsContiguous(&view, 'C')) {
        type = levbson_put_binary(e, view.buf, view.len, BSON_SUBTYPE_GENERIC);
    }
    else {
        /* A slice with a step: through a copy. */
        _cleanup_pydecref_ PyObject *copy =
            PyBytes_FromStringAndSize(NULL, view.len);

        type = copy == NULL || PyBuffer_ToContiguous(PyBytes_AS_STRING(copy),
                                                     &view, view.len, 'C') < 0
                   ? -1
                   : levbson_put_binary(e, PyBytes_AS_STRING(copy), view.len,
                                        BSON_SUBTYPE_GENERIC);
    }
    PyBuffer_Release(&view);
    return type;
}

/* Subclasses of the plain types, as what they inherit from. */
static int
put_inherited(struct encoder *e, PyObject *value)
{
    uint8_t oid[LEVBSON_OID_LEN];
    int rc;

    if (PyUnicode_Check(value)) {
        return levbson_put_str(e, value);
    }
    if (PyLong_Check(value)) {
        return levbson_put_int(e, value);
    }
    if (PyFloat_Check(value)) {
        return levbson_put_float(e, PyFloat_AS_DOUBLE(value));
    }
    if (PyBytes_Check(value) || PyByteArray_Check(value) ||
        PyMemoryView_Check(value))
    {
        return put_buffer(e, value);
    }
    if (levbson_is_mapping(value)) {
        return levbson_put_mapping(e, value);
    }
    if (PyList_Check(value) || PyTuple_Check(value)) {
        return levbson_put_sequence(e, value);
    }
    rc = levbson_oid_get(e->st, value, oid);
    if (rc > 0) {
        return levbson_put_oid(e, oid);
    }
    return rc < 0 ? -1 : levbson_refuse_type(e, value);
}

/* Puts a value of another module's class; 0: it is none of them. */
static int
put_foreign(struct encoder *e, PyObject *value)
{
    struct levbson_state *st = e->st;
    int rc;

    rc = levbson_is_instance(value, &st->uuid_type, st->mod_uuid, "UUID");
    if (rc != 0) {
        return rc < 0 ? -1 : put_uuid(e, value);
    }
    rc = levbson_is_instance(value, &st->decimal_type, st->mod_decimal,
                             "Decimal");
    if (rc != 0) {
        return rc < 0 ? -1 : put_decimal(e, value);
    }
    rc = levbson_is_instance(value, &st->pattern_type, st->mod_re, "Pattern");
    if (rc != 0) {
        return rc < 0 ? -1 : put_pattern(e, value);
    }
    rc = levbson_is_enum(st, value);
    if (rc != 0) {
        return rc < 0 ? -1 : levbson_refuse_type(e, value);
    }
    return 0;
}

int
levbson_put_rare(struct encoder *e, PyObject *value)
{
    int64_t ms;
    int rc = levbson_datetime_get(e->st, value, &ms);

    if (rc != 0) {
        return rc < 0 ? -1 : levbson_put_int64(e, ms, BSON_DATETIME);
    }
    rc = put_levbson(e, value);
    if (rc == 0) {
        rc = put_foreign(e, value);
    }
    return rc != 0 ? rc : put_inherited(e, value);
}
