#include "update_tree.h"

#include <stdio.h>
#include <string.h>

void
lev_steps_free(struct lev_step *s)
{
    struct lev_step *next;

    for (; s != NULL; s = next) {
        next = s->next;
        lev_steps_free(s->kids);
        if (!s->borrowed) {
            if (s->op != NULL && s->op->destroy != NULL) {
                s->op->destroy(s->data);
            }
            free(s->name);
            free(s->path);
        }
        free(s);
    }
}

static int
compare_names(const char *name, long index, const struct lev_step *s)
{
    if (index >= 0 && s->index >= 0) {
        return (index > s->index) - (index < s->index);
    }
    if (index >= 0 || s->index >= 0) {
        return index >= 0 ? -1 : 1;
    }
    return strcmp(name, s->name);
}

/* Where the kid of that name is or would be. */
static struct lev_step **
find_link(struct lev_step *parent, const char *name, long index)
{
    struct lev_step **link = &parent->kids;

    while (*link != NULL && compare_names(name, index, *link) > 0) {
        link = &(*link)->next;
    }
    return link;
}

static bool
is_there(struct lev_step *const *link, const char *name, long index)
{
    return *link != NULL && compare_names(name, index, *link) == 0;
}

static enum lev_step_kind
kind_of(const char *name)
{
    size_t len = strlen(name);

    if (strcmp(name, "$") == 0) {
        return LEV_STEP_POSITIONAL;
    }
    return len > 2 && strncmp(name, "$[", 2) == 0 && name[len - 1] == ']'
               ? LEV_STEP_ELEMENTS
               : LEV_STEP_FIELD;
}

static struct lev_step *
step_new(const struct lev_path_part *part, struct lev_error *err)
{
    struct lev_step *s = calloc(1, sizeof(*s));

    if (s == NULL || (s->name = strdup(part->name)) == NULL) {
        free(s);
        lev_error_nomem(err, "update");
        return NULL;
    }
    s->kind = kind_of(part->name);
    s->index = part->index;
    return s;
}

static struct lev_step *
conflict_at(const struct lev_path *path, const char *name, int code,
            struct lev_error *err)
{
    lev_error_set(err, LEV_E_QUERY, code,
                  "'%s' collides with another path at '%s'", path->text, name);
    return NULL;
}

struct lev_step *
lev_step_place(struct lev_step *root, const struct lev_path *path,
               int conflict, struct lev_error *err)
{
    struct lev_step *at = root;

    for (size_t i = 0; i < path->n; i++) {
        const struct lev_path_part *part = &path->part[i];
        struct lev_step **link = find_link(at, part->name, part->index);
        struct lev_step *s = *link;

        if (is_there(link, part->name, part->index)) {
            if (s->op != NULL || i == path->n - 1) {
                return conflict_at(path, s->name, conflict, err);
            }
            at = s;
            continue;
        }
        if (at->kids != NULL && (at->kids->kind == LEV_STEP_ELEMENTS) !=
                                    (kind_of(part->name) == LEV_STEP_ELEMENTS))
        {
            return conflict_at(path, at->kids->name, conflict, err);
        }
        s = step_new(part, err);
        if (s == NULL) {
            return NULL;
        }
        s->next = *link;
        *link = s;
        at = s;
    }
    return at;
}

struct lev_step *
lev_step_find(const struct lev_step *parent, const char *name)
{
    struct lev_step *s = parent->kids;

    while (s != NULL && strcmp(s->name, name) != 0) {
        s = s->next;
    }
    return s;
}

/* Alone, without kids. */
static struct lev_step *
borrow(const struct lev_step *from, struct lev_error *err)
{
    struct lev_step *s = malloc(sizeof(*s));

    if (s == NULL) {
        lev_error_nomem(err, "update");
        return NULL;
    }
    *s = *from;
    s->kids = s->next = NULL;
    s->borrowed = true;
    return s;
}

static int add_kids(struct lev_step *to, const struct lev_step *from,
                    long position, struct lev_error *err);

/* Adds `kid` and what is below it to `to`. */
static int
add_kid(struct lev_step *to, const struct lev_step *kid, long position,
        struct lev_error *err)
{
    bool here = kid->kind == LEV_STEP_POSITIONAL && position >= 0;
    long index = here ? position : kid->index;
    struct lev_step **link = find_link(to, kid->name, index);
    struct lev_step *s = *link;

    if (is_there(link, kid->name, index)) {
        return s->op == NULL && kid->op == NULL
                   ? add_kids(s, kid, position, err)
                   : lev_error_set(err, LEV_E_QUERY, 40,
                                   "update: two paths collide at '%s'",
                                   s->name);
    }
    s = borrow(kid, err);
    if (s == NULL) {
        return -1;
    }
    if (here) {
        s->kind = LEV_STEP_FIELD;
        s->index = index;
        snprintf(s->number, sizeof(s->number), "%ld", index);
        s->name = s->number;
    }
    s->next = *link;
    *link = s;
    return add_kids(s, kid, position, err);
}

static int
add_kids(struct lev_step *to, const struct lev_step *from, long position,
         struct lev_error *err)
{
    for (const struct lev_step *s = from->kids; s != NULL; s = s->next) {
        if (add_kid(to, s, position, err) < 0) {
            return -1;
        }
    }
    return 0;
}

struct lev_step *
lev_step_resolve(const struct lev_step *root, long position,
                 struct lev_error *err)
{
    _cleanup_steps_ struct lev_step *s = borrow(root, err);

    return s == NULL || add_kids(s, root, position, err) < 0 ? NULL
                                                             : lev_steal(s);
}

struct lev_step *
lev_step_merge(const struct lev_step *a, const struct lev_step *b,
               struct lev_error *err)
{
    _cleanup_steps_ struct lev_step *s = borrow(a, err);

    if (s == NULL) {
        return NULL;
    }
    if (a->op != NULL || b->op != NULL) {
        lev_error_set(err, LEV_E_QUERY, 40,
                      "update: '%s' and '%s' collide in one element", a->name,
                      b->name);
        return NULL;
    }
    return add_kids(s, a, -1, err) < 0 || add_kids(s, b, -1, err) < 0
               ? NULL
               : lev_steal(s);
}
