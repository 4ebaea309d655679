/* What HTTP waits for, and what ends the waiting: peers that cannot be
 * reached, scopes, kept connections that died, many transfers at once. */

#include "http_test.h"

#include <netdb.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* libcurl's resolver finds this one first: "mute.test" is not resolved before
 * the test says so. */
static pthread_mutex_t dns_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dns_cond = PTHREAD_COND_INITIALIZER;
static enum { DNS_IDLE, DNS_ASKED, DNS_RELEASED, DNS_LEFT } dns;
static struct lev_cancel *dns_cancel;

static void
dns_wait(int state)
{
    pthread_mutex_lock(&dns_mutex);
    while ((int)dns < state) {
        pthread_cond_wait(&dns_cond, &dns_mutex);
    }
    pthread_mutex_unlock(&dns_mutex);
}

static void
dns_step(int state)
{
    pthread_mutex_lock(&dns_mutex);
    dns = state;
    pthread_cond_broadcast(&dns_cond);
    pthread_mutex_unlock(&dns_mutex);
}

__attribute__((visibility("default"))) int
getaddrinfo(const char *node, const char *service,
            const struct addrinfo *hints, struct addrinfo **out)
{
    if (node == NULL || strcmp(node, "mute.test") != 0) {
        return EAI_NONAME;
    }
    dns_step(DNS_ASKED);
    lev_cancel_fire(dns_cancel);
    dns_wait(DNS_RELEASED);
    dns_step(DNS_LEFT);
    return EAI_NONAME;
}

static int
get_within(struct lev_http *http, const struct lev_scope *scope,
           const char *path, struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.path = path};

    return lev_http_request(http, scope, &req, &resp, err);
}

static void
unreachable(const char *base_url, const char *unix_socket, const char *text)
{
    struct lev_http_config config = {.base_url = base_url,
                                     .unix_socket = unix_socket};
    struct lev_error err = {0};
    struct lev_http *http = lev_http_create(&config, &err);

    if (http == NULL) {
        fails(&err, LEV_E_INVALID, text);
        return;
    }
    assert(get_within(http, &forever, "/ok", &err) == -1);
    assert(strstr(err.msg, lev_http_name(http)) != NULL);
    fails(&err, LEV_E_ENGINE_UNAVAILABLE, text);
    lev_http_destroy(http);
}

static void
test_unreachable(void)
{
    struct server s;
    char path[128], url[64];

    server_listen(&s, false, 1);
    unreachable(NULL, "/nonexistent/docker.sock", "no such socket");
    strcpy(path, s.path);
    *strrchr(path, '/') = '\0';
    unreachable(NULL, path, "this is no socket");
    close(s.fd);
    unreachable(NULL, s.path, "connection refused: nothing listens");
    server_unlink(&s);
    server_listen(&s, true, 1);
    strcpy(url, s.url);
    close(s.fd);
    unreachable(url, NULL, "connection refused: nothing listens");
    unreachable("http://nowhere.invalid:80", NULL, "nowhere.invalid");
    unreachable("ftp://host", NULL, "expected http://host:port");
    unreachable(NULL, NULL, "expected http://host:port");
    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    unreachable(NULL, path, "longer than the 107 bytes");
}

/* Root may open everything: only an ordinary user sees the refusal. */
static void
test_no_permission(void)
{
    struct server s;

    server_listen(&s, false, 1);
    assert(chmod(s.path, 0) == 0);
    if (geteuid() != 0) {
        unreachable(NULL, s.path, "permission denied: is this user in");
    }
    else if (setegid(65534) == 0 && seteuid(65534) == 0) {
        unreachable(NULL, s.path, "permission denied");
        assert(seteuid(0) == 0 && setegid(0) == 0);
    }
    close(s.fd);
    server_unlink(&s);
}

