#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "gc.h"
#include "subprocess.h"
#include "tree.h"

#define OPEN_TIMEOUT (30 * LEV_SECOND)
#define ROOT_DIR "/var/lib/levrt/oci"

/* ---- where things are ---- */

static int
find_in_path(const char *name, char **path)
{
    const char *dirs = getenv("PATH");

    /* A daemon-less machine's PATH may lack the places of root's programs. */
    for (const char *p = dirs == NULL ? "/usr/bin:/usr/sbin" : dirs;;) {
        size_t len = strcspn(p, ":");

        if (asprintf(path, "%.*s/%s", (int)len, p, name) < 0) {
            *path = NULL;
            return -1;
        }
        if (access(*path, X_OK) == 0) {
            return 0;
        }
        free(lev_steal(*path));
        if (p[len] == '\0') {
            return -1;
        }
        p += len + 1;
    }
}

/* LEVRT_OCI_RUNTIME: a program's path, or its name in PATH. */
static int
given_runtime(struct lev_oci *o, const char *given, struct lev_error *err)
{
    const char *slash = strrchr(given, '/');

    if (slash != NULL) {
        o->runtime = strdup(given);
    }
    if (slash == NULL ? find_in_path(given, &o->runtime) < 0
                      : o->runtime == NULL || access(given, X_OK) < 0)
    {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, errno,
                             "LEVRT_OCI_RUNTIME: there is no program %s",
                             given);
    }
    o->is_crun = strcmp(slash == NULL ? given : slash + 1, "crun") == 0;
    return 0;
}

static int
find_runtime(struct lev_oci *o, struct lev_error *err)
{
    const char *given = getenv("LEVRT_OCI_RUNTIME");

    if (given != NULL && *given != '\0') {
        return given_runtime(o, given, err);
    }
    o->is_crun = find_in_path("crun", &o->runtime) == 0;
    if (o->is_crun || find_in_path("runc", &o->runtime) == 0) {
        return 0;
    }
    return lev_error_set(
        err, LEV_E_ENGINE_UNAVAILABLE, 0,
        "no OCI runtime in PATH: install crun (Debian, Ubuntu: apt install "
        "crun; Fedora: dnf install crun; Arch: pacman -S crun; Alpine: apk "
        "add crun) or runc");
}

static int
choose_dir(struct lev_oci *o, const char *url, struct lev_error *err)
{
    const char *given = url + strlen("oci:");
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

    if (*given == '/') {
        o->dir = strdup(given);
    }
    else if (*given != '\0') {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "engine '%.300s': expected oci: or oci:/absolute/"
                             "directory",
                             url);
    }
    else if (geteuid() == 0) {
        o->dir = strdup(ROOT_DIR);
    }
    else if (asprintf(&o->dir, "%s%s/levrt/oci",
                      data != NULL   ? data
                      : home != NULL ? home
                                     : "",
                      data != NULL ? "" : "/.local/share") < 0)
    {
        o->dir = NULL;
    }
    return o->dir == NULL ? lev_error_nomem(err, "engine") : 0;
}

static int
make_dirs(const char *path, mode_t mode, struct lev_error *err)
{
    _cleanup_free_ char *part = strdup(path);

    if (part == NULL) {
        return lev_error_nomem(err, "engine");
    }
    for (char *p = part + 1;; p++) {
        char kept = *p;

        if (kept != '/' && kept != '\0') {
            continue;
        }
        *p = '\0';
        if (mkdir(part, kept == '\0' ? mode : 0755) < 0 && errno != EEXIST) {
            return lev_error_errno(err, "make the directory %s", part);
        }
        *p = kept;
        if (kept == '\0') {
            return 0;
        }
    }
}

