#include "seccomp_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <seccomp.h>

#include "capabilities.h"
#include "sha256.h"

/* A new namespace of any kind: the flags of clone. */
#define NEW_NAMESPACE UINT64_C(0x7e020000)
/* What cannot be seen by a filter is behind a pointer: where clone3 is not
 * there, C libraries use clone. */
#define NO_CLONE3 ENOSYS

/* Part of every profile; calls that an architecture lacks are passed over.
 * socketcall (32-bit x86) is not among them: its arguments, AF_VSOCK as well,
 * are behind a pointer, and C libraries have used socket for ten years. */
static const char *const always[] = {
    "accept",
    "accept4",
    "access",
    "adjtimex",
    "alarm",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chown32",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fanotify_mark",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "futex",
    "futex_time64",
    "futex_waitv",
    "futimesat",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getuid32",
    "getxattr",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "ioprio_set",
    "ipc",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lchown32",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listxattr",
    "llistxattr",
    "_llseek",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "lstat64",
    "madvise",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "mremap",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "nanosleep",
    "newfstatat",
    "_newselect",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "ppoll_time64",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",

    "pselect6",
    "pselect6_time64",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setuid32",
    "setxattr",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigprocmask",
    "sigreturn",
    "socketpair",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
    "tkill",
    "truncate",
    "truncate64",
    "ugetrlimit",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
};

/* Allowed with one of the capabilities. */
static const struct {
    uint64_t caps;
    const char *const names[24]; /* ends with NULL */
} with_caps[] = {
    {LEV_CAP(CAP_DAC_READ_SEARCH), {"open_by_handle_at"}},
    {LEV_CAP(CAP_SYS_ADMIN),
     {"bpf",
      "clone",
      "clone3",
      "fanotify_init",
      "fsconfig",
      "fsmount",
      "fsopen",
      "fspick",
      "lookup_dcookie",
      "mount",
      "mount_setattr",
      "move_mount",
      "name_to_handle_at",
      "open_tree",
      "perf_event_open",
      "quotactl",
      "quotactl_fd",
      "setdomainname",
      "sethostname",
      "setns",
      "umount",
      "umount2",
      "unshare"}},
    {LEV_CAP(CAP_SYS_ADMIN) | LEV_CAP(CAP_SYSLOG), {"syslog"}},
    {LEV_CAP(CAP_SYS_BOOT), {"reboot"}},
    {LEV_CAP(CAP_SYS_CHROOT), {"chroot"}},
    {LEV_CAP(CAP_SYS_MODULE),
     {"delete_module", "finit_module", "init_module"}},
    {LEV_CAP(CAP_SYS_NICE), {"get_mempolicy", "mbind", "set_mempolicy"}},
    {LEV_CAP(CAP_SYS_PACCT), {"acct"}},
    {LEV_CAP(CAP_SYS_PTRACE),
     {"kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv",
      "process_vm_writev"}},
    {LEV_CAP(CAP_SYS_RAWIO), {"ioperm", "iopl"}},
    {LEV_CAP(CAP_SYS_TIME),
     {"clock_settime", "clock_settime64", "settimeofday", "stime"}},
    {LEV_CAP(CAP_SYS_TTY_CONFIG), {"vhangup"}},
};

/* Of the machine that this was built for; a 32-bit x86 filter covers them,
 * too, as far as they are there. */
static const char *const of_arch[] = {
#if defined(__x86_64__) || defined(__i386__)
    "arch_prctl",
    "modify_ldt",
#elif defined(__aarch64__) || defined(__arm__)
    "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush",
    "set_tls",          "sync_file_range2",
#elif defined(__s390x__)
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
#elif defined(__powerpc64__)
    "sync_file_range2",
    "swapcontext",
#else
    NULL,
#endif
};

static const struct {
    const char *oci;
    uint32_t token;
} arches[] = {
#if defined(__x86_64__)
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
#elif defined(__aarch64__)
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
#elif defined(__s390x__)
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
#elif defined(__powerpc64__)
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
#endif
};

/* Calls that are allowed with some first arguments only. `mask` 0: the
 * argument compares as a whole. */
struct argument_rule {
    const char *name;
    enum scmp_compare op;
    uint64_t value, mask;
};

static const struct argument_rule argument_rules[] = {
    {"personality", SCMP_CMP_EQ, 0x0, 0},
    {"personality", SCMP_CMP_EQ, 0x0008, 0},
    {"personality", SCMP_CMP_EQ, 0x20000, 0},
    {"personality", SCMP_CMP_EQ, 0x20008, 0},
    {"personality", SCMP_CMP_EQ, 0xffffffff, 0},
    {"socket", SCMP_CMP_NE, AF_VSOCK, 0},
};

#if defined(__s390x__)
#    define CLONE_FLAGS 1 /* the order of clone's arguments differs there */
#else
#    define CLONE_FLAGS 0
#endif

