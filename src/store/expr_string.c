#include "expr_text.h"

#include <string.h>

#include "number.h"

bool
lev_text_of(const bson_value_t *v, struct lev_text *text)
{
    /* Symbols lie in a bson_value_t as strings do. */
    if (v->value_type != BSON_TYPE_UTF8 && v->value_type != BSON_TYPE_SYMBOL) {
        return false;
    }
    *text = (struct lev_text){v->value.v_utf8.str, v->value.v_utf8.len};
    return true;
}

int
lev_text_put(struct lev_buf *b, struct lev_text text, struct lev_error *err)
{
    if (text.len > LEV_RESULT_MAX - b->len) {
        return lev_error_set(err, LEV_E_QUERY, 10334,
                             "an expression makes a string of more than %u "
                             "MiB",
                             LEV_RESULT_MAX >> 20);
    }
    lev_buf_append(b, text.s, text.len);
    return lev_buf_check(b, "expression", err);
}

int
lev_text_finish(const struct lev_buf *b, struct lev_eval *ev,
                bson_value_t *out, struct lev_error *err)
{
    return lev_arena_text(&ev->arena, lev_buf_text(b), b->len, out, err);
}

ptrdiff_t
lev_text_find(struct lev_text text, struct lev_text what, size_t from)
{
    const char *at;

    if (from > text.len) {
        return -1;
    }
    if (what.len == 0) {
        return (ptrdiff_t)from;
    }
    at = memmem(text.s + from, text.len - from, what.s, what.len);
    return at == NULL ? -1 : at - text.s;
}

size_t
lev_text_count(struct lev_text text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        n += !lev_text_continues(text.s[i]);
    }
    return n;
}

/* What many operators take for a string: numbers and dates, too. */
static int
coerce(const struct lev_node *n, size_t i, struct lev_eval *ev,
       struct lev_text *text, struct lev_error *err)
{
    bson_value_t v, made;
    int rc;

    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    lev_node_charge(ev, &v);
    *text = (struct lev_text){"", 0};
    if (lev_node_nullish(&v) || lev_text_of(&v, text)) {
        return 0;
    }
    rc = lev_number_is(&v) || v.value_type == BSON_TYPE_DATE_TIME
             ? lev_text_make(&v, ev, &made, err)
             : 0;
    if (rc == 0) {
        return lev_error_set(err, LEV_E_QUERY, 16007,
                             "expression: %s needs a string, not %s",
                             n->op->name, lev_value_type_name(v.value_type));
    }
    lev_text_of(&made, text);
    return rc < 0 ? -1 : 0;
}

static int
eval_concat(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf b = {0};

    for (size_t i = 0; i < n->n; i++) {
        struct lev_text text;
        bson_value_t v;

        if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
            return -1;
        }
        if (lev_node_nullish(&v)) {
            *out = lev_value_null;
            return 0;
        }
        if (!lev_text_of(&v, &text)) {
            return lev_error_set(err, LEV_E_QUERY, 16702,
                                 "expression: $concat needs strings, not %s",
                                 lev_value_type_name(v.value_type));
        }
        if (lev_text_put(&b, text, err) < 0) {
            return -1;
        }
    }
    return lev_text_finish(&b, ev, out, err);
}

/* ASCII's letters only, as MongoDB does. */
static char
lower(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
}

static char
upper(char ch)
{
    return ch >= 'a' && ch <= 'z' ? (char)(ch - 32) : ch;
}

static int
eval_case(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    char (*const change)(char) =
        strcmp(n->op->name, "$toLower") == 0 ? lower : upper;
    struct lev_text text;

    if (coerce(n, 0, ev, &text, err) < 0 ||
        lev_arena_text(&ev->arena, text.s, text.len, out, err) < 0)
    {
        return -1;
    }
    for (size_t i = 0; i < text.len; i++) {
        out->value.v_utf8.str[i] = change(text.s[i]);
    }
    return 0;
}

static int
eval_strcasecmp(const struct lev_node *n, struct lev_eval *ev,
                bson_value_t *out, struct lev_error *err)
{
    struct lev_text a, b;
    int c = 0;

    if (coerce(n, 0, ev, &a, err) < 0 || coerce(n, 1, ev, &b, err) < 0) {
        return -1;
    }
    for (size_t i = 0; c == 0 && i < a.len && i < b.len; i++) {
        c = (unsigned char)upper(a.s[i]) - (unsigned char)upper(b.s[i]);
    }
    if (c == 0) {
        c = (a.len > b.len) - (a.len < b.len);
    }
    *out = lev_node_int((c > 0) - (c < 0));
    return 0;
}

