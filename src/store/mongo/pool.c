#include <signal.h>
#include <string.h>

#include "apart.h"
#include "mongo.h"

/* How long closing waits for the driver's monitors; with a mute server they
 * need connectTimeoutMS. */
#define END_LIMIT (3 * LEV_SECOND)

struct lev_mongo_waiter {
    struct lev_event event;
    struct lev_mongo_lease *got;
    bool wanted; /* still in the list */
    struct lev_mongo_waiter *next;
};

static int
check(struct lev_mongo *m, const struct lev_scope *scope,
      struct lev_error *err)
{
    if (m->pid != getpid()) {
        return lev_error_set(err, LEV_E_STORE, 0,
                             "store: the connections to %s belong to process "
                             "%d and cannot be used in one forked from it",
                             m->base.url, (int)m->pid);
    }
    return lev_scope_check(scope, err);
}

/* The first client starts the driver's monitors: they must not take the
 * program's signals. */
static mongoc_client_t *
pop(struct lev_mongo *m)
{
    mongoc_client_t *client;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    client = mongoc_client_pool_try_pop(m->pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return client;
}

static struct lev_mongo_lease *
lease_create(struct lev_mongo *m, struct lev_error *err)
{
    struct lev_mongo_lease *lease = calloc(1, sizeof(*lease));

    if (lease == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    lease->client = pop(m);
    if (lease->client == NULL) {
        free(lease);
        lev_error_set(err, LEV_E_STORE, 0,
                      "store %s: the driver has no client", m->base.url);
        return NULL;
    }
    mongoc_client_set_stream_initiator(lease->client, lev_mongo_stream, lease);
    return lease;
}

/* With the mutex held; NULL: to be made by the caller, or waited for. */
static struct lev_mongo_lease *
take_idle(struct lev_mongo *m, struct lev_mongo_waiter *w, bool *make)
{
    struct lev_mongo_lease *lease = m->idle;

    *make = lease == NULL && m->n < m->max;
    if (lease != NULL) {
        m->idle = lease->next;
    }
    else if (*make) {
        m->n++;
    }
    else {
        *w = (struct lev_mongo_waiter){.wanted = true};
        lev_event_init(&w->event);
        *m->last = w;
        m->last = &w->next;
    }
    return lease;
}

static void
remove_waiter(struct lev_mongo *m, struct lev_mongo_waiter *w)
{
    struct lev_mongo_waiter **link = &m->first;

    while (*link != w) {
        link = &(*link)->next;
    }
    *link = w->next;
    if (w->next == NULL) {
        m->last = link;
    }
}

static struct lev_mongo_lease *
wait(struct lev_mongo *m, struct lev_mongo_waiter *w,
     const struct lev_scope *scope, struct lev_error *err)
{
    int rc = lev_scope_wait(scope, &w->event, err);

    pthread_mutex_lock(&m->mutex);
    if (w->wanted) {
        remove_waiter(m, w);
    }
    pthread_mutex_unlock(&m->mutex);
    lev_event_deinit(&w->event);
    if (rc < 0 && w->got != NULL) {
        lev_mongo_give(m, w->got);
        return NULL;
    }
    if (rc < 0) {
        lev_error_add(err,
                      " (all %d connections to %s were in use; maxPoolSize in "
                      "its URL allows more)",
                      m->max, m->base.url);
    }
    return w->got;
}

struct lev_mongo_lease *
lev_mongo_take(struct lev_mongo *m, const struct lev_scope *scope,
               struct lev_error *err)
{
    struct lev_mongo_lease *lease;
    struct lev_mongo_waiter w;
    bool make;

    if (check(m, scope, err) < 0) {
        return NULL;
    }
    pthread_mutex_lock(&m->mutex);
    lease = take_idle(m, &w, &make);
    pthread_mutex_unlock(&m->mutex);
    if (lease != NULL) {
        return lease;
    }
    if (!make) {
        return wait(m, &w, scope, err);
    }
    lease = lease_create(m, err);
    if (lease == NULL) {
        pthread_mutex_lock(&m->mutex);
        m->n--;
        pthread_mutex_unlock(&m->mutex);
    }
    return lease;
}

void
lev_mongo_give(struct lev_mongo *m, struct lev_mongo_lease *lease)
{
    struct lev_mongo_waiter *w;

    lease->scope = (struct lev_scope){0, NULL}; /* over */
    pthread_mutex_lock(&m->mutex);
    w = m->first;
    if (w == NULL) {
        lease->next = m->idle;
        m->idle = lease;
    }
    else {
        remove_waiter(m, w);
        w->wanted = false;
        w->got = lease;
        /* Under the mutex: it may be gone as soon as that is free. */
        lev_event_set(&w->event);
    }
    pthread_mutex_unlock(&m->mutex);
}

/* A pool and what its clients' streams look at. */
struct ending {
    mongoc_client_pool_t *pool;
    struct lev_mongo_lease *leases;
};

static void
ending_run(void *arg)
{
    struct ending *e = arg;
    struct lev_mongo_lease *lease, *next;

    /* The driver tells the server which sessions end, if it can in time. */
    for (lease = e->leases; lease != NULL; lease = lease->next) {
        lease->scope = (struct lev_scope){lev_now() + LEV_SECOND, NULL};
        mongoc_client_pool_push(e->pool, lease->client);
    }
    mongoc_client_pool_destroy(e->pool);
    for (lease = e->leases; lease != NULL; lease = next) {
        next = lease->next;
        free(lease);
    }
    free(e);
}

/* Left behind by who waited: the thread does all. */
static void
ending_left(void *arg)
{
}

void
lev_mongo_pool_end(struct lev_mongo *m)
{
    struct lev_scope limit = {lev_now() + END_LIMIT, NULL};
    struct ending *e = m->pool == NULL ? NULL : malloc(sizeof(*e));
    struct lev_error ignored;

    if (e != NULL) {
        *e = (struct ending){m->pool, m->idle};
        lev_mongo_apart(ending_run, ending_left, e, &limit, &ignored);
    }
}
