/* HTTP over unix sockets and TCP: what works, and each way to fail. */

#include "http_test.h"

static void
test_answers(bool tcp)
{
    struct server s;
    struct lev_http *http;
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf value = {0};
    struct lev_error err;

    server_start(&s, tcp);
    http = client(&s);
    assert(strstr(lev_http_name(http), tcp ? s.url : s.path) != NULL);
    must(get(http, "/ok", &resp, &err), &err);
    expect(&resp, 200, "hello\n");
    assert(strcmp(lev_http_header(&resp, "x-NAME", &value), "a b") == 0);
    assert(lev_http_header(&resp, "x-nam", &value) == NULL);
    must(get(http, "/404", &resp, &err), &err);
    expect(&resp, 404, "{\"message\": \"no\"}");
    assert(lev_http_header(&resp, "X-Name", &value) == NULL);
    must(get(http, "/chunked", &resp, &err), &err);
    expect(&resp, 200, "abcdefg");
    assert(strstr(resp.headers.data, "100 Continue") == NULL);
    must(get(http, "/redirect", &resp, &err), &err);
    expect(&resp, 302, "");
    assert(atomic_load(&s.connections) == 1); /* kept, all the time */
    must(get(http, "/until-close", &resp, &err), &err);
    expect(&resp, 200, "all of it");
    lev_http_destroy(http);
    server_stop(&s);
}

static void
send_to(const char *path, struct lev_http *http, struct lev_http_request *req,
        struct lev_http_response *resp)
{
    struct lev_error err;

    req->path = path;
    must(lev_http_request(http, &forever, req, resp, &err), &err);
    assert(resp->status == 200);
}

static void
send_head(struct lev_http *http, struct lev_http_request *req,
          struct lev_http_response *resp)
{
    send_to("/head", http, req, resp);
}

static void
test_request_head(void)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "X-Registry-Auth: e30=", NULL};
    struct server s;
    struct lev_http *http;
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {0};

    server_start(&s, false);
    http = client(&s);
    send_head(http, &req, &resp);
    assert(strcmp(resp.body.data,
                  "GET /head HTTP/1.1\r\nHost: localhost\r\n"
                  "User-Agent: levrt\r\nAccept: */*\r\n\r\n") == 0);
    req.method = "POST";
    send_head(http, &req, &resp);
    assert(strstr(resp.body.data, "POST /head HTTP/1.1") == resp.body.data);
    assert(strstr(resp.body.data, "Content-Length: 0\r\n") != NULL);
    assert(strstr(resp.body.data, "Content-Type") == NULL);
    req = (struct lev_http_request){
        .method = "PUT", .headers = headers, .body = "{}", .body_len = 2};
    send_head(http, &req, &resp);
    assert(strstr(resp.body.data, "PUT /head HTTP/1.1") == resp.body.data);
    assert(strstr(resp.body.data, "Content-Type: application/json\r\n"));
    assert(strstr(resp.body.data, "X-Registry-Auth: e30=\r\n"));
    assert(strstr(resp.body.data, "form-urlencoded") == NULL);
    assert(strstr(resp.body.data, "Expect") == NULL);
    req = (struct lev_http_request){.method = "DELETE"};
    send_head(http, &req, &resp);
    assert(strstr(resp.body.data, "DELETE /head HTTP/1.1") == resp.body.data);
    req.method = "HEAD";
    send_head(http, &req, &resp);
    assert(resp.body.len == 0);
    assert(atomic_load(&s.connections) == 1);
    lev_http_destroy(http);
    server_stop(&s);
}

/* Head and body of `second` are the same after `first` as on a new client. */
static void
check_in_turn(const struct server *s, struct lev_http_request first,
              struct lev_http_request second)
{
    static const char *const paths[] = {"/head", "/echo"};

    for (size_t i = 0; i < LEV_ARRAY_LEN(paths); i++) {
        _cleanup_response_ struct lev_http_response alone = {0}, resp = {0};
        struct lev_http *fresh = client(s), *http = client(s);

        send_to(paths[i], fresh, &second, &alone);
        send_to(paths[i], http, &first, &resp);
        send_to(paths[i], http, &second, &resp);
        assert(resp.body.len == alone.body.len);
        assert(memcmp(lev_buf_text(&resp.body), lev_buf_text(&alone.body),
                      alone.body.len) == 0);
        lev_http_destroy(fresh);
        lev_http_destroy(http);
    }
}

/* What a handle is told for one request must not be seen in the next one. */
static void
test_requests_in_turn(void)
{
    static const char *const headers[] = {"Content-Type: text/x", "X-More: 1",
                                          NULL};
    _cleanup_close_ int fd = file_of(70000);
    const struct lev_http_request kinds[] = {
        {.method = NULL},
        {.method = "GET", .headers = headers},
        {.method = "HEAD"},
        {.method = "POST"},
        {.method = "POST", .body = "12345", .body_len = 5},
        {.method = "PUT", .body_fd = fd, .body_len = 70000},
        {.method = "PUT", .headers = headers, .body = "1", .body_len = 1},
        {.method = "DELETE"},
        {.method = "GET", .brief = true},
    };
    struct server s;

    server_start(&s, false);
    for (size_t i = 0; i < LEV_ARRAY_LEN(kinds); i++) {
        for (size_t k = 0; k < LEV_ARRAY_LEN(kinds); k++) {
            check_in_turn(&s, kinds[i], kinds[k]);
        }
    }
    server_stop(&s);
}

