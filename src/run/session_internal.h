/* session_internal.h - a session's members, for session.c, site.c, bundle.c,
 * watch.c. */
#ifndef LEV_SESSION_INTERNAL_H
#define LEV_SESSION_INTERNAL_H

#include "gate.h"
#include "owner.h"
#include "session.h"

struct lev_peer {
    char name[128], address[64];
    bool ended;
    struct lev_peer *next;
};

struct lev_left {
    enum lev_leftover kind;
    char *id, *name;
    struct lev_left *next;
};

struct lev_session {
    struct lev_session_config config; /* strings owned, but for `log` */
    char id[25];
    struct lev_owner owner; /* whose session it is */
    atomic_int refs;
    atomic_uint numbers;
    struct lev_pool *threads;
    /* Who opens engine or network, store, bundle: a daemon that does not
     * answer must not keep anybody from the store. */
    struct lev_gate site_gate, store_gate, bundle_gate;
    /* Under their gates; read without where the pointer is atomic. */
    struct lev_store *store;
    _Atomic(struct lev_store *) store_open;
    char *bundle;
    int bundle_lock; /* shared, while it is used; -1 */
    _Atomic(const char *) bundle_ready;
    /* Under the mutex. */
    pthread_mutex_t mutex;
    struct lev_site *sites;
    struct lev_peer *peers;
    char *dir;
    struct lev_helper *watch; /* NULL: not needed yet, or: */
    bool unwatched;           /* it does not start */
    struct lev_member *members;
    bool closing;
    struct lev_event quiet; /* closing, and no member is left */
};

int lev_random_hex(char *out, size_t digits, struct lev_error *err);
void lev_peers_free(struct lev_peer *p);
void lev_site_free_all(struct lev_site *sites);
/* False when something is left. */
bool lev_site_close(struct lev_site *site, const struct lev_scope *scope);

/* ---- watch.c ---- */

/* What this process leaves on the engine when it dies is seen to. */
void lev_session_watch(struct lev_session *s, struct lev_engine *e);
/* So is the session's directory, just made; with the mutex held. */
void lev_session_watch_dir(struct lev_session *s);
/* `clean`: nothing is left to remove. */
void lev_session_watch_end(struct lev_session *s, bool clean);

#endif
