#include "run_internal.h"

#include <string.h>

static void
service_ready(void *ctx)
{
    struct lev_service *svc = ctx;
    struct lev_run *owner = svc->owner;

    pthread_mutex_lock(&owner->mutex);
    svc->ready = true;
    owner->services_waiting--;
    if (owner->services_waiting == 0) {
        lev_event_set(&owner->services_ready);
    }
    pthread_mutex_unlock(&owner->mutex);
}

static void
service_ended(void *ctx)
{
    struct lev_service *svc = ctx;
    struct lev_run *owner = svc->owner;

    pthread_mutex_lock(&owner->mutex);
    svc->ended = true;
    if (!svc->ready) {
        lev_event_set(&owner->services_ready);
    }
    owner->services_alive--;
    /* Last: the owner may go on, and be gone, from here on. */
    if (owner->services_alive == 0) {
        lev_event_set(&owner->services_gone);
    }
    pthread_mutex_unlock(&owner->mutex);
}

static int
start_one(struct lev_run *run, size_t i, struct lev_error *err)
{
    struct lev_service *svc = &run->services[i];
    const struct lev_run_callbacks callbacks = {
        .ready = service_ready, .ended = service_ended, .ctx = svc};

    struct lev_run_spec *spec = run->spec->services[i].spec;

    /* They share a network: where the owner is, it is. */
    if (spec->engine == NULL && run->spec->engine != NULL &&
        (spec->engine = strdup(run->spec->engine)) == NULL)
    {
        return lev_error_nomem(err, "services");
    }
    svc->owner = run;
    svc->alias = run->spec->services[i].alias;
    svc->run = lev_run_create(
        run->session, lev_steal(run->spec->services[i].spec), &callbacks, err);
    if (svc->run == NULL) {
        return -1;
    }
    svc->run->as_service = svc;
    if (lev_run_start(svc->run, err) < 0) {
        lev_run_unref(lev_steal(svc->run));
        return -1;
    }
    pthread_mutex_lock(&run->mutex);
    run->services_n = i + 1;
    pthread_mutex_unlock(&run->mutex);
    return 0;
}

int
lev_services_check(struct lev_run *run, struct lev_error *err)
{
    for (size_t i = 0; i < run->services_n; i++) {
        struct lev_service *svc = &run->services[i];
        const struct lev_run_result *r = lev_run_result(svc->run);
        bool ended, ready;

        pthread_mutex_lock(&run->mutex);
        ended = svc->ended;
        ready = svc->ready;
        pthread_mutex_unlock(&run->mutex);
        if (!ended || (ready && r->err.code == LEV_OK)) {
            continue;
        }
        if (r->err.code != LEV_OK) {
            bool said = r->log_tail != NULL && r->log_tail[0] != '\0';

            return lev_error_set(err, r->err.code, r->err.detail,
                                 "service %s (phase %s): %.500s%s%.400s",
                                 svc->alias, r->phase, r->err.msg,
                                 said ? "; its last lines: " : "",
                                 said ? r->log_tail : "");
        }
        return lev_error_set(err, LEV_E_START, 0,
                             "service %s ended with exit code %d before it "
                             "was ready; its last lines: %.400s",
                             svc->alias, r->exit_code, r->log_tail);
    }
    return 0;
}

int
lev_services_start(struct lev_run *run, const struct lev_scope *scope,
                   struct lev_error *err)
{
    size_t n = run->spec->services_n;
    char role[32];

    if (n == 0) {
        return 0;
    }
    snprintf(role, sizeof(role), "run-%u", run->number);
    run->network =
        lev_site_network_create(run->site, scope, role, (unsigned)n + 1, err);
    if (run->network == NULL) {
        return -1;
    }
    run->services = calloc(n, sizeof(*run->services));
    if (run->services == NULL) {
        return lev_error_nomem(err, "services");
    }
    /* Before the first starts: its thread may report at once. */
    run->services_waiting = n;
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&run->mutex);
        run->services_alive++;
        pthread_mutex_unlock(&run->mutex);
        if (start_one(run, i, err) < 0) {
            pthread_mutex_lock(&run->mutex);
            run->services_alive--;
            pthread_mutex_unlock(&run->mutex);
            return -1;
        }
    }
    if (lev_scope_wait(scope, &run->services_ready, err) < 0) {
        return -1;
    }
    return lev_services_check(run, err);
}

void
lev_services_stop(struct lev_run *run)
{
    static const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_service *services;
    struct lev_error err;
    bool alive;
    size_t n;

    for (size_t i = 0; i < run->services_n; i++) {
        lev_run_stop(run->services[i].run, -1, false);
        if (lev_cancel_fired(&run->hurry)) {
            lev_run_hurry(run->services[i].run);
        }
    }
    pthread_mutex_lock(&run->mutex);
    run->services_alive--; /* this thread's own, see run_internal.h */
    alive = run->services_alive > 0;
    pthread_mutex_unlock(&run->mutex);
    /* Each is bounded by its own grace and the bounds of its teardown; a hurry
     * of this run is passed on by lev_run_hurry(). */
    if (alive) {
        lev_scope_wait(&forever, &run->services_gone, &err);
    }
    pthread_mutex_lock(&run->mutex);
    services = lev_steal(run->services);
    n = run->services_n;
    run->services_n = 0;
    pthread_mutex_unlock(&run->mutex);
    for (size_t i = 0; i < n; i++) {
        lev_run_unref(services[i].run);
    }
    free(services);
}
