#include "http_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

/* Idle conns that are kept, and connections that one of them keeps. */
#define MAX_IDLE 16
#define MAX_KEPT 4
/* Descriptors of a caller that one poll takes. */
#define MAX_FDS 15
/* Handles of curl that cannot be made fail with no reason but memory. */
#define HANDLE "HTTP handle"

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void
init_curl(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int
copy(char **to, const char *from)
{
    *to = from == NULL ? NULL : strdup(from);
    return from != NULL && *to == NULL ? -1 : 0;
}

/* "http://host:1/" and "http://host:1" are the same endpoint. */
static void
trim_slashes(char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/') {
        url[--len] = '\0';
    }
}

/* As Go's clients, so that DOCKER_HOST=tcp://localhost works for those who
 * have a proxy in their environment. */
static bool
is_loopback(const char *url)
{
    const char *host = strstr(url, "://");

    host = host == NULL ? url : host + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 ||
           (strncasecmp(host, "localhost", 9) == 0 &&
            (host[9] == '\0' || host[9] == ':'));
}

static int
check_config(const struct lev_http_config *config, struct lev_error *err)
{
    const char *url = config->base_url;

    if (config->unix_socket != NULL &&
        strlen(config->unix_socket) >=
            sizeof(((struct sockaddr_un *)NULL)->sun_path))
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "unix socket '%s': the path is longer than the "
                             "107 bytes that a socket's address holds; give "
                             "a shorter path (a symbolic link will do)",
                             config->unix_socket);
    }
    if (url == NULL && config->unix_socket != NULL) {
        return 0;
    }
    if (url == NULL || (strncasecmp(url, "http://", 7) != 0 &&
                        strncasecmp(url, "https://", 8) != 0))
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "base URL '%s': expected http://host:port or "
                             "https://host:port",
                             url == NULL ? "" : url);
    }
    return 0;
}

static int
copy_config(struct lev_http *http, const struct lev_http_config *config)
{
    const char *url =
        config->base_url != NULL ? config->base_url : "http://localhost";
    const char *agent =
        config->user_agent != NULL ? config->user_agent : "levrt";

    if (copy(&http->base_url, url) < 0 ||
        copy(&http->unix_socket, config->unix_socket) < 0 ||
        copy(&http->user_agent, agent) < 0 ||
        copy(&http->ca_file, config->ca_file) < 0 ||
        copy(&http->cert_file, config->cert_file) < 0 ||
        copy(&http->key_file, config->key_file) < 0)
    {
        return -1;
    }
    trim_slashes(http->base_url);
    http->insecure = config->insecure;
    http->direct = http->unix_socket != NULL || is_loopback(http->base_url);
    http->bare =
        http->direct && strchr(strstr(http->base_url, "://") + 3, '/') == NULL;
    http->connect_timeout = config->connect_timeout > 0
                                ? config->connect_timeout
                                : 10 * LEV_SECOND;
    if (http->unix_socket == NULL) {
        return copy(&http->name, http->base_url);
    }
    return asprintf(&http->name, "unix://%s", http->unix_socket) < 0 ? -1 : 0;
}

static void
destroyp(struct lev_http **http)
{
    lev_http_destroy(*http);
}

struct lev_http *
lev_http_create(const struct lev_http_config *config, struct lev_error *err)
{
    _cleanup_(destroyp) struct lev_http *http = NULL;

    if (check_config(config, err) < 0) {
        return NULL;
    }
    pthread_once(&curl_once, init_curl);
    if (curl_ready != CURLE_OK) {
        lev_error_set(err, LEV_E_ENGINE, 0, "libcurl: %s",
                      curl_easy_strerror(curl_ready));
        return NULL;
    }
    http = calloc(1, sizeof(*http));
    if (http == NULL) {
        lev_error_nomem(err, "HTTP client");
        return NULL;
    }
    pthread_mutex_init(&http->mutex, NULL);
    http->headers = lev_http_own_headers(false);
    if (http->headers == NULL || copy_config(http, config) < 0) {
        lev_error_nomem(err, "HTTP client");
        return NULL;
    }
    return lev_steal(http);
}

static void
conn_destroy(struct lev_http_conn *conn)
{
    lev_http_transfer_free_spare(conn);
    curl_multi_cleanup(conn->multi);
    free(conn);
}

