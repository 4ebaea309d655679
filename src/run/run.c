#include "run_internal.h"

#include "worker.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>

/* Bounds of a teardown, each its own: a daemon that does not answer one call
 * must not take the time of the next. */
#define KILL_TIMEOUT (10 * LEV_SECOND)
#define REMOVE_TIMEOUT (30 * LEV_SECOND)
#define RECORD_TIMEOUT (30 * LEV_SECOND)
#define HURRIED_RECORD_TIMEOUT (2 * LEV_SECOND)

void
lev_run_spec_free(struct lev_run_spec *spec)
{
    if (spec == NULL) {
        return;
    }
    free(spec->image);
    free(spec->schema);
    free(spec->coll);
    free(spec->name);
    free(spec->engine);
    free(spec->entry_name);
    free(spec->payload);
    lev_strv_free(spec->cmd);
    lev_strv_free(spec->env);
    for (size_t i = 0; i < spec->files_n; i++) {
        free(spec->files[i].target);
        free(spec->files[i].path);
        free(spec->files[i].data);
    }
    free(spec->files);
    for (size_t i = 0; i < spec->links_n; i++) {
        free(spec->links[i].key);
        free(spec->links[i].value);
    }
    free(spec->links);
    free(spec->ports);
    for (size_t i = 0; i < spec->services_n; i++) {
        free(spec->services[i].alias);
        lev_run_spec_free(spec->services[i].spec);
    }
    free(spec->services);
    free(spec->accepted);
    if (spec->options != NULL) {
        bson_destroy(spec->options);
    }
    free(spec);
}

static void
result_deinit(struct lev_run_result *r)
{
    free(r->log_tail);
    free(r->remote_type);
    free(r->remote_text);
    free(r->traceback);
    free(r->builtin);
    free(r->image);
    free(r->digest);
    lev_strv_free(r->argv);
}

/* What engines take in a name; anything else becomes '-'. */
static void
clean_name(char *name)
{
    for (char *p = name; *p != '\0'; p++) {
        if (!isascii((unsigned char)*p) ||
            (!isalnum((unsigned char)*p) && strchr("_.-", *p) == NULL))
        {
            *p = '-';
        }
    }
}

static void
make_name(struct lev_run *run)
{
    const struct lev_session_config *c = lev_session_config(run->session);

    if (run->spec->name != NULL) {
        snprintf(run->name, sizeof(run->name), "%s", run->spec->name);
        return;
    }
    snprintf(run->name, sizeof(run->name), "%.32s-%.48s-%.8s-%u", c->user,
             c->job, lev_session_id(run->session), run->number);
    clean_name(run->name);
}

struct lev_run *
lev_run_create(struct lev_session *session, struct lev_run_spec *spec,
               const struct lev_run_callbacks *callbacks,
               struct lev_error *err)
{
    struct lev_run *run = calloc(1, sizeof(*run));
    _cleanup_free_ char *dir = NULL;
    char name[25];

    if (run == NULL) {
        lev_run_spec_free(spec);
        lev_error_nomem(err, "run");
        return NULL;
    }
    run->refs = 1;
    run->session = lev_session_ref(session);
    run->spec = spec;
    run->callbacks = *callbacks;
    run->number = lev_session_number(session);
    run->grace = -1;
    run->services_alive = 1;
    run->result.exit_code = -1;
    run->result.peak_memory = -1;
    run->result.phase = run->phase = "engine";
    lev_cancel_init(&run->cancel, NULL);
    lev_cancel_init(&run->bringing_up, &run->cancel);
    lev_cancel_init(&run->hurry, NULL);
    lev_event_init(&run->services_ready);
    lev_event_init(&run->services_gone);
    pthread_mutex_init(&run->mutex, NULL);
    make_name(run);
    for (int i = 0; i < 12; i++) {
        snprintf(name + 2 * i, 3, "%02x", spec->doc_id[i]);
    }
    if (asprintf(&dir, "%s/logs", lev_session_config(session)->data_dir) < 0) {
        dir = NULL;
        lev_run_unref(run);
        lev_error_nomem(err, "run");
        return NULL;
    }
    if (lev_runlog_init(&run->log, dir, name, err) < 0) {
        lev_run_unref(run);
        return NULL;
    }
    lev_run_output_init(run);
    return run;
}

