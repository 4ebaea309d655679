#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>

#include "helper.h"
#include "tree.h"

#define ENGINES_MAX 32
#define DIRS_MAX 4
#define SWEEP_DELAY (2 * LEV_SECOND)

extern char **environ;

struct watch {
    const char *session, *sweeper;
    json_t *engines[ENGINES_MAX];
    size_t engines_n;
    size_t swept; /* engines of which the dead sessions' were */
    int64_t sweep_at;
    char *dirs[DIRS_MAX];
    size_t dirs_n;
    bool clean;
};

static const char *
text_of(const json_t *engine, const char *key)
{
    const char *text = lev_json_str(engine, key);

    return text == NULL ? "" : text;
}

/* `session` NULL: what dead ones have left. */
static void
start_sweeper(const struct watch *w, const json_t *engine, const char *session)
{
    bool verify = lev_json_bool(engine, "tls_verify", false);
    const char *const argv[] = {w->sweeper,
                                text_of(engine, "url"),
                                text_of(engine, "docker_config"),
                                verify ? "verify" : "",
                                text_of(engine, "cert_path"),
                                session,
                                NULL};
    pid_t pid;

    /* Without it nobody can do anything: the next session's finds it all. */
    (void)posix_spawn(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
}

static void
sweep_dead(struct watch *w)
{
    while (w->swept < w->engines_n) {
        start_sweeper(w, w->engines[w->swept++], NULL);
    }
}

static void
take_message(struct watch *w, json_t *body)
{
    const char *op = text_of(body, "op"), *path = lev_json_str(body, "path");

    if (strcmp(op, "endpoint") == 0 && w->engines_n < ENGINES_MAX) {
        w->engines[w->engines_n++] = json_incref(body);
        w->sweep_at = lev_now() + SWEEP_DELAY;
    }
    else if (strcmp(op, "dir") == 0 && path != NULL && w->dirs_n < DIRS_MAX) {
        w->dirs[w->dirs_n] = strdup(path);
        w->dirs_n += w->dirs[w->dirs_n] != NULL;
    }
    else if (strcmp(op, "end") == 0) {
        w->clean = lev_json_bool(body, "clean", false);
    }
}

/* False at the end, or when nothing that makes sense comes. */
static bool
take_messages(struct watch *w)
{
    for (;;) {
        _cleanup_packet_ struct lev_packet p = {0};
        struct lev_error err;
        int rc = lev_packet_recv(LEV_HELPER_SOCKET, &p, &err);

        if (rc == -2) {
            return true;
        }
        if (rc <= 0) {
            return false;
        }
        take_message(w, p.body);
        if (strcmp(text_of(p.body, "op"), "end") == 0) {
            return false; /* a forked child may have the socket open still */
        }
    }
}

static void
wait_for_end(struct watch *w)
{
    bool more = true;

    while (more) {
        struct pollfd fds[2] = {
            {.fd = LEV_HELPER_SOCKET, .events = POLLIN},
            {.fd = LEV_HELPER_PIDFD, .events = POLLIN},
        };
        const struct lev_scope sweep = {w->sweep_at, NULL};
        bool due = w->swept < w->engines_n;
        int ms = due ? lev_scope_left_ms(&sweep, 60000) : -1;

        if (poll(fds, 2, ms) < 0 && errno != EINTR) {
            return;
        }
        if (due && lev_now() >= w->sweep_at) {
            sweep_dead(w);
        }
        /* What was said before the end counts. */
        more = fds[0].revents == 0 || take_messages(w);
        more = more && fds[1].revents == 0;
    }
}

static void
clean_up(struct watch *w)
{
    struct lev_error err;

    for (size_t i = 0; i < w->dirs_n; i++) {
        lev_tree_remove(AT_FDCWD, w->dirs[i], &err);
        free(w->dirs[i]);
    }
    for (size_t i = 0; i < w->engines_n && !w->clean; i++) {
        start_sweeper(w, w->engines[i], w->session);
    }
    sweep_dead(w);
    for (size_t i = 0; i < w->engines_n; i++) {
        json_decref(w->engines[i]);
    }
}

/* Nobody's child: a workflow that waits for its own must not meet this one,
 * and whoever means the workflow must not hit it. */
static int
leave_parent(void)
{
    pid_t pid = fork();

    if (pid != 0) {
        _exit(pid < 0);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* sweepers that have ended are gone */
    return chdir("/");
}

int
watch_main(const char *session, const char *sweeper)
{
    struct watch w = {.session = session, .sweeper = sweeper};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || dup2(null, 2) < 0 || leave_parent() < 0) {
        return 1;
    }
    close(null);
    wait_for_end(&w);
    clean_up(&w);
    return 0;
}
