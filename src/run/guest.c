/* guest.c - the runtime bundle in a run's container, and the channel to it.
 *
 * Where containers see our files, the guest connects to a socket file that is
 * mounted; else, or when it has not said hello by that way in time (an engine
 * in a virtual machine shares files, but not sockets), it listens itself, and
 * the relay is sent for it. Both ways are told to the guest at its start.
 */
#include "run_internal.h"

#include <string.h>
#include <sys/utsname.h>

#include "session_internal.h"
#include "words.h"

#define HELLO_TIMEOUT (5 * LEV_SECOND)

static bool
needs_runtime(const struct lev_run *run)
{
    return run->spec->payload != NULL || run->spec->ports_n > 0;
}

/* What the container's programs run on: what its image says, else the engine.
 */
static int
check_arch(struct lev_run *run, struct lev_error *err)
{
    const char *own = run->known->image.arch, *name = run->spec->image;
    bool by_image = own != NULL && own[0] != '\0' && name[0] != '\0';
    const char *arch = by_image ? own : run->engine->info.arch;
    struct utsname host;

    uname(&host);
    if (arch[0] == '\0' || strcmp(arch, host.machine) == 0) {
        return 0;
    }
    if (run->spec->payload != NULL && !run->spec->image_python) {
        return lev_error_set(
            err, LEV_E_START, 0,
            "the %s%s is for %s and this machine is %s: a closure runs on "
            "this machine's interpreter; use @remote(python=\"image\") with "
            "an image that has Python, or an %s for %s",
            by_image ? "image " : "engine", by_image ? name : "", arch,
            host.machine, by_image ? "image" : "engine", host.machine);
    }
    if (run->spec->ports_n > 0) {
        return lev_error_set(
            err, LEV_E_UNSUPPORTED_OPTION, 0,
            "ports= needs a probe of this machine's kind inside the "
            "container: the %s%s is for %s and this machine is %s; leave "
            "ports= out",
            by_image ? "image " : "engine", by_image ? name : "", arch,
            host.machine);
    }
    return 0;
}

static int
listen_for_guest(struct lev_run *run, struct lev_error *err)
{
    const char *dir = lev_session_dir(run->session, err);
    struct lev_mount *m = &run->mounts[1];
    char *path = NULL;

    if (dir == NULL) {
        return -1;
    }
    if (asprintf(&path, "%s/%u", dir, run->number) < 0) {
        return lev_error_nomem(err, "guest channel");
    }
    /* Read-only, too: a socket is connected to, not written. */
    *m = (struct lev_mount){.type = LEV_MOUNT_BIND,
                            .source = path,
                            .target = strdup("/lev/sock"),
                            .read_only = true};
    run->mounts_n = 2;
    run->channel = lev_channel_listen(path, &run->channel_events, err);
    return run->channel == NULL ? -1 : 0;
}

/* The name alone finds the guest's socket, and /proc/net/unix shows it; it
 * takes the token to use it. */
static int
make_secrets(struct lev_run *run, struct lev_error *err)
{
    char name[33] = "";

    if (lev_random_hex(name, sizeof(name) - 1, err) < 0 ||
        lev_random_hex(run->token, sizeof(run->token) - 1, err) < 0)
    {
        return -1;
    }
    snprintf(run->channel_name, sizeof(run->channel_name), "levrt-%s", name);
    return 0;
}

static int
mount_runtime(struct lev_run *run, const struct lev_scope *scope, bool *shared,
              struct lev_error *err)
{
    const char *dir = lev_session_bundle(run->session, scope, err);
    _cleanup_words_ struct lev_words labels = {0};

    if (dir == NULL) {
        return -1;
    }
    labels.v = lev_session_labels(run->session, "runtime", LEV_SECOND, err);
    if (labels.v == NULL) {
        return -1;
    }
    if (run->ops->runtime_mount(run->engine, scope, dir, run->image_ref,
                                (const char *const *)labels.v, &run->mounts[0],
                                shared, err) < 0)
    {
        /* A container of its making may be there without our knowledge. */
        atomic_store(&run->site->unsure, true);
        return -1;
    }
    return 0;
}

