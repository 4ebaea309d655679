#include "update_ops.h"

#include <string.h>

static int
apply_set(const char *path, const bson_value_t *operand,
          const bson_value_t *old, const char *key, bson_t *out,
          struct lev_error *err)
{
    bson_append_value(out, key, -1, operand);
    return 0;
}

static int
apply_unset(const char *path, const bson_value_t *operand,
            const bson_value_t *old, const char *key, bson_t *out,
            struct lev_error *err)
{
    return 0;
}

const struct lev_update_op lev_update_op_set = {
    .name = "$set",
    .creates = true,
    .apply = apply_set,
};

static const struct lev_update_op unset = {
    .name = "$unset",
    .apply = apply_unset,
};

static const struct lev_update_op set_on_insert = {
    .name = "$setOnInsert",
    .creates = true,
    .insert_only = true,
    .apply = apply_set,
};

static bool
is_elsewhere(const char *name)
{
    static const char *const later[] = {
        "$inc",         "$mul",  "$min",     "$max", "$rename",   "$push",
        "$currentDate", "$pull", "$pullAll", "$pop", "$addToSet", "$bit",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(later); i++) {
        if (strcmp(name, later[i]) == 0) {
            return true;
        }
    }
    return false;
}

const struct lev_update_op *
lev_update_op_find(const char *name, struct lev_error *err)
{
    static const struct lev_update_op *const ops[] = {
        &lev_update_op_set,
        &unset,
        &set_on_insert,
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(ops); i++) {
        if (strcmp(name, ops[i]->name) == 0) {
            return ops[i];
        }
    }
    if (is_elsewhere(name)) {
        lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                      "the embedded store has no %s in updates; read, change "
                      "and $set the value",
                      name);
    }
    else {
        lev_error_set(err, LEV_E_QUERY, 9, "'%s' is no update operator", name);
    }
    return NULL;
}
