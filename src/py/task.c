/* task.c - levrt.Task: a run under way, and the ops that wait for it.
 *
 * The core's run reports twice, on its own thread; both reports come here
 * through the bridge of the loop that started it. Until the second one the
 * task keeps a reference to itself, so that a run nobody waits for any more is
 * seen to its end.
 */

#include "task.h"

#include <signal.h>

#include "docstrings.h"

struct Task {
    PyObject_HEAD
    struct lev_run *run;
    Session *session;
    Bridge *bridge;
    Document *document;
    PyObject *waiters; /* list of Op: each is completed when the run ends */
    Op *starter;       /* completed when it is ready */
    bool ended;
    struct lev_completion ready_c, ended_c;
};

static void
on_ready(void *ctx)
{
    Task *task = ctx;

    lev_compq_push(task->bridge->queue, &task->ready_c);
}

static void
on_ended(void *ctx)
{
    Task *task = ctx;

    lev_compq_push(task->bridge->queue, &task->ended_c);
}

/* ---- how it ended ---- */

static PyObject *
text_or_none(const char *text)
{
    if (text == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *
argv_of(char *const *argv)
{
    _cleanup_pydecref_ PyObject *list = PyList_New(0);

    for (; list != NULL && argv != NULL && *argv != NULL; argv++) {
        _cleanup_pydecref_ PyObject *item = text_or_none(*argv);

        if (item == NULL || PyList_Append(list, item) < 0) {
            return NULL;
        }
    }
    return lev_steal(list);
}

static PyObject *
run_record(struct levpy_state *st, const struct lev_run_result *r)
{
    const struct levpy_glue *glue = levpy_glue(st);

    if (glue == NULL) {
        return NULL;
    }
    return PyObject_CallFunction(
        glue->run_record, "NNNiiiLLL", text_or_none(r->image),
        text_or_none(r->digest), argv_of(r->argv), r->exit_code, r->signal,
        (int)r->oom_killed, (long long)r->started, (long long)r->finished,
        (long long)r->peak_memory);
}

/* The exception that the result stands for, as an object. */
static PyObject *
failure(struct levpy_state *st, Task *task)
{
    const struct lev_run_result *r = lev_run_result(task->run);
    const struct levpy_glue *glue = levpy_glue(st);

    if (glue == NULL) {
        return NULL;
    }
    return PyObject_CallFunction(
        glue->failure, "OOsNisiiiNsNNNN", task, task->document,
        lev_error_name(r->err.code), text_or_none(r->err.msg), r->err.detail,
        r->phase, r->exit_code, r->signal, (int)r->oom_killed,
        text_or_none(r->log_tail), r->hint, text_or_none(r->remote_type),
        text_or_none(r->remote_text), text_or_none(r->traceback),
        text_or_none(r->builtin));
}

/* Gives one waiter what it waits for: the document, or the failure. */
static void
complete_done(struct levpy_state *st, Task *task, Op *op)
{
    _cleanup_pydecref_ PyObject *exc = NULL;

    if (lev_run_result(task->run)->err.code == LEV_OK) {
        levpy_op_complete(op, Py_NewRef(task->document));
        return;
    }
    exc = failure(st, task);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    levpy_op_complete(op, NULL);
}

/* ---- ops ---- */

/* What an op of a task does when the run ends: op->job points to one. */
struct at_end {
    void (*complete)(struct levpy_state *st, Task *task, Op *op);
};

static void
complete_quietly(struct levpy_state *st, Task *task, Op *op)
{
    levpy_op_complete(op, Py_NewRef(Py_None));
}

static struct at_end at_end_done = {complete_done};
static struct at_end at_end_quiet = {complete_quietly};

static Task *
task_of(Op *op)
{
    return (Task *)op->owner;
}

/* The end is delivered to the loop that the run was started on: an op of
 * another one would be completed on the wrong thread. */
static int
check_loop(Op *op)
{
    Task *task = task_of(op);

    if (levpy_bridge_is_parents(task->bridge)) {
        return levpy_raise_fork(op->name, task->bridge->pid);
    }
    if (task->ended || task->bridge == op->bridge) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "the run %s belongs to another event loop: use %s there",
                 lev_run_name(task->run), op->name);
    return -1;
}

/* Completes the op when the run has ended, which may be now. */
static int
wait_for_end(Op *op, struct at_end *what)
{
    Task *task = task_of(op);

    if (check_loop(op) < 0) {
        return -1;
    }
    op->job = what;
    if (task->ended) {
        what->complete(levpy_state_of((PyObject *)op), task, op);
        return 0;
    }
    return PyList_Append(task->waiters, (PyObject *)op);
}

static void
ready_deliver(struct lev_completion *c)
{
    Task *task = lev_container_of(c, Task, ready_c);
    Op *op = task->starter;

    /* A start that is being cancelled waits for the end. */
    if (op == NULL || op->thrown != NULL || op->state != LEVPY_OP_RUNNING) {
        return;
    }
    task->starter = NULL;
    levpy_op_complete(op, Py_NewRef(task));
    Py_DECREF(op);
}

static void
ended_deliver(struct lev_completion *c)
{
    Task *task = lev_container_of(c, Task, ended_c);
    struct levpy_state *st = levpy_state_of((PyObject *)task);
    _cleanup_pydecref_ PyObject *waiters = lev_steal(task->waiters);
    _cleanup_pydecref_ PyObject *starter =
        (PyObject *)lev_steal(task->starter);

    task->ended = true;
    task->document->run = run_record(st, lev_run_result(task->run));
    if (task->document->run == NULL) {
        PyErr_WriteUnraisable((PyObject *)task);
    }
    if (starter != NULL) {
        complete_done(st, task, (Op *)starter);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters); i++) {
        Op *op = (Op *)PyList_GET_ITEM(waiters, i);

        ((struct at_end *)op->job)->complete(st, task, op);
    }
    Py_DECREF(task); /* the run's reference */
}

