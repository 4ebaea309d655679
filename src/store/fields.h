/* fields.h - an object made of fields that may be set again: each stays where
 * it was first, with its last value.
 *
 * A zeroed struct has no fields. Values are borrowed until the object is
 * finished. Belongs to one thread.
 */
#ifndef LEV_FIELDS_H
#define LEV_FIELDS_H

#include "arena.h"
#include "keymap.h"

struct lev_fields {
    struct lev_keymap names;
    struct lev_field {
        const char *name;
        bson_value_t value;
    } * each;
    size_t cap;
};

void lev_fields_deinit(struct lev_fields *f);
#define _cleanup_fields_ _cleanup_(lev_fields_deinit)

/* `name` is borrowed, too. */
int lev_fields_set(struct lev_fields *f, const char *name,
                   const bson_value_t *v, struct lev_error *err);
/* All fields of an object. */
int lev_fields_merge(struct lev_fields *f, const bson_value_t *object,
                     struct lev_error *err);
int lev_fields_finish(const struct lev_fields *f, struct lev_arena *a,
                      bson_value_t *out, struct lev_error *err);

#endif
