/* engine.h - a container engine: a table of functions per back end.
 *
 * Terms are docker-py's and the Engine API's. Calls block as their scope
 * allows and may come from any thread at once, but for those on one
 * `lev_process` or `lev_exec`, which belong to one thread. `id` is the
 * engine's own id of a container. What a call hands out belongs to the caller
 * unless it says so.
 *
 * Errors everywhere: ENGINE_UNAVAILABLE (cannot be reached), ENGINE with the
 * status in `detail` (and its children NOT_FOUND, CONFLICT, IMAGE…,
 * UNSUPPORTED_OPTION), CANCELLED, TIMEOUT, NOMEM. Messages name the container
 * or image.
 */
#ifndef LEV_ENGINE_H
#define LEV_ENGINE_H

#include "buf.h"
#include "log.h"
#include "scope.h"
#include "strv.h"
#include <bson/bson.h>
#include <sys/types.h>

struct lev_engine;
struct lev_process;
struct lev_exec;

struct lev_engine_info {
    char name[32];    /* "Docker Engine", "Podman Engine" */
    char version[48]; /* of the engine */
    char api[16];     /* as negotiated */
    char os[32];
    char arch[32]; /* as uname -m says: "x86_64", "aarch64" */
};

struct lev_image {
    char *id;     /* "sha256:…" */
    char *digest; /* of the repository ("name@sha256:…"), or NULL */
    char *arch;   /* as uname -m says, or NULL where the image does not tell */
    char *user;   /* "", "1000", "nobody:nogroup" */
    char *working_dir;
    char *stop_signal;               /* "SIGTERM", "15", or NULL */
    char **entrypoint, **cmd, **env; /* end with NULL; may be NULL */
};

struct lev_mount {
    enum lev_mount_type {
        LEV_MOUNT_BIND,
        LEV_MOUNT_VOLUME,
        LEV_MOUNT_TMPFS,
    } type;
    char *source; /* a path of this machine, a volume's name, NULL */
    char *target;
    bool read_only;
};

struct lev_network_join {
    const char *network;        /* name or id */
    const char *const *aliases; /* ends with NULL; or NULL */
};

struct lev_container_spec {
    const char *name;
    const char *image;
    const char *const *entrypoint; /* NULL: the image's */
    const char *const *cmd; /* NULL: the image's, or none with an entrypoint */
    const char *const *env; /* "K=V", added to the image's */
    const char *const *labels;      /* "K=V" */
    const char *const *extra_hosts; /* "name:address" */
    const struct lev_mount *mounts;
    size_t mounts_n;
    /* Joined before the start, the first at create. None of them, and neither
     * extra_hosts, with host_network or an option network_mode. */
    const struct lev_network_join *networks;
    size_t networks_n;
    bool host_network;
    const bson_t *options; /* checked by lev_options_check(); or NULL */
};

struct lev_container_state {
    bool running, paused, oom_killed;
    int exit_code;
    pid_t pid;           /* of its init, in the engine's pid namespace; 0 */
    char error[512];     /* the engine's word on a failed start, or "" */
    int64_t started;     /* ms since the epoch; 0 while it has not */
    int64_t finished;    /* likewise */
    int64_t peak_memory; /* bytes; -1 where the engine cannot tell */
    char image_id[80];
};

/* What arrives while a process is polled; on the polling thread. */
struct lev_output {
    void (*data)(struct lev_output *out, int stream /* 1, 2 */,
                 const char *data, size_t len);
    /* The connection to the output broke, and some of it may be missing
     * there; the process goes on. Or NULL. */
    void (*lost)(struct lev_output *out, const char *why);
};

struct lev_exec_spec {
    const char *const *argv;
    const char *user; /* NULL: the container's */
    bool privileged;
    bool input; /* attach stdin, for lev_exec_send() */
};

/* One container, network or image of a listing. */
struct lev_listed {
    char *id, *name;
    char *subnet;  /* of a network, "10.0.0.0/28" or NULL */
    char **labels; /* "K=V", ends with NULL */
    struct lev_listed *next;
};

/* A port of the engine's machine that leads to one of a container. */
struct lev_port {
    char key[16];     /* "80/tcp" */
    char host_ip[46]; /* "0.0.0.0" */
    uint16_t host_port;
};

typedef void lev_pull_progress(void *ctx, int64_t done, int64_t total,
                               const char *text);

struct lev_engine_config;
struct lev_found; /* gc.h */
struct lev_gc;

struct lev_engine_ops {
    const char *name; /* "docker" */

