/* Containers without a daemon: published ports, and what nobody reaches. In a
 * network namespace of the test's own, with a neighbour beside it:
 *
 *   [ neighbour 192.0.2.2 ] ── [ this machine 192.0.2.1 ] ── containers
 */
#include "oci_fixture.h"

#include "netlink.h"
#include "network.h"
#include "tree.h"

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define HERE "192.0.2.1"
#define NEIGHBOUR "192.0.2.2"
#define CROWD 1030 /* more than a bridge takes */

static struct oci_fixture f;
static int here, neighbour; /* namespaces */

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static int
own_ns(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

    assert(fd >= 0);
    return fd;
}

static void
enter(int ns)
{
    assert(setns(ns, CLONE_NEWNET) == 0);
}

static struct in_addr
address_of(const char *text)
{
    struct in_addr in;

    assert(inet_pton(AF_INET, text, &in) == 1);
    return in;
}

static void
build_world(void)
{
    struct lev_error err;
    int nl, far;

    assert(unshare(CLONE_NEWNET) == 0);
    neighbour = own_ns();
    far = lev_netlink_open(&err);
    assert(unshare(CLONE_NEWNET) == 0);
    here = own_ns();
    nl = lev_netlink_open(&err);
    must(lev_netlink_up(nl, "lo", &err), &err);
    must(lev_netlink_veth(nl, "lan0", "lan0", neighbour, &err), &err);
    must(lev_netlink_up(nl, "lan0", &err), &err);
    must(lev_netlink_up(far, "lan0", &err), &err);
    must(lev_netlink_address(nl, "lan0", address_of(HERE), 24, &err), &err);
    must(lev_netlink_address(far, "lan0", address_of(NEIGHBOUR), 24, &err),
         &err);
    close(nl);
    close(far);
}

/* ---- sockets in namespaces ---- */

static struct sockaddr_in
place(const char *ip, uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = address_of(ip)};
}

/* -1 with errno where the port is taken. */
static int
serve(int ns, int type, const char *ip, uint16_t port)
{
    const struct sockaddr_in at = place(ip, port);
    const struct timeval patience = {.tv_sec = 10};
    int fd, rc;

    enter(ns);
    fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    enter(here);
    assert(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    rc = bind(fd, (const void *)&at, sizeof(at));
    if (rc == 0 && type == SOCK_STREAM) {
        rc = listen(fd, 8);
    }
    if (rc < 0) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* -1 with errno where nobody takes the connection. */
static int
dial(int ns, int type, const char *ip, uint16_t port)
{
    const struct sockaddr_in to = place(ip, port);
    const struct timeval patience = {.tv_sec = 10};
    int fd;

    enter(ns);
    fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    enter(here);
    assert(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const void *)&to, sizeof(to)) < 0) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* What the server of a container hears and says; `from` is who it sees. */
static void
talk_tcp(int server, int ns, const char *ip, uint16_t port,
         char from[INET_ADDRSTRLEN])
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    int client = dial(ns, SOCK_STREAM, ip, port), there;
    char text[8] = "";

    if (client < 0) {
        fprintf(stderr, "%s:%u: %s\n", ip, port, strerror(errno));
        abort();
    }
    there = accept(server, (void *)&peer, &size);
    assert(there >= 0);
    inet_ntop(AF_INET, &peer.sin_addr, from, INET_ADDRSTRLEN);
    assert(send(client, "ping", 4, 0) == 4);
    assert(recv(there, text, 4, MSG_WAITALL) == 4);
    assert(strcmp(text, "ping") == 0 && send(there, "pong", 4, 0) == 4);
    assert(recv(client, text, 4, MSG_WAITALL) == 4);
    assert(strcmp(text, "pong") == 0);
    close(there);
    close(client);
}