/* Starts a run of `cr`; a new reference. */
static Task *
task_start(struct levpy_state *st, Cr *cr, bool want_address)
{
    _cleanup_pydecref_ Session *session = levpy_session_current(st);
    const struct levpy_glue *glue = session == NULL ? NULL : levpy_glue(st);
    _cleanup_pydecref_ PyObject *prefix = NULL, *debug = NULL;
    _cleanup_pydecref_ Task *task = NULL;
    /* Who waits for the end alone need not be woken before. */
    struct lev_run_callbacks callbacks = {want_address ? on_ready : NULL,
                                          on_ended, NULL};
    struct lev_run_spec *spec;
    struct lev_error err;
    const char *name;

    if (glue == NULL) {
        return NULL;
    }
    prefix = PyObject_CallNoArgs(glue->namespace_prefix);
    name = prefix == NULL ? NULL : PyUnicode_AsUTF8(prefix);
    debug = PyObject_CallNoArgs(glue->wants_output);
    if (name == NULL || debug == NULL) {
        return NULL;
    }
    spec = levpy_cr_spec(st, cr, name);
    if (spec == NULL) {
        return NULL;
    }
    spec->want_address = want_address;
    spec->debug_output = debug == Py_True;
    task = PyObject_GC_New(Task, st->TaskType);
    if (task == NULL) {
        lev_run_spec_free(spec);
        return NULL;
    }
    memset((char *)task + sizeof(PyObject), 0,
           sizeof(*task) - sizeof(PyObject));
    task->session = (Session *)Py_NewRef(session);
    task->bridge = levpy_bridge_current(st);
    task->waiters = PyList_New(0);
    task->document = levpy_document_new(st, session, spec->coll, spec->doc_id);
    task->ready_c.deliver = ready_deliver;
    task->ended_c.deliver = ended_deliver;
    PyObject_GC_Track(task);
    if (task->bridge == NULL || task->waiters == NULL ||
        task->document == NULL) {
        lev_run_spec_free(spec);
        return NULL;
    }
    callbacks.ctx = task;
    task->run = lev_run_create(session->core, spec, &callbacks, &err);
    if (task->run == NULL || lev_run_start(task->run, &err) < 0) {
        levpy_raise(st, &err);
        return NULL;
    }
    Py_INCREF(task); /* given back by ended_deliver() */
    return lev_steal(task);
}

