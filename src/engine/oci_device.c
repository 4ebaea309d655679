#include "oci_device.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 3

static void
add_rule(json_t *rules, const char *type, int major, int minor,
         const char *access)
{
    json_t *rule = json_pack("{s:b, s:s, s:s}", "allow", 1, "type", type,
                             "access", access);

    if (major >= 0) {
        json_object_set_new(rule, "major", json_integer(major));
    }
    if (minor >= 0) {
        json_object_set_new(rule, "minor", json_integer(minor));
    }
    json_array_append_new(rules, rule);
}

/* Any node can be made; which can be opened is decided here. */
static void
add_default_rules(json_t *rules)
{
    static const struct {
        int major, minor;
    } usual[] = {
        {1, 3},    /* null */
        {1, 5},    /* zero */
        {1, 7},    /* full */
        {1, 8},    /* random */
        {1, 9},    /* urandom */
        {5, 0},    /* tty */
        {5, 1},    /* console */
        {5, 2},    /* ptmx */
        {10, 200}, /* net/tun */
        {136, -1}, /* pts */
    };

    add_rule(rules, "c", -1, -1, "m");
    add_rule(rules, "b", -1, -1, "m");
    for (size_t i = 0; i < LEV_ARRAY_LEN(usual); i++) {
        add_rule(rules, "c", usual[i].major, usual[i].minor, "rwm");
    }
}

static void
add_node(json_t *devices, const char *path, const struct stat *st)
{
    json_array_append_new(
        devices,
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i}", "path", path, "type",
                  S_ISBLK(st->st_mode) ? "b" : "c", "major",
                  (int)major(st->st_rdev), "minor", (int)minor(st->st_rdev),
                  "fileMode", (int)(st->st_mode & 07777), "uid",
                  (int)st->st_uid, "gid", (int)st->st_gid));
}

static int
add_wanted(const json_t *device, json_t *devices, json_t *rules,
           struct lev_error *err)
{
    const char *from = lev_json_str(device, "PathOnHost");
    const char *to = lev_json_str(device, "PathInContainer");
    const char *access = lev_json_str(device, "CgroupPermissions");
    struct stat st;

    if (from == NULL || to == NULL || access == NULL || stat(from, &st) < 0) {
        return lev_error_set(
            err, LEV_E_ENGINE, errno, "option 'devices': %s: %s",
            from == NULL ? "?" : from, strerrordesc_np(errno));
    }
    if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "option 'devices': %s is no device", from);
    }
    add_node(devices, to, &st);
    add_rule(rules, S_ISBLK(st.st_mode) ? "b" : "c", (int)major(st.st_rdev),
             (int)minor(st.st_rdev), access);
    return 0;
}

/* Made by the runtime, or mounts of their own. */
static bool
is_special(const char *path)
{
    static const char *const known[] = {
        "/dev/null",   "/dev/zero",    "/dev/full",    "/dev/tty",
        "/dev/random", "/dev/urandom", "/dev/console", "/dev/ptmx",
        "/dev/pts",    "/dev/shm",     "/dev/mqueue",  "/dev/fd",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(known); i++) {
        if (strcmp(path, known[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void
add_all_nodes(json_t *devices, const char *path, int depth)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char sub[512];
        struct stat st;

        if (entry->d_name[0] == '.' ||
            snprintf(sub, sizeof(sub), "%s/%s", path, entry->d_name) >=
                (int)sizeof(sub) ||
            is_special(sub) || lstat(sub, &st) < 0)
        {
            continue;
        }
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            add_all_nodes(devices, sub, depth + 1);
        }
        else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
            add_node(devices, sub, &st);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

int
lev_oci_devices(bool privileged, const json_t *wanted, json_t *devices,
                json_t *rules, struct lev_error *err)
{
    json_t *item;
    size_t i;

    if (privileged) {
        json_array_append_new(
            rules, json_pack("{s:b, s:s}", "allow", 1, "access", "rwm"));
        add_all_nodes(devices, "/dev", 0);
    }
    else {
        json_array_append_new(
            rules, json_pack("{s:b, s:s}", "allow", 0, "access", "rwm"));
        add_default_rules(rules);
    }
    json_array_foreach(wanted, i, item)
    {
        if (add_wanted(item, devices, rules, err) < 0) {
            return -1;
        }
    }
    return 0;
}
