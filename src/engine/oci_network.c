/* oci_network.c - which networks there are, and who has which address.
 *
 * Addresses are given when a container is made, so that its hosts file can be
 * written before it starts. A network's first address is its gateway.
 */

#include "oci.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "docker.h"

#define DEFAULT_NAME "bridge"
#define DEFAULT_PREFIX 20
/* Beside the sessions' networks (10.64.0.0/9) and the uplinks. */
#define DEFAULT_POOL 0x0a300000u /* 10.48.0.0/12 */
#define DEFAULT_POOL_SIZE 0x00100000u
#define DEFAULT_TRIES 16
#define MAKE_TIMEOUT (30 * LEV_SECOND)

static void
to_text(uint32_t address, char text[INET_ADDRSTRLEN])
{
    const struct in_addr in = {htonl(address)};

    inet_ntop(AF_INET, &in, text, INET_ADDRSTRLEN);
}

static size_t
size_of(const struct lev_oci_network *n)
{
    return (size_t)1 << (32 - n->prefix);
}

static void
network_free(struct lev_oci_network *n)
{
    if (n != NULL) {
        free(n->name);
        free(n->used);
        free(n);
    }
}

void
lev_oci_networks_free(struct lev_oci_network *n)
{
    while (n != NULL) {
        struct lev_oci_network *next = n->next;

        network_free(n);
        n = next;
    }
}

static struct lev_oci_network *
find(const struct lev_oci *o, const char *name)
{
    struct lev_oci_network *n = o->networks;

    while (n != NULL && strcmp(n->name, name) != 0) {
        n = n->next;
    }
    return n;
}

static json_t *
bridge_request(const char *op, const struct lev_oci_network *n)
{
    char gateway[INET_ADDRSTRLEN];

    to_text(n->base + 1, gateway);
    return json_pack("{s:s, s:s, s:s, s:i}", "op", op, "bridge", n->bridge,
                     "gateway", gateway, "prefix", (int)n->prefix);
}

/* ---- what others can see of it: sessions/TAG/networks/NAME ---- */

static int
note(const struct lev_oci *o, const struct lev_oci_network *n,
     const char *const *labels, struct lev_error *err)
{
    _cleanup_json_ json_t *object = lev_docker_labels(labels, err),
                          *doc = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    char path[LEV_OCI_PATH_MAX], subnet[32], base[INET_ADDRSTRLEN];

    to_text(n->base, base);
    snprintf(subnet, sizeof(subnet), "%s/%u", base, n->prefix);
    doc = json_pack("{s:s, s:s, s:O*}", "name", n->name, "subnet", subnet,
                    "labels", object);
    if (object == NULL || doc == NULL || lev_json_dump(doc, &text, err) < 0) {
        return lev_error_nomem(err, "network");
    }
    snprintf(path, sizeof(path), "%s/networks/%s", o->session, n->name);
    return lev_oci_write_file(AT_FDCWD, path, text.data, text.len, err);
}

static void
unnote(const struct lev_oci *o, const char *name)
{
    char path[LEV_OCI_PATH_MAX];

    snprintf(path, sizeof(path), "%s/networks/%s", o->session, name);
    unlink(path);
}

/* ---- making and removing ---- */

static int
parse_subnet(const char *subnet, struct lev_oci_network *n,
             struct lev_error *err)
{
    char text[INET_ADDRSTRLEN + 1];
    const char *slash = strchr(subnet, '/');
    struct in_addr in;

    n->prefix = slash == NULL ? 0 : (unsigned)atoi(slash + 1);
    snprintf(text, sizeof(text), "%.*s",
             slash == NULL ? 0 : (int)(slash - subnet), subnet);
    if (inet_pton(AF_INET, text, &in) != 1 || n->prefix < 16 || n->prefix > 29)
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "'%.60s' is no subnet from /16 to /29", subnet);
    }
    n->base = ntohl(in.s_addr) & (~0u << (32 - n->prefix));
    return 0;
}

static int
pick_subnet(struct lev_oci_network *n, struct lev_error *err)
{
    uint32_t random;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        return lev_error_errno(err, "getrandom");
    }
    n->prefix = DEFAULT_PREFIX;
    n->base = (DEFAULT_POOL + random % DEFAULT_POOL_SIZE) &
              (~0u << (32 - n->prefix));
    return 0;
}

