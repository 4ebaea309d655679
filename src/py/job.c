/* job.c - short operations: a job on the worker pool behind an op. */

#include "op.h"

#define POOL_THREADS 16

static struct lev_pool *
pool_of(struct levpy_state *st, struct lev_error *err)
{
    /* The child of a fork has none of the parent's threads; the old pool is
     * the parent's memory, and is left alone. */
    if (st->pool == NULL || st->pool_pid != getpid()) {
        st->pool = lev_pool_create(POOL_THREADS, err);
        st->pool_pid = getpid();
    }
    return st->pool;
}

void *
levpy_job_new(const struct levpy_job_type *type, size_t size)
{
    struct levpy_job *job = calloc(1, size);

    if (job == NULL) {
        return PyErr_NoMemory();
    }
    job->type = type;
    lev_cancel_init(&job->cancel, NULL);
    return job;
}

void
levpy_job_free(struct levpy_job *job)
{
    if (job == NULL) {
        return;
    }
    if (job->type->release != NULL) {
        job->type->release(job);
    }
    lev_cancel_deinit(&job->cancel);
    free(job);
}

/* A job of the pool that does the lane's jobs until there are none. */
struct levpy_lane {
    struct lev_job pool;
    pthread_mutex_t mutex;
    struct lev_job *head, **tail;
    bool busy; /* it is in the pool */
    unsigned refs;
};

struct levpy_lane *
levpy_lane_new(void)
{
    struct levpy_lane *lane = calloc(1, sizeof(*lane));

    if (lane != NULL) {
        pthread_mutex_init(&lane->mutex, NULL);
        lane->tail = &lane->head;
        lane->refs = 1;
    }
    return lane;
}

void
levpy_lane_unref(struct levpy_lane *lane)
{
    unsigned left;

    if (lane == NULL) {
        return;
    }
    pthread_mutex_lock(&lane->mutex);
    left = --lane->refs;
    pthread_mutex_unlock(&lane->mutex);
    if (left == 0) {
        pthread_mutex_destroy(&lane->mutex);
        free(lane);
    }
}

static void
lane_run(struct lev_job *pool)
{
    struct levpy_lane *lane = lev_container_of(pool, struct levpy_lane, pool);

    for (;;) {
        struct lev_job *job;

        pthread_mutex_lock(&lane->mutex);
        job = lane->head;
        if (job == NULL) {
            lane->busy = false;
        }
        else if ((lane->head = job->next) == NULL) {
            lane->tail = &lane->head;
        }
        pthread_mutex_unlock(&lane->mutex);
        if (job == NULL) {
            break;
        }
        job->run(job);
    }
    levpy_lane_unref(lane);
}

/* Last in its lane when it was put there: those before it have ended. */
struct lane_mark {
    struct lev_job job;
    struct lev_event reached;
    atomic_int refs; /* the lane's, and that of who waits */
};

static void
mark_unref(struct lane_mark *mark)
{
    if (atomic_fetch_sub(&mark->refs, 1) == 1) {
        lev_event_deinit(&mark->reached);
        free(mark);
    }
}

static void
mark_run(struct lev_job *job)
{
    struct lane_mark *mark = lev_container_of(job, struct lane_mark, job);

    lev_event_set(&mark->reached);
    mark_unref(mark);
}

/* False when there is nothing to wait for. */
static bool
lane_append_mark(struct levpy_lane *lane, struct lane_mark *mark)
{
    bool busy;

    pthread_mutex_lock(&lane->mutex);
    busy = lane->busy;
    if (busy) {
        atomic_fetch_add(&mark->refs, 1);
        mark->job = (struct lev_job){NULL, mark_run};
        *lane->tail = &mark->job;
        lane->tail = &mark->job.next;
    }
    pthread_mutex_unlock(&lane->mutex);
    return busy;
}

int
levpy_lane_wait(struct levpy_lane *lane, const struct lev_scope *scope,
                struct lev_error *err)
{
    struct lane_mark *mark = calloc(1, sizeof(*mark));
    int rc = 0;

    if (mark == NULL) {
        return lev_error_nomem(err, "wait for writes");
    }
    lev_event_init(&mark->reached);
    atomic_store(&mark->refs, 1);
    if (lane_append_mark(lane, mark)) {
        rc = lev_scope_wait(scope, &mark->reached, err);
    }
    mark_unref(mark);
    return rc;
}

static int
lane_submit(struct levpy_lane *lane, struct lev_pool *pool,
            struct lev_job *job, struct lev_error *err)
{
    bool start;
    int rc = 0;

    pthread_mutex_lock(&lane->mutex);
    start = !lane->busy;
    if (start) {
        lane->pool.run = lane_run;
        rc = lev_pool_submit(pool, &lane->pool, err);
    }
    if (rc == 0) {
        job->next = NULL;
        *lane->tail = job;
        lane->tail = &job->next;
        lane->busy = true;
        lane->refs += start;
    }
    pthread_mutex_unlock(&lane->mutex);
    return rc;
}

static void
job_deliver(struct lev_completion *c)
{
    struct levpy_job *job = lev_container_of(c, struct levpy_job, done);
    struct levpy_state *st = levpy_state_of((PyObject *)job->op);
    Op *op = lev_steal(job->op);
    PyObject *result = NULL;

    if (job->rc < 0) {
        levpy_raise(st, &job->err);
    }
    else {
        result = job->type->finish(job, st);
    }
    levpy_op_complete(op, result);
    Py_DECREF(op);
}

/* On a worker's thread. The op, and with it the bridge, is kept by the job. */
static void
job_run(struct lev_job *pool)
{
    struct levpy_job *job = lev_container_of(pool, struct levpy_job, pool);
    const struct lev_scope scope = {LEV_NEVER, &job->cancel};

    job->rc = job->type->work(job, &scope);
    lev_compq_push(job->op->bridge->queue, &job->done);
}

static int
job_start(Op *op)
{
    struct levpy_state *st = levpy_state_of((PyObject *)op);
    struct levpy_job *job = op->job;
    struct lev_error err;
    struct lev_pool *pool;

    if (job->home != getpid()) {
        return levpy_raise_fork(op->name, job->home);
    }
    pool = pool_of(st, &err);
    if (pool == NULL) {
        levpy_raise(st, &err);
        return -1;
    }
    job->pool.run = job_run;
    job->done.deliver = job_deliver;
    job->op = (Op *)Py_NewRef(op);
    if ((job->lane != NULL ? lane_submit(job->lane, pool, &job->pool, &err)
                           : lev_pool_submit(pool, &job->pool, &err)) < 0)
    {
        Py_CLEAR(job->op);
        levpy_raise(st, &err);
        return -1;
    }
    return 0;
}

static void
job_cancel(Op *op)
{
    struct levpy_job *job = op->job;

    lev_cancel_fire(&job->cancel);
}

static void
job_release(Op *op)
{
    levpy_job_free(op->job);
    op->job = NULL;
}

PyObject *
levpy_job_op(struct levpy_state *st, void *arg, PyObject *owner,
             const Bridge *home)
{
    static const struct levpy_op_kind kind = {
        .start = job_start,
        .cancel = job_cancel,
        .release = job_release,
    };
    struct levpy_job *job = arg;

    job->home = home->pid;
    return (PyObject *)levpy_op_new(st, &kind, job->type->name, owner, job);
}
