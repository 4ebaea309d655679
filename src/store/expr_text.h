/* expr_text.h - what the string operators share.
 *
 * Internal to the expr units.
 */
#ifndef LEV_EXPR_TEXT_H
#define LEV_EXPR_TEXT_H

#include "buf.h"
#include "expr_node.h"

struct lev_text {
    const char *s;
    size_t len;
};

/* A string's or symbol's text; false for other types. */
bool lev_text_of(const bson_value_t *v, struct lev_text *text);
/* Appends, unless that makes more than an expression's value may hold. */
int lev_text_put(struct lev_buf *b, struct lev_text text,
                 struct lev_error *err);
int lev_text_finish(const struct lev_buf *b, struct lev_eval *ev,
                    bson_value_t *out, struct lev_error *err);
/* Where `what` begins in `text`, from byte `from` on; -1: nowhere. */
ptrdiff_t lev_text_find(struct lev_text text, struct lev_text what,
                        size_t from);
/* Code points, counted by the bytes that begin one. */
size_t lev_text_count(struct lev_text text);
static inline bool
lev_text_continues(char ch)
{
    return ((unsigned char)ch & 0xc0) == 0x80;
}

/* As $toString writes it; 0 for types that have no text (expr_convert.c). */
int lev_text_make(const bson_value_t *v, struct lev_eval *ev,
                  bson_value_t *out, struct lev_error *err);

#endif