static void
talk_udp(int server, int ns, const char *ip, uint16_t port,
         char from[INET_ADDRSTRLEN])
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    int client = dial(ns, SOCK_DGRAM, ip, port);
    char text[8] = "";

    assert(client >= 0 && send(client, "ping", 4, 0) == 4);
    assert(recvfrom(server, text, 4, 0, (void *)&peer, &size) == 4);
    inet_ntop(AF_INET, &peer.sin_addr, from, INET_ADDRSTRLEN);
    assert(sendto(server, "pong", 4, 0, (void *)&peer, size) == 4);
    assert(recv(client, text, 4, 0) == 4 && strcmp(text, "pong") == 0);
    close(client);
}

/* ---- containers ---- */

struct box {
    char *id;
    int ns;
    struct lev_process *p;
    struct oci_result r;
};

static void
ignore(struct lev_output *out, int stream, const char *data, size_t len)
{
}

/* A container that waits; its sockets are the test's, in its namespace. */
static void
box_open(struct box *b, const char *options,
         void (*change)(struct lev_container_spec *spec))
{
    struct lev_scope scope = oci_soon();
    struct lev_container_state state;
    struct lev_error err;
    char path[64];

    *b = (struct box){.r.out.data = ignore};
    b->id = oci_make(&f, OCI_SH("exec sleep 1000"), options, change);
    b->p = f.e->ops->attach(f.e, &scope, b->id, &b->r.out, &err);
    must(b->p == NULL ? -1 : f.e->ops->start(b->p, &scope, &err), &err);
    must(f.e->ops->inspect(f.e, &scope, b->id, &state, &err), &err);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)state.pid);
    b->ns = open(path, O_RDONLY | O_CLOEXEC);
    assert(b->ns >= 0);
}

static void
box_close(struct box *b)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;

    close(b->ns);
    f.e->ops->detach(b->p);
    must(f.e->ops->remove(f.e, &scope, b->id, &err), &err);
    free(b->id);
}

/* The host's port of the i-th thing that it publishes. */
static uint16_t
published(const struct box *b, size_t i, const char *key)
{
    struct lev_error err;
    struct lev_oci_container *c = lev_oci_find(lev_oci_of(f.e), b->id, &err);
    const json_t *port;
    uint16_t number;

    assert(c != NULL);
    port = json_array_get(c->ports, i);
    assert(strcmp(lev_json_str(port, "key"), key) == 0);
    number = (uint16_t)atoi(lev_json_str(port, "HostPort"));
    lev_oci_container_unref(c);
    assert(number > 0);
    return number;
}

static int
fail(const char *options, struct lev_error *err)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_scope scope = oci_soon();
    bson_error_t why;
    bson_t *parsed = bson_new_from_json((const uint8_t *)options, -1, &why);
    struct lev_container_spec spec = {.name = "refused",
                                      .image = "levrt-test/busybox:1",
                                      .cmd = cmd,
                                      .options = parsed};
    char *id;
    int rc;

    assert(parsed != NULL);
    rc = f.e->ops->create(f.e, &scope, &spec, &id, err);
    bson_destroy(parsed);
    return rc;
}

/* ---- tests ---- */