struct lev_run *
lev_run_ref(struct lev_run *run)
{
    atomic_fetch_add(&run->refs, 1);
    return run;
}

void
lev_run_unref(struct lev_run *run)
{
    if (run == NULL || atomic_fetch_sub(&run->refs, 1) > 1) {
        return;
    }
    lev_run_spec_free(run->spec);
    result_deinit(&run->result);
    lev_known_image_unref(run->known);
    for (size_t i = 0; i < run->mounts_n; i++) {
        lev_mount_deinit(&run->mounts[i]);
    }
    free(run->image_ref);
    free(run->files_image);
    free(run->network);
    free(run->published);
    free(run->id);
    free(run->tail);
    lev_buf_deinit(&run->probe_out);
    lev_runlog_deinit(&run->log);
    pthread_mutex_destroy(&run->mutex);
    lev_event_deinit(&run->services_gone);
    lev_event_deinit(&run->services_ready);
    lev_cancel_deinit(&run->hurry);
    lev_cancel_deinit(&run->bringing_up);
    lev_cancel_deinit(&run->cancel);
    lev_session_unref(run->session);
    free(run);
}

/* ---- the thread ---- */

static int
stop_signal(const struct lev_run *run)
{
    const char *name = run->known->image.stop_signal;

    if (name == NULL || name[0] == '\0') {
        return SIGTERM;
    }
    if (isdigit((unsigned char)name[0])) {
        return atoi(name);
    }
    if (strncmp(name, "SIG", 3) == 0) {
        name += 3;
    }
    for (int i = 1; i < NSIG; i++) {
        const char *known = sigabbrev_np(i);

        if (known != NULL && strcmp(known, name) == 0) {
            return i;
        }
    }
    return SIGTERM;
}

static int64_t
grace_of(struct lev_run *run)
{
    int64_t grace;

    pthread_mutex_lock(&run->mutex);
    grace = run->grace;
    pthread_mutex_unlock(&run->mutex);
    return grace < 0 ? lev_session_config(run->session)->grace : grace;
}

/* The stop signal is the image's. */
static void
check_image(struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_container_state state;
    struct lev_error ignored; /* then the container is killed, if need be */

    if (run->assumed &&
        run->ops->inspect(run->engine, scope, run->id, &state, &ignored) == 0)
    {
        lev_run_check_image(run, scope, state.image_id);
    }
}

/* The stop signal, the grace, the kill; output and channel are served all the
 * while. What does not die here is removed by force afterwards. */
static void
stop_process(struct lev_run *run)
{
    const struct lev_scope hurry = {LEV_NEVER, &run->hurry};
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, KILL_TIMEOUT);
    struct lev_error err;
    bool sent = false;

    if (!lev_cancel_fired(&run->hurry)) {
        check_image(run, &scope);
        sent = run->ops->signal(run->engine, &scope, run->id, stop_signal(run),
                                &err) == 0;
    }
    if (sent) {
        scope = lev_scope_within(&hurry, grace_of(run));
        if (lev_run_serve(run, &scope, &err) == 1) {
            return;
        }
    }
    scope = lev_scope_within(&forever, KILL_TIMEOUT);
    /* Refused when it has just ended by itself: its exit is to be heard of all
     * the same. */
    run->ops->signal(run->engine, &scope, run->id, SIGKILL, &err);
    lev_run_serve(run, &scope, &err);
}

static int
run_main_phase(struct lev_run *run, struct lev_error *err)
{
    struct lev_scope scope = {LEV_NEVER, &run->cancel};

    run->phase = "run";
    if (run->spec->timeout > 0) {
        scope.deadline = run->start_time + run->spec->timeout;
    }
    if (lev_run_serve(run, &scope, err) == 1) {
        return 0;
    }
    run->timed_out = err->code == LEV_E_TIMEOUT;
    return -1;
}

