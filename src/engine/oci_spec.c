#include "oci_spec_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "capabilities.h"
#include "oci_device.h"

#define DEFAULT_PATH                                                          \
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define SHM_KB 65536
#define INIT "/dev/init" /* as the container sees it */

static const char *const masked[] = {
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
};

static const char *const read_only[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

bool
lev_oci_is_privileged(const struct lev_oci_spec *s)
{
    return lev_json_bool(s->host, "Privileged", false);
}

static json_t *
strings(const char *const *v, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_string(v[i]));
    }
    return array;
}

const char *
lev_oci_network_mode(const struct lev_container_spec *spec, const json_t *host)
{
    return spec->host_network ? "host" : lev_json_str(host, "NetworkMode");
}

/* ---- the process ---- */

static int
add_strings(json_t *array, const char *const *v)
{
    for (; v != NULL && *v != NULL; v++) {
        if (json_array_append_new(array, json_string(*v)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* An entrypoint that is given takes the image's cmd away, too. */
static json_t *
build_args(const struct lev_oci_spec *s, struct lev_error *err)
{
    const char *const *entry = s->spec->entrypoint;
    const char *const *cmd = s->spec->cmd;
    json_t *args = json_pack("[s, s]", INIT, "--");

    if (entry == NULL) {
        entry = (const char *const *)s->image->entrypoint;
        /* An empty one is none, as in Docker. */
        cmd = cmd == NULL || *cmd == NULL ? (const char *const *)s->image->cmd
                                          : cmd;
    }
    if (args == NULL || add_strings(args, entry) < 0 ||
        add_strings(args, cmd) < 0) {
        json_decref(args);
        lev_error_nomem(err, "arguments");
        return NULL;
    }
    if (json_array_size(args) == 2) {
        json_decref(args);
        lev_error_set(
            err, LEV_E_START, 0,
            "the image %s has no program to run: give cmd=", s->spec->image);
        return NULL;
    }
    return args;
}

static size_t
name_len(const char *variable)
{
    return strcspn(variable, "=") + 1;
}

/* Later ones take the place of earlier ones of their name. */
static int
put_variable(json_t *env, const char *variable)
{
    size_t len = name_len(variable), i;
    json_t *item;

    json_array_foreach(env, i, item)
    {
        if (strncmp(json_string_value(item), variable, len) == 0) {
            return json_array_set_new(env, i, json_string(variable));
        }
    }
    return json_array_append_new(env, json_string(variable));
}

static json_t *
build_env(const struct lev_oci_spec *s, const struct lev_oci_user *user,
          struct lev_error *err)
{
    const char *const *const sources[] = {(const char *const *)s->image->env,
                                          s->spec->env};
    json_t *env = json_array();
    char text[400];
    int rc = put_variable(env, DEFAULT_PATH);

    snprintf(text, sizeof(text), "HOSTNAME=%s", s->hostname);
    rc |= put_variable(env, text);
    snprintf(text, sizeof(text), "HOME=%s", user->home);
    rc |= put_variable(env, text);
    for (size_t i = 0; i < LEV_ARRAY_LEN(sources); i++) {
        for (const char *const *v = sources[i]; v != NULL && *v != NULL; v++) {
            rc |= put_variable(env, *v);
        }
    }
    if (rc != 0) {
        json_decref(env);
        lev_error_nomem(err, "environment");
        return NULL;
    }
    return env;
}

/* group_add: more of them. */
static int
add_groups(const struct lev_oci_spec *s, struct lev_oci_user *user,
           struct lev_error *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(lev_json_get(s->host, "GroupAdd"), i, item)
    {
        if (user->groups_n == LEV_ARRAY_LEN(user->groups)) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "option 'group_add': a process can have %zu "
                                 "groups",
                                 LEV_ARRAY_LEN(user->groups));
        }
        if (lev_root_group(s->root, json_string_value(item),
                           &user->groups[user->groups_n], err) < 0)
        {
            return lev_error_wrap(err, "option 'group_add'");
        }
        user->groups_n++;
    }
    return 0;
}

static json_t *
build_user(const struct lev_oci_user *user)
{
    /* The primary one is among them: a file that denies its group something
     * must not be open to who has left that group (CVE-2022-36109). */
    json_t *groups = json_pack("[I]", (json_int_t)user->gid);

    for (size_t i = 0; i < user->groups_n; i++) {
        if (user->groups[i] != user->gid) {
            json_array_append_new(groups, json_integer(user->groups[i]));
        }
    }
    return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)user->uid, "gid",
                     (json_int_t)user->gid, "additionalGids", groups);
}

