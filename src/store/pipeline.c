#include "pipeline.h"

#include <string.h>

#include "stage.h"

struct lev_pipeline {
    struct lev_stage_env env;
    struct lev_chain chain;
    bson_t *source;
};

/* Chains. */

struct lev_stage *
lev_stage_add(struct lev_chain *chain, const struct lev_stage_ops *ops,
              size_t size, struct lev_error *err)
{
    struct lev_stage *s = lev_arena_calloc(size);

    if (s == NULL) {
        lev_error_nomem(err, "pipeline");
        return NULL;
    }
    s->ops = ops;
    s->env = chain->env;
    s->source = chain->last;
    chain->last = s;
    return s;
}

void
lev_chain_destroy(struct lev_chain *chain)
{
    struct lev_stage *before;

    for (struct lev_stage *s = chain->last; s != NULL; s = before) {
        before = s->source;
        s->ops->destroy(s);
        free(s);
    }
    chain->last = NULL;
}

int
lev_stage_pull(struct lev_stage *s, bson_t *doc, struct lev_error *err)
{
    struct lev_stage_env *env = s->env;

    if (lev_scope_check(env->scope, err) < 0) {
        return -1;
    }
    return s->source != NULL ? s->source->ops->next(s->source, doc, err)
                             : env->io.next(env->io.ctx, env->scope, doc, err);
}

int
lev_stage_too_much(const char *name, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, 292,
                         "%s: more than %u MiB to hold; put a $match or "
                         "$project before it",
                         name, LEV_STAGE_MAX >> 20);
}

int
lev_stage_bad(const char *name, int code, const char *what,
              struct lev_error *err)
{
    return lev_error_set(err, LEV_E_QUERY, code, "%s: %s", name, what);
}

int
lev_stage_object(const char *name, const bson_value_t *v, int code,
                 struct lev_error *err)
{
    return v->value_type == BSON_TYPE_DOCUMENT
               ? 0
               : lev_error_set(err, LEV_E_QUERY, code,
                               "%s needs an object, not %s", name,
                               lev_value_type_name(v->value_type));
}

int
lev_stage_give(const struct lev_buf *buf, bson_t *doc, struct lev_error *err)
{
    if (!bson_init_static(doc, (const uint8_t *)buf->data, buf->len)) {
        return lev_error_set(err, LEV_E_QUERY, 10334,
                             "pipeline: a document of more than %u MiB",
                             LEV_RESULT_MAX >> 20);
    }
    return lev_value_check(doc, err) < 0 ? -1 : 1;
}

/* From part `i` of the path on. */
static void set_below(const bson_t *doc, const struct lev_path *path, size_t i,
                      const bson_value_t *v, bson_t *out);

static void
set_field(const bson_value_t *old, const struct lev_path *path, size_t i,
          const bson_value_t *v, bson_t *out)
{
    static const bson_t nothing = BSON_INITIALIZER;
    const char *name = path->part[i].name;
    bson_t below = nothing, part;
    bool object =
        old->value_type == BSON_TYPE_DOCUMENT && lev_value_open(old, &below);

    if (i + 1 == path->n) {
        if (v->value_type != BSON_TYPE_EOD) {
            bson_append_value(out, name, -1, v);
        }
    }
    else if (object || v->value_type != BSON_TYPE_EOD) {
        bson_append_document_begin(out, name, -1, &part);
        set_below(&below, path, i + 1, v, &part);
        bson_append_document_end(out, &part);
    }
    else if (old->value_type != BSON_TYPE_EOD) {
        bson_append_value(out, name, -1, old);
    }
}

static void
set_below(const bson_t *doc, const struct lev_path *path, size_t i,
          const bson_value_t *v, bson_t *out)
{
    bool found = false;
    bson_iter_t it;

    for (bool ok = bson_iter_init(&it, doc); ok && bson_iter_next(&it);) {
        bson_value_t old;

        if (strcmp(bson_iter_key(&it), path->part[i].name) != 0) {
            bson_append_iter(out, bson_iter_key(&it),
                             (int)bson_iter_key_len(&it), &it);
            continue;
        }
        old = lev_value_of(&it);
        set_field(&old, path, i, v, out);
        found = true;
    }
    if (!found) {
        set_field(&lev_value_missing, path, i, v, out);
    }
}

void
lev_stage_set(const bson_t *doc, const struct lev_path *path,
              const bson_value_t *v, bson_t *out)
{
    set_below(doc, path, 0, v, out);
}

