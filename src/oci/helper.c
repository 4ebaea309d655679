#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PACKET_MAX (192 * 1024) /* a default socket buffer takes 208 KiB */
#define STOP_TIMEOUT (60 * LEV_SECOND)

extern char **environ;

struct lev_helper {
    int sock;
    int pidfd; /* of the helper */
    int bundles;
    pid_t pid;
};

void
lev_packet_deinit(struct lev_packet *p)
{
    json_decref(p->body);
    for (size_t i = 0; i < p->n; i++) {
        lev_closep(&p->fds[i]);
    }
    *p = (struct lev_packet){0};
}

union control {
    char space[CMSG_SPACE(sizeof(int) * LEV_PACKET_FDS)];
    struct cmsghdr align;
};

static int
wait_room(int sock, const struct lev_scope *scope, struct lev_error *err)
{
    struct pollfd pfd = {.fd = sock, .events = POLLOUT};

    return lev_scope_poll(scope, &pfd, 1, err) < 0 ? -1 : 0;
}

int
lev_packet_send(int sock, const struct lev_scope *scope, const json_t *body,
                const int *fds, size_t n, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf text = {0};
    union control control = {0};
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (lev_json_dump(body, &text, err) < 0) {
        return -1;
    }
    if (text.len > PACKET_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "a message of %zu bytes to the helper is too "
                             "long",
                             text.len);
    }
    iov = (struct iovec){text.data, text.len};
    if (n > 0) {
        struct cmsghdr *c;

        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    while (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno == EAGAIN ? wait_room(sock, scope, err) < 0 : errno != EINTR)
        {
            return errno == EAGAIN ? -1
                                   : lev_error_errno(err, "send a message");
        }
    }
    return 0;
}

static void
take_fds(struct msghdr *msg, struct lev_packet *packet)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
         c = CMSG_NXTHDR(msg, c))
    {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            packet->n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(packet->fds, CMSG_DATA(c), packet->n * sizeof(int));
        }
    }
}

int
lev_packet_recv(int sock, struct lev_packet *packet, struct lev_error *err)
{
    _cleanup_free_ char *text = malloc(PACKET_MAX);
    union control control;
    struct iovec iov = {text, PACKET_MAX};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n;

    *packet = (struct lev_packet){0};
    if (text == NULL) {
        return lev_error_nomem(err, "message");
    }
    do {
        n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN       ? -2
               : errno == ECONNRESET ? 0
                                     : lev_error_errno(err, "receive");
    }
    take_fds(&msg, packet);
    if (n == 0) {
        lev_packet_deinit(packet);
        return 0;
    }
    packet->body = lev_json_parse(text, (size_t)n, "a message", err);
    if (packet->body == NULL) {
        lev_packet_deinit(packet);
        return -1;
    }
    return 1;
}

/* ---- the engine's end ---- */

static int
helper_gone(struct lev_error *err)
{
    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                         "the helper process (lev-reaper) is gone: was it "
                         "killed? What it left is removed by the next "
                         "session");
}

static int
take_answer(int sock, struct lev_packet *answer, struct lev_error *err)
{
    int rc = lev_packet_recv(sock, answer, err);
    const char *text;

    if (rc == 0) {
        return helper_gone(err);
    }
    if (rc < 0) {
        return -1;
    }
    text = lev_json_str(answer->body, "error");
    if (text == NULL) {
        return 0;
    }
    lev_error_set(
        err,
        (enum lev_errcode)lev_json_int(answer->body, "code", LEV_E_ENGINE),
        (int)lev_json_int(answer->body, "detail", 0), "%s", text);
    lev_packet_deinit(answer);
    return -1;
}

int
lev_helper_call(struct lev_helper *h, const struct lev_scope *scope,
                json_t *request, const int *fds, size_t n,
                struct lev_packet *answer, struct lev_error *err)
{
    _cleanup_json_ json_t *body = request;
    _cleanup_packet_ struct lev_packet unused = {0};
    _cleanup_close_ int mine = -1, theirs = -1;
    int pair[2], all[LEV_PACKET_FDS];
    struct pollfd pfd = {.events = POLLIN};

    if (body == NULL) {
        return lev_error_nomem(err, "message");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return lev_error_errno(err, "socketpair");
    }
    mine = pair[0];
    theirs = pair[1];
    all[0] = theirs;
    for (size_t i = 0; i < n; i++) {
        all[i + 1] = fds[i];
    }
    if (lev_packet_send(h->sock, scope, body, all, n + 1, err) < 0) {
        return err->code == LEV_E_OS &&
                       (err->detail == EPIPE || err->detail == ECONNRESET)
                   ? helper_gone(err)
                   : -1;
    }
    lev_closep(&theirs);
    pfd.fd = mine;
    if (lev_scope_poll(scope, &pfd, 1, err) < 0) {
        return -1;
    }
    return take_answer(mine, answer == NULL ? &unused : answer, err);
}

