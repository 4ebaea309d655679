/* docker_pull.c - fetching an image.
 *
 * The engine answers with a stream of JSON messages, one line each, that tell
 * how far each layer is; a failure comes as a message inside the 200. Closing
 * the connection cancels the pull. Of several pulls of one image at the same
 * time in this process one asks the engine and the others wait for its
 * result: registries count requests.
 */

#include "docker.h"

#include <string.h>

#include "credentials.h"
#include "imageref.h"

#define LINE_MAX_SIZE (1024 * 1024)
#define LAYERS_MAX 1024 /* more are ignored in the sum */

struct layer {
    char id[16];
    int stage;
    int64_t done, total; /* bytes of the download */
    int64_t current;     /* of the stage */
};

struct pull {
    lev_pull_progress *progress;
    void *ctx;
    struct lev_buf line;
    struct layer *layers;
    size_t layers_n;
    char text[128]; /* the last message that is of no layer */
    char state[96]; /* the last one of a layer, for errors */
    int64_t changed;
    char failure[600]; /* what the engine reports inside the stream */
};

static void
pull_deinit(struct pull *p)
{
    lev_buf_deinit(&p->line);
    free(p->layers);
}
#define _cleanup_pull_ _cleanup_(pull_deinit)

/* A layer goes through these in order; a retry goes back, and that is no
 * progress. */
static int
stage_of(const char *status)
{
    static const char *const stages[] = {
        "Downloading", "Verifying Checksum", "Download complete",
        "Extracting",  "Pull complete",      "Already exists",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(stages); i++) {
        if (strcmp(status, stages[i]) == 0) {
            return (int)i + 1;
        }
    }
    return 0; /* "Pulling fs layer", "Waiting", "Retrying in 5 seconds" */
}

static struct layer *
layer_of(struct pull *p, const char *id, struct lev_error *err)
{
    struct layer *more;

    for (size_t i = 0; i < p->layers_n; i++) {
        if (strcmp(p->layers[i].id, id) == 0) {
            return &p->layers[i];
        }
    }
    more = realloc(p->layers, (p->layers_n + 1) * sizeof(*more));
    if (more == NULL) {
        lev_error_nomem(err, "pull");
        return NULL;
    }
    p->layers = more;
    more = &p->layers[p->layers_n++];
    *more = (struct layer){.stage = -1};
    snprintf(more->id, sizeof(more->id), "%s", id);
    return more;
}

static void
report(struct pull *p, const char *text)
{
    int64_t done = 0, total = 0;

    for (size_t i = 0; i < p->layers_n; i++) {
        done += p->layers[i].done;
        total += p->layers[i].total;
    }
    if (p->progress != NULL) {
        p->progress(p->ctx, done, total, text);
    }
}

/* Whether the message says more than was known of the layer. */
static bool
layer_advances(struct layer *l, int stage, int64_t current, int64_t total)
{
    bool later = stage > l->stage;

    if (!later && (stage < l->stage || current <= l->current)) {
        return false;
    }
    l->stage = stage;
    l->current = current;
    if (stage == 1) {
        l->total = total > l->total ? total : l->total;
        l->done = current;
    }
    else if (stage > 1) {
        l->done = l->total;
    }
    return true;
}

static int
on_layer(struct pull *p, const json_t *message, const char *id,
         const char *status, struct lev_error *err)
{
    struct layer *l;

    if (p->layers_n >= LAYERS_MAX || strlen(id) >= sizeof(l->id)) {
        return 0;
    }
    l = layer_of(p, id, err);
    if (l == NULL) {
        return -1;
    }
    snprintf(p->state, sizeof(p->state), "%s: %.60s", id, status);
    if (layer_advances(l, stage_of(status),
                       lev_json_int(message, "progressDetail.current", 0),
                       lev_json_int(message, "progressDetail.total", 0)))
    {
        p->changed = lev_now();
        report(p, p->state);
    }
    return 0;
}

