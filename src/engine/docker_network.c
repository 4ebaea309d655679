#include "docker.h"

#include <string.h>

#define CREATE_TIMEOUT (30 * LEV_SECOND)

static json_t *
create_body(const char *name, const char *subnet, const char *const *labels,
            struct lev_error *err)
{
    _cleanup_json_ json_t *object = lev_docker_labels(labels, err), *body;

    if (object == NULL) {
        return NULL;
    }
    body = json_pack("{s:s, s:s, s:b, s:O}", "Name", name, "Driver", "bridge",
                     "CheckDuplicate", 1, "Labels", object);
    if (body != NULL && subnet != NULL) {
        json_t *ipam = json_pack("{s:[{s:s}]}", "Config", "Subnet", subnet);

        if (json_object_set_new(body, "IPAM", ipam) < 0) {
            json_decref(body);
            body = NULL;
        }
    }
    if (body == NULL) {
        lev_error_nomem(err, "network");
    }
    return lev_steal(body);
}

/* Without an answer the network may be there all the same, or come to be. */
static void
remove_unanswered(struct lev_docker *d, const char *name)
{
    struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope = lev_scope_within(&forever, CREATE_TIMEOUT);
    struct lev_error err;

    if (lev_docker_network_remove(&d->base, &scope, name, &err) < 0) {
        lev_log(d->base.log, LEV_WARNING, "lev.engine", "%s", err.msg);
    }
}

/* Not cut short by a cancellation: the engine would make it nevertheless, and
 * nobody would know its id. */
int
lev_docker_network_create(struct lev_engine *e, const struct lev_scope *scope,
                          const char *name, const char *subnet,
                          const char *const *labels, char **id,
                          struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    struct lev_scope whole = {scope->deadline, NULL};
    struct lev_scope bounded = lev_scope_within(&whole, CREATE_TIMEOUT);
    _cleanup_json_ json_t *body = NULL;
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct lev_buf path = {0};
    const char *text;

    if (lev_scope_check(scope, err) < 0) {
        return -1;
    }
    body = create_body(name, subnet, labels, err);
    if (body == NULL) {
        return -1;
    }
    lev_docker_path(d, &path, "/networks/create");
    if (lev_docker_call(d, &bounded, "POST", &path, body, &answer, err) < 0) {
        if (err->detail < 400) {
            remove_unanswered(d, name);
        }
        /* 403 at Docker 20.10, 400 at later ones, 500 at Podman. */
        if (strstr(err->msg, "overlaps") != NULL ||
            strstr(err->msg, "already used") != NULL ||
            strstr(err->msg, "is being used") != NULL)
        {
            err->code = LEV_E_CONFLICT;
        }
        return lev_error_wrap(err, "create network %s%s%s", name,
                              subnet == NULL ? "" : " with subnet ",
                              subnet == NULL ? "" : subnet);
    }
    text = lev_json_str(answer, "Id");
    *id = strdup(text == NULL ? name : text);
    return *id == NULL ? lev_error_nomem(err, "network") : 0;
}

static int
disconnect(struct lev_docker *d, const struct lev_scope *scope,
           const char *network, const char *container, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *body =
        json_pack("{s:s, s:b}", "Container", container, "Force", 1);

    if (body == NULL) {
        return lev_error_nomem(err, "network");
    }
    lev_docker_path(d, &path, "/networks/%s/disconnect", network);
    return lev_docker_call(d, scope, "POST", &path, body, NULL, err);
}

/* What is connected to it, by the container's id, or "ep-…" for an endpoint
 * that has none. */
static int
get_endpoints(struct lev_docker *d, const struct lev_scope *scope,
              const char *id, json_t **endpoints, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;

    lev_docker_path(d, &path, "/networks/%s", id);
    if (lev_docker_call(d, scope, "GET", &path, NULL, &answer, err) < 0) {
        return -1;
    }
    *endpoints = json_incref(json_object_get(answer, "Containers"));
    return 0;
}

/* A container that was removed while it started may leave its endpoint behind,
 * and with it the network. It can be cut off by the name of its container;
 * whoever is really connected stays. */
