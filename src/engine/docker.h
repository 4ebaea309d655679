/* docker.h - what the files of the Docker back end share.
 *
 *   docker.c            address, version, table of functions
 *   docker_call.c       one request: path, body, errors of the engine
 *   docker_image.c      inspect, the empty image, commit, remove
 *   docker_pull.c       pull
 *   docker_container.c  create, inspect, signal, remove, list
 *   docker_archive.c    files into and out of a container
 *   docker_process.c    attach, start, wait
 *   docker_exec.c       exec
 *   docker_network.c    networks
 *   docker_runtime.c    the runtime bundle: a bind or a volume
 *
 * A `struct lev_docker` is used by all threads; what changes after it was
 * opened is guarded as its comment says.
 */
#ifndef LEV_DOCKER_H
#define LEV_DOCKER_H

#include "engine.h"
#include "gate.h"
#include "http.h"
#include "json.h"

/* One runtime bundle whose way into containers is known. */
struct lev_docker_runtime {
    char *dir;
    bool local;
    struct lev_docker_runtime *next;
};

struct lev_docker_pull;

struct lev_docker {
    struct lev_engine base;
    struct lev_http *http;
    char prefix[16];     /* of every path: "/v1.41" */
    char *docker_config; /* directory, or NULL */
    char *cert_path;     /* as it was given; or NULL */
    bool tls_verify;     /* likewise */
    char go_arch[16];    /* as the engine calls it: "amd64" */
    bool podman;         /* its compatible socket */
    bool remote;         /* by TCP: containers never see our files */
    /* How long a cancel leaves a request that is not cut off, and how long a
     * container's engine may be out of reach. */
    int64_t patience;

    struct lev_gate images_gate; /* making the empty image */
    bool empty_made;             /* by who is in the gate */

    struct lev_gate runtime_gate;
    struct lev_docker_runtime *runtimes; /* by who is in the gate */

    pthread_mutex_t pulls_mutex;
    struct lev_docker_pull *pulls; /* under way */
};

static inline struct lev_docker *
lev_docker_of(struct lev_engine *e)
{
    return lev_container_of(e, struct lev_docker, base);
}

extern const struct lev_engine_ops lev_engine_docker;

/* ---- docker_call.c ---- */

/* Appends the version's prefix and `fmt`, in which each %s stands for the next
 * argument, percent-encoded, and nothing else is special. */
void lev_docker_path(const struct lev_docker *d, struct lev_buf *path,
                     const char *fmt, ...);
/* A request with `body` (or NULL) as JSON. A status outside 2xx is an error:
 * the engine's own message, its status as detail. The answer, parsed, goes to
 * `*answer` when that is not NULL. */
int lev_docker_call(struct lev_docker *d, const struct lev_scope *scope,
                    const char *method, const struct lev_buf *path,
                    const json_t *body, json_t **answer,
                    struct lev_error *err);
/* POST of what must not be broken off in the middle: a cancel leaves it the
 * engine's `patience` to come to its end, and is told then. */
int lev_docker_post_through(struct lev_docker *d,
                            const struct lev_scope *scope,
                            const struct lev_buf *path, struct lev_error *err);
/* GET, and of the answer's members those called `names` (NULL at the end)
 * alone: a container's description is long, and parsing all of it would be a
 * fifth of what a short run costs. */
int lev_docker_get_members(struct lev_docker *d, const struct lev_scope *scope,
                           const struct lev_buf *path,
                           const char *const *names, json_t **answer,
                           struct lev_error *err);
/* -1 with the engine's message when the status is an error. */
int lev_docker_status(const struct lev_http_response *resp,
                      struct lev_error *err);
/* NULL where the machine's name (uname -m) is not known to differ. */
const char *lev_docker_arch(const char *arch, const char *variant);
/* "K=V" to an object; NULL with NOMEM. */
json_t *lev_docker_labels(const char *const *labels, struct lev_error *err);
/* The reverse; `*labels` ends with NULL. */
int lev_docker_label_list(const json_t *object, char ***labels,
                          struct lev_error *err);
/* INVALID naming `what` when a string is no UTF-8: JSON cannot carry it. */
int lev_docker_check_text(const char *what, const char *const *v,
                          struct lev_error *err);
/* An array of strings of `v`; NULL gives JSON's null. */
json_t *lev_docker_strings(const char *const *v);
/* Milliseconds since the epoch of an RFC 3339 time; 0 for the year 1, which
 * stands for "never", and for what is none. */
int64_t lev_docker_time(const char *text);
/* `?filters=` for a label; nothing for NULL. */
int lev_docker_filter(struct lev_buf *path, const char *label,
                      struct lev_error *err);
/* Of the Engine API's form: {HostIp, HostPort}. */
void lev_port_set(struct lev_port *port, const char *key,
                  const json_t *binding);
/* Appends one entry to a listing. */
int lev_docker_list_add(struct lev_listed ***end, const char *id,
                        const char *name, const char *subnet,
                        const json_t *labels, struct lev_error *err);

