#include "reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>

#include "tree.h"
#include "watch.h"

#define STEP_MS 3 /* between two looks at what cannot be done yet */
/* One that was killed just before the start may have had its lock still. */
#define SWEEP_AGAIN (2 * LEV_SECOND)

void
reaper_path(const struct reaper *r, char path[LEV_PATH_MAX], const char *fmt,
            ...)
{
    int n = snprintf(path, LEV_PATH_MAX, "%s/", r->session_dir);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path + n, LEV_PATH_MAX - (size_t)n, fmt, ap);
    va_end(ap);
}

int64_t
reaper_wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- surroundings ---- */

/* The directory appears under its name with its lock held, so that no sweep
 * takes it for a dead session's. */
static int
make_session_dir(struct reaper *r, struct lev_error *err)
{
    static const char *const below[] = {"containers", "networks", "state"};
    char fresh[64], final[64];

    snprintf(fresh, sizeof(fresh), "sessions/.%s", r->tag);
    snprintf(final, sizeof(final), "sessions/%s", r->tag);
    if ((mkdirat(r->store_fd, "sessions", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(r->store_fd, "names", 0700) < 0 && errno != EEXIST) ||
        mkdirat(r->store_fd, fresh, 0700) < 0)
    {
        return lev_error_errno(err, "make %s/%s", r->dir, fresh);
    }
    r->session_fd =
        openat(r->store_fd, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->session_fd < 0) {
        return lev_error_errno(err, "open %s/%s", r->dir, fresh);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(below); i++) {
        if (mkdirat(r->session_fd, below[i], 0700) < 0) {
            return lev_error_errno(err, "make %s", below[i]);
        }
    }
    r->lock_fd =
        openat(r->session_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock_fd < 0 || flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0 ||
        renameat(r->store_fd, fresh, r->store_fd, final) < 0)
    {
        return lev_error_errno(err, "make %s/%s", r->dir, final);
    }
    return 0;
}

static int
no_cgroup(const char *path, struct lev_error *err)
{
    int code = errno;

    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, code,
                         "make the cgroup %s: %s; containers without a daemon "
                         "need control groups that can be written: mount "
                         "them so, or choose another engine",
                         path, strerrordesc_np(code));
}

/* crun wants either v1 alone or v2 alone. A group of ours, two levels down
 * (the first must stay without controllers), is bound over the v2 hierarchy:
 * then it takes v1's limits, and one write kills the session. */
static int
bind_unified(struct reaper *r, struct lev_error *err)
{
    char path[128];

    /* Groups of other sessions are not seen below it. */
    if (!r->cgroups.v1 || r->cgroups.unified < 0 || r->gc_only) {
        return 0;
    }
    snprintf(path, sizeof(path), LEV_UNIFIED "/levrt-%s", r->tag);
    if (mkdir(path, 0755) < 0) {
        return no_cgroup(path, err);
    }
    r->hybrid = true;
    strncat(path, "/in", sizeof(path) - strlen(path) - 1);
    if (mkdir(path, 0755) < 0 ||
        mount(path, LEV_UNIFIED, NULL, MS_BIND, NULL) < 0) {
        return no_cgroup(path, err);
    }
    return 0;
}

/* Where nothing is bound, a group that is made and removed tells beforehand
 * whether containers can have theirs. */
static int
check_cgroups(struct reaper *r, struct lev_error *err)
{
    char path[128];

    for (size_t i = 0; i < r->cgroups.n; i++) {
        if (strcmp(r->cgroups.roots[i], LEV_UNIFIED) == 0) {
            continue;
        }
        snprintf(path, sizeof(path), "%s/levrt-%s", r->cgroups.roots[i],
                 r->tag);
        if (mkdir(path, 0755) < 0) {
            return no_cgroup(path, err);
        }
        rmdir(path);
    }
    lev_cgroups_enable(&r->cgroups);
    return 0;
}

