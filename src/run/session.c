#include "session.h"

#include "gate.h"
#include "runlog.h"
#include "session_internal.h"
#include "utf8.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define DESCRIPTORS 65536
#define EXPIRY_SLACK (24 * 3600) /* seconds */

static void
free_config(struct lev_session_config *c)
{
    free((char *)c->job);
    free((char *)c->user);
    free((char *)c->store);
    free((char *)c->data_dir);
    free((char *)c->tool_registry);
    lev_strv_free((char **)c->bundle_argv);
    lev_discover_deinit(&c->discover);
}

/* `from`'s strings are the caller's, the discovery is taken over. */
static int
copy_config(struct lev_session_config *to,
            const struct lev_session_config *from, struct lev_error *err)
{
    *to = *from;
    to->job = strdup(from->job);
    to->user = strdup(from->user);
    to->store = strdup(from->store);
    to->data_dir = strdup(from->data_dir);
    to->tool_registry = strdup(from->tool_registry);
    to->bundle_argv = (const char *const *)lev_strv_copy(from->bundle_argv);
    if (to->job == NULL || to->user == NULL || to->store == NULL ||
        to->data_dir == NULL || to->tool_registry == NULL ||
        to->bundle_argv == NULL)
    {
        return lev_error_nomem(err, "session");
    }
    return 0;
}

int
lev_random_hex(char *out, size_t digits, struct lev_error *err)
{
    unsigned char bytes[32];

    if (getrandom(bytes, digits / 2, 0) != (ssize_t)(digits / 2)) {
        return lev_error_errno(err, "getrandom");
    }
    for (size_t i = 0; i < digits / 2; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
    return 0;
}

/* A run holds some seven descriptors, and 1,024 is still a common soft limit.
 * The hard one says what the process may have; nothing here uses select(). */
static void
raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < DESCRIPTORS && limit.rlim_cur < limit.rlim_max)
    {
        limit.rlim_cur =
            limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct lev_session *
lev_session_create(struct lev_session_config *config, struct lev_error *err)
{
    struct lev_session *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        lev_error_nomem(err, "session");
        return NULL;
    }
    raise_descriptors();
    s->refs = 1;
    s->bundle_lock = -1;
    pthread_mutex_init(&s->mutex, NULL);
    lev_event_init(&s->quiet);
    lev_gate_init(&s->site_gate);
    lev_gate_init(&s->store_gate);
    lev_gate_init(&s->bundle_gate);
    lev_owner_self(&s->owner);
    s->threads = lev_pool_create(0, err);
    if (s->threads == NULL || copy_config(&s->config, config, err) < 0 ||
        lev_random_hex(s->id, sizeof(s->id) - 1, err) < 0)
    {
        lev_session_unref(s);
        return NULL;
    }
    return s;
}