pid_t
lev_helper_pid(const struct lev_helper *h)
{
    return h->pid;
}

int
lev_helper_bundles(const struct lev_helper *h)
{
    return h->bundles;
}

static int
spawn(struct lev_helper *h, const char *const *argv, int sock, int pidfd,
      struct lev_error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    /* Its terminal and pipes are not our caller's to wait for. stderr stays
     * for what it has to say when it cannot start; it leaves it later. */
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, sock, LEV_HELPER_SOCKET);
    posix_spawn_file_actions_adddup2(&actions, pidfd, LEV_HELPER_PIDFD);
    posix_spawn_file_actions_addclosefrom_np(&actions, LEV_HELPER_PIDFD + 1);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETSID);
    rc = posix_spawn(&h->pid, argv[0], &actions, &attr, (char *const *)argv,
                     environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, rc,
                             "start the helper %s: %s", argv[0],
                             strerrordesc_np(rc));
    }
    h->pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
    return h->pidfd < 0 ? lev_error_errno(err, "pidfd of the helper") : 0;
}

/* Descriptors above those that they become, so that no dup2 hits another. */
static int
lift(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, LEV_HELPER_PIDFD + 1);
}

static int
spawn_connected(struct lev_helper *h, const char *const *argv,
                struct lev_error *err)
{
    _cleanup_close_ int theirs = -1, own = -1, high_sock = -1, high_own = -1;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return lev_error_errno(err, "socketpair");
    }
    h->sock = pair[0];
    theirs = pair[1];
    own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    high_sock = lift(theirs);
    high_own = own < 0 ? -1 : lift(own);
    if (high_sock < 0 || high_own < 0) {
        return lev_error_errno(err, "descriptors of the helper");
    }
    return spawn(h, argv, high_sock, high_own, err);
}

static int
start(struct lev_helper *h, const char *const *argv,
      const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_packet_ struct lev_packet ready = {0};
    struct pollfd pfd = {.events = POLLIN};

    if (spawn_connected(h, argv, err) < 0) {
        return -1;
    }
    pfd.fd = h->sock;
    if (lev_scope_poll(scope, &pfd, 1, err) < 0) {
        return -1;
    }
    if (take_answer(h->sock, &ready, err) < 0) {
        return -1;
    }
    if (ready.n != 1) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the helper gave no directory");
    }
    h->bundles = lev_steal_fd(&ready.fds[0]);
    return 0;
}

struct lev_helper *
lev_helper_start(const char *program, const char *dir, const char *tag,
                 const char *runtime, bool gc_only,
                 const struct lev_scope *scope, struct lev_error *err)
{
    const char *const argv[] = {
        program, dir, tag, runtime, gc_only ? "gc" : NULL, NULL};
    struct lev_helper *h = calloc(1, sizeof(*h));

    if (h == NULL) {
        lev_error_nomem(err, "helper");
        return NULL;
    }
    h->sock = h->pidfd = h->bundles = -1;
    if (start(h, argv, scope, err) < 0) {
        lev_helper_stop(h);
        return NULL;
    }
    return h;
}

struct lev_helper *
lev_helper_spawn(const char *const *argv, struct lev_error *err)
{
    struct lev_helper *h = calloc(1, sizeof(*h));

    if (h == NULL) {
        lev_error_nomem(err, "helper");
        return NULL;
    }
    h->sock = h->pidfd = h->bundles = -1;
    if (spawn_connected(h, argv, err) < 0) {
        lev_helper_release(h);
        return NULL;
    }
    return h;
}

int
lev_helper_tell(struct lev_helper *h, const struct lev_scope *scope,
                json_t *message, struct lev_error *err)
{
    _cleanup_json_ json_t *body = message;

    if (body == NULL) {
        return lev_error_nomem(err, "message");
    }
    return lev_packet_send(h->sock, scope, body, NULL, 0, err);
}

void
lev_helper_release(struct lev_helper *h)
{
    if (h == NULL) {
        return;
    }
    lev_closep(&h->sock);
    lev_closep(&h->pidfd);
    free(h);
}

void
lev_helper_stop(struct lev_helper *h)
{
    struct lev_scope scope = {lev_now() + STOP_TIMEOUT, NULL};
    struct pollfd pfd;
    struct lev_error err;

    if (h == NULL) {
        return;
    }
    lev_closep(&h->sock);
    lev_closep(&h->bundles);
    if (h->pidfd >= 0) {
        pfd = (struct pollfd){.fd = h->pidfd, .events = POLLIN};
        if (lev_scope_poll(&scope, &pfd, 1, &err) > 0) {
            waitpid(h->pid, NULL, 0);
        }
        close(h->pidfd);
    }
    free(h);
}
