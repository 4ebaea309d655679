#include "resolve.h"

#include "worker.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

/* Shared by the asker and the thread; the last one frees it. */
struct lookup {
    atomic_int refs;
    struct lev_event done;
    char *host;
    int rc;
    char address[64];
};

static void
lookup_unref(struct lookup *l)
{
    if (atomic_fetch_sub(&l->refs, 1) > 1) {
        return;
    }
    lev_event_deinit(&l->done);
    free(l->host);
    free(l);
}

static void
pick(struct lookup *l, const struct addrinfo *all)
{
    const struct addrinfo *best = all;

    for (const struct addrinfo *a = all; a != NULL; a = a->ai_next) {
        if (a->ai_family == AF_INET) {
            best = a;
            break;
        }
    }
    l->rc = getnameinfo(best->ai_addr, best->ai_addrlen, l->address,
                        sizeof(l->address), NULL, 0, NI_NUMERICHOST);
}

static void
lookup_main(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;

    l->rc = getaddrinfo(l->host, NULL, &hints, &all);
    if (l->rc == 0) {
        pick(l, all);
        freeaddrinfo(all);
    }
    lev_event_set(&l->done);
    lookup_unref(l);
}

static int
wait_for(const struct lev_scope *scope, struct lookup *l, char address[64],
         struct lev_error *err)
{
    if (lev_scope_wait(scope, &l->done, err) < 0) {
        return lev_error_wrap(err, "resolve %s", l->host);
    }
    if (l->rc != 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%s cannot be resolved: %s", l->host,
                             gai_strerror(l->rc));
    }
    memcpy(address, l->address, sizeof(l->address));
    return 0;
}

int
lev_resolve(const struct lev_scope *scope, const char *host, char address[64],
            struct lev_error *err)
{
    unsigned char parsed[sizeof(struct in6_addr)];
    struct lookup *l;
    int rc;

    if (inet_pton(AF_INET, host, parsed) == 1 ||
        inet_pton(AF_INET6, host, parsed) == 1)
    {
        snprintf(address, 64, "%s", host);
        return 0;
    }
    l = calloc(1, sizeof(*l));
    if (l == NULL || (l->host = strdup(host)) == NULL) {
        free(l);
        return lev_error_nomem(err, "resolver");
    }
    lev_event_init(&l->done);
    l->refs = 2;
    if (lev_thread_start("lev-resolve", lookup_main, l, err) < 0) {
        l->refs = 1;
        lookup_unref(l);
        return -1;
    }
    rc = wait_for(scope, l, address, err);
    lookup_unref(l);
    return rc;
}
