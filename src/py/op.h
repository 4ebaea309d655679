/* op.h - what Python awaits: a coroutine to asyncio, a job to the core.
 *
 * An op starts when it is first awaited (or by levpy_op_begin()). Its kind
 * says how the job starts and how it is cancelled; whoever finishes the job
 * calls levpy_op_complete() on the loop's thread. Cancelling waits: throw()
 * keeps the first exception, cancels the job and raises only when the job has
 * ended.
 */
#ifndef LEVPY_OP_H
#define LEVPY_OP_H

#include "levpy.h"

typedef struct Op Op;

struct levpy_op_kind {
    /* Starts the job; op->bridge is set. -1 with an exception. The job keeps a
     * reference to the op until it completes it. */
    int (*start)(Op *op);
    void (*cancel)(Op *op); /* the first time */
    void (*hurry)(Op *op);  /* cancelled again; may be NULL */
    /* Cancelled when there is a result that nobody has seen: true when undoing
     * it has begun, and the op will be completed once more. May be NULL. */
    bool (*undo)(Op *op);
    void (*release)(Op *op); /* frees op->job; may be NULL */
};

struct Op {
    PyObject_HEAD
    const struct levpy_op_kind *kind;
    const char *name; /* "Cr.done" */
    Bridge *bridge;   /* of the loop it was started on */
    PyObject *future; /* what the loop waits for now */
    PyObject *result; /* one of these two when it is done */
    PyObject *error;
    PyObject *thrown; /* the first exception thrown in */
    PyObject *owner;  /* what the job works on */
    void *job;        /* the kind's own */
    enum {
        LEVPY_OP_NEW,
        LEVPY_OP_RUNNING,
        LEVPY_OP_DONE,
        LEVPY_OP_CLOSED,
    } state;
    bool begun; /* by levpy_op_begin(): not awaiting it is fine */
};

/* `owner` may be NULL; takes `job` over also on failure, through `release`. */
Op *levpy_op_new(struct levpy_state *st, const struct levpy_op_kind *kind,
                 const char *name, PyObject *owner, void *job);
/* Starts it now; -1 with an exception. */
int levpy_op_begin(Op *op);
/* Raises what an op called `name` says in a fork of process `pid`, in which
 * all is that it needs; -1. */
int levpy_raise_fork(const char *name, pid_t pid);
/* Steals `result`; NULL takes the current exception. */
void levpy_op_complete(Op *op, PyObject *result);

/* ---- jobs of the worker pool ---- */

struct levpy_job;

/* Jobs of one lane run one after another, in the order they were started. */
struct levpy_lane;

struct levpy_lane *levpy_lane_new(void);        /* NULL when out of memory */
void levpy_lane_unref(struct levpy_lane *lane); /* NULL is fine */
/* Waits for the jobs that have been started; without the GIL. */
int levpy_lane_wait(struct levpy_lane *lane, const struct lev_scope *scope,
                    struct lev_error *err);

struct levpy_job_type {
    const char *name;
    /* On a worker thread, without the GIL; -1 with job->err. */
    int (*work)(struct levpy_job *job, const struct lev_scope *scope);
    /* On the loop's thread, after work() succeeded: a new reference. */
    PyObject *(*finish)(struct levpy_job *job, struct levpy_state *st);
    void (*release)(struct levpy_job *job); /* members; not the job */
};

struct levpy_job {
    const struct levpy_job_type *type;
    struct lev_job pool;
    struct lev_completion done;
    struct lev_cancel cancel;
    struct lev_error err;
    Op *op;                  /* a reference while the job is under way */
    struct levpy_lane *lane; /* borrowed from the op's owner; or NULL */
    pid_t home;              /* of the process in which it can run */
    int rc;
};

/* A zeroed job of `size` bytes (its first member is a struct levpy_job); NULL
 * with MemoryError. */
void *levpy_job_new(const struct levpy_job_type *type, size_t size);
void levpy_job_free(struct levpy_job *job); /* one that no op has taken */
/* The op that will run it; takes the job over. `home`: of the loop on which
 * what the job uses was made; in a fork of that process the op fails. */
PyObject *levpy_job_op(struct levpy_state *st, void *job, PyObject *owner,
                       const Bridge *home);

#endif
