/* The hijacked stream. libcurl only connects (CURLOPT_CONNECT_ONLY: sockets,
 * TLS, proxies); the request's head is written and the answer's head read
 * here, since libcurl 7 gives a connection that was upgraded to nobody. */

#include "http_internal.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

/* An answer that refuses the upgrade carries a message, no data. */
#define MAX_REFUSAL (1024u * 1024)
#define MAX_INTERIM 16 /* "100 Continue" and the like before the answer */
#define CHUNK 16384

struct lev_http_stream {
    struct lev_http_conn *conn; /* its multi handle keeps the connection */
    struct lev_http_transfer *transfer;
    int fd;
    bool ended;           /* the peer has closed its side */
    struct lev_buf ahead; /* came together with the head */
};

void
lev_http_stream_close(struct lev_http_stream *s)
{
    if (s == NULL) {
        return;
    }
    lev_http_conn_give(s->conn); /* ends the transfer and so the connection */
    lev_buf_deinit(&s->ahead);
    free(s);
}

static void
closep(struct lev_http_stream **s)
{
    lev_http_stream_close(*s);
}

int
lev_http_stream_fd(const struct lev_http_stream *s)
{
    return s->fd;
}

static int
broken(const struct lev_http_stream *s, CURLcode rc, struct lev_error *err)
{
    const char *text = s->transfer->detail;

    return lev_error_set(err, LEV_E_ENGINE, 0, "%s: the stream broke: %s",
                         s->conn->http->name,
                         text[0] != '\0' ? text : curl_easy_strerror(rc));
}

ssize_t
lev_http_stream_recv(struct lev_http_stream *s, void *buf, size_t len,
                     struct lev_error *err)
{
    CURLcode rc;
    size_t n = 0;

    if (s->ahead.len > 0) {
        n = len < s->ahead.len ? len : s->ahead.len;
        memcpy(buf, s->ahead.data, n);
        lev_buf_consume(&s->ahead, n);
        return (ssize_t)n;
    }
    if (s->ended || len == 0) {
        return 0;
    }
    rc = curl_easy_recv(s->transfer->easy, buf, len, &n);
    if (rc == CURLE_AGAIN) {
        return -2;
    }
    if (rc != CURLE_OK) {
        return broken(s, rc, err);
    }
    s->ended = n == 0;
    return (ssize_t)n;
}

ssize_t
lev_http_stream_try_send(struct lev_http_stream *s, const void *data,
                         size_t len, struct lev_error *err)
{
    size_t n = 0;
    CURLcode rc = curl_easy_send(s->transfer->easy, data, len, &n);

    if (rc == CURLE_AGAIN || (rc == CURLE_OK && n == 0 && len > 0)) {
        return -2;
    }
    return rc == CURLE_OK ? (ssize_t)n : broken(s, rc, err);
}

int
lev_http_stream_send(struct lev_http_stream *s, const struct lev_scope *scope,
                     const void *data, size_t len, struct lev_error *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = lev_http_stream_try_send(s, p, len, err);
        struct pollfd fd = {.fd = s->fd, .events = POLLOUT};

        if (n == -1 || (n == -2 && lev_scope_poll(scope, &fd, 1, err) < 0)) {
            return -1;
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* Waits for bytes; appends them to `in`. 1, 0 at the end, -1. */
static int
read_more(struct lev_http_stream *s, const struct lev_scope *scope,
          struct lev_buf *in, struct lev_error *err)
{
    char *to = lev_buf_reserve(in, CHUNK);
    ssize_t n;

    if (to == NULL) {
        return lev_error_nomem(err, "HTTP answer");
    }
    while ((n = lev_http_stream_recv(s, to, CHUNK, err)) == -2) {
        struct pollfd fd = {.fd = s->fd, .events = POLLIN};

        if (lev_scope_poll(scope, &fd, 1, err) < 0) {
            return -1;
        }
    }
    if (n < 0) {
        return -1;
    }
    in->len += (size_t)n;
    in->data[in->len] = '\0';
    return n > 0;
}

static const char *
host_of(const char *base_url, size_t *len)
{
    const char *host = strstr(base_url, "://");

    host = host == NULL ? base_url : host + 3;
    *len = strcspn(host, "/?#");
    return host;
}

static int
send_head(struct lev_http_stream *s, const struct lev_scope *scope,
          const struct lev_http_request *req, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf out = {0};
    const struct lev_http *http = s->conn->http;
    size_t len;
    const char *host = host_of(http->base_url, &len);

    lev_buf_printf(&out,
                   "%s %s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: %s\r\n"
                   "Connection: Upgrade\r\nUpgrade: tcp\r\n"
                   "Content-Length: %llu\r\n",
                   lev_http_method(req), req->path, (int)len, host,
                   http->user_agent, (unsigned long long)req->body_len);
    for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++) {
        lev_buf_printf(&out, "%s\r\n", req->headers[i]);
    }
    lev_buf_puts(&out, "\r\n");
    lev_buf_append(&out, req->body, (size_t)req->body_len);
    if (lev_buf_check(&out, "HTTP request", err) < 0) {
        return -1;
    }
    return lev_http_stream_send(s, scope, out.data, out.len, err);
}

static int
no_http(const struct lev_http_stream *s, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_ENGINE, 0, "%s: the answer is no HTTP",
                         s->conn->http->name);
}

