#include "gc.h"

#include <string.h>
#include <time.h>

#include "owner.h"
#include "worker.h"

#define REMOVE_TIMEOUT (30 * LEV_SECOND)

void
lev_found_free(struct lev_found *list)
{
    while (list != NULL) {
        struct lev_found *next = list->next;

        free(list->id);
        free(list->name);
        free(list->session);
        free(list->error);
        free(list);
        list = next;
    }
}

const char *
lev_leftover_name(enum lev_leftover kind)
{
    static const char *const names[] = {
        [LEV_LEFT_CONTAINER] = "container",
        [LEV_LEFT_NETWORK] = "network",
        [LEV_LEFT_IMAGE] = "image",
    };

    return names[kind];
}

/* ---- finding ---- */

struct search {
    struct lev_engine *engine;
    const struct lev_scope *scope;
    const struct lev_gc *gc;
    struct lev_owner self;
    int64_t now;
    struct lev_found *first, **end;
    struct lev_listed *containers; /* all of levrt's */
};

/* What is made of an image of a container of levrt's inherits the labels, and
 * is somebody else's. */
static bool
is_own(enum lev_leftover kind, const struct lev_listed *item)
{
    const char *name = lev_label(item->labels, LEV_LABEL_NAME);
    const char *role = lev_label(item->labels, LEV_LABEL_ROLE);

    switch (kind) {
    case LEV_LEFT_CONTAINER:
        return name != NULL && strcmp(name, item->name) == 0;
    case LEV_LEFT_IMAGE:
        return role != NULL && strcmp(role, "files") == 0;
    case LEV_LEFT_NETWORK:
        return true;
    }
    return false;
}

/* A container that is kept needs its session's networks and image. */
static bool
is_kept(const struct search *s, enum lev_leftover kind,
        const struct lev_listed *item)
{
    const char *session = lev_label(item->labels, LEV_LABEL_SESSION);

    if (s->gc->kept) {
        return false;
    }
    if (kind == LEV_LEFT_CONTAINER) {
        return lev_label(item->labels, LEV_LABEL_KEEP) != NULL;
    }
    for (const struct lev_listed *c = s->containers; c != NULL; c = c->next) {
        const char *theirs = lev_label(c->labels, LEV_LABEL_SESSION);

        if (theirs != NULL && strcmp(theirs, session) == 0 &&
            lev_label(c->labels, LEV_LABEL_KEEP) != NULL)
        {
            return true;
        }
    }
    return false;
}

static bool
is_wanted(const struct search *s, const struct lev_listed *item,
          char reason[100])
{
    const char *session = lev_label(item->labels, LEV_LABEL_SESSION);

    if (session == NULL) {
        return false;
    }
    if (s->gc->session != NULL) {
        snprintf(reason, 100, "its session has ended");
        return strcmp(session, s->gc->session) == 0;
    }
    return lev_owner_judge(&s->self, item->labels, s->now, reason) ==
           LEV_OWNER_DEAD;
}

static int
add(struct search *s, enum lev_leftover kind, const struct lev_listed *item,
    struct lev_error *err)
{
    char reason[100] = "";
    struct lev_found *f;

    if (!is_own(kind, item) || !is_wanted(s, item, reason) ||
        is_kept(s, kind, item))
    {
        return 0;
    }
    f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return lev_error_nomem(err, "listing");
    }
    f->kind = kind;
    f->id = strdup(item->id);
    f->name = strdup(item->name[0] == '\0' ? item->id : item->name);
    f->session = strdup(lev_label(item->labels, LEV_LABEL_SESSION));
    snprintf(f->reason, sizeof(f->reason), "%s", reason);
    *s->end = f;
    s->end = &f->next;
    return f->id == NULL || f->name == NULL || f->session == NULL
               ? lev_error_nomem(err, "listing")
               : 0;
}

