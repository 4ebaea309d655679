#include "port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

/* With SO_REUSEADDR connections of before that are still being closed are not
 * in the way; a listener is, and nobody else can become one. */
static int
hold_one(const struct lev_published *p, struct lev_error *err)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons(p->host_port),
                                   .sin_addr = p->ip};
    _cleanup_close_ int fd = -1;
    const int on = 1;
    char text[INET_ADDRSTRLEN];

    fd =
        socket(AF_INET, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return lev_error_errno(err, "socket");
    }
    if (!p->udp) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (bind(fd, (const void *)&at, sizeof(at)) == 0 &&
        (p->udp || listen(fd, 1) == 0))
    {
        return lev_steal_fd(&fd);
    }
    inet_ntop(AF_INET, &p->ip, text, sizeof(text));
    if (errno == EADDRINUSE) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "port %u/%s of %s is in use on this machine: "
                             "publish another one",
                             p->host_port, p->udp ? "udp" : "tcp", text);
    }
    if (errno == EADDRNOTAVAIL) {
        return lev_error_set(err, LEV_E_INVALID, errno,
                             "port_bindings: this machine has no address %s",
                             text);
    }
    return lev_error_errno(err, "bind port %u/%s of %s", p->host_port,
                           p->udp ? "udp" : "tcp", text);
}

int
lev_port_hold(struct lev_published *p, uint16_t last, struct lev_error *err)
{
    struct sockaddr_in at;
    socklen_t size = sizeof(at);
    int fd;

    for (;;) {
        fd = hold_one(p, err);
        if (fd >= 0 || err->code != LEV_E_CONFLICT || p->host_port >= last) {
            break;
        }
        p->host_port++;
    }
    if (fd >= 0 && getsockname(fd, (void *)&at, &size) == 0) {
        p->host_port = ntohs(at.sin_port);
    }
    return fd;
}