static int
cut_short(const struct lev_http_stream *s, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_ENGINE, 0, "%s: the answer was cut short",
                         s->conn->http->name);
}

/* "HTTP/1.1 101 UPGRADED"; -1 when it is something else. */
static long
status_of(const char *head)
{
    const char *p = head;
    long status = 0;

    if (strncmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9' ||
        p[8] != ' ') {
        return -1;
    }
    p += 9;
    for (int i = 0; i < 3; i++, p++) {
        if (*p < '0' || *p > '9') {
            return -1;
        }
        status = status * 10 + (*p - '0');
    }
    return status >= 100 && strchr(" \r\n", *p) != NULL ? status : -1;
}

/* Reads one head into `head`; what came behind it stays in `in`. A NUL in it
 * is refused, so that it can be read as text. */
static int
read_head(struct lev_http_stream *s, const struct lev_scope *scope,
          struct lev_buf *in, struct lev_buf *head, struct lev_error *err)
{
    const char *end;
    size_t len;
    int rc;

    for (;;) {
        size_t n = in->len < 5 ? in->len : 5;

        if (memcmp(lev_buf_text(in), "HTTP/", n) != 0) {
            return no_http(s, err); /* need not wait for the end of it */
        }
        end = memmem(lev_buf_text(in), in->len, "\r\n\r\n", 4);
        if (end != NULL) {
            break;
        }
        if (in->len > LEV_HTTP_MAX_HEADERS) {
            return lev_error_set(err, LEV_E_ENGINE, 0,
                                 "the answer's headers are larger than %u KiB",
                                 LEV_HTTP_MAX_HEADERS / 1024);
        }
        rc = read_more(s, scope, in, err);
        if (rc <= 0) {
            return rc < 0 ? -1 : cut_short(s, err);
        }
    }
    len = (size_t)(end - in->data) + 4;
    if (memchr(in->data, '\0', len) != NULL) {
        return no_http(s, err);
    }
    lev_buf_clear(head);
    lev_buf_append(head, in->data, len);
    lev_buf_consume(in, len);
    return lev_buf_check(head, "HTTP answer", err);
}

/* One number of a head or a chunk; -1 when `text` does not begin with one or
 * it is larger than a refusal may be. */
static long
small_number(const char *text, int base)
{
    char *end;
    unsigned long v;

    if (strchr("0123456789abcdefABCDEF", *text) == NULL || *text == '\0') {
        return -1;
    }
    v = strtoul(text, &end, base);
    return end == text || v > MAX_REFUSAL ? -1 : (long)v;
}

/* Decodes the chunks of `in` that are whole, in place of nothing else: 1 when
 * the last one was among them, 0 when there is more to come, -1. */
static int
take_chunks(const struct lev_http_stream *s, struct lev_buf *in,
            struct lev_buf *body, struct lev_error *err)
{
    for (;;) {
        const char *eol = memmem(lev_buf_text(in), in->len, "\r\n", 2);
        long size;
        size_t head;

        if (eol == NULL) {
            return 0;
        }
        head = (size_t)(eol - in->data) + 2;
        size = small_number(in->data, 16);
        if (size < 0) {
            return no_http(s, err);
        }
        if (size == 0) {
            return 1; /* trailers are of no use */
        }
        if (in->len < head + (size_t)size + 2) {
            return 0;
        }
        lev_buf_append(body, in->data + head, (size_t)size);
        lev_buf_consume(in, head + (size_t)size + 2);
    }
}

/* `left`: bytes that the head promised, -1 for chunks, -2 for "until the
 * end". */
static int
take_body(const struct lev_http_stream *s, struct lev_buf *in,
          struct lev_buf *body, long left, struct lev_error *err)
{
    if (left == -1) {
        return take_chunks(s, in, body, err);
    }
    lev_buf_append(body, lev_buf_text(in), in->len);
    lev_buf_clear(in);
    if (left >= 0 && body->len >= (size_t)left) {
        body->len = (size_t)left;
        return 1;
    }
    return 0;
}

