#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define IDLE_SECONDS 3
#define STACK_SIZE                                                            \
    (512 * 1024) /* address space; pages come as they are used */

struct lev_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work; /* a job came, or the pool closes */
    pthread_cond_t gone; /* a thread ended */
    struct lev_job *head, **tail;
    unsigned max, threads, idle, queued;
    bool closing;
    bool left; /* closing, and the last thread frees it */
    pid_t pid;
};

struct start {
    void (*fn)(void *);
    void *arg;
    char name[16];
};

static void *
thread_main(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    pthread_setname_np(pthread_self(), start.name);
    start.fn(start.arg);
    return NULL;
}

int
lev_thread_start(const char *name, void (*fn)(void *), void *arg,
                 struct lev_error *err)
{
    _cleanup_free_ struct start *start = malloc(sizeof(*start));
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t thread;
    int rc;

    if (start == NULL) {
        return lev_error_nomem(err, "thread");
    }
    start->fn = fn;
    start->arg = arg;
    snprintf(start->name, sizeof(start->name), "%s", name);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, &attr, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        errno = rc;
        return lev_error_errno(err, "start a thread");
    }
    (void)lev_steal(start);
    return 0;
}

/* Where the thread's memory begins. Its size tells nothing: what threads have
 * of their own lies in it, and a sanitizer's may be most of it. */
static uintptr_t
stack_bottom(void)
{
    pthread_attr_t attr;
    void *bottom = NULL;
    size_t size;

    if (pthread_getattr_np(pthread_self(), &attr) != 0) {
        return UINTPTR_MAX;
    }
    pthread_attr_getstack(&attr, &bottom, &size);
    pthread_attr_destroy(&attr);
    return (uintptr_t)bottom;
}

void
lev_thread_shrink(void)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t bottom = stack_bottom();
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t end = (here & ~(page - 1)) - page; /* for this call itself */

    if (bottom < end) {
        (void)madvise((void *)bottom, end - bottom, MADV_DONTNEED);
    }
}

/* With the mutex held: the next job, or NULL when this thread has to end. */
static struct lev_job *
next_job(struct lev_pool *pool)
{
    struct timespec end;
    struct lev_job *job;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += IDLE_SECONDS;
    while (pool->head == NULL) {
        int rc;

        if (pool->closing) {
            return NULL;
        }
        pool->idle++;
        rc = pthread_cond_timedwait(&pool->work, &pool->mutex, &end);
        pool->idle--;
        if (rc == ETIMEDOUT && pool->head == NULL) {
            return NULL;
        }
    }
    job = pool->head;
    pool->queued--;
    pool->head = job->next;
    if (pool->head == NULL) {
        pool->tail = &pool->head;
    }
    return job;
}

static void
pool_free(struct lev_pool *pool)
{
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->gone);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static void
pool_main(void *arg)
{
    struct lev_pool *pool = arg;
    struct lev_job *job;
    bool last;

    pthread_mutex_lock(&pool->mutex);
    while ((job = next_job(pool)) != NULL) {
        pthread_mutex_unlock(&pool->mutex);
        job->run(job);
        pthread_mutex_lock(&pool->mutex);
    }
    last = --pool->threads == 0 && pool->left;
    pthread_cond_broadcast(&pool->gone);
    pthread_mutex_unlock(&pool->mutex);
    if (last) {
        pool_free(pool);
    }
}

struct lev_pool *
lev_pool_create(unsigned max_threads, struct lev_error *err)
{
    struct lev_pool *pool = calloc(1, sizeof(*pool));
    pthread_condattr_t attr;

    if (pool == NULL) {
        lev_error_nomem(err, "worker pool");
        return NULL;
    }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attr);
    pthread_cond_init(&pool->gone, &attr);
    pthread_condattr_destroy(&attr);
    pool->tail = &pool->head;
    pool->max = max_threads;
    pool->pid = getpid();
    return pool;
}

void
lev_pool_destroy(struct lev_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    if (pool->pid != getpid()) {
        free(pool);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0) {
        pthread_cond_wait(&pool->gone, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    pool_free(pool);
}

void
lev_pool_leave(struct lev_pool *pool)
{
    bool last;

    if (pool == NULL) {
        return;
    }
    if (pool->pid != getpid()) {
        free(pool);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->closing = pool->left = true;
    last = pool->threads == 0;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    if (last) {
        pool_free(pool);
    }
}

static int
check_process(const struct lev_pool *pool, struct lev_error *err)
{
    if (pool->pid == getpid()) {
        return 0;
    }
    return lev_error_set(err, LEV_E_STATE, 0,
                         "levrt was used in process %d, of which this is a "
                         "fork: its threads are not here; start levrt anew in "
                         "the child, or use spawn",
                         (int)pool->pid);
}

/* With the mutex held. */
static void
enqueue(struct lev_pool *pool, struct lev_job *job)
{
    job->next = NULL;
    *pool->tail = job;
    pool->tail = &job->next;
    pool->queued++;
    pthread_cond_signal(&pool->work);
}

/* With the mutex held. */
static int
add_thread(struct lev_pool *pool, struct lev_error *err)
{
    pool->threads++;
    if (lev_thread_start("lev-worker", pool_main, pool, err) < 0) {
        pool->threads--;
        return -1;
    }
    return 0;
}

int
lev_pool_submit(struct lev_pool *pool, struct lev_job *job,
                struct lev_error *err)
{
    int rc = 0;

    if (check_process(pool, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&pool->mutex);
    enqueue(pool, job);
    /* An idle thread that was signalled counts as idle until it runs: compare
     * with the whole queue, or a job could wait behind a long one. With other
     * threads alive the job of a thread that does not start only waits longer.
     */
    if (pool->queued > pool->idle && pool->threads < pool->max &&
        add_thread(pool, err) < 0 && pool->threads == 0)
    {
        pool->head = NULL;
        pool->tail = &pool->head;
        pool->queued = 0;
        rc = -1;
    }
    pthread_mutex_unlock(&pool->mutex);
    return rc;
}

int
lev_pool_start(struct lev_pool *pool, struct lev_job *job,
               struct lev_error *err)
{
    int rc = 0;

    if (check_process(pool, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&pool->mutex);
    if (pool->queued >= pool->idle) {
        rc = add_thread(pool, err);
    }
    if (rc == 0) {
        enqueue(pool, job);
    }
    pthread_mutex_unlock(&pool->mutex);
    return rc;
}
