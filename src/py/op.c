#include "op.h"

#include "docstrings.h"

Op *
levpy_op_new(struct levpy_state *st, const struct levpy_op_kind *kind,
             const char *name, PyObject *owner, void *job)
{
    Op *op = PyObject_GC_New(Op, st->OpType);

    if (op == NULL) {
        Op dummy = {.kind = kind, .job = job};

        if (kind->release != NULL) {
            kind->release(&dummy);
        }
        return NULL;
    }
    op->kind = kind;
    op->name = name;
    op->bridge = NULL;
    op->future = op->result = op->error = op->thrown = NULL;
    op->owner = Py_XNewRef(owner);
    op->job = job;
    op->state = LEVPY_OP_NEW;
    op->begun = false;
    PyObject_GC_Track(op);
    return op;
}

static int
start(Op *op)
{
    op->bridge = levpy_bridge_current(levpy_state_of((PyObject *)op));
    op->state = LEVPY_OP_RUNNING;
    if (op->bridge == NULL || op->kind->start(op) < 0) {
        op->state = LEVPY_OP_CLOSED;
        return -1;
    }
    return 0;
}

int
levpy_op_begin(Op *op)
{
    op->begun = true;
    return start(op);
}

PyObject *
levpy_begin(PyObject *module, PyObject *op)
{
    struct levpy_state *st = levpy_state(module);

    if (!Py_IS_TYPE(op, st->OpType) || ((Op *)op)->state != LEVPY_OP_NEW) {
        PyErr_SetString(PyExc_TypeError,
                        "begin() takes an operation that has not started");
        return NULL;
    }
    return levpy_op_begin((Op *)op) < 0 ? NULL : Py_NewRef(op);
}

int
levpy_raise_fork(const char *name, pid_t pid)
{
    PyErr_Format(PyExc_RuntimeError,
                 "%s: it belongs to process %d, of which this is a fork; use "
                 "it there, or start anew in a process that was started by "
                 "itself (subprocess, multiprocessing's \"spawn\")",
                 name, (int)pid);
    return -1;
}

/* In a fork of the process that started it: the parent has what it waits for,
 * and must not be disturbed. */
static bool
is_parents(const Op *op)
{
    return op->bridge != NULL && levpy_bridge_is_parents(op->bridge);
}

/* Lets the task that waits go on. */
static int
wake(Op *op)
{
    struct levpy_state *st = levpy_state_of((PyObject *)op);
    _cleanup_pydecref_ PyObject *future = lev_steal(op->future);
    _cleanup_pydecref_ PyObject *done = NULL, *none = NULL;

    /* Nobody can go on where the loop has shut down. */
    if (future == NULL || op->bridge->loop == NULL) {
        return 0;
    }
    done = PyObject_CallMethodNoArgs(future, st->str_done);
    if (done == NULL) {
        return -1;
    }
    /* task.cancel() has cancelled it; its throw() comes next. */
    if (done == Py_False) {
        none = PyObject_CallMethodOneArg(future, st->str_set_result, Py_None);
        return none == NULL ? -1 : 0;
    }
    return 0;
}

void
levpy_op_complete(Op *op, PyObject *result)
{
    if (result == NULL) {
        PyObject *type, *value, *traceback;

        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(value, traceback);
        }
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        Py_XSETREF(op->error, value);
    }
    Py_XSETREF(op->result, result);
    if (op->state == LEVPY_OP_RUNNING) {
        op->state = LEVPY_OP_DONE;
    }
    if (wake(op) < 0) {
        PyErr_WriteUnraisable((PyObject *)op);
    }
}

/* A fresh future for the loop to wait for; borrowed by the caller's task. */
static PyObject *
suspend(Op *op)
{
    struct levpy_state *st = levpy_state_of((PyObject *)op);
    _cleanup_pydecref_ PyObject *future = NULL;

    if (op->bridge->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the event loop of this operation has shut down");
        return NULL;
    }
    future =
        PyObject_CallMethodNoArgs(op->bridge->loop, st->str_create_future);
    if (future == NULL ||
        PyObject_SetAttr(future, st->str_future_blocking, Py_True) < 0)
    {
        return NULL;
    }
    Py_XSETREF(op->future, Py_NewRef(future));
    return lev_steal(future);
}

/* PYGEN_RETURN with the result, or PYGEN_ERROR. */
static PySendResult
deliver(Op *op, PyObject **result)
{
    op->state = LEVPY_OP_CLOSED;
    *result = NULL;
    if (op->thrown != NULL) {
        _cleanup_pydecref_ PyObject *exc = lev_steal(op->thrown);

        Py_CLEAR(op->error);
        Py_CLEAR(op->result);
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        return PYGEN_ERROR;
    }
    if (op->error != NULL) {
        _cleanup_pydecref_ PyObject *exc = lev_steal(op->error);

        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        return PYGEN_ERROR;
    }
    *result = lev_steal(op->result);
    return PYGEN_RETURN;
}

