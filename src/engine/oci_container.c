#include "oci.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "docker.h"
#include "options.h"
#include "owner.h"
#include "tree.h"

#define CREATE_TIMEOUT (30 * LEV_SECOND)
#define HOSTNAME_DIGITS 12

int
lev_oci_random_hex(char *out, size_t digits, struct lev_error *err)
{
    static const char alphabet[] = "0123456789abcdef";
    unsigned char raw[64];

    if (getrandom(raw, digits, 0) != (ssize_t)digits) {
        return lev_error_errno(err, "getrandom");
    }
    for (size_t i = 0; i < digits; i++) {
        out[i] = alphabet[raw[i] & 15];
    }
    out[digits] = '\0';
    return 0;
}

/* ---- references ---- */

void
lev_oci_container_unref(struct lev_oci_container *c)
{
    if (c == NULL || --c->refs > 0) {
        return;
    }
    lev_closep(&c->root);
    lev_stored_image_deinit(&c->image);
    json_decref(c->process);
    json_decref(c->ports);
    free(c->name);
    free(c->dir);
    free(c->bundle);
    free(c);
}

void
lev_oci_container_unrefp(struct lev_oci_container **c)
{
    lev_oci_container_unref(*c);
}

struct lev_oci_container *
lev_oci_find(struct lev_oci *o, const char *id, struct lev_error *err)
{
    struct lev_oci_container *c;

    pthread_mutex_lock(&o->mutex);
    c = o->containers;
    while (c != NULL && strcmp(c->name, id) != 0) {
        c = c->next;
    }
    if (c != NULL) {
        c->refs++;
    }
    pthread_mutex_unlock(&o->mutex);
    if (c == NULL) {
        lev_error_set(err, LEV_E_NOT_FOUND, 404,
                      "there is no container %s in this session", id);
    }
    return c;
}

