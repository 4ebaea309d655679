/* docker_exec.c - a process in a running container, with both directions over
 * one hijacked connection; closing it ends the process. */

#include "docker.h"

#include <string.h>

#include "logmux.h"

#define CODE_NAP_MAX (100 * LEV_MS)

struct lev_exec {
    struct lev_docker *docker;
    char *id;
    struct lev_http_stream *stream;
    struct lev_logmux mux;
    struct lev_buf out[2]; /* taken apart, not yet received: stdout, stderr */
    bool ended;
};

static int
on_piece(void *ctx, enum lev_stream stream, const char *data, size_t len,
         struct lev_error *err)
{
    struct lev_exec *x = ctx;
    struct lev_buf *to = &x->out[stream == LEV_STREAM_STDERR];

    lev_buf_append(to, data, len);
    return lev_buf_check(to, "output of exec", err);
}

void
lev_docker_exec_close(struct lev_exec *x)
{
    if (x == NULL) {
        return;
    }
    lev_http_stream_close(x->stream);
    lev_buf_deinit(&x->out[0]);
    lev_buf_deinit(&x->out[1]);
    lev_engine_unref(&x->docker->base);
    free(x->id);
    free(x);
}

static int
create_exec(struct lev_exec *x, const struct lev_scope *scope, const char *id,
            const struct lev_exec_spec *spec, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_json_ json_t *body = json_pack(
        "{s:b, s:b, s:b, s:o, s:s, s:b}", "AttachStdin", spec->input,
        "AttachStdout", 1, "AttachStderr", 1, "Cmd",
        lev_docker_strings(spec->argv), "User",
        spec->user == NULL ? "" : spec->user, "Privileged", spec->privileged);
    const char *text;

    if (body == NULL) {
        return lev_error_nomem(err, "exec");
    }
    lev_docker_path(x->docker, &path, "/containers/%s/exec", id);
    if (lev_docker_call(x->docker, scope, "POST", &path, body, &answer, err) <
        0) {
        return -1;
    }
    text = lev_json_str(answer, "Id");
    if (text == NULL) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the engine's answer has no Id");
    }
    x->id = strdup(text);
    return x->id == NULL ? lev_error_nomem(err, "exec") : 0;
}

static int
open_stream(struct lev_exec *x, const struct lev_scope *scope,
            struct lev_error *err)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Connection: Upgrade",
                                          "Upgrade: tcp", NULL};
    static const char body[] = "{\"Detach\":false,\"Tty\":false}";
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf path = {0};
    struct lev_http_request req = {.method = "POST",
                                   .headers = headers,
                                   .body = body,
                                   .body_len = strlen(body)};
    struct lev_error why;

    lev_docker_path(x->docker, &path, "/exec/%s/start", x->id);
    if (lev_buf_check(&path, "exec", err) < 0) {
        return -1;
    }
    req.path = path.data;
    x->stream = lev_http_stream_open(x->docker->http, scope, &req, &resp, err);
    if (x->stream == NULL) {
        if (resp.status >= 400 && lev_docker_status(&resp, &why) < 0) {
            *err = why; /* in the engine's words */
        }
        return -1;
    }
    return 0;
}

struct lev_exec *
lev_docker_exec_start(struct lev_engine *e, const struct lev_scope *scope,
                      const char *id, const struct lev_exec_spec *spec,
                      struct lev_error *err)
{
    struct lev_exec *x = calloc(1, sizeof(*x));

    if (x == NULL) {
        lev_error_nomem(err, "exec");
        return NULL;
    }
    x->docker = lev_docker_of(lev_engine_ref(e));
    x->mux.emit = on_piece;
    x->mux.ctx = x;
    if (lev_docker_check_text("argv", spec->argv, err) < 0 ||
        create_exec(x, scope, id, spec, err) < 0 ||
        open_stream(x, scope, err) < 0)
    {
        lev_docker_exec_close(x);
        lev_error_wrap(err, "exec %s in container %.12s", spec->argv[0], id);
        return NULL;
    }
    return x;
}

int
lev_docker_exec_fd(const struct lev_exec *x)
{
    return lev_http_stream_fd(x->stream);
}

/* Takes what is there from the connection; 1, or 0 at the end, -1, -2. */
static int
fill(struct lev_exec *x, struct lev_error *err)
{
    char raw[16 * 1024];
    ssize_t n = lev_http_stream_recv(x->stream, raw, sizeof(raw), err);

    if (n == 0) {
        x->ended = true;
        return lev_logmux_end(&x->mux, err);
    }
    if (n < 0) {
        return (int)n;
    }
    return lev_logmux_feed(&x->mux, raw, (size_t)n, err) < 0 ? -1 : 1;
}

ssize_t
lev_docker_exec_recv(struct lev_exec *x, int *stream, void *buf, size_t len,
                     struct lev_error *err)
{
    for (;;) {
        int rc;

        for (int i = 0; i < 2; i++) {
            size_t n = x->out[i].len < len ? x->out[i].len : len;

            if (n > 0) {
                memcpy(buf, x->out[i].data, n);
                lev_buf_consume(&x->out[i], n);
                *stream = i + 1;
                return (ssize_t)n;
            }
        }
        rc = x->ended ? 0 : fill(x, err);
        if (rc <= 0) {
            return rc;
        }
    }
}

/* Until something can be sent again. What comes meanwhile is kept: a peer that
 * is not listened to may stop listening itself. */
static int
wait_room(struct lev_exec *x, const struct lev_scope *scope,
          struct lev_error *err)
{
    struct pollfd pfd = {.fd = lev_http_stream_fd(x->stream),
                         .events = POLLOUT};
    int rc = 1;

    while (!x->ended && rc > 0) {
        rc = fill(x, err);
    }
    if (rc == -1) {
        return -1;
    }
    pfd.events |= x->ended ? 0 : POLLIN;
    return lev_scope_poll(scope, &pfd, 1, err) < 0 ? -1 : 0;
}

int
lev_docker_exec_send(struct lev_exec *x, const struct lev_scope *scope,
                     const void *data, size_t len, struct lev_error *err)
{
    const char *from = data;

    while (len > 0) {
        ssize_t n = lev_http_stream_try_send(x->stream, from, len, err);

        if (n == -1 || (n == -2 && wait_room(x, scope, err) < 0)) {
            return -1;
        }
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* The engine has no wait for an exec; its output has ended when this is asked,
 * so that the first question is answered as a rule. */
int
lev_docker_exec_code(struct lev_exec *x, const struct lev_scope *scope,
                     int *exit_code, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    int64_t nap = 2 * LEV_MS;

    lev_docker_path(x->docker, &path, "/exec/%s/json", x->id);
    for (;;) {
        _cleanup_json_ json_t *answer = NULL;

        if (lev_docker_call(x->docker, scope, "GET", &path, NULL, &answer,
                            err) < 0) {
            return lev_error_wrap(err, "exit code of an exec");
        }
        if (!lev_json_bool(answer, "Running", false)) {
            *exit_code = (int)lev_json_int(answer, "ExitCode", -1);
            return 0;
        }
        if (lev_scope_sleep(scope, nap, err) < 0) {
            return -1;
        }
        nap = nap * 2 < CODE_NAP_MAX ? nap * 2 : CODE_NAP_MAX;
    }
}
