/* gc.h - what sessions have left on an engine: found, and removed.
 *
 * Either all that carries one session's label, when that session is known to
 * have ended, or whatever dead sessions have left, as their labels say
 * (owner.h). What is kept on purpose (zone.lev.keep), and the networks of a
 * session that keeps something, stay unless asked for. Any thread.
 */
#ifndef LEV_GC_H
#define LEV_GC_H

#include "engine.h"

enum lev_leftover { LEV_LEFT_CONTAINER, LEV_LEFT_NETWORK, LEV_LEFT_IMAGE };

struct lev_found {
    enum lev_leftover kind;
    char *id, *name, *session;
    char reason[100]; /* why it is nobody's */
    bool removed;
    char *error; /* why it is there still; or NULL */
    struct lev_found *next;
};

struct lev_gc {
    const char *session; /* NULL: of all that are dead */
    bool kept;           /* what was kept on purpose, too */
};

void lev_found_free(struct lev_found *list);

static inline void
lev_found_freep(struct lev_found **list)
{
    lev_found_free(*list);
}
#define _cleanup_found_ _cleanup_(lev_found_freep)

/* What is to be removed, in the order in which it can be. */
int lev_gc_find(struct lev_engine *e, const struct lev_scope *scope,
                const struct lev_gc *gc, struct lev_found **list,
                struct lev_error *err);
/* Removes it, `at_once` at a time, each bounded; what could not be says so.
 * How many are left. */
size_t lev_gc_remove(struct lev_engine *e, const struct lev_scope *scope,
                     struct lev_found *list, unsigned at_once);
/* Finds and, unless `dry`, removes what dead sessions have left, `at_once` at
 * a time; works on every engine. */
int lev_gc_dead(struct lev_engine *e, const struct lev_scope *scope,
                const struct lev_gc *gc, bool dry, unsigned at_once,
                struct lev_found **list, struct lev_error *err);
/* "container", "network", "image" */
const char *lev_leftover_name(enum lev_leftover kind);

#endif
