#include "expr_text.h"

#include <string.h>

/* The string operators whose arguments have names. */

static int
bad_argument(const struct lev_node *n, int code, const char *name,
             const bson_value_t *v, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, code,
                         "expression: '%s' of %s is a string, not %s", name,
                         n->op->name, lev_value_type_name(v->value_type));
}

/* The bytes of the character at `i`, at least one. */
static struct lev_text
character(struct lev_text text, size_t i)
{
    size_t end = i + 1;

    while (end < text.len && lev_text_continues(text.s[end])) {
        end++;
    }
    return (struct lev_text){text.s + i, end - i};
}

static bool
has_character(struct lev_text set, struct lev_text ch)
{
    for (size_t i = 0; i < set.len;) {
        struct lev_text each = character(set, i);

        if (each.len == ch.len && memcmp(each.s, ch.s, ch.len) == 0) {
            return true;
        }
        i += each.len;
    }
    return false;
}

static struct lev_text
trim_start(struct lev_text text, struct lev_text set)
{
    while (text.len > 0) {
        struct lev_text ch = character(text, 0);

        if (!has_character(set, ch)) {
            break;
        }
        text.s += ch.len;
        text.len -= ch.len;
    }
    return text;
}

static struct lev_text
trim_end(struct lev_text text, struct lev_text set)
{
    while (text.len > 0) {
        size_t at = text.len - 1;

        while (at > 0 && lev_text_continues(text.s[at])) {
            at--;
        }
        if (!has_character(set, character(text, at))) {
            break;
        }
        text.len = at;
    }
    return text;
}

enum { START = 1, END = 2 };

static int
eval_trim(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    /* What MongoDB takes for white space: NUL, ASCII's, U+00A0, U+1680 and
     * U+2000 to U+200A. */
    static const char white[] =
        "\0 \t\n\v\f\r"
        "\xc2\xa0\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x81\xe2\x80\x82"
        "\xe2\x80\x83\xe2\x80\x84\xe2\x80\x85\xe2\x80\x86\xe2\x80\x87"
        "\xe2\x80\x88\xe2\x80\x89\xe2\x80\x8a";
    struct lev_text text, set = {white, sizeof(white) - 1};
    const int *sides = n->op->data;
    bson_value_t v, chars;

    if (lev_node_arg(n, 0, ev, &v, err) < 0 ||
        lev_node_arg(n, 1, ev, &chars, err) < 0)
    {
        return -1;
    }
    *out = lev_value_null;
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_text_of(&v, &text)) {
        return bad_argument(n, 50699, "input", &v, err);
    }
    if (n->args[1] != NULL && lev_node_nullish(&chars)) {
        return 0;
    }
    if (n->args[1] != NULL && !lev_text_of(&chars, &set)) {
        return bad_argument(n, 50700, "chars", &chars, err);
    }
    if ((*sides & START) != 0) {
        text = trim_start(text, set);
    }
    if ((*sides & END) != 0) {
        text = trim_end(text, set);
    }
    return lev_arena_text(&ev->arena, text.s, text.len, out, err);
}

static int
replace(struct lev_text text, struct lev_text find, struct lev_text by,
        bool all, struct lev_eval *ev, bson_value_t *out,
        struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf b = {0};
    size_t from = 0;
    ptrdiff_t at;

    while ((at = lev_text_find(text, find, from)) >= 0) {
        if (lev_text_put(&b,
                         (struct lev_text){text.s + from, (size_t)at - from},
                         err) < 0 ||
            lev_text_put(&b, by, err) < 0)
        {
            return -1;
        }
        from = (size_t)at + find.len;
        if (!all || (find.len == 0 && from == text.len)) {
            break;
        }
        if (find.len == 0) { /* found between all characters */
            struct lev_text ch = character(text, from);

            if (lev_text_put(&b, ch, err) < 0) {
                return -1;
            }
            from += ch.len;
        }
    }
    return lev_text_put(&b, (struct lev_text){text.s + from, text.len - from},
                        err) < 0
               ? -1
               : lev_text_finish(&b, ev, out, err);
}

static int
eval_replace(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
             struct lev_error *err)
{
    static const int codes[] = {51746, 51745, 51744};
    struct lev_text text[3];
    bool null = false;

    for (size_t i = 0; i < LEV_ARRAY_LEN(text); i++) {
        bson_value_t v;

        if (lev_node_arg(n, i, ev, &v, err) < 0) {
            return -1;
        }
        if (lev_node_nullish(&v)) {
            null = true;
        }
        else if (!lev_text_of(&v, &text[i])) {
            return bad_argument(n, codes[i], n->op->params[i].name, &v, err);
        }
    }
    if (null) {
        *out = lev_value_null;
        return 0;
    }
    return replace(text[0], text[1], text[2],
                   strcmp(n->op->name, "$replaceAll") == 0, ev, out, err);
}

static const int start = START, end = END, both = START | END;

#define TRIM(op, sides)                                                       \
    {                                                                         \
        .name = op, .eval = eval_trim,                                        \
        .params = {{"input", 50695}, {"chars", 0}}, .not_object = 50696,      \
        .unknown = 50694, .data = sides                                       \
    }
#define REPLACE(op)                                                           \
    {                                                                         \
        .name = op, .eval = eval_replace,                                     \
        .params = {{"input", 51749},                                          \
                   {"find", 51748},                                           \
                   {"replacement", 51747}},                                   \
        .not_object = 51751, .unknown = 51750                                 \
    }

const struct lev_expr_op lev_expr_text[] = {
    TRIM("$trim", &both),   TRIM("$ltrim", &start), TRIM("$rtrim", &end),
    REPLACE("$replaceOne"), REPLACE("$replaceAll"), {0},
};