/* The body of an answer that is no upgrade. */
static int
read_refusal(struct lev_http_stream *s, const struct lev_scope *scope,
             struct lev_buf *in, struct lev_http_response *resp,
             struct lev_error *err)
{
    const char *head = lev_buf_text(&resp->headers);
    size_t len;
    const char *coding = lev_http_find_header(head, "Transfer-Encoding", &len);
    const char *length = lev_http_find_header(head, "Content-Length", &len);
    long left = coding != NULL ? -1 : length == NULL ? -2 : 0;

    if (left == 0 && (left = small_number(length, 10)) < 0) {
        return no_http(s, err);
    }
    for (;;) {
        int rc = take_body(s, in, &resp->body, left, err);

        if (rc != 0) {
            return rc < 0 ? -1 : lev_buf_check(&resp->body, "body", err);
        }
        if (in->len + resp->body.len > MAX_REFUSAL) {
            return lev_error_set(err, LEV_E_ENGINE, 0,
                                 "the answer's body is larger than %u bytes",
                                 MAX_REFUSAL);
        }
        rc = read_more(s, scope, in, err);
        if (rc <= 0) {
            return rc < 0 ? -1 : left == -2 ? 0 : cut_short(s, err);
        }
    }
}

/* 101, or 200 with neither a length nor chunks: such a body ends with the
 * connection, which is what a hijacking endpoint sends to a client that does
 * not ask for an upgrade. */
static bool
is_stream(const struct lev_http_response *resp)
{
    const char *head = lev_buf_text(&resp->headers);
    size_t len;

    return resp->status == 101 ||
           (resp->status == 200 &&
            lev_http_find_header(head, "Content-Length", &len) == NULL &&
            lev_http_find_header(head, "Transfer-Encoding", &len) == NULL);
}

static bool
is_interim(long status)
{
    return status / 100 == 1 && status != 101;
}

static int
read_answer(struct lev_http_stream *s, const struct lev_scope *scope,
            struct lev_http_response *resp, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf in = {0};

    for (int heads = 0; heads == 0 || is_interim(resp->status); heads++) {
        if (heads > MAX_INTERIM) {
            return no_http(s, err);
        }
        if (read_head(s, scope, &in, &resp->headers, err) < 0) {
            return -1;
        }
        resp->status = status_of(lev_buf_text(&resp->headers));
        if (resp->status < 0) {
            resp->status = 0;
            return no_http(s, err);
        }
    }
    if (is_stream(resp)) {
        s->ahead = in;
        in = (struct lev_buf){0};
        return 0;
    }
    if (read_refusal(s, scope, &in, resp, err) < 0) {
        return -1;
    }
    return lev_error_set(err, LEV_E_ENGINE, (int)resp->status,
                         "%s: the answer is %ld, not a stream",
                         s->conn->http->name, resp->status);
}

static int
connect_stream(struct lev_http_stream *s, const struct lev_scope *scope,
               const struct lev_http_request *req, struct lev_error *err)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    int done;

    s->transfer = lev_http_transfer_begin(s->conn, req, true, err);
    if (s->transfer == NULL) {
        return -1;
    }
    while ((done = lev_http_transfer_done(s->transfer, err)) == 0) {
        if (lev_http_conn_poll(s->conn, scope, NULL, 0, err) < 0) {
            return -1;
        }
    }
    if (done < 0) {
        return -1;
    }
    curl_easy_getinfo(s->transfer->easy, CURLINFO_ACTIVESOCKET, &fd);
    if (fd == CURL_SOCKET_BAD) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "%s: the connection is gone already",
                             s->conn->http->name);
    }
    s->fd = fd;
    return 0;
}

static int
open_stream(struct lev_http_stream *s, const struct lev_scope *scope,
            const struct lev_http_request *req, struct lev_http_response *resp,
            struct lev_error *err)
{
    lev_http_response_deinit(resp);
    if (connect_stream(s, scope, req, err) < 0 ||
        send_head(s, scope, req, err) < 0)
    {
        return -1;
    }
    return read_answer(s, scope, resp, err);
}

struct lev_http_stream *
lev_http_stream_open(struct lev_http *http, const struct lev_scope *scope,
                     const struct lev_http_request *req,
                     struct lev_http_response *resp, struct lev_error *err)
{
    _cleanup_(closep) struct lev_http_stream *s = NULL;

    if (req->body == NULL && req->body_len > 0) {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "the request of a stream takes its body from memory");
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        lev_error_nomem(err, "stream");
        return NULL;
    }
    s->fd = -1;
    s->conn = lev_http_conn_take(http, err);
    if (s->conn == NULL) {
        return NULL;
    }
    if (open_stream(s, scope, req, resp, err) < 0) {
        lev_error_wrap(err, "%s %s", lev_http_method(req), req->path);
        return NULL;
    }
    return lev_steal(s);
}
