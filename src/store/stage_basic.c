#include "stage.h"

#include <string.h>
#include <sys/random.h>

#include "match.h"
#include "number.h"
#include "sort.h"

/* Stages that pass documents on as they are: $match, $limit, $skip, $sort,
 * $sample; and $count. */

static void
nothing_to_destroy(struct lev_stage *s)
{
}

/* $match */

struct match {
    struct lev_stage stage;
    struct lev_match *match;
};

static int
match_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct match *m = (struct match *)s;
    int rc;

    while ((rc = lev_stage_pull(s, doc, err)) > 0) {
        rc = lev_match_test(m->match, doc, &s->env->ev, NULL, err);
        if (rc != 0) {
            return rc;
        }
    }
    return rc;
}

static void
match_destroy(struct lev_stage *s)
{
    lev_match_destroy(((struct match *)s)->match);
}

static const struct lev_stage_ops match_ops = {match_next, match_destroy};

int
lev_stage_match(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    struct match *m;
    bson_t query;

    if (lev_stage_object(name, spec, 15959, err) < 0 ||
        !lev_value_open(spec, &query) ||
        (m = (struct match *)lev_stage_add(chain, &match_ops, sizeof(*m),
                                           err)) == NULL)
    {
        return -1;
    }
    m->match = lev_match_compile(&query, err);
    return m->match == NULL ? -1 : 0;
}

/* $limit, $skip */

struct bound {
    struct lev_stage stage;
    int64_t n; /* still to come, or to be passed over */
};

static int
limit_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct bound *b = (struct bound *)s;
    int rc;

    if (b->n == 0) {
        return 0;
    }
    rc = lev_stage_pull(s, doc, err);
    b->n -= rc > 0;
    return rc;
}

static int
skip_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct bound *b = (struct bound *)s;
    int rc;

    for (; b->n > 0; b->n--) {
        rc = lev_stage_pull(s, doc, err);
        if (rc <= 0) {
            return rc;
        }
    }
    return lev_stage_pull(s, doc, err);
}

static const struct lev_stage_ops limit_ops = {limit_next, nothing_to_destroy};
static const struct lev_stage_ops skip_ops = {skip_next, nothing_to_destroy};

static int
take_bound(const char *name, const bson_value_t *spec, int code, int64_t *n,
           struct lev_error *err)
{
    return lev_number_is(spec) && lev_number_whole(spec, n) && *n >= 0
               ? 0
               : lev_stage_bad(name, code, "needs a whole number, not below 0",
                               err);
}

static void keep_first(struct lev_stage *before, int64_t n);

int
lev_stage_limit(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    struct lev_stage *before = chain->last;
    struct bound *b;
    int64_t n;

    if (take_bound(name, spec, 5107201, &n, err) < 0) {
        return -1;
    }
    if (n == 0) {
        return lev_stage_bad(name, 15958, "the limit must be above 0", err);
    }
    b = (struct bound *)lev_stage_add(chain, &limit_ops, sizeof(*b), err);
    if (b == NULL) {
        return -1;
    }
    b->n = n;
    keep_first(before, n);
    return 0;
}

int
lev_stage_skip(struct lev_chain *chain, const char *name,
               const bson_value_t *spec, struct lev_error *err)
{
    struct bound *b;
    int64_t n;

    if (take_bound(name, spec, 5107200, &n, err) < 0 ||
        (b = (struct bound *)lev_stage_add(chain, &skip_ops, sizeof(*b),
                                           err)) == NULL)
    {
        return -1;
    }
    b->n = n;
    return 0;
}

/* $sort */

struct sort {
    struct lev_stage stage;
    struct lev_sort *order;
    struct lev_sorter *sorter;
    size_t keep; /* 0: all */
    bool filled;
};