/* Where the rules go to: either form. */
struct sink {
    int (*allow)(struct sink *s, const char *name);
    int (*allow_if)(struct sink *s, unsigned arg,
                    const struct argument_rule *rule);
    int (*fail)(struct sink *s, const char *name, int code);
    void *ctx;
};

static int
give_capabilities(struct sink *s, uint64_t caps)
{
    int rc = 0;

    for (size_t i = 0; i < LEV_ARRAY_LEN(with_caps); i++) {
        if (!(with_caps[i].caps & caps)) {
            continue;
        }
        for (const char *const *n = with_caps[i].names; *n != NULL; n++) {
            rc |= s->allow(s, *n);
        }
    }
    return rc;
}

static int
give_rules(struct sink *s, uint64_t caps)
{
    static const struct argument_rule no_namespace = {
        "clone", SCMP_CMP_MASKED_EQ, 0, NEW_NAMESPACE};
    int rc = 0;

    for (size_t i = 0; i < LEV_ARRAY_LEN(always); i++) {
        rc |= s->allow(s, always[i]);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(of_arch); i++) {
        rc |= of_arch[i] == NULL ? 0 : s->allow(s, of_arch[i]);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(argument_rules); i++) {
        rc |= s->allow_if(s, 0, &argument_rules[i]);
    }
    if (!(caps & LEV_CAP(CAP_SYS_ADMIN))) {
        rc |= s->allow_if(s, CLONE_FLAGS, &no_namespace);
        rc |= s->fail(s, "clone3", NO_CLONE3);
    }
    return rc | give_capabilities(s, caps);
}

/* ---- the specification's JSON ---- */

static int
json_allow(struct sink *s, const char *name)
{
    json_t *first = json_array_get(s->ctx, 0);

    return json_array_append_new(json_object_get(first, "names"),
                                 json_string(name));
}

static int
json_allow_if(struct sink *s, unsigned arg, const struct argument_rule *r)
{
    const char *op = r->op == SCMP_CMP_EQ   ? "SCMP_CMP_EQ"
                     : r->op == SCMP_CMP_NE ? "SCMP_CMP_NE"
                                            : "SCMP_CMP_MASKED_EQ";
    bool masked = r->op == SCMP_CMP_MASKED_EQ;

    return json_array_append_new(
        s->ctx,
        json_pack("{s:[s], s:s, s:[{s:i, s:I, s:I, s:s}]}", "names", r->name,
                  "action", "SCMP_ACT_ALLOW", "args", "index", (int)arg,
                  "value", (json_int_t)(masked ? r->mask : r->value),
                  "valueTwo", (json_int_t)(masked ? r->value : 0), "op", op));
}

static int
json_fail(struct sink *s, const char *name, int code)
{
    return json_array_append_new(
        s->ctx, json_pack("{s:[s], s:s, s:i}", "names", name, "action",
                          "SCMP_ACT_ERRNO", "errnoRet", code));
}

json_t *
lev_seccomp_json(uint64_t caps, struct lev_error *err)
{
    _cleanup_json_ json_t *rules =
        json_pack("[{s:[], s:s}]", "names", "action", "SCMP_ACT_ALLOW");
    _cleanup_json_ json_t *list = json_array();
    struct sink sink = {json_allow, json_allow_if, json_fail, rules};
    json_t *profile;
    int rc = 0;

    for (size_t i = 0; i < LEV_ARRAY_LEN(arches); i++) {
        rc |= json_array_append_new(list, json_string(arches[i].oci));
    }
    if (rules == NULL || rc != 0 || give_rules(&sink, caps) != 0) {
        lev_error_nomem(err, "seccomp profile");
        return NULL;
    }
    profile = json_pack("{s:s, s:i, s:O, s:O}", "defaultAction",
                        "SCMP_ACT_ERRNO", "defaultErrnoRet", EPERM,
                        "architectures", list, "syscalls", rules);
    if (profile == NULL) {
        lev_error_nomem(err, "seccomp profile");
    }
    return profile;
}

/* ---- a ready program ---- */

/* -1 of resolve_name: not known to this libseccomp, so not allowed. A number
 * below is a call of another architecture, which libseccomp sorts out. */
static int
filter_add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned n,
           const struct scmp_arg_cmp *args)
{
    int nr = seccomp_syscall_resolve_name(name);

    if (nr == __NR_SCMP_ERROR) {
        return 0;
    }
    return seccomp_rule_add_array(ctx, action, nr, n, args) < 0 ? -1 : 0;
}

static int
filter_allow(struct sink *s, const char *name)
{
    return filter_add(s->ctx, SCMP_ACT_ALLOW, name, 0, NULL);
}

static int
filter_allow_if(struct sink *s, unsigned arg, const struct argument_rule *r)
{
    bool masked = r->op == SCMP_CMP_MASKED_EQ;
    const struct scmp_arg_cmp cmp = {
        .arg = arg,
        .op = r->op,
        .datum_a = masked ? r->mask : r->value,
        .datum_b = masked ? r->value : 0,
    };

    return filter_add(s->ctx, SCMP_ACT_ALLOW, r->name, 1, &cmp);
}

