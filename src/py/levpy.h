/* levpy.h - what every file of the binding includes first. */
#ifndef LEVPY_H
#define LEVPY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "compq.h"
#include "levbson.h"
#include "scope.h"
#include "worker.h"
#include <structmember.h>

static inline void
levpy_decrefp(void *p)
{
    Py_XDECREF(*(PyObject **)p);
}
/* Only where the GIL is held until the end of the scope. */
#define _cleanup_pydecref_ _cleanup_(levpy_decrefp)

/* Every PyObject * of the module, once: the struct, traverse and clear are
 * all made from this list, so none of them can forget a member. */
#define LEVPY_STATE(X)                                                        \
    X(PyObject, errors)  /* levrt.errors */                                   \
    X(PyObject, bridges) /* loop -> Bridge, weak */                           \
    X(PyObject, get_running_loop)                                             \
    X(PyObject, CancelledError)                                               \
    X(PyTypeObject, BridgeType)                                               \
    X(PyTypeObject, OpType)                                                   \
    X(PyTypeObject, SessionType)                                              \
    X(PyTypeObject, CursorType)                                               \
    X(PyTypeObject, CrType)                                                   \
    X(PyTypeObject, TaskType)                                                 \
    X(PyTypeObject, DocumentType)                                             \
    X(PyObject, str_add_reader)                                               \
    X(PyObject, str_create_future)                                            \
    X(PyObject, str_done)                                                     \
    X(PyObject, str_future_blocking)                                          \
    X(PyObject, str_get)                                                      \
    X(PyObject, str_is_closed)                                                \
    X(PyObject, str_is_running)                                               \
    X(PyObject, str_pop)                                                      \
    X(PyObject, str_remove_reader)                                            \
    X(PyObject, str_set_result)

/* What is called of levrt.glue. */
#define LEVPY_GLUE(X)                                                         \
    X(check_files)                                                            \
    X(check_targets)                                                          \
    X(collection)                                                             \
    X(current_session)                                                        \
    X(entry_call)                                                             \
    X(failure)                                                                \
    X(follow_logs)                                                            \
    X(kept_logs)                                                              \
    X(merge_set)                                                              \
    X(namespace_prefix)                                                       \
    X(run_record)                                                             \
    X(wants_output)                                                           \
    X(watch_loop)

struct levpy_glue {
#define X(name) PyObject *name;
    LEVPY_GLUE(X)
#undef X
};

struct levpy_state {
    struct levbson_state bson; /* first: the codec's own types find it there */
#define X(type, name) type *name;
    LEVPY_STATE(X)
#undef X
    struct levpy_glue glue;
    bool glue_bound;
    struct lev_pool *pool; /* made when the first job comes */
    pid_t pool_pid;
};

extern struct PyModuleDef levpy_module;

static inline struct levpy_state *
levpy_state(PyObject *module)
{
    return PyModule_GetState(module);
}

static inline struct levpy_state *
levpy_state_of(PyObject *self)
{
    return levpy_state(PyType_GetModuleByDef(Py_TYPE(self), &levpy_module));
}

/* The functions of levrt.glue, which is imported when the first object needs
 * it: it brings most of the package along. NULL with an exception. */
const struct levpy_glue *levpy_glue(struct levpy_state *st);
/* levrt.errors, imported when the first exception needs it. Likewise. */
PyObject *levpy_errors(struct levpy_state *st);

/* error.c: sets the exception that `err` stands for; NULL. */
PyObject *levpy_raise(struct levpy_state *st, const struct lev_error *err);
/* The exception as an object, not set; NULL with one set on failure. */
PyObject *levpy_error_new(struct levpy_state *st, const struct lev_error *err);

/* bridge.c */
typedef struct {
    PyObject_HEAD
    PyObject *loop;
    struct lev_compq *queue;
    pid_t pid; /* of the process whose threads push to the queue */
} Bridge;

/* The running loop's, made on first use; a new reference. */
Bridge *levpy_bridge_current(struct levpy_state *st);
/* Whether this process is a fork of the bridge's: nothing will be delivered
 * here, and what is waited for is the parent's, as are loop and runs. */
bool levpy_bridge_is_parents(const Bridge *bridge);
/* Delivers what has come, where the loop will not any more: it is closed, or
 * does not run. Tasks that wait on a closed loop are not woken. */
int levpy_bridge_settle(Bridge *bridge);

/* op.c: the module's function `begin`. */
PyObject *levpy_begin(PyObject *module, PyObject *op);

/* Each adds one type to the module. */
int levpy_bridge_setup(PyObject *module);
int levpy_op_setup(PyObject *module);
int levpy_session_setup(PyObject *module);
int levpy_cursor_setup(PyObject *module);
int levpy_cr_setup(PyObject *module);
int levpy_task_setup(PyObject *module);
int levpy_document_setup(PyObject *module);

#endif
