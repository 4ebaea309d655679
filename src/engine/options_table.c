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
    {.name = "ports", GIVE_CR("ports")},
    {.name = "environment", GIVE_CR("env")},
    {HOST("dns", "Dns", addresses)},
    {.name = "name", GIVE_CR("name")},
    {.name = "entrypoint", GIVE_CR("entry")},
    {HOST("cpu_shares", "CpuShares", int), .min = 0, .max = MAX},
    {CONFIG("working_dir", "WorkingDir", absolute_path)},
    {.name = "domainname"},
    {HOST("memswap_limit", "MemorySwap", swap_size)},
    {.name = "host_config", GIVE_CR("host_config")},
    {.name = "mac_address"},
    {.name = "labels"},
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
    {.name = "port_bindings"},
    {.name = "lxc_conf"},
    {HOST("privileged", "Privileged", bool)},
    {.name = "links", GIVE_CR("links")},
    {.name = "restart_policy"},
    {HOST("network_mode", "NetworkMode", network_mode)},
    {.name = "oom_kill_disable"},
    {.name = "publish_all_ports"},
    {.name = "dns_search"},
    {HOST("cap_add", "CapAdd", capabilities)},
    {HOST("cap_drop", "CapDrop", capabilities)},
    {HOST("extra_hosts", "ExtraHosts", extra_hosts)},
    {HOST("read_only", "ReadonlyRootfs", bool)},
    {.name = "pid_mode"},
    {.name = "ipc_mode"},
    {.name = "security_opt"},
    {HOST("ulimits", "Ulimits", ulimits)},
    {.name = "log_config"},
    {.name = "mem_swappiness"},
    {.name = "shm_size"},
    {.name = "cpu_group"},
    {.name = "cpu_period"},
    {.name = "cpu_quota"},
    {.name = "cpuset_cpus"},
    {HOST("nano_cpus", "NanoCpus", int), .min = 0, .max = MAX},
    {HOST("pids_limit", "PidsLimit", int), .min = -1, .max = MAX},
    {.name = "group_add"},
    {HOST("devices", "Devices", devices)},
    {HOST("tmpfs", "Tmpfs", tmpfs)},
    {.name = "mounts", GIVE_CR("files")},
    {.name = "sysctls"},
    {.name = "init"},
    {.name = "userns_mode"},
    {.name = "auto_remove"},
    {.name = "device_requests"},
    {.name = "cgroup_parent"},
    {.name = "dns_opt"},
    {.name = "isolation"},
};

const size_t lev_option_count = LEV_ARRAY_LEN(lev_option_table);
