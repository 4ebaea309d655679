/* docker_runtime.c - how the runtime bundle gets into containers.
 *
 * An engine on this machine binds its directory. Whether it is on this machine
 * is asked with a create that must fail: mounts are checked in order, so the
 * complaint about an impossible second mount says that the first one, the
 * bundle's, was found.
 *
 * Elsewhere a volume is filled once, by the archive API, through a container
 * that is never started. A volume cannot be renamed, so a marker that is the
 * archive's last entry says that it is whole. The container's name is the lock
 * between processes and machines: whoever cannot create it waits until it is
 * gone, and takes over what was there unchanged for too long.
 */

#include "docker.h"

#include <string.h>

#include "tar.h"

#define TARGET "/lev"
#define MARKER "/lev/.complete"
#define ABANDONED (120 * LEV_SECOND)
#define CLEANUP_TIMEOUT (30 * LEV_SECOND)
#define NAP_MIN (10 * LEV_MS)
#define NAP_MAX (500 * LEV_MS)

void
lev_docker_runtimes_free(struct lev_docker_runtime *runtimes)
{
    while (runtimes != NULL) {
        struct lev_docker_runtime *next = runtimes->next;

        free(runtimes->dir);
        free(runtimes);
        runtimes = next;
    }
}

/* An engine that does not say so in the words we know: make a container. */
static int
probe_by_create(struct lev_docker *d, const struct lev_scope *scope,
                const char *dir, const char *image, const char *const *labels,
                struct lev_error *err)
{
    static const char *const entrypoint[] = {TARGET, NULL};
    const struct lev_scope cleanup = {lev_now() + CLEANUP_TIMEOUT, NULL};
    struct lev_mount mount = {.type = LEV_MOUNT_BIND,
                              .source = (char *)dir,
                              .target = (char[]){TARGET},
                              .read_only = true};
    char name[64];
    struct lev_container_spec spec = {.name = name,
                                      .image = image,
                                      .entrypoint = entrypoint,
                                      .labels = labels,
                                      .mounts = &mount,
                                      .mounts_n = 1};
    _cleanup_free_ char *id = NULL;
    struct lev_error late;
    int rc;

    snprintf(name, sizeof(name), "levrt-probe-%d-%llx", (int)getpid(),
             (unsigned long long)lev_now());
    rc = lev_docker_create(&d->base, scope, &spec, &id, err);
    if (id != NULL && lev_docker_remove(&d->base, &cleanup, id, &late) < 0) {
        lev_log(d->base.log, LEV_WARNING, "lev.engine", "%s", late.msg);
    }
    if (rc == 0) {
        return 1;
    }
    /* Podman: "statfs DIR: no such file or directory" */
    return err->detail >= 400 && strstr(err->msg, dir) != NULL ? 0 : -1;
}

/* 1 when containers can see `dir`, 0 when not. */
static int
probe(struct lev_docker *d, const struct lev_scope *scope, const char *dir,
      const char *image, const char *const *labels, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *body =
        json_pack("{s:s, s:{s:[{s:s, s:s, s:s}, {s:s, s:s}]}}", "Image", image,
                  "HostConfig", "Mounts", "Type", "bind", "Source", dir,
                  "Target", TARGET, "Type", "no-such-type", "Target", "/x");

    if (body == NULL) {
        return lev_error_nomem(err, "runtime bundle");
    }
    lev_docker_path(d, &path, "/containers/create");
    if (lev_docker_call(d, scope, "POST", &path, body, NULL, err) == 0) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the engine made a container with a mount of "
                             "no known type");
    }
    if (strstr(err->msg, "bind source path does not exist") != NULL) {
        return 0;
    }
    if (strstr(err->msg, "no-such-type") != NULL) {
        return 1;
    }
    return err->detail >= 400
               ? probe_by_create(d, scope, dir, image, labels, err)
               : -1;
}

static const char *
base_name(const char *dir)
{
    const char *slash = strrchr(dir, '/');

    return slash == NULL ? dir : slash + 1;
}

static int
create_volume(struct lev_docker *d, const struct lev_scope *scope,
              const char *name, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *body = json_pack(
        "{s:s, s:{s:s}}", "Name", name, "Labels", "zone.lev.role", "runtime");

    if (body == NULL) {
        return lev_error_nomem(err, "volume");
    }
    lev_docker_path(d, &path, "/volumes/create");
    if (lev_docker_call(d, scope, "POST", &path, body, NULL, err) < 0) {
        return lev_error_wrap(err, "create volume %s", name);
    }
    return 0;
}

