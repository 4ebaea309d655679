/* oci_process.c - a container's first process, and execs.
 *
 * Output comes by pipes that nobody else reads, so it takes no way through the
 * helper. The end of a process comes by a socket of its own, after which the
 * pipes are drained: the container's other processes have died with it.
 */

#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define START_TIMEOUT (60 * LEV_SECOND)
/* How long output may take to end after the exit was told. */
#define DRAIN_TIMEOUT (10 * LEV_SECOND)
#define CHUNK (64 * 1024)
#define FDS_MAX 64

/* Our ends: what a process writes, and how it ends. */
struct ends {
    int in; /* its standard input; -1 */
    int out[2];
    int exit;
};

struct lev_process {
    struct lev_oci *o;
    struct lev_oci_container *c;
    struct lev_output *output;
    struct ends ends;
    int theirs[4]; /* for the start; then -1 */
    bool exited;
    int exit_code;
    int64_t drain_until;
};

struct lev_exec {
    struct lev_oci *o;
    struct lev_oci_container *c;
    struct ends ends;
    int epoll;
    bool exited;
    int exit_code;
};

static void
close_fds(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lev_closep(&fds[i]);
    }
}

static void
ends_init(struct ends *ends, int theirs[4])
{
    ends->in = ends->out[0] = ends->out[1] = ends->exit = -1;
    for (int i = 0; i < 4; i++) {
        theirs[i] = -1;
    }
}

static void
ends_close(struct ends *ends)
{
    lev_closep(&ends->in);
    close_fds(ends->out, 2);
    lev_closep(&ends->exit);
}

/* stdin is /dev/null or a pipe, stdout and stderr are pipes. Ours do not
 * block, theirs do. */
