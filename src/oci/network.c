#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "buf.h"
#include "netlink.h"
#include "subprocess.h"

#define UPLINK "up0"
#define UPLINK_PREFIX 30
/* The ends of the pair are taken from 10.192.0.0/10: above the range that
 * sessions' networks are taken from. */
#define UPLINK_POOL 0x0ac00000u
#define UPLINK_POOL_SIZE 0x00400000u
#define UPLINK_TRIES 32
#define COMMAND_TIMEOUT (10 * LEV_SECOND)

struct lev_net {
    char tag[9];
    char uplink[16]; /* the host's end */
    int host_ns, ns; /* namespaces */
    int host_nl, nl; /* netlink sockets in them */
    struct in_addr host, inside;
    unsigned next_veth;
    bool forwards; /* rules in the host's FORWARD */
    char chain[16];
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

/* ---- commands ---- */

static int
run(const char *const *argv, const char *input, struct lev_buf *out,
    struct lev_error *err)
{
    struct lev_scope scope = {lev_now() + COMMAND_TIMEOUT, NULL};
    _cleanup_buf_ struct lev_buf words = {0}, drop = {0};
    int status;

    if (lev_subprocess_run(&scope, argv, input, out == NULL ? &drop : out,
                           &words, &status, err) < 0)
    {
        return -1;
    }
    if (status != 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, status,
                             "%s: %.300s", argv[0], lev_buf_text(&words));
    }
    return 0;
}

static int
nft(const char *rules, struct lev_error *err)
{
    static const char *const argv[] = {"nft", "-f", "-", NULL};

    if (run(argv, rules, NULL, err) == 0) {
        return 0;
    }
    if (err->code == LEV_E_OS && err->detail == ENOENT) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, ENOENT,
                             "containers' networks need the nft command: "
                             "install nftables (Debian, Ubuntu, Fedora, "
                             "Alpine, Arch), or use host=True or "
                             "network_mode=\"none\"");
    }
    return -1;
}

/* ---- the namespace of the session ---- */

/* The bridge's own frames are not the IP layer's business: else two containers
 * of one bridge would meet the chain that keeps bridges apart. */
static int
set_up_inside(struct lev_net *net, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};
    char host[INET_ADDRSTRLEN];
    int rc;

    inet_ntop(AF_INET, &net->host, host, sizeof(host));
    lev_buf_printf(&rules,
                   "table ip levrt {\n"
                   " chain forward {\n"
                   "  type filter hook forward priority 0; policy drop;\n"
                   "  ct state established,related accept\n"
                   "  iifname \"" UPLINK "\" ip saddr %s accept\n"
                   "  oifname \"" UPLINK "\" accept\n"
                   " }\n"
                   " chain nat {\n"
                   "  type nat hook postrouting priority 100;\n"
                   "  oifname \"" UPLINK "\" masquerade\n"
                   " }\n"
                   "}\n",
                   host);
    if (lev_buf_check(&rules, "rules", err) < 0) {
        return -1;
    }
    if (setns(net->ns, CLONE_NEWNET) < 0) {
        return lev_error_errno(err, "enter a network namespace");
    }
    write_sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    rc = write_sysctl("/proc/sys/net/ipv4/ip_forward", "1");
    if (rc < 0) {
        lev_error_errno(err, "net.ipv4.ip_forward of the session");
    }
    else {
        rc = nft(rules.data, err);
    }
    come_back(net->host_ns);
    return rc;
}

