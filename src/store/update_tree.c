#include "update_tree.h"

#include <stdio.h>
#include <string.h>

void
lev_steps_deinit(struct lev_step *root)
{
    for (size_t i = 0; i < root->n_kids; i++) {
        lev_step_free(root->kids[i]);
    }
    free(root->kids);
}

void
lev_step_free(struct lev_step *s)
{
    if (s == NULL) {
        return;
    }
    lev_steps_deinit(s);
    if (!s->borrowed) {
        if (s->op != NULL && s->op->destroy != NULL) {
            s->op->destroy(s->data);
        }
        free(s->name);
        free(s->path);
    }
    free(s);
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

/* Where the kid of that name is or would be; whether it is. */
static size_t
locate(const struct lev_step *parent, const char *name, long index,
       bool *found)
{
    size_t low = 0, high = parent->n_kids;

    *found = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = compare_names(name, index, parent->kids[mid]);

        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c > 0) {
            low = mid + 1;
        }
        else {
            high = mid;
        }
    }
    return low;
}

static int
insert(struct lev_step *parent, size_t at, struct lev_step *s,
       struct lev_error *err)
{
    if (parent->n_kids == parent->kids_cap) {
        size_t cap = parent->kids_cap == 0 ? 4 : parent->kids_cap * 2;
        struct lev_step **kids =
            realloc(parent->kids, cap * sizeof(struct lev_step *));

        if (kids == NULL) {
            return lev_error_nomem(err, "update");
        }
        parent->kids = kids;
        parent->kids_cap = cap;
    }
    memmove(parent->kids + at + 1, parent->kids + at,
            (parent->n_kids - at) * sizeof(struct lev_step *));
    parent->kids[at] = s;
    parent->n_kids++;
    return 0;
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
        bool there;
        size_t k = locate(at, part->name, part->index, &there);
        struct lev_step *s = there ? at->kids[k] : NULL;

        if (there) {
            if (s->op != NULL || i == path->n - 1) {
                return conflict_at(path, s->name, conflict, err);
            }
            at = s;
            continue;
        }
        if (at->n_kids > 0 && (at->kids[0]->kind == LEV_STEP_ELEMENTS) !=
                                  (kind_of(part->name) == LEV_STEP_ELEMENTS))
        {
            return conflict_at(path, at->kids[0]->name, conflict, err);
        }
        s = step_new(part, err);
        if (s == NULL || insert(at, k, s, err) < 0) {
            lev_step_free(s);
            return NULL;
        }
        at = s;
    }
    return at;
}

ptrdiff_t
lev_step_find(const struct lev_step *parent, const char *name)
{
    bool found;
    size_t k = locate(parent, name, lev_path_index(name), &found);

    return found ? (ptrdiff_t)k : -1;
}

ptrdiff_t
lev_step_find_index(const struct lev_step *parent, long index)
{
    bool found;
    size_t k = locate(parent, "", index, &found);

    return found ? (ptrdiff_t)k : -1;
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
    s->kids = NULL;
    s->n_kids = s->kids_cap = 0;
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
    bool here = kid->kind == LEV_STEP_POSITIONAL && position >= 0, there;
    long index = here ? position : kid->index;
    size_t k = locate(to, kid->name, index, &there);
    struct lev_step *s = there ? to->kids[k] : NULL;

    if (there) {
        return s->op == NULL && kid->op == NULL
                   ? add_kids(s, kid, position, err)
                   : lev_error_set(err, LEV_E_QUERY, 40,
                                   "update: two paths collide at '%s'",
                                   s->name);
    }
    s = borrow(kid, err);
    if (s == NULL || insert(to, k, s, err) < 0) {
        lev_step_free(s);
        return -1;
    }
    if (here) {
        s->kind = LEV_STEP_FIELD;
        s->index = index;
        snprintf(s->number, sizeof(s->number), "%ld", index);
        s->name = s->number;
    }
    return add_kids(s, kid, position, err);
}

static int
add_kids(struct lev_step *to, const struct lev_step *from, long position,
         struct lev_error *err)
{
    for (size_t i = 0; i < from->n_kids; i++) {
        if (add_kid(to, from->kids[i], position, err) < 0) {
            return -1;
        }
    }
    return 0;
}

struct lev_step *
lev_step_resolve(const struct lev_step *root, long position,
                 struct lev_error *err)
{
    _cleanup_step_ struct lev_step *s = borrow(root, err);

    return s == NULL || add_kids(s, root, position, err) < 0 ? NULL
                                                             : lev_steal(s);
}

struct lev_step *
lev_step_merge(const struct lev_step *a, const struct lev_step *b,
               struct lev_error *err)
{
    _cleanup_step_ struct lev_step *s = borrow(a, err);

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