/* ---- the operations, as engine.h describes them ---- */

int lev_docker_image_inspect(struct lev_engine *e,
                             const struct lev_scope *scope, const char *ref,
                             struct lev_image *image, struct lev_error *err);
const char *lev_docker_image_empty(struct lev_engine *e,
                                   const struct lev_scope *scope,
                                   struct lev_error *err);
/* Writes what `docker save` gives of an image to `fd`; fails with PULL when
 * nothing came for `stall` nanoseconds, IMAGE_NOT_FOUND. docker_save.c */
int lev_docker_image_save(struct lev_engine *e, const struct lev_scope *scope,
                          const char *ref, int fd, int64_t stall,
                          lev_pull_progress *progress, void *ctx,
                          struct lev_error *err);
int lev_docker_image_remove(struct lev_engine *e,
                            const struct lev_scope *scope, const char *ref,
                            struct lev_error *err);
int lev_docker_image_list(struct lev_engine *e, const struct lev_scope *scope,
                          const char *label, struct lev_listed **list,
                          struct lev_error *err);
char *lev_docker_commit(struct lev_engine *e, const struct lev_scope *scope,
                        const char *id, const char *const *labels,
                        struct lev_error *err);
int lev_docker_image_pull(struct lev_engine *e, const struct lev_scope *scope,
                          const char *ref, int64_t stall,
                          lev_pull_progress *progress, void *ctx,
                          struct lev_error *err);

int lev_docker_runtime_mount(struct lev_engine *e,
                             const struct lev_scope *scope, const char *dir,
                             const char *image, const char *const *labels,
                             struct lev_mount *mount, bool *local,
                             struct lev_error *err);
void lev_docker_runtimes_free(struct lev_docker_runtime *runtimes);

int lev_docker_create(struct lev_engine *e, const struct lev_scope *scope,
                      const struct lev_container_spec *spec, char **id,
                      struct lev_error *err);
int lev_docker_signal(struct lev_engine *e, const struct lev_scope *scope,
                      const char *id, int signo, struct lev_error *err);
int lev_docker_inspect(struct lev_engine *e, const struct lev_scope *scope,
                       const char *id, struct lev_container_state *state,
                       struct lev_error *err);
int lev_docker_address(struct lev_engine *e, const struct lev_scope *scope,
                       const char *id, const char *network, char address[64],
                       struct lev_error *err);
int lev_docker_published(struct lev_engine *e, const struct lev_scope *scope,
                         const char *id, struct lev_port **ports, size_t *n,
                         struct lev_error *err);
int lev_docker_remove(struct lev_engine *e, const struct lev_scope *scope,
                      const char *id, struct lev_error *err);
int lev_docker_list(struct lev_engine *e, const struct lev_scope *scope,
                    const char *label, struct lev_listed **list,
                    struct lev_error *err);

int lev_docker_put(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, int fd, uint64_t size,
                   struct lev_error *err);
int lev_docker_exists(struct lev_engine *e, const struct lev_scope *scope,
                      const char *id, const char *path, struct lev_error *err);
int lev_docker_get(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, const char *path, size_t max,
                   struct lev_buf *out, struct lev_error *err);

struct lev_process *lev_docker_attach(struct lev_engine *e,
                                      const struct lev_scope *scope,
                                      const char *id, struct lev_output *out,
                                      struct lev_error *err);
int lev_docker_start(struct lev_process *p, const struct lev_scope *scope,
                     struct lev_error *err);
int lev_docker_poll(struct lev_process *p, const struct lev_scope *scope,
                    struct pollfd *fds, size_t n, int *exit_code,
                    struct lev_error *err);
void lev_docker_detach(struct lev_process *p);

struct lev_exec *lev_docker_exec_start(struct lev_engine *e,
                                       const struct lev_scope *scope,
                                       const char *id,
                                       const struct lev_exec_spec *spec,
                                       struct lev_error *err);
int lev_docker_exec_fd(const struct lev_exec *x);
ssize_t lev_docker_exec_recv(struct lev_exec *x, int *stream, void *buf,
                             size_t len, struct lev_error *err);
int lev_docker_exec_send(struct lev_exec *x, const struct lev_scope *scope,
                         const void *data, size_t len, struct lev_error *err);
int lev_docker_exec_code(struct lev_exec *x, const struct lev_scope *scope,
                         int *exit_code, struct lev_error *err);
void lev_docker_exec_close(struct lev_exec *x);

int lev_docker_network_create(struct lev_engine *e,
                              const struct lev_scope *scope, const char *name,
                              const char *subnet, const char *const *labels,
                              char **id, struct lev_error *err);
int lev_docker_network_remove(struct lev_engine *e,
                              const struct lev_scope *scope, const char *id,
                              struct lev_error *err);
int lev_docker_network_list(struct lev_engine *e,
                            const struct lev_scope *scope, const char *label,
                            struct lev_listed **list, struct lev_error *err);

#endif
