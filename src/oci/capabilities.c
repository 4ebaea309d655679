#include "capabilities.h"

#include <string.h>
#include <sys/prctl.h>

static const char *const names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

uint64_t
lev_caps_available(void)
{
    uint64_t caps = 0;

    for (unsigned i = 0; i < LEV_ARRAY_LEN(names); i++) {
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) {
            caps |= LEV_CAP(i);
        }
    }
    return caps;
}

int
lev_caps_parse(const char *name, uint64_t *caps, struct lev_error *err)
{
    const char *bare = strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;

    if (strcasecmp(name, "ALL") == 0) {
        *caps = lev_caps_available();
        return 0;
    }
    for (unsigned i = 0; i < LEV_ARRAY_LEN(names); i++) {
        if (strcasecmp(bare, names[i] + 4) == 0) {
            *caps = LEV_CAP(i);
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_INVALID, 0,
                         "'%.60s' is no capability; expected a name as "
                         "NET_ADMIN, or ALL",
                         name);
}

static int
join(const json_t *list, uint64_t *caps, struct lev_error *err)
{
    json_t *item;
    size_t i;

    *caps = 0;
    json_array_foreach(list, i, item)
    {
        uint64_t one;

        if (lev_caps_parse(json_string_value(item), &one, err) < 0) {
            return -1;
        }
        *caps |= one;
    }
    return 0;
}

static bool
has_all(const json_t *list)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (strcasecmp(json_string_value(item), "ALL") == 0) {
            return true;
        }
    }
    return false;
}

int
lev_caps_apply(const json_t *add, const json_t *drop, uint64_t *caps,
               struct lev_error *err)
{
    uint64_t added, dropped;

    if (join(add, &added, err) < 0) {
        return lev_error_wrap(err, "option 'cap_add'");
    }
    if (join(drop, &dropped, err) < 0) {
        return lev_error_wrap(err, "option 'cap_drop'");
    }
    /* "ALL" and single names of the other list: the single names win. */
    if (has_all(add)) {
        *caps = has_all(drop) ? 0 : added & ~dropped;
    }
    else if (has_all(drop)) {
        *caps = added;
    }
    else {
        *caps = (LEV_CAPS_DEFAULT & ~dropped) | added;
    }
    *caps &= lev_caps_available();
    return 0;
}

json_t *
lev_caps_json(uint64_t caps)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < LEV_ARRAY_LEN(names); i++) {
        if ((caps & LEV_CAP(i)) &&
            json_array_append_new(array, json_string(names[i])) < 0)
        {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
