#include "registry_client.h"

#include <errno.h>
#include <string.h>

#include "gate.h"
#include "http.h"
#include "registry_auth.h"

#define STALL (60 * LEV_SECOND)
#define REDIRECTS_MAX 10
#define AUTHS_MAX 2 /* another thread's token may be as old */
#define RETRIES_MAX 4
#define RETRY_AFTER_MAX 30 /* seconds */
#define IN_MAX (1u << 20)

/* Where requests go: the registry, its token server, where it redirects. */
struct origin {
    struct origin *next;
    struct lev_http *http;
    char url[]; /* "https://host:port" */
};

struct lev_regclient {
    char *base, *registry, *repository, *docker_config, *ca_file;
    int64_t stall;
    pthread_mutex_t mutex; /* of the list and of `auth` */
    struct origin *origins;
    char *auth;         /* the Authorization header's value, or NULL */
    unsigned auth_turn; /* counts its changes */
    struct lev_gate auth_gate;
};

static char *
copy(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

static void
client_destroyp(struct lev_regclient **c)
{
    lev_regclient_destroy(*c);
}

void
lev_regclient_destroy(struct lev_regclient *c)
{
    if (c == NULL) {
        return;
    }
    while (c->origins != NULL) {
        struct origin *o = c->origins;

        c->origins = o->next;
        lev_http_destroy(o->http);
        free(o);
    }
    if (c->auth != NULL) {
        explicit_bzero(c->auth, strlen(c->auth));
    }
    free(c->auth);
    free(c->base);
    free(c->registry);
    free(c->repository);
    free(c->docker_config);
    free(c->ca_file);
    lev_gate_deinit(&c->auth_gate);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* --- origins ----------------------------------------------------------- */

static struct origin *
origin_new(struct lev_regclient *c, const char *url, struct lev_error *err)
{
    struct lev_http_config config = {.base_url = url, .ca_file = c->ca_file};
    struct origin *o = calloc(1, sizeof(*o) + strlen(url) + 1);

    if (o == NULL) {
        lev_error_nomem(err, "registry");
        return NULL;
    }
    strcpy(o->url, url);
    o->http = lev_http_create(&config, err);
    if (o->http == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

static struct lev_http *
origin_of(struct lev_regclient *c, const char *url, struct lev_error *err)
{
    struct origin *o;

    pthread_mutex_lock(&c->mutex);
    for (o = c->origins; o != NULL && strcmp(o->url, url) != 0; o = o->next) {
    }
    if (o == NULL && (o = origin_new(c, url, err)) != NULL) {
        o->next = c->origins;
        c->origins = o;
    }
    pthread_mutex_unlock(&c->mutex);
    return o == NULL ? NULL : o->http;
}

static bool
is_loopback(const char *host)
{
    size_t len = strcspn(host, ":/");

    return (len == 9 && strncmp(host, "localhost", 9) == 0) ||
           /* "127.example.org" is anybody's. */
           (strncmp(host, "127.", 4) == 0 &&
            strspn(host, "0123456789.") == len) ||
           strncmp(host, "[::1]", 5) == 0 ||
           (len > 10 && strncmp(host + len - 10, ".localhost", 10) == 0);
}

/* A URL's origin, and the rest, which begins with '/'. NULL when levrt does
 * not go there: no HTTP, or away from TLS. */
static const char *
split_url(const struct lev_regclient *c, const char *url, struct lev_buf *out)
{
    bool plain = strncasecmp(url, "http://", 7) == 0;
    size_t scheme = plain ? 7 : 8;
    const char *path;

    if (!plain && strncasecmp(url, "https://", 8) != 0) {
        return NULL;
    }
    if (plain && c->base != NULL && strncmp(c->base, "https:", 6) == 0 &&
        !is_loopback(url + 7))
    {
        return NULL;
    }
    path = url + scheme + strcspn(url + scheme, "/?#");
    /* user:password@ would be sent, and is nobody's to choose. */
    if (path == url + scheme || memchr(url, '@', (size_t)(path - url)) != NULL)
    {
        return NULL;
    }
    lev_buf_clear(out);
    lev_buf_puts(out, plain ? "http://" : "https://");
    lev_buf_append(out, url + scheme, (size_t)(path - url) - scheme);
    return path;
}

/* --- creating ---------------------------------------------------------- */

/* Loopback registries speak HTTP as a rule. One that wants TLS says so, or
 * does not answer. Nothing secret is sent to find out. */
static int
find_scheme(struct lev_regclient *c, const char *host,
            const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.path = "/v2/"};
    struct lev_scope brief = lev_scope_within(scope, 5 * LEV_SECOND);
    struct lev_http *http;
    struct lev_error why;
    char *url;

    if (asprintf(&url, "http://%s", host) < 0) {
        return lev_error_nomem(err, "registry");
    }
    c->base = url;
    http = origin_of(c, url, err);
    if (http == NULL) {
        return -1;
    }
    if (lev_http_request(http, &brief, &req, &resp, &why) < 0) {
        if (lev_scope_check(scope, err) < 0) {
            return -1;
        }
        if (why.code == LEV_E_ENGINE_UNAVAILABLE) {
            return 0; /* the first request says what is wrong */
        }
    }
    else if (resp.status != 400 ||
             strcasestr(lev_buf_text(&resp.body), "HTTPS") == NULL)
    {
        return 0;
    }
    free(c->base);
    if (asprintf(&c->base, "https://%s", host) < 0) {
        c->base = NULL;
        return lev_error_nomem(err, "registry");
    }
    return 0;
}

static int
choose_base(struct lev_regclient *c, const char *base,
            const struct lev_scope *scope, struct lev_error *err)
{
    size_t len = strlen(base);

    if (strstr(base, "://") == NULL && is_loopback(base)) {
        return find_scheme(c, base, scope, err);
    }
    while (len > 0 && base[len - 1] == '/') {
        len--;
    }
    if (asprintf(&c->base, "%s%.*s",
                 strstr(base, "://") == NULL ? "https://" : "", (int)len,
                 base) < 0)
    {
        c->base = NULL;
        return lev_error_nomem(err, "registry");
    }
    return 0;
}

struct lev_regclient *
lev_regclient_create(const struct lev_regclient_config *config,
                     const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_(client_destroyp) struct lev_regclient *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        lev_error_nomem(err, "registry");
        return NULL;
    }
    pthread_mutex_init(&c->mutex, NULL);
    lev_gate_init(&c->auth_gate);
    c->stall = config->stall > 0 ? config->stall : STALL;
    c->registry = copy(config->registry);
    c->repository = copy(config->repository);
    c->docker_config = copy(config->docker_config);
    c->ca_file = copy(config->ca_file);
    if (c->registry == NULL || c->repository == NULL ||
        (config->docker_config != NULL && c->docker_config == NULL) ||
        (config->ca_file != NULL && c->ca_file == NULL))
    {
        lev_error_nomem(err, "registry");
        return NULL;
    }
    return choose_base(c, config->base, scope, err) < 0 ? NULL : lev_steal(c);
}

/* --- authentication ---------------------------------------------------- */

static char *
auth_copy(struct lev_regclient *c, unsigned *turn, struct lev_error *err)
{
    char *auth = NULL;

    pthread_mutex_lock(&c->mutex);
    *turn = c->auth_turn;
    if (c->auth != NULL && asprintf(&auth, "Authorization: %s", c->auth) < 0) {
        auth = NULL;
        lev_error_nomem(err, "registry");
        *turn = UINT32_MAX;
    }
    pthread_mutex_unlock(&c->mutex);
    return auth;
}

static void
auth_set(struct lev_regclient *c, char *auth)
{
    pthread_mutex_lock(&c->mutex);
    free(c->auth);
    c->auth = auth;
    c->auth_turn++;
    pthread_mutex_unlock(&c->mutex);
}

static int
refused_token(const struct lev_regclient *c, const char *realm,
              const struct lev_http_response *resp,
              const struct lev_credentials *cred, struct lev_error *err)
{
    char words[300];

    lev_registry_words(&resp->body, words, sizeof(words));
    return lev_error_set(
        err, LEV_E_PULL, (int)resp->status,
        "registry %s: its token server %.200s answered %ld%s%s; %s with "
        "`docker login %s`",
        c->registry, realm, resp->status, *words != '\0' ? ": " : "", words,
        cred->username == NULL && cred->identity_token == NULL
            ? "no credentials are kept: log in"
            : "log in again",
        c->registry);
}

/* Asks the token server; its answer is an "Authorization" value. */
static int
fetch_token(struct lev_regclient *c, const struct lev_scope *scope,
            const struct lev_challenge *ch, const struct lev_credentials *cred,
            struct lev_buf *auth, struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf url = {0}, path = {0}, query = {0},
                                 basic = {0}, wanted = {0};
    const char *headers[3] = {NULL};
    struct lev_http_request req = {.headers = headers, .max_body = 1u << 20};
    struct lev_scope brief = lev_scope_within(scope, c->stall);
    const char *rest = split_url(c, ch->realm, &url);
    bool post = cred->identity_token != NULL;
    struct lev_http *http;

    if (rest == NULL) {
        return lev_error_set(err, LEV_E_PULL, 401,
                             "registry %s: its token server '%.200s' is not "
                             "to be trusted with credentials: no https",
                             c->registry, ch->realm);
    }
    lev_buf_printf(&wanted, "repository:%s:pull", c->repository);
    if (lev_buf_check(&wanted, "scope", err) < 0 ||
        lev_auth_query(ch, wanted.data, cred, &query, err) < 0)
    {
        return -1;
    }
    lev_buf_printf(&path, "%s%s", *rest == '/' ? "" : "/", rest);
    if (post) {
        headers[0] = "Content-Type: application/x-www-form-urlencoded";
        req.method = "POST";
        req.body = query.data;
        req.body_len = query.len;
    }
    else {
        lev_buf_printf(&path, "%c%s", strchr(rest, '?') == NULL ? '?' : '&',
                       query.data);
    }
    if (!post && cred->username != NULL) {
        lev_buf_puts(&basic, "Authorization: ");
        if (lev_auth_basic(cred, &basic, err) < 0) {
            return -1;
        }
        headers[0] = basic.data;
    }
    if (lev_buf_check(&path, "token request", err) < 0 ||
        (http = origin_of(c, url.data, err)) == NULL)
    {
        return -1;
    }
    req.path = path.data;
    if (lev_http_request(http, &brief, &req, &resp, err) < 0) {
        return lev_error_wrap(err, "token server of registry %s", c->registry);
    }
    return resp.status / 100 == 2
               ? lev_auth_token(&resp.body, ch->realm, auth, err)
               : refused_token(c, ch->realm, &resp, cred, err);
}

static int
answer_challenge(struct lev_regclient *c, const struct lev_scope *scope,
                 const struct lev_challenge *ch, struct lev_error *err)
{
    _cleanup_credentials_ struct lev_credentials cred = {0};
    _cleanup_buf_ struct lev_buf auth = {0};
    char *value;

    if (lev_credentials_find(c->docker_config, c->registry, scope, &cred,
                             err) < 0) {
        return -1;
    }
    if (ch->bearer) {
        if (fetch_token(c, scope, ch, &cred, &auth, err) < 0) {
            return -1;
        }
    }
    else if (!ch->basic || cred.username == NULL) {
        return lev_error_set(err, LEV_E_PULL, 401,
                             "registry %s wants to know who asks%s",
                             c->registry,
                             ch->basic ? ", and no credentials are kept: log "
                                         "in with `docker login`"
                                       : ", in a way that levrt does not know "
                                         "(neither Basic nor Bearer)");
    }
    else if (lev_auth_basic(&cred, &auth, err) < 0) {
        return -1;
    }
    value = lev_buf_take(&auth);
    if (value == NULL) {
        return lev_error_nomem(err, "credentials");
    }
    auth_set(c, value);
    return 0;
}

/* Of several threads that were refused, one asks for a new token. `turn`: of
 * the one that was refused. */
static int
authenticate(struct lev_regclient *c, const struct lev_scope *scope,
             const char *headers, unsigned turn, struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *in = NULL;
    struct lev_challenge ch;
    bool fresh;

    if (lev_gate_enter(&c->auth_gate, scope, err) < 0) {
        return -1;
    }
    in = &c->auth_gate;
    pthread_mutex_lock(&c->mutex);
    fresh = c->auth_turn != turn;
    pthread_mutex_unlock(&c->mutex);
    if (fresh) {
        return 0;
    }
    lev_challenge_parse(headers, &ch);
    return answer_challenge(c, scope, &ch, err);
}

/* --- streams ------------------------------------------------------------ */

static int
on_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct lev_regstream *s = ctx;

    lev_buf_append(&s->in, data, len);
    return lev_buf_check(&s->in, "registry's answer", err);
}

/* Waits for something to happen, but not for ever. */
static int
wait_on(struct lev_regstream *s, struct lev_error *err)
{
    const struct lev_regclient *c = s->client;
    struct lev_scope brief = lev_scope_within(s->scope, c->stall);

    if (lev_http_conn_poll(s->conn, &brief, NULL, 0, err) == 0) {
        return 0;
    }
    if (err->code == LEV_E_TIMEOUT && brief.deadline < s->scope->deadline) {
        return lev_error_set(err, LEV_E_PULL, 0,
                             "registry %s: no progress for %lld s; it, or the "
                             "connection to it, may be down",
                             c->registry, (long long)(c->stall / LEV_SECOND));
    }
    return -1;
}

void
lev_regstream_close(struct lev_regstream *s)
{
    lev_http_transfer_end(lev_steal(s->transfer));
    lev_http_conn_give(lev_steal(s->conn));
    lev_buf_deinit(&s->in);
    s->at = 0;
}

ssize_t
lev_regstream_read(struct lev_regstream *s, void *buf, size_t len,
                   struct lev_error *err)
{
    size_t n;

    while (s->at == s->in.len) {
        int done = lev_http_transfer_done(s->transfer, err);

        lev_buf_clear(&s->in);
        s->at = 0;
        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
        if (wait_on(s, err) < 0) {
            return -1;
        }
    }
    n = s->in.len - s->at;
    n = n < len ? n : len;
    memcpy(buf, s->in.data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

const char *
lev_regstream_header(const struct lev_regstream *s, const char *name,
                     struct lev_buf *out)
{
    return lev_http_header(lev_http_transfer_response(s->transfer), name, out);
}

int
lev_regstream_all(struct lev_regstream *s, size_t limit, struct lev_buf *out,
                  struct lev_error *err)
{
    char piece[16384];
    ssize_t n;

    while ((n = lev_regstream_read(s, piece, sizeof(piece), err)) > 0) {
        lev_buf_append(out, piece, (size_t)n);
        if (out->len > limit) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "registry %s: its answer has more than %zu "
                                 "bytes",
                                 s->client->registry, limit);
        }
    }
    return n < 0 ? -1 : lev_buf_check(out, "registry's answer", err);
}

/* --- requests ------------------------------------------------------------ */

struct request {
    struct lev_regclient *c;
    const struct lev_scope *scope;
    const char *accept;
    uint64_t from;
    struct lev_buf origin, path; /* where it goes now */
    unsigned turn;               /* of the authorization that was sent */
    int redirects, auths, retries;
};

static void
request_deinit(struct request *r)
{
    lev_buf_deinit(&r->origin);
    lev_buf_deinit(&r->path);
}

static void
wipep(char **text)
{
    if (*text != NULL) {
        explicit_bzero(*text, strlen(*text));
        free(*text);
    }
}

static bool
at_home(const struct request *r)
{
    return strcmp(r->origin.data, r->c->base) == 0;
}

static int
send_request(struct request *r, struct lev_regstream *s, struct lev_error *err)
{
    _cleanup_(wipep) char *auth = NULL;
    char accept[600], range[64];
    const char *headers[4] = {NULL};
    struct lev_http_request req = {.path = r->path.data,
                                   .headers = headers,
                                   .on_data = on_data,
                                   .ctx = s,
                                   .max_body = IN_MAX};
    struct lev_http *http;
    size_t n = 0;

    r->turn = 0;
    if (at_home(r) && (auth = auth_copy(r->c, &r->turn, err)) != NULL) {
        headers[n++] = auth;
    }
    if (r->turn == UINT32_MAX) {
        return -1;
    }
    if (r->accept != NULL) {
        snprintf(accept, sizeof(accept), "Accept: %s", r->accept);
        headers[n++] = accept;
    }
    if (r->from > 0) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-",
                 (unsigned long long)r->from);
        headers[n++] = range;
    }
    http = origin_of(r->c, r->origin.data, err);
    if (http == NULL || (s->conn = lev_http_conn_take(http, err)) == NULL) {
        return -1;
    }
    s->transfer = lev_http_transfer_start(s->conn, &req, err);
    return s->transfer == NULL ? -1 : 0;
}

