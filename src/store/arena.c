#include "arena.h"

#include <stdalign.h>
#include <stddef.h>
#include <string.h>

#include "value.h"

#define CHUNK 4096u

struct lev_arena_chunk {
    struct lev_arena_chunk *before;
    size_t size, used;
    alignas(max_align_t) uint8_t data[];
};

static void
drop_top(struct lev_arena *a)
{
    struct lev_arena_chunk *c = a->top;

    a->top = c->before;
    a->bytes -= c->size;
    free(c);
}

void
lev_arena_deinit(struct lev_arena *a)
{
    while (a->top != NULL) {
        drop_top(a);
    }
}

void
lev_arena_clear(struct lev_arena *a)
{
    while (a->top != NULL && (a->top->before != NULL || a->top->size > CHUNK))
    {
        drop_top(a);
    }
    if (a->top != NULL) {
        a->top->used = 0;
    }
}

static int
add_chunk(struct lev_arena *a, size_t size, struct lev_error *err)
{
    size_t wanted = size > CHUNK ? size : CHUNK;
    struct lev_arena_chunk *c;

    if (wanted > LEV_ARENA_MAX - a->bytes) {
        return lev_error_set(err, LEV_E_QUERY, 146,
                             "an expression needs more than %u MiB for one "
                             "document",
                             LEV_ARENA_MAX >> 20);
    }
    c = malloc(sizeof(*c) + wanted);
    if (c == NULL) {
        return lev_error_nomem(err, "expression");
    }
    c->before = a->top;
    c->size = wanted;
    c->used = 0;
    a->top = c;
    a->bytes += wanted;
    return 0;
}

void *
lev_arena_alloc(struct lev_arena *a, size_t size, struct lev_error *err)
{
    size_t whole =
        (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    void *p;

    if ((a->top == NULL || whole > a->top->size - a->top->used) &&
        add_chunk(a, whole, err) < 0)
    {
        return NULL;
    }
    p = a->top->data + a->top->used;
    a->top->used += whole;
    a->handed += whole;
    return p;
}

struct lev_arena_mark
lev_arena_mark(const struct lev_arena *a)
{
    return (struct lev_arena_mark){a->top, a->top == NULL ? 0 : a->top->used};
}

void
lev_arena_release(struct lev_arena *a, struct lev_arena_mark mark)
{
    while (a->top != mark.top) {
        drop_top(a);
    }
    if (a->top != NULL) {
        a->top->used = mark.used;
    }
}

/* The bytes that a value points to; NULL for types that point to nothing, or
 * in several places. */
static void **
bytes_of(bson_value_t *v, size_t *len)
{
    switch (v->value_type) {
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL: /* lies as a string does */
        *len = v->value.v_utf8.len;
        return (void **)&v->value.v_utf8.str;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        *len = v->value.v_doc.data_len;
        return (void **)&v->value.v_doc.data;
    case BSON_TYPE_BINARY:
        *len = v->value.v_binary.data_len;
        return (void **)&v->value.v_binary.data;
    default:
        return NULL;
    }
}

static bool
is_scattered(bson_type_t type)
{
    return type == BSON_TYPE_REGEX || type == BSON_TYPE_CODE ||
           type == BSON_TYPE_CODEWSCOPE || type == BSON_TYPE_DBPOINTER;
}

/* Copied as the field of a document, whatever it is. */
static int
keep_scattered(struct lev_arena *a, struct lev_arena_mark mark,
               bson_value_t *v, struct lev_error *err)
{
    bson_t doc = BSON_INITIALIZER, copy;
    bson_value_t whole;
    int rc;

    bson_append_value(&doc, "", 0, v);
    lev_arena_release(a, mark);
    rc = lev_arena_doc(a, &doc, BSON_TYPE_DOCUMENT, &whole, err);
    bson_destroy(&doc);
    if (rc == 0 && lev_value_open(&whole, &copy)) {
        *v = lev_value_field(&copy, "");
    }
    return rc;
}

/* Whether it was taken from a chunk that is newer than the mark. */
static bool
is_newer(const struct lev_arena *a, struct lev_arena_mark mark, const void *p)
{
    const uint8_t *at = p;

    for (const struct lev_arena_chunk *c = a->top; c != NULL; c = c->before) {
        if (at >= c->data && at < c->data + c->used) {
            return c != mark.top || at >= c->data + mark.used;
        }
        if (c == mark.top) {
            return false;
        }
    }
    return false;
}

int
lev_arena_keep(struct lev_arena *a, struct lev_arena_mark mark,
               bson_value_t *v, struct lev_error *err)
{
    size_t len = 0;
    void **bytes = bytes_of(v, &len);
    _cleanup_free_ void *copy = NULL;

    if (is_scattered(v->value_type)) {
        return keep_scattered(a, mark, v, err);
    }
    if (bytes == NULL || !is_newer(a, mark, *bytes)) {
        lev_arena_release(a, mark);
        return 0;
    }
    copy = malloc(len + 1);
    if (copy == NULL) {
        return lev_error_nomem(err, "expression");
    }
    memcpy(copy, *bytes, len);
    lev_arena_release(a, mark);
    *bytes = lev_arena_alloc(a, len + 1, err);
    if (*bytes == NULL) {
        return -1;
    }
    memcpy(*bytes, copy, len);
    ((char *)*bytes)[len] = '\0';
    return 0;
}

static int
check_result(size_t len, struct lev_error *err)
{
    return len <= LEV_RESULT_MAX
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 10334,
                               "an expression makes a value of more than %u "
                               "MiB",
                               LEV_RESULT_MAX >> 20);
}

