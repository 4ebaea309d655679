/* tree.h - directory trees that somebody else has filled.
 *
 * Symbolic links are never followed and the tree's depth costs no descriptors
 * and no stack, so that a hostile tree can be removed like any other. Threads:
 * any; one tree by one thread.
 */
#ifndef LEV_TREE_H
#define LEV_TREE_H

#include "error.h"

/* Whatever `name` in `dirfd` is, with all below it; a missing one is fine. OS
 * naming it. */
int lev_tree_remove(int dirfd, const char *name, struct lev_error *err);

#endif