/* Until the status is known, and for what is no success all of the answer. */
static int
await_answer(struct lev_regstream *s, struct lev_error *err)
{
    for (;;) {
        int done;

        /* A body that broke off already is read to where it did. */
        s->status = lev_http_transfer_status(s->transfer);
        if (s->status / 100 == 2) {
            return 0;
        }
        done = lev_http_transfer_done(s->transfer, err);
        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
        if (wait_on(s, err) < 0) {
            return -1;
        }
    }
}

static int
redirect(struct request *r, const struct lev_regstream *s,
         struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf to = {0}, origin = {0};
    const char *where = lev_regstream_header(s, "Location", &to);
    const char *rest = where;

    if (where == NULL || ++r->redirects > REDIRECTS_MAX) {
        return lev_error_set(err, LEV_E_PULL, (int)s->status,
                             "registry %s: %s", r->c->registry,
                             where == NULL ? "it redirects to nowhere"
                                           : "it redirects in circles");
    }
    if (where[0] == '/' && where[1] == '/') {
        rest = NULL;
    }
    else if (where[0] != '/') {
        rest = split_url(r->c, where, &origin);
        if (rest != NULL) {
            lev_buf_clear(&r->origin);
            lev_buf_puts(&r->origin, lev_buf_text(&origin));
        }
    }
    if (rest == NULL) {
        return lev_error_set(err, LEV_E_PULL, (int)s->status,
                             "registry %s: it redirects to '%.200s', which "
                             "levrt does not follow",
                             r->c->registry, where);
    }
    lev_buf_clear(&r->path);
    lev_buf_printf(&r->path, "%s%.*s", *rest == '/' ? "" : "/",
                   (int)strcspn(rest, "#"), rest);
    return lev_buf_check(&r->path, "redirect", err) < 0
               ? -1
               : lev_buf_check(&r->origin, "redirect", err);
}