static int
ends_open(struct ends *ends, int theirs[4], bool input, struct lev_error *err)
{
    int pair[2];

    if (!input) {
        theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    else if (pipe2(pair, O_CLOEXEC) == 0) {
        theirs[0] = pair[0];
        ends->in = pair[1];
        fcntl(ends->in, F_SETFL, O_NONBLOCK);
    }
    for (int i = 0; i < 2 && theirs[i] >= 0; i++) {
        if (pipe2(pair, O_CLOEXEC) == 0) {
            ends->out[i] = pair[0];
            theirs[i + 1] = pair[1];
            fcntl(pair[0], F_SETFL, O_NONBLOCK);
        }
    }
    if (theirs[2] >= 0 &&
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0)
    {
        ends->exit = pair[0];
        theirs[3] = pair[1];
    }
    return theirs[3] < 0 ? lev_error_errno(err, "pipes of a container") : 0;
}

/* 1 when the exit was told, 0 not yet; the helper's death is an error. */
static int
take_exit(int fd, int *code, struct lev_error *err)
{
    struct lev_exit end;
    ssize_t n = recv(fd, &end, sizeof(end), MSG_DONTWAIT);

    if (n == (ssize_t)sizeof(end)) {
        *code = end.code;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                         "the helper process (lev-reaper) is gone");
}

/* ---- the first process ---- */

void
lev_oci_detach(struct lev_process *p)
{
    if (p == NULL) {
        return;
    }
    ends_close(&p->ends);
    close_fds(p->theirs, 4);
    lev_oci_container_unref(p->c);
    lev_engine_unref(&p->o->base);
    free(p);
}

struct lev_process *
lev_oci_attach(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, struct lev_output *out, struct lev_error *err)
{
    struct lev_oci_container *c = lev_oci_find(lev_oci_of(e), id, err);
    struct lev_process *p;

    if (c == NULL) {
        lev_error_wrap(err, "attach");
        return NULL;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        lev_oci_container_unref(c);
        lev_error_nomem(err, "attach");
        return NULL;
    }
    p->o = lev_oci_of(lev_engine_ref(e));
    p->c = c;
    p->output = out;
    ends_init(&p->ends, p->theirs);
    if (ends_open(&p->ends, p->theirs, false, err) < 0) {
        lev_oci_detach(p);
        lev_error_wrap(err, "attach to container %s", id);
        return NULL;
    }
    return p;
}

int
lev_oci_start(struct lev_process *p, const struct lev_scope *scope,
              struct lev_error *err)
{
    struct lev_scope bounded = lev_scope_within(scope, START_TIMEOUT);
    int rc = lev_helper_call(
        p->o->helper, &bounded,
        json_pack("{s:s, s:s}", "op", "start", "name", p->c->name), p->theirs,
        4, NULL, err);

    close_fds(p->theirs, 4);
    return rc < 0 ? lev_error_wrap(err, "start container %s", p->c->name) : 0;
}

/* What is there, of one stream; false when a full chunk came: more may be. */
static int
read_stream(struct lev_process *p, int i, struct lev_error *err)
{
    char chunk[CHUNK];
    ssize_t n = read(p->ends.out[i], chunk, sizeof(chunk));

    if (n > 0) {
        p->output->data(p->output, i + 1, chunk, (size_t)n);
        return 0;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    close_fds(&p->ends.out[i], 1);
    return n < 0 ? lev_error_errno(err, "output of container %s", p->c->name)
                 : 0;
}

static bool
drained(const struct lev_process *p)
{
    return p->ends.out[0] < 0 && p->ends.out[1] < 0;
}

static int
take_what_came(struct lev_process *p, const struct pollfd own[3],
               struct lev_error *err)
{
    for (int i = 0; i < 2; i++) {
        if (own[i].revents != 0 && read_stream(p, i, err) < 0) {
            return -1;
        }
    }
    if (own[2].revents != 0 && !p->exited) {
        int rc = take_exit(p->ends.exit, &p->exit_code, err);

        if (rc < 0) {
            return lev_error_wrap(err, "wait for container %s", p->c->name);
        }
        if (rc > 0) {
            p->exited = true;
            p->drain_until = lev_now() + DRAIN_TIMEOUT;
        }
    }
    return 0;
}

/* The time for output after the exit ends the wait without an error. */
static int
wait_any(struct lev_process *p, const struct lev_scope *scope,
         struct pollfd *all, size_t n, struct lev_error *err)
{
    struct lev_scope brief = *scope;

    if (p->exited && p->drain_until < brief.deadline) {
        brief.deadline = p->drain_until;
    }
    if (lev_scope_poll(&brief, all, n, err) >= 0) {
        return 0;
    }
    if (err->code != LEV_E_TIMEOUT || brief.deadline == scope->deadline) {
        return -1;
    }
    close_fds(p->ends.out, 2);
    lev_log(p->o->base.log, LEV_WARNING, "lev.engine",
            "container %s ended, but its output did not within %d s; what "
            "came until now is kept",
            p->c->name, (int)(DRAIN_TIMEOUT / LEV_SECOND));
    return 0;
}

int
lev_oci_poll(struct lev_process *p, const struct lev_scope *scope,
             struct pollfd *fds, size_t n, int *exit_code,
             struct lev_error *err)
{
    struct pollfd all[FDS_MAX + 3];

    if (n > FDS_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "more than %d descriptors to poll", FDS_MAX);
    }
    if (!(p->exited && drained(p))) {
        memset(all, 0, sizeof(all));
        all[0] = (struct pollfd){.fd = p->ends.out[0], .events = POLLIN};
        all[1] = (struct pollfd){.fd = p->ends.out[1], .events = POLLIN};
        all[2] = (struct pollfd){.fd = p->exited ? -1 : p->ends.exit,
                                 .events = POLLIN};
        if (n > 0) {
            memcpy(all + 3, fds, n * sizeof(*fds));
        }
        if (wait_any(p, scope, all, n + 3, err) < 0 ||
            take_what_came(p, all, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        fds[i].revents = p->exited && drained(p) ? 0 : all[i + 3].revents;
    }
    if (!p->exited || !drained(p)) {
        return 0;
    }
    *exit_code = p->exit_code;
    return 1;
}

/* ---- execs ---- */

void
lev_oci_exec_close(struct lev_exec *x)
{
    if (x == NULL) {
        return;
    }
    /* With the exit's socket closed, the helper kills what still runs. */
    ends_close(&x->ends);
    lev_closep(&x->epoll);
    lev_oci_container_unref(x->c);
    lev_engine_unref(&x->o->base);
    free(x);
}

static int
watch(struct lev_exec *x, struct lev_error *err)
{
    x->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < 2 && x->epoll >= 0; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};

        if (epoll_ctl(x->epoll, EPOLL_CTL_ADD, x->ends.out[i], &ev) < 0) {
            return lev_error_errno(err, "epoll");
        }
    }
    return x->epoll < 0 ? lev_error_errno(err, "epoll") : 0;
}

static int
write_exec(struct lev_exec *x, unsigned number,
           const struct lev_exec_spec *spec, struct lev_error *err)
{
    _cleanup_json_ json_t *process =
        lev_oci_spec_exec(x->c->process, x->c->root, spec, err);
    _cleanup_buf_ struct lev_buf text = {0};
    char name[32];

    if (process == NULL || lev_json_dump(process, &text, err) < 0) {
        return -1;
    }
    snprintf(name, sizeof(name), "exec-%u.json", number);
    return lev_oci_write_bundle(x->o, x->c, name, &text, err);
}

static int
start_exec(struct lev_exec *x, const struct lev_scope *scope,
           const struct lev_exec_spec *spec, struct lev_error *err)
{
    struct lev_scope bounded = lev_scope_within(scope, START_TIMEOUT);
    char path[LEV_OCI_PATH_MAX];
    int theirs[4], rc;
    unsigned number;

    pthread_mutex_lock(&x->o->mutex);
    number = ++x->o->next_exec;
    pthread_mutex_unlock(&x->o->mutex);
    ends_init(&x->ends, theirs);
    rc = ends_open(&x->ends, theirs, spec->input, err);
    if (rc == 0) {
        rc =
            watch(x, err) < 0 || write_exec(x, number, spec, err) < 0 ? -1 : 0;
    }
    if (rc == 0) {
        rc = lev_helper_call(x->o->helper, &bounded,
                             json_pack("{s:s, s:s, s:i}", "op", "exec", "name",
                                       x->c->name, "number", (int)number),
                             theirs, 4, NULL, err);
        snprintf(path, sizeof(path), "%s/exec-%u.json", x->c->name, number);
        unlinkat(lev_helper_bundles(x->o->helper), path, 0);
    }
    close_fds(theirs, 4);
    return rc;
}

struct lev_exec *
lev_oci_exec_start(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, const struct lev_exec_spec *spec,
                   struct lev_error *err)
{
    struct lev_oci_container *c = lev_oci_find(lev_oci_of(e), id, err);
    struct lev_exec *x = c == NULL ? NULL : calloc(1, sizeof(*x));

    if (x == NULL) {
        if (c != NULL) {
            lev_error_nomem(err, "exec");
            lev_oci_container_unref(c);
        }
        return NULL;
    }
    x->o = lev_oci_of(lev_engine_ref(e));
    x->c = c;
    x->epoll = -1;
    if (start_exec(x, scope, spec, err) < 0) {
        lev_oci_exec_close(x);
        lev_error_wrap(err, "exec %s in container %s", spec->argv[0], id);
        return NULL;
    }
    return x;
}

int
lev_oci_exec_fd(const struct lev_exec *x)
{
    return x->epoll;
}

ssize_t
lev_oci_exec_recv(struct lev_exec *x, int *stream, void *buf, size_t len,
                  struct lev_error *err)
{
    for (int i = 0; i < 2; i++) {
        ssize_t n;

        if (x->ends.out[i] < 0) {
            continue;
        }
        n = read(x->ends.out[i], buf, len);
        if (n > 0) {
            *stream = i + 1;
            return n;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return lev_error_errno(err, "output of an exec");
        }
        if (n == 0) {
            close_fds(&x->ends.out[i], 1);
        }
    }
    return x->ends.out[0] < 0 && x->ends.out[1] < 0 ? 0 : -2;
}

int
lev_oci_exec_send(struct lev_exec *x, const struct lev_scope *scope,
                  const void *data, size_t len, struct lev_error *err)
{
    struct pollfd pfd = {.fd = x->ends.in, .events = POLLOUT};
    const char *from = data;

    while (len > 0) {
        ssize_t n = write(x->ends.in, from, len);

        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
        else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return lev_error_errno(err, "input of an exec");
        }
        else if (lev_scope_poll(scope, &pfd, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_oci_exec_code(struct lev_exec *x, const struct lev_scope *scope,
                  int *exit_code, struct lev_error *err)
{
    while (!x->exited) {
        struct pollfd pfd = {.fd = x->ends.exit, .events = POLLIN};
        int rc;

        if (lev_scope_poll(scope, &pfd, 1, err) < 0 ||
            (rc = take_exit(x->ends.exit, &x->exit_code, err)) < 0)
        {
            return lev_error_wrap(err, "exit code of an exec");
        }
        x->exited = rc > 0;
    }
    *exit_code = x->exit_code;
    return 0;
}
