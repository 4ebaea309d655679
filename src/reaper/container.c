#include "reaper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tree.h"

#define KILL_FIRST                                                            \
    4 /* steps of its removal before its groups are searched                  \
       */

struct container *
container_find(const struct reaper *r, const char *name)
{
    struct container *c = r->containers;

    while (c != NULL && strcmp(c->name, name) != 0) {
        c = c->next;
    }
    return c;
}

void
container_path(const struct container *c, char path[LEV_PATH_MAX])
{
    reaper_path(c->reaper, path, LEV_BUNDLES "/%s", c->name);
}

void
container_cgroup(const struct container *c, char path[LEV_PATH_MAX])
{
    snprintf(path, LEV_PATH_MAX, "levrt-%s/%s", c->reaper->tag, c->name);
}

/* ---- its root ---- */

/* The kernel takes a page of options, in which ":" and "," mean something:
 * every directory is named by a link of two or three characters. */
static int
make_links(const struct container *c, const json_t *lower,
           struct lev_error *err)
{
    char links[LEV_PATH_MAX], at[LEV_PATH_MAX + 32], to[LEV_PATH_MAX];
    json_t *item;
    size_t i;

    reaper_path(c->reaper, links, "state/%s.d", c->name);
    if (mkdir(links, 0700) < 0) {
        return lev_error_errno(err, "%s", links);
    }
    json_array_foreach(lower, i, item)
    {
        snprintf(at, sizeof(at), "%s/%zu", links, i);
        if (symlink(json_string_value(item), at) < 0) {
            return lev_error_errno(err, "%s", at);
        }
    }
    snprintf(at, sizeof(at), "%s/u", links);
    reaper_path(c->reaper, to, "containers/%s/upper", c->name);
    if (symlink(to, at) < 0) {
        return lev_error_errno(err, "%s", at);
    }
    snprintf(at, sizeof(at), "%s/w", links);
    reaper_path(c->reaper, to, "containers/%s/work", c->name);
    return symlink(to, at) < 0 ? lev_error_errno(err, "%s", at) : 0;
}

static void
no_overlay(int code, struct lev_error *err)
{
    static const char what[] = "mount the container's root by overlayfs";

    if (code == ENODEV) {
        lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, code,
                      "%s: this kernel has none: load its module (modprobe "
                      "overlay)",
                      what);
        return;
    }
    lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, code,
                  "%s: %s; the store must be on a file system that can be an "
                  "upper layer (ext4, xfs, btrfs, tmpfs), not on overlayfs "
                  "or NFS: choose another directory (oci:/DIR)",
                  what, strerrordesc_np(code));
}

/* The image's layers come lowest first, overlayfs wants the highest first. */
static int
mount_overlay(const char *links, size_t layers, const char *target,
              struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf options = {0};
    int rc;

    lev_buf_puts(&options, "volatile,upperdir=u,workdir=w,lowerdir=");
    for (size_t i = layers; i > 0; i--) {
        lev_buf_printf(&options, "%s%zu", i == layers ? "" : ":", i - 1);
    }
    if (lev_buf_check(&options, "mount options", err) < 0) {
        return -1;
    }
    if (chdir(links) < 0) {
        return lev_error_errno(err, "%s", links);
    }
    rc = mount("overlay", target, "overlay", 0, options.data);
    if (rc < 0 && errno == EINVAL) { /* before Linux 5.10 */
        rc = mount("overlay", target, "overlay", 0,
                   strchr(options.data, ',') + 1);
    }
    if (rc < 0) {
        no_overlay(errno, err);
    }
    return chdir("/") < 0 ? lev_error_errno(err, "chdir") : rc;
}

static int
mount_root(struct container *c, const json_t *lower, int *root_fd,
           struct lev_error *err)
{
    char links[LEV_PATH_MAX], root[LEV_PATH_MAX];

    reaper_path(c->reaper, root, LEV_BUNDLES "/%s/root", c->name);
    reaper_path(c->reaper, links, "state/%s.d", c->name);
    if (make_links(c, lower, err) < 0 ||
        mount_overlay(links, json_array_size(lower), root, err) < 0)
    {
        return -1;
    }
    c->mounted = true;
    *root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *root_fd < 0 ? lev_error_errno(err, "%s", root) : 0;
}

/* ---- its networks ---- */