static void
delist(struct lev_oci *o, struct lev_oci_container *c)
{
    struct lev_oci_container **at;

    pthread_mutex_lock(&o->mutex);
    for (at = &o->containers; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    pthread_mutex_unlock(&o->mutex);
}

/* ---- its directory ---- */

/* The name is everybody's who uses the store: whoever makes the link has it.
 */
static int
take_name(struct lev_oci *o, const char *name, struct lev_error *err)
{
    char path[LEV_OCI_PATH_MAX], target[LEV_OCI_PATH_MAX];

    snprintf(path, sizeof(path), "%s/names/%s", o->dir, name);
    snprintf(target, sizeof(target), "../sessions/%s/containers/%s", o->tag,
             name);
    if (symlink(target, path) == 0) {
        return 0;
    }
    if (errno != EEXIST) {
        return lev_error_errno(err, "make %s", path);
    }
    return lev_error_set(err, LEV_E_CONFLICT, 409,
                         "the name %s is already in use by another container",
                         name);
}

static void
give_name_back(struct lev_oci *o, const char *name)
{
    char path[LEV_OCI_PATH_MAX];

    snprintf(path, sizeof(path), "%s/names/%s", o->dir, name);
    unlink(path);
}

/* The root's own mode and owner are the upper directory's. */
static int
copy_root_mode(const struct lev_stored_image *image, const char *upper,
               struct lev_error *err)
{
    if (chown(upper, image->root_uid, image->root_gid) < 0 ||
        chmod(upper, image->root_mode & 07777) < 0)
    {
        return lev_error_errno(err, "mode of %s", upper);
    }
    return 0;
}

/* What the container writes may be much: it goes to the disk. All else is
 * small, and made and removed with each run: that is in memory. */
static int
make_directories(const struct lev_oci *o, const struct lev_oci_container *c,
                 struct lev_error *err)
{
    char upper[LEV_OCI_PATH_MAX], work[LEV_OCI_PATH_MAX];
    char root[LEV_OCI_PATH_MAX];
    int bundles = lev_helper_bundles(o->helper);

    snprintf(upper, sizeof(upper), "%s/upper", c->dir);
    snprintf(work, sizeof(work), "%s/work", c->dir);
    snprintf(root, sizeof(root), "%s/root", c->name);
    if (mkdir(c->dir, 0700) < 0 || mkdir(upper, 0755) < 0 ||
        mkdir(work, 0755) < 0) {
        return lev_error_errno(err, "make %s", c->dir);
    }
    if (mkdirat(bundles, c->name, 0700) < 0 ||
        mkdirat(bundles, root, 0755) < 0) {
        return lev_error_errno(err, "make the bundle %s", c->bundle);
    }
    return copy_root_mode(&c->image, upper, err);
}

static int
remove_directories(const struct lev_oci *o, const struct lev_oci_container *c,
                   struct lev_error *err)
{
    int rc = lev_tree_remove(lev_helper_bundles(o->helper), c->name, err);

    return lev_tree_remove(AT_FDCWD, c->dir, err) < 0 ? -1 : rc;
}

/* What another process of this user can know about it. */
static int
write_meta(const struct lev_oci_container *c,
           const struct lev_container_spec *spec, const json_t *more,
           struct lev_error *err)
{
    _cleanup_json_ json_t *labels = lev_docker_labels(spec->labels, err);
    _cleanup_json_ json_t *doc = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    char path[LEV_OCI_PATH_MAX];

    if (labels == NULL) {
        return -1;
    }
    if (more != NULL) {
        json_object_update(labels, (json_t *)more);
    }
    json_object_set_new(labels, LEV_LABEL_NAME, json_string(c->name));
    doc = json_pack("{s:s, s:s, s:s, s:O}", "name", c->name, "image",
                    spec->image, "image_id", c->image.id, "labels", labels);
    if (doc == NULL) {
        return lev_error_nomem(err, "container");
    }
    if (lev_json_dump(doc, &text, err) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/meta.json", c->dir);
    return lev_oci_write_file(AT_FDCWD, path, text.data, text.len, err);
}

/* ---- create ---- */

/* What there is while a container is being made. */
struct draft {
    struct lev_oci *o;
    const struct lev_container_spec *spec;
    struct lev_oci_container *c;
    json_t *config, *host; /* the options in the Engine API's form */
    char netns[64], pidns[64];
    bool shares_pids;
    char *files; /* whose hosts, hostname and resolv.conf are used */
};

static void
draft_deinit(struct draft *d)
{
    json_decref(d->config);
    json_decref(d->host);
    free(d->files);
    lev_oci_container_unref(d->c);
}
#define _cleanup_draft_ _cleanup_(draft_deinit)

/* The process 1 of a container of this session that runs. */
static int
running_pid(struct draft *d, const struct lev_scope *scope, const char *option,
            const char *id, pid_t *pid, struct lev_error *err)
{
    struct lev_container_state state;

    if (lev_oci_inspect(&d->o->base, scope, id, &state, err) < 0) {
        return -1;
    }
    if (!state.running) {
        return lev_error_set(err, LEV_E_CONFLICT, 409,
                             "%s: the container %s is not running", option,
                             id);
    }
    *pid = state.pid;
    return 0;
}

/* What it shares besides the network. */
static int
choose_namespaces(struct draft *d, const struct lev_scope *scope,
                  struct lev_error *err)
{
    const char *mode = lev_json_str(d->host, "PidMode");
    const char *ipc = lev_json_str(d->host, "IpcMode");
    pid_t pid;

    if (ipc != NULL && strncmp(ipc, "container:", 10) == 0) {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "engine oci: option 'ipc_mode': one container "
                             "cannot use another one's; 'host' is shared by "
                             "all");
    }
    if (lev_json_str(d->host, "CgroupParent") != NULL) {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "engine oci: option 'cgroup_parent': control "
                             "groups of containers are below their session's");
    }
    d->shares_pids = mode != NULL;
    if (mode == NULL || strcmp(mode, "host") == 0) {
        return 0;
    }
    if (running_pid(d, scope, "pid_mode", mode + 10, &pid, err) < 0) {
        return -1;
    }
    snprintf(d->pidns, sizeof(d->pidns), "/proc/%d/ns/pid", (int)pid);
    return 0;
}

static int
join_other(struct draft *d, const struct lev_scope *scope, const char *id,
           struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *other =
        lev_oci_find(d->o, id, err);
    pid_t pid;

    if (other == NULL ||
        running_pid(d, scope, "network_mode", id, &pid, err) < 0) {
        return -1;
    }
    d->c->net =
        other->net == LEV_OCI_NET_HOST ? LEV_OCI_NET_HOST : LEV_OCI_NET_PATH;
    snprintf(d->netns, sizeof(d->netns), "/proc/%d/ns/net", (int)pid);
    snprintf(d->c->hostname, sizeof(d->c->hostname), "%s", other->hostname);
    d->files = strdup(other->bundle);
    return d->files == NULL ? lev_error_nomem(err, "container") : 0;
}

static int
host_name(struct lev_oci_container *c, struct lev_error *err)
{
    if (gethostname(c->hostname, sizeof(c->hostname) - 1) < 0) {
        return lev_error_errno(err, "gethostname");
    }
    return 0;
}

static int
join_network(struct draft *d, const struct lev_scope *scope, const char *mode,
             struct lev_error *err)
{
    struct lev_network_join join = {mode, NULL};