/* $strLenBytes, $strLenCP */

static int
eval_length(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
            struct lev_error *err)
{
    bool bytes = strcmp(n->op->name, "$strLenBytes") == 0;
    struct lev_text text;
    bson_value_t v;

    if (lev_node_eval(n->args[0], ev, &v, err) < 0) {
        return -1;
    }
    lev_node_charge(ev, &v);
    if (!lev_text_of(&v, &text)) {
        return lev_error_set(err, LEV_E_QUERY, bytes ? 34473 : 34471,
                             "expression: %s needs a string, not %s",
                             n->op->name, lev_value_type_name(v.value_type));
    }
    *out = lev_node_int((int64_t)(bytes ? text.len : lev_text_count(text)));
    return 0;
}

/* $substrBytes, $substrCP */

static int
bad_argument(const struct lev_node *n, int code, const char *what,
             struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, code, "expression: %s: %s",
                         n->op->name, what);
}

/* A number as an argument; `whole` is the code for fractions, 0 where they are
 * cut off. */
static int
eval_count(const struct lev_node *n, size_t i, int type, int whole,
           struct lev_eval *ev, int64_t *out, struct lev_error *err)
{
    bson_value_t v;

    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    if (!lev_number_is(&v)) {
        return bad_argument(n, type, "start and length are numbers", err);
    }
    if (whole != 0 && !lev_number_whole(&v, out)) {
        return bad_argument(n, whole, "start and length are whole numbers",
                            err);
    }
    return lev_number_truncate(&v, out)
               ? 0
               : bad_argument(n, type, "start and length fit in 64 bits", err);
}

static int
eval_substr_bytes(const struct lev_node *n, struct lev_eval *ev,
                  bson_value_t *out, struct lev_error *err)
{
    struct lev_text text;
    int64_t start, len;
    size_t from, to;

    if (coerce(n, 0, ev, &text, err) < 0 ||
        eval_count(n, 1, 16034, 0, ev, &start, err) < 0 ||
        eval_count(n, 2, 16035, 0, ev, &len, err) < 0)
    {
        return -1;
    }
    if (start < 0) {
        return bad_argument(n, 50752, "start is not below 0", err);
    }
    from = (uint64_t)start > text.len ? text.len : (size_t)start;
    to = len < 0 || (uint64_t)len > text.len - from ? text.len
                                                    : from + (size_t)len;
    if (from < text.len && lev_text_continues(text.s[from])) {
        return bad_argument(n, 28656, "start is within a character", err);
    }
    if (to < text.len && lev_text_continues(text.s[to])) {
        return bad_argument(n, 28657, "the end is within a character", err);
    }
    return lev_arena_text(&ev->arena, text.s + from, to - from, out, err);
}

/* The byte where character number `n` begins, from byte `at` on. */
static size_t
skip_characters(struct lev_text text, size_t at, int64_t n)
{
    for (; n > 0 && at < text.len; n--) {
        do {
            at++;
        } while (at < text.len && lev_text_continues(text.s[at]));
    }
    return at;
}

static int
eval_substr_cp(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    struct lev_text text;
    int64_t start, len;
    size_t from, to;

    if (coerce(n, 0, ev, &text, err) < 0 ||
        eval_count(n, 1, 34450, 34451, ev, &start, err) < 0 ||
        eval_count(n, 2, 34452, 34453, ev, &len, err) < 0)
    {
        return -1;
    }
    if (len < 0 || start < 0) {
        return bad_argument(n, len < 0 ? 34454 : 34455,
                            "start and length are not below 0", err);
    }
    from = skip_characters(text, 0, start);
    to = skip_characters(text, from, len);
    return lev_arena_text(&ev->arena, text.s + from, to - from, out, err);
}

/* $indexOfBytes, $indexOfCP */

static int
eval_bound(const struct lev_node *n, size_t i, int64_t fallback,
           struct lev_eval *ev, int64_t *out, struct lev_error *err)
{
    bson_value_t v;

    *out = fallback;
    if (i >= n->n) {
        return 0;
    }
    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, out)) {
        return bad_argument(n, 40096, "start and end are whole numbers", err);
    }
    return *out >= 0
               ? 0
               : bad_argument(n, 40097, "start and end are not below 0", err);
}