void
lev_http_destroy(struct lev_http *http)
{
    if (http == NULL) {
        return;
    }
    while (http->idle != NULL) {
        struct lev_http_conn *conn = http->idle;

        http->idle = conn->next;
        conn_destroy(conn);
    }
    pthread_mutex_destroy(&http->mutex);
    curl_slist_free_all(http->headers);
    free(http->base_url);
    free(http->unix_socket);
    free(http->user_agent);
    free(http->ca_file);
    free(http->cert_file);
    free(http->key_file);
    free(http->name);
    free(http);
}

const char *
lev_http_name(const struct lev_http *http)
{
    return http->name;
}

void
lev_http_response_deinit(struct lev_http_response *resp)
{
    lev_buf_deinit(&resp->body);
    lev_buf_deinit(&resp->headers);
    resp->status = 0;
}

const char *
lev_http_find_header(const char *head, const char *name, size_t *len)
{
    size_t n = strlen(name);

    for (const char *line = head; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        const char *value = line + n + 1;

        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            value += strspn(value, " \t");
            *len = strcspn(value, "\r\n");
            while (*len > 0 && strchr(" \t", value[*len - 1]) != NULL) {
                --*len;
            }
            return value;
        }
        line = end == NULL ? NULL : end + 1;
    }
    return NULL;
}

const char *
lev_http_header(const struct lev_http_response *resp, const char *name,
                struct lev_buf *out)
{
    size_t len = 0;
    const char *value =
        lev_http_find_header(lev_buf_text(&resp->headers), name, &len);

    if (value == NULL) {
        return NULL;
    }
    lev_buf_clear(out);
    lev_buf_append(out, value, len);
    return lev_buf_text(out);
}

static struct lev_http_conn *
conn_create(struct lev_http *http)
{
    _cleanup_free_ struct lev_http_conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL) {
        return NULL;
    }
    conn->http = http;
    conn->multi = curl_multi_init();
    if (conn->multi == NULL) {
        return NULL;
    }
    curl_multi_setopt(conn->multi, CURLMOPT_MAXCONNECTS, (long)MAX_KEPT);
    return lev_steal(conn);
}

struct lev_http_conn *
lev_http_conn_take(struct lev_http *http, struct lev_error *err)
{
    struct lev_http_conn *conn;

    pthread_mutex_lock(&http->mutex);
    conn = http->idle;
    if (conn != NULL) {
        http->idle = conn->next;
        http->n_idle--;
    }
    pthread_mutex_unlock(&http->mutex);
    if (conn == NULL) {
        conn = conn_create(http);
        if (conn == NULL) {
            lev_error_nomem(err, HANDLE);
        }
    }
    return conn;
}

void
lev_http_conn_give(struct lev_http_conn *conn)
{
    struct lev_http *http;

    if (conn == NULL) {
        return;
    }
    while (conn->transfers != NULL) {
        lev_http_transfer_end(conn->transfers);
    }
    http = conn->http;
    pthread_mutex_lock(&http->mutex);
    if (http->n_idle < MAX_IDLE) {
        conn->next = http->idle;
        http->idle = conn;
        http->n_idle++;
        conn = NULL;
    }
    pthread_mutex_unlock(&http->mutex);
    if (conn != NULL) {
        conn_destroy(conn);
    }
}

static int
machinery(CURLMcode rc, struct lev_error *err)
{
    if (rc == CURLM_OUT_OF_MEMORY) {
        return lev_error_nomem(err, HANDLE);
    }
    return lev_error_set(err, LEV_E_ENGINE, 0, "libcurl: %s",
                         curl_multi_strerror(rc));
}

static int
perform(struct lev_http_conn *conn, struct lev_error *err)
{
    CURLMcode rc;
    CURLMsg *msg;
    int n;

    conn->begun = false;
    rc = curl_multi_perform(conn->multi, &n);
    if (rc != CURLM_OK) {
        return machinery(rc, err);
    }
    while ((msg = curl_multi_info_read(conn->multi, &n)) != NULL) {
        struct lev_http_transfer *t = NULL;

        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        lev_http_transfer_finish(t, msg->data.result);
    }
    return 0;
}

/* Waits for sockets of the transfers, timers of curl, descriptors of the
 * caller, the token or the deadline: whatever comes first. */