int
lev_guest_prepare(struct lev_run *run, const struct lev_scope *scope,
                  struct lev_error *err)
{
    bool shared;

    if (!needs_runtime(run)) {
        return 0;
    }
    if (check_arch(run, err) < 0) {
        return -1;
    }
    if (run->mounts_n > 0) {
        return 0; /* its image was looked at once more */
    }
    if (mount_runtime(run, scope, &shared, err) < 0) {
        return -1;
    }
    run->mounts_n = 1;
    if (run->spec->payload == NULL) {
        return 0;
    }
    run->by_socket = shared && !atomic_load(&run->site->relay);
    if (make_secrets(run, err) < 0) {
        return -1;
    }
    return run->by_socket ? listen_for_guest(run, err) : 0;
}

const char *const *
lev_guest_entrypoint(const struct lev_run *run)
{
    static const char *const bundle[] = {
        "/lev/bin/python3", "-I", "-S", "-X", "utf8", "/lev/boot.py", NULL};
    static const char *const image[] = {"python3", "-X", "utf8",
                                        "/lev/boot.py", NULL};

    if (run->spec->payload == NULL) {
        return NULL;
    }
    return run->spec->image_python ? image : bundle;
}

void
lev_guest_environment(const struct lev_run *run, struct lev_words *env)
{
    if (run->spec->payload == NULL) {
        return;
    }
    lev_words_printf(env, "LEV_TOKEN=%s", run->token);
    lev_words_printf(env, "LEV_CHANNEL=%sabstract:%s",
                     run->by_socket ? "unix:/lev/sock," : "",
                     run->channel_name);
}

static void
offer(struct lev_run *run)
{
    lev_channel_offer(
        run->channel, run->token, run->spec->payload, run->spec->payload_len,
        (const char *const *)run->spec->cmd, run->spec->entry_name);
}

void
lev_guest_offer(struct lev_run *run)
{
    if (run->channel != NULL) {
        offer(run);
    }
}

static int
send_relay(struct lev_run *run, const struct lev_scope *scope,
           struct lev_error *err)
{
    run->channel =
        lev_channel_relay(run->engine, scope, run->id, run->channel_name,
                          &run->channel_events, err);
    if (run->channel == NULL) {
        /* A container that has ended already refuses execs: its exit says more
         * than this refusal. */
        return err->code == LEV_E_CONFLICT ? 0 : -1;
    }
    offer(run);
    return 0;
}

int
lev_guest_connect(struct lev_run *run, const struct lev_scope *scope,
                  struct lev_error *err)
{
    if (run->spec->payload == NULL) {
        return 0;
    }
    if (!run->by_socket) {
        return send_relay(run, scope, err);
    }
    run->hello_until = lev_now() + HELLO_TIMEOUT;
    return 0;
}

/* The way for all later runs of the session, too. */
static void
give_up_sockets(struct lev_run *run, const char *why)
{
    run->by_socket = false;
    lev_channel_close(lev_steal(run->channel));
    if (!atomic_exchange(&run->site->relay, true)) {
        lev_log(lev_session_config(run->session)->log, LEV_INFO, "lev.engine",
                "%s: guests are reached by a relay from now on", why);
    }
}

int64_t
lev_guest_deadline(struct lev_run *run)
{
    if (run->hello_until == 0) {
        return LEV_NEVER;
    }
    if (!run->by_socket || run->channel == NULL ||
        lev_channel_greeted(run->channel))
    {
        run->hello_until = 0;
        return LEV_NEVER;
    }
    return run->hello_until;
}

int
lev_guest_silent(struct lev_run *run, const struct lev_scope *scope,
                 struct lev_error *err)
{
    run->hello_until = 0;
    give_up_sockets(run, "no guest came by the mounted socket");
    return send_relay(run, scope, err);
}

bool
lev_guest_without_socket(struct lev_run *run, const struct lev_error *err)
{
    if (!run->by_socket || run->mounts_n < 2 ||
        strstr(err->msg, run->mounts[1].source) == NULL)
    {
        return false;
    }
    give_up_sockets(run, "the engine does not find our socket");
    lev_mount_deinit(&run->mounts[1]);
    run->mounts_n = 1;
    return true;
}
