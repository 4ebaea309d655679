#include "nftmap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "buf.h"

/* In a key or a value of several parts each begins at 4 bytes. */
#define PART 4

/* ---- messages, one behind the other ---- */

static size_t
begin(struct lev_buf *b, uint16_t type, uint16_t flags, uint8_t family,
      uint16_t resource, uint32_t seq)
{
    const struct nlmsghdr head = {.nlmsg_type = type,
                                  .nlmsg_flags =
                                      (uint16_t)(NLM_F_REQUEST | flags),
                                  .nlmsg_seq = seq};
    const struct nfgenmsg body = {.nfgen_family = family,
                                  .version = NFNETLINK_V0,
                                  .res_id = htons(resource)};
    size_t at = b->len;

    lev_buf_append(b, &head, sizeof(head));
    lev_buf_append(b, &body, sizeof(body));
    return at;
}

static void
end(struct lev_buf *b, size_t at)
{
    if (!b->failed) {
        ((struct nlmsghdr *)(void *)(b->data + at))->nlmsg_len =
            (uint32_t)(b->len - at);
    }
}

static void
put(struct lev_buf *b, uint16_t type, const void *data, size_t len)
{
    static const char zeros[NLA_ALIGNTO];
    const struct nlattr head = {(uint16_t)(NLA_HDRLEN + len), type};

    lev_buf_append(b, &head, sizeof(head));
    lev_buf_append(b, data, len);
    lev_buf_append(b, zeros, NLA_ALIGN(len) - len);
}

static size_t
nest(struct lev_buf *b, uint16_t type)
{
    const struct nlattr head = {NLA_HDRLEN, (uint16_t)(type | NLA_F_NESTED)};
    size_t at = b->len;

    lev_buf_append(b, &head, sizeof(head));
    return at;
}

static void
nest_end(struct lev_buf *b, size_t at)
{
    if (!b->failed) {
        ((struct nlattr *)(void *)(b->data + at))->nla_len =
            (uint16_t)(b->len - at);
    }
}

static void
put_value(struct lev_buf *b, uint16_t type, const void *data, size_t len)
{
    size_t at = nest(b, type);

    put(b, NFTA_DATA_VALUE, data, len);
    nest_end(b, at);
}

/* ---- one element ---- */

static size_t
pair(char out[2 * PART], struct in_addr address, uint16_t port)
{
    const uint16_t wire = htons(port);

    memset(out, 0, 2 * PART);
    memcpy(out, &address, sizeof(address));
    memcpy(out + PART, &wire, sizeof(wire));
    return 2 * PART;
}

static void
put_element(struct lev_buf *b, const struct lev_published *p, bool add)
{
    const uint16_t port = htons(p->host_port);
    size_t list = nest(b, NFTA_SET_ELEM_LIST_ELEMENTS);
    size_t element = nest(b, NFTA_LIST_ELEM);
    char both[2 * PART];

    if (p->ip.s_addr == INADDR_ANY) {
        put_value(b, NFTA_SET_ELEM_KEY, &port, sizeof(port));
    }
    else {
        put_value(b, NFTA_SET_ELEM_KEY, both, pair(both, p->ip, p->host_port));
    }
    if (add) {
        put_value(b, NFTA_SET_ELEM_DATA, both, pair(both, p->to, p->port));
    }
    nest_end(b, element);
    nest_end(b, list);
}

static void
put_message(struct lev_buf *b, const char *table,
            const struct lev_published *p, bool add, bool last, uint32_t seq)
{
    const uint16_t type =
        (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 |
                   (add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM));
    size_t at = begin(b, type,
                      (uint16_t)((add ? NLM_F_CREATE | NLM_F_EXCL : 0) |
                                 (last ? NLM_F_ACK : 0)),
                      NFPROTO_IPV4, 0, seq);
    char map[16];

    snprintf(map, sizeof(map), "%s_%s", p->udp ? "udp" : "tcp",
             p->ip.s_addr == INADDR_ANY ? "any" : "at");
    put(b, NFTA_SET_ELEM_LIST_TABLE, table, strlen(table) + 1);
    put(b, NFTA_SET_ELEM_LIST_SET, map, strlen(map) + 1);
    put_element(b, p, add);
    end(b, at);
}

/* ---- the talk ---- */

/* All answers are there when the send returns: one for the last message, and
 * one for each that was refused. */
static int
take_answers(int nl, struct lev_error *err)
{
    char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
    bool heard = false;
    ssize_t n;

    while ((n = recv(nl, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        const struct nlmsghdr *m = (const void *)buf;

        for (size_t left = (size_t)n; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left)) {
            const struct nlmsgerr *e = NLMSG_DATA(m);

            if (m->nlmsg_type == NLMSG_ERROR && e->error != 0) {
                errno = -e->error;
                return lev_error_errno(err, "element of a map of nftables");
            }
            heard |= m->nlmsg_type == NLMSG_ERROR;
        }
    }
    return heard ? 0
                 : lev_error_set(err, LEV_E_OS, EPROTO, "nftables: no answer");
}

int
lev_nftmap_open(struct lev_error *err)
{
    int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

    return nl < 0 ? lev_error_errno(err, "nftables") : nl;
}

static int
change(int nl, const char *table, const struct lev_published *ports, size_t n,
       bool add, struct lev_error *err)
{
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    _cleanup_buf_ struct lev_buf batch = {0};
    size_t at = begin(&batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC,
                      NFNL_SUBSYS_NFTABLES, 0);

    end(&batch, at);
    for (size_t i = 0; i < n; i++) {
        put_message(&batch, table, &ports[i], add, i == n - 1,
                    (uint32_t)i + 1);
    }
    at = begin(&batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES,
               (uint32_t)n + 1);
    end(&batch, at);
    if (lev_buf_check(&batch, "nftables", err) < 0) {
        return -1;
    }
    if (sendto(nl, batch.data, batch.len, 0, (const void *)&kernel,
               sizeof(kernel)) < 0)
    {
        return lev_error_errno(err, "nftables");
    }
    return take_answers(nl, err);
}

int
lev_nftmap_add(int nl, const char *table, const struct lev_published *ports,
               size_t n, struct lev_error *err)
{
    return change(nl, table, ports, n, true, err);
}

int
lev_nftmap_delete(int nl, const char *table, const struct lev_published *ports,
                  size_t n, struct lev_error *err)
{
    return change(nl, table, ports, n, false, err);
}
