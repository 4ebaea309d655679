/* docker_process.c - a container's output and exit.
 *
 * Two answers that last as long as the container: the attach stream, and the
 * answer to "wait". Both are asked for before the start, or a short
 * container's last words are lost; "next-exit" is the condition that means
 * something then
 * ("not-running" returns at once). The engine answers both with headers at
 * once, so when those are there nothing can be missed any more. After a failed
 * start "wait" would never end: it is ended here.
 *
 * Connections break while containers go on: a proxy's patience ends, the
 * engine is restarted. Then both are asked for again. The exit cannot be
 * missed by that ("not-running" is true for ever); output can, since the
 * engine keeps none, and whoever takes it is told.
 */

#include "docker.h"

#include <string.h>

#include "logmux.h"

/* How long output may take to arrive after the exit was told. */
#define DRAIN_TIMEOUT (10 * LEV_SECOND)
/* The output of a container ends a moment before its exit is told; only when
 * it is not told then has the stream been lost. */
#define EXIT_FOLLOWS (2 * LEV_SECOND)
#define NAP_MIN (50 * LEV_MS)
#define NAP_MAX (5 * LEV_SECOND)
/* Attachments in a row that give nothing before no further one is tried. */
#define BARREN_MAX 3

/* One of the two answers. */
struct lasting {
    struct lev_http_transfer *t; /* NULL: lost, or at its end */
    int64_t again;               /* lev_now() time to ask for it again */
    int64_t nap;                 /* what was waited for before the last time */
};

struct lev_process {
    struct lev_docker *docker;
    char *id;
    struct lev_output *out;
    struct lev_http_conn *conn;
    struct lasting attach, wait;
    struct lev_logmux mux;
    struct lev_error cut; /* how the output broke off; or LEV_OK */
    bool garbled;         /* what the engine sends is no output */
    unsigned barren;
    bool failed; /* it could not be started */
    bool drained, exited;
    int64_t drain_until;       /* when `exited` */
    int64_t unreachable_since; /* lev_now() time; 0: the engine answers */
    int exit_code;
};

static int
on_piece(void *ctx, enum lev_stream stream, const char *data, size_t len,
         struct lev_error *err)
{
    struct lev_process *p = ctx;

    p->barren = 0;
    p->out->data(p->out, stream == LEV_STREAM_STDERR ? 2 : 1, data, len);
    return 0;
}

static int
on_attach_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct lev_process *p = ctx;
    int rc = lev_logmux_feed(&p->mux, data, len, err);

    p->garbled |= rc < 0;
    return rc;
}

void
lev_docker_detach(struct lev_process *p)
{
    if (p == NULL) {
        return;
    }
    lev_http_transfer_end(p->attach.t);
    lev_http_transfer_end(p->wait.t);
    lev_http_conn_give(p->conn);
    lev_engine_unref(&p->docker->base);
    free(p->id);
    free(p);
}

static void
reset_mux(struct lev_process *p)
{
    p->mux = (struct lev_logmux){.emit = on_piece, .ctx = p};
}

static struct lev_process *
process_new(struct lev_engine *e, const char *id, struct lev_output *out,
            struct lev_error *err)
{
    struct lev_process *p = calloc(1, sizeof(*p));

    if (p == NULL) {
        lev_error_nomem(err, "attach");
        return NULL;
    }
    p->docker = lev_docker_of(lev_engine_ref(e));
    p->out = out;
    reset_mux(p);
    p->id = strdup(id);
    if (p->id == NULL) {
        lev_docker_detach(p);
        lev_error_nomem(err, "attach");
        return NULL;
    }
    return p;
}

static struct lev_http_transfer *
begin(struct lev_process *p, const char *fmt, bool attach,
      struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    struct lev_http_request req = {.method = "POST", .ctx = p};

    lev_docker_path(p->docker, &path, fmt, p->id);
    if (lev_buf_check(&path, "attach", err) < 0) {
        return NULL;
    }
    req.path = path.data;
    req.on_data = attach ? on_attach_data : NULL;
    req.brief = !attach;
    return lev_http_transfer_start(p->conn, &req, err);
}

