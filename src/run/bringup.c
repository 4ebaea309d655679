#include "run_internal.h"

#include "owner.h"
#include "resolve.h"
#include "words.h"

#include <string.h>

static bool
has_option(const struct lev_run *run, const char *name)
{
    return run->spec->options != NULL &&
           bson_has_field(run->spec->options, name);
}

static bool
option_true(const struct lev_run *run, const char *name)
{
    bson_iter_t it;

    return run->spec->options != NULL &&
           bson_iter_init_find(&it, run->spec->options, name) &&
           bson_iter_as_bool(&it);
}

static int
step_engine(struct lev_run *run, const struct lev_scope *scope,
            struct lev_error *err)
{
    run->site = lev_session_site(run->session, scope, run->spec->engine, err);
    if (run->site == NULL) {
        return -1;
    }
    run->engine = run->site->engine;
    run->ops = run->engine->ops;
    return 0;
}

/* ---- the container ---- */

static int
link_address(struct lev_run *run, const struct lev_scope *scope,
             const struct lev_run_pair *link, char address[64],
             struct lev_error *err)
{
    int rc = lev_session_peer_find(run->session, link->value, address, err);

    if (rc == 0) {
        rc = lev_resolve(scope, link->value, address, err);
    }
    return rc < 0 ? lev_error_wrap(err, "links: %s", link->key) : 0;
}

static int
build_hosts(struct lev_run *run, const struct lev_scope *scope,
            struct lev_words *hosts, struct lev_error *err)
{
    for (size_t i = 0; i < run->spec->links_n; i++) {
        const struct lev_run_pair *link = &run->spec->links[i];
        char address[64];

        if (link_address(run, scope, link, address, err) < 0) {
            return -1;
        }
        lev_words_printf(hosts, "%s:%s", link->key, address);
    }
    return hosts->failed ? lev_error_nomem(err, "links") : 0;
}

/* The networks to join: its owner's (as a service), its services' own, and the
 * session's; none where the user or host=True chose another. */
static int
build_networks(struct lev_run *run, const struct lev_scope *scope,
               struct lev_network_join joins[3], const char *aliases[2],
               size_t *n, struct lev_error *err)
{
    *n = 0;
    if (run->spec->host || has_option(run, "network_mode")) {
        return 0;
    }
    if (run->as_service != NULL) {
        aliases[0] = run->as_service->alias;
        aliases[1] = NULL;
        joins[(*n)++] = (struct lev_network_join){
            run->as_service->owner->network, aliases};
    }
    else {
        const char *id = lev_site_network(run->site, scope, err);

        if (id == NULL) {
            return -1;
        }
        joins[(*n)++] = (struct lev_network_join){id, NULL};
    }
    if (run->network != NULL) {
        joins[(*n)++] = (struct lev_network_join){run->network, NULL};
    }
    return 0;
}

int
lev_run_note_argv(struct lev_run *run, struct lev_error *err)
{
    _cleanup_words_ struct lev_words argv = {0};
    const char *const *entry = lev_guest_entrypoint(run);

    lev_words_copy(&argv, entry != NULL ? (char *const *)entry
                                        : run->known->image.entrypoint);
    lev_words_copy(&argv, run->spec->cmd != NULL || entry != NULL
                              ? run->spec->cmd
                              : run->known->image.cmd);
    if (argv.failed) {
        return lev_error_nomem(err, "arguments");
    }
    if (argv.n == 0) {
        return lev_error_set(err, LEV_E_START, 0,
                             "the image %s has no program to run: give cmd= "
                             "or entry=",
                             run->spec->image);
    }
    lev_strv_free(run->result.argv);
    run->result.argv = lev_steal(argv.v);
    return 0;
}

/* The image with the files in it, when the root is read-only and nothing can
 * be copied into the container itself. */
