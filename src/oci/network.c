#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "firewall.h"
#include "netlink.h"

#define UPLINK "up0"
#define UPLINK_PREFIX 30
/* The ends of the pair are taken from 10.192.0.0/10: above the range that
 * sessions' networks are taken from. */
#define UPLINK_POOL 0x0ac00000u
#define UPLINK_POOL_SIZE 0x00400000u
#define UPLINK_TRIES 32

struct lev_net {
    struct lev_firewall firewall; /* with the tag and the uplink's names */
    int host_ns, ns;              /* namespaces */
    int host_nl, nl;              /* netlink sockets in them */
    struct in_addr host;
    unsigned next_veth;
    bool ruled;     /* the host has rules */
    bool published; /* the uplink takes what loopback addresses send */
    struct bridge *bridges;
};

/* ---- namespaces ---- */

static int
current_ns(struct lev_error *err)
{
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? lev_error_errno(err, "/proc/self/ns/net") : fd;
}

/* There is no way on for a process that is lost in a container's namespace. */
static void
come_back(int ns)
{
    if (setns(ns, CLONE_NEWNET) < 0) {
        abort();
    }
}

static int
write_sysctl(const char *path, const char *value)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, value, strlen(value)) > 0 ? 0 : -1;
}

static int
loopback_up(struct lev_error *err)
{
    _cleanup_close_ int nl = lev_netlink_open(err);

    return nl < 0 ? -1 : lev_netlink_up(nl, "lo", err);
}

int
lev_netns_create(struct lev_error *err)
{
    _cleanup_close_ int back = current_ns(err), made = -1;
    int rc;

    if (back < 0) {
        return -1;
    }
    if (unshare(CLONE_NEWNET) < 0) {
        return lev_error_errno(err, "make a network namespace");
    }
    made = current_ns(err);
    /* Networks are IPv4 alone: no addresses that nobody gave. */
    write_sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    rc = made < 0 ? -1 : loopback_up(err);
    come_back(back);
    return rc < 0 ? -1 : lev_steal_fd(&made);
}

/* A netlink socket in that namespace. */
static int
netlink_in(int ns, int back, struct lev_error *err)
{
    int nl;

    if (setns(ns, CLONE_NEWNET) < 0) {
        return lev_error_errno(err, "enter a network namespace");
    }
    nl = lev_netlink_open(err);
    come_back(back);
    return nl;
}

/* ---- the namespace of the session ---- */

/* Modules that the kernel could not load when a link of theirs was wanted. */
static int
missing(struct lev_error *err, const char *module)
{
    if (err->detail == EOPNOTSUPP) {
        lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, EOPNOTSUPP,
                      "containers' networks need the kernel module '%s': "
                      "load it (modprobe %s), or use host=True or "
                      "network_mode=\"none\"",
                      module, module);
    }
    else if (err->detail == EPERM) {
        lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, EPERM,
                      "containers' networks need CAP_NET_ADMIN: give it, or "
                      "use host=True or network_mode=\"none\"");
    }
    return -1;
}

static int
set_up_inside(struct lev_net *net, struct lev_error *err)
{
    int rc;

    if (setns(net->ns, CLONE_NEWNET) < 0) {
        return lev_error_errno(err, "enter a network namespace");
    }
    write_sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    rc = write_sysctl("/proc/sys/net/ipv4/ip_forward", "1");
    if (rc < 0) {
        lev_error_errno(err, "net.ipv4.ip_forward of the session");
    }
    else {
        rc = lev_firewall_open_inside(&net->firewall, UPLINK, err);
    }
    come_back(net->host_ns);
    return rc;
}

static int
set_up_uplink(struct lev_net *net, struct lev_error *err)
{
    const struct in_addr everywhere = {0};

    if (lev_netlink_veth(net->host_nl, net->firewall.uplink, UPLINK, net->ns,
                         err) < 0)
    {
        return missing(err, "veth");
    }
    if (lev_netlink_address(net->host_nl, net->firewall.uplink, net->host,
                            UPLINK_PREFIX, err) < 0 ||
        lev_netlink_up(net->host_nl, net->firewall.uplink, err) < 0 ||
        lev_netlink_address(net->nl, UPLINK, net->firewall.inside,
                            UPLINK_PREFIX, err) < 0 ||
        lev_netlink_up(net->nl, UPLINK, err) < 0)
    {
        return -1;
    }
    return lev_netlink_route(net->nl, everywhere, 0, net->host, err);
}