/* Inheritable and ambient ones stay empty, as in Docker: a program that is not
 * root's gets none by being executed. */
static json_t *
build_capabilities(uint64_t caps, uint32_t uid)
{
    uint64_t effective = uid == 0 ? caps : 0;

    return json_pack("{s:o, s:o, s:o}", "bounding", lev_caps_json(caps),
                     "effective", lev_caps_json(effective), "permitted",
                     lev_caps_json(effective));
}

static const char *
text_option(const json_t *v, const char *key, const char *absent)
{
    const char *text = lev_json_str(v, key);

    return text != NULL && *text != '\0' ? text : absent;
}

static int
make_cwd(const struct lev_oci_spec *s, const char *cwd, struct lev_error *err)
{
    int fd = lev_root_mkdirs(s->root, cwd, err);

    if (fd < 0) {
        err->code = err->code == LEV_E_OS ? LEV_E_START : err->code;
        return lev_error_wrap(err, "working directory");
    }
    close(fd);
    return 0;
}

static json_t *
build_process(const struct lev_oci_spec *s, uint64_t caps,
              struct lev_error *err)
{
    const char *cwd = text_option(s->config, "WorkingDir",
                                  s->image->working_dir == NULL ||
                                          *s->image->working_dir == '\0'
                                      ? "/"
                                      : s->image->working_dir);
    _cleanup_json_ json_t *args = NULL, *env = NULL, *rlimits = NULL;
    struct lev_oci_user user;

    if (lev_root_user(
            s->root,
            text_option(s->config, "User",
                        s->image->user == NULL ? "" : s->image->user),
            &user, err) < 0 ||
        add_groups(s, &user, err) < 0 || make_cwd(s, cwd, err) < 0 ||
        (args = build_args(s, err)) == NULL ||
        (env = build_env(s, &user, err)) == NULL ||
        (rlimits = lev_oci_rlimits(s, err)) == NULL)
    {
        return NULL;
    }
    return json_pack("{s:b, s:o, s:O, s:O, s:s, s:o, s:O}", "terminal", 0,
                     "user", build_user(&user), "args", args, "env", env,
                     "cwd", cwd, "capabilities",
                     build_capabilities(caps, user.uid), "rlimits", rlimits);
}

/* ---- mounts ---- */

static json_t *
mount_entry(const char *target, const char *type, const char *source,
            const char *options)
{
    json_t *list = json_array();
    const char *p = options;

    while (*p != '\0') {
        size_t len = strcspn(p, ",");

        json_array_append_new(list, json_stringn(p, len));
        p += len + (p[len] == ',');
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "destination", target, "type",
                     type, "source", source, "options", list);
}

static void
add_mount(json_t *mounts, const char *target, const char *type,
          const char *source, const char *options)
{
    json_array_append_new(mounts, mount_entry(target, type, source, options));
}

static void
add_file(json_t *mounts, const struct lev_oci_spec *s, const char *name)
{
    _cleanup_buf_ struct lev_buf source = {0}, target = {0};

    lev_buf_printf(&source, "%s/%s", s->bundle, name);
    lev_buf_printf(&target, "/etc/%s", name);
    add_mount(mounts, lev_buf_text(&target), "bind", lev_buf_text(&source),
              "bind,rprivate");
}

static void
add_ipc_mounts(json_t *mounts, const struct lev_oci_spec *s)
{
    const char *mode = text_option(s->host, "IpcMode", "private");
    int64_t size = lev_json_int(s->host, "ShmSize", 0);
    char options[80];

    /* Of whatever IPC namespace the container is in. */
    add_mount(mounts, "/dev/mqueue", "mqueue", "mqueue",
              "nosuid,noexec,nodev");
    if (s->ipc_host) {
        add_mount(mounts, "/dev/shm", "bind", "/dev/shm",
                  "rbind,nosuid,noexec,nodev");
        return;
    }
    if (strcmp(mode, "none") != 0) {
        snprintf(options, sizeof(options),
                 "nosuid,noexec,nodev,mode=1777,size=%lldk",
                 (long long)(size > 0 ? (size + 1023) / 1024 : SHM_KB));
        add_mount(mounts, "/dev/shm", "tmpfs", "shm", options);
    }
}

