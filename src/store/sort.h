/* sort.h - MongoDB's sort of a find's results.
 *
 * An array counts by its smallest element in ascending keys and by its largest
 * in descending ones; a missing field counts as null. Documents that are equal
 * stay in the order in which they came. With a limit no more than the first
 * `keep` documents are held at any time. A sorter belongs to one thread; the
 * compiled order may be shared.
 */
#ifndef LEV_SORT_H
#define LEV_SORT_H

#include "error.h"
#include <bson/bson.h>

/* What a sort without a limit may hold, MongoDB's bound. */
#define LEV_SORT_MAX_BYTES (100u * 1024 * 1024)

struct lev_sort;
struct lev_sorter;

/* `spec` is {path: 1 | -1, …} and not empty. QUERY when it is something else;
 * UNSUPPORTED_OPERATION for {$meta: …}. */
struct lev_sort *lev_sort_compile(const bson_t *spec, struct lev_error *err);
void lev_sort_destroy(struct lev_sort *s); /* NULL is fine */

/* <0, 0, >0 by the order of two values; what is no document has no fields. */
int lev_sort_compare(const struct lev_sort *s, const bson_value_t *a,
                     const bson_value_t *b);

/* `keep` 0: all. `order` is borrowed. */
struct lev_sorter *lev_sorter_create(const struct lev_sort *order, size_t keep,
                                     struct lev_error *err);
void lev_sorter_destroy(struct lev_sorter *s); /* NULL is fine */
/* Copies the document; `index` comes back with it. QUERY 292 when there is too
 * much to hold. */
int lev_sorter_add(struct lev_sorter *s, const bson_t *doc, long index,
                   struct lev_error *err);
/* The next one in order, borrowed until the sorter goes; false at the end. The
 * first call ends the adding. */
bool lev_sorter_next(struct lev_sorter *s, bson_t *doc, long *index);

#endif
