/* gate.h - a mutex that is waited for within a scope.
 *
 * For what takes long and is done once for many: the first who enters does it,
 * the others wait, each as long as its own scope allows, in order of arrival.
 */
#ifndef LEV_GATE_H
#define LEV_GATE_H

#include "scope.h"

struct lev_gate_waiter;

struct lev_gate {
    pthread_mutex_t mutex;
    bool busy;
    struct lev_gate_waiter *first, **last;
};

void lev_gate_init(struct lev_gate *g);
void lev_gate_deinit(struct lev_gate *g);
int lev_gate_enter(struct lev_gate *g, const struct lev_scope *scope,
                   struct lev_error *err) LEV_NODISCARD;
void lev_gate_leave(struct lev_gate *g);

static inline void
lev_gate_leavep(struct lev_gate **g)
{
    if (*g != NULL) {
        lev_gate_leave(*g);
    }
}
/* Set it after entering; leaves at the end of the scope. */
#define _cleanup_gate_ _cleanup_(lev_gate_leavep)

#endif