/* ---- the host ---- */

static bool
is_taken(uint32_t net, uint32_t mask)
{
    struct ifaddrs *all;
    bool taken = false;

    if (getifaddrs(&all) < 0) {
        return false;
    }
    for (struct ifaddrs *i = all; i != NULL && !taken; i = i->ifa_next) {
        uint32_t addr, theirs;

        if (i->ifa_addr == NULL || i->ifa_netmask == NULL ||
            i->ifa_addr->sa_family != AF_INET)
        {
            continue;
        }
        addr = ntohl(((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr);
        theirs =
            ntohl(((struct sockaddr_in *)i->ifa_netmask)->sin_addr.s_addr);
        taken = (addr & mask) == net || (net & theirs) == (addr & theirs);
    }
    freeifaddrs(all);
    return taken;
}

static int
pick_uplink(struct lev_net *net, struct lev_error *err)
{
    uint32_t random, base, mask = ~0u << (32 - UPLINK_PREFIX);

    for (int i = 0; i < UPLINK_TRIES; i++) {
        if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
            return lev_error_errno(err, "getrandom");
        }
        base = (UPLINK_POOL + random % UPLINK_POOL_SIZE) & mask;
        if (!is_taken(base, mask)) {
            net->host.s_addr = htonl(base + 1);
            net->firewall.inside.s_addr = htonl(base + 2);
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                         "no free addresses for the session's uplink in "
                         "10.192.0.0/10");
}

static int
enable_forwarding(struct lev_error *err)
{
    static const char path[] = "/proc/sys/net/ipv4/ip_forward";
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char on = '0';

    if (fd >= 0 && read(fd, &on, 1) == 1 && on == '1') {
        return 0;
    }
    if (write_sysctl(path, "1") < 0) {
        return lev_error_set(
            err, LEV_E_ENGINE_UNAVAILABLE, errno,
            "containers need net.ipv4.ip_forward=1 for the world outside, and "
            "it cannot be set: %s; run sysctl net.ipv4.ip_forward=1, or use "
            "host=True or network_mode=\"none\"",
            strerrordesc_np(errno));
    }
    return 0;
}

static int
set_up_host(struct lev_net *net, struct lev_error *err)
{
    if (enable_forwarding(err) < 0) {
        return -1;
    }
    net->ruled = true;
    return lev_firewall_open(&net->firewall, err);
}

static void bridges_free(struct bridge *b);

void
lev_net_close(struct lev_net *net)
{
    struct lev_error err;

    if (net == NULL) {
        return;
    }
    if (net->ruled) {
        lev_firewall_close(&net->firewall);
    }
    if (net->host.s_addr != 0) {
        /* At once: with the namespace it would go a little later. */
        lev_netlink_delete(net->host_nl, net->firewall.uplink, &err);
    }
    bridges_free(net->bridges);
    lev_closep(&net->nl);
    lev_closep(&net->host_nl);
    lev_closep(&net->ns);
    lev_closep(&net->host_ns);
    free(net);
}

void
lev_net_sweep(const char *tag)
{
    _cleanup_close_ int nl = -1;
    struct lev_error err;
    char uplink[16];

    lev_firewall_sweep(tag);
    /* The kernel takes it with its namespace, but when it likes. */
    snprintf(uplink, sizeof(uplink), "lv%.8s", tag);
    nl = lev_netlink_open(&err);
    if (nl >= 0) {
        lev_netlink_delete(nl, uplink, &err); /* gone already: fine */
    }
}

struct lev_net *
lev_net_open(const char *tag, const struct lev_scope *scope,
             struct lev_error *err)
{
    struct lev_net *net = calloc(1, sizeof(*net));

    if (net == NULL) {
        lev_error_nomem(err, "network");
        return NULL;
    }
    net->host_ns = net->ns = net->host_nl = net->nl = -1;
    net->firewall.nl = -1;
    snprintf(net->firewall.tag, sizeof(net->firewall.tag), "%s", tag);
    snprintf(net->firewall.uplink, sizeof(net->firewall.uplink), "lv%.8s",
             tag);
    net->host_ns = current_ns(err);
    net->host_nl = net->host_ns < 0 ? -1 : lev_netlink_open(err);
    net->ns = net->host_nl < 0 ? -1 : lev_netns_create(err);
    net->nl = net->ns < 0 ? -1 : netlink_in(net->ns, net->host_ns, err);
    if (net->nl < 0 || lev_scope_check(scope, err) < 0 ||
        pick_uplink(net, err) < 0 || set_up_uplink(net, err) < 0 ||
        set_up_inside(net, err) < 0 || set_up_host(net, err) < 0)
    {
        if (err->detail == EPERM) {
            missing(err, "");
        }
        lev_error_wrap(err, "network of the session");
        lev_net_close(net);
        return NULL;
    }
    return net;
}

static struct in_addr
network_of(struct in_addr address, unsigned prefix)
{
    uint32_t mask = prefix == 0 ? 0 : ~0u << (32 - prefix);

    return (struct in_addr){address.s_addr & htonl(mask)};
}

/* ---- bridges ---- */

/* A bridge takes 1,023 ports, and what is sent to all of them must fit into a
 * processor's queue of 1,000 frames: else the same ones never hear who is
 * looked for. So this many, and then one more bridge. Each keeps a pair of
 * virtual interfaces with one end in it, as its first port, which is the last
 * one that a frame for all goes to; the other end goes into the next bridge.
 * All of them are one network. */
#define PORTS_MAX 900
#define PARTS_MAX 100

struct bridge {
    struct bridge *next;
    char name[9];
    uint8_t count; /* of the bridges that it is made of */
    uint16_t ports[PARTS_MAX];
};

static void
bridges_free(struct bridge *b)
{
    while (b != NULL) {
        struct bridge *next = b->next;

        free(b);
        b = next;
    }
}

static struct bridge **
bridge_find(struct lev_net *net, const char *name)
{
    struct bridge **at = &net->bridges;

    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    return at;
}

/* "lb3", "lb3.1", "lb3.2", …; its spare ends are "lb3s0" and "lb3t0", …. */
static void
part_name(const struct bridge *b, uint8_t i, char name[16])
{
    if (i == 0) {
        snprintf(name, 16, "%s", b->name);
    }
    else {
        snprintf(name, 16, "%s.%u", b->name, i);
    }
}

/* One more bridge of it; all but the first hang on the one before. */
static int
part_add(struct lev_net *net, struct bridge *b, struct lev_error *err)
{
    char name[16], spare[16], end[16], before[16];
    struct lev_error late;

    part_name(b, b->count, name);
    snprintf(spare, sizeof(spare), "%ss%u", b->name, b->count);
    snprintf(end, sizeof(end), "%st%u", b->name, b->count);
    snprintf(before, sizeof(before), "%st%u", b->name,
             (uint8_t)(b->count - 1));
    if (lev_netlink_bridge(net->nl, name, err) < 0) {
        return missing(err, "bridge");
    }
    if (lev_netlink_veth(net->nl, spare, end, net->ns, err) < 0 ||
        lev_netlink_enslave(net->nl, spare, name, err) < 0 ||
        lev_netlink_up(net->nl, name, err) < 0 ||
        (b->count > 0 && lev_netlink_enslave(net->nl, before, name, err) < 0))
    {
        lev_netlink_delete(net->nl, spare, &late);
        lev_netlink_delete(net->nl, name, &late);
        return -1;
    }
    b->count++;
    return 0;
}

static void
parts_remove(struct lev_net *net, const struct bridge *b)
{
    struct lev_error none;
    char name[16];

    for (uint8_t i = 0; i < b->count; i++) {
        snprintf(name, sizeof(name), "%ss%u", b->name, i);
        lev_netlink_delete(net->nl, name, &none);
        part_name(b, i, name);
        lev_netlink_delete(net->nl, name, &none);
    }
}

int
lev_net_bridge_add(struct lev_net *net, const char *name,
                   struct in_addr gateway, unsigned prefix,
                   struct lev_error *err)
{
    struct bridge *b = calloc(1, sizeof(*b));

    if (b == NULL) {
        return lev_error_nomem(err, "bridge");
    }
    snprintf(b->name, sizeof(b->name), "%s", name);
    if (part_add(net, b, err) < 0 ||
        lev_netlink_address(net->nl, name, gateway, prefix, err) < 0 ||
        lev_netlink_route(net->host_nl, network_of(gateway, prefix), prefix,
                          net->firewall.inside, err) < 0)
    {
        if (err->detail == EEXIST) {
            err->code = LEV_E_CONFLICT; /* the host has that route */
        }
        parts_remove(net, b);
        free(b);
        return -1;
    }
    b->next = net->bridges;
    net->bridges = b;
    return 0;
}

void
lev_net_bridge_remove(struct lev_net *net, const char *name,
                      struct in_addr gateway, unsigned prefix)
{
    struct bridge **at = bridge_find(net, name), *b = *at;
    struct lev_error none;

    lev_netlink_unroute(net->host_nl, network_of(gateway, prefix), prefix,
                        net->firewall.inside, &none);
    if (b != NULL) {
        *at = b->next;
        parts_remove(net, b);
        free(b);
    }
}

/* Into the first of its bridges that has room. */
static int
enslave(struct lev_net *net, const char *veth, const char *bridge,
        struct lev_net_place *place, struct lev_error *err)
{
    struct bridge *b = *bridge_find(net, bridge);
    char name[16];
    uint8_t i = 0;

    if (b == NULL) {
        return lev_error_set(err, LEV_E_NOT_FOUND, 404, "no bridge %s",
                             bridge);
    }
    while (i < b->count && b->ports[i] >= PORTS_MAX) {
        i++;
    }
    if (i == PARTS_MAX) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "the network has %d bridges, and all are full",
                             PARTS_MAX);
    }
    if (i == b->count && part_add(net, b, err) < 0) {
        return lev_error_wrap(err, "bridge number %u", i + 1u);
    }
    part_name(b, i, name);
    if (lev_netlink_enslave(net->nl, veth, name, err) < 0) {
        return -1;
    }
    b->ports[i]++;
    snprintf(place->bridge, sizeof(place->bridge), "%s", b->name);
    place->part = i;
    return 0;
}