int
lev_arena_text(struct lev_arena *a, const char *text, size_t len,
               bson_value_t *out, struct lev_error *err)
{
    char *copy =
        check_result(len, err) < 0 ? NULL : lev_arena_alloc(a, len + 1, err);

    if (copy == NULL) {
        return -1;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    *out = (bson_value_t){.value_type = BSON_TYPE_UTF8};
    out->value.v_utf8.str = copy;
    out->value.v_utf8.len = (uint32_t)len;
    return 0;
}

int
lev_arena_doc(struct lev_arena *a, const bson_t *doc, bson_type_t type,
              bson_value_t *out, struct lev_error *err)
{
    uint8_t *copy = check_result(doc->len, err) < 0
                        ? NULL
                        : lev_arena_alloc(a, doc->len, err);

    if (copy == NULL) {
        return -1;
    }
    memcpy(copy, bson_get_data(doc), doc->len);
    *out = (bson_value_t){.value_type = type};
    out->value.v_doc.data = copy;
    out->value.v_doc.data_len = doc->len;
    return 0;
}

void *
lev_arena_calloc(size_t size)
{
    void *p;

    if (posix_memalign(&p, alignof(bson_t), size) != 0) {
        return NULL;
    }
    return memset(p, 0, size);
}

void
lev_build_init(struct lev_build *b)
{
    bson_init(&b->doc);
    b->n = 0;
}

void
lev_build_deinit(struct lev_build *b)
{
    bson_destroy(&b->doc);
}

int
lev_build_add(struct lev_build *b, const bson_value_t *v,
              struct lev_error *err)
{
    lev_value_append_element(
        &b->doc, b->n++, v->value_type == BSON_TYPE_EOD ? &lev_value_null : v);
    return check_result(b->doc.len, err);
}

int
lev_build_set(struct lev_build *b, const char *key, const bson_value_t *v,
              struct lev_error *err)
{
    if (v->value_type != BSON_TYPE_EOD) {
        bson_append_value(&b->doc, key, -1, v);
    }
    return check_result(b->doc.len, err);
}

int
lev_build_finish(struct lev_build *b, struct lev_arena *a, bson_type_t type,
                 bson_value_t *out, struct lev_error *err)
{
    return lev_arena_doc(a, &b->doc, type, out, err);
}
