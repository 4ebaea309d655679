/* decode_rare.c - values that become objects of another module, imported at
 * that moment. */

#include "decoder.h"

#include <stdlib.h>

static PyObject *
new_uuid(struct decoder *d, const uint8_t *data)
{
    PyTypeObject *type =
        levbson_import_type(&d->st->uuid_type, d->st->mod_uuid, "UUID");
    _cleanup_pydecref_ PyObject *kwargs = NULL, *args = NULL;

    if (type == NULL) {
        return NULL;
    }
    kwargs =
        Py_BuildValue("{s:y#}", "bytes", (const char *)data, (Py_ssize_t)16);
    args = PyTuple_New(0);
    if (kwargs == NULL || args == NULL) {
        return NULL;
    }
    return PyObject_Call((PyObject *)type, args, kwargs);
}

static PyObject *
take_binary(struct decoder *d, struct span *s)
{
    const uint8_t *at = s->p;
    const uint8_t *head = levbson_take(d, s, 5, "binary");
    uint32_t len;

    if (head == NULL) {
        return NULL;
    }
    len = get_le32(head);
    if (len > INT32_MAX || len > span_left(s)) {
        return levbson_invalid(d, at,
                               "the binary has length %d where %zu "
                               "bytes are left",
                               (int)len, span_left(s));
    }
    const uint8_t *data = s->p;
    uint8_t subtype = head[4];

    s->p += len;
    if (subtype == BSON_SUBTYPE_GENERIC) {
        return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)len);
    }
    if (subtype == BSON_SUBTYPE_UUID && len == 16) {
        return new_uuid(d, data);
    }
    if (subtype == BSON_SUBTYPE_OLD) {
        if (len < 4 || get_le32(data) != len - 4) {
            return levbson_invalid(d, at,
                                   "the binary of subtype 2 has two "
                                   "lengths that disagree");
        }
        data += 4;
        len -= 4;
    }
    return levbson_new(d->st, "Binary", "(y#i)", (const char *)data,
                       (Py_ssize_t)len, (int)subtype);
}

/* BSON's options as re's flags; -1: one that re has not. */
static int
flags_of(PyObject *options)
{
    static const char letters[] = "ilmsux";
    int flags = 0;

    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(options); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(options, i);
        const char *found = c > 0 && c < 0x80 ? strchr(letters, (int)c) : NULL;

        if (found == NULL) {
            return -1;
        }
        flags |= 2 << (found - letters);
    }
    return flags;
}

static PyObject *
compile(struct decoder *d, PyObject *pattern, int flags)
{
    _cleanup_pydecref_ PyObject *re = PyImport_Import(d->st->mod_re);

    return re == NULL
               ? NULL
               : PyObject_CallMethod(re, "compile", "Oi", pattern, flags);
}

static PyObject *
take_regex(struct decoder *d, struct span *s)
{
    _cleanup_pydecref_ PyObject *pattern =
        levbson_take_cstring(d, s, "pattern");
    _cleanup_pydecref_ PyObject *options =
        pattern == NULL ? NULL : levbson_take_cstring(d, s, "options");
    int flags = options == NULL ? -1 : flags_of(options);
    PyObject *compiled;

    if (options == NULL) {
        return NULL;
    }
    if (flags >= 0) {
        compiled = compile(d, pattern, flags);
        /* Perl's syntax is not quite Python's; a warning that the program
         * has made an error counts as that too. */
        if (compiled != NULL || !PyErr_ExceptionMatches(PyExc_Exception) ||
            PyErr_ExceptionMatches(PyExc_MemoryError))
        {
            return compiled;
        }
        PyErr_Clear();
    }
    return levbson_new(d->st, "Regex", "(OO)", pattern, options);
}

static PyObject *
take_dbpointer(struct decoder *d, struct span *s)
{
    _cleanup_pydecref_ PyObject *name = levbson_take_str(d, s, "namespace");
    const uint8_t *p =
        name == NULL ? NULL : levbson_take(d, s, LEVBSON_OID_LEN, "ObjectId");
    _cleanup_pydecref_ PyObject *oid =
        p == NULL ? NULL : levbson_oid_new(d->st, p);

    return oid == NULL ? NULL
                       : levbson_new(d->st, "DBPointer", "(OO)", name, oid);
}

static PyObject *
take_code(struct decoder *d, struct span *s)
{
    _cleanup_pydecref_ PyObject *code = levbson_take_str(d, s, "code");

    return code == NULL ? NULL : levbson_new(d->st, "Code", "(O)", code);
}

static PyObject *
take_symbol(struct decoder *d, struct span *s)
{
    _cleanup_pydecref_ PyObject *text = levbson_take_str(d, s, "symbol");

    return text == NULL ? NULL : levbson_new(d->st, "Symbol", "(O)", text);
}

static PyObject *
take_code_scope(struct decoder *d, struct span *s)
{
    const uint8_t *at = s->p;
    const uint8_t *head = levbson_take(d, s, 4, "code");
    _cleanup_pydecref_ PyObject *code = NULL, *scope = NULL;
    struct span inside;
    uint32_t len;

    if (head == NULL) {
        return NULL;
    }
    len = get_le32(head);
    if (len < 4 || len - 4 > span_left(s)) {
        return levbson_invalid(d, at,
                               "the code has length %d where %zu bytes "
                               "are left",
                               (int)len, span_left(s) + 4);
    }
    inside = (struct span){s->p, at + len};
    s->p = inside.end;
    code = levbson_take_str(d, &inside, "code");
    scope = code == NULL ? NULL : levbson_take_document(d, &inside);
    if (scope == NULL) {
        return NULL;
    }
    if (inside.p < inside.end) {
        return levbson_invalid(d, inside.p,
                               "%zu bytes behind the code's "
                               "scope",
                               span_left(&inside));
    }
    return levbson_new(d->st, "Code", "(OO)", code, scope);
}

static PyObject *
take_timestamp(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 8, "timestamp");

    return p == NULL ? NULL
                     : levbson_new(d->st, "Timestamp", "(kk)",
                                   (unsigned long)get_le32(p + 4),
                                   (unsigned long)get_le32(p));
}

static PyObject *
take_decimal(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, BSON_DECIMAL128_LEN, "decimal128");

    return p == NULL ? NULL : levbson_decimal_new(d->st, p);
}

PyObject *
levbson_take_rare(struct decoder *d, struct span *s, uint8_t type,
                  const uint8_t *at)
{
    switch (type) {
    case BSON_BINARY:
        return take_binary(d, s);
    case BSON_UNDEFINED:
        return levbson_new(d->st, "Undefined", "()");
    case BSON_REGEX:
        return take_regex(d, s);
    case BSON_DBPOINTER:
        return take_dbpointer(d, s);
    case BSON_CODE:
        return take_code(d, s);
    case BSON_SYMBOL:
        return take_symbol(d, s);
    case BSON_CODE_SCOPE:
        return take_code_scope(d, s);
    case BSON_TIMESTAMP:
        return take_timestamp(d, s);
    case BSON_DECIMAL128:
        return take_decimal(d, s);
    case BSON_MINKEY:
        return levbson_new(d->st, "MinKey", "()");
    case BSON_MAXKEY:
        return levbson_new(d->st, "MaxKey", "()");
    default:
        return levbson_invalid(d, at, "type 0x%02x is not BSON's", type);
    }
}
