/* strv.h - arrays of strings that end with NULL. */
#ifndef LEV_STRV_H
#define LEV_STRV_H

#include "base.h"

char **lev_strv_copy(const char *const *v); /* NULL when out of memory */
void lev_strv_free(char **v);               /* NULL is fine */
size_t lev_strv_len(const char *const *v);  /* of NULL: 0 */

static inline void
lev_strv_freep(char ***v)
{
    lev_strv_free(*v);
}
#define _cleanup_strv_ _cleanup_(lev_strv_freep)

#endif
