/* http.h - HTTP/1.1 to one endpoint, by libcurl.
 *
 * A client (`struct lev_http`) is shared by all threads. It keeps idle
 * connections: whoever needs to talk takes a `struct lev_http_conn` (a curl
 * multi handle with its own connection cache), is its only user until it gives
 * it back, and so reuses what is connected already. lev_http_request() does
 * the taking and giving by itself.
 *
 * Long answers (attach, wait, events) are transfers: several of them run on
 * one conn, driven by lev_http_conn_poll(), which also watches descriptors of
 * the caller, so that one thread serves a whole run.
 */
#ifndef LEV_HTTP_H
#define LEV_HTTP_H

#include "buf.h"
#include "scope.h"

#include <sys/types.h>

struct lev_http;
struct lev_http_conn;
struct lev_http_transfer;
struct lev_http_stream;

struct lev_http_config {
    const char *base_url;    /* "http://host:port", "https://…" */
    const char *unix_socket; /* a path; then base_url (or NULL) names the host
                              * that the requests are addressed to */
    const char *user_agent;  /* NULL: "levrt" */
    int64_t connect_timeout; /* nanoseconds; 0: 10 s */
    /* TLS: PEM files or NULL; `insecure` skips the verification. */
    const char *ca_file, *cert_file, *key_file;
    bool insecure;
};

struct lev_http_request {
    const char *method; /* NULL: GET */
    const char *path;   /* begins with '/', query included, already encoded */
    const char *const *headers; /* "Name: value", ends with NULL; or NULL */
    /* The body: memory, or `body_len` bytes of the file `body_fd` from its
     * start (read with pread), when `body` is NULL and body_len > 0. Borrowed
     * until the transfer ends. */
    const void *body;
    int body_fd;
    uint64_t body_len;
    /* Called with each piece of a 2xx answer's body instead of keeping it; -1
     * with `err` set ends the transfer with that error. Runs on the thread
     * that drives the transfer; it must not use the conn. */
    int (*on_data)(void *ctx, const char *data, size_t len,
                   struct lev_error *err);
    void *ctx;
    size_t max_body; /* of a kept body; 0: 64 MiB; more is an error */
    bool brief;      /* a short answer is expected, perhaps after hours: hold
                      * little memory meanwhile */
};

struct lev_http_response {
    long status;
    struct lev_buf body;    /* what on_data did not take */
    struct lev_buf headers; /* of the final answer, as received */
};

/* Errors of all functions: ENGINE_UNAVAILABLE when the endpoint cannot be
 * reached (detail: errno or 0; the message names socket or host and the
 * reason), ENGINE for a broken answer, CANCELLED and TIMEOUT by the scope. A
 * status outside 2xx is no error here. */
struct lev_http *lev_http_create(const struct lev_http_config *config,
                                 struct lev_error *err);
void lev_http_destroy(struct lev_http *http); /* all conns are given back */
const char *lev_http_name(const struct lev_http *http); /* for messages */

void lev_http_response_deinit(struct lev_http_response *resp);
#define _cleanup_response_ _cleanup_(lev_http_response_deinit)
/* Looks a header up without regard to case; NULL when absent. The value goes
 * into `out`, replacing what was there. */
const char *lev_http_header(const struct lev_http_response *resp,
                            const char *name, struct lev_buf *out);

/* One request and its whole answer, on an idle connection or a new one. What
 * `*resp` (zeroed before its first use) held is freed on success. A
 * request that found its kept connection closed by the peer before any byte of
 * an answer is sent once more on a new one (libcurl does that). */
int lev_http_request(struct lev_http *http, const struct lev_scope *scope,
                     const struct lev_http_request *req,
                     struct lev_http_response *resp, struct lev_error *err);

/* From any thread; the conn is then that thread's. */
struct lev_http_conn *lev_http_conn_take(struct lev_http *http,
                                         struct lev_error *err);
/* Ends its transfers; NULL is fine. */
void lev_http_conn_give(struct lev_http_conn *conn);
/* As lev_http_request(), on this conn. Other transfers of it go on. */
int lev_http_conn_request(struct lev_http_conn *conn,
                          const struct lev_scope *scope,
                          const struct lev_http_request *req,
                          struct lev_http_response *resp,
                          struct lev_error *err);

/* Begins a transfer; `req` and what it points to may go when this returns, but
 * for `body`, `body_fd` and `ctx`. Nothing is sent before the conn is polled.
 */
struct lev_http_transfer *
lev_http_transfer_start(struct lev_http_conn *conn,
                        const struct lev_http_request *req,
                        struct lev_error *err);
/* Ends it wherever it is; NULL is fine. */
void lev_http_transfer_end(struct lev_http_transfer *t);
long lev_http_transfer_status(const struct lev_http_transfer *t); /* or 0 */
/* 1 when the answer is complete, 0 while it is not, -1 when it broke off. */
int lev_http_transfer_done(const struct lev_http_transfer *t,
                           struct lev_error *err);
/* What on_data did not take so far; valid until the next poll. */
const struct lev_http_response *
lev_http_transfer_response(const struct lev_http_transfer *t);

/* Drives the conn's transfers until one of them got headers, delivered data
 * or ended, or one of the `n` descriptors (at most 15) is ready (their
 * `revents` are set, 0 where nothing happened). Returns 0, or -1 only by the
 * scope or a failure of the machinery; a transfer's own failure is its own. */
int lev_http_conn_poll(struct lev_http_conn *conn,
                       const struct lev_scope *scope, struct pollfd *fds,
                       size_t n, struct lev_error *err);

/* A connection for both directions after an Upgrade (101) or a plain 200 of
 * an endpoint that hijacks (Docker's attach and exec/start). `*resp` holds
 * status and headers, and the body when the answer is neither; then the result
 * is NULL with ENGINE and the status as detail. The request's body comes from
 * memory. A stream is one thread's at a time. */
struct lev_http_stream *
lev_http_stream_open(struct lev_http *http, const struct lev_scope *scope,
                     const struct lev_http_request *req,
                     struct lev_http_response *resp, struct lev_error *err);
void lev_http_stream_close(struct lev_http_stream *s); /* NULL is fine */
/* To poll, but only after a recv that gave -2: bytes that came with the head
 * or lie decrypted in the TLS library do not make it readable. */
int lev_http_stream_fd(const struct lev_http_stream *s);
/* What is there now: bytes read, 0 at the end, -1 error, -2 nothing yet. */
ssize_t lev_http_stream_recv(struct lev_http_stream *s, void *buf, size_t len,
                             struct lev_error *err);
/* As much as can be sent now: bytes sent, -1 error, -2 none (poll POLLOUT).
 * For a caller that must go on receiving meanwhile: a peer that answers while
 * it reads stops reading when nobody takes its answer. */
ssize_t lev_http_stream_try_send(struct lev_http_stream *s, const void *data,
                                 size_t len, struct lev_error *err);
/* All of it, waiting as the scope allows. */
int lev_http_stream_send(struct lev_http_stream *s,
                         const struct lev_scope *scope, const void *data,
                         size_t len, struct lev_error *err);

#endif
