/* cgroup.h - control groups of containers, on cgroup v1, hybrid and v2.
 *
 * A group is named by its path below each hierarchy's root ("levrt-S/NAME");
 * where a hierarchy lacks it, nothing is done there. Whoever is in a group is
 * found and killed by the group, never by what a runtime says about it. Any
 * thread.
 */
#ifndef LEV_CGROUP_H
#define LEV_CGROUP_H

#include "error.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LEV_HIERARCHIES_MAX 20

struct lev_cgroups {
    bool v1; /* limits are in v1 hierarchies, also on hybrid machines */
    char roots[LEV_HIERARCHIES_MAX][64]; /* v1's, then v2's */
    bool counts_memory[LEV_HIERARCHIES_MAX];
    size_t n;
    int unified; /* index of the v2 hierarchy, or -1 */
};

/* Looks at /sys/fs/cgroup. ENGINE_UNAVAILABLE when there is none. */
int lev_cgroups_find(struct lev_cgroups *cg, struct lev_error *err);
/* Version 2: lets groups have the controllers that options need, as far as
 * they can: `lev_cgroups_require` tells what came of it. */
void lev_cgroups_enable(const struct lev_cgroups *cg);
/* Whether groups have that controller ("memory"). UNSUPPORTED_OPTION that
 * names `option`, and what to do. */
int lev_cgroups_require(const struct lev_cgroups *cg, const char *controller,
                        const char *option, struct lev_error *err);
/* Kills all in the group and those below it, frozen ones too; again until
 * `lev_cgroup_is_empty`. */
void lev_cgroup_kill(const struct lev_cgroups *cg, const char *path);
/* The same by one write, where the kernel can (v2, Linux 5.14), and without
 * those that are frozen or in v1 groups alone. */
bool lev_cgroup_kill_at_once(const struct lev_cgroups *cg, const char *path);
bool lev_cgroup_is_empty(const struct lev_cgroups *cg, const char *path);
int lev_cgroup_freeze(const struct lev_cgroups *cg, const char *path,
                      bool freeze, struct lev_error *err);
/* Highest use in bytes (-1: not known) and whether the OOM killer was there.
 */
void lev_cgroup_memory(const struct lev_cgroups *cg, const char *path,
                       int64_t *peak, bool *oom_killed);
/* Removes the group with those below it; false while there is a process in
 * one. */
bool lev_cgroup_remove(const struct lev_cgroups *cg, const char *path);

#endif
