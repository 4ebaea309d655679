#include "strv.h"

#include <string.h>

size_t
lev_strv_len(const char *const *v)
{
    size_t n = 0;

    while (v != NULL && v[n] != NULL) {
        n++;
    }
    return n;
}

char **
lev_strv_copy(const char *const *v)
{
    size_t n = lev_strv_len(v);
    char **copy = calloc(n + 1, sizeof(*copy));

    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = strdup(v[i]);
        if (copy[i] == NULL) {
            lev_strv_free(copy);
            return NULL;
        }
    }
    return copy;
}

void
lev_strv_free(char **v)
{
    for (char **p = v; p != NULL && *p != NULL; p++) {
        free(*p);
    }
    free(v);
}
