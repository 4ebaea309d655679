/* lev-sweep: removes what a session has left on an engine, or what all dead
 * ones have. lev-reaper starts it when there is something to do.
 *
 * Of one session: again and again until nothing is there, for an hour at most,
 * so that an engine that is stopped or starts anew is waited for. An engine
 * goes on with what the workflow had asked for when it died, and a container
 * may come to be after all were removed: it looks again for a while.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "gc.h"
#include "sha256.h"

#define GIVE_UP (3600 * LEV_SECOND)
#define LINGER (10 * LEV_SECOND)
#define CALL_TIMEOUT (60 * LEV_SECOND)
#define NAP_FIRST (50 * LEV_MS)
#define NAP_LAST (5 * LEV_SECOND)
#define MANY 8 /* removals at once */
#define FEW 2  /* where nobody waits for it, and others want the engine */

static const struct lev_scope forever = {LEV_NEVER, NULL};

/* How many are left; -1 when it is not known. */
static ssize_t
sweep_once(const char *url, const struct lev_engine_config *config,
           const struct lev_gc *gc, unsigned at_once, size_t *found)
{
    struct lev_scope scope = lev_scope_within(&forever, CALL_TIMEOUT);
    _cleanup_found_ struct lev_found *list = NULL;
    struct lev_engine *e;
    struct lev_error err;
    ssize_t left = -1;

    e = lev_docker_open(url, config, &scope, &err);
    if (e == NULL) {
        return -1;
    }
    *found = 0;
    if (lev_gc_find(e, &scope, gc, &list, &err) == 0) {
        for (const struct lev_found *f = list; f != NULL; f = f->next) {
            ++*found;
        }
        left = (ssize_t)lev_gc_remove(e, &forever, list, at_once);
    }
    lev_engine_unref(e);
    return left;
}

/* Not only the daemon, but the place that its socket was at. */
static bool
is_no_more(const char *url)
{
    _cleanup_free_ char *dir = NULL;
    char *slash;

    if (strncmp(url, "unix://", 7) != 0 || (dir = strdup(url + 7)) == NULL ||
        (slash = strrchr(dir, '/')) == NULL || slash == dir)
    {
        return false;
    }
    *slash = '\0';
    return access(dir, F_OK) < 0 && errno == ENOENT;
}

static int
sweep_session(const char *url, const struct lev_engine_config *config,
              const char *session)
{
    const struct lev_gc gc = {.session = session};
    int64_t give_up = lev_now() + GIVE_UP, quiet = 0, nap = NAP_FIRST;
    struct lev_error err;

    while (lev_now() < give_up && !is_no_more(url)) {
        size_t found = 0;
        ssize_t left = sweep_once(url, config, &gc, MANY, &found);

        if (left == 0 && found > 0) {
            nap = NAP_FIRST;
            quiet = 0;
        }
        else if (left == 0 && quiet == 0) {
            quiet = lev_now();
        }
        if (left == 0 && quiet != 0 && lev_now() >= quiet + LINGER) {
            return 0;
        }
        lev_scope_sleep(&forever, nap, &err);
        nap = nap * 2 < NAP_LAST ? nap * 2 : NAP_LAST;
    }
    return 1;
}

/* Sessions that start at once need not all sweep: a name that one process can
 * have, and that goes with it. */
static int
lock_engine(const char *url)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct lev_sha256 hash;
    char hex[65];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), n;

    lev_sha256_init(&hash);
    lev_sha256_update(&hash, url, strlen(url));
    lev_sha256_hex(&hash, hex);
    n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1,
                 "levrt-sweep-%u-%.32s", (unsigned)geteuid(), hex);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                   (size_t)n)) < 0)
    {
        lev_closep(&fd);
        return -1;
    }
    return fd;
}

static int
sweep_dead(const char *url, const struct lev_engine_config *config)
{
    const struct lev_gc gc = {.session = NULL};
    _cleanup_close_ int lock = lock_engine(url);
    size_t found;

    return lock >= 0 && sweep_once(url, config, &gc, FEW, &found) != 0;
}

static const char *
given(const char *arg)
{
    return *arg == '\0' ? NULL : arg;
}

int
main(int argc, char **argv)
{
    struct lev_engine_config config;

    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: lev-sweep URL DOCKER_CONFIG verify|'' "
                        "CERTIFICATES [SESSION]; lev-reaper starts it\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_DFL); /* whoever means this one may end it */
    config = (struct lev_engine_config){.docker_config = given(argv[2]),
                                        .tls_verify = given(argv[3]) != NULL,
                                        .tls_cert_path = given(argv[4])};
    return argc == 6 ? sweep_session(argv[1], &config, argv[5])
                     : sweep_dead(argv[1], &config);
}