static int
read_address(const json_t *v, const char *key, struct in_addr *to,
             struct lev_error *err)
{
    const char *text = lev_json_str(v, key);

    if (text == NULL || inet_pton(AF_INET, text, to) != 1) {
        return lev_error_set(err, LEV_E_INVALID, 0, "no address as %s", key);
    }
    return 0;
}

static int
join_one(struct container *c, const json_t *v, struct lev_error *err)
{
    struct lev_net_endpoint end = {
        .bridge = lev_json_str(v, "bridge"),
        .interface = lev_json_str(v, "interface"),
        .mac = lev_json_str(v, "mac"),
        .prefix = (unsigned)lev_json_int(v, "prefix", 0),
        .is_default = lev_json_bool(v, "default", false),
    };

    if (end.bridge == NULL || end.interface == NULL ||
        read_address(v, "address", &end.address, err) < 0 ||
        read_address(v, "gateway", &end.gateway, err) < 0)
    {
        return lev_error_set(err, LEV_E_INVALID, 0, "create: bad network");
    }
    if (c->reaper->net == NULL) {
        return lev_error_set(err, LEV_E_NOT_FOUND, 404, "no such network");
    }
    if (c->places_n == LEV_PLACES_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "create: too many "
                             "networks");
    }
    if (lev_net_join(c->reaper->net, c->ns, &end, &c->places[c->places_n],
                     err) < 0)
    {
        return -1;
    }
    c->places_n++;
    return 0;
}

static int
join_networks(struct container *c, const json_t *networks,
              struct lev_error *err)
{
    json_t *item;
    size_t i;

