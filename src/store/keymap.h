/* keymap.h - which of many values are equal: a hash table from values to the
 * numbers 0, 1, … in order of their first appearance.
 *
 * Equality is MongoDB's: 1 = 1.0, an object's fields in their order. A zeroed
 * struct is an empty table. Belongs to one thread.
 */
#ifndef LEV_KEYMAP_H
#define LEV_KEYMAP_H

#include "buf.h"
#include <bson/bson.h>

struct lev_keymap {
    struct lev_buf keys, probe;
    struct lev_keymap_entry {
        size_t at, len; /* of its key in `keys` */
        uint64_t hash;
    } * entries;
    size_t n, cap;
    uint32_t *slots; /* an entry's number + 1; 0: free */
    size_t n_slots;  /* a power of two */
};

void lev_keymap_deinit(struct lev_keymap *m);
#define _cleanup_keymap_ _cleanup_(lev_keymap_deinit)

/* 1 when the value is new, 0 when it is there already, -1 with NOMEM.
 * `*index` (unless NULL) is its number. */
int lev_keymap_add(struct lev_keymap *m, const bson_value_t *v, size_t *index,
                   struct lev_error *err);
/* 1 with the value's number, 0 or -1. */
int lev_keymap_find(struct lev_keymap *m, const bson_value_t *v, size_t *index,
                    struct lev_error *err);
size_t lev_keymap_bytes(const struct lev_keymap *m); /* of memory, about */

#endif
