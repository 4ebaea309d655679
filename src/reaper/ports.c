#include "reaper.h"

#include <arpa/inet.h>

/* {ip, from, to, port, udp, address} */
static int
read_port(const json_t *v, struct lev_published *p, uint16_t *last,
          struct lev_error *err)
{
    const char *ip = lev_json_str(v, "ip");
    const char *address = lev_json_str(v, "address");
    int64_t from = lev_json_int(v, "from", -1);
    int64_t to = lev_json_int(v, "to", -1);
    int64_t port = lev_json_int(v, "port", -1);

    if (ip == NULL || inet_pton(AF_INET, ip, &p->ip) != 1 || address == NULL ||
        inet_pton(AF_INET, address, &p->to) != 1 || from < 0 ||
        from > UINT16_MAX || to < from || to > UINT16_MAX || port < 1 ||
        port > UINT16_MAX)
    {
        return lev_error_set(err, LEV_E_INVALID, 0, "create: bad port");
    }
    p->host_port = (uint16_t)from;
    p->port = (uint16_t)port;
    p->udp = lev_json_bool(v, "udp", false);
    *last = (uint16_t)to;
    return 0;
}

static void
let_go(struct container *c)
{
    for (size_t i = 0; i < c->ports_n; i++) {
        close(c->held[i]);
    }
    free(lev_steal(c->held));
    free(lev_steal(c->ports));
    c->ports_n = 0;
}

static int
hold(struct container *c, const json_t *wanted, json_t *list,
     struct lev_error *err)
{
    json_t *item;
    uint16_t last = 0;
    size_t i;

    json_array_foreach(wanted, i, item)
    {
        struct lev_published *p = &c->ports[i];

        if (read_port(item, p, &last, err) < 0) {
            return -1;
        }
        c->held[i] = lev_port_hold(p, last, err);
        if (c->held[i] < 0) {
            return -1;
        }
        c->ports_n++;
        json_array_append_new(list, json_integer(p->host_port));
    }
    return 0;
}

int
ports_publish(struct container *c, const json_t *request, json_t *list,
              struct lev_error *err)
{
    const json_t *wanted = lev_json_get(request, "ports");
    size_t n = json_array_size(wanted);

    if (n == 0) {
        return 0;
    }
    if (c->reaper->net == NULL) {
        return lev_error_set(err, LEV_E_INVALID, 0, "ports without a network");
    }
    c->ports = calloc(n, sizeof(*c->ports));
    c->held = calloc(n, sizeof(*c->held));
    if (c->ports == NULL || c->held == NULL) {
        lev_error_nomem(err, "ports");
    }
    else if (hold(c, wanted, list, err) == 0 &&
             lev_net_publish(c->reaper->net, c->ports, n, err) == 0)
    {
        return 0;
    }
    let_go(c);
    return -1;
}

/* The rules first: nobody else's connections go to a container. */
void
ports_withdraw(struct container *c)
{
    if (c->ports_n > 0) {
        lev_net_unpublish(c->reaper->net, c->ports, c->ports_n);
        let_go(c);
    }
}
