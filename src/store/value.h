/* value.h - BSON's order over all types, and views of values.
 *
 * A value is looked at through a `bson_value_t` that borrows: what
 * lev_value_of() gives points into the document and is never destroyed.
 * BSON_TYPE_EOD stands for "the field is missing". The order is MongoDB's:
 * first by class (missing and undefined, null, numbers, strings, objects,
 * arrays, binary, ObjectId, bool, date, timestamp, regex, …; MinKey and MaxKey
 * around all), then within the class. Pure functions, any thread.
 */
#ifndef LEV_VALUE_H
#define LEV_VALUE_H

#include "error.h"
#include <bson/bson.h>

/* Documents deeper than this are refused, so that recursion is bounded. */
#define LEV_VALUE_MAX_DEPTH 100

extern const bson_value_t lev_value_missing, lev_value_null;

/* What the iterator stands on; borrows the document. */
bson_value_t lev_value_of(bson_iter_t *it);
/* The field `key` of a document, BSON_TYPE_EOD where it has none. */
bson_value_t lev_value_field(const bson_t *doc, const char *key);
bson_value_t lev_value_doc(const bson_t *doc); /* a document as a value */
/* An object or array as a document; borrows. False for other types. */
bool lev_value_open(const bson_value_t *v, bson_t *doc);
bool lev_value_iter(const bson_value_t *v, bson_iter_t *it);

/* The class; the same for types that are compared by value ("type
 * bracketing"). */
int lev_value_class(bson_type_t type);
const char *lev_value_type_name(bson_type_t type); /* "int", "objectId", … */
/* <0, 0, >0 over all values. */
int lev_value_compare(const bson_value_t *a, const bson_value_t *b);
bool lev_value_equal(const bson_value_t *a, const bson_value_t *b);

/* The element of that number. */
void lev_value_append_element(bson_t *array, uint32_t n,
                              const bson_value_t *v);
/* Appends all fields of a sound document but `key`. */
void lev_value_copy_except(const bson_t *doc, const char *key, bson_t *out);
/* -1 with QUERY 15 when objects and arrays are nested too deep, or with
 * INVALID when `doc` is no BSON. */
int lev_value_check(const bson_t *doc, struct lev_error *err);

#endif