static int
put_bundle(struct lev_docker *d, const struct lev_scope *scope, const char *id,
           const char *dir, struct lev_error *err)
{
    const struct lev_tar_meta meta = {.mode = 0644};
    _cleanup_tar_ struct lev_tar *tar = lev_tar_create(err);
    _cleanup_close_ int fd = -1;
    uint64_t size;

    if (tar == NULL ||
        lev_tar_add_path(tar, scope, TARGET, dir, 0, 0, err) < 0 ||
        lev_tar_add_bytes(tar, MARKER, "", 0, &meta, err) < 0 ||
        lev_tar_finish(tar, &fd, &size, err) < 0)
    {
        return -1;
    }
    lev_log(d->base.log, LEV_INFO, "lev.engine",
            "sending the runtime to %s, once: %.0f MB", d->base.url,
            (double)size / 1e6);
    return lev_docker_put(&d->base, scope, id, fd, size, err);
}

/* With the helper container `id`, which holds the lock. */
static int
fill_locked(struct lev_docker *d, const struct lev_scope *scope,
            const char *id, const char *dir, struct lev_error *err)
{
    int there = lev_docker_exists(&d->base, scope, id, MARKER, err);

    if (there != 0) {
        return there < 0 ? -1 : 0;
    }
    if (put_bundle(d, scope, id, dir, err) < 0) {
        return -1;
    }
    there = lev_docker_exists(&d->base, scope, id, MARKER, err);
    if (there == 0) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "what was put into the volume is not there");
    }
    return there < 0 ? -1 : 0;
}

static int
get_id(struct lev_docker *d, const struct lev_scope *scope, const char *name,
       char **id, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;
    const char *text;

    lev_docker_path(d, &path, "/containers/%s/json", name);
    if (lev_docker_call(d, scope, "GET", &path, NULL, &answer, err) < 0) {
        return -1;
    }
    text = lev_json_str(answer, "Id");
    *id = strdup(text == NULL ? name : text);
    return *id == NULL ? lev_error_nomem(err, "container") : 0;
}

/* Somebody else fills the volume: 1 when that has ended, 0 when there is
 * nobody. */
static int
wait_filler(struct lev_docker *d, const struct lev_scope *scope,
            const char *name, struct lev_error *err)
{
    int64_t since = lev_now(), nap = NAP_MIN;
    _cleanup_free_ char *first = NULL;

    for (;;) {
        _cleanup_free_ char *id = NULL;

        if (get_id(d, scope, name, &id, err) < 0) {
            return err->detail == 404 ? first != NULL : -1;
        }
        if (first == NULL) {
            first = lev_steal(id);
        }
        else if (strcmp(first, id) != 0) {
            return 1; /* another one's turn: ask anew */
        }
        if (lev_now() - since > ABANDONED) {
            lev_log(d->base.log, LEV_WARNING, "lev.engine",
                    "container %s was left behind; taking over", name);
            return lev_docker_remove(&d->base, scope, first, err) < 0 ? -1 : 1;
        }
        if (lev_scope_sleep(scope, nap, err) < 0) {
            return lev_error_wrap(err, "wait until container %s is done",
                                  name);
        }
        nap = nap * 2 < NAP_MAX ? nap * 2 : NAP_MAX;
    }
}

/* The name was taken: -1 when it will not be free. A container that is just
 * going is not there any more, and its name is not free yet. */
static int
wait_for_name(struct lev_docker *d, const struct lev_scope *scope,
              const char *name, int64_t *nobody_since, struct lev_error *err)
{
    const struct lev_error conflict = *err;
    int rc = wait_filler(d, scope, name, err);

    if (rc != 0) {
        *nobody_since = 0;
        return rc < 0 ? -1 : 0;
    }
    if (*nobody_since == 0) {
        *nobody_since = lev_now();
    }
    if (lev_now() - *nobody_since > CLEANUP_TIMEOUT) {
        *err = conflict;
        return -1;
    }
    return lev_scope_sleep(scope, NAP_MIN, err);
}

