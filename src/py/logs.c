/* logs.c - ops that read the output which a run has kept, piece by piece.
 *
 * A disk may be slow, and the run that writes holds the lock meanwhile: so the
 * reading is a job of the worker pool, and the loop is given pieces that it
 * makes lines of (logs.py).
 */

#include "runlog.h"
#include "task.h"

/* ---- the next piece ---- */

struct piece_job {
    struct levpy_job job;
    /* Either of these; the op's owner keeps it. */
    struct lev_run *run;
    struct lev_session *core;
    char name[25]; /* of the run's document, where there is only that */
    uint64_t pos;
    bool ended;
    struct lev_buf out;
};

static int
load_piece(struct piece_job *pj, struct lev_error *err)
{
    _cleanup_free_ char *dir = NULL;

    if (asprintf(&dir, "%s/logs", lev_session_config(pj->core)->data_dir) < 0)
    {
        dir = NULL;
        return lev_error_nomem(err, "path of the logs");
    }
    if (lev_runlog_load(dir, pj->name, &pj->pos, LEV_RUNLOG_PIECE, &pj->out,
                        err) < 0)
    {
        return -1;
    }
    return pj->out.len == 0;
}

static int
piece_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct piece_job *pj = lev_container_of(job, struct piece_job, job);
    int rc = pj->run != NULL
                 ? lev_run_logs(pj->run, &pj->pos, &pj->out, &job->err)
                 : load_piece(pj, &job->err);

    pj->ended = rc == 1;
    return rc < 0 ? -1 : 0;
}

static PyObject *
piece_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct piece_job *pj = lev_container_of(job, struct piece_job, job);

    return Py_BuildValue("y#KO", lev_buf_text(&pj->out),
                         (Py_ssize_t)pj->out.len, (unsigned long long)pj->pos,
                         pj->ended ? Py_True : Py_False);
}

static void
piece_release(struct levpy_job *job)
{
    lev_buf_deinit(&lev_container_of(job, struct piece_job, job)->out);
}

/* A position from Python; -1 with an exception. */
static int
get_position(PyObject *arg, uint64_t *pos)
{
    *pos = PyLong_AsUnsignedLongLong(arg);
    return PyErr_Occurred() ? -1 : 0;
}

static struct piece_job *
piece_new(PyObject *arg, const struct levpy_job_type *type)
{
    struct piece_job *pj;
    uint64_t pos;

    if (get_position(arg, &pos) < 0) {
        return NULL;
    }
    pj = levpy_job_new(type, sizeof(*pj));
    if (pj != NULL) {
        pj->pos = pos;
    }
    return pj;
}

PyObject *
levpy_run_logs(struct levpy_state *st, PyObject *task, const Bridge *home,
               struct lev_run *run, PyObject *pos)
{
    static const struct levpy_job_type type = {"Task.logs", piece_work,
                                               piece_finish, piece_release};
    struct piece_job *pj = piece_new(pos, &type);

    if (pj == NULL) {
        return NULL;
    }
    pj->run = run;
    return levpy_job_op(st, pj, task, home);
}

PyObject *
levpy_kept_logs(struct levpy_state *st, Document *doc, PyObject *pos)
{
    static const struct levpy_job_type type = {"Document.logs", piece_work,
                                               piece_finish, piece_release};
    struct piece_job *pj = piece_new(pos, &type);

    if (pj == NULL) {
        return NULL;
    }
    pj->core = doc->session->core;
    for (int i = 0; i < 12; i++) {
        snprintf(pj->name + 2 * i, 3, "%02x", doc->oid[i]);
    }
    return levpy_job_op(st, pj, (PyObject *)doc, doc->session->bridge);
}

/* ---- more than there is yet ---- */

/* Waits for output behind a position; lives until it is delivered. */
struct log_wait {
    struct lev_completion c;
    struct lev_run *run; /* the op's owner keeps it */
    uint64_t pos;
    Op *op; /* a reference while it waits */
};

static void
log_wait_deliver(struct lev_completion *c)
{
    struct log_wait *w = lev_container_of(c, struct log_wait, c);
    Op *op = lev_steal(w->op);

    levpy_op_complete(op, Py_NewRef(Py_None));
    Py_DECREF(op);
}

static void
log_wait_notify(void *ctx)
{
    struct log_wait *w = ctx;

    lev_compq_push(w->op->bridge->queue, &w->c);
}

static int
log_wait_start(Op *op)
{
    struct log_wait *w = op->job;

    w->c.deliver = log_wait_deliver;
    w->op = (Op *)Py_NewRef(op);
    lev_run_logs_notify(w->run, w->pos, log_wait_notify, w);
    return 0;
}

static void
log_wait_cancel(Op *op)
{
    struct log_wait *w = op->job;

    /* Not found: it has been notified, and its delivery is on the way. */
    if (lev_run_logs_forget(w->run, w)) {
        log_wait_notify(w);
    }
}

static void
log_wait_release(Op *op)
{
    free(op->job);
    op->job = NULL;
}

PyObject *
levpy_more_logs(struct levpy_state *st, PyObject *task, struct lev_run *run,
                PyObject *pos)
{
    static const struct levpy_op_kind kind = {.start = log_wait_start,
                                              .cancel = log_wait_cancel,
                                              .release = log_wait_release};
    struct log_wait *w = calloc(1, sizeof(*w));

    if (w == NULL) {
        return PyErr_NoMemory();
    }
    w->run = run;
    if (get_position(pos, &w->pos) < 0) {
        free(w);
        return NULL;
    }
    return (PyObject *)levpy_op_new(st, &kind, "Task.logs", task, w);
}
