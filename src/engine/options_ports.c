/* Ports: docker-py's many ways to say which. */

#include "options_internal.h"

#include <ctype.h>
#include <string.h>

#define BINDINGS                                                              \
    "a dict {port: host port}: a port as 80 or '80/udp', a host port as "     \
    "int, "                                                                   \
    "None, 'first-last', (address, port), (address,) or a list of those"

/* Digits of a port up to `end`; 0 is none. */
static long
number(const char *text, const char *end)
{
    long n = 0;

    if (text == end || end - text > 5) {
        return -1;
    }
    for (const char *p = text; p < end; p++) {
        if (!isdigit((unsigned char)*p)) {
            return -1;
        }
        n = n * 10 + (*p - '0');
    }
    return n > 65535 ? -1 : n;
}

/* "80", "80/udp" → "80/tcp", "80/udp". */
static int
port_key(const struct lev_option *o, const char *text, char key[24],
         struct lev_error *err)
{
    const char *slash = strchrnul(text, '/');
    const char *protocol = *slash == '/' ? slash + 1 : "tcp";
    long n = number(text, slash);

    if (n < 1 ||
        (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0 &&
         strcmp(protocol, "sctp") != 0))
    {
        return lev_option_invalid(
            o, "ports from 1 to 65535, as 80 or '80/udp'", text, err);
    }
    snprintf(key, 24, "%ld/%s", n, protocol);
    return 0;
}

/* Of an int, a str or a (port, protocol) pair. */
static int
any_port(const struct lev_option *o, const bson_iter_t *value, char key[24],
         struct lev_error *err)
{
    static const char expected[] = "a list of ints, '80/udp' or (80, 'udp')";
    char text[40];
    bson_iter_t it;

    if (BSON_ITER_HOLDS_UTF8(value)) {
        const char *given = lev_option_text(o, value, expected, err);

        return given == NULL ? -1 : port_key(o, given, key, err);
    }
    if (lev_option_is_int(value)) {
        snprintf(text, sizeof(text), "%lld",
                 (long long)bson_iter_as_int64(value));
        return port_key(o, text, key, err);
    }
    if (BSON_ITER_HOLDS_ARRAY(value) && bson_iter_recurse(value, &it) &&
        bson_iter_next(&it) && lev_option_is_int(&it))
    {
        long long n = (long long)bson_iter_as_int64(&it);

        if (bson_iter_next(&it) && BSON_ITER_HOLDS_UTF8(&it)) {
            snprintf(text, sizeof(text), "%lld/%.8s", n,
                     bson_iter_utf8(&it, NULL));
            return port_key(o, text, key, err);
        }
    }
    return lev_option_type_error(o, value, expected, err);
}

json_t *
lev_option_ports(const struct lev_option *o, const bson_iter_t *value,
                 struct lev_error *err)
{
    _cleanup_json_ json_t *ports = json_object();
    char key[24];
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_ARRAY(value)) {
        lev_option_type_error(o, value,
                              "a list of ints, '80/udp' or "
                              "(80, 'udp')",
                              err);
        return NULL;
    }
    if (ports == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        if (any_port(o, &it, key, err) < 0) {
            return NULL;
        }
        json_object_set_new(ports, key, json_object());
    }
    return lev_steal(ports);
}

/* ---- where they are on the host ---- */

static json_t *
binding(const struct lev_option *o, const char *ip, const char *port,
        struct lev_error *err)
{
    return lev_option_result(
        json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", port), o, err);
}

/* "", "8080", "8000-8010" */
static int
check_host_port(const struct lev_option *o, const char *text,
                struct lev_error *err)
{
    const char *dash = strchrnul(text, '-');
    long first = number(text, dash);
    long last = *dash == '-' ? number(dash + 1, dash + strlen(dash)) : first;

    if (*text != '\0' && (first < 0 || last < first)) {
        return lev_option_invalid(
            o, "a host port from 0 to 65535, or 'first-last'", text, err);
    }
    return 0;
}

/* int, None or str. */
static int
host_port(const struct lev_option *o, const bson_iter_t *value, char text[24],
          struct lev_error *err)
{
    const char *given;

