/* The hijacked stream: both directions, what comes with the head, refusals. */

#include "http_test.h"

static const struct lev_http_request *
post(const char *path)
{
    static struct lev_http_request req;
    static const char *const headers[] = {"Content-Type: application/json",
                                          NULL};

    req = (struct lev_http_request){.method = "POST",
                                    .path = path,
                                    .headers = headers,
                                    .body = "{}",
                                    .body_len = 2};
    return &req;
}

static struct lev_http_stream *
open_stream(struct lev_http *http, const char *path)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_error err;
    struct lev_http_stream *st =
        lev_http_stream_open(http, &forever, post(path), &resp, &err);

    must(st == NULL ? -1 : 0, &err);
    assert(resp.status == (strcmp(path, "/hijack") == 0 ? 200 : 101));
    return st;
}

/* The next byte, waited for; -1 at the end. */
static int
next_byte(struct lev_http_stream *st)
{
    struct lev_error err;
    unsigned char c;
    ssize_t n;

    while ((n = lev_http_stream_recv(st, &c, 1, &err)) == -2) {
        struct pollfd fd = {.fd = lev_http_stream_fd(st), .events = POLLIN};

        must(lev_scope_poll(&forever, &fd, 1, &err), &err);
    }
    must((int)n, &err);
    return n == 0 ? -1 : c;
}

static void
expect_bytes(struct lev_http_stream *st, const char *text)
{
    for (; *text != '\0'; text++) {
        assert(next_byte(st) == *text);
    }
}

static void
test_both_ways(bool tcp, const char *path)
{
    struct server s;
    struct lev_http *http;
    struct lev_http_stream *st;
    struct lev_error err;
    char buf[8];

    server_start(&s, tcp);
    http = client(&s);
    st = open_stream(http, path);
    if (strcmp(path, "/upgrade") == 0) {
        expect_bytes(st, "first "); /* came together with the head */
    }
    assert(lev_http_stream_recv(st, buf, sizeof(buf), &err) == -2);
    must(lev_http_stream_send(st, &forever, "ping", 4, &err), &err);
    expect_bytes(st, "ping");
    assert(lev_http_stream_recv(st, buf, sizeof(buf), &err) == -2);
    lev_http_stream_close(st);
    lev_http_stream_close(NULL);
    lev_http_destroy(http);
    server_stop(&s);
}

static void
test_end(void)
{
    struct server s;
    struct lev_http *http;
    struct lev_http_stream *st;
    struct lev_error err;

    server_start(&s, false);
    http = client(&s);
    st = open_stream(http, "/hijack");
    must(lev_http_stream_send(st, &forever, "bye", 3, &err), &err);
    assert(shutdown(lev_http_stream_fd(st), SHUT_WR) == 0);
    expect_bytes(st, "bye");
    assert(next_byte(st) == -1);
    assert(next_byte(st) == -1); /* and it stays so */
    lev_http_stream_close(st);
    lev_http_destroy(http);
    server_stop(&s);
}

/* A peer that answers while it reads: sending and receiving take turns. */
static void
test_full_duplex(bool tcp)
{
    static char out[8 << 20], in[sizeof(out)];
    size_t sent = 0, got = 0;
    struct server s;
    struct lev_http *http;
    struct lev_http_stream *st;
    struct lev_error err;

    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] = (char)(i * 31 ^ i >> 13);
    }
    server_start(&s, tcp);
    http = client(&s);
    st = open_stream(http, "/hijack");
    while (got < sizeof(in)) {
        struct pollfd fd = {.fd = lev_http_stream_fd(st),
                            .events = sent < sizeof(out) ? POLLIN | POLLOUT
                                                         : POLLIN};
        ssize_t n = lev_http_stream_recv(st, in + got, sizeof(in) - got, &err);
        ssize_t m = sent == sizeof(out)
                        ? -2
                        : lev_http_stream_try_send(st, out + sent,
                                                   sizeof(out) - sent, &err);

        assert(n != -1 && n != 0 && m != -1);
        got += n > 0 ? (size_t)n : 0;
        sent += m > 0 ? (size_t)m : 0;
        if (n == -2 && m == -2) {
            must(lev_scope_poll(&forever, &fd, 1, &err), &err);
        }
    }
    assert(memcmp(in, out, sizeof(in)) == 0);
    lev_http_stream_close(st);
    lev_http_destroy(http);
    server_stop(&s);
}