static int
begin_attach(struct lev_process *p, struct lev_error *err)
{
    p->attach.t = begin(p, "/containers/%s/attach?stream=1&stdout=1&stderr=1",
                        true, err);
    return p->attach.t == NULL ? -1 : 0;
}

static int
begin_wait(struct lev_process *p, const char *fmt, struct lev_error *err)
{
    p->wait.t = begin(p, fmt, false, err);
    return p->wait.t == NULL ? -1 : 0;
}

/* 1 when the engine has begun to answer, 0 not yet, -1 when it refused. */
static int
has_begun(const struct lev_http_transfer *t, struct lev_error *err)
{
    long status = lev_http_transfer_status(t);
    int done = lev_http_transfer_done(t, err);

    if (done < 0) {
        return -1;
    }
    if (status == 0 || (done == 0 && (status < 200 || status >= 300))) {
        return 0; /* an error's message is still to come */
    }
    return lev_docker_status(lev_http_transfer_response(t), err) < 0 ? -1 : 1;
}

static int
begin_both(struct lev_process *p, const struct lev_scope *scope,
           struct lev_error *err)
{
    p->conn = lev_http_conn_take(p->docker->http, err);
    if (p->conn == NULL) {
        return -1;
    }
    if (begin_attach(p, err) < 0 ||
        begin_wait(p, "/containers/%s/wait?condition=next-exit", err) < 0)
    {
        return -1;
    }
    for (;;) {
        int attach = has_begun(p->attach.t, err);
        int wait = attach < 0 ? -1 : has_begun(p->wait.t, err);

        if (attach < 0 || wait < 0) {
            return -1;
        }
        if (attach > 0 && wait > 0) {
            return 0;
        }
        if (lev_http_conn_poll(p->conn, scope, NULL, 0, err) < 0) {
            return -1;
        }
    }
}

struct lev_process *
lev_docker_attach(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, struct lev_output *out,
                  struct lev_error *err)
{
    struct lev_process *p = process_new(e, id, out, err);

    if (p == NULL) {
        return NULL;
    }
    if (begin_both(p, scope, err) < 0) {
        lev_docker_detach(p);
        lev_error_wrap(err, "attach to container %.12s", id);
        return NULL;
    }
    return p;
}

/* A port of the host that somebody has: the daemon says so with 500. */
static bool
is_port_conflict(const char *words)
{
    return strstr(words, "port is already allocated") != NULL ||
           strstr(words, "address already in use") != NULL;
}

int
lev_docker_start(struct lev_process *p, const struct lev_scope *scope,
                 struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(p->docker, &path, "/containers/%s/start", p->id);
    if (lev_docker_post_through(p->docker, scope, &path, err) < 0) {
        p->failed = true;
        lev_http_transfer_end(lev_steal(p->attach.t));
        lev_http_transfer_end(lev_steal(p->wait.t));
        if (is_port_conflict(err->msg)) {
            err->code = LEV_E_CONFLICT;
        }
        /* The container is there but cannot be run as it was asked for. */
        if (err->detail >= 400 && err->code != LEV_E_CONFLICT &&
            strcasestr(err->msg, "no such container") == NULL)
        {
            err->code = LEV_E_START;
        }
        return lev_error_wrap(err, "start container %.12s", p->id);
    }
    return 0;
}

static void
ask_later(struct lasting *l)
{
    l->nap = l->nap == 0            ? NAP_MIN
             : l->nap * 2 < NAP_MAX ? l->nap * 2
                                    : NAP_MAX;
    l->again = lev_now() + l->nap;
}

/* An engine that is restarted answers again soon: 1 while that is waited for,
 * -1 when it has taken too long, or when `err` is no matter of that. */
