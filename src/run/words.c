#include "words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"

void
lev_words_deinit(struct lev_words *w)
{
    lev_strv_free(w->v);
}

void
lev_words_take(struct lev_words *w, char *text)
{
    if (w->n + 2 > w->cap) {
        size_t cap = w->cap == 0 ? 8 : w->cap * 2;
        char **v = realloc(w->v, cap * sizeof(*v));

        if (v == NULL) {
            w->failed = true;
            free(text);
            return;
        }
        w->v = v;
        w->cap = cap;
    }
    w->v[w->n] = text;
    w->v[w->n + (text != NULL)] = NULL;
    w->n += text != NULL;
    w->failed |= text == NULL;
}

void
lev_words_printf(struct lev_words *w, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    lev_words_take(w, text);
}

void
lev_words_copy(struct lev_words *w, char *const *from)
{
    for (; from != NULL && *from != NULL; from++) {
        lev_words_take(w, strdup(*from));
    }
}