static void
test_scope_ends(bool tcp, const char *path)
{
    struct lev_scope late = {.deadline = lev_now()};
    struct lev_cancel cancel, fired;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    struct lev_scope gone = {.deadline = LEV_NEVER, .cancel = &fired};
    struct lev_scope brief;
    struct server s;
    struct lev_http *http;
    struct lev_error err = {0};

    lev_cancel_init(&cancel, NULL);
    lev_cancel_init(&fired, NULL);
    lev_cancel_fire(&fired);
    server_start(&s, tcp);
    http = client(&s);
    s.cancel = &cancel;
    assert(get_within(http, &late, "/ok", &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "GET /ok: timed out");
    assert(get_within(http, &gone, "/ok", &err) == -1);
    fails(&err, LEV_E_CANCELLED, "cancelled");
    brief = lev_scope_within(&forever, 30 * LEV_MS);
    assert(get_within(http, &brief, path, &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    assert(get_within(http, &scope,
                      strcmp(path, "/stall") == 0 ? "/cancel" : "/cancel-body",
                      &err) == -1);
    fails(&err, LEV_E_CANCELLED, "cancelled");
    lev_http_destroy(http);
    server_stop(&s); /* all of those connections were closed */
    lev_cancel_deinit(&cancel);
    lev_cancel_deinit(&fired);
}

/* The peer reads nothing: the body cannot be sent. */
static void
test_scope_ends_sending(void)
{
    static char body[32 << 20];
    struct lev_http_request req = {.method = "POST",
                                   .path = "/cancel",
                                   .body = body,
                                   .body_len = sizeof(body)};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_cancel cancel;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    struct lev_scope brief = lev_scope_within(&forever, 30 * LEV_MS);
    struct server s;
    struct lev_http *http;
    struct lev_error err = {0};

    lev_cancel_init(&cancel, NULL);
    server_start(&s, false);
    s.cancel = &cancel;
    http = client(&s);
    assert(lev_http_request(http, &scope, &req, &resp, &err) == -1);
    fails(&err, LEV_E_CANCELLED, "POST /cancel: cancelled");
    req.path = "/stall";
    assert(lev_http_request(http, &brief, &req, &resp, &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    lev_http_destroy(http);
    server_stop(&s);
    lev_cancel_deinit(&cancel);
}

/* Connections that nobody accepts until the backlog is full. */
static size_t
fill_backlog(struct server *s, int *fds, size_t n)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    size_t i;

    assert(getsockname(s->fd, (struct sockaddr *)&addr, &len) == 0);
    for (i = 0; i < n; i++) {
        fds[i] = socket(addr.ss_family,
                        SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert(fds[i] >= 0);
        if (connect(fds[i], (struct sockaddr *)&addr, len) < 0 &&
            errno == EAGAIN) {
            close(fds[i]);
            return i;
        }
    }
    return i;
}

static void *
fire(void *cancel)
{
    lev_cancel_fire(cancel);
    return NULL;
}

static void
test_scope_ends_connecting(bool tcp)
{
    pthread_t thread;
    struct lev_cancel cancel;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    struct lev_scope brief;
    struct lev_http_config config = {.connect_timeout = 40 * LEV_MS};
    struct server s;
    struct lev_http *http;
    struct lev_error err = {0};
    int fds[16];
    size_t n;

    lev_cancel_init(&cancel, NULL);
    server_listen(&s, tcp, 1);
    n = fill_backlog(&s, fds, 16);
    http = client(&s);
    brief = lev_scope_within(&forever, 30 * LEV_MS);
    assert(get_within(http, &brief, "/ok", &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    assert(pthread_create(&thread, NULL, fire, &cancel) == 0);
    assert(get_within(http, &scope, "/ok", &err) == -1);
    fails(&err, LEV_E_CANCELLED, "cancelled");
    pthread_join(thread, NULL);
    lev_http_destroy(http);
    config.base_url = tcp ? s.url : NULL;
    config.unix_socket = tcp ? NULL : s.path;
    http = lev_http_create(&config, &err);
    assert(http != NULL);
    assert(get_within(http, &forever, "/ok", &err) == -1);
    fails(&err, LEV_E_ENGINE_UNAVAILABLE,
          tcp ? "no connection within 0.0 s" : "it accepts no connections");
    lev_http_destroy(http);
    for (size_t i = 0; i < n; i++) {
        close(fds[i]);
    }
    close(s.fd);
    server_unlink(&s);
    lev_cancel_deinit(&cancel);
}

/* A full backlog that empties: the request goes through. */
static void
test_backlog_empties(void)
{
    struct server s;
    struct lev_http *http;
    struct lev_error err;
    int fds[16];
    size_t n;

    server_listen(&s, false, 1);
    n = fill_backlog(&s, fds, 16);
    assert(n < 16);
    pthread_mutex_init(&s.mutex, NULL);
    pthread_cond_init(&s.idle, NULL);
    http = client(&s);
    assert(pthread_create(&s.thread, NULL, server_main, &s) == 0);
    must(get_within(http, &forever, "/ok", &err), &err);
    for (size_t i = 0; i < n; i++) {
        close(fds[i]);
    }
    lev_http_destroy(http);
    server_stop(&s);
}

static void
test_scope_ends_resolving(void)
{
    struct lev_http_config config = {.base_url = "http://mute.test:1"};
    struct lev_cancel cancel;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    struct lev_error err = {0};
    struct lev_http *http = lev_http_create(&config, &err);

    assert(http != NULL);
    lev_cancel_init(&cancel, NULL);
    dns_cancel = &cancel;
    assert(get_within(http, &scope, "/ok", &err) == -1);
    fails(&err, LEV_E_CANCELLED, "cancelled");
    lev_http_destroy(http);
    dns_step(DNS_RELEASED); /* only now */
    dns_wait(DNS_LEFT);
    lev_cancel_deinit(&cancel);
}

static void
test_kept_connection_died(bool tcp, const char *first, size_t len)
{
    _cleanup_close_ int fd = file_of(len);
    _cleanup_response_ struct lev_http_response resp = {0};
    struct checker c = {0};
    struct lev_http_request req = {.method = "POST",
                                   .path = "/echo",
                                   .body_fd = fd,
                                   .body_len = len,
                                   .on_data = check_data,
                                   .ctx = &c};
    struct server s;
    struct lev_http *http;
    struct lev_error err;

    server_start(&s, tcp);
    http = client(&s);
    must(get(http, first, &resp, &err), &err);
    must(lev_http_request(http, &forever, &req, &resp, &err), &err);
    assert(resp.status == 200 && c.at == len);
    assert(atomic_load(&s.connections) == 2);
    lev_http_destroy(http);
    server_stop(&s);
}

/* A refusal that comes before the body was sent is an answer. */
static void
test_early_answer(void)
{
    static char body[4 << 20];
    struct lev_http_request req = {.method = "PUT",
                                   .path = "/early",
                                   .body = body,
                                   .body_len = sizeof(body)};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server s;
    struct lev_http *http;
    struct lev_error err;

    server_start(&s, false);
    http = client(&s);
    for (int i = 0; i < 50; i++) {
        must(lev_http_request(http, &forever, &req, &resp, &err), &err);
        expect(&resp, 404, "no");
    }
    lev_http_destroy(http);
    server_stop(&s);
}

/* Transfers side by side, requests among them, and a descriptor. */
static void
test_transfers(void)
{
    struct lev_http_request stall = {.path = "/stall-body"};
    struct lev_http_request ok = {.path = "/ok"};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server s;
    struct lev_http *http;
    struct lev_http_conn *conn;
    struct lev_http_transfer *a, *b;
    struct lev_error err;
    int pipe_fds[2];
    struct pollfd fd = {.events = POLLIN};

    server_start(&s, false);
    http = client(&s);
    conn = lev_http_conn_take(http, &err);
    a = lev_http_transfer_start(conn, &stall, &err);
    b = lev_http_transfer_start(conn, &stall, &err);
    assert(conn != NULL && a != NULL && b != NULL);
    assert(lev_http_transfer_status(a) == 0);
    while (lev_http_transfer_response(a)->body.len < 4 ||
           lev_http_transfer_response(b)->body.len < 4)
    {
        must(lev_http_conn_poll(conn, &forever, NULL, 0, &err), &err);
    }
    assert(lev_http_transfer_status(b) == 200);
    assert(lev_http_transfer_done(b, &err) == 0);
    must(lev_http_conn_request(conn, &forever, &ok, &resp, &err), &err);
    expect(&resp, 200, "hello\n");
    lev_http_transfer_end(b);
    assert(pipe2(pipe_fds, O_CLOEXEC) == 0);
    fd.fd = pipe_fds[0];
    assert(write(pipe_fds[1], "x", 1) == 1);
    must(lev_http_conn_poll(conn, &forever, &fd, 1, &err), &err);
    assert(fd.revents == POLLIN);
    assert(read(pipe_fds[0], &(char){0}, 1) == 1);
    close(pipe_fds[1]);
    must(lev_http_conn_poll(conn, &forever, &fd, 1, &err), &err);
    assert(fd.revents == POLLHUP); /* which libcurl does not tell */
    close(pipe_fds[0]);
    lev_http_conn_give(conn); /* ends `a` */
    lev_http_destroy(http);
    server_stop(&s);
}

/* A transfer that fails is its own affair. */
static void
test_transfer_fails(void)
{
    struct lev_http_request drop = {.path = "/drop"};
    struct server s;
    struct lev_http *http;
    struct lev_http_conn *conn;
    struct lev_http_transfer *t;
    struct lev_error err = {0};

    server_start(&s, false);
    http = client(&s);
    conn = lev_http_conn_take(http, &err);
    t = lev_http_transfer_start(conn, &drop, &err);
    assert(conn != NULL && t != NULL);
    while (lev_http_transfer_done(t, &err) == 0) {
        must(lev_http_conn_poll(conn, &forever, NULL, 0, &err), &err);
    }
    assert(lev_http_transfer_done(t, &err) == -1);
    fails(&err, LEV_E_ENGINE, "cut short");
    lev_http_transfer_end(t);
    lev_http_transfer_end(NULL);
    lev_http_conn_give(conn);
    lev_http_conn_give(NULL);
    lev_http_destroy(http);
    lev_http_destroy(NULL);
    server_stop(&s);
}

#define PENDING 500

static bool
all_have_begun(struct lev_http_transfer *const *t)
{
    for (size_t i = 0; i < PENDING; i++) {
        if (lev_http_transfer_response(t[i])->body.len == 0) {
            return false;
        }
    }
    return true;
}

/* How often the conn woke up within 300 ms in which nothing came. */
static unsigned long
idle_wakeups(struct lev_http_conn *conn)
{
    struct lev_scope brief = lev_scope_within(&forever, 300 * LEV_MS);
    unsigned long before = conn->wakeups;
    struct lev_error err = {0};

    assert(lev_http_conn_poll(conn, &brief, NULL, 0, &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    return conn->wakeups - before;
}

/* Waiting costs nothing: the only wake-up is the deadline's, once libcurl's
 * timers of the connecting (200 ms for a second address) have run off. */
static void
test_pending(bool tcp)
{
    struct lev_http_request stall = {.path = "/stall-body"};
    struct lev_http_transfer *t[PENDING];
    struct rlimit limit;
    struct server s;
    struct lev_http *http;
    struct lev_http_conn *conn;
    struct lev_error err = {0};

    assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    server_start(&s, tcp);
    http = client(&s);
    conn = lev_http_conn_take(http, &err);
    assert(conn != NULL);
    for (size_t i = 0; i < PENDING; i++) {
        t[i] = lev_http_transfer_start(conn, &stall, &err);
        assert(t[i] != NULL);
    }
    while (!all_have_begun(t)) {
        must(lev_http_conn_poll(conn, &forever, NULL, 0, &err), &err);
    }
    idle_wakeups(conn);
    assert(idle_wakeups(conn) <= 2);
    lev_http_conn_give(conn);
    lev_http_destroy(http);
    server_stop(&s);
}

#define THREADS 24
#define ROUNDS 40

static void *
hammer(void *arg)
{
    static const char *const paths[] = {"/ok", "/chunked", "/close-after",
                                        "/ok", "/drop",    "/head"};
    struct lev_http *http = arg;

    for (size_t i = 0; i < ROUNDS; i++) {
        _cleanup_response_ struct lev_http_response resp = {0};
        const char *path = paths[i % LEV_ARRAY_LEN(paths)];
        struct lev_error err;
        int rc = get(http, path, &resp, &err);

        if (strcmp(path, "/drop") == 0) {
            assert(rc == -1 && err.code == LEV_E_ENGINE);
        }
        else {
            must(rc, &err);
            assert(resp.status == 200 && resp.body.len > 0);
        }
    }
    return NULL;
}

static void
test_threads(bool tcp)
{
    struct server s;
    struct lev_http *http;
    pthread_t threads[THREADS];

    server_start(&s, tcp);
    http = client(&s);
    for (size_t i = 0; i < THREADS; i++) {
        assert(pthread_create(&threads[i], NULL, hammer, http) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert(http->n_idle <= 16);
    lev_http_destroy(http);
    server_stop(&s);
}

int
main(void)
{
    test_unreachable();
    test_no_permission();
    test_scope_ends_sending();
    test_backlog_empties();
    test_scope_ends_resolving();
    for (int tcp = 0; tcp < 2; tcp++) {
        test_scope_ends(tcp, "/stall");
        test_scope_ends(tcp, "/stall-body");
        test_scope_ends_connecting(tcp);
        test_kept_connection_died(tcp, "/close-after", 100);
        test_kept_connection_died(tcp, "/close-after", 5000000);
        test_kept_connection_died(tcp, "/drop-second", 100);
        test_kept_connection_died(tcp, "/drop-second", 5000000);
        test_pending(tcp);
        test_threads(tcp);
    }
    test_early_answer();
    test_transfers();
    test_transfer_fails();
    return 0;
}
