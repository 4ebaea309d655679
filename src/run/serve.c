#include "run_internal.h"

#include <string.h>
#include <time.h>

static int64_t
wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* ---- output ---- */

static void
keep_tail(struct lev_run *run, const char *data, size_t len)
{
    if (run->tail == NULL) {
        run->tail = malloc(LEV_TAIL_SIZE);
    }
    if (run->tail == NULL) {
        return; /* only words about a failure are the poorer for it */
    }
    if (len > LEV_TAIL_SIZE) {
        run->tail_len += len - LEV_TAIL_SIZE;
        data += len - LEV_TAIL_SIZE;
        len = LEV_TAIL_SIZE;
    }
    while (len > 0) {
        size_t at = run->tail_len % LEV_TAIL_SIZE;
        size_t n = LEV_TAIL_SIZE - at < len ? LEV_TAIL_SIZE - at : len;

        memcpy(run->tail + at, data, n);
        run->tail_len += n;
        data += n;
        len -= n;
    }
}

char *
lev_run_tail(const struct lev_run *run)
{
    size_t len = run->tail_len < LEV_TAIL_SIZE ? run->tail_len : LEV_TAIL_SIZE;
    char *text = malloc(len + 1), *start = text;

    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        char c = run->tail[(run->tail_len - len + i) % LEV_TAIL_SIZE];

        text[i] = c == '\0' ? ' ' : c;
    }
    while (len > 0 && strchr(" \r\n", text[len - 1]) != NULL) {
        len--;
    }
    text[len] = '\0';
    /* Cut off at the front: begin with a whole line. */
    if (run->tail_len > LEV_TAIL_SIZE && strchr(text, '\n') != NULL) {
        start = strchr(text, '\n') + 1;
        memmove(text, start, strlen(start) + 1);
    }
    return text;
}

static void
emit_line(struct lev_run *run, const char *text, size_t len)
{
    struct lev_log *log = lev_session_config(run->session)->log;
    char logger[160];

    snprintf(logger, sizeof(logger), "lev.ctr.%s", run->name);
    if (log != NULL) {
        log->emit(log, LEV_DEBUG, logger, text, len);
    }
}

static void
emit_lines(struct lev_run *run, struct lev_lines *l, const char *data,
           size_t len)
{
    while (len > 0) {
        const char *nl = memchr(data, '\n', len);
        size_t n = nl == NULL ? len : (size_t)(nl - data);
        size_t room = sizeof(l->data) - l->len;

        if (n > room) {
            n = room;
            nl = NULL;
        }
        memcpy(l->data + l->len, data, n);
        l->len += n;
        if (nl != NULL || l->len == sizeof(l->data)) {
            emit_line(run, l->data, l->len);
            l->len = 0;
        }
        n += nl != NULL;
        data += n;
        len -= n;
    }
}

/* With the run's mutex held: those who wait for more output, taken out of the
 * list. */
static struct lev_log_waiter *
take_waiters(struct lev_run *run)
{
    return lev_steal(run->log_waiters);
}

static void
call_waiters(struct lev_log_waiter *w)
{
    while (w != NULL) {
        struct lev_log_waiter *next = w->next;

        w->fn(w->ctx);
        free(w);
        w = next;
    }
}

static void
on_output(struct lev_output *out, int stream, const char *data, size_t len)
{
    struct lev_run *run = lev_container_of(out, struct lev_run, output);
    struct lev_log_waiter *waiters;
    struct lev_error err;
    bool failed = false;

    keep_tail(run, data, len);
    pthread_mutex_lock(&run->mutex);
    if (!run->log_broken) {
        failed = lev_runlog_append(&run->log, stream, wall_ms(), data, len,
                                   &err) < 0;
        run->log_broken = failed;
    }
    waiters = take_waiters(run);
    pthread_mutex_unlock(&run->mutex);
    call_waiters(waiters);
    if (failed) {
        lev_log(lev_session_config(run->session)->log, LEV_WARNING, "lev",
                "the output of %s is not kept any more: %s", run->name,
                err.msg);
    }
    if (run->lines != NULL) {
        emit_lines(run, &run->lines[stream == 2], data, len);
    }
}

static void
on_output_lost(struct lev_output *out, const char *why)
{
    struct lev_run *run = lev_container_of(out, struct lev_run, output);

    lev_log(lev_session_config(run->session)->log, LEV_WARNING, "lev",
            "%s: the connection to its output broke, and what it printed "
            "until there was another is missing: %s",
            run->name, why);
}

void
lev_run_output_end(struct lev_run *run)
{
    for (int i = 0; run->lines != NULL && i < 2; i++) {
        if (run->lines[i].len > 0) {
            emit_line(run, run->lines[i].data, run->lines[i].len);
        }
    }
    free(lev_steal(run->lines));
}

/* ---- the guest ---- */

static int
on_set(void *ctx, int64_t seq, const bson_t *data, struct lev_error *err)
{
    struct lev_run *run = ctx;
    const struct lev_scope hurry = {LEV_NEVER, &run->hurry};
    struct lev_scope last;
    int rc = lev_run_store(run, run->serving, seq, data, err);

    if (rc == 0 ||
        (err->code != LEV_E_CANCELLED && err->code != LEV_E_TIMEOUT)) {
        return rc;
    }
    /* The run is stopped while this write was on its way. It is worth a short
     * delay of the stop: what a tool stores last is often what it found, and
     * the sequence number makes a second attempt harmless. */
    last = lev_scope_within(&hurry, 2 * LEV_SECOND);
    return lev_run_store(run, &last, seq, data, err);
}