static void
test_bad_requests(void)
{
    static const char *const split[] = {"X: a\r\nY: b", NULL};
    struct server s;
    struct lev_http *http;
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.path = "/a b"};
    struct lev_error err;

    server_start(&s, false);
    http = client(&s);
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_INVALID, "HTTP path '/a b': byte 0x20 at 2");
    req.path = "/a\r\nX: y";
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_INVALID, "byte 0xd");
    req.path = "ok";
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_INVALID, "a path begins with '/' and has no '#'");
    req.path = "/ok#x";
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_INVALID, "has no '#'");
    req.path = "/ok";
    req.headers = split;
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_INVALID, "HTTP header");
    lev_http_destroy(http);
    server_stop(&s);
}

static void
test_bodies(bool tcp)
{
    const size_t len = 3 * 1024 * 1024 + 5;
    _cleanup_close_ int fd = file_of(len);
    _cleanup_response_ struct lev_http_response resp = {0};
    struct checker c = {0};
    struct lev_http_request req = {.method = "PUT",
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
    must(lev_http_request(http, &forever, &req, &resp, &err), &err);
    assert(resp.status == 200 && c.at == len && resp.body.len == 0);
    req.on_data = NULL;
    must(lev_http_request(http, &forever, &req, &resp, &err), &err);
    assert(resp.body.len == len);
    req.max_body = len - 1;
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_ENGINE, "body is larger than 3145732 bytes");
    req.on_data = check_data;
    c = (struct checker){.stop = 100000};
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_OS, "disk full");
    req.body_len = len + 1;
    c = (struct checker){0};
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_OS, "ends at 3145733 of 3145734 bytes");
    req.body = "small";
    req.body_len = 5;
    req.on_data = NULL;
    must(lev_http_request(http, &forever, &req, &resp, &err), &err);
    expect(&resp, 200, "small");
    lev_http_destroy(http);
    server_stop(&s);
}

/* What a 404 says is kept even when the data has a taker. */
static void
test_error_body_is_kept(void)
{
    struct checker c = {0};
    struct lev_http_request req = {
        .path = "/404", .on_data = check_data, .ctx = &c};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server s;
    struct lev_http *http;
    struct lev_error err;

    server_start(&s, false);
    http = client(&s);
    must(lev_http_request(http, &forever, &req, &resp, &err), &err);
    expect(&resp, 404, "{\"message\": \"no\"}");
    assert(c.at == 0);
    lev_http_destroy(http);
    server_stop(&s);
}

/* A proxy of the environment is not asked for what is on this machine. */
static void
test_no_proxy(bool tcp)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server s;
    struct lev_http *http;
    struct lev_error err;

    assert(setenv("http_proxy", "http://127.0.0.1:1", 1) == 0);
    server_start(&s, tcp);
    http = client(&s);
    must(get(http, "/ok", &resp, &err), &err);
    expect(&resp, 200, "hello\n");
    lev_http_destroy(http);
    server_stop(&s);
    assert(unsetenv("http_proxy") == 0);
}

static void
test_broken_answers(bool tcp)
{
    static const struct {
        const char *path, *text;
    } cases[] = {
        {"/nothing", "closed the connection without an answer"},
        {"/drop", "cut short"},
        {"/drop-chunk", "cut short"},
        {"/half-head", "cut short"},
        {"/garbage", "no HTTP"},
        {"/bad-chunk", "chunk"},
        {"/bad-length", "Content-Length"},
        {"/bomb", "headers are larger than 256 KiB"},
        {"/interim-bomb", "headers are larger than 256 KiB"},
        {"/endless", "body is larger than 67108864 bytes"},
    };
    struct server s;
    struct lev_http *http;

    server_start(&s, tcp);
    http = client(&s);
    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        _cleanup_response_ struct lev_http_response resp = {0};
        struct lev_error err = {0};

        if (get(http, cases[i].path, &resp, &err) == 0) {
            fprintf(stderr, "%s: %ld %zu\n", cases[i].path, resp.status,
                    resp.body.len);
            abort();
        }
        fails(&err, LEV_E_ENGINE, cases[i].text);
        /* And the client is still good for others. */
        must(get(http, "/ok", &resp, &err), &err);
        expect(&resp, 200, "hello\n");
    }
    lev_http_destroy(http);
    server_stop(&s);
}

int
main(void)
{
    for (int tcp = 0; tcp < 2; tcp++) {
        test_answers(tcp);
        test_bodies(tcp);
        test_broken_answers(tcp);
        test_no_proxy(tcp);
    }
    test_request_head();
    test_requests_in_turn();
    test_bad_requests();
    test_error_body_is_kept();
    return 0;
}
