/* helper.h - the messages between an engine and its helper, lev-reaper.
 *
 * A seqpacket socket; each message is a JSON object with descriptors beside
 * it. The first descriptor of a request is the socket that its answer goes to,
 * so that any number of threads may ask at once and none reads another's
 * answer; when the helper dies, that end closes.
 *
 *   create   {name, lower: [dir…], networks: [{bridge, interface, address,
 *            prefix, gateway, default, mac}…] | null, ports: [{ip, from,
 *            to, port, udp, address}…], shares_pids}
 *            → {netns, ports: [number…]} + [root]
 *            The overlay of a container's directory is mounted, a network
 *            namespace made (null: none) that {netns} is the path of; ports of
 *            this machine are taken (from 0: any) and lead to `port` of
 *            `address` until the container is removed.
 *   start    {name} + [stdin, stdout, stderr, exit] → {pid}
 *   exec     {name, number} + [stdin, stdout, stderr, exit] → {pid}
 *            `exit` is a socket: a lev_exit comes when the process has ended;
 *            closing it kills the process of an exec.
 *   signal   {name, signo} → {}
 *   pause    {name, on} → {}
 *   inspect  {name} → {state, pid, code, oom, peak, started, finished,
 *            paused}
 *   remove   {name} → {}            when nothing of it is there any more
 *   network  {bridge, gateway, prefix} → {host}
 *   unnetwork {bridge, gateway, prefix} → {}
 *   gc       {dry, kept} → {found: [{kind, name, session, removed}…]}
 *            what dead sessions have left
 *   adopt    {path}                 a directory that goes with the session;
 *                                   not answered
 *
 * An answer with "error" has "code" (enum lev_errcode) and "detail". The
 * helper ends, and takes everything of the session with it, when the socket is
 * closed or the workflow's process dies.
 */
#ifndef LEV_HELPER_H
#define LEV_HELPER_H

#include "json.h"
#include "scope.h"

#define LEV_HELPER_SOCKET 3 /* its descriptors at its start */
#define LEV_HELPER_PIDFD 4
#define LEV_PACKET_FDS 8
/* Where a session's things are, below the store's directory:
 *   sessions/TAG/lock                  held by its helper
 *   sessions/TAG/containers/NAME/      upper, work, meta.json
 *   sessions/TAG/LEV_BUNDLES/NAME/     root, config.json, hosts, …: in memory,
 *                                      and seen by the helper alone; the
 * engine has a descriptor names/NAME → ../sessions/TAG/containers/NAME
 */
#define LEV_TAG_MAX 8
#define LEV_BUNDLES "state/bundles"

struct lev_exit {
    int32_t code; /* 128 + n by signal n */
    int32_t oom;
    int64_t peak;              /* bytes; -1 */
    int64_t started, finished; /* ms since the epoch */
};

struct lev_packet {
    json_t *body;
    int fds[LEV_PACKET_FDS];
    size_t n;
};

void lev_packet_deinit(struct lev_packet *p);
#define _cleanup_packet_ _cleanup_(lev_packet_deinit)

/* Waits for room as the scope allows. */
int lev_packet_send(int sock, const struct lev_scope *scope,
                    const json_t *body, const int *fds, size_t n,
                    struct lev_error *err);
/* 1; 0 at the end; -2 when nothing is there. Does not wait. */
int lev_packet_recv(int sock, struct lev_packet *packet,
                    struct lev_error *err);

/* The engine's end; any thread. */
struct lev_helper;

/* Starts `program` for the session `tag` in the store's directory `dir`, with
 * the OCI runtime `runtime`; waits until it is ready, and has removed what
 * dead sessions have left. `gc_only`: it has not, and takes gc alone. */
struct lev_helper *lev_helper_start(const char *program, const char *dir,
                                    const char *tag, const char *runtime,
                                    bool gc_only,
                                    const struct lev_scope *scope,
                                    struct lev_error *err);
/* Starts a program with a socket and the pidfd of this process, as above, and
 * does not wait for it. `argv` ends with NULL. */
struct lev_helper *lev_helper_spawn(const char *const *argv,
                                    struct lev_error *err);
/* Says something that is not answered. */
int lev_helper_tell(struct lev_helper *h, const struct lev_scope *scope,
                    json_t *message, struct lev_error *err);
/* Closes the socket and leaves it alone: it ends by itself, and whoever has
 * started it waits for it. NULL is fine. */
void lev_helper_release(struct lev_helper *h);
/* Ends it and waits (bounded) until everything of the session is gone; NULL is
 * fine. */
void lev_helper_stop(struct lev_helper *h);
/* `request` is consumed. ENGINE_UNAVAILABLE when the helper is gone. */
int lev_helper_call(struct lev_helper *h, const struct lev_scope *scope,
                    json_t *request, const int *fds, size_t n,
                    struct lev_packet *answer, struct lev_error *err);
pid_t lev_helper_pid(const struct lev_helper *h);
/* The directory of the containers' bundles. */
int lev_helper_bundles(const struct lev_helper *h);

#endif