static void
test_published(void)
{
    char from[INET_ADDRSTRLEN];
    struct box b;
    uint16_t any, one, udp;
    int web, local, dns;

    box_open(&b,
             "{\"port_bindings\": {\"80\": null, \"81/tcp\": "
             "[\"127.0.0.1\", 0], \"53/udp\": [[\"0.0.0.0\"]]}}",
             NULL);
    any = published(&b, 0, "80/tcp");
    one = published(&b, 1, "81/tcp");
    udp = published(&b, 2, "53/udp");
    web = serve(b.ns, SOCK_STREAM, "0.0.0.0", 80);
    local = serve(b.ns, SOCK_STREAM, "0.0.0.0", 81);
    dns = serve(b.ns, SOCK_DGRAM, "0.0.0.0", 53);
    assert(web >= 0 && local >= 0 && dns >= 0);

    talk_tcp(web, here, "127.0.0.1", any, from);
    talk_tcp(web, here, HERE, any, from);
    talk_tcp(web, neighbour, HERE, any, from);
    assert(strcmp(from, NEIGHBOUR) == 0); /* who calls is seen */
    talk_tcp(web, b.ns, HERE, any, from); /* by itself, by way of the host */
    talk_udp(dns, here, "127.0.0.1", udp, from);
    talk_udp(dns, neighbour, HERE, udp, from);
    assert(strcmp(from, NEIGHBOUR) == 0);

    talk_tcp(local, here, "127.0.0.1", one, from);
    assert(dial(neighbour, SOCK_STREAM, HERE, one) < 0);
    assert(errno == ECONNREFUSED);
    /* Nothing else of the machine leads there. */
    assert(dial(here, SOCK_STREAM, "127.0.0.1", 80) < 0);
    close(web);
    close(local);
    close(dns);
    box_close(&b);
    assert(dial(here, SOCK_STREAM, "127.0.0.1", any) < 0);
    assert(errno == ECONNREFUSED);
}

static void
test_conflicts(void)
{
    struct lev_error err;
    struct box b, c;
    int ours = serve(here, SOCK_STREAM, "127.0.0.1", 7100), fd;

    assert(ours >= 0);
    assert(fail("{\"port_bindings\": {\"80\": 7100}}", &err) < 0);
    assert(err.code == LEV_E_CONFLICT && strstr(err.msg, "7100/tcp") != NULL);
    /* The next one of a range that is free. */
    box_open(&b, "{\"port_bindings\": {\"80\": \"7100-7103\"}}", NULL);
    assert(published(&b, 0, "80/tcp") == 7101);
    box_open(&c, "{\"port_bindings\": {\"80\": \"7100-7103\"}}", NULL);
    assert(published(&c, 0, "80/tcp") == 7102);
    assert(fail("{\"port_bindings\": {\"80\": 7102}}", &err) < 0);
    assert(err.code == LEV_E_CONFLICT);
    assert(fail("{\"port_bindings\": {\"80\": \"7100-7102\"}}", &err) < 0);
    assert(err.code == LEV_E_CONFLICT);
    /* Nobody takes what a container has. */
    assert(serve(here, SOCK_STREAM, "0.0.0.0", 7101) < 0);
    assert(errno == EADDRINUSE);
    box_close(&b);
    box_close(&c);
    fd = serve(here, SOCK_STREAM, "0.0.0.0", 7101);
    assert(fd >= 0);
    close(fd);
    close(ours);

    assert(fail("{\"port_bindings\": {\"80\": [\"192.0.2.99\", 1]}}", &err) <
           0);
    assert(err.code == LEV_E_INVALID && strstr(err.msg, "192.0.2.99") != NULL);
    assert(fail("{\"port_bindings\": {\"80\": [\"::1\", 1]}}", &err) < 0);
    assert(err.code == LEV_E_UNSUPPORTED_OPTION);
    assert(fail("{\"port_bindings\": {\"80/sctp\": 1}}", &err) < 0);
    assert(err.code == LEV_E_UNSUPPORTED_OPTION);
}

static void
test_exposed(void)
{
    struct box b;
    char from[INET_ADDRSTRLEN];
    int web;

    box_open(&b,
             "{\"publish_all_ports\": true, \"ports\": [80, [81, "
             "\"udp\"]]}",
             NULL);
    web = serve(b.ns, SOCK_STREAM, "0.0.0.0", 80);
    talk_tcp(web, here, "127.0.0.1", published(&b, 0, "80/tcp"), from);
    published(&b, 1, "81/udp");
    close(web);
    box_close(&b);
}

