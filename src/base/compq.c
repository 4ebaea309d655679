#include "compq.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct lev_compq {
    _Atomic(struct lev_completion *) head; /* newest first */
    atomic_int pushing;                    /* who is in lev_compq_push() now */
    pid_t pid;
    int fd;
};

static inline void
lev_compq_destroyp(struct lev_compq **q)
{
    lev_compq_destroy(*q);
}

struct lev_compq *
lev_compq_create(struct lev_error *err)
{
    _cleanup_(lev_compq_destroyp) struct lev_compq *q = calloc(1, sizeof(*q));

    if (q == NULL) {
        lev_error_set(err, LEV_E_NOMEM, 0, "completion queue");
        return NULL;
    }
    q->pid = getpid();
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0) {
        lev_error_errno(err, "eventfd");
        return NULL;
    }
    return lev_steal(q);
}

void
lev_compq_destroy(struct lev_compq *q)
{
    if (q == NULL) {
        return;
    }
    /* What a push has brought may have been delivered, and with it the last
     * reason to keep the queue, before that push has returned. The child of a
     * fork has nobody to wait for. */
    while (q->pid == getpid() &&
           atomic_load_explicit(&q->pushing, memory_order_acquire) > 0)
    {
        sched_yield();
    }
    close(q->fd);
    free(q);
}

int
lev_compq_fd(const struct lev_compq *q)
{
    return q->fd;
}

void
lev_compq_push(struct lev_compq *q, struct lev_completion *c)
{
    struct lev_completion *old =
        atomic_load_explicit(&q->head, memory_order_relaxed);
    static const uint64_t one = 1;
    ssize_t n;

    atomic_fetch_add_explicit(&q->pushing, 1, memory_order_relaxed);
    do {
        c->next = old;
    } while (!atomic_compare_exchange_weak_explicit(
        &q->head, &old, c, memory_order_release, memory_order_relaxed));

    /* Only the push that finds the queue empty has to wake the reader: drain
     * takes the whole list, so one pending wake-up covers all that follow. */
    if (old == NULL) {
        do {
            n = write(q->fd, &one, sizeof(one));
        } while (n < 0 && errno == EINTR);
    }
    atomic_fetch_sub_explicit(&q->pushing, 1, memory_order_release);
}

struct lev_completion *
lev_compq_drain(struct lev_compq *q)
{
    struct lev_completion *list, *out = NULL;
    uint64_t ignored;
    ssize_t n;

    /* Reset the fd before taking the list; the other order could swallow the
     * wake-up of a push that lands in between. */
    do {
        n = read(q->fd, &ignored, sizeof(ignored));
    } while (n < 0 && errno == EINTR);

    list = atomic_exchange_explicit(&q->head, NULL, memory_order_acquire);
    while (list != NULL) {
        struct lev_completion *next = list->next;
        list->next = out;
        out = list;
        list = next;
    }
    return out;
}
