/* update_tree.h - the paths of an update as a tree of steps.
 *
 * Internal to update.c. The leaves carry an operator each. Kids are kept in
 * the order in which new fields are added to a document: array indexes by
 * their numbers, before other names by their bytes. A tree does not change
 * once it is compiled; what a single document makes of it (which element `$`
 * is, what `$[]` and `$[id]` come to in an element) is a new tree of borrowed
 * parts.
 */
#ifndef LEV_UPDATE_TREE_H
#define LEV_UPDATE_TREE_H

#include "path.h"
#include "update_filter.h"
#include "update_ops.h"
#include <stddef.h>

enum lev_step_kind {
    LEV_STEP_FIELD,      /* or an index */
    LEV_STEP_POSITIONAL, /* $ */
    LEV_STEP_ELEMENTS,   /* $[], or with a filter $[id] */
};

struct lev_step {
    enum lev_step_kind kind;
    char *name;
    long index;             /* of `name` in an array; -1: it is none */
    struct lev_step **kids; /* either no one is ELEMENTS or all are */
    size_t n_kids, kids_cap;
    const struct lev_array_filter *filter; /* of $[id] */
    const struct lev_update_op *op;        /* NULL: there are kids */
    bson_value_t operand;                  /* borrows from the update */
    void *data;                            /* the operator's own */
    char *path;                            /* for messages */
    bool borrowed;   /* name, data and path are another step's */
    char number[12]; /* the name of what was `$` */
};

/* Frees a step and those below it; NULL is fine. */
void lev_step_free(struct lev_step *s);
void lev_steps_deinit(struct lev_step *root); /* those below it alone */
/* The leaf that `path` leads to, made with the steps above it; NULL with QUERY
 * `conflict` when a path ends where another one does, or goes through its end.
 */
struct lev_step *lev_step_place(struct lev_step *root,
                                const struct lev_path *path, int conflict,
                                struct lev_error *err);
/* The number of the kid of that name, or of that index; -1: there is none. */
ptrdiff_t lev_step_find(const struct lev_step *parent, const char *name);
ptrdiff_t lev_step_find_index(const struct lev_step *parent, long index);
/* A tree where `$` is the element `position`. */
struct lev_step *lev_step_resolve(const struct lev_step *root, long position,
                                  struct lev_error *err);
/* Both at once, for an element that two of $[] and $[id] mean; QUERY 40 when
 * they want different things of one field. */
struct lev_step *lev_step_merge(const struct lev_step *a,
                                const struct lev_step *b,
                                struct lev_error *err);

/* What the operators make of `old`, appended to `out` (update_apply.c);
 * `insert`: of an upsert's new document. */
int lev_step_apply(const struct lev_step *root, const bson_t *old, bool insert,
                   bson_t *out, struct lev_error *err);

static inline void
lev_step_freep(struct lev_step **s)
{
    lev_step_free(*s);
}
#define _cleanup_step_ _cleanup_(lev_step_freep)

#endif
