#include "scope.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

/* Lock order: the tree's mutex, then an event's. A waiter joins and leaves the
 * tree without holding its event's mutex. */

void
lev_cancel_init(struct lev_cancel *c, struct lev_cancel *parent)
{
    memset(c, 0, sizeof(*c));
    c->fd = -1;
    pthread_mutex_init(&c->mutex, NULL);
    c->root = parent == NULL ? c : parent->root;
    if (parent == NULL) {
        return;
    }
    pthread_mutex_lock(&c->root->mutex);
    atomic_store(&c->fired, atomic_load(&parent->fired));
    c->next = parent->children;
    c->link = &parent->children;
    if (c->next != NULL) {
        c->next->link = &c->next;
    }
    parent->children = c;
    pthread_mutex_unlock(&c->root->mutex);
}

void
lev_cancel_deinit(struct lev_cancel *c)
{
    if (c->link != NULL) {
        pthread_mutex_lock(&c->root->mutex);
        *c->link = c->next;
        if (c->next != NULL) {
            c->next->link = c->link;
        }
        pthread_mutex_unlock(&c->root->mutex);
    }
    lev_closep(&c->fd);
    pthread_mutex_destroy(&c->mutex);
}

static void
wake_fd(int fd)
{
    static const uint64_t one = 1;
    ssize_t n;

    do {
        n = write(fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
}

/* With the tree locked. */
static void
fire_locked(struct lev_cancel *c)
{
    if (atomic_exchange(&c->fired, true)) {
        return;
    }
    if (c->fd >= 0) {
        wake_fd(c->fd);
    }
    for (struct lev_event *ev = c->waiters; ev != NULL; ev = ev->next) {
        pthread_mutex_lock(&ev->mutex);
        ev->cancelled = true;
        pthread_cond_signal(&ev->cond);
        pthread_mutex_unlock(&ev->mutex);
    }
    for (struct lev_cancel *k = c->children; k != NULL; k = k->next) {
        fire_locked(k);
    }
}

void
lev_cancel_fire(struct lev_cancel *c)
{
    pthread_mutex_lock(&c->root->mutex);
    fire_locked(c);
    pthread_mutex_unlock(&c->root->mutex);
}

bool
lev_cancel_fired(const struct lev_cancel *c)
{
    return atomic_load(&c->fired);
}

void
lev_event_init(struct lev_event *ev)
{
    pthread_condattr_t attr;

    memset(ev, 0, sizeof(*ev));
    pthread_mutex_init(&ev->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ev->cond, &attr);
    pthread_condattr_destroy(&attr);
}

void
lev_event_deinit(struct lev_event *ev)
{
    pthread_cond_destroy(&ev->cond);
    pthread_mutex_destroy(&ev->mutex);
}

void
lev_event_set(struct lev_event *ev)
{
    pthread_mutex_lock(&ev->mutex);
    ev->set = true;
    /* Under the lock: the waiter may free the event as soon as it has it. */
    pthread_cond_signal(&ev->cond);
    pthread_mutex_unlock(&ev->mutex);
}

bool
lev_event_is_set(struct lev_event *ev)
{
    bool set;

    pthread_mutex_lock(&ev->mutex);
    set = ev->set;
    pthread_mutex_unlock(&ev->mutex);
    return set;
}

int64_t
lev_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * LEV_SECOND + ts.tv_nsec;
}

struct lev_scope
lev_scope_within(const struct lev_scope *parent, int64_t ns)
{
    int64_t now = lev_now();
    int64_t end = ns > LEV_NEVER - now ? LEV_NEVER : now + ns;
    struct lev_scope s = *parent;

    if (end < s.deadline) {
        s.deadline = end;
    }
    return s;
}

static int
cancelled(struct lev_error *err)
{
    return lev_error_set(err, LEV_E_CANCELLED, 0, "cancelled");
}

static int
timed_out(struct lev_error *err)
{
    return lev_error_set(err, LEV_E_TIMEOUT, 0, "timed out");
}

int
lev_scope_check(const struct lev_scope *s, struct lev_error *err)
{
    if (s->cancel != NULL && lev_cancel_fired(s->cancel)) {
        return cancelled(err);
    }
    if (s->deadline != LEV_NEVER && lev_now() >= s->deadline) {
        return timed_out(err);
    }
    return 0;
}

int
lev_scope_left_ms(const struct lev_scope *s, int limit)
{
    int64_t left;

    if (s->deadline == LEV_NEVER) {
        return limit;
    }
    left = (s->deadline - lev_now() + LEV_MS - 1) / LEV_MS;
    if (left < 0) {
        return 0;
    }
    return left < limit ? (int)left : limit;
}

int
lev_scope_fd(const struct lev_scope *s, struct lev_error *err)
{
    struct lev_cancel *c = s->cancel;
    int fd;

    if (c == NULL) {
        return -1;
    }
    pthread_mutex_lock(&c->root->mutex);
    if (c->fd < 0) {
        c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (c->fd < 0) {
            lev_error_errno(err, "eventfd");
        }
        else if (atomic_load(&c->fired)) {
            wake_fd(c->fd);
        }
    }
    fd = c->fd;
    pthread_mutex_unlock(&c->root->mutex);
    return fd;
}

int
lev_scope_poll(const struct lev_scope *s, struct pollfd *fds, size_t n,
               struct lev_error *err)
{
    struct pollfd all[16];
    int rc;

    if (n + 1 > LEV_ARRAY_LEN(all)) {
        return lev_error_set(err, LEV_E_INVALID, 0, "too many descriptors");
    }
    for (size_t i = 0; i < n; i++) {
        all[i] = fds[i];
    }
    all[n] = (struct pollfd){.fd = -1, .events = POLLIN};
    if (s->cancel != NULL) {
        all[n].fd = lev_scope_fd(s, err);
        if (all[n].fd < 0) {
            return -1;
        }
    }
    for (;;) {
        int ready = 0;

        if (lev_scope_check(s, err) < 0) {
            return -1;
        }
        rc = poll(all, n + 1,
                  s->deadline == LEV_NEVER ? -1
                                           : lev_scope_left_ms(s, INT_MAX));
        if (rc < 0 && errno != EINTR) {
            return lev_error_errno(err, "poll");
        }
        for (size_t i = 0; rc > 0 && i < n; i++) {
            fds[i].revents = all[i].revents;
            ready += fds[i].revents != 0;
        }
        if (ready > 0) {
            return ready;
        }
    }
}

int
lev_scope_sleep(const struct lev_scope *s, int64_t ns, struct lev_error *err)
{
    struct lev_scope nap = lev_scope_within(s, ns);
    bool whole = nap.deadline < s->deadline;

    if (lev_scope_poll(&nap, NULL, 0, err) < 0 &&
        (err->code != LEV_E_TIMEOUT || !whole))
    {
        return -1;
    }
    return 0;
}

static void
waiter_add(struct lev_cancel *c, struct lev_event *ev)
{
    pthread_mutex_lock(&c->root->mutex);
    ev->cancelled = atomic_load(&c->fired);
    ev->next = c->waiters;
    ev->link = &c->waiters;
    if (ev->next != NULL) {
        ev->next->link = &ev->next;
    }
    c->waiters = ev;
    pthread_mutex_unlock(&c->root->mutex);
}

static void
waiter_remove(struct lev_cancel *c, struct lev_event *ev)
{
    pthread_mutex_lock(&c->root->mutex);
    *ev->link = ev->next;
    if (ev->next != NULL) {
        ev->next->link = ev->link;
    }
    pthread_mutex_unlock(&c->root->mutex);
}

int
lev_scope_wait(const struct lev_scope *s, struct lev_event *ev,
               struct lev_error *err)
{
    struct timespec end = {s->deadline / LEV_SECOND, s->deadline % LEV_SECOND};
    int rc = 0;
    bool set, gone;

    if (s->cancel != NULL) {
        waiter_add(s->cancel, ev);
    }
    pthread_mutex_lock(&ev->mutex);
    while (!ev->set && !ev->cancelled && rc == 0) {
        rc = s->deadline == LEV_NEVER
                 ? pthread_cond_wait(&ev->cond, &ev->mutex)
                 : pthread_cond_timedwait(&ev->cond, &ev->mutex, &end);
    }
    set = ev->set;
    gone = ev->cancelled;
    pthread_mutex_unlock(&ev->mutex);
    if (s->cancel != NULL) {
        waiter_remove(s->cancel, ev);
    }
    if (set) {
        return 0;
    }
    return gone ? cancelled(err) : timed_out(err);
}
