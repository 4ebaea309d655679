#include "gate.h"

struct lev_gate_waiter {
    struct lev_event granted;
    struct lev_gate_waiter *next;
};

void
lev_gate_init(struct lev_gate *g)
{
    pthread_mutex_init(&g->mutex, NULL);
    g->busy = false;
    g->first = NULL;
    g->last = &g->first;
}

void
lev_gate_deinit(struct lev_gate *g)
{
    pthread_mutex_destroy(&g->mutex);
}

/* Takes `w` out of the queue; false when it is not there any more. */
static bool
give_up(struct lev_gate *g, struct lev_gate_waiter *w)
{
    struct lev_gate_waiter **p;
    bool found;

    pthread_mutex_lock(&g->mutex);
    for (p = &g->first; *p != NULL && *p != w; p = &(*p)->next) {
    }
    found = *p != NULL;
    if (found) {
        *p = w->next;
        if (w->next == NULL) {
            g->last = p;
        }
    }
    pthread_mutex_unlock(&g->mutex);
    return found;
}

int
lev_gate_enter(struct lev_gate *g, const struct lev_scope *scope,
               struct lev_error *err)
{
    struct lev_gate_waiter w = {.next = NULL};
    int rc;

    if (lev_scope_check(scope, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&g->mutex);
    if (!g->busy) {
        g->busy = true;
        pthread_mutex_unlock(&g->mutex);
        return 0;
    }
    lev_event_init(&w.granted);
    *g->last = &w;
    g->last = &w.next;
    pthread_mutex_unlock(&g->mutex);

    rc = lev_scope_wait(scope, &w.granted, err);
    if (rc < 0 && !give_up(g, &w)) {
        /* It was granted meanwhile: hand it on. The event is set, or about to
         * be by a thread that still holds it. */
        static const struct lev_scope forever = {LEV_NEVER, NULL};
        struct lev_error ignored;

        lev_scope_wait(&forever, &w.granted, &ignored);
        lev_gate_leave(g);
    }
    lev_event_deinit(&w.granted);
    return rc;
}

void
lev_gate_leave(struct lev_gate *g)
{
    struct lev_gate_waiter *w;

    pthread_mutex_lock(&g->mutex);
    w = g->first;
    if (w == NULL) {
        g->busy = false;
    }
    else {
        g->first = w->next;
        if (g->first == NULL) {
            g->last = &g->first;
        }
    }
    pthread_mutex_unlock(&g->mutex);
    if (w != NULL) {
        lev_event_set(&w->granted);
    }
}
