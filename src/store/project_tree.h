/* project_tree.h - a projection as a tree of field names.
 *
 * Internal to project.c, which compiles it, and project_apply.c. The leaves
 * say what becomes of a field; `keep` says what becomes of fields that the
 * tree does not name.
 */
#ifndef LEV_PROJECT_TREE_H
#define LEV_PROJECT_TREE_H

#include "expr.h"
#include "match.h"
#include "project.h"

enum lev_project_what {
    LEV_PROJECT_SUBTREE,
    LEV_PROJECT_INCLUDE,
    LEV_PROJECT_EXCLUDE,
    LEV_PROJECT_SLICE,
    LEV_PROJECT_ELEM_MATCH, /* top level only */
    LEV_PROJECT_POSITIONAL,
    LEV_PROJECT_COMPUTE,
};

struct lev_project_field {
    char *name;
    enum lev_project_what what;
    bool computes; /* it or something below it is COMPUTE */
    struct lev_project_field *kids, *last, *next; /* in their order */
    int64_t skip, limit;    /* SLICE; skip < 0: from the end */
    struct lev_match *elem; /* ELEM_MATCH */
    struct lev_expr *expr;  /* COMPUTE */
};

struct lev_project {
    struct lev_project_field root;
    bool keep;       /* what is not named stays */
    bool keep_id;    /* `_id` stays though it is not named */
    bool positional; /* somewhere */
};

/* NULL where there is none. */
struct lev_project_field *
lev_project_find(const struct lev_project_field *parent, const char *name);

#endif