/* The namespace of the session's bridges: among the helper's descriptors. */
static int
session_ns(void)
{
    char dir[64], path[400], link[64], own[64];
    struct dirent *entry;
    DIR *list;
    int fd = -1;
    ssize_t n;

    n = readlink("/proc/self/ns/net", own, sizeof(own) - 1);
    assert(n > 0);
    own[n] = '\0';
    snprintf(dir, sizeof(dir), "/proc/%d/fd",
             (int)lev_helper_pid(lev_oci_of(f.e)->helper));
    list = opendir(dir);
    assert(list != NULL);
    while ((entry = readdir(list)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        n = readlink(path, link, sizeof(link) - 1);
        if (n <= 0 || strncmp(link, "net:", 4) != 0) {
            continue;
        }
        link[n] = '\0';
        if (strcmp(link, own) != 0) {
            int ns = open(path, O_RDONLY | O_CLOEXEC);

            assert(ns >= 0);
            enter(ns);
            if (if_nametoindex("up0") > 0) {
                fd = ns;
            }
            else {
                close(ns);
            }
            enter(here);
        }
    }
    closedir(list);
    assert(fd >= 0);
    return fd;
}

/* A datagram of `from`'s to 127.0.0.1 put on the wire as no IP stack would: by
 * whoever got into the session's namespace. */
static void
forge(int ns, const char *from, uint16_t port, const char *text)
{
    struct {
        struct ethhdr eth;
        uint8_t ip[20];
        uint16_t udp[4];
        char text[4];
    } __attribute__((packed)) frame = {.eth.h_proto = htons(ETH_P_IP)};
    uint8_t ip[20] = {0x45, 0, 0, 32, 0, 0, 0,   0, 64, 17,
                      0,    0, 0, 0,  0, 0, 127, 0, 0,  1};
    const struct in_addr source = address_of(from);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
    uint32_t sum = 0;
    int fd;

    memset(frame.eth.h_dest, 0xff, 6);
    memcpy(ip + 12, &source, 4);
    memcpy(frame.ip, ip, sizeof(ip));
    for (int i = 0; i < 20; i += 2) {
        sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    frame.ip[10] = (uint8_t)(sum >> 8);
    frame.ip[11] = (uint8_t)sum;
    frame.udp[0] = htons(1);
    frame.udp[1] = htons(port);
    frame.udp[2] = htons(12);
    memcpy(frame.text, text, 4);
    enter(ns);
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP));
    to.sll_ifindex = (int)if_nametoindex("up0");
    enter(here);
    assert(fd >= 0 && to.sll_ifindex > 0);
    assert(sendto(fd, &frame, sizeof(frame), 0, (void *)&to, sizeof(to)) ==
           (ssize_t)sizeof(frame));
    close(fd);
}

/* Publishing on a loopback address opens none of the host's own. `unlock`
 * takes the rule away that it is owed to. */
static void
test_loopback(const char *unlock)
{
    int service = serve(here, SOCK_DGRAM, "127.0.0.1", 7200), ns, own, web;
    char from[INET_ADDRSTRLEN], text[8] = "", command[100], address[64];
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    struct box b;

    box_open(&b, "{\"port_bindings\": {\"80\": [\"127.0.0.1\", 7201]}}", NULL);
    must(f.e->ops->address(f.e, &scope, b.id, NULL, address, &err), &err);
    web = serve(b.ns, SOCK_STREAM, "0.0.0.0", 80);
    talk_tcp(web, here, "127.0.0.1", 7201, from);
    ns = session_ns();
    own = dial(here, SOCK_DGRAM, "127.0.0.1", 7200);
    forge(ns, address, 7200, "evil");
    assert(send(own, "good", 4, 0) == 4);
    assert(recv(service, text, 4, 0) == 4 && strcmp(text, "good") == 0);
    snprintf(command, sizeof(command), "%s levrt-%s", unlock,
             lev_oci_of(f.e)->tag);
    if (strncmp(unlock, "nft", 3) == 0) {
        strncat(command, " raw", sizeof(command) - strlen(command) - 1);
    }
    assert(system(command) == 0);
    forge(ns, address, 7200, "evil");
    assert(recv(service, text, 4, 0) == 4 && strcmp(text, "evil") == 0);
    close(own);
    close(ns);
    close(service);
    close(web);
    box_close(&b);
}