static void
set_running(struct lev_run *run, bool running)
{
    pthread_mutex_lock(&run->mutex);
    run->running = running;
    pthread_mutex_unlock(&run->mutex);
}

static void
note_state(struct lev_run *run)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, KILL_TIMEOUT);
    struct lev_container_state state = {.peak_memory = -1};
    struct lev_error err;

    if (run->ops->inspect(run->engine, &scope, run->id, &state, &err) < 0) {
        lev_log(lev_session_config(run->session)->log, LEV_WARNING, "lev",
                "%s: how it ended is not known in full: %s", run->name,
                err.msg);
        return;
    }
    run->result.oom_killed = state.oom_killed;
    run->result.started = state.started;
    run->result.finished = state.finished;
    run->result.peak_memory = state.peak_memory;
    lev_run_check_image(run, &scope, state.image_id);
}

static void
remove_container(struct lev_run *run)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, REMOVE_TIMEOUT);
    struct lev_error err;

    if (run->ops->remove(run->engine, &scope, run->id, &err) < 0) {
        lev_session_leave(run->site, LEV_LEFT_CONTAINER, run->id, run->name,
                          &err);
    }
}

/* One that never ran is of no use to anybody. */
static bool
is_kept(const struct lev_run *run)
{
    return run->spec->keep && run->start_time != 0;
}

static void
remove_rest(struct lev_run *run)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, REMOVE_TIMEOUT);
    struct lev_error err;

    if (run->files_image != NULL && !is_kept(run) &&
        run->ops->image_remove(run->engine, &scope, run->files_image, &err) <
            0)
    {
        lev_session_leave(run->site, LEV_LEFT_IMAGE, run->files_image,
                          "an image with the files of a run", &err);
    }
    scope = lev_scope_within(&forever, REMOVE_TIMEOUT);
    if (run->network != NULL &&
        run->ops->network_remove(run->engine, &scope, run->network, &err) < 0)
    {
        lev_session_leave(run->site, LEV_LEFT_NETWORK, run->network,
                          "the network of a run with services", &err);
    }
}

/* The session ends, and not what it has to keep. */
static bool
runs_on(struct lev_run *run)
{
    bool leave;

    pthread_mutex_lock(&run->mutex);
    leave = run->leave;
    pthread_mutex_unlock(&run->mutex);
    return leave;
}

/* It does not run any more, and what was to be heard of it has been. */
static void
end_process(struct lev_run *run)
{
    if (run->process != NULL && !run->process_ended && run->start_time != 0 &&
        !runs_on(run))
    {
        stop_process(run);
    }
    set_running(run, false);
    if (run->start_time != 0) {
        note_state(run);
    }
    if (run->probe != NULL) {
        run->ops->exec_close(lev_steal(run->probe));
    }
    lev_channel_close(lev_steal(run->channel));
    if (run->process != NULL) {
        run->ops->detach(lev_steal(run->process));
    }
    lev_run_output_end(run);
}

static void
keep_container(struct lev_run *run)
{
    atomic_store(&run->site->keeps, true);
    lev_log(lev_session_config(run->session)->log, LEV_INFO, "lev",
            "%s is kept%s", run->name, runs_on(run) ? ", and runs on" : "");
}

/* Whatever happened: nothing of the run is there afterwards, but what is kept
 * on purpose. */
static void
tear_down(struct lev_run *run)
{
    if (run->id != NULL && is_kept(run)) {
        keep_container(run);
    }
    else if (run->id != NULL) {
        remove_container(run);
    }
    if (run->address[0] != '\0') {
        lev_session_peer_end(run->session, run->name);
    }
    lev_services_stop(run);
    if (run->site != NULL) {
        remove_rest(run);
    }
}

/* A hurry is about containers; what is known of the run is worth the moment
 * that a store takes that is not stuck. */