struct lev_session *
lev_session_ref(struct lev_session *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

static void
remove_dir(struct lev_session *s)
{
    char *dir;

    pthread_mutex_lock(&s->mutex);
    dir = lev_steal(s->dir);
    pthread_mutex_unlock(&s->mutex);
    if (dir != NULL) {
        rmdir(dir);
        free(dir);
    }
}

void
lev_session_unref(struct lev_session *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1) {
        return;
    }
    /* In a forked child the threads of store and engine do not exist, and what
     * the parent uses is not the child's to close. */
    if (s->owner.pid != getpid()) {
        return;
    }
    lev_site_free_all(s->sites);
    lev_peers_free(s->peers);
    lev_store_unref(s->store);
    remove_dir(s);
    /* A run's thread may have had the last reference. */
    lev_pool_leave(s->threads);
    free(s->bundle);
    lev_closep(&s->bundle_lock);
    if (s->config.log != NULL && s->config.log->destroy != NULL) {
        s->config.log->destroy(s->config.log);
    }
    free_config(&s->config);
    lev_gate_deinit(&s->bundle_gate);
    lev_gate_deinit(&s->store_gate);
    lev_gate_deinit(&s->site_gate);
    lev_event_deinit(&s->quiet);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

const struct lev_session_config *
lev_session_config(const struct lev_session *s)
{
    return &s->config;
}

struct lev_pool *
lev_session_threads(struct lev_session *s)
{
    return s->threads;
}

const char *
lev_session_id(const struct lev_session *s)
{
    return s->id;
}

unsigned
lev_session_number(struct lev_session *s)
{
    return atomic_fetch_add(&s->numbers, 1) + 1;
}

/* Sockets have short paths: the runtime directory of the user, else /tmp. */
static char *
make_dir(const char *base, const char *id)
{
    char *dir = NULL;

    if (asprintf(&dir, "%s/levrt-%.12s", base, id) < 0) {
        errno = ENOMEM;
        return NULL;
    }
    if (mkdir(dir, 0700) < 0) {
        free(dir);
        return NULL;
    }
    return dir;
}

const char *
lev_session_dir(struct lev_session *s, struct lev_error *err)
{
    const char *base = s->config.discover.runtime_dir;
    char *dir;

    pthread_mutex_lock(&s->mutex);
    if (s->dir != NULL) {
        dir = s->dir;
        pthread_mutex_unlock(&s->mutex);
        return dir;
    }
    if (base != NULL && strlen(base) < 60) {
        s->dir = make_dir(base, s->id);
    }
    if (s->dir == NULL) {
        s->dir = make_dir("/tmp", s->id);
    }
    if (s->dir == NULL) {
        lev_error_errno(err, "make the session's directory in /tmp");
    }
    else {
        lev_session_watch_dir(s);
    }
    dir = s->dir;
    pthread_mutex_unlock(&s->mutex);
    return dir;
}

struct lev_store *
lev_session_store(struct lev_session *s, const struct lev_scope *scope,
                  struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *gate = NULL;
    struct lev_store *store = atomic_load(&s->store_open);

    if (store != NULL) {
        return store;
    }
    if (lev_gate_enter(&s->store_gate, scope, err) < 0) {
        return NULL;
    }
    gate = &s->store_gate;
    if (s->store == NULL) {
        s->store = lev_store_open(s->config.store, scope, err);
        atomic_store(&s->store_open, s->store);
    }
    return s->store;
}

char **
lev_session_labels(const struct lev_session *s, const char *role,
                   int64_t needed, struct lev_error *err)
{
    _cleanup_words_ struct lev_words labels = {0};
    char pid[64];

    lev_owner_pid_text(&s->owner, pid);
    lev_words_printf(&labels, LEV_LABEL_SESSION "=%s", s->id);
    lev_words_printf(&labels, "zone.lev.job=%.100s", s->config.job);
    lev_words_printf(&labels, LEV_LABEL_PID "=%s", pid);
    lev_words_printf(&labels, LEV_LABEL_BOOT "=%s", s->owner.boot);
    lev_words_printf(&labels, LEV_LABEL_HOST "=%s", s->owner.host);
    lev_words_printf(&labels, LEV_LABEL_ROLE "=%s", role);
    if (needed > 0) {
        lev_words_printf(
            &labels, LEV_LABEL_EXPIRES "=%lld",
            (long long)(time(NULL) + needed / LEV_SECOND + EXPIRY_SLACK));
    }
    if (labels.failed) {
        lev_error_nomem(err, "labels");
        return NULL;
    }
    for (size_t i = 0; i < labels.n; i++) {
        lev_utf8_mend(labels.v[i]); /* a long job's name was cut */
    }
    return lev_steal(labels.v);
}

void
lev_session_join(struct lev_session *s, struct lev_member *m)
{
    pthread_mutex_lock(&s->mutex);
    m->next = s->members;
    m->link = &s->members;
    if (m->next != NULL) {
        m->next->link = &m->next;
    }
    s->members = m;
    pthread_mutex_unlock(&s->mutex);
}

void
lev_session_part(struct lev_session *s, struct lev_member *m)
{
    pthread_mutex_lock(&s->mutex);
    *m->link = m->next;
    if (m->next != NULL) {
        m->next->link = m->link;
    }
    if (s->members == NULL && s->closing) {
        lev_event_set(&s->quiet);
    }
    pthread_mutex_unlock(&s->mutex);
}

unsigned
lev_session_stop(struct lev_session *s, bool hurry)
{
    unsigned n = 0;

    if (s->owner.pid != getpid()) {
        return 0;
    }
    pthread_mutex_lock(&s->mutex);
    for (struct lev_member *m = s->members; m != NULL; m = m->next) {
        n += m->stop(m, hurry);
    }
    pthread_mutex_unlock(&s->mutex);
    return n;
}

void
lev_session_close(struct lev_session *s, const struct lev_scope *scope)
{
    unsigned n = lev_session_stop(s, false);
    _cleanup_free_ char *logs = NULL;
    struct lev_error err;
    bool clean = true;

    /* Runs, networks and directory are the parent's. */
    if (s->owner.pid != getpid()) {
        return;
    }
    if (n > 0) {
        lev_log(s->config.log, LEV_WARNING, "lev",
                "the session ends: %u run%s stopped", n,
                n == 1 ? " is" : "s are");
    }
    pthread_mutex_lock(&s->mutex);
    s->closing = true;
    if (s->members == NULL) {
        lev_event_set(&s->quiet);
    }
    pthread_mutex_unlock(&s->mutex);
    if (lev_scope_wait(scope, &s->quiet, &err) < 0) {
        lev_log(s->config.log, LEV_ERROR, "lev",
                "not all runs have ended when the session closes: %s",
                err.msg);
        clean = false;
    }
    for (struct lev_site *site = s->sites; site != NULL; site = site->next) {
        clean &= lev_site_close(site, scope);
    }
    lev_closep(&s->bundle_lock);
    /* Not only with the last reference: a program may keep tasks and documents
     * for as long as it likes. */
    remove_dir(s);
    lev_session_watch_end(s, clean);
    if (asprintf(&logs, "%s/logs", s->config.data_dir) < 0) {
        logs = NULL;
        return; /* the next session's turn */
    }
    lev_runlog_sweep(logs, LEV_RUNLOG_TOTAL);
}

/* Peers: few per session, and each is looked up only for links. */

void
lev_peers_free(struct lev_peer *p)
{
    while (p != NULL) {
        struct lev_peer *next = p->next;

        free(p);
        p = next;
    }
}

void
lev_session_peer_add(struct lev_session *s, const char *name,
                     const char *address)
{
    struct lev_peer *p, **from;

    pthread_mutex_lock(&s->mutex);
    /* The engine gives addresses of ended containers to new ones. */
    for (from = &s->peers; *from != NULL; from = &(*from)->next) {
        if (address[0] != '\0' && strcmp((*from)->address, address) == 0) {
            break;
        }
    }
    p = *from;
    if (p == NULL) {
        p = calloc(1, sizeof(*p));
        if (p != NULL) {
            p->next = s->peers;
            s->peers = p;
        }
    }
    if (p != NULL) {
        snprintf(p->name, sizeof(p->name), "%s", name);
        snprintf(p->address, sizeof(p->address), "%s", address);
        p->ended = false;
    }
    pthread_mutex_unlock(&s->mutex);
}

void
lev_session_peer_end(struct lev_session *s, const char *name)
{
    pthread_mutex_lock(&s->mutex);
    for (struct lev_peer *p = s->peers; p != NULL; p = p->next) {
        if (strcmp(p->name, name) == 0) {
            p->ended = true;
        }
    }
    pthread_mutex_unlock(&s->mutex);
}

int
lev_session_peer_find(struct lev_session *s, const char *host,
                      char address[64], struct lev_error *err)
{
    int rc = 0;

    pthread_mutex_lock(&s->mutex);
    for (struct lev_peer *p = s->peers; p != NULL; p = p->next) {
        if (strcmp(p->name, host) != 0 && strcmp(p->address, host) != 0) {
            continue;
        }
        if (p->ended) {
            rc = lev_error_set(err, LEV_E_INVALID, 0,
                               "%s is the run %s, which has ended; link to a "
                               "run while it lives, or make it a service",
                               host, p->name);
        }
        else {
            snprintf(address, 64, "%s", p->address);
            rc = 1;
        }
        break;
    }
    pthread_mutex_unlock(&s->mutex);
    return rc;
}
