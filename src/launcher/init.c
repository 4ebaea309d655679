/* init.c - process 1 of a container that has no daemon above it.
 *
 * A process 1 gets no default actions for signals, and every orphan of the
 * container becomes its child. So the tool runs as a child of this one, which
 * hands on each signal and reaps. Words and codes of a program that cannot be
 * started are tini's, which Docker's containers have in this place.
 */
#include "launcher.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* Raised by what the init itself does wrong; to hand them on would blame the
 * tool. */
static const int own_signals[] = {SIGFPE,  SIGILL,  SIGSEGV, SIGBUS,
                                  SIGABRT, SIGTRAP, SIGSYS};

static void
blocked_set(sigset_t *set)
{
    sigfillset(set);
    for (size_t i = 0; i < LEV_ARRAY_LEN(own_signals); i++) {
        sigdelset(set, own_signals[i]);
    }
}

/* By e_machine of the ELF header, as uname calls it; NULL for others. */
static const char *
machine_of(const char *path)
{
    static const struct {
        uint16_t machine;
        const char *name;
    } known[] = {{EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"},
                 {EM_386, "i386"},      {EM_ARM, "arm"},
                 {EM_RISCV, "riscv64"}, {EM_PPC64, "ppc64le"},
                 {EM_S390, "s390x"},    {EM_MIPS, "mips"}};
    Elf32_Ehdr head = {0}; /* both classes have it up to e_machine */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, &head, sizeof(head));

    if (fd >= 0) {
        close(fd);
    }
    if (n < (ssize_t)sizeof(head) ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(known); i++) {
        if (known[i].machine == head.e_machine) {
            return known[i].name;
        }
    }
    return "an unknown machine";
}

/* The file that execvp(3) would run. */
static bool
find_tool(const char *name, char *path, size_t size)
{
    const char *dir = getenv("PATH");

    if (strchr(name, '/') != NULL) {
        return snprintf(path, size, "%s", name) < (int)size;
    }
    while (dir != NULL && *dir != '\0') {
        int len = (int)strcspn(dir, ":");

        if (snprintf(path, size, "%.*s/%s", len, dir, name) < (int)size &&
            access(path, X_OK) == 0)
        {
            return true;
        }
        dir += len + (dir[len] == ':');
    }
    return false;
}

/* A program that this machine cannot run would be given to /bin/sh, which
 * complains about its first line. Does not return for one of those. */
static void
try_foreign(char **argv)
{
    char path[4096];
    const char *machine;
    struct utsname host;

    if (!find_tool(argv[0], path, sizeof(path)) ||
        (machine = machine_of(path)) == NULL)
    {
        return;
    }
    execv(path, argv);
    if (errno != ENOEXEC || uname(&host) < 0) {
        return;
    }
    fprintf(stderr,
            "[FATAL tini (%d)] exec %s failed: %s: it was built for %s, and "
            "this machine is %s\n",
            (int)getpid(), argv[0], strerror(ENOEXEC), machine, host.machine);
    _exit(126);
}

/* posix_spawn(3) of the GNU C library leaves the two signals ignored that it
 * uses itself, which its own sigaction(2) does not touch. */
static void
reset_hidden_signals(void)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};

    syscall(SYS_rt_sigaction, 32, &action, NULL, sizeof(action.mask));
    syscall(SYS_rt_sigaction, 33, &action, NULL, sizeof(action.mask));
}

static _Noreturn void
run_tool(char **argv, const sigset_t *mask)
{
    int code;

    reset_hidden_signals();

    /* A group of its own: a signal to it does not come back to the init. */
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, mask, NULL);
    try_foreign(argv);
    execvp(argv[0], argv);
    code = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
    fprintf(stderr, "[FATAL tini (%d)] exec %s failed: %s\n", (int)getpid(),
            argv[0], strerror(errno));
    _exit(code);
}

/* Reaps what has ended; true with the tool's code when it was among it. */
static bool
reap(pid_t tool, int *code)
{
    bool ended = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == tool) {
            *code = WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                        : WEXITSTATUS(status);
            ended = true;
        }
    }
    return ended;
}

int
lev_init_main(int argc, char **argv)
{
    int skip = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;
    struct lev_error err;
    sigset_t blocked, before;
    int code = 0;
    pid_t tool;

    if (argc <= skip) {
        lev_error_set(&err, LEV_E_INVALID, 0,
                      "usage: init [--] PROGRAM [ARGUMENT…]");
        return lev_complain(&err, LEV_LAUNCHER_USAGE);
    }
    /* Where it is not process 1 (the host's pid namespace), orphans come all
     * the same. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    blocked_set(&blocked);
    sigprocmask(SIG_SETMASK, &blocked, &before);
    /* Whoever sends signals sees by the name that none is lost any more. */
    prctl(PR_SET_NAME, LEV_INIT_READY, 0, 0, 0);
    tool = fork();
    if (tool < 0) {
        lev_error_errno(&err, "fork");
        return lev_complain(&err, 126);
    }
    if (tool == 0) {
        run_tool(argv + skip, &before);
    }
    for (;;) {
        int signo = sigwaitinfo(&blocked, NULL);

        if (signo == SIGCHLD) {
            if (reap(tool, &code)) {
                return code;
            }
        }
        else if (signo > 0) {
            kill(tool, signo);
        }
    }
}
