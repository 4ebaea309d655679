/* resolve.h - names to addresses, within a scope.
 *
 * getaddrinfo() cannot be cancelled: it runs on a thread of its own, and when
 * the scope ends first its answer is dropped by that thread.
 */
#ifndef LEV_RESOLVE_H
#define LEV_RESOLVE_H

#include "scope.h"

/* The first IPv4 address, else the first IPv6 one; an address is its own.
 * INVALID naming the host. */
int lev_resolve(const struct lev_scope *scope, const char *host,
                char address[64], struct lev_error *err);

#endif
