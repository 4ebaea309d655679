/* encode.c - documents, arrays and the plain types.
 *
 * Each element is written as [type, key, value] with the type byte patched in
 * last, since it is known when the value has been written. Exact dicts are
 * walked by PyDict_Next(), which bears a dict that changes meanwhile as long
 * as we own what it hands out; the change itself is reported. Any other
 * mapping is walked by its items().
 */

#include "encoder.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>

#define FIRST_CAPACITY 512

void
levbson_out_deinit(struct levbson_out *out)
{
    free(out->data);
    *out = (struct levbson_out){0};
}

int
levbson_grow(struct levbson_out *out, size_t more)
{
    size_t cap = out->cap > 0 ? out->cap : FIRST_CAPACITY;
    uint8_t *data;

    if (more > INT32_MAX || out->len + more > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "the document is larger than 2 GiB, which BSON "
                        "cannot hold");
        return -1;
    }
    while (cap - out->len < more) {
        cap *= 2;
    }
    data = realloc(out->data, cap);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    out->data = data;
    out->cap = cap;
    return 0;
}

int
levbson_refuse(struct encoder *e, PyObject *exc, const char *format, ...)
{
    _cleanup_pydecref_ PyObject *text = NULL, *where = NULL;
    va_list ap;

    va_start(ap, format);
    text = PyUnicode_FromFormatV(format, ap);
    va_end(ap);
    if (text == NULL) {
        return -1;
    }
    where = levbson_path_text(e->path, e->out->data);
    if (where != NULL) {
        PyErr_Format(exc, "%U: %U", where, text);
    }
    return -1;
}

/* Plain types */

int
levbson_put_int(struct encoder *e, PyObject *number)
{
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(number, &overflow);

    if (overflow != 0) {
        return levbson_refuse(e, PyExc_OverflowError,
                              "the int is beyond int64; store it as str or "
                              "decimal.Decimal");
    }
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (n < INT32_MIN || n > INT32_MAX) {
        return levbson_put_int64(e, n, BSON_INT64);
    }
    uint8_t *p = reserve(e, 4);

    if (p == NULL) {
        return -1;
    }
    set_le32(p, (uint32_t)n);
    e->out->len += 4;
    return BSON_INT32;
}

int
levbson_put_int64(struct encoder *e, int64_t n, enum bson_type type)
{
    uint8_t *p = reserve(e, 8);

    if (p == NULL) {
        return -1;
    }
    set_le64(p, (uint64_t)n);
    e->out->len += 8;
    return (int)type;
}

int
levbson_put_float(struct encoder *e, double number)
{
    int64_t bits;

    _Static_assert(sizeof(bits) == sizeof(number), "IEEE 754 binary64");
    memcpy(&bits, &number, sizeof(bits));
    return levbson_put_int64(e, bits, BSON_DOUBLE);
}

static int
put_bool(struct encoder *e, bool value)
{
    uint8_t *p = reserve(e, 1);

    if (p == NULL) {
        return -1;
    }
    *p = value;
    e->out->len += 1;
    return BSON_BOOL;
}

int
levbson_put_binary(struct encoder *e, const void *data, Py_ssize_t len,
                   uint8_t subtype)
{
    size_t size = (size_t)len;
    size_t twice = subtype == BSON_SUBTYPE_OLD ? 4 : 0;
    uint8_t *p = reserve(e, size + 5 + twice);

    if (p == NULL) {
        return -1;
    }
    set_le32(p, (uint32_t)(size + twice));
    p[4] = subtype;
    if (twice > 0) {
        set_le32(p + 5, (uint32_t)size);
    }
    memcpy(p + 5 + twice, data, size);
    e->out->len += size + 5 + twice;
    return BSON_BINARY;
}

int
levbson_put_oid(struct encoder *e, const uint8_t oid[LEVBSON_OID_LEN])
{
    uint8_t *p = reserve(e, LEVBSON_OID_LEN);

    if (p == NULL) {
        return -1;
    }
    memcpy(p, oid, LEVBSON_OID_LEN);
    e->out->len += LEVBSON_OID_LEN;
    return BSON_OID;
}

