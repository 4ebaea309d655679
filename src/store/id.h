/* id.h - documents' identity: their `_id`.
 *
 * A stored document has an `_id` that is no array, regular expression or
 * undefined, and has it first. Pure functions, any thread.
 */
#ifndef LEV_ID_H
#define LEV_ID_H

#include "buf.h"
#include <bson/bson.h>

/* As a document is stored: `_id` first, a new ObjectId where it has none.
 * Appended to `out`, an empty document. QUERY 53 for an `_id` that cannot be
 * one. */
int lev_id_complete(const bson_t *doc, bson_t *out, struct lev_error *err);
int lev_id_check(const bson_value_t *id, struct lev_error *err);

/* Appends a key such that two ids are equal in MongoDB's sense (1 = 1.0) when
 * and only when their keys are the same bytes. */
int lev_id_key(const bson_value_t *id, struct lev_buf *out,
               struct lev_error *err);

#endif