static void
one_network(struct lev_container_spec *spec)
{
    static const struct lev_network_join joins[] = {{"net-a", NULL}};

    spec->networks = joins;
    spec->networks_n = 1;
}

/* Whom nothing is published for, nobody but the host reaches. */
static void
test_closed(void)
{
    struct lev_scope scope = oci_soon();
    struct lev_error err;
    char address[64], from[INET_ADDRSTRLEN], *id;
    struct box b;
    int web, far, nl;

    must(f.e->ops->network_create(f.e, &scope, "net-a", "10.77.0.0/24", NULL,
                                  &id, &err),
         &err);
    box_open(&b, NULL, one_network);
    must(f.e->ops->address(f.e, &scope, b.id, "net-a", address, &err), &err);
    web = serve(b.ns, SOCK_STREAM, "0.0.0.0", 80);
    talk_tcp(web, here, address, 80, from);
    /* The neighbour knows the way, but it is closed. */
    enter(neighbour);
    nl = lev_netlink_open(&err);
    enter(here);
    must(lev_netlink_route(nl, address_of("10.77.0.0"), 24, address_of(HERE),
                           &err),
         &err);
    far = dial(neighbour, SOCK_DGRAM, address, 80);
    assert(far >= 0 && send(far, "x", 1, 0) == 1);
    close(far);
    far = serve(b.ns, SOCK_DGRAM, "0.0.0.0", 80);
    {
        int blocked = dial(neighbour, SOCK_DGRAM, address, 80);
        int own = dial(here, SOCK_DGRAM, address, 80);
        char text[8] = "";

        assert(send(blocked, "evil", 4, 0) == 4);
        assert(send(own, "good", 4, 0) == 4);
        assert(recv(far, text, 4, 0) == 4 && strcmp(text, "good") == 0);
        close(blocked);
        close(own);
    }
    close(far);
    must(lev_netlink_unroute(nl, address_of("10.77.0.0"), 24, address_of(HERE),
                             &err),
         &err);
    close(nl);
    close(web);
    box_close(&b);
    must(f.e->ops->network_remove(f.e, &scope, id, &err), &err);
    free(id);
}

