/* cr.c - levrt.Cr: a description of what to run, awaitable many times. */

#include "cr.h"

#include "task.h"

#include "docstrings.h"

/* What the caller gave, as it came. */
struct given {
#define X(name) PyObject *name;
    LEVPY_CR_MEMBERS(X)
#undef X
};

static int
parse(PyObject *args, PyObject *kwargs, struct given *g)
{
    static char *keywords[] = {"image",       "schema",   "host",    "entry",
                               "cmd",         "env",      "files",   "links",
                               "ports",       "services", "timeout", "check",
                               "host_config", "options",  "pull",    "engine",
                               "name",        "keep",     NULL};

    return PyArg_ParseTupleAndKeywords(
               args, kwargs, "O|OOOOOOOOO$OOOOOOOO:Cr", keywords, &g->image,
               &g->schema, &g->host, &g->entry, &g->cmd, &g->env, &g->files,
               &g->links, &g->ports, &g->services, &g->timeout, &g->check,
               &g->host_config, &g->options, &g->pull, &g->engine, &g->name,
               &g->keep)
               ? 0
               : -1;
}

/* Any mapping will do; what checks them reads dicts. `kept` owns what is made
 * here. */
static int
make_dicts(struct given *g, PyObject *kept)
{
    PyObject **const values[] = {&g->env,      &g->files,       &g->links,
                                 &g->services, &g->host_config, &g->options};

    for (size_t i = 0; kept != NULL && i < LEV_ARRAY_LEN(values); i++) {
        _cleanup_pydecref_ PyObject *dict = NULL;

        if (*values[i] == NULL || PyDict_Check(*values[i]) ||
            !levpy_is_mapping(*values[i]))
        {
            continue;
        }
        dict = PyDict_New();
        if (dict == NULL || PyDict_Update(dict, *values[i]) < 0 ||
            PyList_Append(kept, dict) < 0)
        {
            return -1;
        }
        *values[i] = dict;
    }
    return kept == NULL ? -1 : 0;
}

/* Normalises into `c` in the order of the parameters; the first that is wrong
 * is the one that is reported. */
static int
check(struct levpy_state *st, const struct given *g, Cr *c)
{
    return (c->image = levpy_check_image(g->image)) != NULL &&
                   (c->schema = levpy_check_schema(g->schema)) != NULL &&
                   (c->host = levpy_check_flag(g->host, "host", false)) !=
                       NULL &&
                   (c->entry = levpy_check_entry(st, g->entry)) != NULL &&
                   (c->cmd = levpy_check_cmd(g->cmd)) != NULL &&
                   (c->env = levpy_check_env(g->env)) != NULL &&
                   (c->files = levpy_check_files(st, g->files)) != NULL &&
                   (c->links = levpy_check_links(g->links)) != NULL &&
                   (c->ports = levpy_check_ports(g->ports)) != NULL &&
                   (c->services = levpy_check_services(st, g->services)) !=
                       NULL &&
                   (c->timeout = levpy_check_timeout(g->timeout)) != NULL &&
                   (c->check = levpy_check_accepted(g->check)) != NULL &&
                   (c->host_config = levpy_check_options(
                        g->host_config, "host_config")) != NULL &&
                   (c->options = levpy_check_options(g->options, "options")) !=
                       NULL &&
                   (c->pull = levpy_check_pull(g->pull)) != NULL &&
                   (c->engine = levpy_check_text(g->engine, "engine")) !=
                       NULL &&
                   (c->name = levpy_check_text(g->name, "name")) != NULL &&
                   (c->keep = levpy_check_flag(g->keep, "keep", false)) != NULL
               ? 0
               : -1;
}

static PyObject *
Cr_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct levpy_state *st =
        levpy_state(PyType_GetModuleByDef(type, &levpy_module));
    _cleanup_pydecref_ PyObject *self = NULL, *kept = NULL;
    struct given g = {0};

    if (parse(args, kwargs, &g) < 0 ||
        make_dicts(&g, kept = PyList_New(0)) < 0) {
        return NULL;
    }
    self = type->tp_alloc(type, 0);
    if (self == NULL || check(st, &g, (Cr *)self) < 0 ||
        levpy_check_together(st, (Cr *)self) < 0)
    {
        return NULL;
    }
    return lev_steal(self);
}

static PyObject *
Cr_start(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return levpy_cr_start_op(levpy_state_of(self), (Cr *)self);
}

static PyObject *
Cr_done(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return levpy_cr_done_op(levpy_state_of(self), (Cr *)self);
}

static PyObject *
Cr_await(PyObject *self)
{
    return Cr_done(self, NULL);
}

static PyObject *
Cr_repr(Cr *self)
{
    const char *name = Py_TYPE(self)->tp_name;
    const char *dot = strrchr(name, '.');

    name = dot == NULL ? name : dot + 1;
    return self->schema == Py_None
               ? PyUnicode_FromFormat("%s(%R)", name, self->image)
               : PyUnicode_FromFormat("%s(%R, %R)", name, self->image,
                                      self->schema);
}

/* The member at an offset. What could be changed is given as a copy: this one
 * has been checked, and services must not come to hold themselves. */
static PyObject *
Cr_get(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (uintptr_t)offset);

    if (PyList_Check(value)) {
        return PySequence_List(value);
    }
    return PyDict_Check(value) ? PyDict_Copy(value) : Py_NewRef(value);
}

static int
Cr_traverse(Cr *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
#define X(name) Py_VISIT(self->name);
    LEVPY_CR_MEMBERS(X)
#undef X
    return 0;
}

static int
Cr_clear(Cr *self)
{
#define X(name) Py_CLEAR(self->name);
    LEVPY_CR_MEMBERS(X)
#undef X
    return 0;
}

static void
Cr_dealloc(Cr *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Cr_clear(self);
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyMethodDef Cr_methods[] = {
    {"start", Cr_start, METH_NOARGS, levrt_Cr_start_DOC},
    {"done", Cr_done, METH_NOARGS, levrt_Cr_done_DOC},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Cr_getset[] = {
#define X(name)                                                               \
    {#name, Cr_get, NULL, levrt_Cr_##name##_DOC, (void *)offsetof(Cr, name)},
    LEVPY_CR_MEMBERS(X)
#undef X
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Cr_slots[] = {
    {Py_tp_doc, (void *)levrt_Cr_DOC}, {Py_tp_new, Cr_new},
    {Py_tp_dealloc, Cr_dealloc},       {Py_tp_traverse, Cr_traverse},
    {Py_tp_clear, Cr_clear},           {Py_tp_repr, Cr_repr},
    {Py_am_await, Cr_await},           {Py_tp_methods, Cr_methods},
    {Py_tp_getset, Cr_getset},         {0, NULL},
};

static PyType_Spec Cr_spec = {
    .name = "levrt.Cr",
    .basicsize = sizeof(Cr),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Cr_slots,
};

int
levpy_cr_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->CrType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Cr_spec, NULL);
    if (st->CrType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->CrType);
}
