#include "http_internal.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

/* A run holds two transfers for as long as its container lives: their buffers
 * are small. An upload is short and large. */
#define BUFFER_SIZE 16384L
#define BRIEF_SIZE 1024L /* the least that libcurl takes */
#define UPLOAD_SIZE 65536L

/* How long one connect() waits for room in a full backlog before it looks at
 * the scope. */
#define BACKLOG_SLICE_US 20000

const char *
lev_http_method(const struct lev_http_request *req)
{
    return req->method == NULL ? "GET" : req->method;
}

static int
check_text(const char *what, const char *text, bool blanks,
           struct lev_error *err)
{
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x20 || c == 0x7f || (c == ' ' && !blanks)) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "%s '%s': byte %#x at %zu cannot stand in "
                                 "a request",
                                 what, text, c, (size_t)(p - text));
        }
    }
    return 0;
}

int
lev_http_request_check(const struct lev_http_request *req,
                       struct lev_error *err)
{
    if (check_text("HTTP method", lev_http_method(req), false, err) < 0 ||
        check_text("HTTP path", req->path, false, err) < 0)
    {
        return -1;
    }
    if (req->path[0] != '/' || strchr(req->path, '#') != NULL) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "HTTP path '%s': a path begins with '/' and has "
                             "no '#'",
                             req->path);
    }
    for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++) {
        if (check_text("HTTP header", req->headers[i], true, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
    struct lev_http_transfer *t = arg;
    long status = 0;

    n *= size;
    t->header_bytes += n;
    if (t->header_bytes > LEV_HTTP_MAX_HEADERS) {
        lev_error_set(&t->err, LEV_E_ENGINE, 0,
                      "the answer's headers are larger than %u KiB",
                      LEV_HTTP_MAX_HEADERS / 1024);
        return 0;
    }
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        lev_buf_clear(&t->resp.headers); /* an interim answer came before */
    }
    lev_buf_append(&t->resp.headers, line, n);
    if (lev_buf_check(&t->resp.headers, "headers", &t->err) < 0) {
        return 0;
    }
    if (t->resp.status == 0 && (line[0] == '\r' || line[0] == '\n')) {
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 200) {
            t->resp.status = status;
            t->conn->progress = true;
        }
    }
    return n;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
    struct lev_http_transfer *t = arg;

    n *= size;
    t->conn->progress = true;
    if (t->on_data != NULL && t->resp.status / 100 == 2) {
        return t->on_data(t->ctx, data, n, &t->err) < 0 ? 0 : n;
    }
    if (n > t->max_body - t->resp.body.len) {
        lev_error_set(&t->err, LEV_E_ENGINE, 0,
                      "the answer's body is larger than %zu bytes",
                      t->max_body);
        return 0;
    }
    lev_buf_append(&t->resp.body, data, n);
    return lev_buf_check(&t->resp.body, "body", &t->err) < 0 ? 0 : n;
}

static size_t
on_read(char *to, size_t size, size_t n, void *arg)
{
    struct lev_http_transfer *t = arg;
    uint64_t left = t->body_len - t->body_off;
    ssize_t got;

    n *= size;
    if (n > left) {
        n = (size_t)left;
    }
    do {
        got = pread(t->body_fd, to, n, (off_t)t->body_off);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        lev_error_errno(&t->err, "read the request's body");
        return CURL_READFUNC_ABORT;
    }
    if (got == 0 && n > 0) {
        lev_error_set(&t->err, LEV_E_OS, EIO,
                      "the file of the request's body ends at %llu of %llu "
                      "bytes",
                      (unsigned long long)t->body_off,
                      (unsigned long long)t->body_len);
        return CURL_READFUNC_ABORT;
    }
    t->body_off += (uint64_t)got;
    return (size_t)got;
}

/* libcurl sends a request again when a kept connection turns out to be dead.
 */
static int
on_seek(void *arg, curl_off_t off, int origin)
{
    struct lev_http_transfer *t = arg;

    if (origin != SEEK_SET || off < 0 || (uint64_t)off > t->body_len) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    t->body_off = (uint64_t)off;
    return CURL_SEEKFUNC_OK;
}

/* Each sets one group of options; CURLE_OK or what failed first. */
#define SET(option, value)                                                    \
    (rc = rc != CURLE_OK ? rc : curl_easy_setopt(t->easy, option, value))