static int
bake_files(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    char name[160];
    const char *const entry[] = {"/", NULL};
    const struct lev_container_spec spec = {
        .name = name, .image = run->image_ref, .entrypoint = entry};
    char **labels = lev_session_labels(run->session, "files", LEV_SECOND, err);
    struct lev_container_spec labelled = spec;
    char *id = NULL;
    struct lev_error late;
    int rc;

    if (labels == NULL) {
        return -1;
    }
    snprintf(name, sizeof(name), "%s-files", run->name);
    labelled.labels = (const char *const *)labels;
    rc = run->ops->create(run->engine, scope, &labelled, &id, err);
    if (rc == 0) {
        rc = lev_run_put_files(run, scope, id, err);
    }
    if (rc == 0) {
        run->files_image = run->ops->commit(run->engine, scope, id,
                                            (const char *const *)labels, err);
        rc = run->files_image == NULL ? -1 : 0;
    }
    if (id != NULL && run->ops->remove(run->engine,
                                       &(struct lev_scope){
                                           lev_now() + 30 * LEV_SECOND, NULL},
                                       id, &late) < 0)
    {
        lev_session_leave(run->site, LEV_LEFT_CONTAINER, id, name, &late);
    }
    free(id);
    lev_strv_free(labels);
    return rc;
}

static bool
baked(const struct lev_run *run)
{
    return run->spec->files_n > 0 && option_true(run, "read_only");
}

/* For how long at most its container is; 0: nobody knows. */
static int64_t
needed_for(const struct lev_run *run)
{
    int64_t timeout = run->spec->timeout;

    return timeout == 0 ? 0
                        : timeout + lev_session_config(run->session)->grace;
}

/* Without a daemon a container is its session's helper's child, and its output
 * goes to this process. */
static int
check_keep(const struct lev_run *run, struct lev_error *err)
{
    if (!run->spec->keep || run->ops->endpoint != NULL) {
        return 0;
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "keep=True: the engine %s cannot keep a container "
                         "beyond its session; a daemon can (engine=)",
                         run->engine->url);
}

static int
step_create(struct lev_run *run, const struct lev_scope *scope,
            struct lev_error *err)
{
    _cleanup_words_ struct lev_words env = {0}, hosts = {0}, labels = {0};
    struct lev_network_join joins[3];
    const char *aliases[2];
    struct lev_container_spec spec = {
        .name = run->name,
        .image = run->image_ref,
        .entrypoint = lev_guest_entrypoint(run),
        .cmd = (const char *const *)run->spec->cmd,
        .mounts = run->mounts,
        .mounts_n = run->mounts_n,
        .networks = joins,
        .host_network = run->spec->host,
        .options = run->spec->options,
    };
    char *id = NULL;
    int rc;

    if (check_keep(run, err) < 0 || lev_run_note_argv(run, err) < 0 ||
        build_networks(run, scope, joins, aliases, &spec.networks_n, err) <
            0 ||
        build_hosts(run, scope, &hosts, err) < 0)
    {
        return -1;
    }
    if (baked(run)) {
        run->phase = "files";
        if (bake_files(run, scope, err) < 0) {
            return -1;
        }
        run->phase = "create";
        spec.image = run->files_image;
    }
    lev_words_copy(&env, run->spec->env);
    lev_guest_environment(run, &env);
    labels.v = lev_session_labels(run->session,
                                  run->as_service == NULL ? "main" : "service",
                                  needed_for(run), err);
    if (labels.v == NULL) {
        return -1;
    }
    labels.n = lev_strv_len((const char *const *)labels.v);
    labels.cap = labels.n + 1;
    if (run->spec->keep) {
        lev_words_printf(&labels, LEV_LABEL_KEEP "=1");
    }
    if (env.failed || labels.failed) {
        return lev_error_nomem(err, "environment");
    }
    spec.env = (const char *const *)env.v;
    spec.extra_hosts = (const char *const *)hosts.v;
    spec.labels = (const char *const *)labels.v;
    rc = run->ops->create(run->engine, scope, &spec, &id, err);
    if (rc < 0 && id == NULL && lev_guest_without_socket(run, err)) {
        spec.mounts_n = run->mounts_n;
        rc = run->ops->create(run->engine, scope, &spec, &id, err);
    }
    if (id == NULL) {
        atomic_store(&run->site->unsure, true);
    }
    if (rc < 0 && err->code == LEV_E_CONFLICT && run->spec->name != NULL) {
        lev_error_add(err, "give another name=, or remove the container that "
                           "has this one");
    }
    pthread_mutex_lock(&run->mutex);
    run->id = id;
    pthread_mutex_unlock(&run->mutex);
    return rc;
}

static int
step_files(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    if (run->spec->files_n == 0 || baked(run)) {
        return 0;
    }
    return lev_run_put_files(run, scope, run->id, err);
}