/* The op's owner becomes the task: what is cancelled is the run. */
static Task *
start_for(Op *op, bool want_address)
{
    Task *task = task_start(levpy_state_of((PyObject *)op), (Cr *)op->owner,
                            want_address);

    if (task != NULL) {
        Py_SETREF(op->owner, (PyObject *)task);
    }
    return task;
}

static int
cr_start_start(Op *op)
{
    Task *task = start_for(op, true);

    if (task == NULL) {
        return -1;
    }
    task->starter = (Op *)Py_NewRef(op);
    return 0;
}

static int
cr_done_start(Op *op)
{
    return start_for(op, false) == NULL ? -1 : wait_for_end(op, &at_end_done);
}

static int
task_done_start(Op *op)
{
    return wait_for_end(op, &at_end_done);
}

static void
run_cancel(Op *op)
{
    lev_run_stop(task_of(op)->run, -1, true);
}

static void
run_hurry(Op *op)
{
    lev_run_hurry(task_of(op)->run);
}

/* The task that start() gave was never seen: its container goes first. */
static bool
start_undo(Op *op)
{
    Task *task = task_of(op);

    lev_run_stop(task->run, -1, true);
    if (task->ended || wait_for_end(op, &at_end_quiet) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

struct stop_args {
    struct at_end at_end; /* first: op->job is read as one at the end */
    int64_t grace;
};

static int
task_stop_start(Op *op)
{
    struct stop_args *args = op->job;

    if (check_loop(op) < 0) {
        return -1;
    }
    lev_run_stop(task_of(op)->run, args->grace, false);
    return wait_for_end(op, &args->at_end);
}

static void
free_job(Op *op)
{
    free(op->job);
    op->job = NULL;
}

static const struct levpy_op_kind cr_start_kind = {
    .start = cr_start_start,
    .cancel = run_cancel,
    .hurry = run_hurry,
    .undo = start_undo,
};
static const struct levpy_op_kind cr_done_kind = {
    .start = cr_done_start, .cancel = run_cancel, .hurry = run_hurry};
static const struct levpy_op_kind task_done_kind = {
    .start = task_done_start, .cancel = run_cancel, .hurry = run_hurry};
static const struct levpy_op_kind task_stop_kind = {
    .start = task_stop_start,
    .cancel = run_hurry, /* it stops already: not to wait is to kill */
    .release = free_job,
};

PyObject *
levpy_cr_start_op(struct levpy_state *st, Cr *cr)
{
    return (PyObject *)levpy_op_new(st, &cr_start_kind, "Cr.start",
                                    (PyObject *)cr, NULL);
}

PyObject *
levpy_cr_done_op(struct levpy_state *st, Cr *cr)
{
    return (PyObject *)levpy_op_new(st, &cr_done_kind, "Cr.done",
                                    (PyObject *)cr, NULL);
}

/* ---- methods ---- */

static PyObject *
Task_done(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return (PyObject *)levpy_op_new(levpy_state_of(self), &task_done_kind,
                                    "Task.done", self, NULL);
}

static PyObject *
Task_await(PyObject *self)
{
    return Task_done(self, NULL);
}

/* -1 with an exception. */
static double
grace_of(PyObject *value)
{
    double grace;

    if ((!PyLong_Check(value) && !PyFloat_Check(value)) || PyBool_Check(value))
    {
        PyErr_Format(PyExc_TypeError,
                     "grace must be a number of seconds, not %s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    grace = PyFloat_AsDouble(value);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!(grace >= 0)) {
        PyErr_Format(PyExc_ValueError,
                     "grace must be a number of seconds from 0 up, not %R",
                     value);
        return -1;
    }
    return grace;
}

static PyObject *
Task_stop(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"grace", NULL};
    PyObject *given = NULL;
    struct stop_args *stop;
    double grace;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:stop", keywords,
                                     &given)) {
        return NULL;
    }
    grace = given == NULL ? 10 : grace_of(given);
    if (grace < 0) {
        return NULL;
    }
    stop = malloc(sizeof(*stop));
    if (stop == NULL) {
        return PyErr_NoMemory();
    }
    stop->at_end = at_end_quiet;
    stop->grace =
        grace > 9.0e8 ? LEV_NEVER / 4 : (int64_t)(grace * (double)LEV_SECOND);
    return (PyObject *)levpy_op_new(levpy_state_of(self), &task_stop_kind,
                                    "Task.stop", self, stop);
}

