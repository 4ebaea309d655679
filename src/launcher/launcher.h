/* launcher.h - the one program of ours that runs in any container.
 *
 * It is static, since an image may have no libc, and does what must work
 * there without an interpreter: start the bundle's Python (python.c), wait
 * for ports (probe.c, listeners.c), carry the guest channel for an engine that
 * is not on this machine (relay.c), and be process 1 (init.c). The role is
 * chosen by argv[0] or, for another name than python's, by the first argument.
 *
 * One thread; every role returns the exit code of the process and reports on
 * standard error.
 */
#ifndef LEV_LAUNCHER_H
#define LEV_LAUNCHER_H

#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LEV_LAUNCHER_USAGE 2 /* the arguments were wrong */
#define LEV_PROBE_TIMEOUT 3  /* not every port listens */

/* Does not return but on failure: 127 or 126, as a shell does. */
int lev_python_main(int argc, char **argv);
/* probe [--owned] [--timeout-ms N] PORT… : returns 0 when each port is in
 * state LISTEN in this network namespace, on whatever address. With --owned a
 * listener counts only when a process that /proc shows holds its socket: on
 * the host's network that is what the container itself opened. After the
 * time-out (none by default) one line of JSON goes to standard output,
 * {"missing": [port…], "listening": [port…]}. */
int lev_probe_main(int argc, char **argv);
/* relay [--timeout-ms N] NAME : connects standard input and output to the
 * abstract unix socket NAME, for which it waits, and says $LEV_TOKEN to it
 * first, if there is one. */
int lev_relay_main(int argc, char **argv);

/* init [--] PROGRAM [ARGUMENT…] : runs it, hands signals on, reaps orphans,
 * and ends as it ended (128 + n by signal n). */
#define LEV_INIT_READY "lev-init" /* its name as soon as it takes signals */
int lev_init_main(int argc, char **argv);

/* A number of an argument, 1 … max; -1 with INVALID naming `what`. */
int lev_arg_number(const char *text, const char *what, long max, long *out,
                   struct lev_error *err);
/* Milliseconds of the monotonic clock. */
int64_t lev_now_ms(void);
/* Says it on standard error; returns `code`. */
int lev_complain(const struct lev_error *err, int code);

/* Listening TCP sockets of this network namespace. */
struct lev_listener {
    uint16_t port;
    uint64_t inode;
};
struct lev_listeners {
    struct lev_listener *items;
    size_t len, cap;
};
void lev_listeners_deinit(struct lev_listeners *l);
/* Replaces what `l` holds, IPv4 and IPv6: by sock_diag (18 µs), or from /proc
 * where a sandbox refuses that. */
int lev_listeners_scan(struct lev_listeners *l, struct lev_error *err);
/* Drops those that no process of /proc holds. */
int lev_listeners_keep_owned(struct lev_listeners *l, struct lev_error *err);

#endif