static CURLcode
set_whole_url(struct lev_http_transfer *t, const char *path)
{
    _cleanup_buf_ struct lev_buf url = {0};
    CURLcode rc = CURLE_OK;

    lev_buf_puts(&url, t->conn->http->base_url);
    lev_buf_puts(&url, path);
    if (url.failed) {
        return CURLE_OUT_OF_MEMORY;
    }
    SET(CURLOPT_URL, url.data);
    SET(CURLOPT_PATH_AS_IS, 1L);
    return rc;
}

static CURLcode
set_url(struct lev_http_transfer *t, const char *path)
{
    CURLcode rc = CURLE_OK;

    if (!t->conn->http->bare) {
        return set_whole_url(t, path);
    }
    /* libcurl takes an URL apart and prints it byte by byte, which would be an
     * eighth of all that a short run costs. */
    SET(CURLOPT_REQUEST_TARGET, path);
    return rc;
}

static CURLcode
set_endpoint(struct lev_http_transfer *t)
{
    const struct lev_http *http = t->conn->http;
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_URL, http->base_url);
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(http->connect_timeout / LEV_MS) + 1);
    if (http->unix_socket != NULL) {
        SET(CURLOPT_UNIX_SOCKET_PATH, http->unix_socket);
    }
    else {
        SET(CURLOPT_TCP_NODELAY, 1L);
        /* A peer whose machine is gone must not be waited for for ever. */
        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_TCP_KEEPIDLE, 30L);
        SET(CURLOPT_TCP_KEEPINTVL, 10L);
    }
    if (http->direct) {
        SET(CURLOPT_PROXY, "");
        SET(CURLOPT_NOPROXY, "*"); /* else it searches the environment */
    }
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (http->ca_file != NULL) {
        SET(CURLOPT_CAINFO, http->ca_file);
    }
    SET(CURLOPT_SSLCERT, http->cert_file);
    SET(CURLOPT_SSLKEY, http->key_file);
    if (http->insecure) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return rc;
}

static CURLcode
set_machinery(struct lev_http_transfer *t)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_ERRORBUFFER, t->detail);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_USERAGENT, t->conn->http->user_agent);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Else ending a transfer that resolves a name waits for the resolver. */
    SET(CURLOPT_QUICK_EXIT, 1L);
#endif
    return rc;
}

static CURLcode
set_buffers(struct lev_http_transfer *t, const struct lev_http_request *req)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_BUFFERSIZE, req->brief ? BRIEF_SIZE : BUFFER_SIZE);
    SET(CURLOPT_UPLOAD_BUFFERSIZE,
        t->body_fd >= 0 ? UPLOAD_SIZE : BUFFER_SIZE);
    return rc;
}

static CURLcode
set_body(struct lev_http_transfer *t, const struct lev_http_request *req)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
    if (t->body_fd < 0) {
        SET(CURLOPT_POSTFIELDS, req->body_len > 0 ? req->body : "");
        return rc;
    }
    SET(CURLOPT_POSTFIELDS, NULL);
    SET(CURLOPT_READFUNCTION, on_read);
    SET(CURLOPT_READDATA, t);
    SET(CURLOPT_SEEKFUNCTION, on_seek);
    SET(CURLOPT_SEEKDATA, t);
    return rc;
}

/* A method that libcurl does not send by itself has a name of its own. */
static CURLcode
set_method(struct lev_http_transfer *t, const struct lev_http_request *req)
{
    const char *method = lev_http_method(req);
    bool sends = req->body_len > 0 || strcmp(method, "POST") == 0 ||
                 strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
    CURLcode rc = CURLE_OK;

    if (strcmp(method, "HEAD") == 0 && !sends) {
        SET(CURLOPT_CUSTOMREQUEST, NULL);
        SET(CURLOPT_NOBODY, 1L);
        return rc;
    }
    if (sends) {
        rc = set_body(t, req);
    }
    else {
        SET(CURLOPT_HTTPGET, 1L);
    }
    SET(CURLOPT_CUSTOMREQUEST,
        strcmp(method, sends ? "POST" : "GET") == 0 ? NULL : method);
    return rc;
}

static bool
add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *more = curl_slist_append(*list, line);

    if (more != NULL) {
        *list = more;
    }
    return more != NULL;
}

struct curl_slist *
lev_http_own_headers(bool typed)
{
    struct curl_slist *list = NULL;

    /* The one costs a round trip, and the other is a form's. */
    if (!add_header(&list, "Expect:") ||
        (!typed && !add_header(&list, "Content-Type:")))
    {
        curl_slist_free_all(list);
        return NULL;
    }
    return list;
}