static int
refuse(const struct request *r, const struct lev_regstream *s,
       struct lev_error *err)
{
    char words[300];
    const char *hint = "";

    lev_registry_words(&lev_http_transfer_response(s->transfer)->body, words,
                       sizeof(words));
    if (s->status == 401 || s->status == 403) {
        hint = "; log in with an account that may pull it (`docker login`)";
    }
    else if (s->status == 429) {
        hint = "; it limits how much one may fetch: log in, wait, or use a "
               "mirror";
    }
    return lev_error_set(err, s->status == 404 ? LEV_E_NOT_FOUND : LEV_E_PULL,
                         (int)s->status, "registry %s answered %ld%s%s%s",
                         r->c->registry, s->status, *words != '\0' ? ": " : "",
                         words, hint);
}

/* How long to wait before it is asked again; -1: it is not. */
static int64_t
patience(struct request *r, const struct lev_regstream *s)
{
    _cleanup_buf_ struct lev_buf value = {0};
    const char *text;
    int64_t wait = (LEV_SECOND / 4) << r->retries;

    if ((s->status != 429 && s->status / 100 != 5) ||
        ++r->retries > RETRIES_MAX) {
        return -1;
    }
    text = lev_regstream_header(s, "Retry-After", &value);
    if (text != NULL && *text >= '0' && *text <= '9') {
        long seconds = strtol(text, NULL, 10);

        wait = seconds > RETRY_AFTER_MAX ? -1 : seconds * LEV_SECOND;
    }
    return wait;
}

