/* update.h - what an update makes of documents.
 *
 * An update is a set of operators or a whole document to replace with. It is
 * compiled once; a compiled one does not change and may be shared. New fields
 * of one update are added in lexicographic order, array indexes in numeric
 * order, as MongoDB does.
 */
#ifndef LEV_UPDATE_H
#define LEV_UPDATE_H

#include "match.h"

/* MongoDB's bounds: of a stored document, and of the elements that an update
 * of an index far behind an array's end fills in with null. */
#define LEV_DOCUMENT_MAX (16u * 1024 * 1024)
#define LEV_PADDING_MAX 1500000

struct lev_updater;

/* `array_filters`: an array of queries, or NULL. Errors: QUERY with MongoDB's
 * code. */
struct lev_updater *lev_updater_compile(const bson_t *update,
                                        const bson_t *array_filters,
                                        bool multi, struct lev_error *err);
void lev_updater_destroy(struct lev_updater *u); /* NULL is fine */
static inline void
lev_updater_destroyp(struct lev_updater **u)
{
    lev_updater_destroy(*u);
}
#define _cleanup_updater_ _cleanup_(lev_updater_destroyp)

/* What becomes of `old`, which lev_match_test() has matched at the index
 * `position` (what `$` means; -1: nothing); `made` is uninitialised and holds
 * a document on success. QUERY with MongoDB's code, TOO_LARGE. */
int lev_updater_apply(const struct lev_updater *u, const bson_t *old,
                      long position, bson_t *made, struct lev_error *err);
/* What an upsert that matches nothing inserts: the equalities of its query,
 * then the update; complete with `_id`. */
int lev_updater_insert(const struct lev_updater *u, const struct lev_match *m,
                       bson_t *made, struct lev_error *err);
/* TOO_LARGE with the size when a document is above LEV_DOCUMENT_MAX. */
int lev_document_check_size(const bson_t *doc, struct lev_error *err);
/* The same, and QUERY when it is nested too deep, INVALID when it is no BSON.
 */
int lev_document_check(const bson_t *doc, struct lev_error *err);

#endif
