/* oci_limits.c - what a container may use: cgroups and resource limits. */

#include "oci_spec_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "capabilities.h"
#include "cgroup.h"

#define CPU_PERIOD 100000
#define NANO 1000000000

static const struct {
    const char *name;
    int resource;
} limits[] = {
    {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},         {"fsize", RLIMIT_FSIZE},
    {"locks", RLIMIT_LOCKS},       {"memlock", RLIMIT_MEMLOCK},
    {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},     {"nproc", RLIMIT_NPROC},
    {"rss", RLIMIT_RSS},           {"rtprio", RLIMIT_RTPRIO},
    {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

static int
check_limit(const char *name, int resource, int64_t hard,
            struct lev_error *err)
{
    struct rlimit now;
    uint64_t wanted = hard < 0 ? RLIM_INFINITY : (uint64_t)hard;

    if (getrlimit((__rlimit_resource_t)resource, &now) < 0 ||
        wanted <= now.rlim_max ||
        (lev_caps_available() & LEV_CAP(24 /* CAP_SYS_RESOURCE */)))
    {
        return 0;
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "option 'ulimits': %s=%lld is above this machine's "
                         "hard limit of %llu, and raising it takes "
                         "CAP_SYS_RESOURCE",
                         name, (long long)hard,
                         (unsigned long long)now.rlim_max);
}

static json_t *
build_limit(const json_t *u, struct lev_error *err)
{
    const char *name = lev_json_str(u, "Name");
    int64_t soft = lev_json_int(u, "Soft", -1);
    int64_t hard = lev_json_int(u, "Hard", -1);
    char type[32];

    for (size_t i = 0; i < LEV_ARRAY_LEN(limits); i++) {
        if (strcasecmp(name, limits[i].name) != 0) {
            continue;
        }
        if (check_limit(name, limits[i].resource, hard, err) < 0) {
            return NULL;
        }
        snprintf(type, sizeof(type), "RLIMIT_%s", limits[i].name);
        for (char *p = type; *p != '\0'; p++) {
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        }
        /* A number of 64 bits without sign: -1 would be refused, and jansson
         * has none above INT64_MAX, which is as good as no limit. */
        return json_pack("{s:s, s:I, s:I}", "type", type, "soft",
                         (json_int_t)(soft < 0 ? INT64_MAX : soft), "hard",
                         (json_int_t)(hard < 0 ? INT64_MAX : hard));
    }
    lev_error_set(err, LEV_E_ENGINE, 0,
                  "option 'ulimits': there is no limit '%.60s'", name);
    return NULL;
}

json_t *
lev_oci_rlimits(const struct lev_oci_spec *s, struct lev_error *err)
{
    json_t *list = json_array(), *item;
    size_t i;

    json_array_foreach(lev_json_get(s->host, "Ulimits"), i, item)
    {
        json_t *limit = build_limit(item, err);

        if (limit == NULL) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, limit);
    }
    return list;
}

/* ---- cgroups ---- */

/* What limits of one container are made with. */
struct limits {
    const struct lev_oci_spec *s;
    struct lev_cgroups cg;
};

static int
need(const struct limits *l, const char *controller, const char *option,
     struct lev_error *err)
{
    return lev_cgroups_require(&l->cg, controller, option, err);
}

/* True where memory with swap can be limited: a kernel's choice. */
static bool
counts_swap(const struct limits *l)
{
    return !l->cg.v1 ||
           access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) ==
               0;
}

/* What the second version of cgroups has no file for. */
static int
first_version_only(const struct limits *l, const char *option,
                   struct lev_error *err)
{
    if (l->cg.v1) {
        return 0;
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "engine oci: option '%s' is not there on this "
                         "machine: the second version of cgroups lacks it",
                         option);
}

static int
limit_memory(const struct limits *l, json_t *memory, struct lev_error *err)
{
    int64_t limit = lev_json_int(l->s->host, "Memory", 0);
    int64_t swap = lev_json_int(l->s->host, "MemorySwap", 0);

    if (limit <= 0) {
        return 0;
    }
    if (need(l, "memory", "mem_limit", err) < 0) {
        return -1;
    }
    if (swap != 0 && !counts_swap(l)) {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "option 'memswap_limit': this kernel does not "
                             "count swap (boot it with swapaccount=1)");
    }
    json_object_set_new(memory, "limit", json_integer(limit));
    if (counts_swap(l)) {
        /* Docker's default: as much swap as memory. */
        json_object_set_new(memory, "swap",
                            json_integer(swap != 0 ? swap : limit * 2));
    }
    return 0;
}

static int
build_memory(const struct limits *l, json_t *resources, struct lev_error *err)
{
    int64_t swappiness = lev_json_int(l->s->host, "MemorySwappiness", -1);
    json_t *memory = json_object();

    json_object_set_new(resources, "memory", memory);
    if (limit_memory(l, memory, err) < 0) {
        return -1;
    }
    if (swappiness >= 0) {
        if (first_version_only(l, "mem_swappiness", err) < 0) {
            return -1;
        }
        json_object_set_new(memory, "swappiness", json_integer(swappiness));
    }
    if (lev_json_bool(l->s->host, "OomKillDisable", false)) {
        if (first_version_only(l, "oom_kill_disable", err) < 0) {
            return -1;
        }
        json_object_set_new(memory, "disableOOMKiller", json_true());
    }
    return 0;
}