static int
put_own_oid(struct encoder *e, PyObject *value)
{
    uint8_t oid[LEVBSON_OID_LEN];

    if (levbson_oid_get(e->st, value, oid) < 0) {
        return -1;
    }
    return levbson_put_oid(e, oid);
}

int
levbson_put_value(struct encoder *e, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);

    if (type == &PyUnicode_Type) {
        return levbson_put_str(e, value);
    }
    if (type == &PyLong_Type) {
        return levbson_put_int(e, value);
    }
    if (type == &PyDict_Type) {
        return levbson_put_mapping(e, value);
    }
    if (type == &PyList_Type || type == &PyTuple_Type) {
        return levbson_put_sequence(e, value);
    }
    if (type == &PyFloat_Type) {
        return levbson_put_float(e, PyFloat_AS_DOUBLE(value));
    }
    if (value == Py_None) {
        return BSON_NULL;
    }
    if (type == &PyBool_Type) {
        return put_bool(e, value == Py_True);
    }
    if (type == e->st->ObjectIdType) {
        return put_own_oid(e, value);
    }
    if (type == &PyBytes_Type) {
        return levbson_put_binary(e, PyBytes_AS_STRING(value),
                                  PyBytes_GET_SIZE(value),
                                  BSON_SUBTYPE_GENERIC);
    }
    return levbson_put_rare(e, value);
}

/* Containers */

/* Begin a document: the offset of its length, which leave() fills in, or -1.
 */
static inline Py_ssize_t
enter(struct encoder *e)
{
    size_t start = e->out->len;

    if (reserve(e, 4) == NULL) {
        return -1;
    }
    if (e->depth >= LEVBSON_DEPTH_MAX) {
        return levbson_refuse(e, PyExc_ValueError,
                              "nested more than %d levels deep; is it part of "
                              "itself?",
                              LEVBSON_DEPTH_MAX);
    }
    e->depth++;
    e->out->len += 4;
    return (Py_ssize_t)start;
}

static inline int
leave(struct encoder *e, Py_ssize_t start, enum bson_type type)
{
    uint8_t *p = reserve(e, 1);

    if (p == NULL) {
        return -1;
    }
    *p = '\0';
    e->out->len++;
    set_le32(e->out->data + start, (uint32_t)(e->out->len - (size_t)start));
    e->depth--;
    return (int)type;
}

static inline int
put_key(struct encoder *e, PyObject *key, struct levbson_path *path)
{
    if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
        size_t len = (size_t)PyUnicode_GET_LENGTH(key);
        const uint8_t *data = PyUnicode_1BYTE_DATA(key);
        uint8_t *p = reserve(e, len + 2);

        if (p == NULL) {
            return -1;
        }
        if (memchr(data, '\0', len) == NULL) {
            path->key = e->out->len + 1;
            path->keylen = len;
            memcpy(p + 1, data, len + 1); /* its NUL too */
            e->out->len += len + 2;
            return 0;
        }
    }
    return levbson_put_odd_key(e, key, path);
}

static inline int
put_element(struct encoder *e, PyObject *key, PyObject *value,
            struct levbson_path *path)
{
    size_t at = e->out->len;
    int type;

    if (put_key(e, key, path) < 0) {
        return -1;
    }
    type = levbson_put_value(e, value);
    if (type < 0) {
        return -1;
    }
    e->out->data[at] = (uint8_t)type;
    return 0;
}

static int
put_dict_items(struct encoder *e, PyObject *dict, struct levbson_path *path)
{
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    Py_ssize_t pos = 0;
    PyObject *key, *value;

    while (PyDict_Next(dict, &pos, &key, &value)) {
        int rc;

        Py_INCREF(key);
        Py_INCREF(value);
        rc = put_element(e, key, value, path);
        Py_DECREF(value);
        Py_DECREF(key);
        if (rc < 0) {
            return -1;
        }
        if (PyDict_GET_SIZE(dict) != size) {
            e->path = path->up;
            return levbson_refuse(e, PyExc_RuntimeError,
                                  "the dict changed while it was written");
        }
    }
    return 0;
}

