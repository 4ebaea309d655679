/* firewall.h - the rules of one session's network, on this machine and in the
 * session's own namespace: by nftables, or by iptables where only that works.
 *
 * All rules lie in a table (nftables) or in chains (iptables) called
 * levrt-TAG, so that they can be taken away by the tag alone. On the host they
 * let the uplink's answers and what is published in, and nothing else; they
 * translate addresses out, and those of published ports in; and they keep
 * 127.0.0.0/8 from whatever comes by the uplink: publishing on a loopback
 * address takes route_localnet there, which alone would open the host's own
 * loopback services to the containers (CVE-2020-8558).
 *
 * Each change is one process of the nft or iptables command, but for ports
 * with nftables. One thread; the caller is in the namespace that is meant.
 */
#ifndef LEV_FIREWALL_H
#define LEV_FIREWALL_H

#include "port.h"

struct lev_firewall {
    char tag[9];
    char uplink[16];       /* the host's end */
    int nl;                /* for ports: -1 until there is one */
    struct in_addr inside; /* the address of the session's end */
    bool iptables;         /* nftables is not there, or does not work */
    bool forwards;         /* rules in the host's FORWARD, beside nftables' */
    bool zoned;            /* the uplink is in a zone of firewalld's */
    char chain[16];        /* where those are */
};

/* In the session's namespace, whose end of the uplink is `uplink`: bridges are
 * kept apart. Finds out whether it is nftables or iptables.
 * ENGINE_UNAVAILABLE where neither works. */
int lev_firewall_open_inside(struct lev_firewall *f, const char *uplink,
                             struct lev_error *err);
/* On the host. Where iptables' FORWARD policy drops, with two rules for the
 * uplink there; where firewalld is, in its zone "trusted", as Docker is in one
 * of the same kind. ENGINE_UNAVAILABLE naming another chain that drops what it
 * does not know, with what to add there: never a silent time-out. */
int lev_firewall_open(struct lev_firewall *f, struct lev_error *err);
void lev_firewall_close(struct lev_firewall *f);
/* What a holder of `tag` that was killed has left on the host. */
void lev_firewall_sweep(const char *tag);

int lev_firewall_publish(struct lev_firewall *f,
                         const struct lev_published *ports, size_t n,
                         struct lev_error *err);
void lev_firewall_unpublish(struct lev_firewall *f,
                            const struct lev_published *ports, size_t n);

#endif
