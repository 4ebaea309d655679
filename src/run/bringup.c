#include "run_internal.h"

#include "imageref.h"
#include "resolve.h"
#include "session_internal.h"

#include <jansson.h>
#include <string.h>
#include <sys/utsname.h>

#define PROBE_TIMEOUT_SLACK (5 * LEV_SECOND)
/* The exit code of a probe that has waited in vain. */
#define NOT_ALL_LISTEN 3
#define INSPECT_TIMEOUT (60 * LEV_SECOND)

/* Strings for one create request, freed together. */
struct words {
    char **v;
    size_t n, cap;
    bool failed;
};

static void
words_deinit(struct words *w)
{
    lev_strv_free(w->v);
}
#define _cleanup_words_ _cleanup_(words_deinit)

/* Takes `text` over; NULL counts as out of memory. */
static void
words_take(struct words *w, char *text)
{
    if (w->n + 2 > w->cap) {
        size_t cap = w->cap == 0 ? 8 : w->cap * 2;
        char **v = realloc(w->v, cap * sizeof(*v));

        if (v == NULL) {
            w->failed = true;
            free(text);
            return;
        }
        w->v = v;
        w->cap = cap;
    }
    w->v[w->n] = text;
    w->v[w->n + (text != NULL)] = NULL;
    w->n += text != NULL;
    w->failed |= text == NULL;
}

static void LEV_PRINTF(2, 3)
    words_printf(struct words *w, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    words_take(w, text);
}

static void
words_copy(struct words *w, char *const *from)
{
    for (; from != NULL && *from != NULL; from++) {
        words_take(w, strdup(*from));
    }
}

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

static bool
needs_runtime(const struct lev_run *run)
{
    return run->spec->payload != NULL || run->spec->ports_n > 0;
}

/* ---- the engine and the image ---- */

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

static void
on_pull(void *ctx, int64_t done, int64_t total, const char *text)
{
    struct lev_run *run = ctx;
    struct lev_log *log = lev_session_config(run->session)->log;

    if (total > 0) {
        lev_log(log, LEV_DEBUG, "lev.pull", "%s: %.1f of %.1f MB (%s)",
                run->spec->image, (double)done / 1e6, (double)total / 1e6,
                text);
    }
    else {
        lev_log(log, LEV_DEBUG, "lev.pull", "%s: %s", run->spec->image, text);
    }
}

static int
pull(struct lev_run *run, const struct lev_scope *scope, const char *ref,
     struct lev_error *err)
{
    const struct lev_session_config *c = lev_session_config(run->session);

    lev_log(c->log, LEV_INFO, "lev.pull", "pulling %s", ref);
    return run->ops->image_pull(run->engine, scope, ref, c->pull_stall,
                                on_pull, run, err);
}

static int
look_at_image(struct lev_run *run, const struct lev_scope *parent,
              const char *ref, struct lev_error *err)
{
    struct lev_scope scope = lev_scope_within(parent, INSPECT_TIMEOUT);
    int rc =
        run->ops->image_inspect(run->engine, &scope, ref, &run->image, err);

    if (rc < 0 && err->code == LEV_E_TIMEOUT) {
        lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                      "the engine did not say within %d s whether it has %s",
                      (int)(INSPECT_TIMEOUT / LEV_SECOND), ref);
    }
    return rc;
}

static int
find_image(struct lev_run *run, const struct lev_scope *scope, const char *ref,
           struct lev_error *err)
{
    enum lev_pull_policy policy = run->spec->pull;

    if (policy == LEV_PULL_ALWAYS && pull(run, scope, ref, err) < 0) {
        return -1;
    }
    if (look_at_image(run, scope, ref, err) == 0) {
        return 0;
    }
    if (err->code != LEV_E_IMAGE_NOT_FOUND || policy == LEV_PULL_ALWAYS) {
        return -1;
    }
    if (policy == LEV_PULL_NEVER) {
        return lev_error_set(err, LEV_E_IMAGE_NOT_FOUND, 404,
                             "the image %s is not on this engine, and "
                             "pull=\"never\" forbids to fetch it",
                             ref);
    }
    if (pull(run, scope, ref, err) < 0) {
        return -1;
    }
    return look_at_image(run, scope, ref, err);
}

