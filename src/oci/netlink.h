/* netlink.h - the few rtnetlink messages that a container's network takes.
 *
 * A socket belongs to the network namespace that its maker was in, for ever.
 * Every call waits for the kernel's answer, which comes at once. One thread at
 * a time. Errors: OS with errno in `detail`, naming what was asked.
 */
#ifndef LEV_NETLINK_H
#define LEV_NETLINK_H

#include "error.h"
#include <netinet/in.h>
#include <stdint.h>

/* A socket in the caller's network namespace; -1. */
int lev_netlink_open(struct lev_error *err);
int lev_netlink_bridge(int nl, const char *name, struct lev_error *err);
/* A pair of virtual interfaces: one here, its peer in the namespace `ns_fd`,
 * called `peer`. */
int lev_netlink_veth(int nl, const char *name, const char *peer, int ns_fd,
                     struct lev_error *err);
int lev_netlink_delete(int nl, const char *name, struct lev_error *err);
/* Into a bridge. */
int lev_netlink_enslave(int nl, const char *name, const char *bridge,
                        struct lev_error *err);
int lev_netlink_up(int nl, const char *name, struct lev_error *err);
/* "02:42:ac:11:00:02" */
int lev_netlink_mac(int nl, const char *name, const char *mac,
                    struct lev_error *err);
int lev_netlink_address(int nl, const char *name, struct in_addr address,
                        unsigned prefix, struct lev_error *err);
/* `prefix` 0: the default route. */
int lev_netlink_route(int nl, struct in_addr to, unsigned prefix,
                      struct in_addr gateway, struct lev_error *err);
int lev_netlink_unroute(int nl, struct in_addr to, unsigned prefix,
                        struct in_addr gateway, struct lev_error *err);

#endif
