#include "netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct request {
    struct nlmsghdr head;
    char body[1024]; /* far more than any message here takes */
};

int
lev_netlink_open(struct lev_error *err)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    return fd < 0 ? lev_error_errno(err, "netlink socket") : fd;
}

static void
begin(struct request *r, uint16_t type, uint16_t flags, const void *family,
      size_t len)
{
    memset(r, 0, sizeof(*r));
    r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
    r->head.nlmsg_type = type;
    r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    r->head.nlmsg_seq = 1;
    memcpy(NLMSG_DATA(&r->head), family, len);
}

static struct rtattr *
put(struct request *r, uint16_t type, const void *data, size_t len)
{
    struct rtattr *a = (void *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(len);
    if (len > 0) {
        memcpy(RTA_DATA(a), data, len);
    }
    r->head.nlmsg_len =
        (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
    return a;
}

static void
put_text(struct request *r, uint16_t type, const char *text)
{
    put(r, type, text, strlen(text) + 1);
}

/* The end of an attribute that others were put into. */
static void
nest_end(const struct request *r, struct rtattr *a)
{
    a->rta_len = (uint16_t)((const char *)&r->head + r->head.nlmsg_len -
                            (const char *)a);
}

/* The kernel has answered when the send returns. */
static int
talk(int nl, const struct request *r, struct lev_error *err)
{
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[1024];
    } answer;
    ssize_t n;

    if (send(nl, r, r->head.nlmsg_len, 0) < 0) {
        return lev_error_errno(err, "netlink");
    }
    do {
        n = recv(nl, &answer, sizeof(answer), 0);
    } while (n < 0 && errno == EINTR);
    if (n < (ssize_t)NLMSG_LENGTH(sizeof(answer.error.error)) ||
        answer.head.nlmsg_type != NLMSG_ERROR)
    {
        return lev_error_set(err, LEV_E_OS, n < 0 ? errno : EPROTO,
                             "netlink: no answer");
    }
    if (answer.error.error != 0) {
        errno = -answer.error.error;
        return lev_error_errno(err, "netlink");
    }
    return 0;
}

/* By the socket itself: the caller may be in another namespace. */
static int
index_of(int nl, const char *name, struct lev_error *err)
{
    struct ifreq ifr = {0};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    if (ioctl(nl, SIOCGIFINDEX, &ifr) < 0) {
        return lev_error_errno(err, "interface %s", name);
    }
    return ifr.ifr_ifindex;
}

int
lev_netlink_bridge(int nl, const char *name, struct lev_error *err)
{
    const struct ifinfomsg link = {
        .ifi_family = AF_UNSPEC, .ifi_change = IFF_UP, .ifi_flags = IFF_UP};
    struct request r;
    struct rtattr *info;

    begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
    put_text(&r, IFLA_IFNAME, name);
    info = put(&r, IFLA_LINKINFO, NULL, 0);
    put_text(&r, IFLA_INFO_KIND, "bridge");
    nest_end(&r, info);
    return talk(nl, &r, err) < 0 ? lev_error_wrap(err, "make bridge %s", name)
                                 : 0;
}

int
lev_netlink_veth(int nl, const char *name, const char *peer, int ns_fd,
                 struct lev_error *err)
{
    const struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
    struct rtattr *info, *data, *other;
    struct request r;

    begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
    put_text(&r, IFLA_IFNAME, name);
    info = put(&r, IFLA_LINKINFO, NULL, 0);
    put_text(&r, IFLA_INFO_KIND, "veth");
    data = put(&r, IFLA_INFO_DATA, NULL, 0);
    other = put(&r, VETH_INFO_PEER, &link, sizeof(link));
    put_text(&r, IFLA_IFNAME, peer);
    put(&r, IFLA_NET_NS_FD, &ns_fd, sizeof(ns_fd));
    nest_end(&r, other);
    nest_end(&r, data);
    nest_end(&r, info);
    return talk(nl, &r, err) < 0 ? lev_error_wrap(err, "make veth %s", name)
                                 : 0;
}

static int
change_link(int nl, uint16_t type, const char *name, unsigned flags,
            int master, const char *what, struct lev_error *err)
{
    struct ifinfomsg link = {
        .ifi_family = AF_UNSPEC, .ifi_flags = flags, .ifi_change = flags};
    struct request r;

    link.ifi_index = index_of(nl, name, err);
    if (link.ifi_index < 0) {
        return -1;
    }
    begin(&r, type, 0, &link, sizeof(link));
    if (master > 0) {
        put(&r, IFLA_MASTER, &master, sizeof(master));
    }
    return talk(nl, &r, err) < 0 ? lev_error_wrap(err, "%s %s", what, name)
                                 : 0;
}

int
lev_netlink_delete(int nl, const char *name, struct lev_error *err)
{
    return change_link(nl, RTM_DELLINK, name, 0, 0, "remove interface", err);
}

int
lev_netlink_enslave(int nl, const char *name, const char *bridge,
                    struct lev_error *err)
{
    int master = index_of(nl, bridge, err);

    if (master < 0) {
        return -1;
    }
    return change_link(nl, RTM_NEWLINK, name, IFF_UP, master,
                       "put into the bridge:", err);
}

int
lev_netlink_up(int nl, const char *name, struct lev_error *err)
{
    return change_link(nl, RTM_NEWLINK, name, IFF_UP, 0, "set up", err);
}

int
lev_netlink_mac(int nl, const char *name, const char *mac,
                struct lev_error *err)
{
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
    unsigned char raw[6];
    struct request r;

    if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &raw[0], &raw[1], &raw[2],
               &raw[3], &raw[4], &raw[5]) != 6)
    {
        return lev_error_set(err, LEV_E_INVALID, 0, "no MAC address: %.40s",
                             mac);
    }
    link.ifi_index = index_of(nl, name, err);
    if (link.ifi_index < 0) {
        return -1;
    }
    begin(&r, RTM_NEWLINK, 0, &link, sizeof(link));
    put(&r, IFLA_ADDRESS, raw, sizeof(raw));
    return talk(nl, &r, err) < 0
               ? lev_error_wrap(err, "MAC address of %s", name)
               : 0;
}

