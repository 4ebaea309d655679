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
    struct lev_run *owner = ((struct lev_service *)ctx)->owner;

    pthread_mutex_lock(&owner->mutex);
    owner->services_alive--;
    /* Last: the owner may go on, and be gone, from here on. */
    if (owner->services_alive == 0) {
        lev_event_set(&owner->services_gone);
    }
    pthread_mutex_unlock(&owner->mutex);
}

static void
describe_death(const struct lev_service *svc, struct lev_error *err)
{
    const struct lev_run_result *r = lev_run_result(svc->run);

    if (r->err.code != LEV_OK) {
        lev_error_set(err, r->err.code, r->err.detail,
                      "service %s (phase %s): %.500s", svc->alias, r->phase,
                      r->err.msg);
    }
    else {
        lev_error_set(err, LEV_E_START, 0,
                      "service %s ended with exit code %d before it was ready",
                      svc->alias, r->exit_code);
    }
    if (r->log_tail != NULL && r->log_tail[0] != '\0') {
        lev_error_add(err, "its last lines: %.400s", r->log_tail);
    }
}

static bool
was_stopped(struct lev_run *run)
{
    bool asked;

    pthread_mutex_lock(&run->mutex);
    asked = run->stop_asked;
    pthread_mutex_unlock(&run->mutex);
    return asked;
}

void
lev_service_judged(struct lev_service *svc)
{
    struct lev_run *owner = svc->owner;
    struct lev_error death;
    bool ready;

    describe_death(svc, &death);
    pthread_mutex_lock(&owner->mutex);
    ready = svc->ready;
    if (ready && lev_run_result(svc->run)->err.code == LEV_OK) {
        death.code = LEV_OK;
    }
    svc->death = death;
    pthread_mutex_unlock(&owner->mutex);
    if (death.code == LEV_OK) {
        return;
    }
    lev_cancel_fire(&owner->bringing_up);
    if (ready && !was_stopped(svc->run)) {
        lev_log(lev_session_config(owner->session)->log, LEV_WARNING, "lev",
                "%s has lost a service: %s", owner->name, death.msg);
    }
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
    size_t n = run->services == NULL ? 0 : run->spec->services_n;
    int rc = 0;

    pthread_mutex_lock(&run->mutex);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (run->services[i].death.code != LEV_OK) {
            *err = run->services[i].death;
            rc = -1;
        }
    }
    pthread_mutex_unlock(&run->mutex);
    return rc;
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
    if (run->services != NULL) {
        return lev_services_check(run,
                                  err); /* its image was looked at again */
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
