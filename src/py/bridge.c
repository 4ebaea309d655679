/* bridge.c - completions of the core's threads, delivered to one asyncio loop.
 *
 * One per loop, made on first use: an eventfd that the loop reads. Completions
 * are delivered on the loop's thread, with the GIL, in the order they came.
 * The loop is left when it shuts its asynchronous generators down (glue.py),
 * or with the bridge itself.
 */

#include "levpy.h"

#include "docstrings.h"

static void
deliver_all(struct lev_compq *queue)
{
    struct lev_completion *c = lev_compq_drain(queue);

    while (c != NULL) {
        struct lev_completion *next = c->next;

        c->deliver(c);
        c = next;
    }
}

static PyObject *
Bridge_drain(Bridge *self, PyObject *Py_UNUSED(unused))
{
    /* What is delivered may drop this bridge. */
    Py_INCREF(self);
    deliver_all(self->queue);
    Py_DECREF(self);
    Py_RETURN_NONE;
}

bool
levpy_bridge_is_parents(const Bridge *bridge)
{
    return bridge->pid != getpid();
}

/* What the loop says of itself: 1, 0, or -1 with an exception. */
static int
ask_loop(Bridge *self, PyObject *question)
{
    _cleanup_pydecref_ PyObject *answer =
        PyObject_CallMethodNoArgs(self->loop, question);

    return answer == NULL ? -1 : PyObject_IsTrue(answer);
}

/* A loop that is closed reads nothing any more, and says so when asked. The
 * child of a fork shares the epoll instance, in which its parent reads. */
static int
leave_loop(Bridge *self)
{
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    _cleanup_pydecref_ PyObject *fd = NULL, *ok = NULL;
    int closed = ask_loop(self, st->str_is_closed);

    if (closed != 0 || levpy_bridge_is_parents(self)) {
        return closed < 0 ? -1 : 0;
    }
    fd = PyLong_FromLong(lev_compq_fd(self->queue));
    ok = fd == NULL ? NULL
                    : PyObject_CallMethodOneArg(self->loop,
                                                st->str_remove_reader, fd);
    return ok == NULL ? -1 : 0;
}

static int
close_bridge(Bridge *self)
{
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    _cleanup_pydecref_ PyObject *gone = NULL;

    if (self->loop == NULL) {
        return 0;
    }
    gone = PyObject_CallMethodObjArgs(st->bridges, st->str_pop, self->loop,
                                      Py_None, NULL);
    if (gone == NULL || leave_loop(self) < 0) {
        return -1;
    }
    Py_CLEAR(self->loop);
    return 0;
}

static PyObject *
Bridge_close(Bridge *self, PyObject *Py_UNUSED(unused))
{
    return close_bridge(self) < 0 ? NULL : Py_NewRef(Py_None);
}

int
levpy_bridge_settle(Bridge *self)
{
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    _cleanup_pydecref_ PyObject *none = NULL;
    int closed = 1, running = 0;

    if (self->loop != NULL) {
        closed = ask_loop(self, st->str_is_closed);
        running = closed == 0 ? ask_loop(self, st->str_is_running) : 0;
    }
    if (closed < 0 || running < 0 || (closed > 0 && close_bridge(self) < 0)) {
        return -1;
    }
    none = running ? Py_NewRef(Py_None) : Bridge_drain(self, NULL);
    return none == NULL ? -1 : 0;
}

static Bridge *
bridge_new(struct levpy_state *st, PyObject *loop)
{
    _cleanup_pydecref_ PyObject *fd = NULL, *drain = NULL, *none = NULL;
    Bridge *self = PyObject_GC_New(Bridge, st->BridgeType);
    struct lev_error err;

    if (self == NULL) {
        return NULL;
    }
    self->loop = Py_NewRef(loop);
    self->pid = getpid();
    self->queue = lev_compq_create(&err);
    PyObject_GC_Track(self);
    if (self->queue == NULL) {
        levpy_raise(st, &err);
        Py_DECREF(self);
        return NULL;
    }
    fd = PyLong_FromLong(lev_compq_fd(self->queue));
    drain = PyObject_GetAttrString((PyObject *)self, "_drain");
    if (fd != NULL && drain != NULL) {
        none = PyObject_CallMethodObjArgs(loop, st->str_add_reader, fd, drain,
                                          NULL);
    }
    if (none == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

Bridge *
levpy_bridge_current(struct levpy_state *st)
{
    _cleanup_pydecref_ PyObject *loop =
        PyObject_CallNoArgs(st->get_running_loop);
    _cleanup_pydecref_ PyObject *hook = NULL;
    const struct levpy_glue *glue;
    PyObject *known;
    Bridge *self;

    if (loop == NULL) {
        return NULL;
    }
    known = PyObject_CallMethodOneArg(st->bridges, st->str_get, loop);
    if (known == NULL) {
        return NULL;
    }
    if (known != Py_None) {
        return (Bridge *)known;
    }
    Py_DECREF(known);
    self = bridge_new(st, loop);
    if (self == NULL) {
        return NULL;
    }
    if (PyObject_SetItem(st->bridges, loop, (PyObject *)self) < 0 ||
        (glue = levpy_glue(st)) == NULL ||
        (hook = PyObject_CallOneArg(glue->watch_loop, (PyObject *)self)) ==
            NULL)
    {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static int
Bridge_traverse(Bridge *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    return 0;
}

static int
Bridge_clear(Bridge *self)
{
    Py_CLEAR(self->loop);
    return 0;
}

static void
Bridge_dealloc(Bridge *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Bridge_clear(self);
    if (self->queue != NULL) {
        /* Ops, runs and sessions keep the bridge: what is left are records
         * of sessions that are gone, which only free themselves. */
        deliver_all(self->queue);
        lev_compq_destroy(self->queue);
    }
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyMethodDef Bridge_methods[] = {
    {"_drain", (PyCFunction)Bridge_drain, METH_NOARGS, NULL},
    {"close", (PyCFunction)Bridge_close, METH_NOARGS, levrt_Bridge_close_DOC},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Bridge_slots[] = {
    {Py_tp_doc, (void *)levrt_Bridge_DOC}, {Py_tp_dealloc, Bridge_dealloc},
    {Py_tp_traverse, Bridge_traverse},     {Py_tp_clear, Bridge_clear},
    {Py_tp_methods, Bridge_methods},       {0, NULL},
};

static PyType_Spec Bridge_spec = {
    .name = "levrt._levrt.Bridge",
    .basicsize = sizeof(Bridge),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Bridge_slots,
};

int
levpy_bridge_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->BridgeType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Bridge_spec, NULL);
    if (st->BridgeType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->BridgeType);
}