    void (*destroy)(struct lev_engine *e);
    int (*ping)(struct lev_engine *e, const struct lev_scope *scope,
                struct lev_error *err);
    /* `dir`, a directory of this machine, goes with this process, too. NULL
     * where endpoint is not. */
    void (*adopt)(struct lev_engine *e, const char *dir);
    /* Containers and networks of dead sessions, found and, unless `dry`,
     * removed; another session's are not `remove`'s to take. NULL: they are,
     * see gc.h. */
    int (*gc)(struct lev_engine *e, const struct lev_scope *scope,
              const struct lev_gc *gc, bool dry, struct lev_found **list,
              struct lev_error *err);
    /* What else but its URL another process must know to open the same engine;
     * borrowed from it. NULL: the engine's helper takes away what is left of
     * this process's runs when it dies, nobody else has to. */
    void (*endpoint)(struct lev_engine *e, struct lev_engine_config *config);

    /* IMAGE_NOT_FOUND when the engine does not have it. */
    int (*image_inspect)(struct lev_engine *e, const struct lev_scope *scope,
                         const char *ref, struct lev_image *image,
                         struct lev_error *err);
    /* Fetches it from its registry with the user's credentials. Fails with
     * PULL (IMAGE_NOT_FOUND where the registry lacks it) and also when no
     * progress was made for `stall` nanoseconds, however slow it is otherwise.
     */
    int (*image_pull)(struct lev_engine *e, const struct lev_scope *scope,
                      const char *ref, int64_t stall,
                      lev_pull_progress *progress, void *ctx,
                      struct lev_error *err);
    /* An image with nothing in it; made when it is not there. Its reference
     * is borrowed from the engine. */
    const char *(*image_empty)(struct lev_engine *e,
                               const struct lev_scope *scope,
                               struct lev_error *err);
    int (*image_remove)(struct lev_engine *e, const struct lev_scope *scope,
                        const char *ref, struct lev_error *err);
    /* Images that carry `label` ("K=V", or "K" for any value). */
    int (*image_list)(struct lev_engine *e, const struct lev_scope *scope,
                      const char *label, struct lev_listed **list,
                      struct lev_error *err);

    /* Makes `dir` of this machine (content-addressed by its last component)
     * available to containers: a bind where the engine shares our files, else
     * a volume `levrt-runtime-<name>` that is filled once. `image` is one that
     * the engine has; `labels` ("K=V") are for containers that are made for
     * it and removed at once, not for the volume, which stays. `local` says
     * which. */
    int (*runtime_mount)(struct lev_engine *e, const struct lev_scope *scope,
                         const char *dir, const char *image,
                         const char *const *labels, struct lev_mount *mount,
                         bool *local, struct lev_error *err);

    /* Not cancelled once it was sent (bounded by the scope's deadline and 30
     * s): an aborted create may still make the container. `*id` is set
     * whenever a container exists, also when -1 is returned. */
    int (*create)(struct lev_engine *e, const struct lev_scope *scope,
                  const struct lev_container_spec *spec, char **id,
                  struct lev_error *err);
    /* Unpacks a tar archive (lev_tar_finish()) at `/` of a container that does
     * not run; a directory is never replaced by a file: CONFLICT. */
    int (*put)(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, int fd, uint64_t size, struct lev_error *err);
    /* 1 when `path` exists in the container, 0 when not. */
    int (*exists)(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, const char *path, struct lev_error *err);
    /* The content of a regular file of a container (links are followed), at
     * most `max` bytes, appended to `out`; NOT_FOUND when there is none. */
    int (*get)(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, const char *path, size_t max,
               struct lev_buf *out, struct lev_error *err);
    /* An image of a container's file system, with the container's image's
     * configuration; `labels` as "K=V". */
    char *(*commit)(struct lev_engine *e, const struct lev_scope *scope,
                    const char *id, const char *const *labels,
                    struct lev_error *err);

    /* Attaches to a created container, or to one that has ended and is to be
     * started again with the files that it left: output and exit are caught
     * from the first byte on. */
    struct lev_process *(*attach)(struct lev_engine *e,
                                  const struct lev_scope *scope,
                                  const char *id, struct lev_output *out,
                                  struct lev_error *err);
    /* Starts what was attached to. START with the engine's words when the
     * program cannot be started. Not cut off by a cancel: an engine that is to
     * remove what it is starting is an engine in trouble. The answer is waited
     * for, within bounds, and then the cancel is told. */
    int (*start)(struct lev_process *p, const struct lev_scope *scope,
                 struct lev_error *err);
    /* Waits until output came (it has been given to `out`), one of `fds` is
     * ready or the process ended: 1 when it has ended and all of its output
     * was delivered (`*exit_code` is set), else 0, also for no reason. A
     * connection that breaks is made again while the container runs;
     * ENGINE_UNAVAILABLE when the engine stays out of reach. */
    int (*poll)(struct lev_process *p, const struct lev_scope *scope,
                struct pollfd *fds, size_t n, int *exit_code,
                struct lev_error *err);
    void (*detach)(struct lev_process *p); /* NULL is fine */