static int
filter_fail(struct sink *s, const char *name, int code)
{
    return filter_add(s->ctx, SCMP_ACT_ERRNO(code), name, 0, NULL);
}

static void
filter_releasep(scmp_filter_ctx *ctx)
{
    if (*ctx != NULL) {
        seccomp_release(*ctx);
    }
}

static int
export_bpf(scmp_filter_ctx ctx, struct lev_buf *bpf, struct lev_error *err)
{
    _cleanup_close_ int fd = memfd_create("lev-seccomp", MFD_CLOEXEC);
    off_t size;
    char *room;

    if (fd < 0 || seccomp_export_bpf(ctx, fd) < 0 ||
        (size = lseek(fd, 0, SEEK_END)) <= 0)
    {
        return lev_error_set(err, LEV_E_OS, errno,
                             "compile the seccomp filter");
    }
    room = lev_buf_reserve(bpf, (size_t)size);
    if (room == NULL) {
        return lev_error_nomem(err, "seccomp filter");
    }
    if (pread(fd, room, (size_t)size, 0) != size) {
        return lev_error_errno(err, "read the seccomp filter");
    }
    bpf->len += (size_t)size;
    return 0;
}

static int
compile(uint64_t caps, struct lev_buf *bpf, struct lev_error *err)
{
    _cleanup_(filter_releasep) scmp_filter_ctx ctx =
        seccomp_init(SCMP_ACT_ERRNO(EPERM));
    struct sink sink = {filter_allow, filter_allow_if, filter_fail, ctx};

    if (ctx == NULL) {
        return lev_error_nomem(err, "seccomp filter");
    }
    /* No NoNewPrivs (setuid programs work as in Docker): who loads it is
     * privileged. Binary search: a call costs some steps, not hundreds. */
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < LEV_ARRAY_LEN(arches); i++) {
        int rc = seccomp_arch_add(ctx, arches[i].token);

        if (rc < 0 && rc != -EEXIST) {
            return lev_error_set(err, LEV_E_OS, -rc, "seccomp: %s: %s",
                                 arches[i].oci, strerrordesc_np(-rc));
        }
    }
    if (give_rules(&sink, caps) != 0) {
        return lev_error_nomem(err, "seccomp filter");
    }
    return export_bpf(ctx, bpf, err);
}

/* ---- the cache ---- */

/* The profile's text and the compiler's version decide about the result. */
static int
cache_path(uint64_t caps, const char *dir, struct lev_buf *path,
           struct lev_error *err)
{
    const struct scmp_version *v = seccomp_version();
    _cleanup_json_ json_t *profile = lev_seccomp_json(caps, err);
    _cleanup_buf_ struct lev_buf text = {0};
    struct lev_sha256 hash;
    char hex[65];

    if (profile == NULL || lev_json_dump(profile, &text, err) < 0) {
        return -1;
    }
    lev_buf_printf(&text, "%u.%u.%u", v->major, v->minor, v->micro);
    lev_sha256_init(&hash);
    lev_sha256_update(&hash, lev_buf_text(&text), text.len);
    lev_sha256_hex(&hash, hex);
    lev_buf_printf(path, "%s/seccomp-%s", dir, hex);
    return lev_buf_check(path, "seccomp filter", err);
}

static bool
cache_get(const char *path, struct lev_buf *bpf)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char chunk[8192];
    ssize_t n;

    if (fd < 0) {
        return false;
    }
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        lev_buf_append(bpf, chunk, (size_t)n);
    }
    if (n < 0 || bpf->failed || bpf->len == 0 || bpf->len % 8 != 0) {
        lev_buf_clear(bpf);
        return false;
    }
    return true;
}

/* Only to be faster the next time: what goes wrong here is no error. */
static void
cache_put(const char *path, const struct lev_buf *bpf)
{
    _cleanup_free_ char *temporary = NULL;
    _cleanup_close_ int fd = -1;

    if (asprintf(&temporary, "%s.%d-%lx", path, (int)getpid(),
                 (unsigned long)(uintptr_t)bpf) < 0)
    {
        temporary = NULL;
        return;
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    if (write(fd, bpf->data, bpf->len) != (ssize_t)bpf->len ||
        rename(temporary, path) < 0)
    {
        unlink(temporary);
    }
}

int
lev_seccomp_bpf(uint64_t caps, const char *cache_dir, struct lev_buf *bpf,
                struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0}, made = {0};

    if (cache_dir != NULL && cache_path(caps, cache_dir, &path, err) < 0) {
        return -1;
    }
    if (cache_dir == NULL || !cache_get(path.data, &made)) {
        if (compile(caps, &made, err) < 0) {
            return -1;
        }
        if (cache_dir != NULL) {
            cache_put(path.data, &made);
        }
    }
    lev_buf_append(bpf, made.data, made.len);
    return lev_buf_check(bpf, "seccomp filter", err);
}