static int
step_image(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};
    const char *name;

    if (run->spec->image[0] == '\0') {
        name = run->ops->image_empty(run->engine, scope, err);
        if (name == NULL) {
            return -1;
        }
        if (look_at_image(run, scope, name, err) < 0) {
            return -1;
        }
    }
    else {
        if (lev_imageref_parse(run->spec->image,
                               lev_session_config(run->session)->tool_registry,
                               &ref, err) < 0)
        {
            return -1;
        }
        name = ref.familiar;
        if (find_image(run, scope, name, err) < 0) {
            return -1;
        }
    }
    run->image_ref = strdup(name);
    run->result.image = strdup(run->spec->image);
    if (run->image.digest != NULL) {
        run->result.digest = strdup(run->image.digest);
    }
    if (run->image_ref == NULL || run->result.image == NULL) {
        return lev_error_nomem(err, "image");
    }
    return 0;
}

/* ---- the runtime bundle ---- */

static int
check_arch(struct lev_run *run, struct lev_error *err)
{
    const char *arch = run->image.arch != NULL && run->image.arch[0] != '\0' &&
                               run->spec->image[0] != '\0'
                           ? run->image.arch
                           : run->engine->info.arch;
    struct utsname host;

    uname(&host);
    if (arch[0] == '\0' || strcmp(arch, host.machine) == 0) {
        return 0;
    }
    if (run->spec->payload != NULL && !run->spec->image_python) {
        return lev_error_set(
            err, LEV_E_START, 0,
            "the image %s is for %s and this machine is %s: a closure runs on "
            "this machine's interpreter; use @remote(python=\"image\") with "
            "an "
            "image that has Python, or an image for %s",
            run->spec->image, arch, host.machine, host.machine);
    }
    if (run->spec->ports_n > 0) {
        return lev_error_set(
            err, LEV_E_UNSUPPORTED_OPTION, 0,
            "ports= needs a probe inside the container, which "
            "is for %s while the image %s is for %s",
            host.machine, run->spec->image, arch);
    }
    return 0;
}

static int
listen_for_guest(struct lev_run *run, struct lev_error *err)
{
    const char *dir = lev_session_dir(run->session, err);
    struct lev_mount *m = &run->mounts[1];
    char *path = NULL;

    if (dir == NULL) {
        return -1;
    }
    if (asprintf(&path, "%s/%u", dir, run->number) < 0) {
        return lev_error_nomem(err, "guest channel");
    }
    /* Read-only, too: a socket is connected to, not written. */
    *m = (struct lev_mount){.type = LEV_MOUNT_BIND,
                            .source = path,
                            .target = strdup("/lev/sock"),
                            .read_only = true};
    run->mounts_n = 2;
    run->channel = lev_channel_listen(path, &run->channel_events, err);
    return run->channel == NULL ? -1 : 0;
}

static int
step_runtime(struct lev_run *run, const struct lev_scope *scope,
             struct lev_error *err)
{
    const struct lev_run_spec *spec = run->spec;
    const char *dir;

    if (!needs_runtime(run)) {
        return 0;
    }
    if (check_arch(run, err) < 0) {
        return -1;
    }
    dir = lev_session_bundle(run->session, scope, err);
    if (dir == NULL ||
        run->ops->runtime_mount(run->engine, scope, dir, run->image_ref,
                                &run->mounts[0], &run->local, err) < 0)
    {
        return -1;
    }
    run->mounts_n = 1;
    if (spec->payload == NULL) {
        return 0;
    }
    if (lev_random_hex(run->token, sizeof(run->token) - 1, err) < 0) {
        return -1;
    }
    if (run->local) {
        return listen_for_guest(run, err);
    }
    snprintf(run->channel_name, sizeof(run->channel_name), "levrt-%.32s",
             run->token);
    /* Part of the token would be enough to find it, none of it to use it. */
    return lev_random_hex(run->token, sizeof(run->token) - 1, err);
}