static PySendResult
advance(Op *op, PyObject **result)
{
    *result = NULL;
    if (op->state == LEVPY_OP_RUNNING && is_parents(op)) {
        op->state = LEVPY_OP_CLOSED;
        levpy_raise_fork(op->name, op->bridge->pid);
        return PYGEN_ERROR;
    }
    switch (op->state) {
    case LEVPY_OP_NEW:
        if (start(op) < 0) {
            return PYGEN_ERROR;
        }
        break;
    case LEVPY_OP_RUNNING:
        if (op->future != NULL && op->bridge->loop != NULL) {
            _cleanup_pydecref_ PyObject *done = PyObject_CallMethodNoArgs(
                op->future, levpy_state_of((PyObject *)op)->str_done);

            if (done == NULL) {
                return PYGEN_ERROR;
            }
            if (done == Py_False) {
                PyErr_Format(PyExc_RuntimeError, "%s is being awaited already",
                             op->name);
                return PYGEN_ERROR;
            }
        }
        break;
    case LEVPY_OP_DONE:
        break;
    case LEVPY_OP_CLOSED:
        PyErr_Format(PyExc_RuntimeError,
                     "cannot reuse %s: it has been awaited already", op->name);
        return PYGEN_ERROR;
    }
    if (op->state == LEVPY_OP_DONE) {
        return deliver(op, result);
    }
    *result = suspend(op);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

static PySendResult
Op_am_send(PyObject *self, PyObject *Py_UNUSED(arg), PyObject **result)
{
    return advance((Op *)self, result);
}

/* For those who call send(), throw() and next() by name: a return is an
 * exception there. */
static PyObject *
as_generator(PySendResult rc, PyObject *result)
{
    if (rc == PYGEN_RETURN) {
        _cleanup_pydecref_ PyObject *value = result;
        _cleanup_pydecref_ PyObject *stop =
            PyObject_CallOneArg(PyExc_StopIteration, value);

        /* An exception object, for a value that is a tuple or an exception
         * itself would be unpacked. */
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
        }
        return NULL;
    }
    return rc == PYGEN_NEXT ? result : NULL;
}

static PyObject *
Op_send(Op *self, PyObject *Py_UNUSED(arg))
{
    PyObject *result;
    PySendResult rc = advance(self, &result);

    return as_generator(rc, result);
}

static PyObject *
Op_iternext(Op *self)
{
    return Op_send(self, Py_None);
}

/* The exception that throw(type[, value[, traceback]]) means; as in a
 * generator's. */
