#include "levpy.h"

#include "docstrings.h"

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct levpy_state *st = levpy_state(module);

#define X(type, name) Py_VISIT(st->name);
    LEVPY_STATE(X)
#undef X
#define X(name) Py_VISIT(st->glue.name);
    LEVPY_GLUE(X)
#undef X
    return levbson_traverse(&st->bson, visit, arg);
}

static int
module_clear(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->glue_bound = false;
#define X(type, name) Py_CLEAR(st->name);
    LEVPY_STATE(X)
#undef X
#define X(name) Py_CLEAR(st->glue.name);
    LEVPY_GLUE(X)
#undef X
    levbson_clear(&st->bson);
    return 0;
}

static void
module_free(void *module)
{
    struct levpy_state *st = levpy_state(module);

    module_clear(module);
    lev_pool_destroy(lev_steal(st->pool));
}

static int
intern_strings(struct levpy_state *st)
{
#define INTERN(name, text)                                                    \
    if ((st->str_##name = PyUnicode_InternFromString(text)) == NULL) {        \
        return -1;                                                            \
    }
    INTERN(add_reader, "add_reader")
    INTERN(create_future, "create_future")
    INTERN(done, "done")
    INTERN(future_blocking, "_asyncio_future_blocking")
    INTERN(get, "get")
    INTERN(is_closed, "is_closed")
    INTERN(is_running, "is_running")
    INTERN(pop, "pop")
    INTERN(remove_reader, "remove_reader")
    INTERN(set_result, "set_result")
#undef INTERN
    return 0;
}

static PyObject *
import_from(const char *module, const char *name)
{
    _cleanup_pydecref_ PyObject *m = PyImport_ImportModule(module);

    return m == NULL ? NULL : PyObject_GetAttrString(m, name);
}

static int
import_parts(struct levpy_state *st)
{
    _cleanup_pydecref_ PyObject *weak = NULL;

    st->get_running_loop = import_from("asyncio", "get_running_loop");
    st->CancelledError = import_from("asyncio", "CancelledError");
    weak = import_from("weakref", "WeakKeyDictionary");
    if (weak != NULL) {
        st->bridges = PyObject_CallNoArgs(weak);
    }
    return st->get_running_loop == NULL || st->CancelledError == NULL ||
                   st->bridges == NULL
               ? -1
               : 0;
}

static int
bind(PyObject *module, const char *name, PyObject **member)
{
    PyObject *value = PyObject_GetAttrString(module, name);

    Py_XSETREF(*member, value);
    return value == NULL ? -1 : 0;
}

const struct levpy_glue *
levpy_glue(struct levpy_state *st)
{
    _cleanup_pydecref_ PyObject *module = NULL;

    if (st->glue_bound) {
        return &st->glue;
    }
    module = PyImport_ImportModule("levrt.glue");
    if (module == NULL) {
        return NULL;
    }
#define X(name)                                                               \
    if (bind(module, #name, &st->glue.name) < 0) {                            \
        return NULL;                                                          \
    }
    LEVPY_GLUE(X)
#undef X
    st->glue_bound = true;
    return &st->glue;
}

PyObject *
levpy_errors(struct levpy_state *st)
{
    if (st->errors == NULL) {
        st->errors = PyImport_ImportModule("levrt.errors");
    }
    return st->errors;
}

static PyMethodDef module_methods[] = {
    {"begin", levpy_begin, METH_O, levrt_begin_DOC},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    if (intern_strings(st) < 0 || import_parts(st) < 0 ||
        levbson_setup(module, &st->bson) < 0 ||
        levpy_bridge_setup(module) < 0 || levpy_op_setup(module) < 0 ||
        levpy_session_setup(module) < 0 || levpy_cursor_setup(module) < 0 ||
        levpy_cr_setup(module) < 0 || levpy_document_setup(module) < 0 ||
        levpy_task_setup(module) < 0)
    {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

struct PyModuleDef levpy_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "levrt._levrt",
    .m_doc = levrt_DOC,
    .m_size = sizeof(struct levpy_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__levrt(void); /* for -Wmissing-prototypes */

PyMODINIT_FUNC
PyInit__levrt(void)
{
    return PyModuleDef_Init(&levpy_module);
}