static int
step_start(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    if (lev_services_check(run, err) < 0) {
        return -1;
    }
    lev_guest_offer(run);
    run->process =
        run->ops->attach(run->engine, scope, run->id, &run->output, err);
    if (run->process == NULL || run->ops->start(run->process, scope, err) < 0)
    {
        return -1;
    }
    run->start_time = lev_now();
    pthread_mutex_lock(&run->mutex);
    run->running = true;
    pthread_mutex_unlock(&run->mutex);
    return 0;
}

/* One that has ended already has none any more. */
static void
ask_ports(struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_error ended;

    if ((has_option(run, "port_bindings") ||
         has_option(run, "publish_all_ports")) &&
        run->ops->published(run->engine, scope, run->id, &run->published,
                            &run->published_n, &ended) < 0)
    {
        run->published_n = 0;
    }
}

/* What can only be done with a started container. */
static int
step_connect(struct lev_run *run, const struct lev_scope *scope,
             struct lev_error *err)
{
    if (lev_guest_connect(run, scope, err) < 0) {
        return -1;
    }
    if (run->spec->want_address) {
        ask_ports(run, scope);
    }
    if (run->spec->want_address && !has_option(run, "network_mode")) {
        const char *network = run->spec->host ? NULL
                              : run->as_service == NULL
                                  ? atomic_load(&run->site->network)
                                  : run->as_service->owner->network;

        if (run->ops->address(run->engine, scope, run->id, network,
                              run->address, err) < 0)
        {
            /* Ended already: there is none, and nobody can use it. Its name is
             * known all the same, for those who link to it. */
            run->address[0] = '\0';
            lev_session_peer_add(run->session, run->name, "");
            lev_session_peer_end(run->session, run->name);
        }
        else {
            lev_session_peer_add(run->session, run->name, run->address);
        }
    }
    return 0;
}

#define IMAGE_STEP 1

/* An engine that does not answer within its bound is not there. Pulling, the
 * bundle, services and readiness have bounds of their own. */
static const struct {
    const char *phase;
    int64_t bound;
    int (*run)(struct lev_run *run, const struct lev_scope *scope,
               struct lev_error *err);
} steps[] = {
    {"engine", 60 * LEV_SECOND, step_engine},
    [IMAGE_STEP] = {"pull", LEV_NEVER, lev_run_find_image},
    {"runtime", LEV_NEVER, lev_guest_prepare},
    {"services", LEV_NEVER, lev_services_start},
    {"create", 120 * LEV_SECOND, step_create},
    {"files", 3600 * LEV_SECOND, step_files},
    {"start", 120 * LEV_SECOND, step_start},
    {"start", 120 * LEV_SECOND, step_connect},
    {"readiness", LEV_NEVER, lev_run_wait_ready},
};

/* The time that a run may take counts from its start, also while its ports are
 * waited for. */
static struct lev_scope
step_scope(const struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_scope limit = *scope;

    if (run->start_time != 0 && run->spec->timeout > 0 &&
        run->start_time + run->spec->timeout < limit.deadline)
    {
        limit.deadline = run->start_time + run->spec->timeout;
    }
    return limit;
}

static int
out_of_time(struct lev_run *run, const struct lev_scope *limit, int64_t bound,
            struct lev_error *err)
{
    if (lev_now() >= limit->deadline) {
        run->timed_out = true;
        return -1;
    }
    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                         "the engine did not answer within %.0f s; is it "
                         "overloaded or stopped?",
                         (double)bound / (double)LEV_SECOND);
}

/* A step ends with CANCELLED also when a service has died. */
static int
step_failed(struct lev_run *run, const struct lev_scope *limit, int64_t bound,
            struct lev_error *err)
{
    if (err->code == LEV_E_TIMEOUT) {
        return out_of_time(run, limit, bound, err);
    }
    if (err->code == LEV_E_CANCELLED && !lev_cancel_fired(&run->cancel)) {
        lev_services_check(run, err);
    }
    return -1;
}

int
lev_run_bring_up(struct lev_run *run, const struct lev_scope *scope,
                 struct lev_error *err)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(steps); i++) {
        struct lev_scope limit = step_scope(run, scope);
        struct lev_scope bound = lev_scope_within(&limit, steps[i].bound);

        run->phase = steps[i].phase;
        if (lev_scope_check(scope, err) == 0 &&
            steps[i].run(run, &bound, err) == 0) {
            continue;
        }
        if (lev_run_doubt_image(run, err)) {
            i = IMAGE_STEP - 1;
            continue;
        }
        return step_failed(run, &limit, steps[i].bound, err);
    }
    return 0;
}