static int
out_of_reach(struct lev_process *p, struct lev_error *err)
{
    struct lev_error why = *err;
    int64_t now = lev_now();

    /* A detail is the status of an answer. */
    if (err->code != LEV_E_ENGINE_UNAVAILABLE &&
        (err->code != LEV_E_ENGINE || err->detail != 0))
    {
        return -1;
    }
    if (p->unreachable_since == 0) {
        p->unreachable_since = now;
    }
    if (now - p->unreachable_since < p->docker->patience) {
        return 1;
    }
    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                         "the connection to the engine was lost while the "
                         "container ran, and for %.0f s there was no other: "
                         "%s",
                         (double)p->docker->patience / (double)LEV_SECOND,
                         why.msg);
}

/* 1 with the state, 0 while the engine is out of reach, -1. */
static int
look(struct lev_process *p, const struct lev_scope *scope,
     struct lev_container_state *state, struct lev_error *err)
{
    if (lev_docker_inspect(&p->docker->base, scope, p->id, state, err) < 0) {
        if (err->code == LEV_E_NOT_FOUND) {
            return lev_error_add(err, "it was removed while it ran");
        }
        return out_of_reach(p, err) < 0 ? -1 : 0;
    }
    p->unreachable_since = 0;
    return 1;
}

static void
set_exited(struct lev_process *p, int exit_code)
{
    p->exit_code = exit_code;
    p->exited = true;
    p->drain_until = lev_now() + DRAIN_TIMEOUT;
}

static int
take_exit(struct lev_process *p, struct lev_error *err)
{
    const struct lev_http_response *resp =
        lev_http_transfer_response(p->wait.t);
    _cleanup_json_ json_t *answer = NULL;
    const char *message;

    if (lev_docker_status(resp, err) < 0) {
        return -1;
    }
    answer = lev_json_parse(lev_buf_text(&resp->body), resp->body.len,
                            "the engine's answer to wait", err);
    if (answer == NULL) {
        return -1;
    }
    message = lev_json_str(answer, "Error.Message");
    if (message != NULL && *message != '\0') {
        return lev_error_set(err, LEV_E_ENGINE, 0, "%.600s", message);
    }
    set_exited(p, (int)lev_json_int(answer, "StatusCode", -1));
    return 0;
}

/* The answer to "wait" was lost, or is none (`answer`): the container itself
 * is asked, and while it runs, waited for anew. */
static int
wait_again(struct lev_process *p, const struct lev_scope *scope,
           const struct lev_error *answer, struct lev_error *err)
{
    struct lev_container_state state;
    int rc = look(p, scope, &state, err);

    ask_later(&p->wait);
    if (rc <= 0) {
        return rc;
    }
    if (!state.running && state.finished != 0) {
        set_exited(p, state.exit_code);
        return 0;
    }
    if (answer != NULL) {
        *err = *answer;
        return -1;
    }
    if (!state.running) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the engine's answer was lost, and the container "
                             "neither runs nor has ended");
    }
    return begin_wait(p, "/containers/%s/wait?condition=not-running", err);
}

static int
check_wait(struct lev_process *p, const struct lev_scope *scope,
           struct lev_error *err)
{
    if (p->wait.t != NULL) {
        struct lev_error why;
        int done = lev_http_transfer_done(p->wait.t, &why);

        if (done == 0 || (done > 0 && take_exit(p, &why) == 0)) {
            return 0;
        }
        lev_http_transfer_end(lev_steal(p->wait.t));
        if (done > 0) {
            return wait_again(p, scope, &why, err);
        }
    }
    return lev_now() < p->wait.again ? 0 : wait_again(p, scope, NULL, err);
}

static void
tell_lost(struct lev_process *p)
{
    if (p->out->lost != NULL) {
        p->out->lost(p->out, p->cut.msg);
    }
}

/* -1 when the engine has sent something else than output. */
static int
attach_ended(struct lev_process *p, bool whole, struct lev_error *err)
{
    struct lev_error *cut = &p->cut;

    if (p->garbled) {
        *err = p->cut;
        return -1;
    }
    if (whole) {
        whole = lev_docker_status(lev_http_transfer_response(p->attach.t),
                                  cut) == 0 &&
                lev_logmux_end(&p->mux, cut) == 0;
    }
    lev_http_transfer_end(lev_steal(p->attach.t));
    if (whole) {
        p->attach.again = lev_now() + EXIT_FOLLOWS;
    }
    return 0;
}