/* Nobody takes the echo, so sending cannot end by itself. */
static void
test_send_within_scope(void)
{
    static char out[8 << 20];
    struct lev_scope brief = lev_scope_within(&forever, 50 * LEV_MS);
    struct server s;
    struct lev_http *http;
    struct lev_http_stream *st;
    struct lev_error err = {0};

    server_start(&s, false);
    http = client(&s);
    st = open_stream(http, "/hijack");
    assert(lev_http_stream_send(st, &brief, out, sizeof(out), &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    lev_http_stream_close(st);
    lev_http_destroy(http);
    server_stop(&s);
}

static void
test_refusals(void)
{
    static const struct {
        const char *path;
        long status;
        const char *body, *text;
    } cases[] = {
        {"/refuse", 409, "busy", "POST /refuse: "},
        {"/refuse-chunked", 500, "abc", "the answer is 500, not a stream"},
        {"/refuse-close", 400, "no reason", "the answer is 400"},
        {"/refuse-cut", 409, NULL, "cut short"},
        {"/ok", 200, "hello\n", "the answer is 200, not a stream"},
        {"/chunked", 200, "abcdefg", "the answer is 200, not a stream"},
        {"/half-head", 0, "", "cut short"},
        {"/nothing", 0, "", "cut short"},
        {"/garbage", 0, "", "no HTTP"},
        {"/bomb", 0, "", "headers are larger than 256 KiB"},
        {"/interim-bomb", 100, "", "no HTTP"},
        {"/bad-chunk", 200, "", "no HTTP"},
        {"/bad-length", 200, "", "no HTTP"},
    };
    struct server s;
    struct lev_http *http;

    server_start(&s, false);
    http = client(&s);
    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        _cleanup_response_ struct lev_http_response resp = {0};
        struct lev_error err = {0};

        assert(lev_http_stream_open(http, &forever, post(cases[i].path), &resp,
                                    &err) == NULL);
        fails(&err, LEV_E_ENGINE, cases[i].text);
        assert(resp.status == cases[i].status);
        assert(cases[i].body == NULL ||
               strcmp(lev_buf_text(&resp.body), cases[i].body) == 0);
    }
    lev_http_destroy(http);
    server_stop(&s);
}

static void
test_scope_ends(void)
{
    struct lev_cancel cancel;
    struct lev_scope scope = {.deadline = LEV_NEVER, .cancel = &cancel};
    struct lev_scope brief = lev_scope_within(&forever, 30 * LEV_MS);
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request file = {.path = "/hijack", .body_len = 3};
    struct server s;
    struct lev_http *http;
    struct lev_error err = {0};

    lev_cancel_init(&cancel, NULL);
    server_start(&s, true);
    s.cancel = &cancel;
    http = client(&s);
    assert(lev_http_stream_open(http, &brief, post("/stall"), &resp, &err) ==
           NULL);
    fails(&err, LEV_E_TIMEOUT, "POST /stall: timed out");
    assert(lev_http_stream_open(http, &scope, post("/cancel"), &resp, &err) ==
           NULL);
    fails(&err, LEV_E_CANCELLED, "POST /cancel: cancelled");
    assert(lev_http_stream_open(http, &forever, &file, &resp, &err) == NULL);
    fails(&err, LEV_E_INVALID, "body from memory");
    assert(lev_http_stream_open(http, &forever, post("/a b"), &resp, &err) ==
           NULL);
    fails(&err, LEV_E_INVALID, "byte 0x20");
    lev_http_destroy(http);
    server_stop(&s);
    lev_cancel_deinit(&cancel);
}

int
main(void)
{
    for (int tcp = 0; tcp < 2; tcp++) {
        test_both_ways(tcp, "/upgrade");
        test_both_ways(tcp, "/hijack");
        test_full_duplex(tcp);
    }
    test_end();
    test_send_within_scope();
    test_refusals();
    test_scope_ends();
    return 0;
}