static bool
overlaps(const struct lev_oci_network *a, const struct lev_oci_network *b)
{
    uint32_t mask =
        ~0u << (32 - (a->prefix < b->prefix ? a->prefix : b->prefix));

    return (a->base & mask) == (b->base & mask);
}

static struct lev_oci_network *
network_new(const char *name, const char *subnet, struct lev_error *err)
{
    struct lev_oci_network *n = calloc(1, sizeof(*n));

    if (n == NULL || (n->name = strdup(name)) == NULL) {
        network_free(n);
        lev_error_nomem(err, "network");
        return NULL;
    }
    if ((subnet == NULL ? pick_subnet(n, err) : parse_subnet(subnet, n, err)) <
        0) {
        network_free(n);
        return NULL;
    }
    n->used = calloc(size_of(n) / 8 + 1, 1);
    if (n->used == NULL) {
        network_free(n);
        lev_error_nomem(err, "network");
        return NULL;
    }
    n->used[0] = 3; /* the network's own address, and the gateway */
    n->last = 1;
    return n;
}

/* Into the list, when no other one is in its way; the list keeps it. */
static int
enlist(struct lev_oci *o, struct lev_oci_network *n, struct lev_error *err)
{
    int rc = 0;

    pthread_mutex_lock(&o->mutex);
    for (const struct lev_oci_network *i = o->networks; i != NULL; i = i->next)
    {
        if (strcmp(i->name, n->name) == 0 || overlaps(i, n)) {
            rc = lev_error_set(err, LEV_E_CONFLICT, 409,
                               "it overlaps the network %s", i->name);
        }
    }
    if (rc == 0) {
        snprintf(n->bridge, sizeof(n->bridge), "lb%u", o->next_bridge++);
        n->next = o->networks;
        o->networks = n;
    }
    pthread_mutex_unlock(&o->mutex);
    return rc;
}

static void
delist(struct lev_oci *o, struct lev_oci_network *n)
{
    struct lev_oci_network **at = &o->networks;

    while (*at != n) {
        at = &(*at)->next;
    }
    *at = n->next;
}

static int
make(struct lev_oci *o, const struct lev_scope *scope,
     struct lev_oci_network *n, const char *const *labels,
     struct lev_error *err)
{
    _cleanup_packet_ struct lev_packet answer = {0};
    const char *host;

    if (lev_helper_call(o->helper, scope, bridge_request("network", n), NULL,
                        0, &answer, err) < 0)
    {
        return -1;
    }
    host = lev_json_str(answer.body, "host");
    pthread_mutex_lock(&o->mutex);
    snprintf(o->host_address, sizeof(o->host_address), "%s",
             host == NULL ? "" : host);
    pthread_mutex_unlock(&o->mutex);
    return note(o, n, labels, err);
}

/* Not cut short by a cancellation, as everywhere where something comes to be
 * that only its name tells of. */
int
lev_oci_network_create(struct lev_engine *e, const struct lev_scope *scope,
                       const char *name, const char *subnet,
                       const char *const *labels, char **id,
                       struct lev_error *err)
{
    struct lev_scope whole = {scope->deadline, NULL};
    struct lev_scope bounded = lev_scope_within(&whole, MAKE_TIMEOUT);
    struct lev_oci *o = lev_oci_of(e);
    struct lev_oci_network *n;

    *id = NULL;
    if (lev_scope_check(scope, err) < 0 ||
        (n = network_new(name, subnet, err)) == NULL)
    {
        return -1;
    }
    if (enlist(o, n, err) < 0) {
        network_free(n);
        return lev_error_wrap(err, "create network %s", name);
    }
    if (make(o, &bounded, n, labels, err) < 0) {
        pthread_mutex_lock(&o->mutex);
        delist(o, n);
        pthread_mutex_unlock(&o->mutex);
        network_free(n);
        return lev_error_wrap(err, "create network %s", name);
    }
    *id = strdup(name);
    return *id == NULL ? lev_error_nomem(err, "network") : 0;
}