int
lev_netlink_address(int nl, const char *name, struct in_addr address,
                    unsigned prefix, struct lev_error *err)
{
    struct ifaddrmsg to = {.ifa_family = AF_INET,
                           .ifa_prefixlen = (uint8_t)prefix,
                           .ifa_scope = RT_SCOPE_UNIVERSE};
    int index = index_of(nl, name, err);
    struct in_addr broadcast = address;
    struct request r;

    if (index < 0) {
        return -1;
    }
    to.ifa_index = (unsigned)index;
    broadcast.s_addr |= prefix == 0 ? ~0u : htonl(0xffffffffu >> prefix);
    begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &to, sizeof(to));
    put(&r, IFA_LOCAL, &address, sizeof(address));
    put(&r, IFA_ADDRESS, &address, sizeof(address));
    if (prefix < 31) {
        put(&r, IFA_BROADCAST, &broadcast, sizeof(broadcast));
    }
    return talk(nl, &r, err) < 0 ? lev_error_wrap(err, "address of %s", name)
                                 : 0;
}

static int
change_route(int nl, uint16_t type, uint16_t flags, struct in_addr to,
             unsigned prefix, struct in_addr gateway, struct lev_error *err)
{
    const struct rtmsg route = {.rtm_family = AF_INET,
                                .rtm_dst_len = (uint8_t)prefix,
                                .rtm_table = RT_TABLE_MAIN,
                                .rtm_protocol = RTPROT_STATIC,
                                .rtm_scope = RT_SCOPE_UNIVERSE,
                                .rtm_type = RTN_UNICAST};
    struct request r;

    begin(&r, type, flags, &route, sizeof(route));
    if (prefix > 0) {
        put(&r, RTA_DST, &to, sizeof(to));
    }
    put(&r, RTA_GATEWAY, &gateway, sizeof(gateway));
    return talk(nl, &r, err) < 0 ? lev_error_wrap(err, "change a route") : 0;
}

int
lev_netlink_route(int nl, struct in_addr to, unsigned prefix,
                  struct in_addr gateway, struct lev_error *err)
{
    return change_route(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, to,
                        prefix, gateway, err);
}

int
lev_netlink_unroute(int nl, struct in_addr to, unsigned prefix,
                    struct in_addr gateway, struct lev_error *err)
{
    return change_route(nl, RTM_DELROUTE, 0, to, prefix, gateway, err);
}