static int
store_record(struct lev_run *run, struct lev_error *err)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    const struct lev_scope hurry = {LEV_NEVER, &run->hurry};
    struct lev_scope scope = lev_scope_within(&hurry, RECORD_TIMEOUT);

    if (lev_run_record(run, &scope, err) == 0) {
        return 0;
    }
    if (err->code != LEV_E_CANCELLED) {
        return -1;
    }
    scope = lev_scope_within(&forever, HURRIED_RECORD_TIMEOUT);
    return lev_run_record(run, &scope, err);
}

static void
record(struct lev_run *run)
{
    struct lev_error err;

    if (store_record(run, &err) == 0) {
        return;
    }
    if (run->result.err.code == LEV_OK) {
        run->result.phase = run->phase = "record";
        run->result.err = err;
        lev_error_wrap(&run->result.err, "%s ran to its end, but the store",
                       run->name);
    }
    else {
        lev_log(lev_session_config(run->session)->log, LEV_ERROR, "lev",
                "%s: its record is not stored: %s", run->name, err.msg);
    }
}

static void
finish(struct lev_run *run)
{
    struct lev_log_waiter *waiters;

    pthread_mutex_lock(&run->mutex);
    run->ended = true;
    waiters = lev_steal(run->log_waiters);
    pthread_mutex_unlock(&run->mutex);
    while (waiters != NULL) {
        struct lev_log_waiter *next = waiters->next;

        waiters->fn(waiters->ctx);
        free(waiters);
        waiters = next;
    }
    run->callbacks.ended(run->callbacks.ctx);
    lev_session_part(run->session, &run->member);
    lev_run_unref(run);
}

/* A stop that the program asked for is no failure of what had started. */
static bool
stopped_on_request(struct lev_run *run, const struct lev_error *err)
{
    bool failure;

    pthread_mutex_lock(&run->mutex);
    failure = run->stop_failure;
    pthread_mutex_unlock(&run->mutex);
    return err->code == LEV_E_CANCELLED && run->start_time != 0 && !failure;
}

static void
run_thread(struct lev_job *job)
{
    struct lev_run *run = lev_container_of(job, struct lev_run, job);
    const struct lev_scope scope = {LEV_NEVER, &run->bringing_up};
    struct lev_error err = {.code = LEV_OK};
    int rc;

    pthread_setname_np(pthread_self(), "lev-run");
    rc = lev_run_bring_up(run, &scope, &err);
    if (rc == 0) {
        lev_thread_shrink();
        if (run->callbacks.ready != NULL) {
            run->callbacks.ready(run->callbacks.ctx);
        }
        rc = run_main_phase(run, &err);
    }
    end_process(run);
    lev_run_judge(run, rc < 0 && !stopped_on_request(run, &err) ? &err : NULL);
    if (run->as_service != NULL) {
        lev_service_judged(run->as_service);
    }
    tear_down(run);
    record(run);
    finish(run);
    pthread_setname_np(pthread_self(), "lev-worker");
}

static bool
member_stop(struct lev_member *m, bool hurry)
{
    struct lev_run *run = lev_container_of(m, struct lev_run, member);
    bool ended;

    /* A service is its owner's to stop, after the main container. */
    if (run->as_service != NULL) {
        return false;
    }
    pthread_mutex_lock(&run->mutex);
    ended = run->ended;
    pthread_mutex_unlock(&run->mutex);
    if (ended) {
        return false;
    }
    if (run->spec->keep) {
        pthread_mutex_lock(&run->mutex);
        run->leave = true;
        pthread_mutex_unlock(&run->mutex);
    }
    lev_run_stop(run, -1, true);
    if (hurry) {
        lev_run_hurry(run);
    }
    return true;
}

int
lev_run_start(struct lev_run *run, struct lev_error *err)
{
    run->member.stop = member_stop;
    lev_session_join(run->session, &run->member);
    lev_run_ref(run);
    run->job.run = run_thread;
    if (lev_pool_start(lev_session_threads(run->session), &run->job, err) < 0)
    {
        lev_session_part(run->session, &run->member);
        lev_run_unref(run);
        return -1;
    }
    return 0;
}

