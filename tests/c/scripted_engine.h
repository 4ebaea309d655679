/* scripted_engine.h - an engine on a unix socket that says what a test tells
 * it to, for faults that no real one can be made to show.
 *
 * GET /version is answered by itself; for the rest a test sets an answer per
 * route. A route is the beginning of a request's first line, "POST
 * /v1.41/containers/create"; the one that was set last counts.
 */
#ifndef LEV_SCRIPTED_ENGINE_H
#define LEV_SCRIPTED_ENGINE_H

#include "engine.h"

struct scripted_answer {
    const char *status; /* "200 OK" */
    const char *body;   /* sent first, as one chunk */
    size_t body_len;    /* 0: it is a string */
    /* Sent every 50 ms, `times` times, -1: for ever. It may have a %d, which
     * counts up. */
    const char *again;
    int times;
    bool hold; /* then: stay silent until the client is gone, or it is cut */
    bool drop; /* then: close in the middle */
};

#define SCRIPTED_ROUTES 16

struct scripted_engine {
    char dir[64]; /* of the socket; also the docker configuration's */
    int fd;
    pthread_mutex_t mutex;
    struct {
        const char *route;
        struct scripted_answer answer;
        int requests;
        int held;               /* the last connection that is; -1: none */
    } routes[SCRIPTED_ROUTES];  /* mutex */
    size_t routes_n;            /* mutex */
    char last_request[4000];    /* the last one that was not GET /version */
    atomic_int requests, alive; /* likewise; connections */
};

void scripted_start(struct scripted_engine *s);
/* Waits until every connection is closed. */
void scripted_stop(struct scripted_engine *s);
struct lev_engine *scripted_open(struct scripted_engine *s);
/* Copies `answer`, but for its strings. */
void scripted_set(struct scripted_engine *s, const char *route,
                  const struct scripted_answer *answer);
/* Breaks the connection that is held for the route, once there is one. */
void scripted_cut(struct scripted_engine *s, const char *route);
/* Until that many requests have come. */
void scripted_wait(struct scripted_engine *s, int requests);
int scripted_count(struct scripted_engine *s, const char *route);

#endif
