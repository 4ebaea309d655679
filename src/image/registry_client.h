/* registry_client.h - one repository of one registry: requests with
 * authentication, redirects and patience.
 *
 * A client is shared by the threads that fetch one image. Credentials go to
 * the registry itself and to the token server it names, never to where it
 * redirects. A stream is one thread's.
 *
 * Errors: PULL, with the HTTP status as detail where there was one, naming the
 * registry and, from its JSON, its own words; NOT_FOUND for 404; ENGINE and
 * ENGINE_UNAVAILABLE for a connection that breaks or does not come about.
 */
#ifndef LEV_REGISTRY_CLIENT_H
#define LEV_REGISTRY_CLIENT_H

#include "buf.h"
#include "scope.h"

#include <sys/types.h>

struct lev_regclient;
struct lev_http_conn;
struct lev_http_transfer;

struct lev_regclient_config {
    const char *base;     /* "https://host:port"; "host:port": to be found
                           * out, which only a loopback registry needs */
    const char *registry; /* whose credentials are used, and for messages */
    const char *repository;
    const char *docker_config; /* as lev_credentials_find() has it */
    const char *ca_file;
    int64_t stall; /* nanoseconds without a byte; 0: 60 s */
};

struct lev_regclient *
lev_regclient_create(const struct lev_regclient_config *config,
                     const struct lev_scope *scope, struct lev_error *err);
void lev_regclient_destroy(struct lev_regclient *c); /* NULL is fine */

/* An answer, 200 or 206, whose body is read piece by piece. */
struct lev_regstream {
    struct lev_regclient *client;
    const struct lev_scope *scope;
    struct lev_http_conn *conn;
    struct lev_http_transfer *transfer;
    struct lev_buf in;
    size_t at; /* of `in`, what was handed on */
    long status;
};

/* GET /v2/<repository>/<path>. `accept`: the header's value or NULL. `from`:
 * the first byte wanted. */
int lev_regclient_open(struct lev_regclient *c, const struct lev_scope *scope,
                       const char *path, const char *accept, uint64_t from,
                       struct lev_regstream *s, struct lev_error *err);
/* As read(2). */
ssize_t lev_regstream_read(struct lev_regstream *s, void *buf, size_t len,
                           struct lev_error *err);
/* NULL when the answer does not have it. */
const char *lev_regstream_header(const struct lev_regstream *s,
                                 const char *name, struct lev_buf *out);
void lev_regstream_close(struct lev_regstream *s); /* again is fine */
#define _cleanup_regstream_ _cleanup_(lev_regstream_close)

/* All of it, at most `limit` bytes (else IMAGE). */
int lev_regstream_all(struct lev_regstream *s, size_t limit,
                      struct lev_buf *out, struct lev_error *err);

#endif