struct signal_job {
    struct levpy_job job;
    struct lev_run *run; /* the op's owner keeps it */
    int signo;
};

static int
signal_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct signal_job *sj = lev_container_of(job, struct signal_job, job);

    return lev_run_signal(sj->run, scope, sj->signo, &job->err);
}

static PyObject *
none_finish(struct levpy_job *job, struct levpy_state *st)
{
    Py_RETURN_NONE;
}

/* A signal's number from "SIGINT", "INT", a number, or a member of
 * signal.Signals; -1 with an exception. */
static int
signal_number(PyObject *value)
{
    const char *text;

    if (PyLong_Check(value) && !PyBool_Check(value)) {
        long n = PyLong_AsLong(value);

        if (n >= 1 && n <= 64) {
            return (int)n;
        }
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "signal must be 1 to 64, not %R",
                     value);
        return -1;
    }
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "signal must be a name or a number, not %s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    text = PyUnicode_AsUTF8(value);
    if (text == NULL) {
        return -1;
    }
    if (strncmp(text, "SIG", 3) == 0) {
        text += 3;
    }
    for (int i = 1; i < NSIG; i++) {
        const char *known = sigabbrev_np(i);

        if (known != NULL && strcmp(known, text) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "%R is no signal's name", value);
    return -1;
}

static PyObject *
Task_signal(Task *self, PyObject *args, PyObject *kwargs)
{
    static const struct levpy_job_type type = {"Task.signal", signal_work,
                                               none_finish, NULL};
    static char *keywords[] = {"signal", NULL};
    PyObject *value = NULL;
    struct signal_job *sj;
    int signo = SIGINT;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:signal", keywords,
                                     &value)) {
        return NULL;
    }
    if (value != NULL && (signo = signal_number(value)) < 0) {
        return NULL;
    }
    sj = levpy_job_new(&type, sizeof(*sj));
    if (sj == NULL) {
        return NULL;
    }
    sj->run = self->run;
    sj->signo = signo;
    return levpy_job_op(levpy_state_of((PyObject *)self), sj, (PyObject *)self,
                        self->bridge);
}

/* ---- logs ---- */

static PyObject *
Task_read_logs(PyObject *self, PyObject *pos)
{
    Task *task = (Task *)self;

    return levpy_run_logs(levpy_state_of(self), self, task->bridge, task->run,
                          pos);
}

static PyObject *
Task_more_logs(PyObject *self, PyObject *pos)
{
    return levpy_more_logs(levpy_state_of(self), self, ((Task *)self)->run,
                           pos);
}

static PyObject *
Task_logs(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const struct levpy_glue *glue = levpy_glue(levpy_state_of(self));

    return glue == NULL ? NULL : PyObject_CallOneArg(glue->follow_logs, self);
}

/* ---- attributes and the type ---- */

static PyObject *
Task_id(Task *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(lev_run_number(self->run));
}

