/* session.h - what the runs of one job share: engines, store, networks, names.
 *
 * A session is one levrt.run(), or the first use in a program that has its own
 * loop. Nothing is contacted until a run needs it. Any thread may call; a run
 * holds a reference as long as it lives. Closing waits for the runs, retries
 * what could not be removed, and removes the networks.
 */
#ifndef LEV_SESSION_H
#define LEV_SESSION_H

#include "discover.h"
#include "engine.h"
#include "gc.h"
#include "images.h"
#include "store.h"
#include "worker.h"

struct lev_session;

struct lev_session_config {
    const char *job;      /* the workflow's name: "main" */
    const char *user;     /* who runs it */
    const char *store;    /* URL */
    const char *data_dir; /* where logs of containers are kept */
    const char *tool_registry;
    struct lev_discover discover; /* taken over */
    struct lev_log *log;          /* destroyed with the session */
    /* The command that builds the runtime bundle and prints its directory;
     * ends with NULL. */
    const char *const *bundle_argv;
    int64_t pull_stall, ready_timeout, grace; /* nanoseconds */
};

/* An engine as a session uses it. Lives as long as the session. */
struct lev_site {
    struct lev_session *session;
    struct lev_engine *engine;
    char *url; /* what was asked for, or NULL: the session's choice */
    _Atomic(char *) network; /* id of the session's; NULL until it is needed */
    /* A create has failed, which may have happened nevertheless: the engine is
     * asked, when the session closes, what carries the session's label. */
    atomic_bool unsure;
    atomic_bool keeps;        /* something is kept: its network stays */
    atomic_bool relay;        /* its containers cannot reach sockets of ours */
    struct lev_images images; /* what was seen of them */
    struct lev_left *left;    /* what could not be removed yet */
    unsigned number;          /* of the session's sites, from 0 */
    struct lev_site *next;
};

struct lev_session *lev_session_create(struct lev_session_config *config,
                                       struct lev_error *err);
struct lev_session *lev_session_ref(struct lev_session *s);
/* Also closes the store's reference with the last one. NULL is fine. */
void lev_session_unref(struct lev_session *s);

const struct lev_session_config *
lev_session_config(const struct lev_session *s);
const char *lev_session_id(const struct lev_session *s); /* 24 hex digits */
/* The next container's number: 1, 2, … */
unsigned lev_session_number(struct lev_session *s);
/* Of its runs: one that has ended has warmed a thread for the next one. */
struct lev_pool *lev_session_threads(struct lev_session *s);
/* A directory of this session, mode 0700, removed when it closes. */
const char *lev_session_dir(struct lev_session *s, struct lev_error *err);

/* Opened on first use; whoever comes meanwhile waits. `url` NULL: discover. */
struct lev_site *lev_session_site(struct lev_session *s,
                                  const struct lev_scope *scope,
                                  const char *url, struct lev_error *err);
/* Borrowed from the session. */
struct lev_store *lev_session_store(struct lev_session *s,
                                    const struct lev_scope *scope,
                                    struct lev_error *err);
/* The session's network on that engine, made on first use; its id. */
const char *lev_site_network(struct lev_site *site,
                             const struct lev_scope *scope,
                             struct lev_error *err);
/* A network of `hosts` addresses with a small subnet of its own; `role` goes
 * into its labels and name. Its id. */
char *lev_site_network_create(struct lev_site *site,
                              const struct lev_scope *scope, const char *role,
                              unsigned hosts, struct lev_error *err);
/* Labels "K=V" of everything that a session makes (owner.h), ending with NULL.
 * `role`: main, service, files, runtime, session, run-N. `needed`: for how
 * long at most, in nanoseconds, or 0 where nothing bounds that. Slow engines,
 * and clocks that differ, are given a day. */
char **lev_session_labels(const struct lev_session *s, const char *role,
                          int64_t needed, struct lev_error *err);
/* The runtime bundle's directory; built on first use, whoever comes meanwhile
 * waits. Borrowed. */
const char *lev_session_bundle(struct lev_session *s,
                               const struct lev_scope *scope,
                               struct lev_error *err);

/* What could not be removed: retried, with a bound, when the session closes.
 */
void lev_session_leave(struct lev_site *site, enum lev_leftover kind,
                       const char *id, const char *name,
                       const struct lev_error *why);

/* Finds and, unless `dry`, removes what dead sessions have left on an engine
 * (`url` NULL: the session's choice). Appends a document for each: engine,
 * kind, name, id, session, reason, removed, error. */
int lev_session_gc(struct lev_session *s, const struct lev_scope *scope,
                   const char *url, const struct lev_gc *gc, bool dry,
                   bson_t *out, struct lev_error *err);

/* The names and addresses of the session's runs, for links. */
void lev_session_peer_add(struct lev_session *s, const char *name,
                          const char *address);
void lev_session_peer_end(struct lev_session *s, const char *name);
/* 1: `host` names a live run, its address is in `address`; 0: it is none of
 * ours; -1: INVALID, that run has ended. */
int lev_session_peer_find(struct lev_session *s, const char *host,
                          char address[64], struct lev_error *err);

/* A run that has not ended, as its session knows it. */
struct lev_member {
    /* False when it has come to its end, and only takes leave. */
    bool (*stop)(struct lev_member *m, bool hurry);
    struct lev_member *next, **link;
};

void lev_session_join(struct lev_session *s, struct lev_member *m);
void lev_session_part(struct lev_session *s, struct lev_member *m);
/* Stops all members, with their grace or at once; how many had not ended. */
unsigned lev_session_stop(struct lev_session *s, bool hurry);
/* Stops what has not ended and waits for it, then removes what is left; what
 * still remains is logged by name. */
void lev_session_close(struct lev_session *s, const struct lev_scope *scope);

#endif
