/* update_filter.h - which elements of an array `$[id]` means.
 *
 * Internal to the update units: the array_filters of an update, each a query
 * whose fields all begin with its identifier.
 */
#ifndef LEV_UPDATE_FILTER_H
#define LEV_UPDATE_FILTER_H

#include "match.h"

struct lev_array_filter {
    char *id;
    struct lev_match *match; /* of documents {id: element} */
    bool used;
};

struct lev_array_filters {
    struct lev_array_filter *each;
    size_t n;
};

/* `list` is zeroed; NULL as `filters`: there are none. */
int lev_array_filters_compile(struct lev_array_filters *list,
                              const bson_t *filters, struct lev_error *err);
void lev_array_filters_deinit(struct lev_array_filters *list);
/* NULL when there is none of that name. */
struct lev_array_filter *
lev_array_filters_find(const struct lev_array_filters *list, const char *id,
                       size_t len);
/* QUERY 9 when one has not been marked as used. */
int lev_array_filters_check(const struct lev_array_filters *list,
                            struct lev_error *err);

#endif
