/* text.c - str as BSON's strings, NUL-terminated strings and keys. */

#include "encoder.h"

#define LONE_SURROGATE (-2)

/* The bytes `len` characters take in UTF-8; -1: a lone surrogate. `kind` is a
 * constant in each use: the compiler makes three tight loops of it. */
static inline __attribute__((always_inline)) Py_ssize_t
utf8_size(int kind, const void *data, Py_ssize_t len)
{
    Py_ssize_t size = len;

    for (Py_ssize_t i = 0; i < len; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);

        if (kind != PyUnicode_1BYTE_KIND && Py_UNICODE_IS_SURROGATE(c)) {
            return -1;
        }
        size += (c >= 0x80) + (c >= 0x800) + (c >= 0x10000);
    }
    return size;
}

static inline __attribute__((always_inline)) void
utf8_write(uint8_t *p, int kind, const void *data, Py_ssize_t len)
{
    for (Py_ssize_t i = 0; i < len; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);

        if (c < 0x80) {
            *p++ = (uint8_t)c;
        }
        else if (c < 0x800) {
            *p++ = (uint8_t)(0xc0 | c >> 6);
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else if (c < 0x10000) {
            *p++ = (uint8_t)(0xe0 | c >> 12);
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else {
            *p++ = (uint8_t)(0xf0 | c >> 18);
            *p++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
    }
}

static int
ready(PyObject *text)
{
#if PY_VERSION_HEX < 0x030c0000
    return PyUnicode_READY(text); /* strings of the old C API */
#else
    (void)text;
    return 0;
#endif
}

static Py_ssize_t
text_size(PyObject *text)
{
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t len = PyUnicode_GET_LENGTH(text);

    if (PyUnicode_IS_ASCII(text)) {
        return len;
    }
    switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
        return utf8_size(PyUnicode_1BYTE_KIND, data, len);
    case PyUnicode_2BYTE_KIND:
        return utf8_size(PyUnicode_2BYTE_KIND, data, len);
    default:
        return utf8_size(PyUnicode_4BYTE_KIND, data, len);
    }
}

static void
text_write(uint8_t *p, PyObject *text)
{
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t len = PyUnicode_GET_LENGTH(text);

    if (PyUnicode_IS_ASCII(text)) {
        memcpy(p, data, (size_t)len);
        return;
    }
    switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
        utf8_write(p, PyUnicode_1BYTE_KIND, data, len);
        break;
    case PyUnicode_2BYTE_KIND:
        utf8_write(p, PyUnicode_2BYTE_KIND, data, len);
        break;
    default:
        utf8_write(p, PyUnicode_4BYTE_KIND, data, len);
        break;
    }
}

/* Append `text` in UTF-8 and a NUL: the bytes without the NUL; LONE_SURROGATE
 * without an exception; or -1 with one. */
static Py_ssize_t
put_utf8(struct encoder *e, PyObject *text)
{
    Py_ssize_t size;
    uint8_t *p;

    if (ready(text) < 0) {
        return -1;
    }
    size = text_size(text);
    if (size < 0) {
        return LONE_SURROGATE;
    }
    p = reserve(e, (size_t)size + 1);
    if (p == NULL) {
        return -1;
    }
    text_write(p, text);
    p[size] = '\0';
    e->out->len += (size_t)size + 1;
    return size;
}

static int
refuse_surrogate(struct encoder *e, PyObject *text)
{
    Py_ssize_t i = 0;

    while (!Py_UNICODE_IS_SURROGATE(PyUnicode_READ_CHAR(text, i))) {
        i++;
    }
    return levbson_refuse(e, PyExc_ValueError,
                          "the str has the lone surrogate \\u%x at index %zd, "
                          "which UTF-8 cannot hold; store bytes, or decode "
                          "with errors='replace'",
                          (int)PyUnicode_READ_CHAR(text, i), i);
}

int
levbson_put_str(struct encoder *e, PyObject *text)
{
    size_t start = e->out->len;
    Py_ssize_t size;

    if (reserve(e, 4) == NULL) {
        return -1;
    }
    e->out->len += 4;
    size = put_utf8(e, text);
    if (size < 0) {
        return size == LONE_SURROGATE ? refuse_surrogate(e, text) : -1;
    }
    set_le32(e->out->data + start, (uint32_t)size + 1);
    return BSON_STRING;
}

int
levbson_put_cstring(struct encoder *e, PyObject *text, const char *what)
{
    size_t start = e->out->len;
    Py_ssize_t size = put_utf8(e, text);

    if (size < 0) {
        return size == LONE_SURROGATE ? refuse_surrogate(e, text) : -1;
    }
    if (memchr(e->out->data + start, '\0', (size_t)size) != NULL) {
        return levbson_refuse(e, PyExc_ValueError,
                              "%s has a NUL character, which BSON cannot hold",
                              what);
    }
    return 0;
}

static int
refuse_key(struct encoder *e, PyObject *key, bool is_enum)
{
    _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(key));

    if (name == NULL) {
        return -1;
    }
    return levbson_refuse(e, PyExc_TypeError,
                          is_enum ? "a key must be str, not the enum %U; use "
                                    "its .value"
                                  : "a key must be str, not %U; use str(key)",
                          name);
}

int
levbson_put_odd_key(struct encoder *e, PyObject *key,
                    struct levbson_path *path)
{
    size_t start = e->out->len + 1;
    Py_ssize_t size;

    /* While it is looked at, the path is the container's. */
    e->path = path->up;
    if (!PyUnicode_CheckExact(key)) {
        int is_enum = levbson_is_enum(e->st, key);

        if (is_enum < 0) {
            return -1;
        }
        if (is_enum || !PyUnicode_Check(key)) {
            return refuse_key(e, key, is_enum);
        }
    }
    if (reserve(e, 1) == NULL) {
        return -1;
    }
    e->out->len++; /* the type comes later */
    size = put_utf8(e, key);
    if (size == LONE_SURROGATE) {
        return levbson_refuse(e, PyExc_ValueError,
                              "the key %A has a lone surrogate, which UTF-8 "
                              "cannot hold",
                              key);
    }
    if (size < 0) {
        return -1;
    }
    if (memchr(e->out->data + start, '\0', (size_t)size) != NULL) {
        return levbson_refuse(e, PyExc_ValueError,
                              "the key %A has a NUL character, which BSON "
                              "cannot hold",
                              key);
    }
    path->key = start;
    path->keylen = (size_t)size;
    e->path = path;
    return 0;
}
