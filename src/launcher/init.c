/* init.c - process 1 of a container that has no daemon above it.
 *
 * A process 1 gets no default actions for signals, and every orphan of the
 * container becomes its child. So the tool runs as a child of this one, which
 * hands on each signal and reaps. Words and codes of a program that cannot be
 * started are tini's, which Docker's containers have in this place.
 */
#include "launcher.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

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

static _Noreturn void
run_tool(char **argv, const sigset_t *mask)
{
    int code;

    /* A group of its own: a signal to it does not come back to the init. */
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, mask, NULL);
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
