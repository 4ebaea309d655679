#include "sort.h"

#include <string.h>

#include "number.h"
#include "path.h"
#include "value.h"

struct key {
    struct lev_path path;
    int direction; /* 1, -1 */
};

struct lev_sort {
    struct key *keys;
    size_t n;
};

/* A document that waits for its place. */
struct held {
    uint64_t serial; /* order of arrival */
    long index;
    uint8_t *doc; /* owned */
    uint32_t len;
    bson_value_t keys[]; /* borrow from `doc` */
};

/* With `keep`, `held` is a heap whose root is the last in order: it goes when
 * a better one comes. */
struct lev_sorter {
    const struct lev_sort *order;
    size_t keep, n, cap, next;
    size_t bytes;
    uint64_t serial;
    struct held **held;
    struct held *probe; /* without a document: keys of one that is looked at */
    bool sorted;
};

static inline void
sort_destroyp(struct lev_sort **s)
{
    lev_sort_destroy(*s);
}

void
lev_sort_destroy(struct lev_sort *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        lev_path_deinit(&s->keys[i].path);
    }
    free(s->keys);
    free(s);
}

static int
check_name(const struct lev_path *path, struct lev_error *err)
{
    for (size_t i = 0; i < path->n; i++) {
        if (path->part[i].name[0] == '\0') {
            return lev_error_set(err, LEV_E_QUERY, 15998,
                                 "sort: '%s' holds an empty field name",
                                 path->text);
        }
    }
    return 0;
}

static int
add_key(struct lev_sort *s, const char *name, const bson_value_t *v,
        struct lev_error *err)
{
    struct key *k = &s->keys[s->n];
    int64_t direction = 0;

    if (v->value_type == BSON_TYPE_DOCUMENT) {
        bson_t doc;

        if (lev_value_open(v, &doc) && bson_has_field(&doc, "$meta")) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "sort '%s': the embedded store has no $meta",
                                 name);
        }
    }
    if (!lev_number_is(v) || !lev_number_truncate(v, &direction) ||
        (direction != 1 && direction != -1))
    {
        return lev_error_set(
            err, LEV_E_QUERY,
            lev_number_is(v) || v->value_type == BSON_TYPE_DOCUMENT ? 15975
                                                                    : 15974,
            "sort '%s': the order must be 1 or -1", name);
    }
    if (lev_path_parse(name, &k->path, err) < 0) {
        return -1;
    }
    s->n++;
    k->direction = (int)direction;
    return check_name(&k->path, err);
}

struct lev_sort *
lev_sort_compile(const bson_t *spec, struct lev_error *err)
{
    _cleanup_(sort_destroyp) struct lev_sort *s = calloc(1, sizeof(*s));
    bson_iter_t it;

    if (lev_value_check(spec, err) < 0) {
        return NULL;
    }
    if (s != NULL) {
        s->keys = calloc(bson_count_keys(spec) + 1, sizeof(*s->keys));
    }
    if (s == NULL || s->keys == NULL) {
        lev_error_nomem(err, "sort");
        return NULL;
    }
    for (bool ok = bson_iter_init(&it, spec); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_key(s, bson_iter_key(&it), &v, err) < 0) {
            return NULL;
        }
    }
    if (s->n == 0) {
        lev_error_set(err, LEV_E_QUERY, 2, "sort: no field is named");
        return NULL;
    }
    return lev_steal(s);
}

struct extreme {
    int direction;
    bool found;
    bson_value_t best;
};

static int
take_extreme(void *ctx, const struct lev_path_hit *hit)
{
    struct extreme *x = ctx;
    const bson_value_t *v = hit->value;

    if (hit->whole) {
        bson_iter_t it;

        if (lev_value_iter(v, &it) && bson_iter_next(&it)) {
            return 0; /* its elements have been here */
        }
        v = &lev_value_missing; /* an empty array is below null */
    }
    else if (v->value_type == BSON_TYPE_EOD) {
        v = &lev_value_null;
    }
    if (!x->found || lev_value_compare(v, &x->best) * x->direction < 0) {
        x->best = *v;
        x->found = true;
    }
    return 0;
}

static bson_value_t
key_of(const struct key *k, const bson_t *doc)
{
    struct extreme x = {k->direction, false, lev_value_null};

    lev_path_each(&k->path, doc, LEV_PATH_KEYS, take_extreme, &x);
    return x.best;
}

int
lev_sort_compare(const struct lev_sort *s, const bson_value_t *a,
                 const bson_value_t *b)
{
    static const bson_t nothing = BSON_INITIALIZER;
    bson_t x = nothing, y = nothing;

    if (a->value_type == BSON_TYPE_DOCUMENT) {
        lev_value_open(a, &x);
    }
    if (b->value_type == BSON_TYPE_DOCUMENT) {
        lev_value_open(b, &y);
    }
    for (size_t i = 0; i < s->n; i++) {
        bson_value_t v = key_of(&s->keys[i], &x), w = key_of(&s->keys[i], &y);
        int c = lev_value_compare(&v, &w);

        if (c != 0) {
            return c * s->keys[i].direction;
        }
    }
    return 0;
}

static int
compare_held(const struct lev_sort *order, const struct held *a,
             const struct held *b)
{
    for (size_t i = 0; i < order->n; i++) {
        int c = lev_value_compare(&a->keys[i], &b->keys[i]);

        if (c != 0) {
            return c * order->keys[i].direction;
        }
    }
    return (a->serial > b->serial) - (a->serial < b->serial);
}