static CURLcode
make_headers(struct lev_http_transfer *t, const char *const *lines)
{
    bool typed = false;

    for (size_t i = 0; lines[i] != NULL; i++) {
        typed |= strncasecmp(lines[i], "Content-Type:", 13) == 0;
    }
    t->headers = lev_http_own_headers(typed);
    for (size_t i = 0; t->headers != NULL && lines[i] != NULL; i++) {
        if (!add_header(&t->headers, lines[i])) {
            return CURLE_OUT_OF_MEMORY;
        }
    }
    return t->headers == NULL ? CURLE_OUT_OF_MEMORY : CURLE_OK;
}

static CURLcode
set_headers(struct lev_http_transfer *t, const struct lev_http_request *req)
{
    CURLcode rc = CURLE_OK;

    if (req->headers != NULL) {
        rc = make_headers(t, req->headers);
    }
    SET(CURLOPT_HTTPHEADER,
        t->headers == NULL ? t->conn->http->headers : t->headers);
    return rc;
}

static CURLcode
set_request(struct lev_http_transfer *t, const struct lev_http_request *req)
{
    CURLcode rc = set_method(t, req);

    return rc == CURLE_OK ? set_headers(t, req) : rc;
}

static CURLcode
set_connect_only(struct lev_http_transfer *t)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_CONNECT_ONLY, 1L);
    SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
    return rc;
}

static int
check_set(CURLcode rc, struct lev_error *err)
{
    if (rc == CURLE_OUT_OF_MEMORY) {
        return lev_error_nomem(err, "HTTP request");
    }
    if (rc != CURLE_OK) {
        return lev_error_set(err, LEV_E_ENGINE, 0, "libcurl: %s",
                             curl_easy_strerror(rc));
    }
    return 0;
}

static int
set_all(struct lev_http_transfer *t, const struct lev_http_request *req,
        struct lev_error *err)
{
    CURLcode rc = set_url(t, req->path);

    if (rc == CURLE_OK) {
        rc = set_buffers(t, req);
    }
    if (rc == CURLE_OK) {
        rc = t->connect_only ? set_connect_only(t) : set_request(t, req);
    }
    return check_set(rc, err);
}

static void
transfer_free(struct lev_http_transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    lev_http_response_deinit(&t->resp);
    free(t);
}

void
lev_http_transfer_free_spare(struct lev_http_conn *conn)
{
    while (conn->spare != NULL) {
        struct lev_http_transfer *t = conn->spare;

        conn->spare = t->next;
        transfer_free(t);
    }
}

/* An ordinary request sets all that the one before it has set, but for what
 * only uploads, streams and repeated requests set. A handle that failed is of
 * no use either: libcurl keeps the number of its error. */
static bool
can_be_spare(const struct lev_http_transfer *t)
{
    return t->conn->n_spare < LEV_HTTP_SPARE && !t->connect_only &&
           !t->again && t->body_fd < 0 && t->state != LEV_HTTP_FAILED;
}

static void
transfer_release(struct lev_http_transfer *t)
{
    struct lev_http_transfer kept = {.conn = t->conn, .easy = t->easy};

    if (!can_be_spare(t)) {
        transfer_free(t);
        return;
    }
    curl_slist_free_all(t->headers);
    lev_http_response_deinit(&t->resp);
    *t = kept;
    t->next = t->conn->spare;
    t->conn->spare = t;
    t->conn->n_spare++;
}

static void
transfer_freep(struct lev_http_transfer **t)
{
    if (*t != NULL) {
        transfer_free(*t);
    }
}

static struct lev_http_transfer *
transfer_create(struct lev_http_conn *conn, struct lev_error *err)
{
    _cleanup_(transfer_freep) struct lev_http_transfer *t =
        calloc(1, sizeof(*t));
    CURLcode rc;

    if (t == NULL || (t->easy = curl_easy_init()) == NULL) {
        lev_error_nomem(err, "HTTP request");
        return NULL;
    }
    t->conn = conn;
    rc = set_endpoint(t);
    if (rc == CURLE_OK) {
        rc = set_machinery(t);
    }
    return check_set(rc, err) < 0 ? NULL : lev_steal(t);
}

static struct lev_http_transfer *
transfer_take(struct lev_http_conn *conn, struct lev_error *err)
{
    struct lev_http_transfer *t = conn->spare;

    if (t == NULL) {
        return transfer_create(conn, err);
    }
    conn->spare = t->next;
    conn->n_spare--;
    return t;
}

