#include "store.h"

#include <pthread.h>
#include <string.h>
#include <sys/types.h>

/* The stores that are open in this process, by URL: two sessions that name one
 * database share its connections and its writer. This list is the one piece of
 * state that belongs to the process as a whole, as the files do: SQLite's
 * locks on them are the process's, too. */
static struct {
    pthread_mutex_t mutex;
    struct entry *entries;
} open_stores = {PTHREAD_MUTEX_INITIALIZER, NULL};

struct entry {
    struct entry *next;
    pid_t pid; /* who opened it; a forked child has its parent's entries */
    struct lev_store *store;
};

/* A child forked while another thread held the mutex would never get it. */
static void
lock_for_fork(void)
{
    pthread_mutex_lock(&open_stores.mutex);
}

static void
unlock_after_fork(void)
{
    pthread_mutex_unlock(&open_stores.mutex);
}

static void
watch_forks(void)
{
    pthread_atfork(lock_for_fork, unlock_after_fork, unlock_after_fork);
}

static const struct lev_store_ops *
ops_of(const char *url, struct lev_error *err)
{
    static const struct lev_store_ops *const all[] = {&lev_store_sqlite};

    for (size_t i = 0; i < LEV_ARRAY_LEN(all); i++) {
        size_t len = strlen(all[i]->scheme);

        if (strncmp(url, all[i]->scheme, len) == 0 && url[len] == ':') {
            return all[i];
        }
    }
    if (strncmp(url, "mongodb://", 10) == 0 ||
        strncmp(url, "mongodb+srv://", 14) == 0)
    {
        return lev_store_mongo(err);
    }
    lev_error_set(err, LEV_E_INVALID, 0,
                  "store: not the URL of a store; use sqlite:PATH, "
                  "mongodb://HOST/DATABASE or mongodb+srv://HOST/DATABASE");
    return NULL;
}

/* With the mutex held. 1 with a reference, 0 when it is not open, -1 when it
 * was so in the process from which this one was forked: what SQLite knows of
 * its locks was inherited, the locks were not, and a second connection would
 * rely on them (sqlite.org/howtocorrupt.html, 2.6). */
static int
find_open(const char *url, struct lev_store **store, struct lev_error *err)
{
    for (struct entry *e = open_stores.entries; e != NULL; e = e->next) {
        if (strcmp(e->store->url, url) != 0) {
            continue;
        }
        if (e->pid != getpid()) {
            return lev_error_set(
                err, LEV_E_STORE, 0,
                "store %s: process %d had it open when it forked this one, "
                "which cannot use it; start the process anew instead "
                "(subprocess, multiprocessing's \"spawn\")",
                url, (int)e->pid);
        }
        *store = lev_store_ref(e->store);
        return 1;
    }
    return 0;
}

/* Two threads may have opened one URL at once: the first stays, and gets a
 * reference; NULL when `store` is it. */
static struct lev_store *
publish(struct lev_store *store, struct entry *e)
{
    struct lev_store *first = NULL;
    struct lev_error ignored;

    pthread_mutex_lock(&open_stores.mutex);
    if (find_open(store->url, &first, &ignored) == 0) {
        *e = (struct entry){open_stores.entries, getpid(), store};
        open_stores.entries = e;
    }
    pthread_mutex_unlock(&open_stores.mutex);
    return first;
}

struct lev_store *
lev_store_open(const char *url, const struct lev_scope *scope,
               struct lev_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const struct lev_store_ops *ops = ops_of(url, err);
    _cleanup_free_ char *canonical = NULL;
    _cleanup_free_ struct entry *e = NULL;
    struct lev_store *store, *first;
    int rc;

    pthread_once(&once, watch_forks);
    canonical = ops == NULL ? NULL : ops->canonical(url, err);
    if (canonical == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&open_stores.mutex);
    rc = find_open(canonical, &store, err);
    pthread_mutex_unlock(&open_stores.mutex);
    if (rc != 0) {
        return rc < 0 ? NULL : store;
    }
    e = malloc(sizeof(*e));
    if (e == NULL) {
        lev_error_nomem(err, "store");
        return NULL;
    }
    store = ops->open(url, canonical, scope, err);
    if (store == NULL) {
        return NULL;
    }
    atomic_init(&store->refs, 1);
    first = publish(store, e);
    if (first != NULL) {
        ops->close(store);
        return first;
    }
    (void)lev_steal(e);
    return store;
}

struct lev_store *
lev_store_ref(struct lev_store *store)
{
    atomic_fetch_add(&store->refs, 1);
    return store;
}

void
lev_store_unref(struct lev_store *store)
{
    struct entry **link = &open_stores.entries, *e;

    if (store == NULL) {
        return;
    }
    /* Under the mutex, or find_open() could take a store that is going. */
    pthread_mutex_lock(&open_stores.mutex);
    if (atomic_fetch_sub(&store->refs, 1) != 1) {
        pthread_mutex_unlock(&open_stores.mutex);
        return;
    }
    while ((*link)->store != store) {
        link = &(*link)->next;
    }
    e = *link;
    *link = e->next;
    pthread_mutex_unlock(&open_stores.mutex);
    free(e);
    store->ops->close(store);
}