void
lev_net_leave(struct lev_net *net, const struct lev_net_place *place)
{
    struct bridge *b = *bridge_find(net, place->bridge);

    if (b != NULL) {
        b->ports[place->part]--;
    }
}

/* ---- containers ---- */

static int
set_up_endpoint(int nl, const struct lev_net_endpoint *end,
                struct lev_error *err)
{
    const struct in_addr everywhere = {0};

    if ((end->mac != NULL &&
         lev_netlink_mac(nl, end->interface, end->mac, err) < 0) ||
        lev_netlink_address(nl, end->interface, end->address, end->prefix,
                            err) < 0 ||
        lev_netlink_up(nl, end->interface, err) < 0)
    {
        return -1;
    }
    if (!end->is_default) {
        return 0;
    }
    return lev_netlink_route(nl, everywhere, 0, end->gateway, err);
}

int
lev_net_join(struct lev_net *net, int ns_fd,
             const struct lev_net_endpoint *end, struct lev_net_place *place,
             struct lev_error *err)
{
    _cleanup_close_ int nl = -1;
    struct lev_error late;
    char veth[16];

    snprintf(veth, sizeof(veth), "v%u", net->next_veth++);
    if (lev_netlink_veth(net->nl, veth, end->interface, ns_fd, err) < 0) {
        return -1;
    }
    nl = netlink_in(ns_fd, net->host_ns, err);
    if (nl >= 0 && set_up_endpoint(nl, end, err) == 0 &&
        enslave(net, veth, end->bridge, place, err) == 0)
    {
        return 0;
    }
    lev_netlink_delete(net->nl, veth, &late);
    return lev_error_wrap(err, "join %s", end->bridge);
}

struct in_addr
lev_net_host(const struct lev_net *net)
{
    return net->host;
}

/* ---- published ports ---- */

/* Answers to a loopback address of the host come from a container: the host
 * must take them. The firewall keeps everything else off. */
static int
allow_loopback(struct lev_net *net, struct lev_error *err)
{
    char path[80];

    snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/route_localnet",
             net->firewall.uplink);
    if (!net->published && write_sysctl(path, "1") < 0) {
        return lev_error_errno(err, "%s", path);
    }
    net->published = true;
    return 0;
}

int
lev_net_publish(struct lev_net *net, const struct lev_published *ports,
                size_t n, struct lev_error *err)
{
    return allow_loopback(net, err) < 0
               ? -1
               : lev_firewall_publish(&net->firewall, ports, n, err);
}

void
lev_net_unpublish(struct lev_net *net, const struct lev_published *ports,
                  size_t n)
{
    lev_firewall_unpublish(&net->firewall, ports, n);
}