static int
unshare_mounts(struct reaper *r, struct lev_error *err)
{
    char path[LEV_PATH_MAX], bundles[LEV_PATH_MAX];

    if (unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
    {
        int code = errno;

        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, code,
                             "make a mount namespace: %s; containers without "
                             "a daemon need root (CAP_SYS_ADMIN)",
                             strerrordesc_np(code));
    }
    /* What the runtime notes does not outlive this process. */
    reaper_path(r, path, "state");
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") < 0) {
        return lev_error_errno(err, "mount a tmpfs at %s", path);
    }
    reaper_path(r, bundles, LEV_BUNDLES);
    if (mkdir(bundles, 0700) < 0) {
        return lev_error_errno(err, "%s", bundles);
    }
    /* crun makes a directory there, whatever --root says. */
    setenv("XDG_RUNTIME_DIR", path, 1);
    /* The descriptor of before leads into the other namespace, where nothing
     * is mounted there. */
    lev_closep(&r->session_fd);
    r->session_fd = open(r->session_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r->session_fd < 0 ? lev_error_errno(err, "%s", r->session_dir) : 0;
}

static int
watch_signals(struct reaper *r, struct lev_error *err)
{
    sigset_t set;

    /* Whoever means the workflow must not hit this one, which outlives it. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->signals < 0 ? lev_error_errno(err, "signalfd") : 0;
}

static int
set_up(struct reaper *r, struct lev_error *err)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    umask(022);
    personality(PER_LINUX); /* not the caller's (setarch): containers get it */
    r->store_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->store_fd < 0) {
        return lev_error_errno(err, "open the store %s", r->dir);
    }
    if (asprintf(&r->session_dir, "%s/sessions/%s", r->dir, r->tag) < 0) {
        r->session_dir = NULL;
        return lev_error_nomem(err, "session");
    }
    if (watch_signals(r, err) < 0 || lev_cgroups_find(&r->cgroups, err) < 0) {
        return -1;
    }
    if (!r->gc_only) {
        sweep_dead(r, NULL);
    }
    if (make_session_dir(r, err) < 0 || unshare_mounts(r, err) < 0 ||
        check_cgroups(r, err) < 0 || bind_unified(r, err) < 0)
    {
        return -1;
    }
    runtime_seal(r);
    return 0;
}

/* Nothing of the caller's is kept busy: its directory, and its stderr. */
static void
detach(const struct reaper *r)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, 2);
        close(null);
    }
    if (chdir("/") < 0) {
        abort();
    }
}

/* ---- the loop ---- */

static void
stop(struct reaper *r)
{
    r->stopping = true;
    for (struct container *c = r->containers; c != NULL; c = c->next) {
        container_remove(c, -1);
    }
}

/* True while something is to be done that cannot be yet. */
static bool
step(struct reaper *r)
{
    struct container *next;
    bool busy = false;

    for (struct container *c = r->containers; c != NULL; c = next) {
        next = c->next;
        busy |= container_deliver(c);
        if (c->removing) {
            busy |= !container_step(c);
        }
    }
    return busy;
}

static void
take_requests(struct reaper *r)
{
    for (;;) {
        _cleanup_packet_ struct lev_packet p = {0};
        struct lev_error err;
        int rc = lev_packet_recv(r->sock, &p, &err);

        if (rc == -2) {
            return;
        }
        if (rc <= 0) {
            stop(r);
            return;
        }
        request_serve(r, &p);
    }
}

static void
take_signals(struct reaper *r)
{
    struct signalfd_siginfo info[16];

    while (read(r->signals, info, sizeof(info)) > 0) {
        ;
    }
    process_reap(r);
}

/* Execs whose other end is closed: nobody wants them any more. */
static size_t
collect_execs(const struct reaper *r, struct pollfd *fds,
              struct process **owners, size_t max)
{
    size_t n = 0;

    for (struct container *c = r->containers; c != NULL; c = c->next) {
        for (struct process *p = c->processes; p != NULL; p = p->next) {
            if (p->number != 0 && p->exit_fd >= 0 && !p->doomed && n < max) {
                owners[n] = p;
                fds[n++] = (struct pollfd){.fd = p->exit_fd};
            }
        }
    }
    return n;
}

#define EXECS_MAX 1024

