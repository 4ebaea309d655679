/* docker_process.c - a container's output and exit.
 *
 * Two answers that last as long as the container: the attach stream, and the
 * answer to "wait". Both are asked for before the start, or a short
 * container's last words are lost; "next-exit" is the condition that means
 * something then
 * ("not-running" returns at once). The engine answers both with headers at
 * once, so when those are there nothing can be missed any more. After a failed
 * start "wait" would never end: it is ended here.
 */

#include "docker.h"

#include <string.h>

#include "logmux.h"

/* How long output may take to arrive after the exit was told. */
#define DRAIN_TIMEOUT (10 * LEV_SECOND)

struct lev_process {
    struct lev_docker *docker;
    char *id;
    struct lev_output *out;
    struct lev_http_conn *conn;
    struct lev_http_transfer *attach, *wait;
    struct lev_logmux mux;
    bool drained, exited;
    int64_t drain_until; /* when `exited` */
    int exit_code;
};

static int
on_piece(void *ctx, enum lev_stream stream, const char *data, size_t len,
         struct lev_error *err)
{
    struct lev_process *p = ctx;

    p->out->data(p->out, stream == LEV_STREAM_STDERR ? 2 : 1, data, len);
    return 0;
}

static int
on_attach_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct lev_process *p = ctx;

    return lev_logmux_feed(&p->mux, data, len, err);
}

void
lev_docker_detach(struct lev_process *p)
{
    if (p == NULL) {
        return;
    }
    lev_http_transfer_end(p->attach);
    lev_http_transfer_end(p->wait);
    lev_http_conn_give(p->conn);
    lev_engine_unref(&p->docker->base);
    free(p->id);
    free(p);
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
    p->mux.emit = on_piece;
    p->mux.ctx = p;
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
    p->attach = begin(p, "/containers/%s/attach?stream=1&stdout=1&stderr=1",
                      true, err);
    if (p->attach == NULL) {
        return -1;
    }
    p->wait = begin(p, "/containers/%s/wait?condition=next-exit", false, err);
    if (p->wait == NULL) {
        return -1;
    }
    for (;;) {
        int attach = has_begun(p->attach, err);
        int wait = attach < 0 ? -1 : has_begun(p->wait, err);

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

int
lev_docker_start(struct lev_process *p, const struct lev_scope *scope,
                 struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(p->docker, &path, "/containers/%s/start", p->id);
    if (lev_docker_call(p->docker, scope, "POST", &path, NULL, NULL, err) < 0)
    {
        lev_http_transfer_end(lev_steal(p->attach));
        lev_http_transfer_end(lev_steal(p->wait));
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

/* The connection was lost with the answer: ask for what it would have said. */
static int
exit_by_inspect(struct lev_process *p, const struct lev_scope *scope,
                struct lev_error *err)
{
    struct lev_container_state state;
    struct lev_error lost = *err;

    if (lev_docker_inspect(&p->docker->base, scope, p->id, &state, err) < 0) {
        return -1;
    }
    if (state.running || state.finished == 0) {
        *err = lost;
        return -1;
    }
    p->exit_code = state.exit_code;
    return 0;
}

static int
take_exit(struct lev_process *p, struct lev_error *err)
{
    const struct lev_http_response *resp = lev_http_transfer_response(p->wait);
    _cleanup_json_ json_t *answer = NULL;
    const char *message;

    answer = lev_json_parse(lev_buf_text(&resp->body), resp->body.len,
                            "the engine's answer to wait", err);
    if (answer == NULL) {
        return -1;
    }
    message = lev_json_str(answer, "Error.Message");
    if (message != NULL && *message != '\0') {
        return lev_error_set(err, LEV_E_ENGINE, 0, "%.600s", message);
    }
    p->exit_code = (int)lev_json_int(answer, "StatusCode", -1);
    return 0;
}

static int
check_wait(struct lev_process *p, const struct lev_scope *scope,
           struct lev_error *err)
{
    int done = lev_http_transfer_done(p->wait, err);

    if (done == 0) {
        return 0;
    }
    if ((done < 0 || take_exit(p, err) < 0) &&
        exit_by_inspect(p, scope, err) < 0) {
        return -1;
    }
    p->exited = true;
    p->drain_until = lev_now() + DRAIN_TIMEOUT;
    return 0;
}

static int
check_attach(struct lev_process *p, struct lev_error *err)
{
    int done = lev_http_transfer_done(p->attach, err);

    if (done <= 0) {
        return done;
    }
    p->drained = true;
    return lev_logmux_end(&p->mux, err);
}

static int
check(struct lev_process *p, const struct lev_scope *scope,
      struct lev_error *err)
{
    if (!p->drained && check_attach(p, err) < 0) {
        return lev_error_wrap(err, "output of container %.12s", p->id);
    }
    if (!p->exited && check_wait(p, scope, err) < 0) {
        return lev_error_wrap(err, "wait for container %.12s", p->id);
    }
    return 0;
}

/* Waits; the time for output after the exit ends the wait without an error. */
static int
poll_once(struct lev_process *p, const struct lev_scope *scope,
          struct pollfd *fds, size_t n, struct lev_error *err)
{
    struct lev_scope brief = *scope;

    if (p->exited && p->drain_until < brief.deadline) {
        brief.deadline = p->drain_until;
    }
    if (lev_http_conn_poll(p->conn, &brief, fds, n, err) == 0) {
        return 0;
    }
    if (err->code != LEV_E_TIMEOUT || brief.deadline == scope->deadline) {
        return -1;
    }
    p->drained = true;
    lev_log(p->docker->base.log, LEV_WARNING, "lev.engine",
            "container %.12s ended, but its output did not within %d s; what "
            "came until now is kept",
            p->id, (int)(DRAIN_TIMEOUT / LEV_SECOND));
    return 0;
}

int
lev_docker_poll(struct lev_process *p, const struct lev_scope *scope,
                struct pollfd *fds, size_t n, int *exit_code,
                struct lev_error *err)
{
    if (p->attach == NULL || p->wait == NULL) {
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
