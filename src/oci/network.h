/* network.h - the networks of one session, as the kernel has them.
 *
 *   host ── lvTAG ─veth─ up0 ── [ namespace of the session: bridges lbN ]
 *                                   └─veth─ eth0 [ namespace of a container ]
 *
 * All bridges and the host's ends of the containers' pairs lie in a namespace
 * that has no name: when the process that holds it dies, they go, whatever
 * killed it. The host sees one interface, its routes, one nft table, and,
 * where its FORWARD policy drops, two rules for that interface; without
 * nftables, chains of iptables.
 *
 * Containers of one network reach each other; of two, they do not. They reach
 * the world by source NAT. From outside only the host itself can open
 * connections to them, and others to what is published.
 *
 * For a process of one thread: it goes into the namespaces and comes back.
 */
#ifndef LEV_NETWORK_H
#define LEV_NETWORK_H

#include "error.h"
#include "port.h"
#include "scope.h"
#include <netinet/in.h>
#include <stdint.h>

struct lev_net;

struct lev_net_endpoint {
    const char *bridge;
    const char *interface; /* in the container: "eth0" */
    const char *mac;       /* "02:42:…", or NULL */
    struct in_addr address, gateway;
    unsigned prefix;
    bool is_default; /* the default route goes by this one */
};

/* Which bridge of a network's somebody is on. */
struct lev_net_place {
    char bridge[9];
    uint8_t part;
};

/* `tag`: up to 8 characters that are this session's alone. ENGINE_UNAVAILABLE
 * names what is missing (CAP_NET_ADMIN, the nft command, …). */
struct lev_net *lev_net_open(const char *tag, const struct lev_scope *scope,
                             struct lev_error *err);
/* Takes everything away; NULL is fine. */
void lev_net_close(struct lev_net *net);
/* What a holder of `tag` that was killed has left in the host's tables. */
void lev_net_sweep(const char *tag);

int lev_net_bridge_add(struct lev_net *net, const char *name,
                       struct in_addr gateway, unsigned prefix,
                       struct lev_error *err);
void lev_net_bridge_remove(struct lev_net *net, const char *name,
                           struct in_addr gateway, unsigned prefix);
/* A new namespace with its loopback up; its descriptor. */
int lev_netns_create(struct lev_error *err);
int lev_net_join(struct lev_net *net, int ns_fd,
                 const struct lev_net_endpoint *end,
                 struct lev_net_place *place, struct lev_error *err);
/* Its namespace is gone, and with it the port that it had. */
void lev_net_leave(struct lev_net *net, const struct lev_net_place *place);
/* The host's address as the containers see it. */
struct in_addr lev_net_host(const struct lev_net *net);

/* Leads what comes for held ports to containers. The kernel does it: senders'
 * addresses are seen there, but for those of this machine itself. */
int lev_net_publish(struct lev_net *net, const struct lev_published *ports,
                    size_t n, struct lev_error *err);
void lev_net_unpublish(struct lev_net *net, const struct lev_published *ports,
                       size_t n);

#endif
