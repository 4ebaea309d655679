#include "update_filter.h"

#include <string.h>

#include "value.h"

void
lev_array_filters_deinit(struct lev_array_filters *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->each[i].id);
        lev_match_destroy(list->each[i].match);
    }
    free(list->each);
    *list = (struct lev_array_filters){0};
}

struct lev_array_filter *
lev_array_filters_find(const struct lev_array_filters *list, const char *id,
                       size_t len)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strlen(list->each[i].id) == len &&
            strncmp(list->each[i].id, id, len) == 0) {
            return &list->each[i];
        }
    }
    return NULL;
}

/* The name that all fields of an array filter begin with; "" when there is
 * none, NULL with QUERY when there are several. `so_far` belongs to the
 * filter. */
static const char *
filter_id(const bson_value_t *filter, const char *so_far, int depth,
          struct lev_error *err)
{
    bson_iter_t it, below;

    for (bool ok = depth < LEV_VALUE_MAX_DEPTH && lev_value_iter(filter, &it);
         ok && bson_iter_next(&it);)
    {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);

        if (key[0] == '$') { /* $and, $or, $nor */
            for (bool more = lev_value_iter(&v, &below);
                 more && bson_iter_next(&below);) {
                bson_value_t each = lev_value_of(&below);

                so_far = filter_id(&each, so_far, depth + 1, err);
                if (so_far == NULL) {
                    return NULL;
                }
            }
            continue;
        }
        if (so_far[0] != '\0' &&
            (strcspn(key, ".") != strcspn(so_far, ".") ||
             strncmp(key, so_far, strcspn(key, ".")) != 0))
        {
            lev_error_set(err, LEV_E_QUERY, 9,
                          "array_filters: '%s' and '%s' are in one filter; "
                          "each filter is for one identifier",
                          so_far, key);
            return NULL;
        }
        so_far = key;
    }
    return so_far;
}

static int
check_filter_id(struct lev_array_filters *list, const char *id, size_t len,
                struct lev_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    if (len == 0) {
        return lev_error_set(err, LEV_E_QUERY, 9,
                             "array_filters: a filter names no identifier");
    }
    if (id[0] < 'a' || id[0] > 'z' || strspn(id, letters) < len) {
        return lev_error_set(err, LEV_E_QUERY, 2,
                             "array_filters: '%.*s' is no identifier: letters "
                             "and digits, the first one a small letter",
                             (int)len, id);
    }
    return lev_array_filters_find(list, id, len) == NULL
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 9,
                               "array_filters: two filters are for '%.*s'",
                               (int)len, id);
}

static int
add_filter(struct lev_array_filters *list, const bson_value_t *filter,
           struct lev_error *err)
{
    struct lev_array_filter *f = &list->each[list->n];
    const char *id;
    bson_t doc;

    if (filter->value_type != BSON_TYPE_DOCUMENT ||
        !lev_value_open(filter, &doc)) {
        return lev_error_set(err, LEV_E_QUERY, 14,
                             "array_filters: each is an object, not %s",
                             lev_value_type_name(filter->value_type));
    }
    id = filter_id(filter, "", 0, err);
    if (id == NULL || check_filter_id(list, id, strcspn(id, "."), err) < 0) {
        return -1;
    }
    f->id = strndup(id, strcspn(id, "."));
    if (f->id == NULL) {
        return lev_error_nomem(err, "update");
    }
    list->n++;
    f->match = lev_match_compile(&doc, err);
    return f->match == NULL
               ? lev_error_wrap(err, "array_filters")
               : lev_match_check_no_expr(f->match, "array_filters", err);
}

int
lev_array_filters_compile(struct lev_array_filters *list,
                          const bson_t *filters, struct lev_error *err)
{
    bson_iter_t it;

    if (filters == NULL) {
        return 0;
    }
    if (lev_value_check(filters, err) < 0) {
        return lev_error_wrap(err, "array_filters");
    }
    list->each = calloc(bson_count_keys(filters) + 1, sizeof(*list->each));
    if (list->each == NULL) {
        return lev_error_nomem(err, "update");
    }
    for (bool ok = bson_iter_init(&it, filters); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_filter(list, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_array_filters_check(const struct lev_array_filters *list,
                        struct lev_error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (!list->each[i].used) {
            return lev_error_set(err, LEV_E_QUERY, 9,
                                 "array_filters: nothing in the update is at "
                                 "$[%s]",
                                 list->each[i].id);
        }
    }
    return 0;
}
