#include "expr_node.h"

#include <string.h>
#include <sys/time.h>

/* "$field.path" and "$$variable.path" */

static int
eval_root(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    *out = ev->doc == NULL ? lev_value_missing : lev_value_doc(ev->doc);
    return 0;
}

static int
eval_slot(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    *out = ev->slots[n->slot];
    return 0;
}

static int
eval_now(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
         struct lev_error *err)
{
    if (ev->now == 0) {
        struct timeval now;

        gettimeofday(&now, NULL);
        ev->now = (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
    }
    *out = lev_node_date(ev->now);
    return 0;
}

static int field_of(const struct lev_path *path, size_t i, struct lev_eval *ev,
                    bson_value_t *v, struct lev_error *err);

/* An array on the way stands for what its objects lead to. */
static int
fields_of(const struct lev_path *path, size_t i, struct lev_eval *ev,
          bson_value_t *v, struct lev_error *err)
{
    _cleanup_build_ struct lev_build b;
    bson_iter_t it;

    lev_build_init(&b);
    for (bool ok = lev_value_iter(v, &it); ok && bson_iter_next(&it);) {
        bson_value_t each = lev_value_of(&it);

        if (each.value_type != BSON_TYPE_DOCUMENT) {
            continue;
        }
        ev->steps++;
        if (field_of(path, i, ev, &each, err) < 0 ||
            (each.value_type != BSON_TYPE_EOD &&
             lev_build_add(&b, &each, err) < 0))
        {
            return -1;
        }
    }
    return lev_build_finish(&b, &ev->arena, BSON_TYPE_ARRAY, v, err);
}

static int
field_of(const struct lev_path *path, size_t i, struct lev_eval *ev,
         bson_value_t *v, struct lev_error *err)
{
    for (; i < path->n; i++) {
        bson_iter_t it;

        if (v->value_type == BSON_TYPE_ARRAY) {
            return fields_of(path, i, ev, v, err);
        }
        *v = v->value_type == BSON_TYPE_DOCUMENT && lev_value_iter(v, &it) &&
                     bson_iter_find(&it, path->part[i].name)
                 ? lev_value_of(&it)
                 : lev_value_missing;
    }
    return 0;
}

static int
eval_path(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    if (lev_node_eval(n->args[0], ev, out, err) < 0) {
        return -1;
    }
    return field_of(&n->path, 0, ev, out, err);
}

static const struct lev_expr_var *
find_var(const struct lev_compile *c, const char *name, size_t len)
{
    const struct lev_expr_var *v = c->vars;

    while (v != NULL &&
           (strlen(v->name) != len || strncmp(v->name, name, len) != 0))
    {
        v = v->outer;
    }
    return v;
}

static bool
is_name(const char *name, size_t len, const char *what)
{
    return strlen(what) == len && strncmp(name, what, len) == 0;
}

static struct lev_node *
compile_var(struct lev_compile *c, const char *name, size_t len)
{
    const struct lev_expr_var *v = find_var(c, name, len);
    struct lev_node *n;

    if (v != NULL) {
        n = lev_node_new(c, eval_slot);
        if (n != NULL) {
            n->slot = v->slot;
        }
        return n;
    }
    if (is_name(name, len, "ROOT") || is_name(name, len, "CURRENT")) {
        return lev_node_new(c, eval_root);
    }
    if (is_name(name, len, "NOW")) {
        return lev_node_new(c, eval_now);
    }
    if (is_name(name, len, "REMOVE")) {
        return lev_node_literal(c, &lev_value_missing);
    }
    lev_error_set(c->err, LEV_E_QUERY, 17276,
                  "expression: there is no variable '$$%.*s'", (int)len, name);
    return NULL;
}

/* An empty part of a path is a name like another here, unlike in stages. */
static int
check_path(const struct lev_path *path, struct lev_error *err)
{
    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;

        if (name[0] == '$') {
            return lev_error_set(err, LEV_E_QUERY, 16410,
                                 "expression '$%s': a field's name cannot "
                                 "begin with '$' here",
                                 path->text);
        }
    }
    return 0;
}

/* `from` with a path below it. */
static struct lev_node *
compile_below(struct lev_compile *c, struct lev_node *from, const char *text)
{
    _cleanup_node_ struct lev_node *below = from;
    _cleanup_node_ struct lev_node *n = lev_node_new(c, eval_path);

    if (n == NULL || below == NULL || lev_node_alloc_args(c, n, 1) < 0) {
        return NULL;
    }
    n->args[0] = lev_steal(below);
    if (lev_path_parse(text, &n->path, c->err) < 0 ||
        check_path(&n->path, c->err) < 0)
    {
        return NULL;
    }
    return lev_steal(n);
}

struct lev_node *
lev_node_reference(struct lev_compile *c, const bson_value_t *v)
{
    const char *text = v->value.v_utf8.str + 1;
    struct lev_node *from;
    size_t len;

    if (strlen(v->value.v_utf8.str) != v->value.v_utf8.len) {
        lev_error_set(c->err, LEV_E_QUERY, 16411,
                      "expression: a path cannot hold a NUL");
        return NULL;
    }
    if (text[0] == '\0') {
        lev_error_set(c->err, LEV_E_QUERY, 16872,
                      "expression: '$' alone names no field");
        return NULL;
    }
    if (text[0] != '$') {
        return compile_below(c, compile_var(c, "CURRENT", 7), text);
    }
    text++;
    len = strcspn(text, ".");
    if (len == 0) {
        lev_error_set(c->err, LEV_E_QUERY, 9,
                      "expression: '$$' needs a variable's name");
        return NULL;
    }
    from = compile_var(c, text, len);
    return text[len] == '\0' ? from : compile_below(c, from, text + len + 1);
}

static bool
is_small(char ch)
{
    return ch >= 'a' && ch <= 'z';
}

static bool
is_word(char ch)
{
    return is_small(ch) || (ch >= 'A' && ch <= 'Z') ||
           (ch >= '0' && ch <= '9') || ch == '_' || (ch & 0x80) != 0;
}

int
lev_node_check_var(const char *name, struct lev_error *err)
{
    bool good = is_small(name[0]) || (name[0] & 0x80) != 0;

    for (const char *p = name; good && *p != '\0'; p++) {
        good = is_word(*p);
    }
    return good || strcmp(name, "CURRENT") == 0
               ? 0
               : lev_error_set(err, LEV_E_QUERY, 9,
                               "expression: '%s' is no name for a variable; "
                               "it begins with a small letter",
                               name);
}
