/* Standard input and output of an exec, carried to the guest's socket.
 *
 * The abstract namespace belongs to the network namespace, which may be the
 * host's: so the relay talks only to a process that it can see (SO_PEERCRED
 * gives pid 0 for one of another PID namespace), and shows the guest the
 * token of this container, which its environment holds, before anything else.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 30000
#define RETRY_MS 5

/* One direction: bytes read and not yet written. */
struct flow {
    int from, to;
    bool eof;  /* `from` has ended */
    bool done; /* and everything of it was passed on */
    size_t start, end;
    char data[65536];
};

static int
parse(int argc, char **argv, struct sockaddr_un *addr, socklen_t *len,
      long *timeout_ms, struct lev_error *err)
{
    int i = 1;
    size_t n;

    if (argc > 2 && strcmp(argv[1], "--timeout-ms") == 0) {
        if (lev_arg_number(argv[2], "--timeout-ms", 1L << 30, timeout_ms,
                           err) < 0) {
            return -1;
        }
        i = 3;
    }
    n = i + 1 == argc ? strlen(argv[i]) : 0;
    if (n == 0 || n >= sizeof(addr->sun_path)) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "relay needs the name of one abstract socket, at "
                             "most %zu bytes long",
                             sizeof(addr->sun_path) - 1);
    }
    memcpy(addr->sun_path + 1, argv[i], n); /* a NUL first: abstract */
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
    return 0;
}

static int
check_peer(int fd, struct lev_error *err)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return lev_error_errno(err, "relay: who is the guest");
    }
    if (peer.pid == 0) {
        return lev_error_set(err, LEV_E_STATE, 0,
                             "the guest's socket is held by a process outside "
                             "of this container");
    }
    return 0;
}

static int
connect_guest(const struct sockaddr_un *addr, socklen_t len, long timeout_ms,
              struct lev_error *err)
{
    const int64_t end = lev_now_ms() + timeout_ms;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return lev_error_errno(err, "relay: socket");
    }
    while (connect(fd, (const struct sockaddr *)addr, len) < 0) {
        if (errno != ECONNREFUSED && errno != EAGAIN && errno != EINTR) {
            return lev_error_errno(err, "relay: connect to the guest");
        }
        if (lev_now_ms() >= end) {
            return lev_error_set(err, LEV_E_TIMEOUT, 0,
                                 "no guest listens after %ld ms", timeout_ms);
        }
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000}, NULL);
    }
    if (check_peer(fd, err) < 0) {
        return -1;
    }
    return lev_steal_fd(&fd);
}

static int
show_token(int fd, struct lev_error *err)
{
    const char *token = getenv("LEV_TOKEN");
    size_t len = token != NULL ? strlen(token) : 0;

    /* A fresh socket's buffer takes it whole. */
    if (send(fd, token != NULL ? token : "", len, MSG_NOSIGNAL) < 0) {
        return lev_error_errno(err, "relay: send to the guest");
    }
    return 0;
}

static int
unblock(int fd, struct lev_error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return lev_error_errno(err, "relay: descriptor %d", fd);
    }
    return 0;
}

static bool
would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static int
fill(struct flow *f, struct lev_error *err)
{
    ssize_t n = read(f->from, f->data, sizeof(f->data));

    if (n < 0 && errno == ECONNRESET) {
        n = 0; /* the guest was killed: its stream ends */
    }
    if (n < 0) {
        return would_block() ? 0 : lev_error_errno(err, "relay: read");
    }
    f->eof = n == 0;
    f->start = 0;
    f->end = (size_t)n;
    return 0;
}

static int
drain(struct flow *f, struct lev_error *err)
{
    while (f->start < f->end) {
        ssize_t n = write(f->to, f->data + f->start, f->end - f->start);

        if (n < 0) {
            return would_block() ? 0 : lev_error_errno(err, "relay: write");
        }
        f->start += (size_t)n;
    }
    return 0;
}

static bool
is_empty(const struct flow *f)
{
    return f->start == f->end;
}

/* Moves what can be moved now. */
static int
step(struct flow *f, struct lev_error *err)
{
    if (is_empty(f) && !f->eof && fill(f, err) < 0) {
        return -1;
    }
    if (drain(f, err) < 0) {
        return -1;
    }
    if (f->eof && is_empty(f) && !f->done) {
        f->done = true;
        shutdown(f->to, SHUT_WR); /* the guest sees the host's half-close */
    }
    return 0;
}

/* A negative descriptor is ignored by poll(). */
static struct pollfd
waits_for(const struct flow *f)
{
    if (f->done) {
        return (struct pollfd){.fd = -1};
    }
    return is_empty(f) ? (struct pollfd){.fd = f->from, .events = POLLIN}
                       : (struct pollfd){.fd = f->to, .events = POLLOUT};
}

static int
carry(int guest, struct lev_error *err)
{
    /* Static: 128 KB that cost nothing until they are used. */
    static struct flow in = {.from = STDIN_FILENO};
    static struct flow out = {.to = STDOUT_FILENO};

    in.to = out.from = guest;
    while (!in.done || !out.done) {
        /* A guest that says no more may still read; one that is gone cannot.
         * Asked for before that, its end would be told again and again. */
        struct pollfd fds[] = {
            waits_for(&in), waits_for(&out), {.fd = out.done ? guest : -1}};

        if (poll(fds, LEV_ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
            return lev_error_errno(err, "relay: poll");
        }
        if ((fds[2].revents & POLLHUP) != 0) {
            return 0;
        }
        if (fds[1].revents != 0 && step(&out, err) < 0) {
            return -1;
        }
        if (fds[0].revents != 0 && step(&in, err) < 0) {
            if (err->detail != EPIPE && err->detail != ECONNRESET) {
                return -1;
            }
            in.done = true; /* the guest reads no more, but may still talk */
        }
    }
    return 0;
}

int
lev_relay_main(int argc, char **argv)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = 0;
    long timeout_ms = CONNECT_TIMEOUT_MS;
    struct lev_error err;
    _cleanup_close_ int guest = -1;

    if (parse(argc, argv, &addr, &len, &timeout_ms, &err) < 0) {
        return lev_complain(&err, LEV_LAUNCHER_USAGE);
    }
    signal(SIGPIPE, SIG_IGN); /* EPIPE says the same, and where */
    guest = connect_guest(&addr, len, timeout_ms, &err);
    if (guest < 0 || show_token(guest, &err) < 0 || unblock(guest, &err) < 0 ||
        unblock(STDIN_FILENO, &err) < 0 || unblock(STDOUT_FILENO, &err) < 0 ||
        carry(guest, &err) < 0)
    {
        return lev_complain(&err, 1);
    }
    return 0;
}