/* ---- what others ask for ---- */

unsigned
lev_run_number(const struct lev_run *run)
{
    return run->number;
}

const char *
lev_run_name(const struct lev_run *run)
{
    return run->name;
}

const struct lev_run_spec *
lev_run_spec(const struct lev_run *run)
{
    return run->spec;
}

const char *
lev_run_address(const struct lev_run *run)
{
    return run->address;
}

const struct lev_port *
lev_run_published(const struct lev_run *run, size_t *n)
{
    *n = run->published_n;
    return run->published;
}

const struct lev_run_result *
lev_run_result(const struct lev_run *run)
{
    return &run->result;
}

void
lev_run_stop(struct lev_run *run, int64_t grace, bool failure)
{
    pthread_mutex_lock(&run->mutex);
    if (!run->stop_asked) {
        run->grace = grace;
    }
    run->stop_asked = true;
    run->stop_failure |= failure;
    pthread_mutex_unlock(&run->mutex);
    lev_cancel_fire(&run->cancel);
}

void
lev_run_hurry(struct lev_run *run)
{
    lev_cancel_fire(&run->hurry);
    pthread_mutex_lock(&run->mutex);
    for (size_t i = 0; i < run->services_n; i++) {
        lev_run_hurry(run->services[i].run);
    }
    pthread_mutex_unlock(&run->mutex);
}

int
lev_run_signal(struct lev_run *run, const struct lev_scope *scope, int signo,
               struct lev_error *err)
{
    _cleanup_free_ char *id = NULL;
    bool running;

    pthread_mutex_lock(&run->mutex);
    running = run->running;
    id = running ? strdup(run->id) : NULL;
    pthread_mutex_unlock(&run->mutex);
    if (!running) {
        return lev_error_set(err, LEV_E_STATE, 0,
                             "signal: %s is not running: it has ended, or has "
                             "not started yet",
                             run->name);
    }
    if (id == NULL) {
        return lev_error_nomem(err, "signal");
    }
    if (run->ops->signal(run->engine, scope, id, signo, err) < 0) {
        if (err->code == LEV_E_NOT_FOUND || err->code == LEV_E_CONFLICT) {
            return lev_error_set(err, LEV_E_STATE, 0, "signal: %s has ended",
                                 run->name);
        }
        return -1;
    }
    return 0;
}

int
lev_run_logs(struct lev_run *run, uint64_t *pos, struct lev_buf *out,
             struct lev_error *err)
{
    size_t before = out->len;
    bool ended;
    int rc;

    pthread_mutex_lock(&run->mutex);
    ended = run->ended;
    rc = lev_runlog_read(&run->log, pos, LEV_RUNLOG_PIECE, out, err);
    pthread_mutex_unlock(&run->mutex);
    if (rc < 0) {
        return -1;
    }
    return ended && out->len == before;
}

void
lev_run_logs_notify(struct lev_run *run, uint64_t pos, void (*fn)(void *ctx),
                    void *ctx)
{
    struct lev_log_waiter *w = malloc(sizeof(*w));
    bool now;

    pthread_mutex_lock(&run->mutex);
    now = w == NULL || run->ended || run->log.start + run->log.size > pos;
    if (!now) {
        *w = (struct lev_log_waiter){pos, fn, ctx, run->log_waiters};
        run->log_waiters = w;
    }
    pthread_mutex_unlock(&run->mutex);
    if (now) {
        free(w);
        fn(ctx);
    }
}

bool
lev_run_logs_forget(struct lev_run *run, void *ctx)
{
    struct lev_log_waiter *w, **from;

    pthread_mutex_lock(&run->mutex);
    for (from = &run->log_waiters; *from != NULL; from = &(*from)->next) {
        if ((*from)->ctx == ctx) {
            break;
        }
    }
    w = *from;
    if (w != NULL) {
        *from = w->next;
    }
    pthread_mutex_unlock(&run->mutex);
    free(w);
    return w != NULL;
}