int
lev_oci_network_remove(struct lev_engine *e, const struct lev_scope *scope,
                       const char *id, struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    struct lev_oci_network *n;
    size_t members;

    pthread_mutex_lock(&o->mutex);
    n = find(o, id);
    members = n == NULL ? 0 : n->members;
    if (n != NULL && members == 0) {
        delist(o, n);
    }
    pthread_mutex_unlock(&o->mutex);
    if (members > 0) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "remove network %s: %zu containers are on it", id,
                             members);
    }
    if (n == NULL) {
        return 0;
    }
    if (lev_helper_call(o->helper, scope, bridge_request("unnetwork", n), NULL,
                        0, NULL, err) < 0)
    {
        pthread_mutex_lock(&o->mutex);
        n->next = o->networks;
        o->networks = n;
        pthread_mutex_unlock(&o->mutex);
        return lev_error_wrap(err, "remove network %s", id);
    }
    unnote(o, id);
    network_free(n);
    return 0;
}

/* ---- endpoints ---- */

/* The next one, round and round: whoever had it last is long forgotten by
 * neighbours and by the kernel's table of connections. */
static int
take_address(struct lev_oci_network *n, uint32_t *address,
             struct lev_error *err)
{
    size_t size = size_of(n);

    for (size_t tried = 0; tried < size; tried++) {
        size_t i = n->last = (n->last + 1) % size;

        /* The last one is for broadcasts. */
        if (i < size - 1 && !(n->used[i / 8] & (1u << i % 8))) {
            n->used[i / 8] |= (uint8_t)(1u << i % 8);
            *address = n->base + (uint32_t)i;
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_CONFLICT, 409,
                         "no address is left on the network %s", n->name);
}

int
lev_oci_join(struct lev_oci *o, struct lev_oci_container *c,
             const struct lev_network_join *join, struct lev_error *err)
{
    struct lev_oci_endpoint *end = &c->ends[c->ends_n];
    int rc;

    if (c->ends_n == LEV_OCI_NETWORKS_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "a container can join at most %d networks",
                             LEV_OCI_NETWORKS_MAX);
    }
    pthread_mutex_lock(&o->mutex);
    end->network = find(o, join->network);
    if (end->network == NULL) {
        rc = lev_error_set(err, LEV_E_NOT_FOUND, 404,
                           "network %s not found in this session",
                           join->network);
    }
    else {
        rc = take_address(end->network, &end->address, err);
    }
    if (rc == 0) {
        end->network->members++;
        c->ends_n++;
    }
    pthread_mutex_unlock(&o->mutex);
    if (rc == 0 && join->aliases != NULL) {
        end->aliases = lev_strv_copy(join->aliases);
    }
    return rc;
}

int
lev_oci_join_default(struct lev_oci *o, const struct lev_scope *scope,
                     struct lev_oci_container *c, struct lev_error *err)
{
    static const struct lev_network_join join = {DEFAULT_NAME, NULL};
    bool there;

    pthread_mutex_lock(&o->mutex);
    there = find(o, DEFAULT_NAME) != NULL;
    pthread_mutex_unlock(&o->mutex);
    for (int i = 0; !there && i < DEFAULT_TRIES; i++) {
        _cleanup_free_ char *id = NULL;

        if (lev_oci_network_create(&o->base, scope, DEFAULT_NAME, NULL, NULL,
                                   &id, err) == 0)
        {
            break;
        }
        if (err->code != LEV_E_CONFLICT) {
            return -1;
        }
        pthread_mutex_lock(&o->mutex); /* another thread's? */
        there = find(o, DEFAULT_NAME) != NULL;
        pthread_mutex_unlock(&o->mutex);
    }
    return lev_oci_join(o, c, &join, err);
}

void
lev_oci_leave(struct lev_oci *o, struct lev_oci_container *c)
{
    pthread_mutex_lock(&o->mutex);
    for (size_t i = 0; i < c->ends_n; i++) {
        struct lev_oci_network *n = c->ends[i].network;
        uint32_t at = c->ends[i].address - n->base;

        n->used[at / 8] &= (uint8_t) ~(1u << at % 8);
        n->members--;
    }
    pthread_mutex_unlock(&o->mutex);
    for (size_t i = 0; i < c->ends_n; i++) {
        lev_strv_free(c->ends[i].aliases);
    }
    c->ends_n = 0;
}