static const char *
headers_of(const struct lev_regstream *s)
{
    return lev_buf_text(&lev_http_transfer_response(s->transfer)->headers);
}

/* What comes after an answer: 1 it is the one, 0 ask again. */
static int
consider(struct request *r, struct lev_regstream *s, struct lev_error *err)
{
    int64_t wait;

    switch (s->status) {
    case 200:
    case 206:
        return 1;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return redirect(r, s, err);
    case 401:
        return at_home(r) && r->auths++ < AUTHS_MAX
                   ? authenticate(r->c, r->scope, headers_of(s), r->turn, err)
                   : refuse(r, s, err);
    default:
        break;
    }
    wait = patience(r, s);
    return wait < 0 ? refuse(r, s, err) : lev_scope_sleep(r->scope, wait, err);
}

static int
ask(struct request *r, struct lev_regstream *s, struct lev_error *err)
{
    for (;;) {
        int rc = send_request(r, s, err);

        if (rc == 0) {
            rc = await_answer(s, err);
        }
        if (rc == 0) {
            rc = consider(r, s, err);
        }
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        lev_regstream_close(s);
    }
}

int
lev_regclient_open(struct lev_regclient *c, const struct lev_scope *scope,
                   const char *path, const char *accept, uint64_t from,
                   struct lev_regstream *s, struct lev_error *err)
{
    _cleanup_(request_deinit) struct request r = {
        .c = c, .scope = scope, .accept = accept, .from = from};

    *s = (struct lev_regstream){.client = c, .scope = scope};
    lev_buf_puts(&r.origin, c->base);
    lev_buf_printf(&r.path, "/v2/%s/%s", c->repository, path);
    if (lev_buf_check(&r.origin, "request", err) < 0 ||
        lev_buf_check(&r.path, "request", err) < 0 || ask(&r, s, err) < 0)
    {
        lev_regstream_close(s);
        return -1;
    }
    return 0;
}
