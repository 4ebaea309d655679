/* update_ops.h - what each update operator makes of one field.
 *
 * Internal to update.c, which finds the fields: an operator sees the old
 * value and writes the new one.
 */
#ifndef LEV_UPDATE_OPS_H
#define LEV_UPDATE_OPS_H

#include "error.h"
#include <bson/bson.h>

struct lev_update_op {
    const char *name;
    bool creates;     /* makes fields that are missing, and those above them */
    bool insert_only; /* does nothing to documents that exist */
    /* QUERY for an operand that will not do; NULL: any will. */
    int (*check)(const char *path, const bson_value_t *operand,
                 struct lev_error *err);
    /* Appends the new value under `key`, or nothing to have none. `old` is
     * BSON_TYPE_EOD where there was none. */
    int (*apply)(const char *path, const bson_value_t *operand,
                 const bson_value_t *old, const char *key, bson_t *out,
                 struct lev_error *err);
};

/* NULL with QUERY 9 for what is no operator, UNSUPPORTED_OPERATION for those
 * of MongoDB's that are not here. */
const struct lev_update_op *lev_update_op_find(const char *name,
                                               struct lev_error *err);
extern const struct lev_update_op lev_update_op_set;

#endif
