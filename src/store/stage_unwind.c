#include "stage.h"

#include <string.h>

struct unwind {
    struct lev_stage stage;
    struct lev_path path, index; /* index.n 0: not wanted */
    bool preserve;
    bson_t doc, given; /* the one that is unwound; what was made of it last */
    bson_iter_t it;    /* over its array … */
    int64_t next;      /* … where this is the next element; -1: no array */
};

/* The document with one value in the place of the array, and its index. */
static void
make(struct unwind *u, const bson_value_t *v, const bson_value_t *index)
{
    bson_t with_value = BSON_INITIALIZER;

    bson_reinit(&u->given);
    if (u->index.n == 0) {
        lev_stage_set(&u->doc, &u->path, v, &u->given);
    }
    else {
        lev_stage_set(&u->doc, &u->path, v, &with_value);
        lev_stage_set(&with_value, &u->index, index, &u->given);
    }
    bson_destroy(&with_value);
}

/* 1 when the next element made a document. */
static int
unwind_element(struct unwind *u)
{
    bson_value_t v, index = {.value_type = BSON_TYPE_INT64};

    if (u->next < 0) {
        return 0;
    }
    if (!bson_iter_next(&u->it)) {
        u->next = -1;
        return 0;
    }
    v = lev_value_of(&u->it);
    index.value.v_int64 = u->next++;
    make(u, &v, &index);
    return 1;
}

/* 1 when the document is passed on at once: its value is no array, or there is
 * nothing and that is to be kept. */
static int
unwind_start(struct unwind *u)
{
    bson_value_t v = lev_path_value(&u->path, &u->doc);
    bool array = v.value_type == BSON_TYPE_ARRAY && lev_value_iter(&v, &u->it);
    bson_iter_t first = u->it;
    bool nothing = v.value_type == BSON_TYPE_EOD ||
                   v.value_type == BSON_TYPE_NULL ||
                   v.value_type == BSON_TYPE_UNDEFINED;

    if (array && bson_iter_next(&first)) {
        u->next = 0;
        return 0;
    }
    if ((array || nothing) && !u->preserve) {
        return 0;
    }
    make(u, array ? &lev_value_missing : &v, &lev_value_null);
    return 1;
}

static int
unwind_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct unwind *u = (struct unwind *)s;

    while (unwind_element(u) == 0) {
        int rc = lev_stage_pull(s, doc, err);

        if (rc <= 0) {
            return rc;
        }
        bson_reinit(&u->doc);
        bson_concat(&u->doc, doc);
        if (unwind_start(u) > 0) {
            break;
        }
    }
    bson_init_static(doc, bson_get_data(&u->given), u->given.len);
    return lev_value_check(doc, err) < 0 ? -1 : 1;
}

static void
unwind_destroy(struct lev_stage *s)
{
    struct unwind *u = (struct unwind *)s;

    lev_path_deinit(&u->path);
    lev_path_deinit(&u->index);
    bson_destroy(&u->doc);
    bson_destroy(&u->given);
}

static const struct lev_stage_ops unwind_ops = {unwind_next, unwind_destroy};

static int
take_path(struct unwind *u, const bson_value_t *v, struct lev_error *err)
{
    const char *text;

    if (v->value_type == BSON_TYPE_EOD) {
        return lev_stage_bad("$unwind", 28812, "needs 'path'", err);
    }
    if (v->value_type != BSON_TYPE_UTF8) {
        return lev_stage_bad("$unwind", 28808, "'path' is a string", err);
    }
    text = v->value.v_utf8.str;
    if (text[0] == '\0') {
        return lev_stage_bad("$unwind", 28812, "'path' is empty", err);
    }
    return text[0] == '$' ? lev_stage_path(text + 1, &u->path, err)
                          : lev_stage_bad("$unwind", 28818,
                                          "'path' begins with '$'", err);
}

static int
take_index(struct unwind *u, const bson_value_t *v, struct lev_error *err)
{
    if (v->value_type != BSON_TYPE_UTF8 || v->value.v_utf8.len == 0) {
        return lev_stage_bad("$unwind", 28810, "'includeArrayIndex' is a name",
                             err);
    }
    lev_path_deinit(&u->index); /* of one that stands there twice */
    return v->value.v_utf8.str[0] != '$'
               ? lev_stage_path(v->value.v_utf8.str, &u->index, err)
               : lev_stage_bad("$unwind", 28822,
                               "'includeArrayIndex' does not begin with '$'",
                               err);
}

static int
take_options(struct unwind *u, const bson_value_t *spec, struct lev_error *err)
{
    bson_value_t path = lev_value_missing;
    bson_iter_t it;

    for (bool ok = lev_value_iter(spec, &it); ok && bson_iter_next(&it);) {
        const char *key = bson_iter_key(&it);
        bson_value_t v = lev_value_of(&it);

        if (strcmp(key, "path") == 0) {
            path = v;
        }
        else if (strcmp(key, "includeArrayIndex") == 0) {
            if (take_index(u, &v, err) < 0) {
                return -1;
            }
        }
        else if (strcmp(key, "preserveNullAndEmptyArrays") == 0) {
            if (v.value_type != BSON_TYPE_BOOL) {
                return lev_stage_bad("$unwind", 28809,
                                     "'preserveNullAndEmptyArrays' is true or "
                                     "false",
                                     err);
            }
            u->preserve = v.value.v_bool;
        }
        else {
            return lev_error_set(err, LEV_E_QUERY, 28811,
                                 "$unwind knows no '%s'", key);
        }
    }
    return take_path(u, &path, err);
}

int
lev_stage_unwind(struct lev_chain *chain, const char *name,
                 const bson_value_t *spec, struct lev_error *err)
{
    struct unwind *u;

    if (spec->value_type != BSON_TYPE_UTF8 &&
        lev_stage_object(name, spec, 15981, err) < 0)
    {
        return -1;
    }
    u = (struct unwind *)lev_stage_add(chain, &unwind_ops, sizeof(*u), err);
    if (u == NULL) {
        return -1;
    }
    bson_init(&u->doc);
    bson_init(&u->given);
    u->next = -1;
    return spec->value_type == BSON_TYPE_UTF8 ? take_path(u, spec, err)
                                              : take_options(u, spec, err);
}