    if (BSON_ITER_HOLDS_NULL(value)) {
        text[0] = '\0';
        return 0;
    }
    if (lev_option_is_int(value)) {
        snprintf(text, 24, "%lld", (long long)bson_iter_as_int64(value));
        return check_host_port(o, text, err);
    }
    given = lev_option_text(o, value, BINDINGS, err);
    if (given == NULL || check_host_port(o, given, err) < 0) {
        return -1;
    }
    snprintf(text, 24, "%s", given);
    return 0;
}

/* (address, port), (address,) */
static json_t *
pair(const struct lev_option *o, const char *ip, bson_iter_t *rest,
     struct lev_error *err)
{
    char port[24] = "";

    if (bson_iter_next(rest) && host_port(o, rest, port, err) < 0) {
        return NULL;
    }
    if (bson_iter_next(rest)) {
        lev_option_invalid(o, "(address, port)", "more than two items", err);
        return NULL;
    }
    return binding(o, ip, port, err);
}

/* The Engine API's own form. */
static json_t *
dict(const struct lev_option *o, const bson_iter_t *value,
     struct lev_error *err)
{
    const char *ip = "";
    char port[24] = "";
    bson_iter_t it;

    if (!bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);

        if (strcmp(key, "HostIp") == 0) {
            ip = lev_option_text(o, &it, "str as HostIp", err);
        }
        else if (strcmp(key, "HostPort") != 0) {
            lev_option_invalid(o, "the keys HostIp and HostPort", key, err);
            return NULL;
        }
        if (ip == NULL ||
            (*key == 'H' && key[4] == 'P' && host_port(o, &it, port, err) < 0))
        {
            return NULL;
        }
    }
    if (*ip != '\0' && !lev_option_is_address(ip)) {
        lev_option_invalid(o, "an IP address of the host", ip, err);
        return NULL;
    }
    return binding(o, ip, port, err);
}

static json_t *
one_binding(const struct lev_option *o, const bson_iter_t *value,
            struct lev_error *err)
{
    char port[24];
    bson_iter_t it;

    if (BSON_ITER_HOLDS_DOCUMENT(value)) {
        return dict(o, value, err);
    }
    if (BSON_ITER_HOLDS_ARRAY(value) && bson_iter_recurse(value, &it) &&
        bson_iter_next(&it) && BSON_ITER_HOLDS_UTF8(&it))
    {
        const char *ip = bson_iter_utf8(&it, NULL);

        if (*ip == '\0' || lev_option_is_address(ip)) {
            return pair(o, ip, &it, err);
        }
    }
    return host_port(o, value, port, err) < 0 ? NULL
                                              : binding(o, "", port, err);
}

/* A tuple comes as a list does: it is one when it begins with an address. */
static bool
is_list(const bson_iter_t *value)
{
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_ARRAY(value) || !bson_iter_recurse(value, &it)) {
        return false;
    }
    return !bson_iter_next(&it) || !BSON_ITER_HOLDS_UTF8(&it) ||
           (*bson_iter_utf8(&it, NULL) != '\0' &&
            !lev_option_is_address(bson_iter_utf8(&it, NULL)));
}

json_t *
lev_option_port_bindings(const struct lev_option *o, const bson_iter_t *value,
                         struct lev_error *err)
{
    _cleanup_json_ json_t *all = json_object();
    char key[24];
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_DOCUMENT(value)) {
        lev_option_type_error(o, value, BINDINGS, err);
        return NULL;
    }
    if (all == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        json_t *list, *one;

        if (port_key(o, bson_iter_key(&it), key, err) < 0) {
            return NULL;
        }
        if (is_list(&it)) {
            list = lev_option_list(o, &it, BINDINGS, one_binding, err);
        }
        else {
            one = one_binding(o, &it, err);
            list = one == NULL ? NULL : json_pack("[o]", one);
        }
        if (list == NULL) {
            return NULL;
        }
        json_object_set_new(all, key, list);
    }
    return lev_steal(all);
}
