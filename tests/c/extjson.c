#include "extjson.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libbson gives a meaning of its own to some keys that begin with '$'. Those
 * that are no types of Extended JSON are hidden from it behind a '%' and put
 * right in the BSON, which has the same length. */

static bool
is_type(const char *key, size_t len)
{
    static const char *const types[] = {
        "numberInt",     "numberLong", "numberDouble",
        "numberDecimal", "oid",        "date",
        "binary",        "timestamp",  "minKey",
        "maxKey",        "undefined",  "symbol",
        "code",          "scope",      "regularExpression",
        "dbPointer",
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strlen(types[i]) == len && memcmp(types[i], key, len) == 0) {
            return true;
        }
    }
    return false;
}

static void
hide_operators(char *line)
{
    for (char *p = strstr(line, "\"$"); p != NULL; p = strstr(p + 2, "\"$")) {
        size_t len = strcspn(p + 2, "\"");

        if (p[2 + len + 1] == ':' && !is_type(p + 2, len)) {
            p[1] = '%';
        }
    }
}

static void
show_operators(bson_iter_t *it)
{
    while (bson_iter_next(it)) {
        char *key = (char *)bson_iter_key(it); /* of a document of ours */
        bson_iter_t below;

        if (key[0] == '%') {
            key[0] = '$';
        }
        if ((BSON_ITER_HOLDS_DOCUMENT(it) || BSON_ITER_HOLDS_ARRAY(it)) &&
            bson_iter_recurse(it, &below))
        {
            show_operators(&below);
        }
    }
}

bson_t *
extjson_parse(char *line)
{
    bson_error_t error;
    bson_iter_t it;
    bson_t *doc;

    hide_operators(line);
    doc = bson_new_from_json((const uint8_t *)line, -1, &error);
    if (doc == NULL || !bson_iter_init(&it, doc)) {
        fprintf(stderr, "%s\nin %s\n", error.message, line);
        abort();
    }
    show_operators(&it);
    return doc;
}

char *
extjson_show(const bson_t *doc)
{
    return bson_as_relaxed_extended_json(doc, NULL);
}
