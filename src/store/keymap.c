#include "keymap.h"

#include <string.h>

#include "id.h"

void
lev_keymap_deinit(struct lev_keymap *m)
{
    lev_buf_deinit(&m->keys);
    lev_buf_deinit(&m->probe);
    free(m->entries);
    free(m->slots);
    *m = (struct lev_keymap){0};
}

size_t
lev_keymap_bytes(const struct lev_keymap *m)
{
    return m->keys.cap + m->cap * sizeof(*m->entries) +
           m->n_slots * sizeof(*m->slots);
}

/* Eight bytes at a time, mixed by multiplication. */
static uint64_t
hash_of(const char *key, size_t len)
{
    uint64_t h = len * UINT64_C(0x9e3779b97f4a7c15), word;

    for (; len > 0; len -= word) {
        uint64_t bytes = 0;

        word = len < 8 ? len : 8;
        memcpy(&bytes, key, word);
        key += word;
        h = (h ^ bytes) * UINT64_C(0xd6e8feb86659fd93);
        h ^= h >> 32;
    }
    return h;
}

/* The slot where the key is or would be. */
static uint32_t *
slot_of(const struct lev_keymap *m, uint64_t hash, const char *key, size_t len)
{
    for (size_t i = hash;; i++) {
        uint32_t *slot = &m->slots[i & (m->n_slots - 1)];
        const struct lev_keymap_entry *e;

        if (*slot == 0) {
            return slot;
        }
        e = &m->entries[*slot - 1];
        if (e->hash == hash && e->len == len &&
            memcmp(m->keys.data + e->at, key, len) == 0)
        {
            return slot;
        }
    }
}

static int
grow_slots(struct lev_keymap *m)
{
    size_t n = m->n_slots == 0 ? 16 : m->n_slots * 2;
    uint32_t *slots = calloc(n, sizeof(*slots));

    if (slots == NULL) {
        return -1;
    }
    free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    for (size_t k = 0; k < m->n; k++) {
        size_t i = m->entries[k].hash;

        while (slots[i & (n - 1)] != 0) {
            i++;
        }
        slots[i & (n - 1)] = (uint32_t)k + 1;
    }
    return 0;
}

static int
reserve(struct lev_keymap *m)
{
    size_t cap = m->cap == 0 ? 8 : m->cap * 2;
    struct lev_keymap_entry *entries;

    if (m->n * 2 >= m->n_slots && grow_slots(m) < 0) {
        return -1;
    }
    if (m->n < m->cap) {
        return 0;
    }
    entries =
        cap > UINT32_MAX ? NULL : realloc(m->entries, cap * sizeof(*entries));
    if (entries == NULL) {
        return -1;
    }
    m->entries = entries;
    m->cap = cap;
    return 0;
}

static int
make_probe(struct lev_keymap *m, const bson_value_t *v, struct lev_error *err)
{
    lev_buf_clear(&m->probe);
    return lev_id_key(v, &m->probe, err);
}

static int
found(uint32_t slot, size_t *index)
{
    if (slot != 0 && index != NULL) {
        *index = slot - 1;
    }
    return slot != 0;
}

int
lev_keymap_find(struct lev_keymap *m, const bson_value_t *v, size_t *index,
                struct lev_error *err)
{
    if (m->n == 0) {
        return 0;
    }
    if (make_probe(m, v, err) < 0) {
        return -1;
    }
    return found(*slot_of(m, hash_of(m->probe.data, m->probe.len),
                          m->probe.data, m->probe.len),
                 index);
}

int
lev_keymap_add(struct lev_keymap *m, const bson_value_t *v, size_t *index,
               struct lev_error *err)
{
    const struct lev_buf *key = &m->probe;
    uint64_t hash;
    uint32_t *slot;

    if (make_probe(m, v, err) < 0 || reserve(m) < 0) {
        return lev_error_nomem(err, "values");
    }
    hash = hash_of(key->data, key->len);
    slot = slot_of(m, hash, key->data, key->len);
    if (found(*slot, index)) {
        return 0;
    }
    m->entries[m->n] = (struct lev_keymap_entry){m->keys.len, key->len, hash};
    lev_buf_append(&m->keys, key->data, key->len);
    if (lev_buf_check(&m->keys, "values", err) < 0) {
        return -1;
    }
    *slot = (uint32_t)++m->n;
    found(*slot, index);
    return 1;
}
