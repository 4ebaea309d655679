/* refuse.c - a value without BSON type: what it is and what to store instead.
 */

#include "encoder.h"

/* Classes that are told by an attribute. */
static const struct {
    const char *attr, *advice;
} traits[] = {
    {"__dataclass_fields__",
     "is a dataclass; store dataclasses.asdict(value)"},
    {"__fspath__", "is a path; store str(value)"},
    {"tolist", "has no BSON type; store value.tolist()"},
    {"__iter__", "has no BSON type; store list(value)"},
};

/* Why, and the way out; NULL with an exception. */
static const char *
advice(const struct levbson_state *st, PyObject *value)
{
    const char *known = levbson_datetime_advice(st, value);

    if (st->enum_type != NULL && PyObject_TypeCheck(value, st->enum_type)) {
        return "is an enum; store its .value";
    }
    if (PyAnySet_Check(value)) {
        return "has no order, which BSON arrays have; store sorted(value) or "
               "list(value)";
    }
    if (known != NULL) {
        return known;
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(traits); i++) {
        _cleanup_pydecref_ PyObject *attr = NULL;
        int rc =
            levbson_lookup((PyObject *)Py_TYPE(value), traits[i].attr, &attr);

        if (rc != 0) {
            return rc < 0 ? NULL : traits[i].advice;
        }
    }
    return "has no BSON type; store a dict of its parts, or str(value)";
}

int
levbson_refuse_type(struct encoder *e, PyObject *value)
{
    _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(value));
    const char *text = name == NULL ? NULL : advice(e->st, value);

    return text == NULL
               ? -1
               : levbson_refuse(e, PyExc_TypeError, "%U %s", name, text);
}
