/* base.h - scope guards and small helpers shared by every file below src/py.
 */
#ifndef LEV_BASE_H
#define LEV_BASE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LEV_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define LEV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define LEV_NODISCARD __attribute__((warn_unused_result))

/* `unused`: clang warns about a guard that nothing reads, gcc does not. */
#define _cleanup_(fn) __attribute__((cleanup(fn), unused))

/* From a pointer to a member to the struct that holds it. */
#define lev_container_of(ptr, type, member)                                   \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Hand a guarded pointer over to somebody else: yields it, leaves NULL. */
#define lev_steal(p)                                                          \
    (__extension__({                                                          \
        __auto_type lev_stolen_ = (p);                                        \
        (p) = NULL;                                                           \
        lev_stolen_;                                                          \
    }))

/* Hand a guarded descriptor over: yields it, leaves -1. */
static inline int
lev_steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

static inline void
lev_freep(void *p)
{
    free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(lev_freep)

/* Leaves -1: whatever closes it again closes nothing of somebody else's. */
static inline void
lev_closep(int *fd)
{
    if (*fd >= 0) {
        close(lev_steal_fd(fd));
    }
}
#define _cleanup_close_ _cleanup_(lev_closep)

static inline void
lev_fclosep(FILE **f)
{
    if (*f != NULL) {
        fclose(*f);
    }
}
#define _cleanup_fclose_ _cleanup_(lev_fclosep)

#endif
