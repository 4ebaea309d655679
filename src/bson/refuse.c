/* refuse.c - a value without BSON type: what it is and what to store instead.
 */

#include "encoder.h"

static int
has_attr(PyTypeObject *type, const char *name)
{
    _cleanup_pydecref_ PyObject *attr =
        PyObject_GetAttrString((PyObject *)type, name);

    PyErr_Clear();
    return attr != NULL;
}

/* Why, and the way out; NULL: nothing better than the general text. */
static const char *
advice(struct levbson_state *st, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    const char *kin = levbson_datetime_kin(st, value);

    if (levbson_is_enum(st, value)) {
        return "is an enum; store its .value";
    }
    if (PyAnySet_Check(value)) {
        return "has no order, which BSON arrays have; store sorted(value) or "
               "list(value)";
    }
    if (has_attr(type, "__dataclass_fields__")) {
        return "is a dataclass; store dataclasses.asdict(value)";
    }
    if (has_attr(type, "__fspath__")) {
        return "is a path; store str(value)";
    }
    if (kin != NULL) {
        return kin;
    }
    if (has_attr(type, "tolist")) {
        return "has no BSON type; store value.tolist()";
    }
    if (has_attr(type, "__iter__")) {
        return "has no BSON type; store list(value)";
    }
    return "has no BSON type; store a dict of its parts, or str(value)";
}

int
levbson_refuse_type(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(value));

    if (name == NULL) {
        return -1;
    }
    return levbson_refuse(e, PyExc_TypeError, "%U %s", name,
                          advice(e->st, value));
}
