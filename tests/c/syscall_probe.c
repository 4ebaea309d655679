/* syscall_probe.c - which system calls get through, from inside.
 *
 * Static, for any image. Each call is made with arguments that the kernel
 * itself refuses, so that nothing happens when it gets there; one line for
 * each says how it was answered.
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BAD ((long)-1)

static const struct {
    const char *name;
    long nr, a, b, c, d;
} calls[] = {
    {"acct", SYS_acct, 1, 0, 0, 0},
    {"add_key", SYS_add_key, 0, 0, 0, 0},
    {"adjtimex", SYS_adjtimex, 0, 0, 0, 0},
    {"bpf", SYS_bpf, BAD, 0, 0, 0},
    {"chroot", SYS_chroot, 1, 0, 0, 0},
    {"clock_settime", SYS_clock_settime, BAD, 0, 0, 0},
    {"clone newuser", SYS_clone, CLONE_NEWUSER | CLONE_FS, 0, 0, 0},
    {"clone newns", SYS_clone, CLONE_NEWNS | CLONE_FS, 0, 0, 0},
    {"clone newnet", SYS_clone, CLONE_NEWNET | CLONE_SIGHAND, 0, 0, 0},
    {"clone invalid", SYS_clone, CLONE_SIGHAND, 0, 0, 0},
    {"clone3", SYS_clone3, 0, 0, 0, 0},
    {"close_range", SYS_close_range, 1, 0, 0, 0},
    {"copy_file_range", SYS_copy_file_range, BAD, 0, BAD, 0},
    {"delete_module", SYS_delete_module, 0, 0, 0, 0},
    {"epoll_pwait2", SYS_epoll_pwait2, BAD, 0, 0, 0},
    {"execveat", SYS_execveat, BAD, 0, 0, 0},
    {"faccessat2", SYS_faccessat2, BAD, 0, BAD, BAD},
    {"fanotify_init", SYS_fanotify_init, BAD, BAD, 0, 0},
    {"fanotify_mark", SYS_fanotify_mark, BAD, 0, 0, BAD},
    {"finit_module", SYS_finit_module, BAD, 0, 0, 0},
    {"fsconfig", SYS_fsconfig, BAD, 0, 0, 0},
    {"fsmount", SYS_fsmount, BAD, BAD, 0, 0},
    {"fsopen", SYS_fsopen, 1, BAD, 0, 0},
    {"fspick", SYS_fspick, BAD, 0, BAD, 0},
    {"futex", SYS_futex, 0, BAD, 0, 0},
    {"get_mempolicy", SYS_get_mempolicy, 0, 0, 0, BAD},
    {"init_module", SYS_init_module, 0, 0, 0, 0},
    {"inotify_init1", SYS_inotify_init1, BAD, 0, 0, 0},
    {"io_setup", SYS_io_setup, 0, 0, 0, 0},
    {"io_uring_enter", SYS_io_uring_enter, BAD, 0, 0, 0},
    {"io_uring_register", SYS_io_uring_register, BAD, 0, 0, 0},
    {"io_uring_setup", SYS_io_uring_setup, 0, 0, 0, 0},
    {"ioperm", SYS_ioperm, BAD, BAD, 0, 0},
    {"iopl", SYS_iopl, 9, 0, 0, 0},
    {"ioprio_set", SYS_ioprio_set, BAD, 0, 0, 0},
    {"kcmp", SYS_kcmp, 0, 0, BAD, 0},
    {"kexec_file_load", SYS_kexec_file_load, BAD, BAD, 0, 0},
    {"kexec_load", SYS_kexec_load, 0, BAD, 0, BAD},
    {"keyctl", SYS_keyctl, BAD, 0, 0, 0},
    {"lookup_dcookie", SYS_lookup_dcookie, 0, 0, 0, 0},
    {"mbind", SYS_mbind, 1, 1, BAD, 0},
    {"membarrier", SYS_membarrier, BAD, BAD, 0, 0},
    {"memfd_create", SYS_memfd_create, 0, BAD, 0, 0},
    {"migrate_pages", SYS_migrate_pages, BAD, 0, 0, 0},
    {"mlock2", SYS_mlock2, 0, 0, BAD, 0},
    {"mount", SYS_mount, 0, 0, 0, 0},
    {"move_mount", SYS_move_mount, BAD, 0, BAD, 0},
    {"move_pages", SYS_move_pages, BAD, 0, 0, 0},
    {"mq_open", SYS_mq_open, 0, 0, 0, 0},
    {"name_to_handle_at", SYS_name_to_handle_at, BAD, 0, 0, 0},
    {"nfsservctl", SYS_nfsservctl, 0, 0, 0, 0},
    {"open_by_handle_at", SYS_open_by_handle_at, BAD, 0, 0, 0},
    {"open_tree", SYS_open_tree, BAD, 0, BAD, 0},
    {"openat2", SYS_openat2, BAD, 0, 0, 0},
    {"perf_event_open", SYS_perf_event_open, 0, 0, 0, BAD},
    {"personality 0", SYS_personality, 0, 0, 0, 0},
    {"personality 8", SYS_personality, 8, 0, 0, 0},
    {"personality 0x20000", SYS_personality, 0x20000, 0, 0, 0},
    {"personality -1", SYS_personality, 0xffffffff, 0, 0, 0},
    {"personality 0x40000", SYS_personality, 0x40000, 0, 0, 0},
    {"pidfd_getfd", SYS_pidfd_getfd, BAD, 0, 0, 0},
    {"pidfd_open", SYS_pidfd_open, BAD, 0, 0, 0},
    {"pidfd_send_signal", SYS_pidfd_send_signal, BAD, 0, 0, 0},
    {"pivot_root", SYS_pivot_root, 0, 0, 0, 0},
    {"pkey_alloc", SYS_pkey_alloc, BAD, BAD, 0, 0},
    {"process_madvise", SYS_process_madvise, BAD, 0, 0, 0},
    {"process_vm_readv", SYS_process_vm_readv, BAD, 0, 0, 0},
    {"process_vm_writev", SYS_process_vm_writev, BAD, 0, 0, 0},
    {"ptrace", SYS_ptrace, 0x4206, BAD, 0, 0},
    {"quotactl", SYS_quotactl, BAD, 0, 0, 0},
    {"readahead", SYS_readahead, BAD, 0, 0, 0},
    {"reboot", SYS_reboot, 0, 0, 0, 0},
    {"remap_file_pages", SYS_remap_file_pages, 1, 0, 1, 0},
    {"renameat2", SYS_renameat2, BAD, 0, BAD, 0},
    {"request_key", SYS_request_key, 0, 0, 0, 0},
    {"rseq", SYS_rseq, 1, 1, BAD, 0},
    {"sched_setattr", SYS_sched_setattr, BAD, 0, 0, 0},
    {"seccomp", SYS_seccomp, 99, 0, 0, 0},
    {"set_mempolicy", SYS_set_mempolicy, BAD, 0, 0, 0},
    {"setdomainname", SYS_setdomainname, 0, BAD, 0, 0},
    {"sethostname", SYS_sethostname, 0, BAD, 0, 0},
    {"setns", SYS_setns, BAD, 0, 0, 0},
    {"settimeofday", SYS_settimeofday, 1, 1, 0, 0},
    {"socket vsock", SYS_socket, AF_VSOCK, 99, 0, 0},
    {"socket inet", SYS_socket, AF_INET, 99, 0, 0},
    {"socket packet", SYS_socket, AF_PACKET, 99, 0, 0},
    {"socket alg", SYS_socket, AF_ALG, 99, 0, 0},
    {"statx", SYS_statx, BAD, 0, 0, BAD},
    {"swapoff", SYS_swapoff, 0, 0, 0, 0},
    {"swapon", SYS_swapon, 0, BAD, 0, 0},
    {"syslog", SYS_syslog, BAD, 0, 0, 0},
    {"umount2", SYS_umount2, 0, BAD, 0, 0},
    {"unshare newns", SYS_unshare, CLONE_NEWNS, 0, 0, 0},
    {"unshare newuser", SYS_unshare, CLONE_NEWUSER, 0, 0, 0},
    {"userfaultfd", SYS_userfaultfd, BAD, 0, 0, 0},
    {"ustat", SYS_ustat, 0, 0, 0, 0},
    {"vhangup", SYS_vhangup, 0, 0, 0, 0},
    {"vmsplice", SYS_vmsplice, BAD, 0, 0, 0},
};

int
main(void)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        long rc;

        errno = 0;
        rc = syscall(calls[i].nr, calls[i].a, calls[i].b, calls[i].c,
                     calls[i].d, 0, 0);
        if (rc == 0 && strncmp(calls[i].name, "clone", 5) == 0) {
            _exit(0); /* a child that should not be */
        }
        printf("%s: %s\n", calls[i].name,
               rc >= 0 ? "done" : strerrorname_np(errno));
        fflush(stdout);
    }
    return 0;
}
