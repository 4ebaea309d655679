#include "expr_array.h"

#include <string.h>

#include "fields.h"

static int
eval_merge(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_fields_ struct lev_fields fields = {0};

    for (size_t i = 0; i < n->n; i++) {
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        if (lev_node_nullish(&v)) {
            continue;
        }
        if (v.value_type != BSON_TYPE_DOCUMENT) {
            return lev_error_set(err, LEV_E_QUERY, 40400,
                                 "expression: $mergeObjects needs objects, "
                                 "not %s",
                                 lev_value_type_name(v.value_type));
        }
        if (lev_fields_merge(&fields, &v, err) < 0) {
            return -1;
        }
    }
    return lev_fields_finish(&fields, &ev->arena, out, err);
}

/* $objectToArray */

static int
add_pair(struct lev_build *list, bson_iter_t *it, struct lev_error *err)
{
    _cleanup_build_ struct lev_build pair;
    bson_value_t v = lev_value_of(it);

    lev_build_init(&pair);
    bson_append_utf8(&pair.doc, "k", 1, bson_iter_key(it),
                     (int)bson_iter_key_len(it));
    if (lev_build_set(&pair, "v", &v, err) < 0) {
        return -1;
    }
    v = lev_value_doc(&pair.doc);
    return lev_build_add(list, &v, err);
}

static int
eval_to_array(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    _cleanup_build_ struct lev_build list;
    bson_iter_t it;
    bson_value_t v;

    lev_build_init(&list);
    if (lev_node_eval(n->args[0], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        *out = lev_value_null;
        return 0;
    }
    if (v.value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(err, LEV_E_QUERY, 40390,
                             "expression: $objectToArray needs an object, not "
                             "%s",
                             lev_value_type_name(v.value_type));
    }
    for (bool ok = lev_value_iter(&v, &it); ok && bson_iter_next(&it);) {
        if (add_pair(&list, &it, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&list, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

/* $arrayToObject: of [name, value] pairs, or of {k, v} objects. */

static int
bad_pair(struct lev_error *err, int code, const char *what)
{
    return lev_error_set(err, LEV_E_QUERY, code,
                         "expression: $arrayToObject: %s", what);
}

static int
take_array_pair(const bson_value_t *v, bson_value_t *name, bson_value_t *value,
                struct lev_error *err)
{
    if (v->value_type != BSON_TYPE_ARRAY) {
        return bad_pair(err, 40396, "after [name, value] come the same");
    }
    if (lev_array_count(v) != 2) {
        return bad_pair(err, 40397, "a pair is [name, value]");
    }
    *name = lev_array_at(v, 0);
    *value = lev_array_at(v, 1);
    return name->value_type == BSON_TYPE_UTF8
               ? 0
               : bad_pair(err, 40395, "the name of a pair is a string");
}

static int
take_object_pair(const bson_value_t *v, bson_value_t *name,
                 bson_value_t *value, struct lev_error *err)
{
    bson_t doc;

    if (v->value_type != BSON_TYPE_DOCUMENT || !lev_value_open(v, &doc)) {
        return bad_pair(err, 40391, "after {k, v} come the same");
    }
    if (bson_count_keys(&doc) != 2) {
        return bad_pair(err, 40392, "a pair is {k: name, v: value}");
    }
    *name = lev_value_field(&doc, "k");
    *value = lev_value_field(&doc, "v");
    if (name->value_type == BSON_TYPE_EOD ||
        value->value_type == BSON_TYPE_EOD) {
        return bad_pair(err, 40393, "a pair is {k: name, v: value}");
    }
    return name->value_type == BSON_TYPE_UTF8
               ? 0
               : bad_pair(err, 40394, "k is a string");
}

static int
add_pairs(struct lev_fields *fields, const bson_value_t *array,
          struct lev_error *err)
{
    bson_type_t form = BSON_TYPE_EOD;
    bson_iter_t it;

    for (bool ok = lev_value_iter(array, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it), name, value;

        if (form == BSON_TYPE_EOD) {
            form = v.value_type;
        }
        if (form != BSON_TYPE_ARRAY && form != BSON_TYPE_DOCUMENT) {
            return bad_pair(err, 40398, "pairs are arrays or objects");
        }
        if ((form == BSON_TYPE_ARRAY
                 ? take_array_pair(&v, &name, &value, err)
                 : take_object_pair(&v, &name, &value, err)) < 0)
        {
            return -1;
        }
        if (strlen(name.value.v_utf8.str) != name.value.v_utf8.len) {
            return bad_pair(err, 4940400, "a name holds no NUL");
        }
        if (lev_fields_set(fields, name.value.v_utf8.str, &value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
eval_to_object(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    _cleanup_fields_ struct lev_fields fields = {0};
    bson_value_t array;
    int rc = lev_array_arg(n, 0, 40386, ev, &array, err);

    if (rc <= 0) {
        *out = lev_value_null;
        return rc;
    }
    return add_pairs(&fields, &array, err) < 0
               ? -1
               : lev_fields_finish(&fields, &ev->arena, out, err);
}

/* $getField: {field, input}, or the name alone, of the whole document. */

static int
compile_get_field(struct lev_compile *c, struct lev_node *n,
                  const bson_value_t *operand)
{
    static const char current[] = "$$CURRENT";
    bson_value_t root = {.value_type = BSON_TYPE_UTF8};
    bson_iter_t it;

    if (operand->value_type == BSON_TYPE_DOCUMENT &&
        lev_value_iter(operand, &it) &&
        (!bson_iter_next(&it) || bson_iter_key(&it)[0] != '$'))
    {
        return lev_node_compile_params(c, n, operand);
    }
    root.value.v_utf8.str = (char *)current;
    root.value.v_utf8.len = sizeof(current) - 1;
    if (lev_node_alloc_args(c, n, 2) < 0) {
        return -1;
    }
    n->args[0] = lev_node_compile(c, operand);
    n->args[1] = n->args[0] == NULL ? NULL : lev_node_compile(c, &root);
    return n->args[1] == NULL ? -1 : 0;
}

static int
eval_get_field(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    bson_value_t name, input;
    bson_t doc;

    if (lev_node_eval(n->args[0], ev, &name, err) < 0 ||
        lev_node_eval(n->args[1], ev, &input, err) < 0)
    {
        return -1;
    }
    if (name.value_type != BSON_TYPE_UTF8) {
        return lev_error_set(err, LEV_E_QUERY, 3041704,
                             "expression: the field of $getField is a string, "
                             "not %s",
                             lev_value_type_name(name.value_type));
    }
    *out = lev_value_missing;
    if (input.value_type == BSON_TYPE_NULL ||
        input.value_type == BSON_TYPE_UNDEFINED)
    {
        *out = lev_value_null;
    }
    else if (input.value_type == BSON_TYPE_DOCUMENT &&
             lev_value_open(&input, &doc) &&
             strlen(name.value.v_utf8.str) == name.value.v_utf8.len)
    {
        *out = lev_value_field(&doc, name.value.v_utf8.str);
    }
    return 0;
}

const struct lev_expr_op lev_expr_object[] = {
    {.name = "$mergeObjects", .eval = eval_merge, .max = -1},
    {.name = "$objectToArray", .eval = eval_to_array, .min = 1, .max = 1},
    {.name = "$arrayToObject", .eval = eval_to_object, .min = 1, .max = 1},
    {.name = "$getField",
     .eval = eval_get_field,
     .compile = compile_get_field,
     .params = {{"field", 3041702}, {"input", 3041703}},
     .not_object = 3041701,
     .unknown = 3041701},
    {0},
};