static int
on_message(struct pull *p, const json_t *message, struct lev_error *err)
{
    const char *failure = lev_json_str(message, "errorDetail.message");
    const char *status = lev_json_str(message, "status");
    const char *id = lev_json_str(message, "id");

    if (failure == NULL) {
        failure = lev_json_str(message, "error");
    }
    if (failure != NULL) {
        snprintf(p->failure, sizeof(p->failure), "%s", failure);
        return 0;
    }
    if (status == NULL) {
        return 0;
    }
    /* The first message has the tag as its id. */
    if (id != NULL && strncmp(status, "Pulling from", 12) != 0) {
        return on_layer(p, message, id, status, err);
    }
    if (strncmp(p->text, status, sizeof(p->text) - 1) != 0) {
        snprintf(p->text, sizeof(p->text), "%s", status);
        p->changed = lev_now();
        report(p, p->text);
    }
    return 0;
}

static int
on_line(struct pull *p, const char *line, size_t len, struct lev_error *err)
{
    _cleanup_json_ json_t *message = NULL;

    while (len > 0 && strchr(" \r\n", line[len - 1]) != NULL) {
        len--;
    }
    if (len == 0) {
        return 0;
    }
    message = lev_json_parse(line, len, "a progress message", err);
    return message == NULL ? -1 : on_message(p, message, err);
}

static int
on_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct pull *p = ctx;
    size_t from = 0;
    char *nl;

    lev_buf_append(&p->line, data, len);
    if (lev_buf_check(&p->line, "pull", err) < 0) {
        return -1;
    }
    while ((nl = memchr(p->line.data + from, '\n', p->line.len - from)) !=
           NULL) {
        size_t end = (size_t)(nl - p->line.data);

        if (on_line(p, p->line.data + from, end - from, err) < 0) {
            return -1;
        }
        from = end + 1;
    }
    lev_buf_consume(&p->line, from);
    if (p->line.len > LINE_MAX_SIZE) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "a progress message without end");
    }
    return 0;
}

static int
stalled(const struct pull *p, int64_t stall, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_PULL, 0,
                         "no progress for %lld s (%s); the registry or the "
                         "engine's connection to it may be down",
                         (long long)(stall / LEV_SECOND),
                         p->state[0] != '\0'  ? p->state
                         : p->text[0] != '\0' ? p->text
                                              : "nothing was received");
}

static int
drive(struct pull *p, struct lev_http_conn *conn, struct lev_http_transfer *t,
      const struct lev_scope *scope, int64_t stall, struct lev_error *err)
{
    for (;;) {
        struct lev_scope brief = *scope;
        int done = lev_http_transfer_done(t, err);

        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
        if (stall > 0 && stall < brief.deadline - p->changed) {
            brief.deadline = p->changed + stall;
        }
        if (lev_http_conn_poll(conn, &brief, NULL, 0, err) < 0) {
            return err->code == LEV_E_TIMEOUT &&
                           brief.deadline < scope->deadline
                       ? stalled(p, stall, err)
                       : -1;
        }
    }
}

static bool
says(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcasestr(text, *words) != NULL) {
            return true;
        }
    }
    return false;
}

/* What a registry's refusal means: its words arrive through the engine, with
 * a status that depends on the engine's version. */
static int
refused(const struct lev_imageref *ref, const struct lev_credentials *cred,
        const char *message, int status, struct lev_error *err)
{
    static const char *const missing[] = {"manifest unknown", "not found",
                                          "does not exist",   "name unknown",
                                          "no such image",    NULL};
    static const char *const auth[] = {"unauthorized",
                                       "no basic auth",
                                       "denied",
                                       "authentication required",
                                       "incorrect username",
                                       NULL};
    enum lev_errcode code =
        says(message, missing) ? LEV_E_IMAGE_NOT_FOUND : LEV_E_PULL;

    if (!says(message, auth)) {
        return lev_error_set(err, code, status, "%s", message);
    }
    if (cred->username == NULL && cred->identity_token == NULL) {
        return lev_error_set(err, code, status,
                             "%s; no credentials are kept for %s: log in with "
                             "docker login %s",
                             message, ref->registry, ref->registry);
    }
    return lev_error_set(err, code, status,
                         "%s; %s was asked as user %s: log in again with "
                         "docker login %s",
                         message, ref->registry,
                         cred->username == NULL ? "(token)" : cred->username,
                         ref->registry);
}

