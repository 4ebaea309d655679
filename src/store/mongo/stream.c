#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "apart.h"
#include "mongo.h"

/* None of the driver's own types. */
#define STREAM_TYPE 100

/* Plain bytes of a connection. All waiting is within the scope of the call
 * that its lease is in. A wait that the scope has ended is told to the driver
 * as a timeout: it takes an error of the network for the server's death, and
 * would give up the connections of all others. */
struct stream {
    mongoc_stream_t base; /* first */
    struct lev_mongo_lease *lease;
    int fd;
    bool timed_out;
};

static struct stream *
stream_of(mongoc_stream_t *base)
{
    return (struct stream *)base;
}

/* Milliseconds below 0: the driver's "for long". */
static struct lev_scope
scope_of(const struct lev_mongo_lease *lease, int32_t ms)
{
    return ms < 0 ? lease->scope
                  : lev_scope_within(&lease->scope, ms * LEV_MS);
}

static int
stream_wait(struct stream *s, short events, const struct lev_scope *scope)
{
    struct pollfd p = {.fd = s->fd, .events = events};
    struct lev_error err;

    if (lev_scope_poll(scope, &p, 1, &err) > 0) {
        return 0;
    }
    s->timed_out = true;
    errno = ETIMEDOUT;
    return -1;
}

static int
stream_close(mongoc_stream_t *base)
{
    struct stream *s = stream_of(base);
    int fd = s->fd;

    s->fd = -1;
    return fd < 0 ? 0 : close(fd);
}

static void
stream_destroy(mongoc_stream_t *base)
{
    stream_close(base);
    bson_free(base);
}

static int
stream_flush(mongoc_stream_t *base)
{
    return 0;
}

static ssize_t
write_all(struct stream *s, const char *data, size_t len,
          const struct lev_scope *scope)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = send(s->fd, data + done, len - done, MSG_NOSIGNAL);

        if (n >= 0) {
            done += (size_t)n;
        }
        else if (errno == EAGAIN) {
            if (stream_wait(s, POLLOUT, scope) < 0) {
                return -1;
            }
        }
        else if (errno != EINTR) {
            return -1;
        }
    }
    return (ssize_t)done;
}

static ssize_t
stream_writev(mongoc_stream_t *base, mongoc_iovec_t *iov, size_t n, int32_t ms)
{
    struct stream *s = stream_of(base);
    struct lev_scope scope = scope_of(s->lease, ms);
    ssize_t done = 0;

    s->timed_out = false;
    for (size_t i = 0; i < n; i++) {
        ssize_t rc = write_all(s, iov[i].iov_base, iov[i].iov_len, &scope);

        if (rc < 0) {
            return -1;
        }
        done += rc;
    }
    return done;
}

/* At least `min` bytes, at most `len`; fewer or -1 at the end. */
static ssize_t
read_some(struct stream *s, char *data, size_t len, size_t min,
          const struct lev_scope *scope)
{
    size_t done = 0;

    do {
        ssize_t n = recv(s->fd, data + done, len - done, 0);

        if (n > 0) {
            done += (size_t)n;
        }
        else if (n == 0 && len > 0) {
            errno = ECONNRESET;
            return -1;
        }
        else if (n < 0 && errno == EAGAIN) {
            if (done >= min) {
                break;
            }
            if (stream_wait(s, POLLIN, scope) < 0) {
                return -1;
            }
        }
        else if (n < 0 && errno != EINTR) {
            return -1;
        }
    } while (done < min);
    return (ssize_t)done;
}

static ssize_t
stream_readv(mongoc_stream_t *base, mongoc_iovec_t *iov, size_t n, size_t min,
             int32_t ms)
{
    struct stream *s = stream_of(base);
    struct lev_scope scope = scope_of(s->lease, ms);
    size_t done = 0;

    s->timed_out = false;
    for (size_t i = 0; i < n && (i == 0 || done < min); i++) {
        size_t len = iov[i].iov_len, left = min - done;
        ssize_t rc = read_some(s, iov[i].iov_base, len,
                               left < len ? left : len, &scope);

        if (rc < 0) {
            return -1;
        }
        done += (size_t)rc;
    }
    return (ssize_t)done;
}

static int
stream_setsockopt(mongoc_stream_t *base, int level, int name, void *value,
                  mongoc_socklen_t len)
{
    return setsockopt(stream_of(base)->fd, level, name, value, len);
}