/* More containers than one bridge takes: still one network. */
static void
test_crowd(void)
{
    static int spaces[CROWD];
    struct lev_scope scope = oci_soon();
    const struct in_addr gateway = address_of("10.78.0.1");
    struct rlimit files;
    struct lev_error err;
    struct lev_net_place place;
    struct lev_net *net;
    char text[8] = "";
    int first, last;

    assert(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    assert(files.rlim_max > CROWD + 64 &&
           setrlimit(RLIMIT_NOFILE, &files) == 0);
    net = lev_net_open("crowd", &scope, &err);
    must(net == NULL ? -1 : 0, &err);
    must(lev_net_bridge_add(net, "lb0", gateway, 20, &err), &err);
    for (uint32_t i = 0; i < CROWD; i++) {
        const struct lev_net_endpoint end = {
            .bridge = "lb0",
            .interface = "eth0",
            .address = {htonl(ntohl(gateway.s_addr) + 1 + i)},
            .gateway = gateway,
            .prefix = 20,
            .is_default = true};

        spaces[i] = lev_netns_create(&err);
        must(spaces[i], &err);
        must(lev_net_join(net, spaces[i], &end, &place, &err), &err);
    }
    first = serve(spaces[0], SOCK_DGRAM, "0.0.0.0", 9);
    last = dial(spaces[CROWD - 1], SOCK_DGRAM, "10.78.0.2", 9);
    assert(first >= 0 && last >= 0 && send(last, "ping", 4, 0) == 4);
    assert(recv(first, text, 4, 0) == 4 && strcmp(text, "ping") == 0);
    close(first);
    close(last);
    /* Two bridges are no more in the way of the host. */
    first = serve(spaces[CROWD - 1], SOCK_DGRAM, "0.0.0.0", 9);
    last = dial(here, SOCK_DGRAM, "10.78.4.7", 9);
    assert(last >= 0 && send(last, "pong", 4, 0) == 4);
    assert(recv(first, text, 4, 0) == 4 && strcmp(text, "pong") == 0);
    close(first);
    close(last);
    for (size_t i = 0; i < CROWD; i++) {
        close(spaces[i]);
    }
    lev_net_bridge_remove(net, "lb0", gateway, 20);
    lev_net_close(net);
}

/* ---- all of it, by the two kinds of rules ---- */

static int
rules_left(void)
{
    return system("PATH=/usr/sbin:/usr/bin:/sbin:/bin; { nft list ruleset; "
                  "iptables-save; } 2>/dev/null | "
                  "grep -q 'levrt-\\|lv[0-9a-f]'") == 0;
}

/* A helper that is killed leaves rules, an interface and containers; the next
 * session takes them away, and the port is free. */
static void
test_lost(void)
{
    const struct lev_engine_config config = {.bin_dir =
                                                 getenv("LEVRT_TEST_BIN")};
    struct lev_scope scope = oci_soon();
    struct lev_container_state state;
    struct lev_error err;
    struct box b;
    char url[100];
    int held;

    oci_fixture_open(&f);
    box_open(&b, "{\"port_bindings\": {\"80\": 7300}}", NULL);
    assert(kill(lev_helper_pid(lev_oci_of(f.e)->helper), SIGKILL) == 0);
    while (f.e->ops->inspect(f.e, &scope, b.id, &state, &err) == 0) {
        ;
    }
    assert(err.code == LEV_E_ENGINE_UNAVAILABLE);
    assert(rules_left());
    close(b.ns);
    f.e->ops->detach(b.p);
    free(b.id);
    lev_engine_unref(f.e);
    snprintf(url, sizeof(url), "oci:%s", f.dir);
    f.e = lev_oci_open(url, &config, &scope, &err);
    must(f.e == NULL ? -1 : 0, &err);
    assert(!rules_left());
    enter(here);
    assert(if_nametoindex("lan0") > 0);
    held = serve(here, SOCK_STREAM, "0.0.0.0", 7300);
    assert(held >= 0);
    close(held);
    oci_fixture_close(&f);
}

static void
everything(void)
{
    oci_fixture_open(&f);
    test_published();
    test_conflicts();
    test_exposed();
    test_loopback("nft flush chain ip");
    test_closed();
    oci_fixture_close(&f);
    assert(!rules_left());
    test_lost();
}

/* A PATH with these programs alone. */
static void
only(const char *dir, const char *const *programs)
{
    static const char *const places[] = {"/usr/sbin", "/usr/bin", "/sbin",
                                         "/bin"};

    for (; *programs != NULL; programs++) {
        char from[300], to[300];

        snprintf(to, sizeof(to), "%s/%s", dir, *programs);
        for (size_t i = 0; i < LEV_ARRAY_LEN(places); i++) {
            snprintf(from, sizeof(from), "%s/%s", places[i], *programs);
            if (access(from, X_OK) == 0) {
                assert(symlink(from, to) == 0);
                break;
            }
        }
    }
}

static void
test_iptables(void)
{
    static const char *const programs[] = {
        "iptables", "iptables-restore", "crun", "runc", "env", NULL};
    char dir[] = "/tmp/levrt-path-XXXXXX";
    _cleanup_free_ char *path = strdup(getenv("PATH"));
    struct lev_error err;

    assert(path != NULL && mkdtemp(dir) != NULL);
    only(dir, programs);
    assert(setenv("PATH", dir, 1) == 0);
    oci_fixture_open(&f);
    test_published();
    test_conflicts();
    test_loopback("iptables -t raw -F");
    test_closed();
    oci_fixture_close(&f);
    test_lost();
    assert(setenv("PATH", path, 1) == 0);
    assert(!rules_left());
    must(lev_tree_remove(-1, dir, &err), &err);
}

/* Others that drop what they do not know: named, with what to do. */
static void
test_guard(void)
{
    struct lev_error err;
    char *command;

    assert(system("nft 'add table inet guard; add chain inet guard forwarding "
                  "{ type "
                  "filter hook forward priority 5; policy drop; }'") == 0);
    oci_fixture_open(&f);
    assert(fail("{\"port_bindings\": {\"80\": 7400}}", &err) < 0);
    assert(err.code == LEV_E_ENGINE_UNAVAILABLE);
    assert(strstr(err.msg, "chain forwarding of nftables' table inet guard") !=
           NULL);
    assert(!rules_left());
    /* What it says to do is enough, but for what comes in by itself. */
    command = strstr(err.msg, "(nft");
    assert(command != NULL);
    *strchr(command, ')') = '\0';
    assert(system(command + 1) == 0);
    assert(
        system(
            "nft insert rule inet guard forwarding ct status dnat accept") ==
        0);
    test_published();
    oci_fixture_close(&f);
    assert(system("nft delete table inet guard") == 0);
    assert(!rules_left());
}

/* A firewalld that does what it is told. */
static const char firewall_cmd[] =
    "#!/bin/sh\n"
    "[ \"$1 $2\" = '-q --zone=trusted' ] || exit 2\n"
    "case $3 in\n"
    "--add-interface)\n"
    "    nft insert rule inet firewalld filter_FORWARD iifname \"$4\" accept\n"
    "    nft insert rule inet firewalld filter_FORWARD ct status dnat accept\n"
    "    nft insert rule inet firewalld filter_FORWARD ct state established "
    "accept;;\n"
    "--remove-interface) nft flush chain inet firewalld filter_FORWARD;;\n"
    "esac\n";

static void
test_firewalld(void)
{
    char dir[] = "/tmp/levrt-path-XXXXXX", path[300];
    _cleanup_free_ char *before = strdup(getenv("PATH"));
    struct lev_error err;
    FILE *program;

    assert(before != NULL && mkdtemp(dir) != NULL);
    assert(system("nft 'add table inet firewalld; add chain inet firewalld "
                  "filter_FORWARD { type filter hook forward priority 10; }; "
                  "add rule inet firewalld filter_FORWARD reject'") == 0);
    oci_fixture_open(&f);
    assert(fail("{\"port_bindings\": {\"80\": 7400}}", &err) < 0);
    assert(err.code == LEV_E_OS || err.code == LEV_E_ENGINE_UNAVAILABLE);
    assert(strstr(err.msg, "firewalld") != NULL);
    oci_fixture_close(&f);

    snprintf(path, sizeof(path), "%s/firewall-cmd", dir);
    program = fopen(path, "we");
    assert(program != NULL && fputs(firewall_cmd, program) > 0);
    assert(fclose(program) == 0 && chmod(path, 0755) == 0);
    snprintf(path, sizeof(path), "%s:%s", dir, before);
    assert(setenv("PATH", path, 1) == 0);
    oci_fixture_open(&f);
    test_published();
    oci_fixture_close(&f);
    assert(!rules_left());
    assert(setenv("PATH", before, 1) == 0);
    assert(system("nft delete table inet firewalld") == 0);
    must(lev_tree_remove(-1, dir, &err), &err);
}

int
main(void)
{
    /* Skips where it cannot run. */
    oci_fixture_open(&f);
    oci_fixture_close(&f);
    build_world();
    test_crowd();
    test_guard();
    test_firewalld();
    everything();
    /* As Docker, ufw and firewalld have it. */
    assert(system("iptables -P FORWARD DROP") == 0);
    everything();
    test_iptables();
    assert(system("iptables -P FORWARD ACCEPT") == 0);
    test_iptables();
    puts("ok");
    return 0;
}
