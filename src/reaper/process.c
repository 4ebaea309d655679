#include "reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PF_EXITING 0x4 /* among a process's flags: proc_pid_stat(5) */

extern char **environ;

static void
pid_path(const struct process *p, char path[LEV_PATH_MAX])
{
    reaper_path(p->container->reaper, path, "state/%s.%u.pid",
                p->container->name, p->number);
}

static void
log_path(const struct process *p, char path[LEV_PATH_MAX])
{
    reaper_path(p->container->reaper, path, "state/%s.%u.log",
                p->container->name, p->number);
}

static int
spawn(struct process *p, const char *const *argv, const int fds[3],
      struct lev_error *err)
{
    const char *sealed = p->container->reaper->sealed;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    for (int i = 0; i < 3; i++) {
        posix_spawn_file_actions_adddup2(&actions, fds[i], i);
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = sealed == NULL ? ENOEXEC
                        : posix_spawn(&p->runtime, sealed, &actions, &attr,
                                      (char *const *)argv, environ);
    if (rc != 0) { /* a policy of the machine against programs in memory */
        rc = posix_spawn(&p->runtime, argv[0], &actions, &attr,
                         (char *const *)argv, environ);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        p->runtime = 0;
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, rc,
                             "run the OCI runtime %s: %s", argv[0],
                             strerrordesc_np(rc));
    }
    return 0;
}

/* What the runtime itself has to say goes to a log, not between the tool's
 * words on standard error. */
static int
run_runtime(struct process *p, const int fds[3], struct lev_error *err)
{
    struct container *c = p->container;
    char root[LEV_PATH_MAX], pid[LEV_PATH_MAX], log[LEV_PATH_MAX];
    char bundle[LEV_PATH_MAX], spec[LEV_PATH_MAX + 32];
    const char *const run[] = {c->reaper->runtime,
                               "--root",
                               root,
                               "--log",
                               log,
                               "--log-format",
                               "json",
                               "run",
                               "--detach",
                               "--pid-file",
                               pid,
                               "--bundle",
                               bundle,
                               c->name,
                               NULL};
    const char *const exec[] = {c->reaper->runtime,
                                "--root",
                                root,
                                "--log",
                                log,
                                "--log-format",
                                "json",
                                "exec",
                                "--detach",
                                "--pid-file",
                                pid,
                                "--process",
                                spec,
                                c->name,
                                NULL};

    reaper_path(c->reaper, root, "state/runtime");
    container_path(c, bundle);
    snprintf(spec, sizeof(spec), "%s/exec-%u.json", bundle, p->number);
    pid_path(p, pid);
    log_path(p, log);
    return spawn(p, p->number == 0 ? run : exec, fds, err);
}

static void
forget(struct process *p)
{
    struct process **at = &p->container->processes;
    char path[LEV_PATH_MAX];

    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    pid_path(p, path);
    unlink(path);
    log_path(p, path);
    unlink(path);
    lev_closep(&p->exit_fd);
    lev_closep(&p->reply_fd);
    free(p);
}

struct process *
process_first(const struct container *c)
{
    struct process *p = c->processes;

    while (p != NULL && p->number != 0) {
        p = p->next;
    }
    return p;
}

int
process_start(struct container *c, unsigned number, const int fds[4],
              int reply_fd, struct lev_error *err)
{
    struct process *p = calloc(1, sizeof(*p));

    if (p == NULL) {
        return lev_error_nomem(err, "process");
    }
    p->container = c;
    p->number = number;
    p->exit_fd = p->reply_fd = -1;
    p->next = c->processes;
    c->processes = p;
    if (run_runtime(p, fds, err) < 0) {
        forget(p);
        return -1;
    }
    p->exit_fd = fcntl(fds[3], F_DUPFD_CLOEXEC, 3);
    p->reply_fd = fcntl(reply_fd, F_DUPFD_CLOEXEC, 3);
    if (number == 0) {
        c->state = STARTING;
    }
    return 0;
}

void
process_kill(struct process *p)
{
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
    }
    p->doomed = true;
}