int
lev_stage_path(const char *text, struct lev_path *path, struct lev_error *err)
{
    if (lev_path_parse(text, path, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < path->n; i++) {
        const char *name = path->part[i].name;

        if (name[0] == '\0' || name[0] == '$') {
            lev_error_set(err, LEV_E_QUERY,
                          name[0] == '$' ? 16410
                          : path->n == 1 ? 40352
                                         : 15998,
                          "'%s' is no path of a field", text);
            lev_path_deinit(path);
            return -1;
        }
    }
    return 0;
}

/* The table of stages. */

static lev_stage_compile_fn
find_stage(const char *name)
{
    static const struct {
        const char *name;
        lev_stage_compile_fn compile;
    } stages[] = {
        {"$match", lev_stage_match},
        {"$project", lev_stage_project},
        {"$addFields", lev_stage_project},
        {"$set", lev_stage_project},
        {"$unset", lev_stage_unset},
        {"$group", lev_stage_group},
        {"$sort", lev_stage_sort},
        {"$limit", lev_stage_limit},
        {"$skip", lev_stage_skip},
        {"$unwind", lev_stage_unwind},
        {"$count", lev_stage_count},
        {"$sortByCount", lev_stage_sort_by_count},
        {"$replaceRoot", lev_stage_replace},
        {"$replaceWith", lev_stage_replace},
        {"$lookup", lev_stage_lookup},
        {"$facet", lev_stage_facet},
        {"$bucket", lev_stage_bucket},
        {"$sample", lev_stage_sample},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(stages); i++) {
        if (strcmp(stages[i].name, name) == 0) {
            return stages[i].compile;
        }
    }
    return NULL;
}

static int
unknown_stage(const char *name, struct lev_error *err)
{
    static const char *const later[] = {
        "$bucketAuto",
        "$changeStream",
        "$collStats",
        "$currentOp",
        "$densify",
        "$documents",
        "$fill",
        "$geoNear",
        "$graphLookup",
        "$indexStats",
        "$listSessions",
        "$merge",
        "$out",
        "$planCacheStats",
        "$redact",
        "$search",
        "$searchMeta",
        "$setWindowFields",
        "$unionWith",
        "$vectorSearch",
        "$listLocalSessions",
        "$changeStreamSplitLargeEvent",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(later); i++) {
        if (strcmp(name, later[i]) == 0) {
            return lev_error_set(err, LEV_E_UNSUPPORTED_OPERATION, 0,
                                 "the embedded store has no %s in pipelines; "
                                 "do that step in Python",
                                 name);
        }
    }
    return lev_error_set(err, LEV_E_QUERY, 40324,
                         "pipeline: there is no stage '%s'", name);
}

static int
compile_stage(struct lev_chain *chain, const bson_value_t *v,
              struct lev_error *err)
{
    lev_stage_compile_fn compile;
    bson_value_t spec;
    bson_iter_t it;
    bson_t doc;

    if (v->value_type != BSON_TYPE_DOCUMENT || !lev_value_open(v, &doc)) {
        return lev_error_set(err, LEV_E_QUERY, 14,
                             "pipeline: a stage is an object, not %s",
                             lev_value_type_name(v->value_type));
    }
    if (bson_count_keys(&doc) != 1 || !bson_iter_init(&it, &doc) ||
        !bson_iter_next(&it))
    {
        return lev_error_set(err, LEV_E_QUERY, 40323,
                             "pipeline: a stage has one field, its name; not "
                             "%u",
                             bson_count_keys(&doc));
    }
    compile = find_stage(bson_iter_key(&it));
    spec = lev_value_of(&it);
    return compile == NULL ? unknown_stage(bson_iter_key(&it), err)
                           : compile(chain, bson_iter_key(&it), &spec, err);
}

int
lev_chain_compile(struct lev_chain *chain, const bson_value_t *stages,
                  struct lev_error *err)
{
    bson_iter_t it;

    for (bool ok = lev_value_iter(stages, &it); ok && bson_iter_next(&it);) {
        bson_value_t v = lev_value_of(&it);

        if (compile_stage(chain, &v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The outside. */

struct lev_pipeline *
lev_pipeline_compile(const bson_t *stages, struct lev_error *err)
{
    _cleanup_pipeline_ struct lev_pipeline *p = calloc(1, sizeof(*p));
    bson_value_t v;

    if (p == NULL) {
        lev_error_nomem(err, "pipeline");
        return NULL;
    }
    p->chain.env = &p->env;
    p->source = bson_copy(stages);
    if (lev_value_check(p->source, err) < 0) {
        return NULL;
    }
    v = lev_value_doc(p->source);
    return lev_chain_compile(&p->chain, &v, err) < 0 ? NULL : lev_steal(p);
}

void
lev_pipeline_destroy(struct lev_pipeline *p)
{
    if (p != NULL) {
        lev_chain_destroy(&p->chain);
        lev_eval_deinit(&p->env.ev);
        bson_destroy(p->source);
        free(p);
    }
}

void
lev_pipeline_drop(struct lev_pipeline *p, size_t n)
{
    size_t length = 0;
    struct lev_stage **link = &p->chain.last;
    struct lev_chain dropped;

    for (const struct lev_stage *s = p->chain.last; s != NULL; s = s->source) {
        length++;
    }
    for (; length > n; length--) {
        link = &(*link)->source;
    }
    dropped = (struct lev_chain){.last = *link};
    *link = NULL;
    lev_chain_destroy(&dropped);
}

void
lev_pipeline_start(struct lev_pipeline *p, const struct lev_pipeline_io *io)
{
    p->env.io = *io;
}

int
lev_pipeline_next(struct lev_pipeline *p, const struct lev_scope *scope,
                  bson_t *doc, struct lev_error *err)
{
    struct lev_stage end = {.source = p->chain.last, .env = &p->env};

    p->env.scope = scope;
    p->env.ev.scope = scope;
    return lev_stage_pull(&end, doc, err);
}
