/* arena.h - memory for the values that evaluating an expression makes: taken
 * piece by piece, given back all at once.
 *
 * A zeroed struct is an empty arena. What it holds is bounded, so that an
 * expression cannot fill the memory of the process. Belongs to one thread.
 */
#ifndef LEV_ARENA_H
#define LEV_ARENA_H

#include "error.h"
#include <bson/bson.h>

/* What one document's evaluation may hold; QUERY 146 above it. */
#define LEV_ARENA_MAX (100u * 1024 * 1024)

/* The largest value, and document, that may come of an expression. */
#define LEV_RESULT_MAX (16u * 1024 * 1024)

struct lev_arena {
    struct lev_arena_chunk *top; /* the newest, each knows the one before */
    size_t bytes;                /* of all chunks */
    uint64_t handed;             /* all that was ever asked for, in bytes */
};

/* Where an arena stands, to go back to. */
struct lev_arena_mark {
    struct lev_arena_chunk *top;
    size_t used;
};

void lev_arena_deinit(struct lev_arena *a);
void lev_arena_clear(struct lev_arena *a); /* keeps some memory */
/* `size` bytes, aligned for anything; NULL with NOMEM or QUERY 146. */
void *lev_arena_alloc(struct lev_arena *a, size_t size, struct lev_error *err);

struct lev_arena_mark lev_arena_mark(const struct lev_arena *a);
/* What was taken since then is gone. */
void lev_arena_release(struct lev_arena *a, struct lev_arena_mark mark);
/* The same, but for `*v`, which is moved if it was taken since then. */
int lev_arena_keep(struct lev_arena *a, struct lev_arena_mark mark,
                   bson_value_t *v, struct lev_error *err);

/* Values made of bytes, which are copied. QUERY 10334 above LEV_RESULT_MAX. */
int lev_arena_text(struct lev_arena *a, const char *text, size_t len,
                   bson_value_t *out, struct lev_error *err);
int lev_arena_doc(struct lev_arena *a, const bson_t *doc, bson_type_t type,
                  bson_value_t *out, struct lev_error *err);

/* Zeroed memory for a struct that holds a bson_t, which wants to be aligned;
 * NULL when there is none. free(). */
void *lev_arena_calloc(size_t size);

/* A document or array under construction. */
struct lev_build {
    bson_t doc;
    uint32_t n; /* elements so far */
};

void lev_build_init(struct lev_build *b);
void lev_build_deinit(struct lev_build *b);
#define _cleanup_build_ _cleanup_(lev_build_deinit)
/* As an array's next element; what is missing is null. */
int lev_build_add(struct lev_build *b, const bson_value_t *v,
                  struct lev_error *err);
/* As a field; what is missing is left out. */
int lev_build_set(struct lev_build *b, const char *key, const bson_value_t *v,
                  struct lev_error *err);
int lev_build_finish(struct lev_build *b, struct lev_arena *a,
                     bson_type_t type, bson_value_t *out,
                     struct lev_error *err);

#endif
