/* stage.h - the stages of a pipeline.
 *
 * Internal to pipeline.c and the stage units. A stage's own struct begins
 * with `struct lev_stage`. It is compiled onto the end of a chain, and asked
 * for documents when all of the chain is there.
 */
#ifndef LEV_STAGE_H
#define LEV_STAGE_H

#include "buf.h"
#include "path.h"
#include "pipeline.h"
#include "value.h"

/* What a stage may hold. */
#define LEV_STAGE_MAX (100u * 1024 * 1024)

struct lev_stage;

struct lev_stage_ops {
    /* 1 with the next document, borrowed until the next call; 0 at the end. */
    int (*next)(struct lev_stage *s, bson_t *doc, struct lev_error *err);
    void (*destroy)(struct lev_stage *s);
};

/* What all stages of a pipeline share. */
struct lev_stage_env {
    struct lev_pipeline_io io;
    struct lev_eval ev;
    const struct lev_scope *scope; /* of the call that is going on */
};

struct lev_stage {
    const struct lev_stage_ops *ops;
    struct lev_stage *source; /* the one before; NULL: the first */
    struct lev_stage_env *env;
};

struct lev_chain {
    struct lev_stage_env *env;
    struct lev_stage *last; /* NULL: empty */
    bool nested;            /* within a $facet */
};

/* A stage by its name in the table of pipeline.c. */
typedef int (*lev_stage_compile_fn)(struct lev_chain *chain, const char *name,
                                    const bson_value_t *spec,
                                    struct lev_error *err);

/* `stages`: an array of stages. */
int lev_chain_compile(struct lev_chain *chain, const bson_value_t *stages,
                      struct lev_error *err);
void lev_chain_destroy(struct lev_chain *chain);

/* A zeroed stage of that size at the end of the chain; NULL with NOMEM. */
struct lev_stage *lev_stage_add(struct lev_chain *chain,
                                const struct lev_stage_ops *ops, size_t size,
                                struct lev_error *err);
/* The next document of the stage before. */
int lev_stage_pull(struct lev_stage *s, bson_t *doc, struct lev_error *err);
/* QUERY 292. */
int lev_stage_too_much(const char *name, struct lev_error *err);
int lev_stage_bad(const char *name, int code, const char *what,
                  struct lev_error *err);
/* QUERY `code` unless `v` is an object. */
int lev_stage_object(const char *name, const bson_value_t *v, int code,
                     struct lev_error *err);
/* 1 with the document in a buffer; QUERY 15 when it is nested too deep, as a
 * chain of stages can make it. */
int lev_stage_give(const struct lev_buf *buf, bson_t *doc,
                   struct lev_error *err);
/* `doc` with `v` where `path` leads, below objects that are made where there
 * are none; without that field when `v` is missing. */
void lev_stage_set(const bson_t *doc, const struct lev_path *path,
                   const bson_value_t *v, bson_t *out);
/* The path of a field that a stage makes. */
int lev_stage_path(const char *text, struct lev_path *path,
                   struct lev_error *err);

/* Compiling; each in the file of its kind. */
int lev_stage_match(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);
int lev_stage_limit(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);
int lev_stage_skip(struct lev_chain *, const char *, const bson_value_t *,
                   struct lev_error *);
int lev_stage_sort(struct lev_chain *, const char *, const bson_value_t *,
                   struct lev_error *);
int lev_stage_count(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);
int lev_stage_sample(struct lev_chain *, const char *, const bson_value_t *,
                     struct lev_error *);
int lev_stage_project(struct lev_chain *, const char *, const bson_value_t *,
                      struct lev_error *);
int lev_stage_unset(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);
int lev_stage_replace(struct lev_chain *, const char *, const bson_value_t *,
                      struct lev_error *);
int lev_stage_unwind(struct lev_chain *, const char *, const bson_value_t *,
                     struct lev_error *);
int lev_stage_group(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);
int lev_stage_bucket(struct lev_chain *, const char *, const bson_value_t *,
                     struct lev_error *);
int lev_stage_sort_by_count(struct lev_chain *, const char *,
                            const bson_value_t *, struct lev_error *);
int lev_stage_lookup(struct lev_chain *, const char *, const bson_value_t *,
                     struct lev_error *);
int lev_stage_facet(struct lev_chain *, const char *, const bson_value_t *,
                    struct lev_error *);

#endif
