#include "docker.h"

#include <string.h>
#include <sys/random.h>

#include "options.h"
#include "owner.h"

#define CREATE_TIMEOUT (30 * LEV_SECOND)
#define FIND_TIMEOUT (10 * LEV_SECOND)
/* A label with a value of its own for each request. */
#define MARK "zone.lev.create"
#define GONE_NAP_MAX (200 * LEV_MS)

static json_t *
mount_json(const struct lev_mount *m)
{
    static const char *const types[] = {
        [LEV_MOUNT_BIND] = "bind",
        [LEV_MOUNT_VOLUME] = "volume",
        [LEV_MOUNT_TMPFS] = "tmpfs",
    };

    /* Never "Binds": where the source is missing, that makes a directory. */
    return json_pack("{s:s, s:s, s:s*, s:b}", "Type", types[m->type], "Target",
                     m->target, "Source", m->source, "ReadOnly", m->read_only);
}

static json_t *
mounts_json(const struct lev_container_spec *spec)
{
    json_t *array = json_array();

    for (size_t i = 0; array != NULL && i < spec->mounts_n; i++) {
        if (json_array_append_new(array, mount_json(&spec->mounts[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *
endpoint_json(const struct lev_network_join *join)
{
    return json_pack("{s:o}", "Aliases", lev_docker_strings(join->aliases));
}

/* What every container of ours gets: an init, so that default signal actions
 * apply and zombies are reaped; no log of the daemon's, since the output is
 * attached to; no removal by the daemon, since the exit is inspected. */
static json_t *
host_config(const struct lev_container_spec *spec)
{
    json_t *host =
        json_pack("{s:b, s:b, s:{s:s}, s:o}", "Init", 1, "AutoRemove", 0,
                  "LogConfig", "Type", "none", "Mounts", mounts_json(spec));
    const char *network = spec->host_network     ? "host"
                          : spec->networks_n > 0 ? spec->networks[0].network
                                                 : NULL;

    if (host != NULL && network != NULL &&
        json_object_set_new(host, "NetworkMode", json_string(network)) < 0)
    {
        json_decref(host);
        return NULL;
    }
    return host;
}

/* The spec's extra hosts come behind those of the options. */
static int
add_extra_hosts(json_t *host, const char *const *extra, struct lev_error *err)
{
    json_t *list = json_object_get(host, "ExtraHosts");
    json_t *more;

    if (extra == NULL || *extra == NULL) {
        return 0;
    }
    more = lev_docker_strings(extra);
    if (more == NULL) {
        return lev_error_nomem(err, "extra hosts");
    }
    if (list != NULL) {
        int rc = json_array_extend(list, more);

        json_decref(more);
        return rc < 0 ? lev_error_nomem(err, "extra hosts") : 0;
    }
    if (json_object_set_new(host, "ExtraHosts", more) < 0) {
        return lev_error_nomem(err, "extra hosts");
    }
    return 0;
}

static json_t *
base_config(const struct lev_container_spec *spec, json_t *labels)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:O, s:b}", "Image", spec->image,
                     "Entrypoint", lev_docker_strings(spec->entrypoint), "Cmd",
                     lev_docker_strings(spec->cmd), "Env",
                     lev_docker_strings(spec->env), "Labels", labels, "Tty",
                     0);
}

static int
check_text(const struct lev_container_spec *spec, struct lev_error *err)
{
    const struct {
        const char *what;
        const char *const *v;
    } all[] = {{"entrypoint", spec->entrypoint},
               {"cmd", spec->cmd},
               {"env", spec->env},
               {"labels", spec->labels},
               {"extra hosts", spec->extra_hosts}};

    for (size_t i = 0; i < LEV_ARRAY_LEN(all); i++) {
        if (lev_docker_check_text(all[i].what, all[i].v, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static json_t *
create_body(struct lev_docker *d, const struct lev_container_spec *spec,
            const char *mark, struct lev_error *err)
{
    _cleanup_json_ json_t *labels = NULL, *host = NULL, *config = NULL;

    if (check_text(spec, err) < 0 ||
        (labels = lev_docker_labels(spec->labels, err)) == NULL)
    {
        return NULL;
    }
    if (json_object_set_new(labels, MARK, json_string(strchr(mark, '=') + 1)) <
            0 ||
        json_object_set_new(labels, LEV_LABEL_NAME, json_string(spec->name)) <
            0)
    {
        lev_error_nomem(err, "labels");
        return NULL;
    }
    config = base_config(spec, labels);
    host = host_config(spec);
    if (config == NULL || host == NULL) {
        lev_error_nomem(err, "container");
        return NULL;
    }
    if (lev_options_apply(spec->options, d->base.info.name, config, host,
                          err) < 0 ||
        add_extra_hosts(host, spec->extra_hosts, err) < 0)
    {
        return NULL;
    }
    if (spec->networks_n > 0) {
        json_t *join = json_pack("{s:{s:o}}", "EndpointsConfig",
                                 spec->networks[0].network,
                                 endpoint_json(&spec->networks[0]));

        if (json_object_set_new(config, "NetworkingConfig", join) < 0) {
            lev_error_nomem(err, "container");
            return NULL;
        }
    }
    if (json_object_set(config, "HostConfig", host) < 0) {
        lev_error_nomem(err, "container");
        return NULL;
    }
    return lev_steal(config);
}

static int
connect_network(struct lev_docker *d, const struct lev_scope *scope,
                const struct lev_network_join *join, const char *id,
                struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *body = json_pack(
        "{s:s, s:o}", "Container", id, "EndpointConfig", endpoint_json(join));

    if (body == NULL) {
        return lev_error_nomem(err, "network");
    }
    lev_docker_path(d, &path, "/networks/%s/connect", join->network);
    if (lev_docker_call(d, scope, "POST", &path, body, NULL, err) < 0) {
        return lev_error_wrap(err, "connect to network %s", join->network);
    }
    return 0;
}

/* The engine says what it could not honour. */
static void
log_warnings(struct lev_docker *d, const char *name, const json_t *answer)
{
    json_t *warning;
    size_t i;

    json_array_foreach(lev_json_get(answer, "Warnings"), i, warning)
    {
        if (json_is_string(warning)) {
            lev_log(d->base.log, LEV_WARNING, "lev.engine", "container %s: %s",
                    name, json_string_value(warning));
        }
    }
}

/* The answer was lost: the container may be there all the same. Its name is
 * no way to it, since another one's may be the same; its mark is. */
static char *
find_created(struct lev_docker *d, const char *mark)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, FIND_TIMEOUT);
    struct lev_listed *found = NULL;
    struct lev_error err;
    char *id = NULL;

    if (lev_docker_list(&d->base, &scope, mark, &found, &err) == 0 &&
        found != NULL)
    {
        id = lev_steal(found->id);
    }
    lev_listed_free(found);
    return id;
}

static int
post_create(struct lev_docker *d, const struct lev_scope *scope,
            const char *name, const char *mark, const json_t *body, char **id,
            struct lev_error *err)
{
    struct lev_scope whole = {scope->deadline, NULL};
    struct lev_scope bounded = lev_scope_within(&whole, CREATE_TIMEOUT);
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    const char *text;

    lev_docker_path(d, &path, "/containers/create?name=%s", name);
    if (lev_docker_call(d, &bounded, "POST", &path, body, &answer, err) < 0) {
        if (err->detail < 400) {
            *id = find_created(d, mark);
        }
        /* 409 at Docker, 500 at Podman. */
        if (strstr(err->msg, "already in use") != NULL) {
            err->code = LEV_E_CONFLICT;
        }
        return -1;
    }
    log_warnings(d, name, answer);
    text = lev_json_str(answer, "Id");
    *id = strdup(text == NULL ? name : text);
    return *id == NULL ? lev_error_nomem(err, "container") : 0;
}

/* A label of this one request: "K=V". */
static int
make_mark(char mark[64], struct lev_error *err)
{
    uint64_t random[2];

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        return lev_error_errno(err, "getrandom");
    }
    snprintf(mark, 64, MARK "=%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
    return 0;
}

int
lev_docker_create(struct lev_engine *e, const struct lev_scope *scope,
                  const struct lev_container_spec *spec, char **id,
                  struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_json_ json_t *body = NULL;
    char mark[64];

    *id = NULL;
    if (lev_scope_check(scope, err) < 0 || make_mark(mark, err) < 0) {
        return -1;
    }
    body = create_body(d, spec, mark, err);
    if (body == NULL ||
        post_create(d, scope, spec->name, mark, body, id, err) < 0) {
        return lev_error_wrap(err, "create container %s", spec->name);
    }
    for (size_t i = 1; i < spec->networks_n; i++) {
        if (connect_network(d, scope, &spec->networks[i], *id, err) < 0) {
            return lev_error_wrap(err, "create container %s", spec->name);
        }
    }
    return 0;
}

int
lev_docker_signal(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, int signo, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};
    char number[16];

    snprintf(number, sizeof(number), "%d", signo);
    lev_docker_path(d, &path, "/containers/%s/kill?signal=%s", id, number);
    if (lev_docker_call(d, scope, "POST", &path, NULL, NULL, err) < 0) {
        return lev_error_wrap(err, "signal %d", signo);
    }
    return 0;
}

static int
get_container(struct lev_docker *d, const struct lev_scope *scope,
              const char *id, const char *const *members, json_t **answer,
              struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(d, &path, "/containers/%s/json", id);
    if (lev_docker_get_members(d, scope, &path, members, answer, err) < 0) {
        return lev_error_wrap(err, "inspect container %.12s", id);
    }
    return 0;
}

int
lev_docker_inspect(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, struct lev_container_state *state,
                   struct lev_error *err)
{
    static const char *const members[] = {"State", "Image", NULL};
    _cleanup_json_ json_t *answer = NULL;
    const char *text;

    if (get_container(lev_docker_of(e), scope, id, members, &answer, err) < 0)
    {
        return -1;
    }
    *state = (struct lev_container_state){0};
    state->running = lev_json_bool(answer, "State.Running", false);
    state->paused = lev_json_bool(answer, "State.Paused", false);
    state->oom_killed = lev_json_bool(answer, "State.OOMKilled", false);
    state->exit_code = (int)lev_json_int(answer, "State.ExitCode", 0);
    state->pid = (pid_t)lev_json_int(answer, "State.Pid", 0);
    state->started = lev_docker_time(lev_json_str(answer, "State.StartedAt"));
    state->finished =
        lev_docker_time(lev_json_str(answer, "State.FinishedAt"));
    /* Docker notes the start when it has heard of it: a short process may
     * have ended before. */
    if (state->finished != 0 && state->started > state->finished) {
        state->started = state->finished;
    }
    /* Its cgroup is gone with the container, and "stats" is empty then. */
    state->peak_memory = -1;
    text = lev_json_str(answer, "State.Error");
    snprintf(state->error, sizeof(state->error), "%s",
             text == NULL ? "" : text);
    text = lev_json_str(answer, "Image");
    snprintf(state->image_id, sizeof(state->image_id), "%s",
             text == NULL ? "" : text);
    return 0;
}

static int
copy_address(const char *text, char address[64])
{
    if (text == NULL || *text == '\0') {
        return -1;
    }
    snprintf(address, 64, "%s", text);
    return 0;
}

/* The first address of the subnet, as the bridge driver chooses it, where the
 * engine does not tell the gateway. */
static int
first_of_subnet(const char *subnet, char address[64])
{
    unsigned a, b, c, d, bits;

    if (subnet == NULL ||
        sscanf(subnet, "%u.%u.%u.%u/%u", &a, &b, &c, &d, &bits) != 5)
    {
        return -1;
    }
    snprintf(address, 64, "%u.%u.%u.%u", a, b, c, d + 1);
    return 0;
}

static int
get_network(struct lev_docker *d, const struct lev_scope *scope,
            const char *name, json_t **answer, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(d, &path, "/networks/%s", name);
    if (lev_docker_call(d, scope, "GET", &path, NULL, answer, err) < 0) {
        return lev_error_wrap(err, "inspect network %.64s", name);
    }
    return 0;
}

static int
gateway(struct lev_docker *d, const struct lev_scope *scope,
        const char *network, char address[64], struct lev_error *err)
{
    const char *name = network == NULL ? "bridge" : network;
    _cleanup_json_ json_t *answer = NULL;

    if (get_network(d, scope, name, &answer, err) < 0) {
        return -1;
    }
    if (copy_address(lev_json_str(answer, "IPAM.Config.0.Gateway"), address) <
            0 &&
        first_of_subnet(lev_json_str(answer, "IPAM.Config.0.Subnet"),
                        address) < 0)
    {
        return lev_error_set(err, LEV_E_NOT_FOUND, 0,
                             "network %s has no gateway", name);
    }
    return 0;
}

/* By name, or by id in its endpoint; the first that has one without `network`.
 */
static const char *
address_in(const json_t *networks, const char *network)
{
    const char *name;
    json_t *endpoint;

    json_object_foreach((json_t *)networks, name, endpoint)
    {
        const char *id = lev_json_str(endpoint, "NetworkID");
        const char *address = lev_json_str(endpoint, "IPAddress");

        if (address == NULL || *address == '\0') {
            continue;
        }
        if (network == NULL || strcmp(network, name) == 0 ||
            (id != NULL && strcmp(network, id) == 0))
        {
            return address;
        }
    }
    return NULL;
}

/* Podman's endpoints have no network's id: its name is asked for. */
static int
find_address(struct lev_docker *d, const struct lev_scope *scope,
             const json_t *networks, const char *network, char address[64],
             struct lev_error *err)
{
    _cleanup_json_ json_t *answer = NULL;

    if (copy_address(address_in(networks, network), address) == 0) {
        return 1;
    }
    if (network == NULL || !d->podman) {
        return 0;
    }
    if (get_network(d, scope, network, &answer, err) < 0) {
        return -1;
    }
    network = lev_json_str(answer, "Name");
    return network != NULL &&
           copy_address(address_in(networks, network), address) == 0;
}

int
lev_docker_address(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, const char *network, char address[64],
                   struct lev_error *err)
{
    static const char *const members[] = {"HostConfig", "NetworkSettings",
                                          "State", NULL};
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_json_ json_t *answer = NULL;
    const char *mode;
    int found;

    if (get_container(d, scope, id, members, &answer, err) < 0) {
        return -1;
    }
    mode = lev_json_str(answer, "HostConfig.NetworkMode");
    if (mode != NULL && strcmp(mode, "host") == 0) {
        return gateway(d, scope, network, address, err);
    }
    found = find_address(d, scope,
                         lev_json_get(answer, "NetworkSettings.Networks"),
                         network, address, err);
    if (found == 0) {
        return lev_error_set(err, LEV_E_NOT_FOUND, 0,
                             "container %.12s has no address on network %s%s",
                             id, network == NULL ? "(any)" : network,
                             lev_json_bool(answer, "State.Running", false)
                                 ? ""
                                 : ": it does not run (any more)");
    }
    return found < 0 ? -1 : 0;
}

void
lev_port_set(struct lev_port *port, const char *key, const json_t *binding)
{
    const char *ip = lev_json_str(binding, "HostIp");
    const char *number = lev_json_str(binding, "HostPort");

    snprintf(port->key, sizeof(port->key), "%s", key);
    snprintf(port->host_ip, sizeof(port->host_ip), "%s",
             ip == NULL || *ip == '\0' ? "0.0.0.0" : ip);
    port->host_port = (uint16_t)(number == NULL ? 0 : atoi(number));
}

int
lev_docker_published(struct lev_engine *e, const struct lev_scope *scope,
                     const char *id, struct lev_port **ports, size_t *n,
                     struct lev_error *err)
{
    static const char *const members[] = {"NetworkSettings", NULL};
    _cleanup_json_ json_t *answer = NULL;
    json_t *bindings, *all;
    const char *key;
    size_t count = 0;

    if (get_container(lev_docker_of(e), scope, id, members, &answer, err) < 0)
    {
        return -1;
    }
    bindings = lev_json_get(answer, "NetworkSettings.Ports");
    json_object_foreach(bindings, key, all) /* null: exposed alone */
    {
        count += json_array_size(all);
    }
    *n = 0;
    *ports = calloc(count + 1, sizeof(**ports));
    if (*ports == NULL) {
        return lev_error_nomem(err, "ports");
    }
    json_object_foreach(bindings, key, all)
    {
        json_t *one;
        size_t i;

        json_array_foreach(all, i, one)
        {
            lev_port_set(&(*ports)[(*n)++], key, one);
        }
    }
    return 0;
}

/* Somebody else's removal is under way: wait until the container is gone. */
static int
wait_gone(struct lev_docker *d, const struct lev_scope *scope, const char *id,
          struct lev_error *err)
{
    static const char *const members[] = {"Id", NULL};
    int64_t nap = 5 * LEV_MS;

    for (;;) {
        _cleanup_json_ json_t *answer = NULL;

        if (get_container(d, scope, id, members, &answer, err) < 0) {
            return err->detail == 404 ? 0 : -1;
        }
        if (lev_scope_sleep(scope, nap, err) < 0) {
            return lev_error_wrap(err, "its removal was under way already");
        }
        nap = nap * 2 < GONE_NAP_MAX ? nap * 2 : GONE_NAP_MAX;
    }
}

int
lev_docker_remove(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};
    int rc;

    lev_docker_path(d, &path, "/containers/%s?force=1&v=1", id);
    rc = lev_docker_call(d, scope, "DELETE", &path, NULL, NULL, err);
    if (rc < 0 && err->detail == 409 &&
        strstr(err->msg, "already in progress") != NULL)
    {
        rc = wait_gone(d, scope, id, err);
    }
    if (rc < 0 && err->detail != 404) {
        return lev_error_wrap(err, "remove container %.12s", id);
    }
    return 0;
}

int
lev_docker_list(struct lev_engine *e, const struct lev_scope *scope,
                const char *label, struct lev_listed **list,
                struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    struct lev_listed *all = NULL, **end = &all;
    json_t *item;
    size_t i;

    lev_docker_path(d, &path, "/containers/json?all=1");
    if (lev_docker_filter(&path, label, err) < 0 ||
        lev_docker_call(d, scope, "GET", &path, NULL, &answer, err) < 0)
    {
        return lev_error_wrap(err, "list containers");
    }
    json_array_foreach(answer, i, item)
    {
        const char *name = lev_json_str(item, "Names.0");

        name = name != NULL && *name == '/' ? name + 1 : name;
        if (lev_docker_list_add(&end, lev_json_str(item, "Id"), name, NULL,
                                json_object_get(item, "Labels"), err) < 0)
        {
            lev_listed_free(all);
            return -1;
        }
    }
    *list = all;
    return 0;
}