static int
sort_fill(struct sort *s, struct lev_error *err)
{
    bson_t doc;
    int rc;

    if (s->sorter == NULL &&
        (s->sorter = lev_sorter_create(s->order, s->keep, err)) == NULL)
    {
        return -1;
    }
    while ((rc = lev_stage_pull(&s->stage, &doc, err)) > 0) {
        if (lev_sorter_add(s->sorter, &doc, -1, err) < 0) {
            return -1;
        }
    }
    s->filled = rc == 0;
    return rc;
}

static int
sort_next(struct lev_stage *stage, bson_t *doc, struct lev_error *err)
{
    struct sort *s = (struct sort *)stage;
    long ignored;

    if (!s->filled && sort_fill(s, err) < 0) {
        return -1;
    }
    return lev_sorter_next(s->sorter, doc, &ignored);
}

static void
sort_destroy(struct lev_stage *stage)
{
    struct sort *s = (struct sort *)stage;

    lev_sorter_destroy(s->sorter);
    lev_sort_destroy(s->order);
}

static const struct lev_stage_ops sort_ops = {sort_next, sort_destroy};

/* A $limit of `n` comes: a sort before it need not hold more, nor one before
 * a $skip. */
static void
keep_first(struct lev_stage *before, int64_t n)
{
    if (before != NULL && before->ops == &skip_ops) {
        if (__builtin_add_overflow(n, ((struct bound *)before)->n, &n)) {
            return;
        }
        before = before->source;
    }
    if (before != NULL && before->ops == &sort_ops && n <= INT32_MAX) {
        ((struct sort *)before)->keep = (size_t)n;
    }
}

int
lev_stage_sort(struct lev_chain *chain, const char *name,
               const bson_value_t *spec, struct lev_error *err)
{
    struct sort *s;
    bson_t order;

    if (lev_stage_object(name, spec, 15973, err) < 0 ||
        !lev_value_open(spec, &order))
    {
        return -1;
    }
    if (bson_empty(&order)) {
        return lev_stage_bad(name, 15976, "needs one field at least", err);
    }
    s = (struct sort *)lev_stage_add(chain, &sort_ops, sizeof(*s), err);
    if (s == NULL) {
        return -1;
    }
    s->order = lev_sort_compile(&order, err);
    return s->order == NULL ? -1 : 0;
}

/* $count */

struct count {
    struct lev_stage stage;
    char *field;
    int64_t n;
    bool given;
    bson_t out;
};

static int
count_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct count *c = (struct count *)s;
    int rc;

    while (!c->given && (rc = lev_stage_pull(s, doc, err)) != 0) {
        if (rc < 0) {
            return -1;
        }
        c->n++;
    }
    if (c->given || c->n == 0) {
        return 0;
    }
    c->given = true;
    bson_reinit(&c->out);
    if (c->n <= INT32_MAX) {
        bson_append_int32(&c->out, c->field, -1, (int32_t)c->n);
    }
    else {
        bson_append_int64(&c->out, c->field, -1, c->n);
    }
    bson_init_static(doc, bson_get_data(&c->out), c->out.len);
    return 1;
}

static void
count_destroy(struct lev_stage *s)
{
    struct count *c = (struct count *)s;

    bson_destroy(&c->out);
    free(c->field);
}

static const struct lev_stage_ops count_ops = {count_next, count_destroy};

static int
check_count_name(const bson_value_t *spec, struct lev_error *err)
{
    const char *field;

    if (spec->value_type != BSON_TYPE_UTF8) {
        return lev_stage_bad("$count", 40156, "needs a name", err);
    }
    field = spec->value.v_utf8.str;
    if (field[0] == '\0') {
        return lev_stage_bad("$count", 40157, "the name is empty", err);
    }
    if (field[0] == '$') {
        return lev_stage_bad("$count", 40158, "the name begins with '$'", err);
    }
    if (strlen(field) != spec->value.v_utf8.len) {
        return lev_stage_bad("$count", 40159, "the name holds a NUL", err);
    }
    return strchr(field, '.') == NULL
               ? 0
               : lev_stage_bad("$count", 40160, "the name holds a '.'", err);
}