/* Makes the helper container, waiting for its name to be free. */
static int
lock(struct lev_docker *d, const struct lev_scope *scope, const char *name,
     const char *volume, const char *image, const char *const *labels,
     char **id, struct lev_error *err)
{
    static const char *const entrypoint[] = {TARGET, NULL};
    struct lev_mount mount = {.type = LEV_MOUNT_VOLUME,
                              .source = (char *)volume,
                              .target = (char[]){TARGET}};
    struct lev_container_spec spec = {.name = name,
                                      .image = image,
                                      .entrypoint = entrypoint,
                                      .labels = labels,
                                      .mounts = &mount,
                                      .mounts_n = 1};
    int64_t nobody_since = 0;

    while (lev_docker_create(&d->base, scope, &spec, id, err) < 0) {
        if (err->code != LEV_E_CONFLICT ||
            wait_for_name(d, scope, name, &nobody_since, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
fill_volume(struct lev_docker *d, const struct lev_scope *scope,
            const char *dir, const char *volume, const char *image,
            const char *const *labels, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0};
    _cleanup_free_ char *id = NULL;
    struct lev_scope cleanup = {LEV_NEVER, NULL};
    struct lev_error late;
    int rc;

    lev_buf_printf(&name, "levrt-fill-%s", base_name(dir));
    if (lev_buf_check(&name, "volume", err) < 0 ||
        create_volume(d, scope, volume, err) < 0)
    {
        return -1;
    }
    rc = lock(d, scope, name.data, volume, image, labels, &id, err);
    if (rc == 0) {
        rc = fill_locked(d, scope, id, dir, err);
    }
    cleanup = lev_scope_within(&cleanup, CLEANUP_TIMEOUT);
    if (id != NULL && lev_docker_remove(&d->base, &cleanup, id, &late) < 0) {
        lev_log(d->base.log, LEV_WARNING, "lev.engine", "%s", late.msg);
    }
    return rc < 0 ? lev_error_wrap(err, "fill volume %s", volume) : 0;
}

static const struct lev_docker_runtime *
find_runtime(const struct lev_docker *d, const char *dir)
{
    const struct lev_docker_runtime *r = d->runtimes;

    while (r != NULL && strcmp(r->dir, dir) != 0) {
        r = r->next;
    }
    return r;
}

static int
remember(struct lev_docker *d, const char *dir, bool local,
         struct lev_error *err)
{
    struct lev_docker_runtime *r = calloc(1, sizeof(*r));

    if (r == NULL || (r->dir = strdup(dir)) == NULL) {
        free(r);
        return lev_error_nomem(err, "runtime bundle");
    }
    r->local = local;
    r->next = d->runtimes;
    d->runtimes = r;
    return 0;
}

/* Once per bundle, by one thread: the others wait at the gate. */
static int
prepare(struct lev_docker *d, const struct lev_scope *scope, const char *dir,
        const char *volume, const char *image, const char *const *labels,
        bool *local, struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *gate = NULL;
    const struct lev_docker_runtime *known;
    int shared = 0;

    if (lev_gate_enter(&d->runtime_gate, scope, err) < 0) {
        return -1;
    }
    gate = &d->runtime_gate;
    known = find_runtime(d, dir);
    if (known != NULL) {
        *local = known->local;
        return 0;
    }
    if (!d->remote) {
        shared = probe(d, scope, dir, image, labels, err);
    }
    if (shared < 0 || (shared == 0 && fill_volume(d, scope, dir, volume, image,
                                                  labels, err) < 0))
    {
        return -1;
    }
    *local = shared != 0;
    return remember(d, dir, *local, err);
}

int
lev_docker_runtime_mount(struct lev_engine *e, const struct lev_scope *scope,
                         const char *dir, const char *image,
                         const char *const *labels, struct lev_mount *mount,
                         bool *local, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_buf_ struct lev_buf volume = {0};

    lev_buf_printf(&volume, "levrt-runtime-%s", base_name(dir));
    if (lev_buf_check(&volume, "runtime bundle", err) < 0) {
        return -1;
    }
    if (prepare(d, scope, dir, volume.data, image, labels, local, err) < 0) {
        return lev_error_wrap(err, "give the runtime bundle to containers");
    }
    mount->type = *local ? LEV_MOUNT_BIND : LEV_MOUNT_VOLUME;
    mount->source = *local ? strdup(dir) : lev_buf_take(&volume);
    mount->target = strdup(TARGET);
    mount->read_only = true;
    if (mount->source == NULL || mount->target == NULL) {
        lev_mount_deinit(mount);
        return lev_error_nomem(err, "runtime bundle");
    }
    return 0;
}
