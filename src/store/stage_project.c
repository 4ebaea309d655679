#include "stage.h"

#include <string.h>

#include "project.h"

/* Stages that make one document of one: $project, $addFields, $set, $unset,
 * $replaceRoot, $replaceWith. */

struct project {
    struct lev_stage stage;
    struct lev_project *project;
    struct lev_buf out;
};

static int
project_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct project *p = (struct project *)s;
    int rc = lev_stage_pull(s, doc, err);

    if (rc <= 0) {
        return rc;
    }
    lev_buf_clear(&p->out);
    if (lev_project_apply(p->project, doc, -1, &s->env->ev, &p->out, err) < 0)
    {
        return -1;
    }
    return bson_init_static(doc, (const uint8_t *)p->out.data, p->out.len);
}

static void
project_destroy(struct lev_stage *s)
{
    struct project *p = (struct project *)s;

    lev_project_destroy(p->project);
    lev_buf_deinit(&p->out);
}

static const struct lev_stage_ops project_ops = {project_next,
                                                 project_destroy};

static int
add_project(struct lev_chain *chain, const bson_t *spec,
            enum lev_project_kind kind, struct lev_error *err)
{
    struct project *p =
        (struct project *)lev_stage_add(chain, &project_ops, sizeof(*p), err);

    if (p == NULL) {
        return -1;
    }
    p->project = lev_project_compile(spec, kind, err);
    return p->project == NULL ? -1 : 0;
}

int
lev_stage_project(struct lev_chain *chain, const char *name,
                  const bson_value_t *spec, struct lev_error *err)
{
    bool add = strcmp(name, "$project") != 0;
    bson_t doc;

    if (lev_stage_object(name, spec, add ? 40272 : 15969, err) < 0 ||
        !lev_value_open(spec, &doc))
    {
        return -1;
    }
    if (bson_empty(&doc)) {
        return lev_stage_bad(name, add ? 40177 : 51272,
                             "needs one field at least", err);
    }
    return add_project(chain, &doc, add ? LEV_PROJECT_ADD : LEV_PROJECT_STAGE,
                       err);
}

/* $unset: names, as an exclusion. */

static int
add_name(bson_t *spec, const bson_value_t *name, int code,
         struct lev_error *err)
{
    if (name->value_type != BSON_TYPE_UTF8) {
        return lev_stage_bad("$unset", code, "needs names", err);
    }
    bson_append_bool(spec, name->value.v_utf8.str, -1, false);
    return 0;
}

static int
add_names(bson_t *spec, const bson_value_t *names, struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(names, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (add_name(spec, &v, 31120, err) < 0) {
            return -1;
        }
    }
    return bson_empty(spec)
               ? lev_stage_bad("$unset", 31119, "needs one name at least", err)
               : 0;
}

int
lev_stage_unset(struct lev_chain *chain, const char *name,
                const bson_value_t *spec, struct lev_error *err)
{
    bson_t doc = BSON_INITIALIZER;
    int rc = spec->value_type == BSON_TYPE_ARRAY
                 ? add_names(&doc, spec, err)
                 : add_name(&doc, spec, 31002, err);

    if (rc == 0) {
        rc = add_project(chain, &doc, LEV_PROJECT_STAGE, err);
    }
    bson_destroy(&doc);
    return rc;
}

/* $replaceRoot, $replaceWith */

struct replace {
    struct lev_stage stage;
    struct lev_expr *root;
    struct lev_buf out;
};

static int
replace_next(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct replace *r = (struct replace *)s;
    bson_value_t v;
    int rc = lev_stage_pull(s, doc, err);

    if (rc <= 0) {
        return rc;
    }
    lev_eval_start(&s->env->ev, doc);
    if (lev_expr_eval(r->root, &s->env->ev, &v, err) < 0) {
        return -1;
    }
    if (v.value_type != BSON_TYPE_DOCUMENT) {
        return lev_error_set(err, LEV_E_QUERY, 40228,
                             "the new document is an object, not %s",
                             lev_value_type_name(v.value_type));
    }
    lev_buf_clear(&r->out);
    lev_buf_append(&r->out, v.value.v_doc.data, v.value.v_doc.data_len);
    if (lev_buf_check(&r->out, "document", err) < 0) {
        return -1;
    }
    return lev_stage_give(&r->out, doc, err);
}

static void
replace_destroy(struct lev_stage *s)
{
    struct replace *r = (struct replace *)s;

    lev_expr_destroy(r->root);
    lev_buf_deinit(&r->out);
}

static const struct lev_stage_ops replace_ops = {replace_next,
                                                 replace_destroy};

/* {newRoot: …} */
static int
take_new_root(const char *name, const bson_value_t *spec, bson_value_t *root,
              struct lev_error *err)
{
    bson_iter_t it;

    *root = lev_value_missing;
    if (lev_stage_object(name, spec, 40229, err) < 0) {
        return -1;
    }
    for (bool ok = lev_value_iter(spec, &it); ok && bson_iter_next(&it);) {
        if (strcmp(bson_iter_key(&it), "newRoot") != 0) {
            return lev_stage_bad(name, 40230, "knows 'newRoot' alone", err);
        }
        *root = lev_value_of(&it);
    }
    return root->value_type != BSON_TYPE_EOD
               ? 0
               : lev_stage_bad(name, 40231, "needs 'newRoot'", err);
}

int
lev_stage_replace(struct lev_chain *chain, const char *name,
                  const bson_value_t *spec, struct lev_error *err)
{
    bson_value_t root = *spec;
    struct replace *r;

    if (strcmp(name, "$replaceRoot") == 0 &&
        take_new_root(name, spec, &root, err) < 0)
    {
        return -1;
    }
    r = (struct replace *)lev_stage_add(chain, &replace_ops, sizeof(*r), err);
    if (r == NULL) {
        return -1;
    }
    r->root = lev_expr_compile(&root, err);
    return r->root == NULL ? lev_error_wrap(err, "%s", name) : 0;
}
