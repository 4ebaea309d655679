#include "task.h"

static PyObject *
error_type(struct levpy_state *st, const char *name)
{
    PyObject *errors = levpy_errors(st);

    return errors == NULL ? NULL : PyObject_GetAttrString(errors, name);
}

/* Where an exception of that name lives: CPython's own have a static type, the
 * others are attributes of levrt.errors, looked up when one is raised. */
static PyObject *
exception_type(struct levpy_state *st, enum lev_errcode code)
{
    switch (code) {
    case LEV_E_NOMEM:
        return Py_NewRef(PyExc_MemoryError);
    case LEV_E_OS:
        return Py_NewRef(PyExc_OSError);
    case LEV_E_INVALID:
        return Py_NewRef(PyExc_ValueError);
    case LEV_E_TYPE:
        return Py_NewRef(PyExc_TypeError);
    case LEV_E_RANGE:
        return Py_NewRef(PyExc_OverflowError);
    case LEV_E_STATE:
        return Py_NewRef(PyExc_RuntimeError);
    case LEV_E_TIMEOUT:
        return Py_NewRef(PyExc_TimeoutError);
    case LEV_E_CANCELLED:
        return Py_NewRef(st->CancelledError);
    default:
        return error_type(st, lev_error_name(code));
    }
}

/* The number goes where that family keeps it. */
static int
set_detail(struct levpy_state *st, PyObject *exc, int detail)
{
    static const struct {
        const char *type, *attribute;
    } homes[] = {{"EngineError", "status"}, {"QueryError", "code"}};
    _cleanup_pydecref_ PyObject *value = PyLong_FromLong(detail);

    if (value == NULL) {
        return -1;
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(homes); i++) {
        _cleanup_pydecref_ PyObject *type = error_type(st, homes[i].type);
        int is = type == NULL ? -1 : PyObject_IsInstance(exc, type);

        if (is < 0) {
            return -1;
        }
        if (is) {
            return PyObject_SetAttrString(exc, homes[i].attribute, value);
        }
    }
    return 0;
}

PyObject *
levpy_error_new(struct levpy_state *st, const struct lev_error *err)
{
    _cleanup_pydecref_ PyObject *type = exception_type(st, err->code);
    _cleanup_pydecref_ PyObject *text = NULL, *exc = NULL;

    if (type == NULL) {
        return NULL;
    }
    /* Words of engines and tools are nearly always UTF-8. */
    text = PyUnicode_DecodeUTF8(err->msg, (Py_ssize_t)strlen(err->msg),
                                "replace");
    if (text == NULL) {
        return NULL;
    }
    exc = type == PyExc_OSError
              ? PyObject_CallFunction(type, "iO", err->detail, text)
              : PyObject_CallOneArg(type, text);
    if (exc == NULL ||
        (err->detail != 0 && set_detail(st, exc, err->detail) < 0)) {
        return NULL;
    }
    return lev_steal(exc);
}

PyObject *
levpy_raise(struct levpy_state *st, const struct lev_error *err)
{
    _cleanup_pydecref_ PyObject *exc = levpy_error_new(st, err);

    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    return NULL;
}
