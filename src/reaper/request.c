#include "reaper.h"

#include <arpa/inet.h>
#include <string.h>

void
reply(int fd, json_t *body, int extra_fd)
{
    _cleanup_json_ json_t *owned = body;
    _cleanup_close_ int socket = fd;
    const struct lev_scope at_once = {0, NULL};
    struct lev_error err;

    /* The socket is new and empty; who has gone away meanwhile gets nothing.
     */
    if (fd >= 0 && body != NULL) {
        lev_packet_send(fd, &at_once, body, &extra_fd, extra_fd >= 0 ? 1 : 0,
                        &err);
    }
}

void
reply_error(int fd, const struct lev_error *err)
{
    reply(fd,
          json_pack("{s:s, s:i, s:i}", "error", err->msg, "code",
                    (int)err->code, "detail", err->detail),
          -1);
}

/* One operation: 0 with `*answer` (NULL: it is given later, by whom has taken
 * the reply's descriptor over), or -1. */
typedef int operation(struct reaper *r, struct lev_packet *p,
                      struct container *c, json_t **answer, int *extra_fd,
                      struct lev_error *err);

static int
do_create(struct reaper *r, struct lev_packet *p, struct container *c,
          json_t **answer, int *extra_fd, struct lev_error *err)
{
    if (c != NULL) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "there is a container %s already", c->name);
    }
    return container_create(r, p->body, extra_fd, answer, err);
}

static int
do_start(struct reaper *r, struct lev_packet *p, struct container *c,
         json_t **answer, int *extra_fd, struct lev_error *err)
{
    if ((c->state != CREATED && c->state != ENDED) || c->removing) {
        return lev_error_set(
            err, LEV_E_CONFLICT, 409, "container %s %s", c->name,
            c->removing ? "is being removed" : "runs already");
    }
    if (p->n != 5) {
        return lev_error_set(err, LEV_E_INVALID, 0, "start: 5 descriptors");
    }
    if (c->state == ENDED && container_renew(c, err) < 0) {
        return -1;
    }
    return process_start(c, 0, p->fds + 1, p->fds[0], err);
}

static int
do_exec(struct reaper *r, struct lev_packet *p, struct container *c,
        json_t **answer, int *extra_fd, struct lev_error *err)
{
    int64_t number = lev_json_int(p->body, "number", 0);

    if (c->state != RUNNING || c->removing || c->paused) {
        return lev_error_set(err, LEV_E_CONFLICT, 409, "container %s %s",
                             c->name,
                             c->paused ? "is paused" : "is not running");
    }
    if (p->n != 5 || number < 1 || number > INT32_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0, "exec: 5 descriptors");
    }
    return process_start(c, (unsigned)number, p->fds + 1, p->fds[0], err);
}

static int
do_signal(struct reaper *r, struct lev_packet *p, struct container *c,
          json_t **answer, int *extra_fd, struct lev_error *err)
{
    int signo = (int)lev_json_int(p->body, "signo", 0);

    /* Its first process is our child, so the number is its own until we have
     * reaped it. */
    if (c->state != RUNNING || c->pid <= 0) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "container %s is not running", c->name);
    }
    if (container_signal(c, signo, err) < 0) {
        return -1;
    }
    *answer = json_object();
    return 0;
}

static int
do_pause(struct reaper *r, struct lev_packet *p, struct container *c,
         json_t **answer, int *extra_fd, struct lev_error *err)
{
    bool on = lev_json_bool(p->body, "on", true);
    char cgroup[LEV_PATH_MAX];

    if (c->state != RUNNING) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "container %s is not running", c->name);
    }
    container_cgroup(c, cgroup);
    if (lev_cgroup_freeze(&r->cgroups, cgroup, on, err) < 0) {
        return -1;
    }
    c->paused = on;
    *answer = json_object();
    return 0;
}

static int
do_inspect(struct reaper *r, struct lev_packet *p, struct container *c,
           json_t **answer, int *extra_fd, struct lev_error *err)
{
    static const char *const states[] = {"created", "starting", "running",
                                         "ended"};
    int64_t peak = c->peak;
    char cgroup[LEV_PATH_MAX];
    bool oom = c->oom;

    if (c->state == RUNNING) {
        container_cgroup(c, cgroup);
        lev_cgroup_memory(&r->cgroups, cgroup, &peak, &oom);
    }
    *answer = json_pack("{s:s, s:i, s:i, s:b, s:I, s:I, s:I, s:b}", "state",
                        states[c->state], "pid", (int)c->pid, "code", c->code,
                        "oom", oom, "peak", (json_int_t)peak, "started",
                        (json_int_t)c->started, "finished",
                        (json_int_t)c->finished, "paused", c->paused);
    return 0;
}

static int
do_remove(struct reaper *r, struct lev_packet *p, struct container *c,
          json_t **answer, int *extra_fd, struct lev_error *err)
{
    container_remove(c, lev_steal_fd(&p->fds[0]));
    return 0;
}

static int
read_bridge(const struct lev_packet *p, const char **name,
            struct in_addr *gateway, unsigned *prefix, struct lev_error *err)
{
    const char *text = lev_json_str(p->body, "gateway");

