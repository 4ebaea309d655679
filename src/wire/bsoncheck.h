/* bsoncheck.h - is this BSON, all the way down?
 *
 * For documents from somebody who is not trusted, before anybody looks into
 * them. Checked are all lengths, terminators and types, UTF-8 of keys and
 * strings, booleans, the keys of arrays ("0", "1", …), depth, and that no
 * document has a key twice. The walk does not recurse and takes time linear in
 * the size, whatever the document holds. Any thread.
 */
#ifndef LEV_BSONCHECK_H
#define LEV_BSONCHECK_H

#include "error.h"

#include <bson/bson.h>

/* The outermost document counts. */
#define LEV_BSON_MAX_DEPTH 100

/* INVALID naming the dotted path and the reason. */
int lev_bson_validate(const bson_t *doc, struct lev_error *err);
/* The same of bytes that may be no document at all, with another depth, at
 * most LEV_BSON_MAX_DEPTH + 1. */
int lev_bson_check(const uint8_t *data, size_t len, unsigned max_depth,
                   struct lev_error *err);

#endif