/* The stream has ended, and no exit was told since. */
static int
attach_again(struct lev_process *p, const struct lev_scope *scope,
             struct lev_error *err)
{
    struct lev_container_state state;
    int rc = look(p, scope, &state, err);

    ask_later(&p->attach);
    if (rc <= 0) {
        return rc;
    }
    if (!state.running) {
        return 0; /* its exit is on its way */
    }
    if (p->cut.code == LEV_OK) {
        lev_error_set(&p->cut, LEV_E_ENGINE, 0, "the engine ended it");
    }
    if (p->barren == 0) {
        tell_lost(p);
    }
    p->cut.code = LEV_OK;
    if (p->barren++ == BARREN_MAX) {
        p->drained = true;
        return 0;
    }
    reset_mux(p);
    return begin_attach(p, err);
}

static int
check_attach(struct lev_process *p, const struct lev_scope *scope,
             struct lev_error *err)
{
    if (p->attach.t != NULL) {
        int done = lev_http_transfer_done(p->attach.t, &p->cut);

        if (done == 0) {
            return 0;
        }
        if (attach_ended(p, done > 0, err) < 0) {
            return -1;
        }
    }
    if (p->exited) {
        if (p->cut.code != LEV_OK) {
            tell_lost(p);
        }
        p->drained = true;
        return 0;
    }
    return lev_now() < p->attach.again ? 0 : attach_again(p, scope, err);
}

static int
check(struct lev_process *p, const struct lev_scope *scope,
      struct lev_error *err)
{
    if (!p->exited && check_wait(p, scope, err) < 0) {
        return lev_error_wrap(err, "wait for container %.12s", p->id);
    }
    if (!p->drained && check_attach(p, scope, err) < 0) {
        return lev_error_wrap(err, "output of container %.12s", p->id);
    }
    return 0;
}

/* What there is to do without a word from the engine. */
static int64_t
next_time(const struct lev_process *p)
{
    int64_t next = LEV_NEVER;

    if (p->exited) {
        return p->drain_until;
    }
    if (p->wait.t == NULL) {
        next = p->wait.again;
    }
    if (!p->drained && p->attach.t == NULL && p->attach.again < next) {
        next = p->attach.again;
    }
    return next;
}

static void
give_up_output(struct lev_process *p)
{
    p->drained = true;
    lev_log(p->docker->base.log, LEV_WARNING, "lev.engine",
            "container %.12s ended, but its output did not within %d s; what "
            "came until now is kept",
            p->id, (int)(DRAIN_TIMEOUT / LEV_SECOND));
}

/* Waits; a time of our own ends the wait without an error. */
static int
poll_once(struct lev_process *p, const struct lev_scope *scope,
          struct pollfd *fds, size_t n, struct lev_error *err)
{
    struct lev_scope brief = *scope;
    int64_t next = next_time(p);

    if (next < brief.deadline) {
        brief.deadline = next;
    }
    if (lev_http_conn_poll(p->conn, &brief, fds, n, err) == 0) {
        return 0;
    }
    if (err->code != LEV_E_TIMEOUT || brief.deadline == scope->deadline) {
        return -1;
    }
    if (p->exited) {
        give_up_output(p);
    }
    return 0;
}

int
lev_docker_poll(struct lev_process *p, const struct lev_scope *scope,
                struct pollfd *fds, size_t n, int *exit_code,
                struct lev_error *err)
{
    if (p->failed) {
        return lev_error_set(err, LEV_E_STATE, 0,
                             "container %.12s could not be started", p->id);
    }
    for (size_t i = 0; i < n; i++) {
        fds[i].revents = 0;
    }
    /* Before the wait, too: an answer may have come to its end already. */
    if (check(p, scope, err) < 0) {
        return -1;
    }
    if (!(p->exited && p->drained) &&
        (poll_once(p, scope, fds, n, err) < 0 || check(p, scope, err) < 0))
    {
        return -1;
    }
    if (!p->exited || !p->drained) {
        return 0;
    }
    *exit_code = p->exit_code;
    return 1;
}