static int
wait_any(struct lev_http_conn *conn, const struct lev_scope *scope,
         const struct pollfd *fds, size_t n, struct lev_error *err)
{
    struct curl_waitfd extra[MAX_FDS + 1];
    CURLMcode rc;

    for (size_t i = 0; i < n; i++) {
        int events = fds[i].events;

        extra[i] = (struct curl_waitfd){
            .fd = fds[i].fd,
            .events = (short)((events & POLLIN ? CURL_WAIT_POLLIN : 0) |
                              (events & POLLPRI ? CURL_WAIT_POLLPRI : 0) |
                              (events & POLLOUT ? CURL_WAIT_POLLOUT : 0))};
    }
    if (scope->cancel != NULL) {
        int fd = lev_scope_fd(scope, err);

        if (fd < 0) {
            return -1;
        }
        extra[n++] =
            (struct curl_waitfd){.fd = fd, .events = CURL_WAIT_POLLIN};
    }
    conn->wakeups++;
    rc = curl_multi_poll(conn->multi, extra, (unsigned)n,
                         lev_scope_left_ms(scope, INT_MAX), NULL);
    return rc == CURLM_OK ? 0 : machinery(rc, err);
}

/* curl tells no POLLHUP and POLLERR: look again. */
static int
look(struct pollfd *fds, size_t n, struct lev_error *err)
{
    bool any = false;
    int ready;

    for (size_t i = 0; i < n; i++) {
        fds[i].revents = 0;
        any |= fds[i].fd >= 0;
    }
    if (!any) {
        return 0;
    }
    do {
        ready = poll(fds, n, 0);
    } while (ready < 0 && errno == EINTR);
    return ready < 0 ? lev_error_errno(err, "poll") : ready;
}

/* libcurl looks at every transfer whenever it is called: that is not done
 * before something was waited for, unless a transfer is new. What it has left
 * undone it asks for with a timer that has run out. */
static int
poll_loop(struct lev_http_conn *conn, const struct lev_scope *scope,
          struct pollfd *fds, size_t n, struct lev_error *err)
{
    bool waited = false;

    for (;;) {
        int ready;

        if (lev_scope_check(scope, err) < 0 ||
            ((waited || conn->begun) && perform(conn, err) < 0))
        {
            return -1;
        }
        ready = look(fds, n, err);
        if (ready < 0) {
            return -1;
        }
        if (ready > 0 || conn->progress) {
            return 0;
        }
        if (wait_any(conn, scope, fds, n, err) < 0) {
            return -1;
        }
        waited = true;
    }
}

int
lev_http_conn_poll(struct lev_http_conn *conn, const struct lev_scope *scope,
                   struct pollfd *fds, size_t n, struct lev_error *err)
{
    int rc;

    if (n > MAX_FDS) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%zu descriptors to poll, at most %d are taken",
                             n, MAX_FDS);
    }
    conn->progress = false;
    conn->scope = scope;
    rc = poll_loop(conn, scope, fds, n, err);
    conn->scope = NULL;
    return rc;
}

static void
transfer_endp(struct lev_http_transfer **t)
{
    lev_http_transfer_end(*t);
}

int
lev_http_conn_request(struct lev_http_conn *conn,
                      const struct lev_scope *scope,
                      const struct lev_http_request *req,
                      struct lev_http_response *resp, struct lev_error *err)
{
    _cleanup_(transfer_endp) struct lev_http_transfer *t =
        lev_http_transfer_start(conn, req, err);
    int done;

    if (t == NULL) {
        return -1;
    }
    while ((done = lev_http_transfer_done(t, err)) == 0) {
        if (lev_http_conn_poll(conn, scope, NULL, 0, err) < 0) {
            return lev_error_wrap(err, "%s %s", lev_http_method(req),
                                  req->path);
        }
    }
    if (done < 0) {
        return -1;
    }
    lev_http_response_deinit(resp);
    *resp = t->resp;
    t->resp = (struct lev_http_response){0};
    return 0;
}

static void
conn_givep(struct lev_http_conn **conn)
{
    lev_http_conn_give(*conn);
}

int
lev_http_request(struct lev_http *http, const struct lev_scope *scope,
                 const struct lev_http_request *req,
                 struct lev_http_response *resp, struct lev_error *err)
{
    _cleanup_(conn_givep) struct lev_http_conn *conn =
        lev_http_conn_take(http, err);

    if (conn == NULL) {
        return -1;
    }
    return lev_http_conn_request(conn, scope, req, resp, err);
}