static PyObject *
Task_host(Task *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(lev_run_address(self->run));
}

static PyObject *
Task_name(Task *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(lev_run_name(self->run));
}

static PyObject *
Task_repr(Task *self)
{
    return PyUnicode_FromFormat("<Task %u %s%s>", lev_run_number(self->run),
                                lev_run_name(self->run),
                                self->ended ? ", ended" : "");
}

static int
Task_traverse(Task *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->session);
    Py_VISIT(self->bridge);
    Py_VISIT(self->document);
    Py_VISIT(self->waiters);
    Py_VISIT(self->starter);
    return 0;
}

static int
Task_clear(Task *self)
{
    Py_CLEAR(self->session);
    Py_CLEAR(self->bridge);
    Py_CLEAR(self->document);
    Py_CLEAR(self->waiters);
    Py_CLEAR(self->starter);
    return 0;
}

static void
Task_dealloc(Task *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    lev_run_unref(self->run);
    Task_clear(self);
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyMethodDef Task_methods[] = {
    {"done", Task_done, METH_NOARGS, levrt_Task_done_DOC},
    {"stop", (PyCFunction)(void (*)(void))Task_stop,
     METH_VARARGS | METH_KEYWORDS, levrt_Task_stop_DOC},
    {"signal", (PyCFunction)(void (*)(void))Task_signal,
     METH_VARARGS | METH_KEYWORDS, levrt_Task_signal_DOC},
    {"logs", Task_logs, METH_NOARGS, levrt_Task_logs_DOC},
    {"_read_logs", Task_read_logs, METH_O, NULL},
    {"_more_logs", Task_more_logs, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int
add_port(PyObject *all, const struct lev_port *port)
{
    _cleanup_pydecref_ PyObject *key = PyUnicode_FromString(port->key);
    _cleanup_pydecref_ PyObject *place =
        Py_BuildValue("(sH)", port->host_ip, port->host_port);
    _cleanup_pydecref_ PyObject *none = NULL;
    PyObject *list;

    if (key == NULL || place == NULL) {
        return -1;
    }
    list = PyDict_GetItemWithError(all, key);
    if (list == NULL) {
        none = PyErr_Occurred() == NULL ? PyList_New(0) : NULL;
        if (none == NULL || PyDict_SetItem(all, key, none) < 0) {
            return -1;
        }
        list = none; /* the dict has it */
    }
    return PyList_Append(list, place);
}

static PyObject *
Task_published(Task *self, void *Py_UNUSED(closure))
{
    size_t n;
    const struct lev_port *ports = lev_run_published(self->run, &n);
    PyObject *all = PyDict_New();

    for (size_t i = 0; all != NULL && i < n; i++) {
        if (add_port(all, &ports[i]) < 0) {
            Py_CLEAR(all);
        }
    }
    return all;
}

static PyGetSetDef Task_getset[] = {
    {"id", (getter)Task_id, NULL, levrt_Task_id_DOC, NULL},
    {"host", (getter)Task_host, NULL, levrt_Task_host_DOC, NULL},
    {"name", (getter)Task_name, NULL, levrt_Task_name_DOC, NULL},
    {"published", (getter)Task_published, NULL, levrt_Task_published_DOC,
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Task_slots[] = {
    {Py_tp_doc, (void *)levrt_Task_DOC},
    {Py_tp_dealloc, Task_dealloc},
    {Py_tp_traverse, Task_traverse},
    {Py_tp_clear, Task_clear},
    {Py_tp_repr, Task_repr},
    {Py_am_await, Task_await},
    {Py_tp_methods, Task_methods},
    {Py_tp_getset, Task_getset},
    {0, NULL},
};

static PyType_Spec Task_spec = {
    .name = "levrt.Task",
    .basicsize = sizeof(Task),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Task_slots,
};

int
levpy_task_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->TaskType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Task_spec, NULL);
    if (st->TaskType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->TaskType);
}
