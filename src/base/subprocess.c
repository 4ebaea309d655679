#include "subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define INPUT_MAX (32 * 1024) /* fits into a pipe: the write never waits */
#define KEEP_MAX (1024 * 1024)

extern char **environ;

static void
close_pair(int (*fds)[2])
{
    lev_closep(&(*fds)[0]);
    lev_closep(&(*fds)[1]);
}
#define _cleanup_pair_ _cleanup_(close_pair)

struct spawn {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
};

static void
spawn_deinit(struct spawn *s)
{
    posix_spawn_file_actions_destroy(&s->actions);
    posix_spawnattr_destroy(&s->attr);
}

static int
spawn(const char *const *argv, int in, int out, int errors, pid_t *pid,
      struct lev_error *err)
{
    _cleanup_(spawn_deinit) struct spawn s;
    sigset_t none, all;
    int rc;

    posix_spawn_file_actions_init(&s.actions);
    posix_spawnattr_init(&s.attr);
    posix_spawn_file_actions_adddup2(&s.actions, in, 0);
    posix_spawn_file_actions_adddup2(&s.actions, out, 1);
    posix_spawn_file_actions_adddup2(&s.actions, errors, 2);
    /* The core's threads block all signals; the command must not. */
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    posix_spawnattr_setsigmask(&s.attr, &none);
    posix_spawnattr_setsigdefault(&s.attr, &all);
    posix_spawnattr_setpgroup(&s.attr, 0);
    posix_spawnattr_setflags(&s.attr, POSIX_SPAWN_SETSIGMASK |
                                          POSIX_SPAWN_SETSIGDEF |
                                          POSIX_SPAWN_SETPGROUP);
    rc = posix_spawnp(pid, argv[0], &s.actions, &s.attr, (char *const *)argv,
                      environ);
    if (rc != 0) {
        errno = rc;
        return lev_error_errno(err, "run %s", argv[0]);
    }
    return 0;
}

/* 1 while it may say more, 0 at its end, -1 on failure. */
static int
drain(int fd, struct lev_buf *to, struct lev_error *err)
{
    char buf[8192];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n < 0) {
        return errno == EINTR || errno == EAGAIN
                   ? 1
                   : lev_error_errno(err, "read a command's output");
    }
    if (to->len < KEEP_MAX) {
        lev_buf_append(to, buf, (size_t)n);
    }
    return n > 0;
}

static int
collect(const struct lev_scope *scope, int fds[2], struct lev_buf *bufs[2],
        struct lev_error *err)
{
    struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN},
                          {.fd = fds[1], .events = POLLIN}};

    while (p[0].fd >= 0 || p[1].fd >= 0) {
        if (lev_scope_poll(scope, p, 2, err) < 0) {
            return -1;
        }
        for (int i = 0; i < 2; i++) {
            int rc = p[i].revents == 0 ? 1 : drain(p[i].fd, bufs[i], err);

            if (rc < 0) {
                return -1;
            }
            if (rc == 0) {
                p[i].fd = -1;
            }
        }
    }
    return 0;
}

/* Its output may end before it does: wait for the process itself. */
static int
reap(const struct lev_scope *scope, pid_t pid, int *status,
     struct lev_error *err)
{
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int rc = 0, raw;

    if (fd >= 0 && lev_scope_poll(scope, &p, 1, err) < 0) {
        rc = -1;
        kill(-pid, SIGKILL);
    }
    while (waitpid(pid, &raw, 0) < 0) {
        if (errno != EINTR) {
            /* The program ignores SIGCHLD or waits for any child. */
            raw = 0;
            break;
        }
    }
    *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return rc;
}

int
lev_subprocess_run(const struct lev_scope *scope, const char *const *argv,
                   const char *input, struct lev_buf *out,
                   struct lev_buf *errors, int *status, struct lev_error *err)
{
    _cleanup_pair_ int in[2] = {-1, -1}, o[2] = {-1, -1}, e[2] = {-1, -1};
    size_t len = input == NULL ? 0 : strlen(input);
    struct lev_error late;
    pid_t pid;
    int rc;

    if (len > INPUT_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0, "input too long");
    }
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(o, O_CLOEXEC) < 0 ||
        pipe2(e, O_CLOEXEC) < 0)
    {
        return lev_error_errno(err, "pipe");
    }
    /* Before the command exists nobody can close the other end under us, and
     * what fits into the pipe is written at once. */
    if (len > 0 && write(in[1], input, len) != (ssize_t)len) {
        return lev_error_errno(err, "write a command's input");
    }
    if (spawn(argv, in[0], o[1], e[1], &pid, err) < 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        in[i] = -1;
    }
    close(o[1]);
    o[1] = -1;
    close(e[1]);
    e[1] = -1;
    rc = collect(scope, (int[2]){o[0], e[0]},
                 (struct lev_buf *[2]){out, errors}, err);
    if (rc < 0) {
        kill(-pid, SIGKILL);
    }
    return reap(scope, pid, status, rc < 0 ? &late : err) < 0 ? -1 : rc;
}