    d->c->net = LEV_OCI_NET_PATH;
    if (strcmp(mode, "bridge") == 0 || strcmp(mode, "default") == 0) {
        return lev_oci_join_default(d->o, scope, d->c, err);
    }
    return lev_oci_join(d->o, d->c, &join, err);
}

static int
connect_networks(struct draft *d, const struct lev_scope *scope,
                 struct lev_error *err)
{
    const char *mode = lev_oci_network_mode(d->spec, d->host);
    struct lev_oci_container *c = d->c;

    if (mode != NULL && strcmp(mode, "host") == 0) {
        if (lev_oci_publishes(d->host)) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "port_bindings and publish_all_ports have "
                                 "no meaning on the host's network");
        }
        c->net = LEV_OCI_NET_HOST;
        return lev_json_str(d->config, "Hostname") != NULL ? 0
                                                           : host_name(c, err);
    }
    if (mode != NULL && strncmp(mode, "container:", 10) == 0) {
        return join_other(d, scope, mode + 10, err);
    }
    if (mode != NULL && strcmp(mode, "none") != 0) {
        return join_network(d, scope, mode, err);
    }
    if (d->spec->networks_n == 0 && lev_oci_publishes(d->host)) {
        return join_network(d, scope, "bridge", err);
    }
    c->net = d->spec->networks_n > 0 ? LEV_OCI_NET_PATH : LEV_OCI_NET_NONE;
    for (size_t i = 0; i < d->spec->networks_n; i++) {
        if (lev_oci_join(d->o, c, &d->spec->networks[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
call_create(struct draft *d, const struct lev_scope *scope,
            struct lev_error *err)
{
    _cleanup_packet_ struct lev_packet answer = {0};
    struct lev_oci_container *c = d->c;
    json_t *lower = json_array(), *request;
    char base[LEV_OCI_PATH_MAX];
    const char *netns;

    snprintf(base, sizeof(base), "%s/" LEV_OCI_BASE, d->o->dir);
    json_array_append_new(lower, json_string(base));
    for (char **l = c->image.layers; l != NULL && *l != NULL; l++) {
        json_array_append_new(lower, json_string(*l));
    }
    request = json_pack("{s:s, s:s, s:o}", "op", "create", "name", c->name,
                        "lower", lower);
    json_object_set_new(request, "shares_pids", json_boolean(d->shares_pids));
    if (c->ends_n > 0) {
        json_object_set_new(request, "networks", lev_oci_endpoints(c));
    }
    if (c->ends_n > 0 && lev_oci_publishes(d->host)) {
        json_t *ports = lev_oci_ports_wanted(c, d->config, d->host, err);

        if (ports == NULL) {
            json_decref(request);
            return -1;
        }
        json_object_set_new(request, "ports", ports);
    }
    if (lev_helper_call(d->o->helper, scope, request, NULL, 0, &answer, err) <
        0) {
        return -1;
    }
    c->made = true;
    if (answer.n != 1) {
        return lev_error_set(err, LEV_E_ENGINE, 0, "the helper gave no root");
    }
    c->root = lev_steal_fd(&answer.fds[0]);
    lev_oci_ports_taken(d->o, c, lev_json_get(answer.body, "ports"));
    netns = lev_json_str(answer.body, "netns");
    if (netns != NULL) {
        snprintf(d->netns, sizeof(d->netns), "%s", netns);
    }
    return 0;
}

static int
write_config(struct draft *d, struct lev_error *err)
{
    struct lev_oci_container *c = d->c;
    _cleanup_json_ json_t *config = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    const char *ipc = lev_json_str(d->host, "IpcMode");
    char cgroup[300];
    const struct lev_oci_spec s = {
        .spec = d->spec,
        .image = &c->image,
        .config = d->config,
        .host = d->host,
        .root = c->root,
        .bundle = d->files == NULL ? c->bundle : d->files,
        .init = d->o->init,
        .cgroup = cgroup,
        .hostname = c->hostname,
        .net = c->net,
        .netns = d->netns,
        .pidns = d->shares_pids ? d->pidns : NULL,
        .ipc_host = strcmp(ipc == NULL ? "" : ipc, "host") == 0,
        .cache_dir = d->o->cache,
        .takes_bpf = d->o->is_crun,
    };

    snprintf(cgroup, sizeof(cgroup), "/levrt-%s/%s", d->o->tag, c->name);
    config = lev_oci_spec_build(&s, err);
    if (config == NULL || lev_json_dump(config, &text, err) < 0) {
        return -1;
    }
    c->process = json_incref(json_object_get(config, "process"));
    return lev_oci_write_bundle(d->o, c, "config.json", &text, err);
}

static int
draft_init(struct draft *d, struct lev_error *err)
{
    struct lev_oci_container *c = calloc(1, sizeof(*c));

    d->c = c;
    if (c == NULL) {
        return lev_error_nomem(err, "container");
    }
    c->refs = 1;
    c->root = -1;
    c->image.lock = -1;
    c->name = strdup(d->spec->name);
    if (asprintf(&c->dir, "%s/containers/%s", d->o->session, d->spec->name) <
        0) {
        c->dir = NULL;
    }
    if (asprintf(&c->bundle, "%s/" LEV_BUNDLES "/%s", d->o->session,
                 d->spec->name) < 0)
    {
        c->bundle = NULL;
    }
    d->config = json_object();
    d->host = json_object();
    if (c->name == NULL || c->dir == NULL || c->bundle == NULL ||
        d->config == NULL || d->host == NULL)
    {
        return lev_error_nomem(err, "container");
    }
    return 0;
}

static int
choose_hostname(struct draft *d, struct lev_error *err)
{
    const char *wanted = lev_json_str(d->config, "Hostname");

    if (wanted != NULL && *wanted != '\0') {
        snprintf(d->c->hostname, sizeof(d->c->hostname), "%s", wanted);
        return 0;
    }
    return lev_oci_random_hex(d->c->hostname, HOSTNAME_DIGITS, err);
}

static int
fill(struct draft *d, const struct lev_scope *scope, struct lev_error *err)
{
    if (make_directories(d->o, d->c, err) < 0 || choose_hostname(d, err) < 0 ||
        choose_namespaces(d, scope, err) < 0 ||
        connect_networks(d, scope, err) < 0 || call_create(d, scope, err) < 0)
    {
        return -1;
    }
    return lev_oci_write_files(d->o, d->c, d->spec, d->config, d->host, err) <
                       0 ||
                   write_config(d, err) < 0 ||
                   write_meta(d->c, d->spec, lev_json_get(d->config, "Labels"),
                              err) < 0
               ? -1
               : 0;
}

static void
undo(struct draft *d)
{
    const struct lev_scope scope = {lev_now() + CREATE_TIMEOUT, NULL};
    struct lev_error late;

    if (d->c->made) {
        lev_helper_call(
            d->o->helper, &scope,
            json_pack("{s:s, s:s}", "op", "remove", "name", d->c->name), NULL,
            0, NULL, &late);
    }
    lev_oci_leave(d->o, d->c);
    if (remove_directories(d->o, d->c, &late) < 0) {
        lev_log(d->o->base.log, LEV_WARNING, "lev.engine", "%s", late.msg);
    }
    give_name_back(d->o, d->c->name);
}

static void
enlist(struct lev_oci *o, struct lev_oci_container *c)
{
    pthread_mutex_lock(&o->mutex);
    lev_oci_share_names(o, c);
    c->next = o->containers;
    o->containers = c;
    pthread_mutex_unlock(&o->mutex);
}

static int
create(struct draft *d, const struct lev_scope *scope, struct lev_error *err)
{
    /* As everywhere, what is under way is not cut short by a cancellation. */
    const struct lev_scope whole = {scope->deadline, NULL};
    const struct lev_scope bounded = lev_scope_within(&whole, CREATE_TIMEOUT);

    if (draft_init(d, err) < 0 ||
        lev_options_apply(d->spec->options, "oci", d->config, d->host, err) <
            0 ||
        lev_oci_image_get(d->o, scope, d->spec->image, &d->c->image, err) <
            0 ||
        take_name(d->o, d->spec->name, err) < 0)
    {
        return -1;
    }
    if (fill(d, &bounded, err) < 0) {
        undo(d);
        return -1;
    }
    return 0;
}

int
lev_oci_create(struct lev_engine *e, const struct lev_scope *scope,
               const struct lev_container_spec *spec, char **id,
               struct lev_error *err)
{
    _cleanup_draft_ struct draft d = {.o = lev_oci_of(e), .spec = spec};

    *id = NULL;
    if (lev_scope_check(scope, err) < 0) {
        return -1;
    }
    if (create(&d, scope, err) < 0) {
        return lev_error_wrap(err, "create container %s", spec->name);
    }
    enlist(d.o, lev_steal(d.c));
    *id = strdup(spec->name);
    return *id == NULL ? lev_error_nomem(err, "container") : 0;
}

/* ---- afterwards ---- */

static json_t *
request(const char *op, const char *name)
{
    return json_pack("{s:s, s:s}", "op", op, "name", name);
}

int
lev_oci_signal(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, int signo, struct lev_error *err)
{
    json_t *body = request("signal", id);

    json_object_set_new(body, "signo", json_integer(signo));
    if (lev_helper_call(lev_oci_of(e)->helper, scope, body, NULL, 0, NULL,
                        err) < 0)
    {
        return lev_error_wrap(err, "signal %d", signo);
    }
    return 0;
}

int
lev_oci_inspect(struct lev_engine *e, const struct lev_scope *scope,
                const char *id, struct lev_container_state *state,
                struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);
    _cleanup_packet_ struct lev_packet answer = {0};
    const char *text;

    if (c == NULL ||
        lev_helper_call(lev_oci_of(e)->helper, scope, request("inspect", id),
                        NULL, 0, &answer, err) < 0)
    {
        return lev_error_wrap(err, "inspect container %s", id);
    }
    *state = (struct lev_container_state){0};
    text = lev_json_str(answer.body, "state");
    state->running = text != NULL && strcmp(text, "running") == 0;
    state->paused = lev_json_bool(answer.body, "paused", false);
    state->oom_killed = lev_json_bool(answer.body, "oom", false);
    state->exit_code = (int)lev_json_int(answer.body, "code", 0);
    state->pid = (pid_t)lev_json_int(answer.body, "pid", 0);
    state->started = lev_json_int(answer.body, "started", 0);
    state->finished = lev_json_int(answer.body, "finished", 0);
    state->peak_memory = lev_json_int(answer.body, "peak", -1);
    snprintf(state->image_id, sizeof(state->image_id), "%s", c->image.id);
    return 0;
}

int
lev_oci_remove(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    struct lev_error none;
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(o, id, &none);
    bool first;

    if (c == NULL) {
        return 0;
    }
    if (lev_helper_call(o->helper, scope, request("remove", id), NULL, 0, NULL,
                        err) < 0 &&
        err->code != LEV_E_NOT_FOUND)
    {
        return lev_error_wrap(err, "remove container %s", id);
    }
    pthread_mutex_lock(&o->mutex);
    first = !c->removed;
    c->removed = true;
    pthread_mutex_unlock(&o->mutex);
    if (!first) {
        return 0; /* another thread does the rest */
    }
    delist(o, c);
    lev_oci_leave(o, c);
    if (remove_directories(o, c, err) < 0) {
        lev_log(o->base.log, LEV_WARNING, "lev.engine",
                "files of container %s are left until the session ends: %s",
                id, err->msg);
    }
    give_name_back(o, c->name);
    lev_oci_container_unref(c); /* the list's */
    return 0;
}

/* ---- listing: also those of other processes ---- */

static json_t *
read_meta(const struct lev_oci *o, const char *name)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[LEV_OCI_PATH_MAX], text[32768];
    struct lev_error none;
    size_t n;

    snprintf(path, sizeof(path), "%s/names/%s/meta.json", o->dir, name);
    f = fopen(path, "re");
    n = f == NULL ? 0 : fread(text, 1, sizeof(text), f);
    return n == 0 ? NULL : lev_json_parse(text, n, path, &none);
}

static bool
has_label(const json_t *labels, const char *label)
{
    const char *equals = label == NULL ? NULL : strchr(label, '=');
    char key[256];
    const char *value;

    if (label == NULL) {
        return true;
    }
    snprintf(key, sizeof(key), "%.*s",
             equals == NULL ? (int)strlen(label) : (int)(equals - label),
             label);
    value = json_string_value(json_object_get(labels, key));
    return value != NULL && (equals == NULL || strcmp(value, equals + 1) == 0);
}

int
lev_oci_list(struct lev_engine *e, const struct lev_scope *scope,
             const char *label, struct lev_listed **list,
             struct lev_error *err)
{
    struct lev_oci *o = lev_oci_of(e);
    struct lev_listed *all = NULL, **end = &all;
    char path[LEV_OCI_PATH_MAX];
    struct dirent *entry;
    DIR *dir;
    int rc = 0;

    snprintf(path, sizeof(path), "%s/names", o->dir);
    dir = opendir(path);
    while (dir != NULL && rc == 0 && (entry = readdir(dir)) != NULL) {
        _cleanup_json_ json_t *meta = NULL;

        if (entry->d_name[0] == '.') {
            continue;
        }
        meta = read_meta(o, entry->d_name);
        if (meta != NULL && has_label(lev_json_get(meta, "labels"), label)) {
            rc = lev_docker_list_add(&end, entry->d_name, entry->d_name, NULL,
                                     lev_json_get(meta, "labels"), err);
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
