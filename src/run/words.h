/* words.h - lists of strings that are put together for one request: arguments,
 * variables, hosts.
 *
 * A zeroed struct is an empty list. Failure is sticky, as in buf.h: one check
 * at the end. Not thread-safe.
 */
#ifndef LEV_WORDS_H
#define LEV_WORDS_H

#include "base.h"
#include <stdbool.h>

struct lev_words {
    char **v; /* ends with NULL; NULL while it is empty */
    size_t n, cap;
    bool failed;
};

void lev_words_deinit(struct lev_words *w);
#define _cleanup_words_ _cleanup_(lev_words_deinit)

/* Takes `text` over; NULL counts as out of memory. */
void lev_words_take(struct lev_words *w, char *text);
void lev_words_printf(struct lev_words *w, const char *fmt, ...)
    LEV_PRINTF(2, 3);
/* Appends copies of a list that ends with NULL; NULL is an empty one. */
void lev_words_copy(struct lev_words *w, char *const *from);

#endif