/* A processor of the list that this machine lacks: said by its name. */
static int
check_cpus(const char *cpus, struct lev_error *err)
{
    long count = sysconf(_SC_NPROCESSORS_CONF);
    const char *p = cpus;

    while (*p != '\0') {
        char *end;
        unsigned long n = strtoul(p, &end, 10);

        if (n >= (unsigned long)count) {
            return lev_error_set(err, LEV_E_ENGINE, 0,
                                 "option 'cpuset_cpus': there is no processor "
                                 "%lu: this machine has 0 to %ld",
                                 n, count - 1);
        }
        p = *end == '\0' ? end : end + 1;
    }
    return 0;
}

/* The kernel takes a quota of 1 ms or more. */
static int
check_nano(int64_t nano, struct lev_error *err)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    if (nano >= NANO / 100 && nano <= count * NANO) {
        return 0;
    }
    return lev_error_set(err, LEV_E_ENGINE, 0,
                         "option 'nano_cpus': expected 0.01 to %ld "
                         "processors (%d to %lld), got %lld",
                         count, NANO / 100, (long long)count * NANO,
                         (long long)nano);
}

/* The controller of those options of it that are given. */
static int
need_cpu(const struct limits *l, struct lev_error *err)
{
    static const struct {
        const char *key, *option;
    } of_cpu[] = {{"NanoCpus", "nano_cpus"},
                  {"CpuShares", "cpu_shares"},
                  {"CpuPeriod", "cpu_period"},
                  {"CpuQuota", "cpu_quota"}};

    for (size_t i = 0; i < LEV_ARRAY_LEN(of_cpu); i++) {
        if (lev_json_int(l->s->host, of_cpu[i].key, 0) != 0 &&
            need(l, "cpu", of_cpu[i].option, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
build_cpu(const struct limits *l, json_t *resources, struct lev_error *err)
{
    int64_t nano = lev_json_int(l->s->host, "NanoCpus", 0);
    int64_t shares = lev_json_int(l->s->host, "CpuShares", 0);
    int64_t period = lev_json_int(l->s->host, "CpuPeriod", 0);
    int64_t quota = lev_json_int(l->s->host, "CpuQuota", 0);
    const char *cpus = lev_json_str(l->s->host, "CpusetCpus");
    json_t *cpu = json_object();

    json_object_set_new(resources, "cpu", cpu);
    if (need_cpu(l, err) < 0) {
        return -1;
    }
    if (shares > 0) {
        json_object_set_new(cpu, "shares", json_integer(shares));
    }
    if (nano > 0) {
        if (check_nano(nano, err) < 0) {
            return -1;
        }
        period = CPU_PERIOD;
        quota = nano * CPU_PERIOD / NANO;
    }
    if (period > 0) {
        json_object_set_new(cpu, "period", json_integer(period));
    }
    if (quota != 0) {
        json_object_set_new(cpu, "quota", json_integer(quota));
    }
    if (cpus != NULL) {
        json_object_set_new(cpu, "cpus", json_string(cpus));
        return check_cpus(cpus, err) < 0
                   ? -1
                   : need(l, "cpuset", "cpuset_cpus", err);
    }
    return 0;
}

json_t *
lev_oci_resources(const struct lev_oci_spec *s, const json_t *rules,
                  struct lev_error *err)
{
    _cleanup_json_ json_t *resources =
        json_pack("{s:O}", "devices", (json_t *)rules);
    int64_t pids = lev_json_int(s->host, "PidsLimit", 0);
    struct limits l = {.s = s};

    if (lev_cgroups_find(&l.cg, err) < 0 ||
        build_memory(&l, resources, err) < 0 ||
        build_cpu(&l, resources, err) < 0)
    {
        return NULL;
    }
    if (pids != 0) {
        if (need(&l, "pids", "pids_limit", err) < 0) {
            return NULL;
        }
        json_object_set_new(resources, "pids",
                            json_pack("{s:I}", "limit", (json_int_t)pids));
    }
    return lev_steal(resources);
}

/* ---- kernel parameters ---- */

/* True for one that the namespaces of the container's own have a value of. */
static bool
is_own_sysctl(const struct lev_oci_spec *s, const char *name)
{
    static const char *const ipc[] = {
        "kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
        "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced"};

    if (strncmp(name, "net.", 4) == 0) {
        return s->net != LEV_OCI_NET_HOST;
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(ipc); i++) {
        if (strcmp(name, ipc[i]) == 0) {
            return !s->ipc_host;
        }
    }
    return strncmp(name, "fs.mqueue.", 10) == 0 && !s->ipc_host;
}

json_t *
lev_oci_sysctls(const struct lev_oci_spec *s, struct lev_error *err)
{
    const char *domain = lev_json_str(s->config, "Domainname"), *name;
    _cleanup_json_ json_t *all = json_object();
    json_t *value;

    if (s->net != LEV_OCI_NET_HOST) {
        json_object_set_new(all, "net.ipv4.ip_unprivileged_port_start",
                            json_string("0"));
        json_object_set_new(all, "net.ipv4.ping_group_range",
                            json_string("0 2147483647"));
    }
    if (domain != NULL) {
        json_object_set_new(all, "kernel.domainname", json_string(domain));
    }
    json_object_foreach(lev_json_get(s->host, "Sysctls"), name, value)
    {
        if (!is_own_sysctl(s, name)) {
            lev_error_set(err, LEV_E_ENGINE, 0,
                          "option 'sysctls': %.100s is not of a namespace "
                          "that the container has of its own: it would "
                          "change the whole machine",
                          name);
            return NULL;
        }
        json_object_set(all, name, value);
    }
    return lev_steal(all);
}