static int
add_all(struct search *s, enum lev_leftover kind,
        const struct lev_listed *items, struct lev_error *err)
{
    for (; items != NULL; items = items->next) {
        if (add(s, kind, items, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
list_and_add(struct search *s, enum lev_leftover kind,
             int (*list)(struct lev_engine *e, const struct lev_scope *scope,
                         const char *label, struct lev_listed **list,
                         struct lev_error *err),
             struct lev_error *err)
{
    struct lev_listed *items = NULL;
    int rc;

    if (list(s->engine, s->scope, LEV_LABEL_SESSION, &items, err) < 0) {
        return -1;
    }
    rc = add_all(s, kind, items, err);
    lev_listed_free(items);
    return rc;
}

static int
find(struct lev_engine *e, const struct lev_scope *scope,
     const struct lev_gc *gc, bool images_only, struct lev_found **list,
     struct lev_error *err)
{
    struct search s = {
        .engine = e, .scope = scope, .gc = gc, .now = time(NULL)};
    int rc;

    s.end = &s.first;
    lev_owner_self(&s.self);
    rc = e->ops->list(e, scope, LEV_LABEL_SESSION, &s.containers, err);
    if (rc == 0 && !images_only) {
        rc = add_all(&s, LEV_LEFT_CONTAINER, s.containers, err);
    }
    if (rc == 0 && !images_only) {
        rc = list_and_add(&s, LEV_LEFT_NETWORK, e->ops->network_list, err);
    }
    if (rc == 0) {
        rc = list_and_add(&s, LEV_LEFT_IMAGE, e->ops->image_list, err);
    }
    lev_listed_free(s.containers);
    if (rc < 0) {
        lev_found_free(s.first);
        return -1;
    }
    *list = s.first;
    return 0;
}

int
lev_gc_find(struct lev_engine *e, const struct lev_scope *scope,
            const struct lev_gc *gc, struct lev_found **list,
            struct lev_error *err)
{
    return find(e, scope, gc, false, list, err);
}

/* ---- removing ---- */

struct removal {
    struct lev_job job;
    struct lev_engine *engine;
    const struct lev_scope *scope;
    struct lev_found *item;
};

static int
remove_item(struct lev_engine *e, const struct lev_scope *scope,
            const struct lev_found *item, struct lev_error *err)
{
    switch (item->kind) {
    case LEV_LEFT_CONTAINER:
        return e->ops->remove(e, scope, item->id, err);
    case LEV_LEFT_NETWORK:
        return e->ops->network_remove(e, scope, item->id, err);
    case LEV_LEFT_IMAGE:
        return e->ops->image_remove(e, scope, item->id, err);
    }
    return 0;
}

static void
run_removal(struct lev_job *job)
{
    struct removal *r = lev_container_of(job, struct removal, job);
    struct lev_scope bound = lev_scope_within(r->scope, REMOVE_TIMEOUT);
    struct lev_error err;

    r->item->removed = remove_item(r->engine, &bound, r->item, &err) == 0;
    if (!r->item->removed) {
        free(r->item->error);
        r->item->error = strdup(err.msg);
    }
}

/* All of one kind, from `*at` on, which then is the first of the next kind. */
static void
remove_kind(struct lev_engine *e, const struct lev_scope *scope,
            struct lev_found **at, unsigned at_once)
{
    struct removal *all;
    struct lev_pool *pool;
    struct lev_found *first = *at;
    struct lev_error err;
    size_t n = 0, i = 0;

    for (; *at != NULL && (*at)->kind == first->kind; *at = (*at)->next) {
        n++;
    }
    all = calloc(n, sizeof(*all));
    pool = all == NULL ? NULL : lev_pool_create(at_once, &err);
    for (struct lev_found *f = first; all != NULL && f != *at; f = f->next) {
        struct removal *r = &all[i++];

        *r = (struct removal){{.run = run_removal}, e, scope, f};
        if (pool == NULL || lev_pool_submit(pool, &r->job, &err) < 0) {
            run_removal(&r->job);
        }
    }
    lev_pool_destroy(pool);
    free(all);
}

size_t
lev_gc_remove(struct lev_engine *e, const struct lev_scope *scope,
              struct lev_found *list, unsigned at_once)
{
    size_t left = 0;

    for (struct lev_found *at = list; at != NULL;) {
        remove_kind(e, scope, &at, at_once);
    }
    for (const struct lev_found *f = list; f != NULL; f = f->next) {
        left += !f->removed;
    }
    return left;
}

int
lev_gc_dead(struct lev_engine *e, const struct lev_scope *scope,
            const struct lev_gc *gc, bool dry, unsigned at_once,
            struct lev_found **list, struct lev_error *err)
{
    _cleanup_found_ struct lev_found *own = NULL, *rest = NULL;
    struct lev_found **end = &own;

    if (e->ops->gc != NULL && e->ops->gc(e, scope, gc, dry, &own, err) < 0) {
        return -1;
    }
    if (find(e, scope, gc, e->ops->gc != NULL, &rest, err) < 0) {
        return -1;
    }
    if (!dry) {
        lev_gc_remove(e, scope, rest, at_once);
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = lev_steal(rest);
    *list = lev_steal(own);
    return 0;
}
