/* http_test.h - what the tests of HTTP share: a client for the test's server,
 * and checks that tell what was there instead.
 */
#ifndef LEV_HTTP_TEST_H
#define LEV_HTTP_TEST_H

#include "http_server.h"

#include "http_internal.h"

#include <fcntl.h>

static const struct lev_scope forever = {.deadline = LEV_NEVER};

static inline struct lev_http *
client(const struct server *s)
{
    struct lev_http_config config = {
        .base_url = s->url[0] != '\0' ? s->url : NULL,
        .unix_socket = s->path[0] != '\0' ? s->path : NULL};
    struct lev_error err;
    struct lev_http *http = lev_http_create(&config, &err);

    assert(http != NULL);
    return http;
}

static inline int
get(struct lev_http *http, const char *path, struct lev_http_response *resp,
    struct lev_error *err)
{
    struct lev_http_request req = {.path = path};

    return lev_http_request(http, &forever, &req, resp, err);
}

/* For what has to work: tells why it did not. */
static inline void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static inline void
expect(const struct lev_http_response *resp, long status, const char *body)
{
    assert(resp->status == status);
    if (strcmp(lev_buf_text(&resp->body), body) != 0) {
        fprintf(stderr, "'%s' is not '%s'\n", resp->body.data, body);
        abort();
    }
}

static inline void
fails(struct lev_error *err, enum lev_errcode code, const char *text)
{
    if (err->code != code || strstr(err->msg, text) == NULL) {
        fprintf(stderr, "%d '%s', expected %d '%s'\n", err->code, err->msg,
                code, text);
        abort();
    }
    *err = (struct lev_error){0};
}

/* A file of `len` bytes that tell where they are. */
static inline int
file_of(size_t len)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    assert(fd >= 0);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = i;

        assert(pwrite(fd, &v, len - i < 8 ? len - i : 8, (off_t)i) > 0);
    }
    return fd;
}

struct checker {
    size_t at;
    size_t stop; /* fail there; 0: never */
};

static inline int
check_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct checker *c = ctx;

    for (size_t i = 0; i < len; i++, c->at++) {
        uint64_t v = c->at & ~UINT64_C(7);

        assert(data[i] == ((char *)&v)[c->at & 7]);
    }
    if (c->stop > 0 && c->at >= c->stop) {
        return lev_error_set(err, LEV_E_OS, 28, "disk full");
    }
    return 0;
}

#endif