    *name = lev_json_str(p->body, "bridge");
    *prefix = (unsigned)lev_json_int(p->body, "prefix", 0);
    if (*name == NULL || strlen(*name) > 8 || *prefix < 8 || *prefix > 30 ||
        text == NULL || inet_pton(AF_INET, text, gateway) != 1)
    {
        return lev_error_set(err, LEV_E_INVALID, 0, "network: bad request");
    }
    return 0;
}

static int
do_network(struct reaper *r, struct lev_packet *p, struct container *c,
           json_t **answer, int *extra_fd, struct lev_error *err)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    char host[INET_ADDRSTRLEN];
    struct in_addr gateway, seen;
    const char *name;
    unsigned prefix;

    if (read_bridge(p, &name, &gateway, &prefix, err) < 0) {
        return -1;
    }
    if (r->net == NULL) {
        r->net = lev_net_open(r->tag, &forever, err);
    }
    if (r->net == NULL ||
        lev_net_bridge_add(r->net, name, gateway, prefix, err) < 0)
    {
        return -1;
    }
    seen = lev_net_host(r->net);
    inet_ntop(AF_INET, &seen, host, sizeof(host));
    *answer = json_pack("{s:s}", "host", host);
    return 0;
}

static int
do_unnetwork(struct reaper *r, struct lev_packet *p, struct container *c,
             json_t **answer, int *extra_fd, struct lev_error *err)
{
    struct in_addr gateway;
    const char *name;
    unsigned prefix;

    if (read_bridge(p, &name, &gateway, &prefix, err) < 0) {
        return -1;
    }
    if (r->net != NULL) {
        lev_net_bridge_remove(r->net, name, gateway, prefix);
    }
    *answer = json_object();
    return 0;
}

static int
do_gc(struct reaper *r, struct lev_packet *p, struct container *c,
      json_t **answer, int *extra_fd, struct lev_error *err)
{
    const struct sweep_report report = {
        .found = json_array(),
        .dry = lev_json_bool(p->body, "dry", true),
    };

    sweep_dead(r, &report);
    *answer = json_pack("{s:o}", "found", report.found);
    return 0;
}

static const struct {
    const char *name;
    operation *run;
    enum { NO_CONTAINER, ANY_CONTAINER, CONTAINER } needs;
} operations[] = {
    {"create", do_create, ANY_CONTAINER},
    {"start", do_start, CONTAINER},
    {"exec", do_exec, CONTAINER},
    {"signal", do_signal, CONTAINER},
    {"pause", do_pause, CONTAINER},
    {"inspect", do_inspect, CONTAINER},
    {"remove", do_remove, CONTAINER},
    {"network", do_network, NO_CONTAINER},
    {"unnetwork", do_unnetwork, NO_CONTAINER},
    {"gc", do_gc, NO_CONTAINER},
};

/* A name is a component of paths. */
static bool
is_name(const char *name)
{
    return name != NULL && *name != '\0' && *name != '.' &&
           strlen(name) < 200 && strchr(name, '/') == NULL;
}

static int
dispatch(struct reaper *r, struct lev_packet *p, json_t **answer,
         int *extra_fd, struct lev_error *err)
{
    const char *op = lev_json_str(p->body, "op");
    const char *name = lev_json_str(p->body, "name");
    struct container *c = NULL;

    for (size_t i = 0; op != NULL && i < LEV_ARRAY_LEN(operations); i++) {
        if (strcmp(op, operations[i].name) != 0) {
            continue;
        }
        if (operations[i].needs != NO_CONTAINER) {
            if (!is_name(name)) {
                return lev_error_set(err, LEV_E_INVALID, 0, "%s: bad name",
                                     op);
            }
            c = container_find(r, name);
        }
        if (operations[i].needs == CONTAINER && c == NULL) {
            return lev_error_set(err, LEV_E_NOT_FOUND, 404,
                                 "there is no container %s", name);
        }
        return operations[i].run(r, p, c, answer, extra_fd, err);
    }
    return lev_error_set(err, LEV_E_INVALID, 0, "unknown request %.40s",
                         op == NULL ? "" : op);
}

static void
adopt(struct reaper *r, const json_t *body)
{
    const char *op = lev_json_str(body, "op");
    const char *path = lev_json_str(body, "path");

    if (op != NULL && strcmp(op, "adopt") == 0 && path != NULL &&
        r->adopted_n < LEV_ADOPTED_MAX)
    {
        r->adopted[r->adopted_n] = strdup(path);
        r->adopted_n += r->adopted[r->adopted_n] != NULL;
    }
}

void
request_serve(struct reaper *r, struct lev_packet *p)
{
    _cleanup_close_ int extra_fd = -1;
    json_t *answer = NULL;
    struct lev_error err;

    if (p->n == 0) { /* nobody to answer to */
        adopt(r, p->body);
        return;
    }
    if (dispatch(r, p, &answer, &extra_fd, &err) < 0) {
        reply_error(lev_steal_fd(&p->fds[0]), &err);
    }
    else if (answer != NULL) {
        reply(lev_steal_fd(&p->fds[0]), answer, extra_fd);
    }
}
