/* http_server.h - the HTTP server of test_http.c: what a peer may do wrong.
 *
 * A thread accepts, each connection has a thread of its own. The path of a
 * request says how it is answered (see `routes` at the end). Faults that last
 * ("/stall") end when the client goes away, so that server_stop() proves that
 * every connection was closed.
 */
#ifndef LEV_TEST_HTTP_SERVER_H
#define LEV_TEST_HTTP_SERVER_H

#include "scope.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct server {
    int fd;
    char url[64], path[64]; /* one of them */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    unsigned alive; /* connections */
    atomic_uint connections, requests;
    atomic_bool dropped;       /* "/drop-second" has dropped one */
    struct lev_cancel *cancel; /* "/cancel" fires it */
};

struct peer {
    struct server *server;
    int fd;
    bool closing;
    char in[65536]; /* the request's head, then what came behind it */
    size_t len, head;
    char method[16], path[256];
    size_t body_len;
};

static inline bool
put(struct peer *p, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(p->fd, at, len, MSG_NOSIGNAL);

        if (n < 0) {
            p->closing = true;
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool
say(struct peer *p, const char *text)
{
    return put(p, text, strlen(text));
}

static inline void
say_slowly(struct peer *p, const char *text)
{
    while (*text != '\0' && put(p, text, 1)) {
        text++;
    }
}

static inline ssize_t
more(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->len, sizeof(p->in) - p->len - 1, 0);

    if (n > 0) {
        p->len += (size_t)n;
        p->in[p->len] = '\0';
    }
    return n;
}

/* The next request's head; false when the client has gone. */
static inline bool
read_request(struct peer *p)
{
    char *end, *length;

    while ((end = strstr(p->in, "\r\n\r\n")) == NULL) {
        if (more(p) <= 0) {
            return false;
        }
    }
    p->head = (size_t)(end - p->in) + 4;
    if (sscanf(p->in, "%15s %255s", p->method, p->path) != 2) {
        return false;
    }
    length = strcasestr(p->in, "content-length:");
    p->body_len =
        length != NULL && length < end ? strtoul(length + 15, NULL, 10) : 0;
    return true;
}

/* Drops the head and hands the body on, piece by piece. */
static inline bool
read_body(struct peer *p, bool echo)
{
    size_t left = p->body_len;

    memmove(p->in, p->in + p->head, p->len - p->head + 1);
    p->len -= p->head;
    while (left > 0) {
        size_t n = p->len < left ? p->len : left;

        if (echo && !put(p, p->in, n)) {
            return false;
        }
        memmove(p->in, p->in + n, p->len - n + 1);
        p->len -= n;
        left -= n;
        if (left > 0 && more(p) <= 0) {
            return false;
        }
    }
    return true;
}

static inline void
wait_for_close(struct peer *p)
{
    struct pollfd fd = {.fd = p->fd, .events = POLLRDHUP};

    while (poll(&fd, 1, -1) < 0 && errno == EINTR) {
    }
    p->closing = true;
}

static inline void
serve_ok(struct peer *p)
{
    if (read_body(p, false)) {
        say(p, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Name:  a b \r\n\r\n"
               "hello\n");
    }
}

static inline void
serve_echo(struct peer *p)
{
    char head[128];

    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", p->body_len);
    say(p, head);
    read_body(p, true);
}

static inline void
serve_head(struct peer *p)
{
    char head[128], copy[4096];
    size_t len = p->head < sizeof(copy) ? p->head : sizeof(copy);

    memcpy(copy, p->in, len);
    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
    if (read_body(p, false) && say(p, head) && strcmp(p->method, "HEAD") != 0)
    {
        put(p, copy, len);
    }
}

static inline void
serve_404(struct peer *p)
{
    if (read_body(p, false)) {
        say(p, "HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n"
               "{\"message\": \"no\"}");
    }
}

/* Answers without reading the body, and leaves the client the time to read the
 * answer, as Go's servers do. */
static inline void
serve_early(struct peer *p)
{
    say(p, "HTTP/1.1 404 Not Found\r\nConnection: close\r\n"
           "Content-Length: 2\r\n\r\nno");
    shutdown(p->fd, SHUT_WR);
    wait_for_close(p);
}

static inline void
serve_chunked(struct peer *p)
{
    read_body(p, false);
    say_slowly(p, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n"
                  "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n");
}

static inline void
serve_until_close(struct peer *p)
{
    read_body(p, false);
    say(p, "HTTP/1.1 200 OK\r\n\r\nall of it");
    p->closing = true;
}

static inline void
serve_close_after(struct peer *p)
{
    serve_ok(p);
    p->closing = true;
}

/* Kept open, then closed when the next request has come. */
static inline void
serve_drop_second(struct peer *p)
{
    serve_ok(p);
    if (!atomic_exchange(&p->server->dropped, true)) {
        more(p);
        p->closing = true;
    }
}

static inline void
serve_redirect(struct peer *p)
{
    read_body(p, false);
    say(p, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
}

static inline void
serve_nothing(struct peer *p)
{
    read_body(p, false);
    p->closing = true;
}

static inline void
serve_drop(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    p->closing = true;
}

static inline void
serve_drop_chunk(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
    p->closing = true;
}

static inline void
serve_half_head(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Le");
    p->closing = true;
}

static inline void
serve_garbage(struct peer *p)
{
    say(p, "SSH-2.0-OpenSSH_9.2\r\n");
    p->closing = true;
}

static inline void
serve_bad_chunk(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    wait_for_close(p);
}

static inline void
serve_bad_length(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc");
    wait_for_close(p);
}

static inline void
serve_bomb(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\n");
    while (say(p, "X-Filler: 0123456789012345678901234567890123456789\r\n")) {
    }
}

static inline void
serve_interim_bomb(struct peer *p)
{
    while (say(p, "HTTP/1.1 100 Continue\r\n\r\n")) {
    }
}

static inline void
serve_endless(struct peer *p)
{
    char block[4096];

    memset(block, 'e', sizeof(block));
    say(p, "HTTP/1.1 200 OK\r\n\r\n");
    while (put(p, block, sizeof(block))) {
    }
}

static inline void
serve_stall(struct peer *p)
{
    wait_for_close(p);
}

static inline void
serve_stall_body(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    wait_for_close(p);
}

static inline void
serve_cancel(struct peer *p)
{
    lev_cancel_fire(p->server->cancel);
    wait_for_close(p);
}

static inline void
serve_cancel_body(struct peer *p)
{
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    serve_cancel(p);
}

/* What comes behind the head is sent back, whatever it is. */
static inline void
serve_back(struct peer *p)
{
    memmove(p->in, p->in + p->head + p->body_len,
            p->len - p->head - p->body_len);
    p->len -= p->head + p->body_len;
    while (p->len > 0 || more(p) > 0) {
        if (!put(p, p->in, p->len)) {
            return;
        }
        p->len = 0;
    }
}

static inline void
serve_upgrade(struct peer *p)
{
    say(p, strcasestr(p->in, "upgrade: tcp") != NULL
               ? "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\n"
                 "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst "
               : "HTTP/1.1 400 Bad Request\r\n\r\n");
    serve_back(p);
    p->closing = true;
}

static inline void
serve_hijack(struct peer *p)
{
    say_slowly(p, "HTTP/1.1 200 OK\r\n"
                  "Content-Type: application/vnd.docker.raw-stream\r\n\r\n");
    serve_back(p);
    p->closing = true;
}

static inline void
serve_refuse(struct peer *p)
{
    say_slowly(p, "HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nbusy");
    p->closing = true;
}

static inline void
serve_refuse_chunked(struct peer *p)
{
    say_slowly(p, "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n"
                  "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    wait_for_close(p);
}

static inline void
serve_refuse_close(struct peer *p)
{
    say(p, "HTTP/1.1 400 Bad Request\r\n\r\nno reason");
    p->closing = true;
}

static inline void
serve_refuse_cut(struct peer *p)
{
    say(p, "HTTP/1.1 409 Conflict\r\nContent-Length: 40\r\n\r\nbusy");
    p->closing = true;
}

static const struct route {
    const char *path;
    void (*serve)(struct peer *p);
} routes[] = {
    {"/ok", serve_ok},
    {"/echo", serve_echo},
    {"/head", serve_head},
    {"/404", serve_404},
    {"/early", serve_early},
    {"/chunked", serve_chunked},
    {"/until-close", serve_until_close},
    {"/close-after", serve_close_after},
    {"/drop-second", serve_drop_second},
    {"/redirect", serve_redirect},
    {"/nothing", serve_nothing},
    {"/drop", serve_drop},
    {"/drop-chunk", serve_drop_chunk},
    {"/half-head", serve_half_head},
    {"/garbage", serve_garbage},
    {"/bad-chunk", serve_bad_chunk},
    {"/bad-length", serve_bad_length},
    {"/bomb", serve_bomb},
    {"/interim-bomb", serve_interim_bomb},
    {"/endless", serve_endless},
    {"/stall", serve_stall},
    {"/stall-body", serve_stall_body},
    {"/cancel", serve_cancel},
    {"/cancel-body", serve_cancel_body},
    {"/upgrade", serve_upgrade},
    {"/hijack", serve_hijack},
    {"/refuse", serve_refuse},
    {"/refuse-chunked", serve_refuse_chunked},
    {"/refuse-close", serve_refuse_close},
    {"/refuse-cut", serve_refuse_cut},
};

static inline void
serve(struct peer *p)
{
    size_t n = strcspn(p->path, "?");

    atomic_fetch_add(&p->server->requests, 1);
    for (size_t i = 0; i < LEV_ARRAY_LEN(routes); i++) {
        if (strlen(routes[i].path) == n &&
            memcmp(routes[i].path, p->path, n) == 0) {
            routes[i].serve(p);
            return;
        }
    }
    fprintf(stderr, "no route %s\n", p->path);
    abort();
}

static inline void *
peer_main(void *arg)
{
    struct peer *p = arg;
    struct server *s = p->server;

    while (!p->closing && read_request(p)) {
        serve(p);
    }
    close(p->fd);
    free(p);
    pthread_mutex_lock(&s->mutex);
    s->alive--;
    pthread_cond_signal(&s->idle);
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static inline void *
server_main(void *arg)
{
    struct server *s = arg;
    pthread_attr_t attr;
    pthread_t thread;
    int fd;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct peer *p = calloc(1, sizeof(*p));
        int one = 1;

        assert(p != NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        *p = (struct peer){.server = s, .fd = fd};
        atomic_fetch_add(&s->connections, 1);
        pthread_mutex_lock(&s->mutex);
        s->alive++;
        pthread_mutex_unlock(&s->mutex);
        assert(pthread_create(&thread, &attr, peer_main, p) == 0);
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

static inline void
server_listen(struct server *s, bool tcp, int backlog)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(in);

    memset(s, 0, sizeof(*s));
    s->fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(s->fd >= 0);
    if (tcp) {
        assert(bind(s->fd, (struct sockaddr *)&in, sizeof(in)) == 0);
        assert(getsockname(s->fd, (struct sockaddr *)&in, &len) == 0);
        snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d",
                 ntohs(in.sin_port));
    }
    else {
        strcpy(s->path, "/tmp/lev-http-XXXXXX");
        assert(mkdtemp(s->path) != NULL);
        strcat(s->path, "/socket");
        strcpy(un.sun_path, s->path);
        assert(bind(s->fd, (struct sockaddr *)&un, sizeof(un)) == 0);
    }
    assert(listen(s->fd, backlog) == 0);
}

static inline void
server_start(struct server *s, bool tcp)
{
    server_listen(s, tcp, 1024);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->idle, NULL);
    assert(pthread_create(&s->thread, NULL, server_main, s) == 0);
}

static inline void
server_unlink(struct server *s)
{
    if (s->path[0] != '\0') {
        unlink(s->path);
        *strrchr(s->path, '/') = '\0';
        rmdir(s->path);
    }
}

/* Waits until the client has closed every connection. */
static inline void
server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    pthread_mutex_lock(&s->mutex);
    while (s->alive > 0) {
        pthread_cond_wait(&s->idle, &s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->idle);
    server_unlink(s);
}

#endif