struct index_of {
    bool bytes;
    int text, what; /* codes for what are no strings */
};

static int
eval_index_of(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
              struct lev_error *err)
{
    const struct index_of *kind = n->op->data;
    struct lev_text text, what;
    int64_t start, end, limit, at = -1;
    bson_value_t v, w;
    size_t from;

    if (lev_node_eval(n->args[0], ev, &v, err) < 0 ||
        lev_node_eval(n->args[1], ev, &w, err) < 0)
    {
        return -1;
    }
    lev_node_charge(ev, &v);
    if (lev_node_nullish(&v)) {
        *out = lev_value_null;
        return 0;
    }
    if (!lev_text_of(&v, &text) || !lev_text_of(&w, &what)) {
        return bad_argument(n,
                            lev_text_of(&v, &text) ? kind->what : kind->text,
                            "needs two strings", err);
    }
    if (eval_bound(n, 2, 0, ev, &start, err) < 0 ||
        eval_bound(n, 3, INT64_MAX, ev, &end, err) < 0)
    {
        return -1;
    }
    limit = (int64_t)(kind->bytes ? text.len : lev_text_count(text));
    end = end > limit ? limit : end;
    if (start <= end) {
        from = kind->bytes ? (size_t)start : skip_characters(text, 0, start);
        text.len = kind->bytes ? (size_t)end : skip_characters(text, 0, end);
        at = lev_text_find(text, what, from);
    }
    if (at > 0 && !kind->bytes) {
        at = (int64_t)lev_text_count((struct lev_text){text.s, (size_t)at});
    }
    *out = lev_node_int(at);
    return 0;
}

static int
eval_split(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    struct lev_text text, by;
    bson_value_t v, w, part = {.value_type = BSON_TYPE_UTF8};
    size_t from = 0;

    lev_build_init(&b);
    if (lev_node_eval(n->args[0], ev, &v, err) < 0 ||
        lev_node_eval(n->args[1], ev, &w, err) < 0)
    {
        return -1;
    }
    *out = lev_value_null;
    if (lev_node_nullish(&v) || lev_node_nullish(&w)) {
        return 0;
    }
    if (!lev_text_of(&v, &text) || !lev_text_of(&w, &by)) {
        return bad_argument(n, lev_text_of(&v, &text) ? 40086 : 40085,
                            "needs two strings", err);
    }
    if (by.len == 0) {
        return bad_argument(n, 40087, "the separator is not empty", err);
    }
    for (ptrdiff_t at = 0; at >= 0; from = (size_t)at + by.len) {
        at = lev_text_find(text, by, from);
        part.value.v_utf8.str = (char *)text.s + from;
        part.value.v_utf8.len =
            (uint32_t)((at < 0 ? text.len : (size_t)at) - from);
        if (lev_build_add(&b, &part, err) < 0) {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, out, err);
}

static const struct index_of in_bytes = {true, 40091, 40092};
static const struct index_of in_characters = {false, 40093, 40094};

const struct lev_expr_op lev_expr_string[] = {
    {.name = "$concat", .eval = eval_concat, .max = -1},
    {.name = "$toLower", .eval = eval_case, .min = 1, .max = 1},
    {.name = "$toUpper", .eval = eval_case, .min = 1, .max = 1},
    {.name = "$strcasecmp", .eval = eval_strcasecmp, .min = 2, .max = 2},
    {.name = "$strLenBytes", .eval = eval_length, .min = 1, .max = 1},
    {.name = "$strLenCP", .eval = eval_length, .min = 1, .max = 1},
    {.name = "$substr", .eval = eval_substr_bytes, .min = 3, .max = 3},
    {.name = "$substrBytes", .eval = eval_substr_bytes, .min = 3, .max = 3},
    {.name = "$substrCP", .eval = eval_substr_cp, .min = 3, .max = 3},
    {.name = "$indexOfBytes",
     .eval = eval_index_of,
     .min = 2,
     .max = 4,
     .arity = 28667,
     .data = &in_bytes},
    {.name = "$indexOfCP",
     .eval = eval_index_of,
     .min = 2,
     .max = 4,
     .arity = 28667,
     .data = &in_characters},
    {.name = "$split", .eval = eval_split, .min = 2, .max = 2},
    {0},
};