int
lev_stage_count(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    struct count *c;

    if (check_count_name(spec, err) < 0 ||
        (c = (struct count *)lev_stage_add(chain, &count_ops, sizeof(*c),
                                           err)) == NULL)
    {
        return -1;
    }
    bson_init(&c->out);
    c->field = strdup(spec->value.v_utf8.str);
    return c->field == NULL ? lev_error_nomem(err, "pipeline") : 0;
}

/* $sample: Algorithm R; each document has the same chance to stay. */

struct sample {
    struct lev_stage stage;
    size_t size, n, given; /* wanted, held, given away */
    bson_t **held;
    size_t bytes;
    uint64_t seen, random;
    bool filled;
};

/* xorshift64*; `state` is not 0. */
static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static int
sample_hold(struct sample *s, size_t i, const bson_t *doc,
            struct lev_error *err)
{
    if (i == s->n) {
        bson_t **held = realloc(s->held, (s->n + 1) * sizeof(bson_t *));

        if (held == NULL) {
            return lev_error_nomem(err, "$sample");
        }
        s->held = held;
        s->n++;
    }
    else {
        s->bytes -= s->held[i]->len;
        bson_destroy(s->held[i]);
    }
    s->held[i] = bson_copy(doc);
    s->bytes += doc->len;
    return s->bytes <= LEV_STAGE_MAX ? 0 : lev_stage_too_much("$sample", err);
}

static int
sample_fill(struct sample *s, struct lev_error *err)
{
    bson_t doc;
    int rc;

    while (s->random == 0) {
        if (getrandom(&s->random, sizeof(s->random), 0) < 0) {
            return lev_error_errno(err, "$sample");
        }
    }
    while ((rc = lev_stage_pull(&s->stage, &doc, err)) > 0) {
        uint64_t at =
            s->n < s->size ? s->n : next_random(&s->random) % (s->seen + 1);

        s->seen++;
        if (at < s->size && sample_hold(s, (size_t)at, &doc, err) < 0) {
            return -1;
        }
    }
    s->filled = rc == 0;
    return rc;
}

static int
sample_next(struct lev_stage *stage, bson_t *doc, struct lev_error *err)
{
    struct sample *s = (struct sample *)stage;
    const bson_t *held;

    if (!s->filled && sample_fill(s, err) < 0) {
        return -1;
    }
    if (s->given == s->n) {
        return 0;
    }
    held = s->held[s->given++];
    return bson_init_static(doc, bson_get_data(held), held->len);
}

static void
sample_destroy(struct lev_stage *stage)
{
    struct sample *s = (struct sample *)stage;

    for (size_t i = 0; i < s->n; i++) {
        bson_destroy(s->held[i]);
    }
    free(s->held);
}

static const struct lev_stage_ops sample_ops = {sample_next, sample_destroy};

static int
take_size(const bson_value_t *spec, int64_t *size, struct lev_error *err)
{
    bson_iter_t it;

    *size = -1;
    for (bool ok = lev_value_iter(spec, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (strcmp(bson_iter_key(&it), "size") != 0) {
            return lev_stage_bad("$sample", 28748, "knows 'size' alone", err);
        }
        if (!lev_number_is(&v)) {
            return lev_stage_bad("$sample", 28746, "'size' is a number", err);
        }
        if (!lev_number_truncate(&v, size) || *size < 0) {
            return lev_stage_bad("$sample", 28747, "'size' is not below 0",
                                 err);
        }
    }
    return *size >= 0 ? 0
                      : lev_stage_bad("$sample", 28749, "needs 'size'", err);
}

int
lev_stage_sample(struct lev_chain *chain, const char *name,
                 const bson_value_t *spec, struct lev_error *err)
{
    struct sample *s;
    int64_t size;

    if (lev_stage_object(name, spec, 28745, err) < 0 ||
        take_size(spec, &size, err) < 0 ||
        (s = (struct sample *)lev_stage_add(chain, &sample_ops, sizeof(*s),
                                            err)) == NULL)
    {
        return -1;
    }
    s->size = (size_t)size;
    return 0;
}