static bool
stream_check_closed(mongoc_stream_t *base)
{
    char byte;
    ssize_t n = recv(stream_of(base)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static ssize_t
stream_poll(mongoc_stream_poll_t *streams, size_t n, int32_t ms)
{
    struct stream *first = stream_of(streams[0].stream);
    struct lev_scope scope = scope_of(first->lease, ms);
    struct pollfd fds[8] = {{0}};
    struct lev_error err;
    int rc;

    n = n < LEV_ARRAY_LEN(fds) ? n : LEV_ARRAY_LEN(fds);
    for (size_t i = 0; i < n; i++) {
        fds[i].fd = stream_of(streams[i].stream)->fd;
        fds[i].events = (short)streams[i].events;
    }
    rc = lev_scope_poll(&scope, fds, n, &err);
    for (size_t i = 0; i < n; i++) {
        streams[i].revents = fds[i].revents;
    }
    first->timed_out = rc < 0;
    return rc < 0 ? 0 : rc;
}

static bool
stream_timed_out(mongoc_stream_t *base)
{
    return stream_of(base)->timed_out;
}

static bool
stream_should_retry(mongoc_stream_t *base)
{
    return false; /* what can be waited for was waited for */
}

static struct stream *
stream_create(struct lev_mongo_lease *lease, int fd)
{
    struct stream *s = bson_malloc0(sizeof(*s));

    s->base = (mongoc_stream_t){
        .type = STREAM_TYPE,
        .destroy = stream_destroy,
        .close = stream_close,
        .flush = stream_flush,
        .writev = stream_writev,
        .readv = stream_readv,
        .setsockopt = stream_setsockopt,
        .check_closed = stream_check_closed,
        .poll = stream_poll,
        .timed_out = stream_timed_out,
        .should_retry = stream_should_retry,
    };
    s->lease = lease;
    s->fd = fd;
    return s;
}

/* Names. */

struct lookup {
    char host[NI_MAXHOST], port[8];
    int flags, rc;
    struct addrinfo *found;
};

static void
lookup_run(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = l->flags};

    l->rc = getaddrinfo(l->host, l->port, &hints, &l->found);
}

static void
lookup_drop(void *arg)
{
    struct lookup *l = arg;

    if (l->found != NULL) {
        freeaddrinfo(l->found);
    }
    free(l);
}

static inline void
lookup_dropp(struct lookup **l)
{
    if (*l != NULL) {
        lookup_drop(*l);
    }
}
#define _cleanup_lookup_ _cleanup_(lookup_dropp)

/* The addresses of a host; an address in figures needs no resolver. */
static struct lookup *
look_up(const mongoc_host_list_t *host, const struct lev_scope *scope,
        struct lev_error *err)
{
    struct lookup *l = calloc(1, sizeof(*l));

    if (l == NULL) {
        lev_error_nomem(err, "address");
        return NULL;
    }
    snprintf(l->host, sizeof(l->host), "%s", host->host);
    snprintf(l->port, sizeof(l->port), "%u", host->port);
    l->flags = AI_NUMERICHOST | AI_NUMERICSERV;
    lookup_run(l);
    if (l->rc == EAI_NONAME) {
        l->flags = AI_NUMERICSERV | AI_ADDRCONFIG;
        if (lev_mongo_apart(lookup_run, lookup_drop, l, scope, err) < 0) {
            return NULL;
        }
    }
    if (l->rc != 0) {
        lev_error_set(err, LEV_E_STORE_UNAVAILABLE, 0, "%s: %s", host->host,
                      gai_strerror(l->rc));
        lookup_drop(l);
        return NULL;
    }
    return l;
}

/* Connections. */

static int
finish_connect(int fd, const struct lev_scope *scope, struct lev_error *err)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int failure = 0;
    socklen_t len = sizeof(failure);

    if (lev_scope_poll(scope, &p, 1, err) < 0) {
        return -1;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len);
    if (failure != 0) {
        errno = failure;
        return lev_error_errno(err, "connect");
    }
    return 0;
}

static int
connect_to(int family, const struct sockaddr *address, socklen_t len,
           const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_close_ int fd =
        socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd < 0) {
        return lev_error_errno(err, "socket");
    }
    if (family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (connect(fd, address, len) < 0) {
        if (errno != EINPROGRESS) {
            return lev_error_errno(err, "connect");
        }
        if (finish_connect(fd, scope, err) < 0) {
            return -1;
        }
    }
    return lev_steal_fd(&fd);
}

static int
connect_unix(const char *path, const struct lev_scope *scope,
             struct lev_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%s: a socket's path has less than %zu bytes",
                             path, sizeof(address.sun_path));
    }
    strcpy(address.sun_path, path);
    return connect_to(AF_UNIX, (struct sockaddr *)&address, sizeof(address),
                      scope, err);
}

static int
connect_host(const mongoc_host_list_t *host, const struct lev_scope *scope,
             struct lev_error *err)
{
    _cleanup_lookup_ struct lookup *l = NULL;
    int fd = -1;

    if (host->family == AF_UNIX) {
        return connect_unix(host->host, scope, err);
    }
    l = look_up(host, scope, err);
    if (l == NULL) {
        return -1;
    }
    for (struct addrinfo *a = l->found; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen, scope, err);
    }
    return fd;
}

mongoc_stream_t *
lev_mongo_stream(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                 void *user_data, bson_error_t *error)
{
    struct lev_mongo_lease *lease = user_data;
    int32_t ms =
        mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, 2000);
    struct lev_scope scope = scope_of(lease, ms);
    mongoc_stream_t *stream;
    struct lev_error err;
    int fd = connect_host(host, &scope, &err);

    if (fd < 0) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT,
                       "%s: %s", host->host_and_port, err.msg);
        return NULL;
    }
    stream = &stream_create(lease, fd)->base;
    if (mongoc_uri_get_tls(uri)) {
        stream = lev_mongo_tls(stream, uri, host, ms, error);
    }
    return stream == NULL ? NULL : mongoc_stream_buffered_new(stream, 1024);
}