    int (*signal)(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, int signo, struct lev_error *err);
    int (*inspect)(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, struct lev_container_state *state,
                   struct lev_error *err);
    /* Its address on `network`, or its gateway with the host's network, into
     * `address`. */
    int (*address)(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, const char *network, char address[64],
                   struct lev_error *err);
    /* What is published of it while it runs: `*n` ports, for free(3). */
    int (*published)(struct lev_engine *e, const struct lev_scope *scope,
                     const char *id, struct lev_port **ports, size_t *n,
                     struct lev_error *err);
    /* Kills and removes it with its anonymous volumes; returns 0 when it is
     * gone, also when it was gone before. */
    int (*remove)(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, struct lev_error *err);
    /* Containers, running or not, that carry `label` ("K=V", "K"). */
    int (*list)(struct lev_engine *e, const struct lev_scope *scope,
                const char *label, struct lev_listed **list,
                struct lev_error *err);

    struct lev_exec *(*exec_start)(struct lev_engine *e,
                                   const struct lev_scope *scope,
                                   const char *id,
                                   const struct lev_exec_spec *spec,
                                   struct lev_error *err);
    int (*exec_fd)(const struct lev_exec *x); /* to poll for input */
    /* Bytes of stdout (`*stream` 1) or stderr (2); 0 at the end, -2 when
     * nothing is there yet. */
    ssize_t (*exec_recv)(struct lev_exec *x, int *stream, void *buf,
                         size_t len, struct lev_error *err);
    int (*exec_send)(struct lev_exec *x, const struct lev_scope *scope,
                     const void *data, size_t len, struct lev_error *err);
    int (*exec_code)(struct lev_exec *x, const struct lev_scope *scope,
                     int *exit_code, struct lev_error *err);
    void (*exec_close)(struct lev_exec *x); /* ends it; NULL is fine */

    /* A bridge; `subnet` in CIDR form or NULL for the engine's choice.
     * CONFLICT when it overlaps another one. */
    int (*network_create)(struct lev_engine *e, const struct lev_scope *scope,
                          const char *name, const char *subnet,
                          const char *const *labels, char **id,
                          struct lev_error *err);
    int (*network_remove)(struct lev_engine *e, const struct lev_scope *scope,
                          const char *id, struct lev_error *err);
    /* Networks that carry `label`, all networks with NULL. */
    int (*network_list)(struct lev_engine *e, const struct lev_scope *scope,
                        const char *label, struct lev_listed **list,
                        struct lev_error *err);
};

struct lev_engine {
    const struct lev_engine_ops *ops;
    char *url; /* as chosen: "unix:///var/run/docker.sock" */
    struct lev_engine_info info;
    struct lev_log *log; /* borrowed; may be NULL */
    _Atomic int refs;
};

struct lev_engine_config {
    struct lev_log *log;
    const char *docker_config; /* directory of config.json, or NULL */
    /* Registries that are asked for Docker Hub's images before it, "host",
     * "http://host:port", …; NULL: none. An engine that fetches by itself. */
    const char *const *mirrors;
    bool tls_verify; /* DOCKER_TLS_VERIFY */
    const char
        *tls_cert_path; /* DOCKER_CERT_PATH: ca.pem, cert.pem, key.pem */
    /* Where lev-reaper and lev-launcher are; NULL: in bin/ beside the library
     * that this code is in. */
    const char *bin_dir;
    /* To look for what dead sessions have left, not to run anything: where
     * there is no daemon, opening would remove that. */
    bool gc_only;
};

/* Connects and negotiates the version. `url` is unix://PATH, tcp://HOST:PORT,
 * http(s)://HOST:PORT, or ssh://… (refused by name until it exists). */
struct lev_engine *lev_docker_open(const char *url,
                                   const struct lev_engine_config *config,
                                   const struct lev_scope *scope,
                                   struct lev_error *err);

/* Containers without a daemon: starts their helper. `url` is oci: or oci:/DIR,
 * the directory of the image store and of all that lies on disk. */
struct lev_engine *lev_oci_open(const char *url,
                                const struct lev_engine_config *config,
                                const struct lev_scope *scope,
                                struct lev_error *err);

/* A program that comes with this library: in `bin_dir` (NULL: bin/ beside it).
 * ENGINE_UNAVAILABLE when it is not there. */
int lev_engine_program(const char *bin_dir, const char *name, char **path,
                       struct lev_error *err);
struct lev_engine *lev_engine_ref(struct lev_engine *e);
void lev_engine_unref(struct lev_engine *e); /* NULL is fine */

void lev_image_deinit(struct lev_image *image);
void lev_mount_deinit(struct lev_mount *mount);
void lev_listed_free(struct lev_listed *list);

#endif