static void
serve(struct reaper *r)
{
    static struct pollfd fds[3 + EXECS_MAX];
    static struct process *owners[EXECS_MAX];
    const struct lev_scope again = {lev_now() + SWEEP_AGAIN, NULL};
    bool busy = false, swept = r->gc_only;

    while (!(r->stopping && r->containers == NULL)) {
        size_t n = collect_execs(r, fds + 3, owners, EXECS_MAX);

        fds[0] = (struct pollfd){.fd = r->signals, .events = POLLIN};
        /* A negative descriptor is passed over. */
        fds[1] = (struct pollfd){.fd = r->stopping ? -1 : r->sock,
                                 .events = POLLIN};
        fds[2] = (struct pollfd){.fd = r->stopping ? -1 : r->workflow,
                                 .events = POLLIN};
        int ms = swept ? -1 : lev_scope_left_ms(&again, 60000);

        if (poll(fds, 3 + n, busy ? STEP_MS : ms) < 0 && errno != EINTR) {
            abort();
        }
        for (size_t i = 0; i < n; i++) {
            if (fds[3 + i].revents & (POLLHUP | POLLERR)) {
                process_kill(owners[i]);
            }
        }
        if (!swept && lev_now() >= again.deadline) {
            swept = true;
            sweep_aside(r);
        }
        if (fds[0].revents != 0) {
            take_signals(r);
        }
        if (fds[2].revents != 0) {
            stop(r);
        }
        else if (fds[1].revents != 0) {
            take_requests(r);
        }
        busy = step(r);
    }
}

static void
tear_down(struct reaper *r)
{
    struct lev_error err;
    char path[64];

    for (size_t i = 0; i < r->adopted_n; i++) {
        lev_tree_remove(AT_FDCWD, r->adopted[i], &err);
        free(r->adopted[i]);
    }
    lev_net_close(r->net);
    if (r->hybrid) {
        umount2(LEV_UNIFIED, MNT_DETACH);
        r->hybrid = false;
    }
    if (r->cgroups.n > 0) {
        sweep_cgroups(&r->cgroups, r->tag);
    }
    if (r->session_fd >= 0) {
        char state[LEV_PATH_MAX];

        reaper_path(r, state, "state");
        umount2(state, MNT_DETACH);
        sweep_names(r, r->tag);
        snprintf(path, sizeof(path), "sessions/%s", r->tag);
        lev_tree_remove(r->store_fd, path, &err);
    }
    if (r->lock_fd >= 0 && !r->gc_only) {
        sweep_aside(r); /* a short session's only other time */
    }
    lev_closep(&r->session_fd);
    lev_closep(&r->store_fd);
    lev_closep(&r->runtime_fd);
    free(r->sealed);
    free(r->session_dir);
}

static void
tell_ready(const struct reaper *r)
{
    const struct lev_scope at_once = {0, NULL};
    _cleanup_json_ json_t *ready = json_pack("{s:b}", "ready", 1);
    _cleanup_close_ int bundles =
        openat(r->session_fd, LEV_BUNDLES, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct lev_error err;

    /* Who has gone away meanwhile is seen by the loop. */
    lev_packet_send(r->sock, &at_once, ready, &bundles, bundles >= 0, &err);
}

static int
usage(void)
{
    fprintf(stderr,
            "usage: lev-reaper STORE TAG RUNTIME [gc], or lev-reaper watch "
            "SESSION SWEEPER, with a socket as descriptor 3 and a "
            "pidfd as 4; levrt starts it\n");
    return 2;
}

int
main(int argc, char **argv)
{
    struct reaper r = {.store_fd = -1,
                       .session_fd = -1,
                       .lock_fd = -1,
                       .signals = -1,
                       .runtime_fd = -1,
                       .sock = LEV_HELPER_SOCKET,
                       .workflow = LEV_HELPER_PIDFD};
    const struct lev_scope at_once = {0, NULL};
    _cleanup_json_ json_t *ready = NULL;
    struct lev_error err;

    if (argc == 4 && strcmp(argv[1], "watch") == 0) {
        return watch_main(argv[2], argv[3]);
    }
    r.gc_only = argc == 5 && strcmp(argv[4], "gc") == 0;
    if (argc != (r.gc_only ? 5 : 4) || argv[1][0] != '/' ||
        strlen(argv[2]) > LEV_TAG_MAX ||
        fcntl(r.sock, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(r.workflow, F_SETFD, FD_CLOEXEC) < 0)
    {
        return usage();
    }
    r.dir = argv[1];
    snprintf(r.tag, sizeof(r.tag), "%s", argv[2]);
    r.runtime = argv[3];
    if (set_up(&r, &err) < 0) {
        tear_down(&r);
        ready = json_pack("{s:s, s:i, s:i}", "error", err.msg, "code",
                          (int)err.code, "detail", err.detail);
        lev_packet_send(r.sock, &at_once, ready, NULL, 0, &err);
        return 1;
    }
    tell_ready(&r);
    detach(&r);
    serve(&r);
    tear_down(&r);
    return 0;
}
