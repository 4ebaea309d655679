/* port.h - ports of this machine that lead to containers. Any thread. */
#ifndef LEV_PORT_H
#define LEV_PORT_H

#include "error.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* A port of the host that leads to one of a container. */
struct lev_published {
    struct in_addr ip; /* of the host; 0.0.0.0: all of them */
    uint16_t host_port, port;
    bool udp;
    struct in_addr to;
};

/* Binds, and listens on, the first port from `host_port` to `last` of the host
 * that nobody has (0: one of the kernel's choice), and sets it: nobody else
 * gets it while the descriptor is open. CONFLICT when there is none, INVALID
 * for an address that this machine does not have. */
int lev_port_hold(struct lev_published *p, uint16_t last,
                  struct lev_error *err);

#endif