/* ---- the container ---- */

static const char *const guest_entry[] = {
    "/lev/bin/python3", "-I", "-S", "-X", "utf8", "/lev/boot.py", NULL};
static const char *const image_entry[] = {"python3", "-X", "utf8",
                                          "/lev/boot.py", NULL};

static const char *const *
entrypoint(const struct lev_run *run)
{
    if (run->spec->payload == NULL) {
        return NULL;
    }
    return run->spec->image_python ? image_entry : guest_entry;
}

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
            struct words *hosts, struct lev_error *err)
{
    for (size_t i = 0; i < run->spec->links_n; i++) {
        const struct lev_run_pair *link = &run->spec->links[i];
        char address[64];

        if (link_address(run, scope, link, address, err) < 0) {
            return -1;
        }
        words_printf(hosts, "%s:%s", link->key, address);
    }
    return hosts->failed ? lev_error_nomem(err, "links") : 0;
}

static void
build_env(struct lev_run *run, struct words *env)
{
    words_copy(env, run->spec->env);
    if (run->spec->payload == NULL) {
        return;
    }
    words_printf(env, "LEV_TOKEN=%s", run->token);
    if (run->local) {
        words_printf(env, "LEV_CHANNEL=unix:/lev/sock");
    }
    else {
        words_printf(env, "LEV_CHANNEL=abstract:%s", run->channel_name);
    }
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

/* What will run, as far as it is known before: for the record and for words
 * about programs that are missing. */
static int
note_argv(struct lev_run *run, struct lev_error *err)
{
    _cleanup_words_ struct words argv = {0};
    const char *const *entry = entrypoint(run);

    words_copy(&argv,
               entry != NULL ? (char *const *)entry : run->image.entrypoint);
    words_copy(&argv, run->spec->cmd != NULL || entry != NULL
                          ? run->spec->cmd
                          : run->image.cmd);
    if (argv.failed) {
        return lev_error_nomem(err, "arguments");
    }
    if (argv.n == 0) {
        return lev_error_set(err, LEV_E_START, 0,
                             "the image %s has no program to run: give cmd= "
                             "or entry=",
                             run->spec->image);
    }
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
    char **labels = lev_session_labels(run->session, "files", err);
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

static int
step_create(struct lev_run *run, const struct lev_scope *scope,
            struct lev_error *err)
{
    _cleanup_words_ struct words env = {0}, hosts = {0}, labels = {0};
    struct lev_network_join joins[3];
    const char *aliases[2];
    struct lev_container_spec spec = {
        .name = run->name,
        .image = run->image_ref,
        .entrypoint = entrypoint(run),
        .cmd = (const char *const *)run->spec->cmd,
        .mounts = run->mounts,
        .mounts_n = run->mounts_n,
        .networks = joins,
        .host_network = run->spec->host,
        .options = run->spec->options,
    };
    char *id = NULL;
    int rc;

    if (note_argv(run, err) < 0 ||
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
    build_env(run, &env);
    labels.v = lev_session_labels(
        run->session, run->as_service == NULL ? "main" : "service", err);
    if (labels.v == NULL) {
        return -1;
    }
    if (env.failed) {
        return lev_error_nomem(err, "environment");
    }
    spec.env = (const char *const *)env.v;
    spec.extra_hosts = (const char *const *)hosts.v;
    spec.labels = (const char *const *)labels.v;
    rc = run->ops->create(run->engine, scope, &spec, &id, err);
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
    if (run->channel != NULL) {
        lev_channel_offer(run->channel, run->token, run->spec->payload,
                          run->spec->payload_len,
                          (const char *const *)run->spec->cmd,
                          run->spec->entry_name);
    }
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

/* What can only be done with a started container. */
static int
step_connect(struct lev_run *run, const struct lev_scope *scope,
             struct lev_error *err)
{
    if (run->spec->payload != NULL && !run->local) {
        run->channel =
            lev_channel_relay(run->engine, scope, run->id, run->channel_name,
                              &run->channel_events, err);
        if (run->channel == NULL) {
            /* A container that has ended already refuses execs: its exit says
             * more than this refusal. */
            return err->code == LEV_E_CONFLICT ? 0 : -1;
        }
        lev_channel_offer(run->channel, run->token, run->spec->payload,
                          run->spec->payload_len,
                          (const char *const *)run->spec->cmd,
                          run->spec->entry_name);
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

/* ---- readiness ---- */

/* `privileged`: to see whose the listeners are, whatever user they run as. */
static int
start_probe(struct lev_run *run, const struct lev_scope *scope,
            bool privileged, struct lev_error *err)
{
    const struct lev_session_config *c = lev_session_config(run->session);
    _cleanup_words_ struct words argv = {0};
    struct lev_exec_spec spec = {.privileged = privileged};

    if (privileged || !run->spec->host) {
        spec.user = "0";
    }

    words_printf(&argv, "/lev/bin/lev-launcher");
    words_printf(&argv, "probe");
    if (run->spec->host) {
        words_printf(&argv, "--owned");
    }
    words_printf(&argv, "--timeout-ms");
    words_printf(&argv, "%lld", (long long)(c->ready_timeout / LEV_MS));
    for (size_t i = 0; i < run->spec->ports_n; i++) {
        words_printf(&argv, "%u", run->spec->ports[i]);
    }
    if (argv.failed) {
        return lev_error_nomem(err, "probe");
    }
    spec.argv = (const char *const *)argv.v;
    run->probe = run->ops->exec_start(run->engine, scope, run->id, &spec, err);
    return run->probe == NULL ? -1 : 0;
}

static void
list_ports(const json_t *doc, const char *key, struct lev_buf *out)
{
    const json_t *list = json_object_get(doc, key), *v;
    size_t i;

    json_array_foreach(list, i, v)
    {
        lev_buf_printf(out, "%s%lld", i == 0 ? "" : ", ",
                       (long long)json_integer_value(v));
    }
    if (json_array_size(list) == 0) {
        lev_buf_puts(out, "nothing");
    }
}

static int
not_ready(struct lev_run *run, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf missing = {0}, listening = {0};
    json_t *doc = json_loads(lev_buf_text(&run->probe_out),
                             JSON_DISABLE_EOF_CHECK, NULL);
    int64_t ready = lev_session_config(run->session)->ready_timeout;

    if (run->probe_code != NOT_ALL_LISTEN || doc == NULL) {
        json_decref(doc);
        return lev_error_set(
            err, LEV_E_READINESS, 0,
            "the readiness probe failed (exit code %d): %.400s",
            run->probe_code, lev_buf_text(&run->probe_out));
    }
    list_ports(doc, "missing", &missing);
    list_ports(doc, "listening", &listening);
    json_decref(doc);
    return lev_error_set(err, LEV_E_READINESS, 0,
                         "port %s did not open within %.0f s; what listens "
                         "instead: %s",
                         lev_buf_text(&missing),
                         (double)ready / (double)LEV_SECOND,
                         lev_buf_text(&listening));
}

static int
ended_early(struct lev_run *run, struct lev_error *err)
{
    _cleanup_free_ char *tail = lev_run_tail(run);

    return lev_error_set(err, LEV_E_START, 0,
                         "it ended with exit code %d before its ports opened; "
                         "its last lines: %.500s",
                         run->result.exit_code, tail == NULL ? "" : tail);
}

/* Serves until the probe has ended; 1 when the container ended first. */
static int
serve_probe(struct lev_run *run, const struct lev_scope *scope,
            bool privileged, struct lev_error *err)
{
    /* An exec in a container that has ended is refused: serve says how it
     * ended. */
    if (start_probe(run, scope, privileged, err) < 0 &&
        err->code != LEV_E_CONFLICT)
    {
        return -1;
    }
    return lev_run_serve(run, scope, err);
}

/* What an engine says with when it could not run the program of an exec: for
 * a privileged one, because it has not all capabilities itself. */
#define EXEC_REFUSED 126

/* The probe is what died first: of a refusal, or with its container, whose end
 * is about to be heard of. 1 when it is. */
static int
ended_meanwhile(struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_scope moment = lev_scope_within(scope, LEV_SECOND);
    struct lev_error err;

    return lev_run_serve(run, &moment, &err) == 1;
}

/* 0 with probe_code, 1 when the container has ended, -1. */
static int
probe_ports(struct lev_run *run, const struct lev_scope *scope,
            struct lev_error *err)
{
    bool host = run->spec->host;
    int rc = serve_probe(run, scope, host, err);

    if (rc == 0 && run->probe_code == EXEC_REFUSED && host) {
        /* As the container's user: all but listeners of other users. */
        lev_buf_clear(&run->probe_out);
        rc = serve_probe(run, scope, false, err);
    }
    if (rc == 0 && run->probe_code != 0 && run->probe_code != NOT_ALL_LISTEN) {
        rc = ended_meanwhile(run, scope);
    }
    return rc == 0 ? lev_scope_check(scope, err) : rc;
}

static int
step_ready(struct lev_run *run, const struct lev_scope *parent,
           struct lev_error *err)
{
    int64_t bound =
        lev_session_config(run->session)->ready_timeout + PROBE_TIMEOUT_SLACK;
    struct lev_scope scope = lev_scope_within(parent, bound);
    int rc;

    if (run->spec->ports_n == 0) {
        return 0;
    }
    rc = probe_ports(run, &scope, err);
    if (rc == 1) {
        return ended_early(run, err);
    }
    if (rc < 0) {
        if (err->code == LEV_E_TIMEOUT &&
            lev_scope_check(parent, &(struct lev_error){0}) == 0)
        {
            return lev_error_set(err, LEV_E_READINESS, 0,
                                 "the readiness probe did not answer in time");
        }
        return -1;
    }
    if (run->probe_code != 0) {
        return not_ready(run, err);
    }
    return lev_services_check(run, err);
}

/* An engine that does not answer within its bound is not there. Pulling, the
 * bundle, services and readiness have bounds of their own. */
static const struct {
    const char *phase;
    int64_t bound;
    int (*run)(struct lev_run *run, const struct lev_scope *scope,
               struct lev_error *err);
} steps[] = {
    {"engine", 60 * LEV_SECOND, step_engine},
    {"pull", LEV_NEVER, step_image},
    {"runtime", LEV_NEVER, step_runtime},
    {"services", LEV_NEVER, lev_services_start},
    {"create", 120 * LEV_SECOND, step_create},
    {"files", 3600 * LEV_SECOND, step_files},
    {"start", 120 * LEV_SECOND, step_start},
    {"start", 120 * LEV_SECOND, step_connect},
    {"readiness", LEV_NEVER, step_ready},
};

int
lev_run_bring_up(struct lev_run *run, const struct lev_scope *scope,
                 struct lev_error *err)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(steps); i++) {
        struct lev_scope bound = lev_scope_within(scope, steps[i].bound);

        run->phase = steps[i].phase;
        if (lev_scope_check(scope, err) < 0) {
            return -1;
        }
        if (steps[i].run(run, &bound, err) == 0) {
            continue;
        }
        if (err->code == LEV_E_TIMEOUT) {
            return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                                 "the engine did not answer within %.0f s; is "
                                 "it overloaded or stopped?",
                                 (double)steps[i].bound / (double)LEV_SECOND);
        }
        return -1;
    }
    return 0;
}