static struct lev_http_transfer *
transfer_new(struct lev_http_conn *conn, const struct lev_http_request *req,
             struct lev_error *err)
{
    struct lev_http_transfer *t = transfer_take(conn, err);

    if (t == NULL) {
        return NULL;
    }
    t->on_data = req->on_data;
    t->ctx = req->ctx;
    t->max_body = req->max_body > 0 ? req->max_body : LEV_HTTP_MAX_BODY;
    t->body_fd = req->body == NULL && req->body_len > 0 ? req->body_fd : -1;
    t->body_len = req->body_len;
    return t;
}

struct lev_http_transfer *
lev_http_transfer_begin(struct lev_http_conn *conn,
                        const struct lev_http_request *req, bool connect_only,
                        struct lev_error *err)
{
    _cleanup_(transfer_freep) struct lev_http_transfer *t = NULL;

    if (lev_http_request_check(req, err) < 0) {
        return NULL;
    }
    t = transfer_new(conn, req, err);
    if (t == NULL) {
        return NULL;
    }
    t->connect_only = connect_only;
    if (set_all(t, req, err) < 0) {
        return NULL;
    }
    if (curl_multi_add_handle(conn->multi, t->easy) != CURLM_OK) {
        lev_error_nomem(err, "HTTP request");
        return NULL;
    }
    t->next = conn->transfers;
    t->link = &conn->transfers;
    if (t->next != NULL) {
        t->next->link = &t->next;
    }
    conn->transfers = t;
    conn->begun = true;
    return lev_steal(t);
}

struct lev_http_transfer *
lev_http_transfer_start(struct lev_http_conn *conn,
                        const struct lev_http_request *req,
                        struct lev_error *err)
{
    return lev_http_transfer_begin(conn, req, false, err);
}

void
lev_http_transfer_end(struct lev_http_transfer *t)
{
    if (t == NULL) {
        return;
    }
    curl_multi_remove_handle(t->conn->multi, t->easy);
    *t->link = t->next;
    if (t->next != NULL) {
        t->next->link = t->link;
    }
    transfer_release(t);
}

long
lev_http_transfer_status(const struct lev_http_transfer *t)
{
    return t->resp.status;
}

int
lev_http_transfer_done(const struct lev_http_transfer *t,
                       struct lev_error *err)
{
    if (t->state == LEV_HTTP_FAILED) {
        *err = t->err;
        return -1;
    }
    return t->state == LEV_HTTP_DONE;
}

const struct lev_http_response *
lev_http_transfer_response(const struct lev_http_transfer *t)
{
    return &t->resp;
}

/* libcurl repeats a request whose kept connection was closed when it notices
 * that while receiving, not when it notices while it sends the body. */
static bool
can_retry(const struct lev_http_transfer *t, CURLcode rc)
{
    long connects = 1;

    if (t->retried || t->header_bytes > 0 || t->err.code != LEV_OK ||
        (rc != CURLE_SEND_ERROR && rc != CURLE_RECV_ERROR &&
         rc != CURLE_GOT_NOTHING))
    {
        return false;
    }
    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0;
}

static bool
restart(struct lev_http_transfer *t)
{
    t->body_off = 0;
    t->again = t->conn->begun = true;
    curl_multi_remove_handle(t->conn->multi, t->easy);
    return curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
           curl_multi_add_handle(t->conn->multi, t->easy) == CURLM_OK;
}

/* With a full backlog a non-blocking connect() to a unix socket answers
 * EAGAIN, no poll tells when to try again, and libcurl gives up. */
static bool
backlog_is_full(const struct lev_http_transfer *t, CURLcode rc)
{
    long number = 0;

    if (rc != CURLE_COULDNT_CONNECT || t->conn->http->unix_socket == NULL) {
        return false;
    }
    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
    return number == EAGAIN || number == 0;
}

/* A blocking connect() is woken by the kernel when there is room. The
 * connection itself is of no use: libcurl 7.88 cannot take over one that is
 * made already. */
static bool
wait_for_room(struct lev_http_transfer *t)
{
    const struct timeval slice = {.tv_usec = BACKLOG_SLICE_US};
    const struct lev_scope *scope = t->conn->scope;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (t->give_up == 0) {
        t->give_up = lev_now() + t->conn->http->connect_timeout;
    }
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice)) < 0)
    {
        return false;
    }
    strcpy(addr.sun_path, t->conn->http->unix_socket); /* check_config() */
    while (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        if ((errno != EAGAIN && errno != EINTR) || lev_now() >= t->give_up ||
            lev_scope_check(scope, &t->err) < 0)
        {
            return false;
        }
    }
    return lev_now() < t->give_up;
}

