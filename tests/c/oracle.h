/* oracle.h - the recorded answers of tests/data/mql-oracle.jsonl, tried on
 * whatever claims to answer like MongoDB.
 *
 * A case is right when the answer is the recorded one, or the recorded error;
 * a back end that lacks something must say UNSUPPORTED_OPERATION. Any other
 * answer is wrong, and printed.
 */
#ifndef LEV_TEST_ORACLE_H
#define LEV_TEST_ORACLE_H

#include "buf.h"
#include <bson/bson.h>
#include <stdio.h>

struct oracle_case {
    const char *id, *kind; /* "find", "update" or "aggregate" */
    bson_t docs;           /* an array */
    bson_t query, update;
    bson_t projection, sort, array_filters;
    bool has_projection, has_sort, has_array_filters, upsert, multi;
    int64_t skip, limit;
    bson_t pipeline; /* an array */
    bson_t others;   /* further collections: {name: [documents]} */
};

struct oracle_counts {
    int64_t matched, modified, upserted;
};

struct oracle_backend {
    /* The documents found, one after another. */
    int (*find)(void *ctx, const struct oracle_case *c, struct lev_buf *out,
                struct lev_error *err);
    /* All documents afterwards. */
    int (*update)(void *ctx, const struct oracle_case *c,
                  struct oracle_counts *counts, struct lev_buf *out,
                  struct lev_error *err);
    /* The documents that come out of the pipeline. */
    int (*aggregate)(void *ctx, const struct oracle_case *c,
                     struct lev_buf *out, struct lev_error *err);
    void *ctx;
};

/* Runs all cases of a file below tests/data, or those whose id begins with
 * `only`; how many were wrong.
 * VERBOSE in the environment names those that are not supported. */
int oracle_run(const struct oracle_backend *b, const char *file,
               const char *only);
/* What a line of such a file asks; borrows from `c`. */
void oracle_take(const bson_t *c, struct oracle_case *oc);
/* The next line of it, to be destroyed; NULL at the end. */
bson_t *oracle_read(FILE *file);

#endif
