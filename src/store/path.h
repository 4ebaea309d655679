/* path.h - dotted paths, and the values they lead to in a document.
 *
 * A path goes through objects by name. Where it meets an array, it goes on in
 * each element that is an object, and, where its next part is a number, in the
 * element of that index too; elements that are arrays are not entered
 * otherwise. So a path leads to any number of values. Pure functions; a parsed
 * path does not change and may be shared.
 */
#ifndef LEV_PATH_H
#define LEV_PATH_H

#include "error.h"
#include <bson/bson.h>

#define LEV_PATH_MAX 200 /* parts; MongoDB's bound too */

struct lev_path_part {
    char *name;
    long index; /* what `name` says as an array index, -1 when it is none */
};

struct lev_path {
    size_t n; /* ≥ 1 */
    struct lev_path_part *part;
    char *text; /* all of it */
};

/* QUERY when it has more than LEV_PATH_MAX parts. Empty parts are kept:
 * whoever does not allow them refuses them. */
int lev_path_parse(const char *text, struct lev_path *path,
                   struct lev_error *err);
void lev_path_deinit(struct lev_path *path);
/* An array index as text without sign or leading zeros; -1 otherwise. */
long lev_path_index(const char *name);

struct lev_path_hit {
    const bson_value_t *value; /* BSON_TYPE_EOD: there is nothing */
    long index;                /* in the outermost array passed; -1: none */
    bool whole;                /* an array whose elements have come before */
};

/* Not 0 ends the walk. */
typedef int (*lev_path_fn)(void *ctx, const struct lev_path_hit *hit);

/* What an array at the end of a path stands for. */
enum lev_path_leaf {
    LEV_PATH_WHOLE,    /* itself */
    LEV_PATH_ELEMENTS, /* each of its elements, then itself */
    /* The same, for the keys of a sort: an index that an array has is taken
     * for nothing else, and elements that cannot be entered have no value
     * (BSON_TYPE_EOD) instead of being passed over. */
    LEV_PATH_KEYS,
};

/* Calls `fn` for each value, in order; what made it end, or 0. */
int lev_path_each(const struct lev_path *path, const bson_t *doc,
                  enum lev_path_leaf leaf, lev_path_fn fn, void *ctx);
/* The value that the path leads to through objects alone; it borrows from
 * `doc`. BSON_TYPE_EOD: there is nothing, or an array is on the way. */
bson_value_t lev_path_value(const struct lev_path *path, const bson_t *doc);

#endif
