#include "session.h"

#include "session_internal.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <sys/random.h>

/* Subnets are tried at random places of these ranges: Docker's own pools are
 * 172.17.0.0/12 and 192.168.0.0/16, and the ends of 10/8 are popular. */
#define POOL_FIRST 0x0a400000u /* 10.64.0.0 */
#define POOL_SIZE 0x00800000u  /* up to 10.191.255.255 */
#define SUBNET_TRIES 32
#define SESSION_PREFIX 20 /* 4,000 addresses */
#define REMOVE_TIMEOUT (30 * LEV_SECOND)
#define REMOVE_AT_ONCE 8

static void
left_free(struct lev_left *left)
{
    free(left->id);
    free(left->name);
    free(left);
}

void
lev_site_free_all(struct lev_site *sites)
{
    while (sites != NULL) {
        struct lev_site *next = sites->next;

        while (sites->left != NULL) {
            struct lev_left *left = sites->left;

            sites->left = left->next;
            left_free(left);
        }
        lev_images_deinit(&sites->images);
        lev_engine_unref(sites->engine);
        free(sites->url);
        free(atomic_load(&sites->network));
        free(sites);
        sites = next;
    }
}

static struct lev_site *
find_site(struct lev_session *s, const char *url)
{
    struct lev_site *site;

    pthread_mutex_lock(&s->mutex);
    for (site = s->sites; site != NULL; site = site->next) {
        if (url == NULL ? site->url == NULL
                        : site->url != NULL && strcmp(url, site->url) == 0)
        {
            break;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    return site;
}

static struct lev_engine *
open_engine(struct lev_session *s, const struct lev_scope *scope,
            const char *url, struct lev_error *err)
{
    struct lev_discover d = s->config.discover;

    if (url != NULL) {
        d.engine = (char *)url;
        d.engine_source = "engine= of the Cr";
    }
    return lev_discover_open(&d, s->config.log, scope, err);
}

struct lev_site *
lev_session_site(struct lev_session *s, const struct lev_scope *scope,
                 const char *url, struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *gate = NULL;
    struct lev_site *site = find_site(s, url);

    if (site != NULL) {
        return site;
    }
    if (lev_gate_enter(&s->site_gate, scope, err) < 0) {
        return NULL;
    }
    gate = &s->site_gate;
    site = find_site(s, url);
    if (site != NULL) {
        return site;
    }
    site = calloc(1, sizeof(*site));
    if (site == NULL || (url != NULL && (site->url = strdup(url)) == NULL)) {
        free(site);
        lev_error_nomem(err, "engine");
        return NULL;
    }
    lev_images_init(&site->images);
    site->session = s;
    site->engine = open_engine(s, scope, url, err);
    if (site->engine == NULL) {
        lev_site_free_all(site);
        return NULL;
    }
    pthread_mutex_lock(&s->mutex);
    site->next = s->sites;
    site->number = site->next == NULL ? 0 : site->next->number + 1;
    s->sites = site;
    pthread_mutex_unlock(&s->mutex);
    lev_session_watch(s, site->engine);
    return site;
}

/* True when an interface of this machine is inside the subnet: routing to the
 * containers would cut it off. */
static bool
is_taken(uint32_t net, uint32_t mask)
{
    struct ifaddrs *all;
    bool taken = false;

    if (getifaddrs(&all) < 0) {
        return false; /* the engine checks for itself, too */
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
pick_subnet(unsigned prefix, char out[32], struct lev_error *err)
{
    uint32_t mask = ~0u << (32 - prefix), random, net;
    struct in_addr in;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        return lev_error_errno(err, "getrandom");
    }
    net = (POOL_FIRST + random % POOL_SIZE) & mask;
    if (is_taken(net, mask)) {
        return 0;
    }
    in.s_addr = htonl(net);
    snprintf(out, 32, "%s/%u", inet_ntoa(in), prefix);
    return 1;
}

static char *
create_network(struct lev_site *site, const struct lev_scope *scope,
               const char *role, unsigned prefix, struct lev_error *err)
{
    struct lev_session *s = site->session;
    char **labels = lev_session_labels(s, role, 0, err);
    char name[160], site_name[16] = "", subnet[32], *id = NULL;

    if (labels == NULL) {
        return NULL;
    }
    /* Two sites may be two URLs of one engine. */
    if (site->number > 0) {
        snprintf(site_name, sizeof(site_name), "-at-%u", site->number);
    }
    snprintf(name, sizeof(name), "levrt-%.12s-%s%s", s->id, role, site_name);
    for (int i = 0; i < SUBNET_TRIES && id == NULL; i++) {
        int rc = pick_subnet(prefix, subnet, err);

        if (rc < 0) {
            break;
        }
        if (rc == 0) {
            lev_error_set(err, LEV_E_CONFLICT, 0,
                          "%s overlaps an interface of this machine", subnet);
            continue;
        }
        if (site->engine->ops->network_create(
                site->engine, scope, name, subnet, (const char *const *)labels,
                &id, err) < 0 &&
            err->code != LEV_E_CONFLICT)
        {
            break;
        }
    }
    lev_strv_free(labels);
    if (id == NULL) {
        atomic_store(&site->unsure, true);
        lev_error_wrap(err, "create the network %s", name);
    }
    return id;
}

const char *
lev_site_network(struct lev_site *site, const struct lev_scope *scope,
                 struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *gate = NULL;
    char *id = atomic_load(&site->network);

    if (id != NULL) {
        return id;
    }
    if (lev_gate_enter(&site->session->site_gate, scope, err) < 0) {
        return NULL;
    }
    gate = &site->session->site_gate;
    id = atomic_load(&site->network);
    if (id == NULL) {
        id = create_network(site, scope, "session", SESSION_PREFIX, err);
        atomic_store(&site->network, id);
    }
    return id;
}

char *
lev_site_network_create(struct lev_site *site, const struct lev_scope *scope,
                        const char *role, unsigned hosts,
                        struct lev_error *err)
{
    unsigned prefix = 28;

    /* Network, broadcast and gateway take three. */
    while (prefix > 16 && (1u << (32 - prefix)) < hosts + 3) {
        prefix--;
    }
    return create_network(site, scope, role, prefix, err);
}

void
lev_session_leave(struct lev_site *site, enum lev_leftover kind,
                  const char *id, const char *name,
                  const struct lev_error *why)
{
    struct lev_session *s = site->session;
    struct lev_left *left = calloc(1, sizeof(*left));

    lev_log(s->config.log, LEV_WARNING, "lev",
            "could not remove %s yet (tried again when the session ends): %s",
            name, why->msg);
    if (left == NULL) {
        return;
    }
    left->kind = kind;
    left->id = strdup(id);
    left->name = strdup(name);
    if (left->id == NULL || left->name == NULL) {
        left_free(left);
        return;
    }
    pthread_mutex_lock(&s->mutex);
    left->next = site->left;
    site->left = left;
    pthread_mutex_unlock(&s->mutex);
}

/* Where the engine is a daemon's, lev-reaper is told when the session ends. */
static void
log_left(const struct lev_site *site, const char *name, const char *why)
{
    bool watched =
        site->engine->ops->endpoint != NULL && site->session->watch != NULL;

    lev_log(site->session->config.log, LEV_ERROR, "lev",
            "%s is left behind: %s%s", name, why == NULL ? "" : why,
            watched ? "; lev-reaper tries again for an hour" : "");
}

static int
remove_left(struct lev_site *site, const struct lev_scope *scope,
            const struct lev_left *left, struct lev_error *err)
{
    const struct lev_engine_ops *ops = site->engine->ops;

    switch (left->kind) {
    case LEV_LEFT_CONTAINER:
        return ops->remove(site->engine, scope, left->id, err);
    case LEV_LEFT_NETWORK:
        return ops->network_remove(site->engine, scope, left->id, err);
    case LEV_LEFT_IMAGE:
        return ops->image_remove(site->engine, scope, left->id, err);
    }
    return 0;
}

/* Removes what carries the session's label, whether it is known or not; false
 * when something stays. */
static bool
sweep(struct lev_site *site, const struct lev_scope *scope)
{
    const struct lev_gc gc = {.session = site->session->id};
    struct lev_scope bound = lev_scope_within(scope, REMOVE_TIMEOUT);
    struct lev_log *log = site->session->config.log;
    _cleanup_found_ struct lev_found *found = NULL;
    struct lev_error err;
    size_t left;

    if (lev_gc_find(site->engine, &bound, &gc, &found, &err) < 0) {
        lev_log(log, LEV_ERROR, "lev",
                "what is left of the session is not known: %s", err.msg);
        return false;
    }
    left = lev_gc_remove(site->engine, scope, found, REMOVE_AT_ONCE);
    for (const struct lev_found *f = found; f != NULL; f = f->next) {
        if (!f->removed) {
            log_left(site, f->name, f->error);
        }
    }
    return left == 0;
}

bool
lev_site_close(struct lev_site *site, const struct lev_scope *scope)
{
    const struct lev_engine_ops *ops = site->engine->ops;
    bool unsure = atomic_exchange(&site->unsure, false), clean = true;
    char *network = atomic_exchange(&site->network, NULL);
    struct lev_scope bound;
    struct lev_error err;

    while (site->left != NULL) {
        struct lev_left *left = site->left;

        bound = lev_scope_within(scope, REMOVE_TIMEOUT);
        site->left = left->next;
        if (remove_left(site, &bound, left, &err) < 0) {
            log_left(site, left->name, err.msg);
            clean = false;
        }
        left_free(left);
    }
    if (unsure) {
        clean &= sweep(site, scope);
    }
    bound = lev_scope_within(scope, REMOVE_TIMEOUT);
    if (network != NULL && !atomic_load(&site->keeps) &&
        ops->network_remove(site->engine, &bound, network, &err) < 0)
    {
        char name[64];

        snprintf(name, sizeof(name), "the network levrt-%.12s-session",
                 site->session->id);
        log_left(site, name, err.msg);
        clean = false;
    }
    free(network);
    return clean;
}