static int
cut_endpoints(struct lev_docker *d, const struct lev_scope *scope,
              const char *id, struct lev_error *err)
{
    _cleanup_json_ json_t *endpoints = NULL;
    const char *key;
    json_t *endpoint;

    if (get_endpoints(d, scope, id, &endpoints, err) < 0) {
        return -1;
    }
    json_object_foreach(endpoints, key, endpoint)
    {
        const char *name = lev_json_str(endpoint, "Name");

        if (strncmp(key, "ep-", 3) == 0 && name != NULL &&
            disconnect(d, scope, id, name, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* Who is in the way. Docker keeps a number of endpoints beside the endpoints,
 * which containers that start and end at the same time can get wrong
 * (github.com/moby/moby/issues/42119): then nobody is, and nothing helps but
 * its restart, at which it counts anew. */
static void
name_endpoints(struct lev_docker *d, const struct lev_scope *scope,
               const char *id, struct lev_error *err)
{
    _cleanup_json_ json_t *endpoints = NULL;
    _cleanup_buf_ struct lev_buf names = {0};
    struct lev_error why;
    const char *key;
    json_t *endpoint;

    if (get_endpoints(d, scope, id, &endpoints, &why) < 0) {
        return;
    }
    json_object_foreach(endpoints, key, endpoint)
    {
        const char *name = lev_json_str(endpoint, "Name");

        lev_buf_printf(&names, "%s%s", names.len == 0 ? "" : ", ",
                       name == NULL ? key : name);
    }
    if (names.len > 0) {
        lev_error_add(err, "connected to it: %.300s", names.data);
    }
    else {
        lev_error_add(err, "but nothing is connected to it: the engine has "
                           "miscounted, and lets go of it when it is "
                           "restarted");
    }
}

static int
delete_network(struct lev_docker *d, const struct lev_scope *scope,
               const char *id, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(d, &path, "/networks/%s", id);
    if (lev_docker_call(d, scope, "DELETE", &path, NULL, NULL, err) < 0 &&
        err->detail != 404)
    {
        if (strstr(err->msg, "active endpoints") != NULL) {
            err->code = LEV_E_CONFLICT;
        }
        return lev_error_wrap(err, "remove network %.12s", id);
    }
    return 0;
}

int
lev_docker_network_remove(struct lev_engine *e, const struct lev_scope *scope,
                          const char *id, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    struct lev_error why;
    int rc = delete_network(d, scope, id, err);

    /* The engine may still be about to take the last endpoint away itself. */
    for (int64_t nap = 50 * LEV_MS;
         rc < 0 && err->code == LEV_E_CONFLICT && nap < 2 * LEV_SECOND;
         nap *= 2)
    {
        if (lev_scope_sleep(scope, nap, &why) < 0 ||
            cut_endpoints(d, scope, id, &why) < 0)
        {
            return -1;
        }
        rc = delete_network(d, scope, id, err);
    }
    if (rc < 0 && err->code == LEV_E_CONFLICT) {
        name_endpoints(d, scope, id, err);
    }
    return rc;
}

int
lev_docker_network_list(struct lev_engine *e, const struct lev_scope *scope,
                        const char *label, struct lev_listed **list,
                        struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    struct lev_listed *all = NULL, **end = &all;
    json_t *item;
    size_t i;

    lev_docker_path(d, &path, "/networks");
    if (lev_docker_filter(&path, label, err) < 0 ||
        lev_docker_call(d, scope, "GET", &path, NULL, &answer, err) < 0)
    {
        return lev_error_wrap(err, "list networks");
    }
    json_array_foreach(answer, i, item)
    {
        if (lev_docker_list_add(&end, lev_json_str(item, "Id"),
                                lev_json_str(item, "Name"),
                                lev_json_str(item, "IPAM.Config.0.Subnet"),
                                json_object_get(item, "Labels"), err) < 0)
        {
            lev_listed_free(all);
            return -1;
        }
    }
    *list = all;
    return 0;
}
