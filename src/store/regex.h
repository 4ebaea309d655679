/* regex.h - regular expressions of queries, by PCRE2.
 *
 * Patterns come from users, so matching is bounded: an expression that
 * explodes on some text is an error, never a hang. A compiled regex does not
 * change and may be shared by threads.
 */
#ifndef LEV_REGEX_H
#define LEV_REGEX_H

#include "error.h"
#include <stdbool.h>

struct lev_regex;

/* `options` are MongoDB's: any of "imsxu". QUERY 51091 for a pattern that does
 * not compile, 51108 for other options. */
struct lev_regex *lev_regex_compile(const char *pattern, const char *options,
                                    struct lev_error *err);
void lev_regex_destroy(struct lev_regex *re); /* NULL is fine */
/* 1 when it is found anywhere in the text, 0 when not; -1 with QUERY when it
 * takes too many steps. */
int lev_regex_search(const struct lev_regex *re, const char *text, size_t len,
                     struct lev_error *err);

#endif
