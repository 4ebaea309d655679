/* oci_ports.c - which ports of this machine lead to a container. */

#include "oci.h"

#include <arpa/inet.h>
#include <string.h>

#include "docker.h"

/* "80/tcp" */
static int
split_key(const char *key, int *port, bool *udp, struct lev_error *err)
{
    const char *slash = strchrnul(key, '/');

    *port = atoi(key);
    *udp = strcmp(slash, "/udp") == 0;
    if (!*udp && strcmp(slash, "/tcp") != 0 && *slash != '\0') {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "engine oci: option 'port_bindings': %s: TCP and "
                             "UDP can be published",
                             key);
    }
    return 0;
}

static int
host_ip(const char *given, struct in_addr *ip, struct lev_error *err)
{
    if (inet_pton(AF_INET, *given == '\0' ? "0.0.0.0" : given, ip) == 1) {
        return 0;
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "engine oci: option 'port_bindings': %.60s: its "
                         "networks are of IPv4",
                         given);
}

/* One for the helper (helper.h), with what it is to be called. */
static int
add_port(struct lev_oci_container *c, const char *key, const json_t *binding,
         const char *address, json_t *list, struct lev_error *err)
{
    const char *given = lev_json_str(binding, "HostPort");
    const char *ip_text = lev_json_str(binding, "HostIp");
    const char *dash = given == NULL ? NULL : strchr(given, '-');
    int from = given == NULL ? 0 : atoi(given), port;
    char shown[INET_ADDRSTRLEN];
    struct in_addr ip;
    bool udp;

    if (split_key(key, &port, &udp, err) < 0 ||
        host_ip(ip_text == NULL ? "" : ip_text, &ip, err) < 0)
    {
        return -1;
    }
    inet_ntop(AF_INET, &ip, shown, sizeof(shown));
    json_array_append_new(
        list, json_pack("{s:s, s:i, s:i, s:i, s:b, s:s}", "ip", shown, "from",
                        from, "to", dash == NULL ? from : atoi(dash + 1),
                        "port", port, "udp", (int)udp, "address", address));
    json_array_append_new(
        c->ports, json_pack("{s:s, s:s}", "key", key, "HostIp", shown));
    return 0;
}

static int
add_bound(struct lev_oci_container *c, const json_t *bindings,
          const char *address, json_t *list, struct lev_error *err)
{
    const char *key;
    json_t *all, *one;
    size_t i;

    json_object_foreach((json_t *)bindings, key, all)
    {
        json_array_foreach(all, i, one)
        {
            if (add_port(c, key, one, address, list, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* Exposed ports, by the image or by the options, that no binding names. */
static int
add_exposed(struct lev_oci_container *c, const json_t *exposed,
            const json_t *bindings, const char *address, json_t *list,
            struct lev_error *err)
{
    _cleanup_json_ json_t *any = json_object();
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)exposed, key, value)
    {
        if (json_object_get(bindings, key) == NULL &&
            add_port(c, key, any, address, list, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* The image's, in the form with a protocol, and the options'. */
static json_t *
all_exposed(const struct lev_oci_container *c, const json_t *config,
            struct lev_error *err)
{
    _cleanup_json_ json_t *image =
        lev_json_parse(c->image.config, strlen(c->image.config),
                       "the image's configuration", err);
    json_t *all = json_object(), *value;
    const char *key;

    if (image == NULL || all == NULL) {
        json_decref(all);
        return NULL;
    }
    json_object_foreach(lev_json_get(image, "config.ExposedPorts"), key, value)
    {
        char full[40];

        snprintf(full, sizeof(full), "%.30s%s", key,
                 strchr(key, '/') == NULL ? "/tcp" : "");
        json_object_set_new(all, full, json_object());
    }
    json_object_update(all, lev_json_get(config, "ExposedPorts"));
    return all;
}

int
lev_oci_published(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, struct lev_port **ports, size_t *n,
                  struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);
    json_t *one;
    size_t i;

    if (c == NULL) {
        return -1;
    }
    *n = json_array_size(c->ports);
    *ports = calloc(*n + 1, sizeof(**ports));
    if (*ports == NULL) {
        return lev_error_nomem(err, "ports");
    }
    json_array_foreach(c->ports, i, one)
    {
        lev_port_set(&(*ports)[i], lev_json_str(one, "key"), one);
    }
    return 0;
}

bool
lev_oci_publishes(const json_t *host)
{
    return json_object_size(lev_json_get(host, "PortBindings")) > 0 ||
           lev_json_bool(host, "PublishAllPorts", false);
}

json_t *
lev_oci_ports_wanted(struct lev_oci_container *c, const json_t *config,
                     const json_t *host, struct lev_error *err)
{
    const json_t *bindings = lev_json_get(host, "PortBindings");
    _cleanup_json_ json_t *list = json_array(), *exposed = NULL;
    const struct in_addr in = {htonl(c->ends[0].address)};
    char address[INET_ADDRSTRLEN];

    c->ports = json_array();
    inet_ntop(AF_INET, &in, address, sizeof(address));
    if (add_bound(c, bindings, address, list, err) < 0) {
        return NULL;
    }
    if (!lev_json_bool(host, "PublishAllPorts", false)) {
        return lev_steal(list);
    }
    exposed = all_exposed(c, config, err);
    if (exposed == NULL ||
        add_exposed(c, exposed, bindings, address, list, err) < 0)
    {
        return NULL;
    }
    return lev_steal(list);
}

void
lev_oci_ports_taken(struct lev_oci *o, struct lev_oci_container *c,
                    const json_t *numbers)
{
    json_t *port;
    size_t i;

    json_array_foreach(c->ports, i, port)
    {
        int64_t number =
            json_integer_value(json_array_get((json_t *)numbers, i));

        json_object_set_new(port, "HostPort", json_sprintf("%d", (int)number));
        lev_log(o->base.log, LEV_INFO, "lev.engine",
                "container %s: port %s is published at %s:%d", c->name,
                lev_json_str(port, "key"), lev_json_str(port, "HostIp"),
                (int)number);
    }
}
