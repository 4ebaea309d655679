/* module.c - levrt._guest: the BSON codec as a module of its own, for
 * programs inside containers, where levrt._levrt and its libraries are not. */

#include "levbson.h"

/* Adds encode(), decode() and ObjectId. */
static int
guest_exec(PyObject *module)
{
    return levbson_setup(module, PyModule_GetState(module));
}

static int
guest_traverse(PyObject *module, visitproc visit, void *arg)
{
    return levbson_traverse(PyModule_GetState(module), visit, arg);
}

static int
guest_clear(PyObject *module)
{
    levbson_clear(PyModule_GetState(module));
    return 0;
}

static void
guest_free(void *module)
{
    guest_clear(module);
}

static PyModuleDef_Slot guest_slots[] = {
    {Py_mod_exec, guest_exec},
    {0, NULL},
};

static struct PyModuleDef guest_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "levrt._guest",
    .m_doc = PyDoc_STR("BSON inside containers."),
    .m_size = sizeof(struct levbson_state),
    .m_slots = guest_slots,
    .m_traverse = guest_traverse,
    .m_clear = guest_clear,
    .m_free = guest_free,
};

PyMODINIT_FUNC PyInit__guest(void); /* for -Wmissing-prototypes */

PyMODINIT_FUNC
PyInit__guest(void)
{
    return PyModuleDef_Init(&guest_module);
}
