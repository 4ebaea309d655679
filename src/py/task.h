/* task.h - a run as Python sees it. */
#ifndef LEVPY_TASK_H
#define LEVPY_TASK_H

#include "cr.h"

typedef struct Task Task;

/* Ops that run a Cr: until it is ready, and until it has ended. */
PyObject *levpy_cr_start_op(struct levpy_state *st, Cr *cr);
PyObject *levpy_cr_done_op(struct levpy_state *st, Cr *cr);

/* document.c */
typedef struct {
    PyObject_HEAD
    Session *session;
    char *coll;
    uint8_t oid[12];
    PyObject *run; /* RunRecord, or NULL while it has not ended */
    bool ordered;  /* reads come after the writes that began before them */
} Document;

Document *levpy_document_new(struct levpy_state *st, Session *session,
                             const char *coll, const uint8_t oid[12]);

/* logs.c: ops that read output from `pos`, an int of Python's, on. The first
 * two give (records, position behind them, whether nothing follows); the third
 * waits until there is more. `task` keeps `run`, which was
 * started on the loop of `home`. */
PyObject *levpy_run_logs(struct levpy_state *st, PyObject *task,
                         const Bridge *home, struct lev_run *run,
                         PyObject *pos);
PyObject *levpy_kept_logs(struct levpy_state *st, Document *doc,
                          PyObject *pos);
PyObject *levpy_more_logs(struct levpy_state *st, PyObject *task,
                          struct lev_run *run, PyObject *pos);

#endif