static void
tell_end(struct process *p, int code)
{
    const struct container *c = p->container;
    struct lev_exit end = {.code = code,
                           .oom = c->oom,
                           .peak = c->peak,
                           .started = c->started,
                           .finished = reaper_wall_ms()};

    if (p->exit_fd >= 0) {
        /* Nobody there any more: nobody to tell. */
        send(p->exit_fd, &end, sizeof(end), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static void
process_ended(struct process *p, int status)
{
    struct container *c = p->container;
    int code =
        WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    char cgroup[LEV_PATH_MAX];
    bool oom;

    p->pid = 0;
    if (p->number == 0) {
        container_cgroup(c, cgroup);
        lev_cgroup_memory(&c->reaper->cgroups, cgroup, &c->peak, &oom);
        c->oom = oom;
        c->code = code;
        c->state = ENDED;
        c->pid = 0;
        c->finished = reaper_wall_ms();
        if (c->shares_pids) {
            lev_cgroup_kill(&c->reaper->cgroups, cgroup);
        }
    }
    tell_end(p, code);
    forget(p);
}

/* A child that ended before the runtime has told us which it is. */
static bool
take_ended(struct reaper *r, pid_t pid, int *status)
{
    for (size_t i = 0; i < r->ended_n; i++) {
        if (r->ended[i].pid == pid) {
            *status = r->ended[i].status;
            r->ended[i] = r->ended[--r->ended_n];
            return true;
        }
    }
    return false;
}

static void
keep_ended(struct reaper *r, pid_t pid, int status)
{
    if (r->ended_n == LEV_ENDED_MAX) { /* the oldest was a helper's helper */
        memmove(r->ended, r->ended + 1, sizeof(r->ended) - sizeof(*r->ended));
        r->ended_n--;
    }
    r->ended[r->ended_n].pid = pid;
    r->ended[r->ended_n++].status = status;
}

static pid_t
read_pid(const struct process *p)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[LEV_PATH_MAX];
    int pid;

    pid_path(p, path);
    f = fopen(path, "re");
    return f != NULL && fscanf(f, "%d", &pid) == 1 && pid > 0 ? pid : 0;
}

/* The last error in the runtime's log: lines of JSON. */
static void
read_complaint(const struct process *p, char *text, size_t size)
{
    _cleanup_fclose_ FILE *f = NULL;
    _cleanup_free_ char *line = NULL;
    char path[LEV_PATH_MAX];
    struct lev_error none;
    size_t cap = 0;
    ssize_t n;

    snprintf(text, size, "the runtime gave no reason");
    log_path(p, path);
    f = fopen(path, "re");
    while (f != NULL && (n = getline(&line, &cap, f)) > 0) {
        _cleanup_json_ json_t *entry =
            lev_json_parse(line, (size_t)n, "log", &none);
        const char *level = lev_json_str(entry, "level");
        const char *msg = lev_json_str(entry, "msg");

        if (msg != NULL && (level == NULL || strcmp(level, "error") == 0)) {
            snprintf(text, size, "%s", msg);
        }
    }
}

/* The memory that the runtime itself takes in the container's group is
 * counted, too. */
static bool
had_no_memory(const struct container *c, const char *complaint)
{
    char cgroup[LEV_PATH_MAX];
    int64_t peak;
    bool oom;

    container_cgroup(c, cgroup);
    lev_cgroup_memory(&c->reaper->cgroups, cgroup, &peak, &oom);
    return oom || strstr(complaint, "OOM") != NULL ||
           strstr(complaint, "unable to set memory limit") != NULL;
}

/* A container's first process that is on its way out fails an exec in many
 * words, before its end is told. */
static bool
is_ending(const struct container *c)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[64], stat[512] = "";
    const char *after_name;
    unsigned flags;

    if (c->state != RUNNING) {
        return true;
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)c->pid);
    f = fopen(path, "re");
    if (f == NULL || fgets(stat, sizeof(stat), f) == NULL) {
        return true;
    }
    after_name = strrchr(stat, ')');
    return after_name != NULL &&
           sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
           (flags & PF_EXITING);
}

static void
start_failed(struct process *p)
{
    struct container *c = p->container;
    struct lev_error err;
    char why[600];

    read_complaint(p, why, sizeof(why));
    lev_error_set(&err, p->number == 0 ? LEV_E_START : LEV_E_ENGINE, 0, "%s",
                  why);
    if (p->number == 0 && had_no_memory(c, why)) {
        lev_error_set(&err, LEV_E_START, 0,
                      "its memory limit is below what a container takes to "
                      "start (%s): give a mem_limit of 6m or more",
                      why);
    }
    if (p->number == 0 && strncmp(why, "bpf", 3) == 0) {
        lev_error_set(&err, LEV_E_ENGINE_UNAVAILABLE, 0,
                      "cgroup v2 guards a container's devices by a BPF "
                      "program, and to set it takes the machine's own "
                      "CAP_NET_ADMIN and CAP_BPF (%s)",
                      why);
    }
    if (p->number == 0) {
        c->state = ENDED;
        c->code = 127;
    }
    else if (is_ending(c)) {
        err.code = LEV_E_CONFLICT;
    }
    reply_error(lev_steal_fd(&p->reply_fd), &err);
    forget(p);
}

static void
runtime_ended(struct process *p, int status)
{
    struct container *c = p->container;
    int code;

    p->runtime = 0;
    p->pid = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? read_pid(p) : 0;
    if (p->pid == 0) {
        start_failed(p);
        return;
    }
    if (p->number == 0) {
        c->state = RUNNING;
        c->pid = p->pid;
        c->started = reaper_wall_ms();
    }
    reply(lev_steal_fd(&p->reply_fd), json_pack("{s:i}", "pid", (int)p->pid),
          -1);
    if (take_ended(c->reaper, p->pid, &code)) {
        process_ended(p, code);
    }
    else if (p->doomed) {
        process_kill(p);
    }
}

static struct process *
find(const struct reaper *r, pid_t pid, bool *runtime)
{
    for (struct container *c = r->containers; c != NULL; c = c->next) {
        for (struct process *p = c->processes; p != NULL; p = p->next) {
            if (p->pid == pid || p->runtime == pid) {
                *runtime = p->runtime == pid;
                return p;
            }
        }
    }
    return NULL;
}

void
process_reap(struct reaper *r)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        bool runtime;
        struct process *p = find(r, pid, &runtime);

        if (p == NULL) {
            keep_ended(r, pid, status);
        }
        else if (runtime) {
            runtime_ended(p, status);
        }
        else {
            process_ended(p, status);
        }
    }
}