static const char *
unix_reason(const char *path, int number)
{
    struct stat st;

    if (number == ENOENT) {
        return "no such socket: is the engine running?";
    }
    if (number == EACCES || number == EPERM) {
        return "permission denied: is this user in the socket's group?";
    }
    if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        return "this is no socket";
    }
    if (number == ECONNREFUSED) {
        return "connection refused: nothing listens on the socket";
    }
    return number == EAGAIN || number == 0 ? "it accepts no connections"
                                           : NULL;
}

static int
unreachable(struct lev_http_transfer *t, CURLcode rc)
{
    const struct lev_http *http = t->conn->http;
    const char *text = NULL;
    char buf[96];
    long number = 0;

    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
    if (http->unix_socket != NULL) {
        text = unix_reason(http->unix_socket, (int)number);
    }
    else if (rc == CURLE_COULDNT_CONNECT && number == ECONNREFUSED) {
        text = "connection refused: nothing listens there";
    }
    if (rc == CURLE_OPERATION_TIMEDOUT) {
        return lev_error_set(&t->err, LEV_E_ENGINE_UNAVAILABLE, ETIMEDOUT,
                             "cannot connect to %s: no connection within "
                             "%.1f s",
                             http->name,
                             (double)http->connect_timeout / LEV_SECOND);
    }
    if (text == NULL && number != 0 && rc == CURLE_COULDNT_CONNECT) {
        text = strerror_r((int)number, buf, sizeof(buf));
    }
    if (text == NULL) {
        text = t->detail[0] != '\0' ? t->detail : curl_easy_strerror(rc);
    }
    return lev_error_set(&t->err, LEV_E_ENGINE_UNAVAILABLE, (int)number,
                         "cannot connect to %s: %s", http->name, text);
}

/* TLS 1.3 refuses a client after the handshake, and what it says can get lost
 * when the client sends meanwhile. */
static bool
wants_certificate(const struct lev_http_transfer *t)
{
    const struct lev_http *http = t->conn->http;

    return http->cert_file == NULL && t->header_bytes == 0 &&
           strncasecmp(http->base_url, "https:", 6) == 0;
}

static const char *
broken_reason(const struct lev_http_transfer *t, CURLcode rc)
{
    switch (rc) {
    case CURLE_GOT_NOTHING:
        return "it closed the connection without an answer";
    case CURLE_SEND_ERROR:
        if (wants_certificate(t)) {
            return "it closed the connection while the request was sent: "
                   "does it want a client certificate?";
        }
        return "it closed the connection while the request was sent";
    case CURLE_PARTIAL_FILE:
        return "the answer was cut short";
    case CURLE_UNSUPPORTED_PROTOCOL: /* "HTTP/0.9 when not allowed" */
        return "the answer is no HTTP";
    default:
        break;
    }
    return t->detail[0] != '\0' ? t->detail : curl_easy_strerror(rc);
}

static int
describe(struct lev_http_transfer *t, CURLcode rc)
{
    switch (rc) {
    case CURLE_OUT_OF_MEMORY:
        return lev_error_nomem(&t->err, "HTTP transfer");
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_OPERATION_TIMEDOUT: /* we set the connect timeout alone */
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return unreachable(t, rc);
    default:
        return lev_error_set(&t->err, LEV_E_ENGINE, 0, "%s: %s",
                             t->conn->http->name, broken_reason(t, rc));
    }
}

void
lev_http_transfer_finish(struct lev_http_transfer *t, CURLcode rc)
{
    if (can_retry(t, rc)) {
        t->retried = true;
        if (restart(t)) {
            return;
        }
    }
    if (backlog_is_full(t, rc) && wait_for_room(t) && restart(t)) {
        return;
    }
    t->conn->progress = true;
    if (rc == CURLE_OK && t->resp.status == 0 && !t->connect_only) {
        rc = CURLE_PARTIAL_FILE; /* libcurl is content with half a head */
    }
    if (rc == CURLE_OK) {
        t->state = LEV_HTTP_DONE;
        return;
    }
    t->state = LEV_HTTP_FAILED;
    if (t->err.code == LEV_OK) {
        describe(t, rc);
    }
}