static int
refuse_pair(struct encoder *e, PyObject *mapping, PyObject *pair,
            struct levbson_path *path)
{
    _cleanup_pydecref_ PyObject *whose = PyType_GetName(Py_TYPE(mapping));
    _cleanup_pydecref_ PyObject *what = PyType_GetName(Py_TYPE(pair));

    if (whose == NULL || what == NULL) {
        return -1;
    }
    e->path = path->up;
    return levbson_refuse(
        e, PyExc_TypeError,
        "items() of %U must yield (key, value) tuples, not %U", whose, what);
}

static int
put_pair(struct encoder *e, PyObject *mapping, PyObject *pair,
         struct levbson_path *path)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        return refuse_pair(e, mapping, pair, path);
    }
    return put_element(e, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1),
                       path);
}

static int
put_mapping_items(struct encoder *e, PyObject *mapping,
                  struct levbson_path *path)
{
    _cleanup_pydecref_ PyObject *items =
        PyObject_CallMethodNoArgs(mapping, e->st->str_items);
    _cleanup_pydecref_ PyObject *iterator =
        items == NULL ? NULL : PyObject_GetIter(items);
    PyObject *pair;

    if (iterator == NULL) {
        return -1;
    }
    while ((pair = PyIter_Next(iterator)) != NULL) {
        int rc = put_pair(e, mapping, pair, path);

        Py_DECREF(pair);
        if (rc < 0) {
            return -1;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

int
levbson_put_mapping(struct encoder *e, PyObject *mapping)
{
    struct levbson_path path = {.up = e->path, .index = -1};
    Py_ssize_t start = enter(e);
    int rc;

    if (start < 0) {
        return -1;
    }
    e->path = &path;
    rc = PyDict_CheckExact(mapping) ? put_dict_items(e, mapping, &path)
                                    : put_mapping_items(e, mapping, &path);
    e->path = path.up;
    return rc < 0 ? -1 : leave(e, start, BSON_DOCUMENT);
}

/* The keys of an array: "0", "1", …, counted up in decimal. */
struct counter {
    size_t len;
    char text[20];
};

static inline void
count_up(struct counter *c)
{
    size_t i = c->len;

    while (i > 0 && c->text[i - 1] == '9') {
        c->text[--i] = '0';
    }
    if (i > 0) {
        c->text[i - 1]++;
        return;
    }
    memmove(c->text + 1, c->text, c->len++);
    c->text[0] = '1';
}

static inline int
put_item(struct encoder *e, const struct counter *c, PyObject *value)
{
    size_t at = e->out->len;
    uint8_t *p = reserve(e, sizeof(c->text) + 2);
    int type;

    if (p == NULL) {
        return -1;
    }
    memcpy(p + 1, c->text, sizeof(c->text));
    p[1 + c->len] = '\0';
    e->out->len += c->len + 2;
    type = levbson_put_value(e, value);
    if (type < 0) {
        return -1;
    }
    e->out->data[at] = (uint8_t)type;
    return 0;
}

int
levbson_put_sequence(struct encoder *e, PyObject *seq)
{
    struct levbson_path path = {.up = e->path};
    struct counter count = {.len = 1, .text = "0"};
    Py_ssize_t start = enter(e);

    if (start < 0) {
        return -1;
    }
    e->path = &path;
    /* The size is looked at each time: a list may change meanwhile. */
    for (; path.index < PySequence_Fast_GET_SIZE(seq); path.index++) {
        PyObject *value = PySequence_Fast_GET_ITEM(seq, path.index);
        int rc;

        Py_INCREF(value);
        rc = put_item(e, &count, value);
        Py_DECREF(value);
        if (rc < 0) {
            return -1;
        }
        count_up(&count);
    }
    e->path = path.up;
    return leave(e, start, BSON_ARRAY);
}

int
levbson_encode(struct levbson_state *st, PyObject *mapping,
               struct levbson_out *out)
{
    struct encoder e = {.st = st, .out = out};

    if (!levbson_is_mapping(mapping)) {
        _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(mapping));

        if (name != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "a document must be a dict or a Mapping, not %U",
                         name);
        }
        return -1;
    }
    return levbson_put_mapping(&e, mapping) < 0 ? -1 : 0;
}
