/* nftmap.h - elements of nftables' maps, by netlink: what changes with every
 * published port, without a process of the nft command (5 ms and more) each
 * time. The maps are those of firewall.c:
 *
 *   tcp_at, udp_at    address . port : address . port
 *   tcp_any, udp_any  port : address . port
 *
 * All of a call's elements are taken, or none. One thread at a time.
 */
#ifndef LEV_NFTMAP_H
#define LEV_NFTMAP_H

#include "port.h"
#include <stddef.h>

/* A socket in the caller's network namespace; -1. One is kept: closing it
 * waits until the kernel has forgotten what was deleted (12 ms). */
int lev_nftmap_open(struct lev_error *err);
int lev_nftmap_add(int nl, const char *table,
                   const struct lev_published *ports, size_t n,
                   struct lev_error *err);
int lev_nftmap_delete(int nl, const char *table,
                      const struct lev_published *ports, size_t n,
                      struct lev_error *err);

#endif