static void
add_kernel_mounts(json_t *mounts, const struct lev_oci_spec *s)
{
    bool all = lev_oci_is_privileged(s);

    add_mount(mounts, "/proc", "proc", "proc", "nosuid,noexec,nodev");
    add_mount(mounts, "/dev", "tmpfs", "tmpfs",
              "nosuid,strictatime,mode=755,size=65536k");
    add_mount(mounts, "/dev/pts", "devpts", "devpts",
              "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
    if (s->net == LEV_OCI_NET_HOST && !all) {
        /* The host's network shows in sysfs: a mount of it is refused. */
        add_mount(mounts, "/sys", "bind", "/sys",
                  "rbind,nosuid,noexec,nodev,ro");
    }
    else {
        add_mount(mounts, "/sys", "sysfs", "sysfs",
                  all ? "nosuid,noexec,nodev" : "nosuid,noexec,nodev,ro");
        add_mount(mounts, "/sys/fs/cgroup", "cgroup", "cgroup",
                  all ? "nosuid,noexec,nodev" : "ro,nosuid,noexec,nodev");
    }
    add_ipc_mounts(mounts, s);
}

static void
add_tmpfs(json_t *mounts, const struct lev_oci_spec *s)
{
    const char *path;
    json_t *options;

    json_object_foreach(lev_json_get(s->host, "Tmpfs"), path, options)
    {
        _cleanup_buf_ struct lev_buf all = {0};
        const char *more = json_string_value(options);

        /* Later ones win: "exec" of the user's takes noexec back. */
        lev_buf_printf(&all, "noexec,nosuid,nodev%s%s",
                       more != NULL && *more != '\0' ? "," : "",
                       more == NULL ? "" : more);
        add_mount(mounts, path, "tmpfs", "tmpfs", lev_buf_text(&all));
    }
}

static int
add_one_mount(json_t *mounts, const struct lev_mount *m, struct lev_error *err)
{
    switch (m->type) {
    case LEV_MOUNT_BIND:
        if (access(m->source, F_OK) < 0) {
            return lev_error_set(err, LEV_E_INVALID, errno,
                                 "bind source path does not exist: %s",
                                 m->source);
        }
        add_mount(mounts, m->target, "bind", m->source,
                  m->read_only ? "rbind,rprivate,ro" : "rbind,rprivate");
        return 0;
    case LEV_MOUNT_TMPFS:
        add_mount(mounts, m->target, "tmpfs", "tmpfs",
                  m->read_only ? "noexec,nosuid,nodev,ro"
                               : "noexec,nosuid,nodev");
        return 0;
    case LEV_MOUNT_VOLUME:
        break;
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "volumes are not supported by engine oci; bind a "
                         "directory at %s",
                         m->target);
}

static json_t *
build_mounts(const struct lev_oci_spec *s, struct lev_error *err)
{
    static const char *const files[] = {"resolv.conf", "hostname", "hosts"};
    _cleanup_json_ json_t *mounts = json_array();

    add_kernel_mounts(mounts, s);
    for (size_t i = 0; i < LEV_ARRAY_LEN(files); i++) {
        add_file(mounts, s, files[i]);
    }
    add_mount(mounts, INIT, "bind", s->init, "bind,rprivate,ro");
    add_tmpfs(mounts, s);
    for (size_t i = 0; i < s->spec->mounts_n; i++) {
        if (add_one_mount(mounts, &s->spec->mounts[i], err) < 0) {
            return NULL;
        }
    }
    return lev_steal(mounts);
}

/* ---- linux ---- */

static json_t *
build_namespaces(const struct lev_oci_spec *s)
{
    json_t *list = json_pack("[{s:s}, {s:s}, {s:s}]", "type", "mount", "type",
                             "uts", "type", "cgroup");

    if (!s->ipc_host) {
        json_array_append_new(list, json_pack("{s:s}", "type", "ipc"));
    }
    if (s->pidns == NULL || *s->pidns != '\0') {
        json_array_append_new(
            list, json_pack("{s:s, s:s*}", "type", "pid", "path", s->pidns));
    }
    if (s->net == LEV_OCI_NET_NONE) {
        json_array_append_new(list, json_pack("{s:s}", "type", "network"));
    }
    else if (s->net == LEV_OCI_NET_PATH) {
        json_array_append_new(list, json_pack("{s:s, s:s}", "type", "network",
                                              "path", s->netns));
    }
    return list;
}

static json_t *
build_linux(const struct lev_oci_spec *s,
            const struct lev_oci_security *security, struct lev_error *err)
{
    _cleanup_json_ json_t *rules = json_array(), *devices = json_array();
    _cleanup_json_ json_t *resources = NULL, *linux_part = NULL;
    _cleanup_json_ json_t *sysctls = lev_oci_sysctls(s, err);

    if (sysctls == NULL ||
        lev_oci_devices(lev_oci_is_privileged(s),
                        lev_json_get(s->host, "Devices"), devices, rules,
                        err) < 0 ||
        (resources = lev_oci_resources(s, rules, err)) == NULL)
    {
        return NULL;
    }
    linux_part = json_pack("{s:s, s:o, s:O, s:O}", "cgroupsPath", s->cgroup,
                           "namespaces", build_namespaces(s), "devices",
                           devices, "resources", resources);
    if (!security->unmasked) {
        json_object_set_new(linux_part, "maskedPaths",
                            strings(masked, LEV_ARRAY_LEN(masked)));
        json_object_set_new(linux_part, "readonlyPaths",
                            strings(read_only, LEV_ARRAY_LEN(read_only)));
    }
    json_object_set(linux_part, "sysctl", sysctls);
    return lev_steal(linux_part);
}

json_t *
lev_oci_spec_build(const struct lev_oci_spec *s, struct lev_error *err)
{
    _cleanup_json_ json_t *process = NULL, *mounts = NULL, *linux_part = NULL;
    _cleanup_json_ json_t *spec = NULL;
    uint64_t caps = lev_caps_available();
    struct lev_oci_security security;

    if (lev_oci_security(s, &security, err) < 0) {
        return NULL;
    }
    if (!lev_oci_is_privileged(s) &&
        lev_caps_apply(lev_json_get(s->host, "CapAdd"),
                       lev_json_get(s->host, "CapDrop"), &caps, err) < 0)
    {
        return NULL;
    }
    if ((process = build_process(s, caps, err)) == NULL ||
        (mounts = build_mounts(s, err)) == NULL ||
        (linux_part = build_linux(s, &security, err)) == NULL)
    {
        return NULL;
    }
    spec = json_pack(
        "{s:s, s:O, s:{s:s%, s:b}, s:s, s:O, s:O}", "ociVersion", "1.0.2",
        "process", process, "root", "path", "root", (size_t)4, "readonly",
        lev_json_bool(s->host, "ReadonlyRootfs", false), "hostname",
        s->hostname, "mounts", mounts, "linux", linux_part);
    if (spec == NULL) {
        lev_error_nomem(err, "config.json");
        return NULL;
    }
    return lev_oci_secure(s, &security, caps, spec, err) < 0 ? NULL
                                                             : lev_steal(spec);
}

json_t *
lev_oci_spec_exec(const json_t *process, int root,
                  const struct lev_exec_spec *exec, struct lev_error *err)
{
    json_t *copy = json_copy((json_t *)process), *args = json_array();
    struct lev_oci_user user;

    if (copy == NULL || args == NULL || add_strings(args, exec->argv) < 0) {
        json_decref(copy);
        json_decref(args);
        lev_error_nomem(err, "exec");
        return NULL;
    }
    json_object_set_new(copy, "args", args);
    if (exec->user != NULL) {
        if (lev_root_user(root, exec->user, &user, err) < 0) {
            json_decref(copy);
            return NULL;
        }
        json_object_set_new(copy, "user", build_user(&user));
        if (user.uid == 0) {
            json_t *bounding = lev_json_get(process, "capabilities.bounding");

            json_object_set_new(copy, "capabilities",
                                json_pack("{s:O, s:O, s:O}", "bounding",
                                          bounding, "effective", bounding,
                                          "permitted", bounding));
        }
    }
    if (exec->privileged) {
        json_object_set_new(copy, "capabilities",
                            build_capabilities(lev_caps_available(), 0));
    }
    return copy;
}