static int
finish(struct pull *p, const struct lev_http_transfer *t,
       const struct lev_imageref *ref, const struct lev_credentials *cred,
       struct lev_error *err)
{
    struct lev_error why;

    if (lev_docker_status(lev_http_transfer_response(t), &why) < 0) {
        return refused(ref, cred, why.msg, why.detail, err);
    }
    /* A last line may lack its newline. */
    if (on_line(p, lev_buf_text(&p->line), p->line.len, err) < 0) {
        return -1;
    }
    if (p->failure[0] != '\0') {
        return refused(ref, cred, p->failure, 0, err);
    }
    return 0;
}

static int
auth_header(const struct lev_credentials *cred, struct lev_buf *out,
            struct lev_error *err)
{
    lev_buf_puts(out, "X-Registry-Auth: ");
    return lev_credentials_header(cred, out, err);
}

static void
wipe_buf(struct lev_buf *b)
{
    if (b->data != NULL) {
        explicit_bzero(b->data, b->cap);
    }
    lev_buf_deinit(b);
}

static void
end_conn(struct lev_http_conn **conn)
{
    lev_http_conn_give(*conn);
}

static void
end_transfer(struct lev_http_transfer **t)
{
    lev_http_transfer_end(*t);
}

static int
run(struct lev_docker *d, const struct lev_scope *scope, struct pull *p,
    const struct lev_imageref *ref, const struct lev_credentials *cred,
    int64_t stall, struct lev_error *err)
{
    _cleanup_(wipe_buf) struct lev_buf auth = {0};
    _cleanup_buf_ struct lev_buf path = {0}, name = {0};
    _cleanup_(end_conn) struct lev_http_conn *conn = NULL;
    _cleanup_(end_transfer) struct lev_http_transfer *t = NULL;
    const char *headers[] = {NULL, NULL};
    struct lev_http_request req = {
        .method = "POST", .headers = headers, .on_data = on_data, .ctx = p};

    lev_buf_printf(&name, "%s/%s", ref->registry, ref->repository);
    lev_docker_path(d, &path, "/images/create?fromImage=%s&tag=%s",
                    lev_buf_text(&name),
                    ref->digest != NULL ? ref->digest
                    : ref->tag != NULL  ? ref->tag
                                        : "latest");
    if (auth_header(cred, &auth, err) < 0 ||
        lev_buf_check(&name, "pull", err) < 0 ||
        lev_buf_check(&path, "pull", err) < 0)
    {
        return -1;
    }
    headers[0] = auth.data;
    req.path = path.data;
    conn = lev_http_conn_take(d->http, err);
    if (conn == NULL) {
        return -1;
    }
    t = lev_http_transfer_start(conn, &req, err);
    if (t == NULL || drive(p, conn, t, scope, stall, err) < 0) {
        return -1;
    }
    return finish(p, t, ref, cred, err);
}

static void
deinit_credentials(struct lev_credentials *c)
{
    lev_credentials_deinit(c);
}

