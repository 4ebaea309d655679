#include "options_internal.h"

#define GIVE_CR(what) .instead = "give it as " what "= of the Cr"
#define HOST(option, member, form)                                            \
    .name = option, .key = member, .convert = lev_option_##form,              \
    .place = LEV_OPTION_HOST
#define CONFIG(option, member, form)                                          \
    .name = option, .key = member, .convert = lev_option_##form,              \
    .place = LEV_OPTION_CONFIG
#define MAX INT64_MAX

/* Names are docker-py's; keys are the Engine API's. Rows in the order of its
 * documentation. */
const struct lev_option lev_option_table[] = {
    /* Of create_container. */
    {.name = "image", GIVE_CR("image")},
    {.name = "command", GIVE_CR("cmd")},
    {CONFIG("hostname", "Hostname", hostname)},
    {HOST("mem_limit", "Memory", size)},
    {CONFIG("ports", "ExposedPorts", ports)},
    {.name = "environment", GIVE_CR("env")},
    {HOST("dns", "Dns", addresses)},
    {.name = "name", GIVE_CR("name")},
    {.name = "entrypoint", GIVE_CR("entry")},
    {HOST("cpu_shares", "CpuShares", int), .min = 0, .max = MAX},
    {CONFIG("working_dir", "WorkingDir", absolute_path)},
    {CONFIG("domainname", "Domainname", domain)},
    {HOST("memswap_limit", "MemorySwap", swap_size)},
    {.name = "host_config", GIVE_CR("host_config")},
    {.name = "mac_address"},
    {CONFIG("labels", "Labels", labels)},
    {.name = "volumes"},
    {.name = "volumes_from"},
    {.name = "network_disable"},
    {.name = "network_disabled"},
    {CONFIG("user", "User", user)},
    {.name = "tty"},
    {.name = "stdin_open"},
    {.name = "detach"},
    {.name = "stop_signal"},
    {.name = "stop_timeout"},
    {.name = "healthcheck"},
    {.name = "platform"},
    {.name = "runtime"},
    {.name = "networking_config"},
    /* Of create_host_config. */
    {.name = "binds", GIVE_CR("files")},
    {HOST("port_bindings", "PortBindings", port_bindings)},
    {.name = "lxc_conf"},
    {HOST("privileged", "Privileged", bool)},
    {.name = "links", GIVE_CR("links")},
    {.name = "restart_policy"},
    {HOST("network_mode", "NetworkMode", network_mode)},
    {HOST("oom_kill_disable", "OomKillDisable", bool)},
    {HOST("publish_all_ports", "PublishAllPorts", bool)},
    {HOST("dns_search", "DnsSearch", words)},
    {HOST("cap_add", "CapAdd", capabilities)},
    {HOST("cap_drop", "CapDrop", capabilities)},
    {HOST("extra_hosts", "ExtraHosts", extra_hosts)},
    {HOST("read_only", "ReadonlyRootfs", bool)},
    {HOST("pid_mode", "PidMode", pid_mode)},
    {HOST("ipc_mode", "IpcMode", ipc_mode)},
    {HOST("security_opt", "SecurityOpt", security)},
    {HOST("ulimits", "Ulimits", ulimits)},
    {.name = "log_config",
     .instead = "the output is in the logs() of the "
                "run's document"},
    {HOST("mem_swappiness", "MemorySwappiness", int), .min = 0, .max = 100},
    {HOST("shm_size", "ShmSize", size)},
    {HOST("cpu_group", "CpuPeriod", int), .min = 1000, .max = 1000000},
    {HOST("cpu_period", "CpuPeriod", int), .min = 1000, .max = 1000000},
    {HOST("cpu_quota", "CpuQuota", int), .min = -1, .max = MAX},
    {HOST("cpuset_cpus", "CpusetCpus", cpus)},
    {HOST("nano_cpus", "NanoCpus", int), .min = 0, .max = MAX},
    {HOST("pids_limit", "PidsLimit", int), .min = -1, .max = MAX},
    {HOST("group_add", "GroupAdd", groups)},
    {HOST("devices", "Devices", devices)},
    {HOST("tmpfs", "Tmpfs", tmpfs)},
    {.name = "mounts", GIVE_CR("files")},
    {HOST("sysctls", "Sysctls", sysctls)},
    {HOST("init", "Init", true)},
    {HOST("userns_mode", "UsernsMode", userns_mode)},
    {.name = "auto_remove", .instead = "a run's container is always removed"},
    {.name = "device_requests"},
    {HOST("cgroup_parent", "CgroupParent", absolute_path)},
    {HOST("dns_opt", "DnsOptions", words)},
    {.name = "isolation"},
};

const size_t lev_option_count = LEV_ARRAY_LEN(lev_option_table);