static void
on_log(void *ctx, int level, const char *name, const char *text)
{
    struct lev_run *run = ctx;
    char logger[160];

    snprintf(logger, sizeof(logger), "lev.ctr.%s", run->name);
    lev_log(lev_session_config(run->session)->log, level, logger, "%s: %s",
            name, text);
}

static void
on_progress(void *ctx, double fraction, const char *text)
{
    struct lev_run *run = ctx;

    lev_log(lev_session_config(run->session)->log, LEV_INFO, "lev",
            "progress: %.4g (%s%s%s)", fraction, run->name,
            text == NULL ? "" : ": ", text == NULL ? "" : text);
}

static void
take_text(char **to, const bson_t *doc, const char *key)
{
    bson_iter_t it;

    free(*to);
    *to = NULL;
    if (bson_iter_init_find(&it, doc, key) && BSON_ITER_HOLDS_UTF8(&it)) {
        *to = strdup(bson_iter_utf8(&it, NULL));
    }
}

static void
on_fail(void *ctx, const bson_t *fail)
{
    struct lev_run_result *r = &((struct lev_run *)ctx)->result;

    take_text(&r->remote_type, fail, "type");
    take_text(&r->remote_text, fail, "text");
    take_text(&r->traceback, fail, "traceback");
    take_text(&r->builtin, fail, "builtin");
}

static void
on_exited(void *ctx, int code)
{
    /* The process's own exit code counts; this frame only says that the guest
     * had nothing more to tell. */
    (void)ctx;
    (void)code;
}

static const struct lev_channel_events channel_events = {
    .set = on_set,
    .log = on_log,
    .progress = on_progress,
    .fail = on_fail,
    .exited = on_exited,
};

void
lev_run_output_init(struct lev_run *run)
{
    run->output.data = on_output;
    run->output.lost = on_output_lost;
    run->channel_events = channel_events;
    run->channel_events.ctx = run;
    if (run->spec->debug_output) {
        /* Without memory the output is only kept, not logged. */
        run->lines = calloc(2, sizeof(*run->lines));
    }
}

/* A guest that breaks the protocol loses its channel; its process goes on and
 * is judged by its exit. */
static void
receive(struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_error err;

    if (lev_channel_receive(run->channel, scope, &err) < 0) {
        lev_log(lev_session_config(run->session)->log, LEV_ERROR, "lev",
                "%s: the guest's channel is closed: %s", run->name, err.msg);
        lev_channel_close(lev_steal(run->channel));
    }
}

/* What the guest wrote before it ended is in the socket still. A child of it
 * may hold the other end: take what is there, do not wait for the end. The
 * relay is one step behind the guest, so it gets a moment. */
static void
drain_channel(struct lev_run *run)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope =
        lev_scope_within(&forever, run->by_socket ? 0 : 2 * LEV_SECOND);

    while (run->channel != NULL && lev_channel_fd(run->channel) >= 0) {
        struct pollfd p = {.fd = lev_channel_fd(run->channel),
                           .events = POLLIN};

        if (poll(&p, 1, lev_scope_left_ms(&scope, 2000)) < 1) {
            return;
        }
        receive(run, &forever);
    }
}

/* 1 when the probe has ended. */
static int
read_probe(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    char buf[2048];
    int stream;
    ssize_t n;

    while ((n = run->ops->exec_recv(run->probe, &stream, buf, sizeof(buf),
                                    err)) > 0)
    {
        if (run->probe_out.len < 16 * 1024) {
            lev_buf_append(&run->probe_out, buf, (size_t)n);
        }
    }
    if (n == -2) {
        return 0;
    }
    if (n < 0 ||
        run->ops->exec_code(run->probe, scope, &run->probe_code, err) < 0) {
        return -1;
    }
    run->ops->exec_close(lev_steal(run->probe));
    return 1;
}

/* One wait; a hello that did not come in time ends it, too. */
static int
poll_once(struct lev_run *run, const struct lev_scope *scope,
          struct pollfd p[2], struct lev_error *err)
{
    struct lev_scope brief = *scope;
    int64_t hello = lev_guest_deadline(run);
    int rc;

    if (hello < brief.deadline) {
        brief.deadline = hello;
    }
    rc = run->ops->poll(run->process, &brief, p, 2, &run->result.exit_code,
                        err);
    if (rc < 0 && err->code == LEV_E_TIMEOUT &&
        brief.deadline < scope->deadline) {
        return lev_guest_silent(run, scope, err);
    }
    return rc;
}

int
lev_run_serve(struct lev_run *run, const struct lev_scope *scope,
              struct lev_error *err)
{
    run->serving = scope;
    while (!run->process_ended) {
        struct pollfd p[2] = {{.fd = -1, .events = POLLIN},
                              {.fd = -1, .events = POLLIN}};
        int rc;

        if (run->channel != NULL) {
            p[0].fd = lev_channel_fd(run->channel);
        }
        if (run->probe != NULL) {
            p[1].fd = run->ops->exec_fd(run->probe);
        }
        rc = poll_once(run, scope, p, err);
        if (rc < 0) {
            return -1;
        }
        run->process_ended = rc == 1;
        if (p[0].revents != 0) {
            receive(run, scope);
        }
        if (p[1].revents != 0) {
            int ended = read_probe(run, scope, err);

            if (ended != 0) {
                return ended < 0 ? -1 : 0;
            }
        }
    }
    drain_channel(run);
    return 1;
}