json_t *
lev_oci_endpoints(const struct lev_oci_container *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->ends_n; i++) {
        const struct lev_oci_network *n = c->ends[i].network;
        char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN], name[24];
        uint32_t ip = c->ends[i].address;
        char own[24];

        to_text(c->ends[i].address, address);
        to_text(n->base + 1, gateway);
        snprintf(name, sizeof(name), "eth%zu", i);
        /* As Docker does: who gets the address next is found by it, too. */
        snprintf(own, sizeof(own), "02:42:%02x:%02x:%02x:%02x", ip >> 24 & 255,
                 ip >> 16 & 255, ip >> 8 & 255, ip & 255);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:s*}", "bridge",
                            n->bridge, "interface", name, "address", address,
                            "gateway", gateway, "prefix", (int)n->prefix,
                            "default", i == 0, "mac", own));
    }
    return list;
}

static int
host_address(struct lev_oci *o, const struct lev_scope *scope,
             char address[64], struct lev_error *err)
{
    struct lev_oci_container nobody = {0};

    /* It has one for containers as soon as there is a network. */
    if (o->host_address[0] == '\0') {
        if (lev_oci_join_default(o, scope, &nobody, err) < 0) {
            return -1;
        }
        lev_oci_leave(o, &nobody);
    }
    pthread_mutex_lock(&o->mutex);
    snprintf(address, 64, "%s", o->host_address);
    pthread_mutex_unlock(&o->mutex);
    return 0;
}

int
lev_oci_address(struct lev_engine *e, const struct lev_scope *scope,
                const char *id, const char *network, char address[64],
                struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);

    if (c == NULL) {
        return -1;
    }
    if (c->net == LEV_OCI_NET_HOST) {
        return host_address(lev_oci_of(e), scope, address, err);
    }
    for (size_t i = 0; i < c->ends_n; i++) {
        if (network == NULL || strcmp(network, c->ends[i].network->name) == 0)
        {
            char text[INET_ADDRSTRLEN];

            to_text(c->ends[i].address, text);
            snprintf(address, 64, "%s", text);
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_NOT_FOUND, 0,
                         "container %s has no address on network %s", id,
                         network == NULL ? "(any)" : network);
}

/* ---- listing ---- */

static bool
has_label(const json_t *labels, const char *label)
{
    const char *equals = label == NULL ? NULL : strchr(label, '=');
    char key[256];
    const char *value;

    if (label == NULL) {
        return true;
    }
    if (equals == NULL) {
        return json_object_get(labels, label) != NULL;
    }
    snprintf(key, sizeof(key), "%.*s", (int)(equals - label), label);
    value = json_string_value(json_object_get(labels, key));
    return value != NULL && strcmp(value, equals + 1) == 0;
}

static json_t *
read_note(int dirfd, const char *name)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    struct lev_error none;
    char text[16384];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    return n <= 0 ? NULL : lev_json_parse(text, (size_t)n, name, &none);
}

static int
list_session(const char *path, const char *label, struct lev_listed ***end,
             struct lev_error *err)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int rc = 0;

    while (dir != NULL && rc == 0 && (entry = readdir(dir)) != NULL) {
        _cleanup_json_ json_t *doc = NULL;

        if (entry->d_name[0] == '.') {
            continue;
        }
        doc = read_note(dirfd(dir), entry->d_name);
        if (doc != NULL && has_label(lev_json_get(doc, "labels"), label)) {
            rc = lev_docker_list_add(end, entry->d_name, entry->d_name,
                                     lev_json_str(doc, "subnet"),
                                     lev_json_get(doc, "labels"), err);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return rc;
}

int
lev_oci_network_list(struct lev_engine *e, const struct lev_scope *scope,
                     const char *label, struct lev_listed **list,
                     struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    struct lev_listed *all = NULL, **end = &all;
    char path[LEV_OCI_PATH_MAX];
    struct dirent *entry;
    DIR *dir;
    int rc = 0;

    snprintf(path, sizeof(path), "%s/sessions", o->dir);
    dir = opendir(path);
    while (dir != NULL && rc == 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/sessions/%.64s/networks", o->dir,
                     entry->d_name);
            rc = list_session(path, label, &end, err);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (rc < 0) {
        lev_listed_free(all);
        return -1;
    }
    *list = all;
    return 0;
}
