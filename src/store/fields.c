#include "fields.h"

#include <string.h>

#include "value.h"

void
lev_fields_deinit(struct lev_fields *f)
{
    lev_keymap_deinit(&f->names);
    free(f->each);
}

int
lev_fields_set(struct lev_fields *f, const char *name, const bson_value_t *v,
               struct lev_error *err)
{
    bson_value_t key = {.value_type = BSON_TYPE_UTF8};
    size_t i;

    key.value.v_utf8.str = (char *)name;
    key.value.v_utf8.len = (uint32_t)strlen(name);
    if (lev_keymap_add(&f->names, &key, &i, err) < 0) {
        return -1;
    }
    if (i >= f->cap) {
        size_t cap = f->cap == 0 ? 16 : f->cap * 2;
        struct lev_field *each = realloc(f->each, cap * sizeof(*each));

        if (each == NULL) {
            return lev_error_nomem(err, "object");
        }
        f->each = each;
        f->cap = cap;
    }
    f->each[i] = (struct lev_field){name, *v};
    return 0;
}

int
lev_fields_merge(struct lev_fields *f, const bson_value_t *object,
                 struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(object, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (lev_fields_set(f, bson_iter_key(&it), &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_fields_finish(const struct lev_fields *f, struct lev_arena *a,
                  bson_value_t *out, struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;

    lev_build_init(&b);
    for (size_t i = 0; i < f->names.n; i++) {
        if (lev_build_set(&b, f->each[i].name, &f->each[i].value, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, a, BSON_TYPE_DOCUMENT, out, err);
}
