/* subprocess.h - run a command to its end and take what it prints.
 *
 * By posix_spawn, so that a large process is not copied; in a process group of
 * its own, which is killed when the scope ends first. Any thread may call.
 */
#ifndef LEV_SUBPROCESS_H
#define LEV_SUBPROCESS_H

#include "buf.h"
#include "scope.h"

/* `argv[0]` is looked for in PATH. `input` (may be NULL) is its stdin, at most
 * 32 KiB. stdout and stderr are appended, at most 1 MiB of each is kept.
 * `*status` is its exit code, or 128 + the signal that ended it. OS when it
 * cannot be started. */
int lev_subprocess_run(const struct lev_scope *scope, const char *const *argv,
                       const char *input, struct lev_buf *out,
                       struct lev_buf *errors, int *status,
                       struct lev_error *err);

#endif
