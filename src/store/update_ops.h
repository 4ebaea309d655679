/* update_ops.h - what each update operator makes of one field.
 *
 * Internal to update.c, which finds the fields: an operator sees the old
 * value and writes the new one. Operators do not change; what one keeps of its
 * operand belongs to the compiled update.
 */
#ifndef LEV_UPDATE_OPS_H
#define LEV_UPDATE_OPS_H

#include "error.h"
#include <bson/bson.h>

/* A field, and what is asked of it. */
struct lev_update_at {
    const char *path;
    const bson_value_t *operand;
    const void *data;        /* what `compile` made of the operand */
    const bson_t *doc;       /* the whole document as it was */
    const bson_value_t *old; /* BSON_TYPE_EOD where there was none */
    const char *key;         /* under which the new value is appended … */
    bson_t *out;             /* … to this; or nothing, to have none */
};

struct lev_update_op {
    const char *name;
    bool creates;     /* makes fields that are missing, and those above them */
    bool strict;      /* fails where nothing can be below a value */
    bool insert_only; /* does nothing to documents that exist */
    /* QUERY for an operand that will not do; NULL: any will. */
    int (*compile)(const char *path, const bson_value_t *operand, void **data,
                   struct lev_error *err);
    void (*destroy)(void *data); /* NULL: `compile` makes nothing */
    /* Whether there is something to create; NULL: always. */
    bool (*ready)(const void *data, const bson_t *doc);
    int (*apply)(const struct lev_update_at *at, struct lev_error *err);
};

/* NULL with QUERY 9 for what is no operator. */
const struct lev_update_op *lev_update_op_find(const char *name,
                                               struct lev_error *err);
/* The old value as it is. */
void lev_update_keep(const struct lev_update_at *at);

extern const struct lev_update_op lev_update_op_set;
/* The two ends of a $rename; `data` of the target is the source's `struct
 * lev_path`. */
extern const struct lev_update_op lev_update_op_rename;
extern const struct lev_update_op lev_update_op_rename_source;

/* update_number.c, update_array.c */
extern const struct lev_update_op lev_update_op_inc, lev_update_op_mul,
    lev_update_op_bit, lev_update_op_push, lev_update_op_add_to_set,
    lev_update_op_pop, lev_update_op_pull, lev_update_op_pull_all;

#endif