struct lev_sorter *
lev_sorter_create(const struct lev_sort *order, size_t keep,
                  struct lev_error *err)
{
    struct lev_sorter *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        lev_error_nomem(err, "sort");
        return NULL;
    }
    s->order = order;
    s->keep = keep;
    s->probe =
        calloc(1, sizeof(*s->probe) + order->n * sizeof(s->probe->keys[0]));
    if (s->probe == NULL) {
        free(s);
        lev_error_nomem(err, "sort");
        return NULL;
    }
    return s;
}

static void
held_free(struct held *h)
{
    if (h != NULL) {
        free(h->doc);
        free(h);
    }
}

void
lev_sorter_destroy(struct lev_sorter *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        held_free(s->held[i]);
    }
    free(s->held);
    free(s->probe);
    free(s);
}

static void
fill_keys(const struct lev_sort *order, struct held *h, const bson_t *doc)
{
    for (size_t i = 0; i < order->n; i++) {
        h->keys[i] = key_of(&order->keys[i], doc);
    }
}

static struct held *
hold(struct lev_sorter *s, const bson_t *doc, long index)
{
    struct held *h = malloc(sizeof(*h) + s->order->n * sizeof(h->keys[0]));
    bson_t copy;

    if (h == NULL || (h->doc = malloc(doc->len)) == NULL) {
        free(h);
        return NULL;
    }
    memcpy(h->doc, bson_get_data(doc), doc->len);
    h->len = doc->len;
    h->index = index;
    h->serial = s->serial++;
    if (!bson_init_static(&copy, h->doc, h->len)) {
        held_free(h);
        return NULL;
    }
    fill_keys(s->order, h, &copy);
    return h;
}

static int
reserve(struct lev_sorter *s)
{
    size_t cap = s->cap == 0 ? 64 : s->cap * 2;
    struct held **held;

    if (s->n < s->cap) {
        return 0;
    }
    held = realloc(s->held, cap * sizeof(struct held *));
    if (held == NULL) {
        return -1;
    }
    s->held = held;
    s->cap = cap;
    return 0;
}

static bool
later(const struct lev_sorter *s, size_t a, size_t b)
{
    return compare_held(s->order, s->held[a], s->held[b]) > 0;
}

static void
swap(struct lev_sorter *s, size_t a, size_t b)
{
    struct held *h = s->held[a];

    s->held[a] = s->held[b];
    s->held[b] = h;
}

static void
heap_up(struct lev_sorter *s, size_t i)
{
    while (i > 0 && later(s, i, (i - 1) / 2)) {
        swap(s, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void
heap_down(struct lev_sorter *s)
{
    for (size_t i = 0;;) {
        size_t top = i, kid = 2 * i + 1;

        for (size_t k = kid; k < s->n && k < kid + 2; k++) {
            top = later(s, k, top) ? k : top;
        }
        if (top == i) {
            return;
        }
        swap(s, i, top);
        i = top;
    }
}

/* Whether a document has no place among the first `keep`: most of a large
 * collection has none, and need not be copied to see it. */
static bool
is_beyond(struct lev_sorter *s, const bson_t *doc)
{
    if (s->keep == 0 || s->n < s->keep) {
        return false;
    }
    fill_keys(s->order, s->probe, doc);
    s->probe->serial = s->serial;
    return compare_held(s->order, s->probe, s->held[0]) > 0;
}

static void
replace_root(struct lev_sorter *s, struct held *h)
{
    s->bytes += h->len;
    s->bytes -= s->held[0]->len;
    held_free(s->held[0]);
    s->held[0] = h;
    heap_down(s);
}

static void
place(struct lev_sorter *s, struct held *h)
{
    s->held[s->n++] = h;
    s->bytes += h->len;
    if (s->keep > 0) {
        heap_up(s, s->n - 1);
    }
}

int
lev_sorter_add(struct lev_sorter *s, const bson_t *doc, long index,
               struct lev_error *err)
{
    struct held *h;

    if (is_beyond(s, doc)) {
        return 0;
    }
    h = reserve(s) < 0 ? NULL : hold(s, doc, index);
    if (h == NULL) {
        return lev_error_nomem(err, "sort");
    }
    if (s->keep > 0 && s->n == s->keep) {
        replace_root(s, h);
    }
    else {
        place(s, h);
    }
    return s->bytes <= LEV_SORT_MAX_BYTES
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 292,
                               "sort: more than %u MiB to sort; narrow the "
                               "query or give a limit",
                               LEV_SORT_MAX_BYTES >> 20);
}

static int
compare_for_qsort(const void *a, const void *b, void *order)
{
    return compare_held(order, *(struct held *const *)a,
                        *(struct held *const *)b);
}

bool
lev_sorter_next(struct lev_sorter *s, bson_t *doc, long *index)
{
    struct held *h;

    if (!s->sorted && s->n > 0) {
        qsort_r(s->held, s->n, sizeof(struct held *), compare_for_qsort,
                (void *)s->order);
    }
    s->sorted = true;
    if (s->next == s->n) {
        return false;
    }
    h = s->held[s->next++];
    *index = h->index;
    return bson_init_static(doc, h->doc, h->len);
}