static int
set_up_uplink(struct lev_net *net, struct lev_error *err)
{
    const struct in_addr everywhere = {0};

    if (lev_netlink_veth(net->host_nl, net->uplink, UPLINK, net->ns, err) <
            0 ||
        lev_netlink_address(net->host_nl, net->uplink, net->host,
                            UPLINK_PREFIX, err) < 0 ||
        lev_netlink_up(net->host_nl, net->uplink, err) < 0 ||
        lev_netlink_address(net->nl, UPLINK, net->inside, UPLINK_PREFIX, err) <
            0 ||
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
            net->inside.s_addr = htonl(base + 2);
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

/* `add` or not: out of the uplink everything, into it answers only. */
static int
forward_rules(struct lev_net *net, const char *add, struct lev_error *err)
{
    char comment[32];
    const char *const out[] = {"iptables",  "-w",        add,  net->chain,
                               "-i",        net->uplink, "-m", "comment",
                               "--comment", comment,     "-j", "ACCEPT",
                               NULL};
    const char *const in[] = {"iptables",  "-w",
                              add,         net->chain,
                              "-o",        net->uplink,
                              "-m",        "conntrack",
                              "--ctstate", "RELATED,ESTABLISHED",
                              "-m",        "comment",
                              "--comment", comment,
                              "-j",        "ACCEPT",
                              NULL};

    snprintf(comment, sizeof(comment), "levrt-%s", net->tag);
    return run(out, NULL, NULL, err) < 0 || run(in, NULL, NULL, err) < 0 ? -1
                                                                         : 0;
}

/* Docker, ufw and firewalld let nothing through that they do not know. An
 * accept in a table of ours would not help: each table has its say. */
static int
open_forward(struct lev_net *net, struct lev_error *err)
{
    static const char *const list[] = {"iptables", "-w", "-S", "FORWARD",
                                       NULL};
    _cleanup_buf_ struct lev_buf rules = {0};
    struct lev_error none;

    if (run(list, NULL, &rules, &none) < 0 ||
        strstr(lev_buf_text(&rules), "-P FORWARD DROP") == NULL)
    {
        return 0; /* without iptables there is no such policy of it */
    }
    snprintf(net->chain, sizeof(net->chain), "%s",
             strstr(lev_buf_text(&rules), "-j DOCKER-USER") != NULL
                 ? "DOCKER-USER"
                 : "FORWARD");
    net->forwards = true;
    if (forward_rules(net, "-I", err) < 0) {
        return lev_error_wrap(err,
                              "this host's FORWARD policy drops, and a rule "
                              "for %s is refused",
                              net->uplink);
    }
    return 0;
}

static int
set_up_host(struct lev_net *net, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};
    char inside[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &net->inside, inside, sizeof(inside));
    lev_buf_printf(&rules,
                   "table ip levrt-%s {\n"
                   " chain nat {\n"
                   "  type nat hook postrouting priority 100;\n"
                   "  ip saddr %s oifname != \"%s\" masquerade\n"
                   " }\n"
                   "}\n",
                   net->tag, inside, net->uplink);
    if (lev_buf_check(&rules, "rules", err) < 0 || enable_forwarding(err) < 0)
    {
        return -1;
    }
    return nft(rules.data, err) < 0 ? -1 : open_forward(net, err);
}

static void
delete_table(const char *tag)
{
    struct lev_error err;
    char table[32];
    const char *const argv[] = {"nft", "delete", "table", "ip", table, NULL};

    snprintf(table, sizeof(table), "levrt-%.8s", tag);
    run(argv, NULL, NULL, &err); /* not there: fine */
}

void
lev_net_close(struct lev_net *net)
{
    struct lev_error err;

    if (net == NULL) {
        return;
    }
    if (net->forwards) {
        forward_rules(net, "-D", &err);
    }
    if (net->host.s_addr != 0) {
        delete_table(net->tag);
        /* At once: with the namespace it would go a little later. */
        lev_netlink_delete(net->host_nl, net->uplink, &err);
    }
    lev_closep(&net->nl);
    lev_closep(&net->host_nl);
    lev_closep(&net->ns);
    lev_closep(&net->host_ns);
    free(net);
}

void
lev_net_sweep(const char *tag)
{
    static const char *const chains[] = {"DOCKER-USER", "FORWARD"};
    struct lev_net net = {.forwards = true};
    _cleanup_close_ int nl = -1;
    struct lev_error err;

    snprintf(net.tag, sizeof(net.tag), "%s", tag);
    snprintf(net.uplink, sizeof(net.uplink), "lv%s", net.tag);
    delete_table(net.tag);
    for (size_t i = 0; i < LEV_ARRAY_LEN(chains); i++) {
        snprintf(net.chain, sizeof(net.chain), "%s", chains[i]);
        forward_rules(&net, "-D", &err);
    }
    /* The kernel takes it with its namespace, but when it likes. */
    nl = lev_netlink_open(&err);
    if (nl >= 0) {
        lev_netlink_delete(nl, net.uplink, &err); /* gone already: fine */
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
    snprintf(net->tag, sizeof(net->tag), "%s", tag);
    snprintf(net->uplink, sizeof(net->uplink), "lv%s", net->tag);
    net->host_ns = current_ns(err);
    net->host_nl = net->host_ns < 0 ? -1 : lev_netlink_open(err);
    net->ns = net->host_nl < 0 ? -1 : lev_netns_create(err);
    net->nl = net->ns < 0 ? -1 : netlink_in(net->ns, net->host_ns, err);
    if (net->nl < 0 || lev_scope_check(scope, err) < 0 ||
        pick_uplink(net, err) < 0 || set_up_uplink(net, err) < 0 ||
        set_up_inside(net, err) < 0 || set_up_host(net, err) < 0)
    {
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

int
lev_net_bridge_add(struct lev_net *net, const char *name,
                   struct in_addr gateway, unsigned prefix,
                   struct lev_error *err)
{
    struct lev_error late;

    if (lev_netlink_bridge(net->nl, name, err) < 0) {
        return -1;
    }
    if (lev_netlink_address(net->nl, name, gateway, prefix, err) < 0 ||
        lev_netlink_up(net->nl, name, err) < 0 ||
        lev_netlink_route(net->host_nl, network_of(gateway, prefix), prefix,
                          net->inside, err) < 0)
    {
        if (err->detail == EEXIST) {
            err->code = LEV_E_CONFLICT; /* the host has that route */
        }
        lev_netlink_delete(net->nl, name, &late);
        return -1;
    }
    return 0;
}

int
lev_net_bridge_remove(struct lev_net *net, const char *name,
                      struct in_addr gateway, unsigned prefix,
                      struct lev_error *err)
{
    lev_netlink_unroute(net->host_nl, network_of(gateway, prefix), prefix,
                        net->inside, err);
    if (lev_netlink_delete(net->nl, name, err) < 0 && err->detail != ENODEV) {
        return -1;
    }
    return 0;
}

static int
set_up_endpoint(int nl, const struct lev_net_endpoint *end,
                struct lev_error *err)
{
    const struct in_addr everywhere = {0};

    if (lev_netlink_address(nl, end->interface, end->address, end->prefix,
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
             const struct lev_net_endpoint *end, struct lev_error *err)
{
    _cleanup_close_ int nl = -1;
    struct lev_error late;
    char veth[16];

    snprintf(veth, sizeof(veth), "v%u", net->next_veth++);
    if (lev_netlink_veth(net->nl, veth, end->interface, ns_fd, err) < 0) {
        return -1;
    }
    nl = netlink_in(ns_fd, net->host_ns, err);
    if (nl < 0 || lev_netlink_enslave(net->nl, veth, end->bridge, err) < 0 ||
        set_up_endpoint(nl, end, err) < 0)
    {
        lev_netlink_delete(net->nl, veth, &late);
        return lev_error_wrap(err, "join %s", end->bridge);
    }
    return 0;
}

struct in_addr
lev_net_host(const struct lev_net *net)
{
    return net->host;
}