    if (!json_is_array(networks)) {
        return 0;
    }
    c->ns = lev_netns_create(err);
    if (c->ns < 0) {
        return -1;
    }
    json_array_foreach(networks, i, item)
    {
        if (join_one(c, item, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- its life ---- */

static void
container_free(struct container *c)
{
    struct container **at = &c->reaper->containers;

    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    ports_withdraw(c);
    lev_closep(&c->ns);
    for (size_t i = 0; i < c->places_n; i++) {
        lev_net_leave(c->reaper->net, &c->places[i]);
    }
    free(c->waiting);
    free(c->name);
    free(c);
}

static void
clean_up_files(struct container *c)
{
    struct lev_error err;
    char path[LEV_PATH_MAX];

    if (c->mounted) {
        container_path(c, path);
        strncat(path, "/root", sizeof(path) - strlen(path) - 1);
        umount2(path, MNT_DETACH);
        c->mounted = false;
    }
    snprintf(path, sizeof(path), "state/runtime/%s", c->name);
    lev_tree_remove(c->reaper->session_fd, path, &err);
    snprintf(path, sizeof(path), "state/%s.d", c->name);
    lev_tree_remove(c->reaper->session_fd, path, &err);
}

int
container_create(struct reaper *r, const json_t *request, int *root_fd,
                 json_t **answer, struct lev_error *err)
{
    _cleanup_json_ json_t *ports = json_array();
    struct container *c = calloc(1, sizeof(*c));

    if (c == NULL || (c->name = strdup(lev_json_str(request, "name"))) == NULL)
    {
        free(c);
        return lev_error_nomem(err, "container");
    }
    c->reaper = r;
    c->ns = -1;
    c->peak = -1;
    c->shares_pids = lev_json_bool(request, "shares_pids", false);
    c->next = r->containers;
    r->containers = c;
    if (mount_root(c, lev_json_get(request, "lower"), root_fd, err) < 0 ||
        join_networks(c, lev_json_get(request, "networks"), err) < 0 ||
        ports_publish(c, request, ports, err) < 0)
    {
        lev_closep(root_fd);
        clean_up_files(c);
        container_free(c);
        return -1;
    }
    *answer =
        c->ns < 0
            ? json_object()
            : json_pack("{s:o, s:O}", "netns",
                        json_sprintf("/proc/%d/fd/%d", (int)getpid(), c->ns),
                        "ports", ports);
    return 0;
}

/* The runtime tells of the start before its child has become the init; until
 * that takes the signals that it hands on, a process 1 just loses them. It
 * changes its name then (launcher.h: LEV_INIT_READY). */
static bool
init_listens(const struct container *c)
{
    _cleanup_fclose_ FILE *f = NULL;
    char name[64] = "";

    snprintf(name, sizeof(name), "/proc/%d/comm", (int)c->pid);
    f = fopen(name, "re");
    return f != NULL && fgets(name, sizeof(name), f) != NULL &&
           strcmp(name, "lev-init\n") == 0;
}

int
container_signal(struct container *c, int signo, struct lev_error *err)
{
    if (signo < 1 || signo > 64) {
        return lev_error_set(err, LEV_E_INVALID, 0, "there is no signal %d",
                             signo);
    }
    if (signo == SIGKILL || (c->signals == 0 && init_listens(c))) {
        return kill(c->pid, signo) < 0
                   ? lev_error_errno(err, "signal %d", signo)
                   : 0;
    }
    c->signals |= 1ull << (signo - 1);
    return 0;
}

bool
container_deliver(struct container *c)
{
    if (c->pid <= 0) {
        c->signals = 0;
    }
    if (c->signals == 0 || !init_listens(c)) {
        return c->signals != 0;
    }
    for (int i = 1; i <= 64; i++) {
        if (c->signals & 1ull << (i - 1)) {
            kill(c->pid, i);
        }
    }
    c->signals = 0;
    return false;
}

static bool
is_starting(const struct container *c)
{
    for (const struct process *p = c->processes; p != NULL; p = p->next) {
        if (p->runtime > 0) {
            return true;
        }
    }
    return false;
}

static void
kill_all(struct container *c)
{
    char cgroup[LEV_PATH_MAX];

    container_cgroup(c, cgroup);
    lev_cgroup_kill(&c->reaper->cgroups, cgroup);
    for (struct process *p = c->processes; p != NULL; p = p->next) {
        process_kill(p);
    }
}

/* What suffices nearly always. */
static bool
kill_at_once(struct container *c)
{
    char cgroup[LEV_PATH_MAX];

    if (c->processes == NULL && !c->shares_pids) {
        return true; /* its end has taken the others with it */
    }
    container_cgroup(c, cgroup);
    return lev_cgroup_kill_at_once(&c->reaper->cgroups, cgroup);
}

/* To look through all groups is dear where a thousand containers end. */
static void
kill_again(struct container *c)
{
    if (c->steps++ >= c->next_kill) {
        kill_all(c);
        c->next_kill = 2 * c->steps;
    }
}

int
container_renew(struct container *c, struct lev_error *err)
{
    char cgroup[LEV_PATH_MAX], path[LEV_PATH_MAX];

    container_cgroup(c, cgroup);
    if (!lev_cgroup_remove(&c->reaper->cgroups, cgroup)) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "container %s still has processes of before",
                             c->name);
    }
    snprintf(path, sizeof(path), "state/runtime/%s", c->name);
    if (lev_tree_remove(c->reaper->session_fd, path, err) < 0) {
        return -1;
    }
    c->code = c->oom = 0;
    c->peak = -1;
    c->started = c->finished = 0;
    c->signals = 0;
    c->paused = false;
    return 0;
}

void
container_remove(struct container *c, int reply_fd)
{
    int *more;

    if (reply_fd >= 0) {
        more = realloc(c->waiting, (c->waiting_n + 1) * sizeof(*more));
        if (more == NULL) {
            close(reply_fd); /* heard as the helper's end; asked again */
        }
        else {
            c->waiting = more;
            c->waiting[c->waiting_n++] = reply_fd;
        }
    }
    if (!c->removing) {
        c->removing = true;
        c->next_kill = c->paused || !kill_at_once(c) ? 0 : KILL_FIRST;
    }
}

/* In this order: a runtime that is killed half-way leaves a container that
 * nobody knows, so its end is waited for; then no process may be left; then
 * mounts, state and cgroups go. */
bool
container_step(struct container *c)
{
    char cgroup[LEV_PATH_MAX];

    if (!c->removing || is_starting(c)) {
        return false;
    }
    container_cgroup(c, cgroup);
    if (c->processes != NULL ||
        !lev_cgroup_remove(&c->reaper->cgroups, cgroup)) {
        kill_again(c);
        return false;
    }
    clean_up_files(c);
    ports_withdraw(c);
    for (size_t i = 0; i < c->waiting_n; i++) {
        reply(c->waiting[i], json_object(), -1);
    }
    container_free(c);
    return true;
}