static PyObject *
thrown_exception(PyObject *const *args, Py_ssize_t n)
{
    PyObject *type, *value, *traceback;

    if (n < 1 || n > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    value = n > 1 && args[1] != Py_None ? args[1] : NULL;
    traceback = n > 2 && args[2] != Py_None ? args[2] : NULL;
    if (traceback != NULL && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionInstance_Check(args[0])) {
        if (value != NULL) {
            PyErr_SetString(
                PyExc_TypeError,
                "instance exception may not have a separate value");
            return NULL;
        }
        type = Py_NewRef((PyObject *)Py_TYPE(args[0]));
        value = args[0];
    }
    else if (PyExceptionClass_Check(args[0])) {
        type = Py_NewRef(args[0]);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    }
    Py_XINCREF(value);
    Py_XINCREF(traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* The job is told to end; the exception waits for that. */
static PySendResult
interrupt(Op *op, PyObject *exc, PyObject **result)
{
    *result = NULL;
    if (op->thrown == NULL) {
        op->thrown = Py_NewRef(exc);
        if (op->state == LEVPY_OP_RUNNING) {
            op->kind->cancel(op);
        }
    }
    else if (op->kind->hurry != NULL && op->state == LEVPY_OP_RUNNING) {
        op->kind->hurry(op);
    }
    if (op->state == LEVPY_OP_DONE && op->result != NULL &&
        op->kind->undo != NULL && op->kind->undo(op))
    {
        op->state = LEVPY_OP_RUNNING;
    }
    if (op->state == LEVPY_OP_DONE) {
        return deliver(op, result);
    }
    *result = suspend(op);
    return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

static PyObject *
Op_throw(Op *self, PyObject *const *args, Py_ssize_t n)
{
    _cleanup_pydecref_ PyObject *exc = thrown_exception(args, n);
    PyObject *result;
    PySendResult rc;

    if (exc == NULL) {
        return NULL;
    }
    if (self->state == LEVPY_OP_NEW || self->state == LEVPY_OP_CLOSED ||
        is_parents(self))
    {
        self->state = LEVPY_OP_CLOSED;
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        return NULL;
    }
    rc = interrupt(self, exc, &result);
    return as_generator(rc, result);
}

static PyObject *
Op_close(Op *self, PyObject *Py_UNUSED(unused))
{
    /* Nobody can wait here: the job ends by itself, its session waits. */
    if (is_parents(self)) {
        self->state = LEVPY_OP_CLOSED;
    }
    else if (self->state == LEVPY_OP_RUNNING) {
        self->kind->cancel(self);
    }
    else if (self->state == LEVPY_OP_DONE && self->result != NULL &&
             self->kind->undo != NULL)
    {
        self->kind->undo(self);
    }
    self->state = LEVPY_OP_CLOSED;
    Py_RETURN_NONE;
}

static void
Op_finalize(Op *self)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (self->state == LEVPY_OP_NEW &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "%s was never awaited",
                         self->name) < 0)
    {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    else if (self->state == LEVPY_OP_DONE && self->result != NULL &&
             self->kind->undo != NULL && !is_parents(self))
    {
        self->kind->undo(self);
    }
    PyErr_Restore(type, value, traceback);
}

static int
Op_traverse(Op *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->bridge);
    Py_VISIT(self->future);
    Py_VISIT(self->result);
    Py_VISIT(self->error);
    Py_VISIT(self->thrown);
    Py_VISIT(self->owner);
    return 0;
}

static int
Op_clear(Op *self)
{
    /* The job may point into its owner. A running one keeps a reference to the
     * op, so that it never comes here. */
    if (self->kind->release != NULL && self->job != NULL) {
        self->kind->release(self);
    }
    Py_CLEAR(self->bridge);
    Py_CLEAR(self->future);
    Py_CLEAR(self->result);
    Py_CLEAR(self->error);
    Py_CLEAR(self->thrown);
    Py_CLEAR(self->owner);
    return 0;
}

static void
Op_dealloc(Op *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    Op_clear(self);
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyObject *
Op_repr(Op *self)
{
    static const char *const states[] = {"not started", "running", "done",
                                         "closed"};

    return PyUnicode_FromFormat("<%s, %s>", self->name, states[self->state]);
}

static PyObject *
Op_name(Op *self, void *Py_UNUSED(closure))
{
    const char *dot = strrchr(self->name, '.');

    return PyUnicode_FromString(dot == NULL ? self->name : dot + 1);
}

static PyObject *
Op_qualname(Op *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(self->name);
}

static PyObject *
Op_running(Op *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->state == LEVPY_OP_RUNNING);
}

static PyObject *
Op_failed(Op *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->state == LEVPY_OP_DONE &&
                           self->error != NULL);
}

static PyMethodDef Op_methods[] = {
    {"send", (PyCFunction)Op_send, METH_O, levrt_Op_send_DOC},
    {"throw", (PyCFunction)(void (*)(void))Op_throw, METH_FASTCALL,
     levrt_Op_throw_DOC},
    {"close", (PyCFunction)Op_close, METH_NOARGS, levrt_Op_close_DOC},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Op_getset[] = {
    {"__name__", (getter)Op_name, NULL, NULL, NULL},
    {"__qualname__", (getter)Op_qualname, NULL, NULL, NULL},
    {"cr_running", (getter)Op_running, NULL, levrt_Op_cr_running_DOC, NULL},
    {"failed", (getter)Op_failed, NULL, levrt_Op_failed_DOC, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Op_slots[] = {
    {Py_tp_doc, (void *)levrt_Op_DOC},
    {Py_tp_dealloc, Op_dealloc},
    {Py_tp_finalize, Op_finalize},
    {Py_tp_traverse, Op_traverse},
    {Py_tp_clear, Op_clear},
    {Py_tp_repr, Op_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Op_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, Op_am_send},
    {Py_tp_methods, Op_methods},
    {Py_tp_getset, Op_getset},
    {0, NULL},
};

static PyType_Spec Op_spec = {
    .name = "levrt._levrt.Op",
    .basicsize = sizeof(Op),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Op_slots,
};

int
levpy_op_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);
    _cleanup_pydecref_ PyObject *abc =
        PyImport_ImportModule("collections.abc");
    _cleanup_pydecref_ PyObject *coroutine = NULL, *type = NULL;

    st->OpType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Op_spec, NULL);
    if (st->OpType == NULL || abc == NULL) {
        return -1;
    }
    coroutine = PyObject_GetAttrString(abc, "Coroutine");
    if (coroutine == NULL) {
        return -1;
    }
    type = PyObject_CallMethod(coroutine, "register", "O", st->OpType);
    return type == NULL ? -1 : PyModule_AddType(module, st->OpType);
}
