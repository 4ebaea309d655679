#include "apart.h"

#include "worker.h"

struct apart {
    void (*fn)(void *), (*drop)(void *);
    void *arg;
    struct lev_event done;
    _Atomic int left; /* who has not let go: the thread, the caller */
};

/* The last to let go drops what nobody has taken. */
static void
let_go(struct apart *a, bool taken)
{
    if (taken) {
        a->drop = NULL; /* the thread has ended: nobody else looks */
    }
    if (atomic_fetch_sub(&a->left, 1) == 1) {
        if (a->drop != NULL) {
            a->drop(a->arg);
        }
        lev_event_deinit(&a->done);
        free(a);
    }
}

static void
run(void *arg)
{
    struct apart *a = arg;

    a->fn(a->arg);
    lev_event_set(&a->done);
    let_go(a, false);
}

int
lev_mongo_apart(void (*fn)(void *), void (*drop)(void *), void *arg,
                const struct lev_scope *scope, struct lev_error *err)
{
    struct apart *a = malloc(sizeof(*a));
    int rc;

    if (a == NULL) {
        drop(arg);
        return lev_error_nomem(err, "thread");
    }
    *a = (struct apart){.fn = fn, .drop = drop, .arg = arg};
    atomic_init(&a->left, 2);
    lev_event_init(&a->done);
    if (lev_thread_start("lev-mongo", run, a, err) < 0) {
        atomic_store(&a->left, 1);
        let_go(a, false);
        return -1;
    }
    rc = lev_scope_wait(scope, &a->done, err);
    let_go(a, rc == 0);
    return rc;
}
