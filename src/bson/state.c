/* state.c - what the codec gives to a module (encode, decode, ObjectId) and
 * keeps per module: names, types of other modules once they were met. */

#include "codec.h"

#include <stdarg.h>

struct name {
    size_t slot;
    const char *text;
};

#define NAME(member, string)                                                  \
    {                                                                         \
        offsetof(struct levbson_state, member), string                        \
    }
static const struct name names[] = {
    NAME(mod_datetime, "datetime"),
    NAME(mod_decimal, "decimal"),
    NAME(mod_enum, "enum"),
    NAME(mod_levbson, "levrt.bson"),
    NAME(mod_re, "re"),
    NAME(mod_uuid, "uuid"),
    NAME(str_as_tuple, "as_tuple"),
    NAME(str_binary, "binary"),
    NAME(str_bid, "bid"),
    NAME(str_bytes, "bytes"),
    NAME(str_code, "code"),
    NAME(str_flags, "flags"),
    NAME(str_id, "id"),
    NAME(str_inc, "inc"),
    NAME(str_items, "items"),
    NAME(str_ms, "ms"),
    NAME(str_namespace, "namespace"),
    NAME(str_pattern, "pattern"),
    NAME(str_scope, "scope"),
    NAME(str_subtype, "subtype"),
    NAME(str_time, "time"),
    NAME(str_utcoffset, "utcoffset"),
    NAME(str_value, "value"),
};
#undef NAME

/* The functions of the module */

static PyObject *
bson_encode(PyObject *module, PyObject *mapping)
{
    _cleanup_levbson_out_ struct levbson_out out = {0};

    if (levbson_encode(PyModule_GetState(module), mapping, &out) < 0) {
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)out.data,
                                     (Py_ssize_t)out.len);
}

static PyObject *
bson_decode(PyObject *module, PyObject *data)
{
    Py_buffer view;
    PyObject *dict;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    dict =
        levbson_decode(PyModule_GetState(module), view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return dict;
}

static PyMethodDef functions[] = {
    {"encode", bson_encode, METH_O,
     PyDoc_STR("encode($module, document, /)\n--\n\n"
               "A dict or Mapping as BSON. What BSON cannot hold raises, and "
               "says where it is.")},
    {"decode", bson_decode, METH_O,
     PyDoc_STR("decode($module, data, /)\n--\n\n"
               "The dict of one BSON document. ValueError says at which byte "
               "it is none.")},
    {NULL, NULL, 0, NULL},
};

int
levbson_setup(PyObject *module, struct levbson_state *st)
{
    if ((void *)st != PyModule_GetState(module)) {
        PyErr_SetString(PyExc_SystemError,
                        "the BSON codec's state must come first in its "
                        "module's state");
        return -1;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        PyObject *text = PyUnicode_InternFromString(names[i].text);

        if (text == NULL) {
            return -1;
        }
        memcpy((char *)st + names[i].slot, &text, sizeof(text));
    }
    if (PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    return levbson_oid_setup(module, st);
}

int
levbson_traverse(struct levbson_state *st, visitproc visit, void *arg)
{
    /* The keys are str, which refer to nothing. */
#define X(type, name) Py_VISIT(st->name);
    LEVBSON_STATE(X)
#undef X
    return 0;
}

void
levbson_clear(struct levbson_state *st)
{
#define X(type, name) Py_CLEAR(st->name);
    LEVBSON_STATE(X)
#undef X
    st->datetime_api = NULL;
    for (size_t i = 0; i < LEVBSON_KEYS; i++) {
        Py_CLEAR(st->keys[i]);
    }
}

int
levbson_lookup(PyObject *obj, const char *name, PyObject **value)
{
    *value = PyObject_GetAttrString(obj, name);
    if (*value != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* 1: *slot is set; 0: the module has no class of that name, or not yet, since
 * it may be in the midst of its import; -1: exception. */
static int
find_type(PyTypeObject **slot, PyObject *module, const char *attr)
{
    _cleanup_pydecref_ PyObject *type = NULL;
    int rc = levbson_lookup(module, attr, &type);

    if (rc > 0 && PyType_Check(type)) {
        Py_XSETREF(*slot, (PyTypeObject *)lev_steal(type));
        return 1;
    }
    return rc < 0 ? -1 : 0;
}

int
levbson_is_instance(PyObject *obj, PyTypeObject **slot, PyObject *name,
                    const char *attr)
{
    if (*slot == NULL) {
        _cleanup_pydecref_ PyObject *module = PyImport_GetModule(name);
        int rc;

        if (module == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        rc = find_type(slot, module, attr);
        if (rc <= 0) {
            return rc;
        }
    }
    return PyObject_TypeCheck(obj, *slot);
}

PyTypeObject *
levbson_import_type(PyTypeObject **slot, PyObject *name, const char *attr)
{
    if (*slot == NULL) {
        _cleanup_pydecref_ PyObject *module = PyImport_Import(name);

        if (module != NULL && find_type(slot, module, attr) == 0) {
            PyErr_Format(PyExc_ImportError, "%U.%s is not a class", name,
                         attr);
        }
    }
    return *slot;
}

PyObject *
levbson_new(struct levbson_state *st, const char *name, const char *format,
            ...)
{
    _cleanup_pydecref_ PyObject *module = NULL, *type = NULL, *args = NULL;
    va_list ap;

    va_start(ap, format);
    args = Py_VaBuildValue(format, ap);
    va_end(ap);
    if (args == NULL) {
        return NULL;
    }
    module = PyImport_Import(st->mod_levbson);
    if (module == NULL) {
        return NULL;
    }
    type = PyObject_GetAttrString(module, name);
    return type == NULL ? NULL : PyObject_Call(type, args, NULL);
}
