/* http_internal.h - what http.c, http_transfer.c and http_stream.c share.
 *
 * A conn is one curl multi handle with its transfers, each an easy handle in
 * it. Only the thread that took the conn touches either; the client's mutex
 * guards the list of idle conns and nothing else.
 */
#ifndef LEV_HTTP_INTERNAL_H
#define LEV_HTTP_INTERNAL_H

#include "http.h"

#include <curl/curl.h>

#define LEV_HTTP_MAX_HEADERS (256u * 1024)
/* A run's conn has two transfers at once. */
#define LEV_HTTP_SPARE 2
#define LEV_HTTP_MAX_BODY (64u * 1024 * 1024)

struct lev_http {
    char *base_url, *unix_socket, *user_agent;
    char *ca_file, *cert_file, *key_file;
    char *name; /* for messages */
    int64_t connect_timeout;
    bool insecure;
    bool direct; /* never through a proxy */
    bool bare;   /* direct, and there is no path in base_url */
    pthread_mutex_t mutex;
    struct lev_http_conn *idle; /* the last one used comes first */
    unsigned n_idle;
    struct curl_slist *headers; /* of a request without any; does not change */
};

struct lev_http_conn {
    struct lev_http *http;
    struct lev_http_conn *next; /* while idle */
    CURLM *multi;
    struct lev_http_transfer *spare; /* ended ones, to use again */
    unsigned n_spare;
    struct lev_http_transfer *transfers;
    const struct lev_scope *scope; /* of the poll that runs */
    bool begun;                    /* a transfer has, which libcurl must see */
    bool progress;                 /* a transfer did something to return for */
    unsigned long wakeups;         /* of lev_http_conn_poll() so far */
};

enum lev_http_state { LEV_HTTP_RUNNING, LEV_HTTP_DONE, LEV_HTTP_FAILED };

struct lev_http_transfer {
    struct lev_http_conn *conn;
    struct lev_http_transfer *next, **link;
    CURL *easy; /* with what is the same for all requests set already */
    struct curl_slist *headers; /* its own; NULL: the client's */
    int (*on_data)(void *ctx, const char *data, size_t len,
                   struct lev_error *err);
    void *ctx;
    size_t max_body;
    int body_fd;
    uint64_t body_len, body_off;
    size_t header_bytes; /* of all answers, interim ones included */
    int64_t give_up;     /* waiting for room in the backlog; 0: not begun */
    bool connect_only, retried;
    bool again; /* on a connection of its own */
    enum lev_http_state state;
    struct lev_http_response resp;
    struct lev_error err; /* a callback's, then the transfer's */
    char detail[CURL_ERROR_SIZE];
};

/* http_transfer.c */

const char *lev_http_method(const struct lev_http_request *req);
/* INVALID when a part of `req` cannot stand in a request's head. */
int lev_http_request_check(const struct lev_http_request *req,
                           struct lev_error *err);
/* With `connect_only` nothing is sent; the connection is the caller's. */
struct lev_http_transfer *
lev_http_transfer_begin(struct lev_http_conn *conn,
                        const struct lev_http_request *req, bool connect_only,
                        struct lev_error *err);
/* Frees what a conn kept of ended transfers. */
void lev_http_transfer_free_spare(struct lev_http_conn *conn);
/* What libcurl sends by itself and an engine has no use for. */
struct curl_slist *lev_http_own_headers(bool typed);
/* libcurl has ended it with `rc`. */
void lev_http_transfer_finish(struct lev_http_transfer *t, CURLcode rc);
/* Looks a header up in a head as received; the value without blanks around
 * it, or NULL. */
const char *lev_http_find_header(const char *head, const char *name,
                                 size_t *len);

#endif
