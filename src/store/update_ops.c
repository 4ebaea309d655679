#include "update_ops.h"

#include <string.h>
#include <sys/time.h>

#include "path.h"
#include "value.h"

void
lev_update_keep(const struct lev_update_at *at)
{
    if (at->old->value_type != BSON_TYPE_EOD) {
        bson_append_value(at->out, at->key, -1, at->old);
    }
}

static int
apply_set(const struct lev_update_at *at, struct lev_error *err)
{
    bson_append_value(at->out, at->key, -1, at->operand);
    return 0;
}

static int
apply_unset(const struct lev_update_at *at, struct lev_error *err)
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

/* $min, $max: the operand where it is on that side of the old value. */
static int
apply_extreme(const struct lev_update_at *at, int side)
{
    if (at->old->value_type == BSON_TYPE_EOD ||
        lev_value_compare(at->operand, at->old) * side > 0)
    {
        bson_append_value(at->out, at->key, -1, at->operand);
    }
    else {
        lev_update_keep(at);
    }
    return 0;
}

static int
apply_min(const struct lev_update_at *at, struct lev_error *err)
{
    return apply_extreme(at, -1);
}

static int
apply_max(const struct lev_update_at *at, struct lev_error *err)
{
    return apply_extreme(at, 1);
}

static const struct lev_update_op min = {
    .name = "$min",
    .creates = true,
    .apply = apply_min,
};

static const struct lev_update_op max = {
    .name = "$max",
    .creates = true,
    .apply = apply_max,
};

/* $currentDate */

/* What {$type: …} says; "" where it says something else. */
static const char *
date_type(const bson_value_t *operand)
{
    bson_t doc;
    bson_value_t type;

    if (!lev_value_open(operand, &doc) || bson_count_keys(&doc) != 1) {
        return "";
    }
    type = lev_value_field(&doc, "$type");
    return type.value_type == BSON_TYPE_UTF8 ? type.value.v_utf8.str : "";
}

static int
compile_date(const char *path, const bson_value_t *operand, void **data,
             struct lev_error *err)
{
    const char *type =
        operand->value_type == BSON_TYPE_DOCUMENT ? date_type(operand) : "";

    return operand->value_type == BSON_TYPE_BOOL ||
                   strcmp(type, "date") == 0 || strcmp(type, "timestamp") == 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 2,
                               "'%s': $currentDate needs true, {$type: "
                               "\"date\"} or {$type: \"timestamp\"}",
                               path);
}

static int
apply_date(const struct lev_update_at *at, struct lev_error *err)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    if (at->operand->value_type == BSON_TYPE_DOCUMENT &&
        strcmp(date_type(at->operand), "timestamp") == 0)
    {
        bson_append_timestamp(at->out, at->key, -1, (uint32_t)now.tv_sec, 1);
    }
    else {
        bson_append_timeval(at->out, at->key, -1, &now);
    }
    return 0;
}

static const struct lev_update_op current_date = {
    .name = "$currentDate",
    .creates = true,
    .compile = compile_date,
    .apply = apply_date,
};

/* $rename */

static bool
rename_ready(const void *data, const bson_t *doc)
{
    return lev_path_value(data, doc).value_type != BSON_TYPE_EOD;
}

static int
apply_rename(const struct lev_update_at *at, struct lev_error *err)
{
    bson_value_t v = lev_path_value(at->data, at->doc);

    if (v.value_type == BSON_TYPE_EOD) {
        lev_update_keep(at);
    }
    else {
        bson_append_value(at->out, at->key, -1, &v);
    }
    return 0;
}

static void
rename_destroy(void *data)
{
    if (data != NULL) {
        lev_path_deinit(data);
        free(data);
    }
}

const struct lev_update_op lev_update_op_rename = {
    .name = "$rename",
    .creates = true,
    .destroy = rename_destroy,
    .ready = rename_ready,
    .apply = apply_rename,
};

const struct lev_update_op lev_update_op_rename_source = {
    .name = "$rename",
    .apply = apply_unset,
};

const struct lev_update_op *
lev_update_op_find(const char *name, struct lev_error *err)
{
    static const struct lev_update_op *const ops[] = {
        &lev_update_op_set,
        &unset,
        &set_on_insert,
        &min,
        &max,
        &current_date,
        &lev_update_op_rename,
        &lev_update_op_inc,
        &lev_update_op_mul,
        &lev_update_op_bit,
        &lev_update_op_push,
        &lev_update_op_add_to_set,
        &lev_update_op_pop,
        &lev_update_op_pull,
        &lev_update_op_pull_all,
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(ops); i++) {
        if (strcmp(name, ops[i]->name) == 0) {
            return ops[i];
        }
    }
    lev_error_set(err, LEV_E_QUERY, 9, "'%s' is no update operator", name);
    return NULL;
}
