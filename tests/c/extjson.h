/* extjson.h - test data in canonical Extended JSON, as BSON. */
#ifndef LEV_TEST_EXTJSON_H
#define LEV_TEST_EXTJSON_H

#include <bson/bson.h>

/* One JSON object; unlike bson_new_from_json() it takes $regex, $options,
 * $type and other operators for the ordinary fields that they are in a query.
 * The line is changed. Aborts on a line that does not parse. */
bson_t *extjson_parse(char *line);
/* Relaxed and readable; bson_free(). */
char *extjson_show(const bson_t *doc);

#endif