static int
fill_base(int base)
{
    static const char *const dirs[] = {"dev", "etc", "proc", "sys"};
    static const char *const files[] = {"etc/hostname", "etc/hosts",
                                        "etc/resolv.conf"};

    for (size_t i = 0; i < LEV_ARRAY_LEN(dirs); i++) {
        if (mkdirat(base, dirs[i], 0755) < 0 ||
            fchmodat(base, dirs[i], 0755, 0) < 0) /* whatever the umask */
        {
            return -1;
        }
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(files); i++) {
        _cleanup_close_ int fd = openat(
            base, files[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (fd < 0 || fchmod(fd, 0644) < 0) {
            return -1;
        }
    }
    /* Where tools of old look for mounts. */
    return symlinkat("/proc/mounts", base, "etc/mtab");
}

/* The lowest layer of every container: where files and file systems are
 * mounted, for images that lack the places, as Docker has it. So nothing has
 * to be made in the container's own layer. It appears when it is whole. */
static int
make_base(const struct lev_oci *o, struct lev_error *err)
{
    _cleanup_close_ int fd = -1;
    char path[LEV_OCI_PATH_MAX], fresh[LEV_OCI_PATH_MAX];
    struct lev_error none;

    snprintf(path, sizeof(path), "%s/" LEV_OCI_BASE, o->dir);
    if (access(path, F_OK) == 0) {
        return 0;
    }
    snprintf(fresh, sizeof(fresh), "%s/." LEV_OCI_BASE ".%s", o->dir, o->tag);
    fd = mkdir(fresh, 0755) < 0
             ? -1
             : open(fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fill_base(fd) < 0 ||
        (rename(fresh, path) < 0 && access(path, F_OK) < 0))
    {
        lev_error_errno(err, "make %s", fresh);
        lev_tree_remove(AT_FDCWD, fresh, &none);
        return -1;
    }
    lev_tree_remove(AT_FDCWD, fresh, &none); /* another process was first */
    return 0;
}

static int
make_store(struct lev_oci *o, struct lev_error *err)
{
    if (make_dirs(o->dir, 0711, err) < 0 ||
        lev_oci_random_hex(o->tag, LEV_TAG_MAX, err) < 0 ||
        make_base(o, err) < 0)
    {
        return -1;
    }
    if (asprintf(&o->cache, "%s/cache", o->dir) < 0) {
        o->cache = NULL;
        return lev_error_nomem(err, "engine");
    }
    if (asprintf(&o->session, "%s/sessions/%s", o->dir, o->tag) < 0) {
        o->session = NULL;
        return lev_error_nomem(err, "engine");
    }
    return make_dirs(o->cache, 0700, err);
}

/* ---- opening ---- */

static int
take_info(struct lev_oci *o, const struct lev_scope *scope,
          struct lev_error *err)
{
    char home[LEV_OCI_PATH_MAX];
    const char *const argv[] = {"env", home, o->runtime, "--version", NULL};
    _cleanup_buf_ struct lev_buf out = {0}, words = {0};
    struct lev_engine_info *info = &o->base.info;
    struct utsname host;
    int status;

    /* crun makes a directory there, even to tell its version. */
    snprintf(home, sizeof(home), "XDG_RUNTIME_DIR=%s", o->cache);
    if (lev_subprocess_run(scope, argv, NULL, &out, &words, &status, err) < 0)
    {
        return -1;
    }
    if (status != 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, status,
                             "%s does not work: %.300s", o->runtime,
                             lev_buf_text(&words));
    }
    uname(&host);
    snprintf(info->name, sizeof(info->name), "oci");
    /* "crun version 1.8.1" */
    snprintf(info->version, sizeof(info->version), "%.*s",
             (int)strcspn(lev_buf_text(&out), "\n"), lev_buf_text(&out));
    snprintf(info->api, sizeof(info->api), "none");
    snprintf(info->os, sizeof(info->os), "linux");
    snprintf(info->arch, sizeof(info->arch), "%.31s", host.machine);
    return 0;
}

static void
oci_destroy(struct lev_engine *e)
{
    struct lev_oci *o = lev_oci_of(e);

    lev_helper_stop(o->helper);
    while (o->containers != NULL) {
        struct lev_oci_container *c = o->containers;

        o->containers = c->next;
        lev_oci_leave(o, c);
        lev_oci_container_unref(c);
    }
    lev_oci_networks_free(o->networks);
    lev_imagestore_close(o->images);
    pthread_mutex_destroy(&o->mutex);
    lev_discover_deinit(&o->docker);
    free(o->docker_config);
    lev_strv_free(o->mirrors);
    free(o->dir);
    free(o->session);
    free(o->cache);
    free(o->runtime);
    free(o->init);
    free(o->reaper);
    free(o->base.url);
    free(o);
}

static int
oci_ping(struct lev_engine *e, const struct lev_scope *scope,
         struct lev_error *err)
{
    struct lev_error answer;

    /* A name that no container has: the answer says that somebody is there. */
    if (lev_helper_call(lev_oci_of(e)->helper, scope,
                        json_pack("{s:s, s:s}", "op", "inspect", "name", "~"),
                        NULL, 0, NULL, &answer) < 0 &&
        answer.code != LEV_E_NOT_FOUND)
    {
        *err = answer;
        return -1;
    }
    return 0;
}

static int
add_found(struct lev_found ***end, const json_t *row, struct lev_error *err)
{
    const char *kind = lev_json_str(row, "kind");
    const char *name = lev_json_str(row, "name");
    const char *session = lev_json_str(row, "session");
    struct lev_found *f = calloc(1, sizeof(*f));

    if (f == NULL || kind == NULL || name == NULL) {
        free(f);
        return lev_error_nomem(err, "listing");
    }
    **end = f;
    *end = &f->next;
    f->kind =
        strcmp(kind, "network") == 0 ? LEV_LEFT_NETWORK : LEV_LEFT_CONTAINER;
    f->id = strdup(name);
    f->name = strdup(name);
    f->session = strdup(session == NULL ? "" : session);
    f->removed = lev_json_bool(row, "removed", false);
    snprintf(f->reason, sizeof(f->reason), "its session's process is gone");
    return f->id == NULL || f->name == NULL || f->session == NULL
               ? lev_error_nomem(err, "listing")
               : 0;
}

static int
oci_gc(struct lev_engine *e, const struct lev_scope *scope,
       const struct lev_gc *gc, bool dry, struct lev_found **list,
       struct lev_error *err)
{
    _cleanup_packet_ struct lev_packet answer = {0};
    _cleanup_found_ struct lev_found *all = NULL;
    struct lev_found **end = &all;
    json_t *row;
    size_t i;

    if (lev_helper_call(lev_oci_of(e)->helper, scope,
                        json_pack("{s:s, s:b, s:b}", "op", "gc", "dry", dry,
                                  "kept", gc->kept),
                        NULL, 0, &answer, err) < 0)
    {
        return -1;
    }
    json_array_foreach(lev_json_get(answer.body, "found"), i, row)
    {
        if (add_found(&end, row, err) < 0) {
            return -1;
        }
    }
    *list = lev_steal(all);
    return 0;
}

static void
oci_adopt(struct lev_engine *e, const char *dir)
{
    const struct lev_scope at_once = {0, NULL};
    struct lev_error err;

    if (lev_helper_tell(lev_oci_of(e)->helper, &at_once,
                        json_pack("{s:s, s:s}", "op", "adopt", "path", dir),
                        &err) < 0)
    {
        lev_log(e->log, LEV_WARNING, "lev.engine",
                "%s stays when this process is killed: %s", dir, err.msg);
    }
}

static int
open_all(struct lev_oci *o, const struct lev_engine_config *config,
         const struct lev_scope *scope, struct lev_error *err)
{
    const char *bin = config->bin_dir;

    if (config->docker_config != NULL) {
        o->docker_config = strdup(config->docker_config);
    }
    if (config->mirrors != NULL) {
        o->mirrors = lev_strv_copy(config->mirrors);
        if (o->mirrors == NULL) {
            return lev_error_nomem(err, "mirrors");
        }
    }
    if (lev_discover_from_env(&o->docker, NULL, NULL, err) < 0 ||
        choose_dir(o, o->base.url, err) < 0 || find_runtime(o, err) < 0 ||
        lev_engine_program(bin, "lev-reaper", &o->reaper, err) < 0 ||
        lev_engine_program(bin, "lev-launcher", &o->init, err) < 0 ||
        make_store(o, err) < 0 || take_info(o, scope, err) < 0)
    {
        return -1;
    }
    o->images = lev_imagestore_open(o->dir, NULL, err);
    if (o->images == NULL) {
        return -1;
    }
    o->helper = lev_helper_start(o->reaper, o->dir, o->tag, o->runtime,
                                 config->gc_only, scope, err);
    return o->helper == NULL ? -1 : 0;
}

struct lev_engine *
lev_oci_open(const char *url, const struct lev_engine_config *config,
             const struct lev_scope *scope, struct lev_error *err)
{
    struct lev_scope bounded = lev_scope_within(scope, OPEN_TIMEOUT);
    struct lev_oci *o = calloc(1, sizeof(*o));

    if (o == NULL) {
        lev_error_nomem(err, "engine");
        return NULL;
    }
    o->base.ops = &lev_engine_oci;
    o->base.refs = 1;
    o->base.log = config->log;
    pthread_mutex_init(&o->mutex, NULL);
    o->base.url = strdup(url);
    if (o->base.url == NULL || open_all(o, config, &bounded, err) < 0) {
        oci_destroy(&o->base);
        lev_error_wrap(err, "engine %s", url);
        return NULL;
    }
    return &o->base;
}

const struct lev_engine_ops lev_engine_oci = {
    .name = "oci",
    .destroy = oci_destroy,
    .ping = oci_ping,
    .adopt = oci_adopt,
    .gc = oci_gc,
    .image_inspect = lev_oci_image_inspect,
    .image_pull = lev_oci_image_pull,
    .image_empty = lev_oci_image_empty,
    .image_remove = lev_oci_image_remove,
    .image_list = lev_oci_image_list,
    .runtime_mount = lev_oci_runtime_mount,
    .create = lev_oci_create,
    .put = lev_oci_put,
    .exists = lev_oci_exists,
    .get = lev_oci_get,
    .commit = lev_oci_commit,
    .attach = lev_oci_attach,
    .start = lev_oci_start,
    .poll = lev_oci_poll,
    .detach = lev_oci_detach,
    .signal = lev_oci_signal,
    .inspect = lev_oci_inspect,
    .address = lev_oci_address,
    .published = lev_oci_published,
    .remove = lev_oci_remove,
    .list = lev_oci_list,
    .exec_start = lev_oci_exec_start,
    .exec_fd = lev_oci_exec_fd,
    .exec_recv = lev_oci_exec_recv,
    .exec_send = lev_oci_exec_send,
    .exec_code = lev_oci_exec_code,
    .exec_close = lev_oci_exec_close,
    .network_create = lev_oci_network_create,
    .network_remove = lev_oci_network_remove,
    .network_list = lev_oci_network_list,
};