static int
pull_now(struct lev_docker *d, const struct lev_scope *scope, const char *text,
         int64_t stall, lev_pull_progress *progress, void *ctx,
         struct lev_error *err)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};
    _cleanup_(deinit_credentials) struct lev_credentials cred = {0};
    _cleanup_pull_ struct pull p = {
        .progress = progress, .ctx = ctx, .changed = lev_now()};

    if (lev_imageref_parse(text, NULL, &ref, err) < 0) {
        return -1;
    }
    if (ref.repository == NULL) {
        return lev_error_set(err, LEV_E_IMAGE_NOT_FOUND, 0,
                             "the engine does not have it, and an id cannot "
                             "be fetched from a registry; give a name");
    }
    if (lev_credentials_find(d->docker_config, ref.registry, scope, &cred,
                             err) < 0)
    {
        return -1;
    }
    return run(d, scope, &p, &ref, &cred, stall, err);
}

/* Somebody who waits for the pull that another thread does. */
struct waiter {
    struct lev_event done;
    int rc; /* 0, -1, or 1: the one who pulled gave up, pull yourself */
    struct lev_error err;
    struct waiter *next;
};

struct lev_docker_pull {
    const char *ref;
    struct waiter *waiters;
    struct lev_docker_pull *next;
};

/* With the mutex held. */
static struct lev_docker_pull *
find_pull(struct lev_docker *d, const char *ref)
{
    struct lev_docker_pull *p = d->pulls;

    while (p != NULL && strcmp(p->ref, ref) != 0) {
        p = p->next;
    }
    return p;
}

/* Takes it off the list and tells its result to those who wait. */
static void
end_pull(struct lev_docker *d, struct lev_docker_pull *p, int rc,
         const struct lev_error *err)
{
    bool gave_up =
        rc < 0 && (err->code == LEV_E_CANCELLED || err->code == LEV_E_TIMEOUT);
    struct lev_docker_pull **link = &d->pulls;

    pthread_mutex_lock(&d->pulls_mutex);
    while (*link != p) {
        link = &(*link)->next;
    }
    *link = p->next;
    for (struct waiter *w = p->waiters, *next; w != NULL; w = next) {
        next = w->next; /* it goes as soon as it is told */
        w->rc = gave_up ? 1 : rc;
        if (rc < 0) {
            w->err = *err;
        }
        lev_event_set(&w->done);
    }
    pthread_mutex_unlock(&d->pulls_mutex);
}

/* Called with the mutex held, which it releases. 0, -1, or 1: once more. */
static int
wait_pull(struct lev_docker *d, struct lev_docker_pull *p,
          const struct lev_scope *scope, struct lev_error *err)
{
    struct waiter w = {.next = p->waiters, .rc = -1};
    struct waiter **link;
    int rc;

    lev_event_init(&w.done);
    p->waiters = &w;
    pthread_mutex_unlock(&d->pulls_mutex);
    rc = lev_scope_wait(scope, &w.done, err);
    pthread_mutex_lock(&d->pulls_mutex);
    if (lev_event_is_set(&w.done)) {
        rc = w.rc;
        if (rc < 0) {
            *err = w.err;
        }
    }
    else {
        /* Nobody was told yet, so the pull and its list are still there. */
        for (link = &p->waiters; *link != &w; link = &(*link)->next) {
        }
        *link = w.next;
    }
    pthread_mutex_unlock(&d->pulls_mutex);
    lev_event_deinit(&w.done);
    return rc;
}

int
lev_docker_image_pull(struct lev_engine *e, const struct lev_scope *scope,
                      const char *ref, int64_t stall,
                      lev_pull_progress *progress, void *ctx,
                      struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    struct lev_docker_pull own = {.ref = ref}, *other;
    int rc = 1;

    while (rc == 1) {
        pthread_mutex_lock(&d->pulls_mutex);
        other = find_pull(d, ref);
        if (other != NULL) {
            rc = wait_pull(d, other, scope, err);
            continue;
        }
        own.next = d->pulls;
        d->pulls = &own;
        pthread_mutex_unlock(&d->pulls_mutex);
        rc = pull_now(d, scope, ref, stall, progress, ctx, err);
        end_pull(d, &own, rc, err);
    }
    return rc < 0 ? lev_error_wrap(err, "pull image %s", ref) : 0;
}
