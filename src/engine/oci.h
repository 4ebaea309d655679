/* oci.h - the engine without a daemon: crun or runc, overlayfs, and images of
 * our own store.
 *
 *   oci.c            where its programs and its store are; the table
 *   oci_container.c  from an image and options to a container, and back
 *   oci_process.c    its first process, and execs
 *   oci_files.c      hosts, resolv.conf, and what is copied into it
 *   oci_network.c    networks and addresses
 *   oci_ports.c      ports of this machine that lead to a container
 *   oci_image.c      images, by the image store
 *   oci_spec.c       what the runtime is told; with oci_device.c,
 *                    oci_limits.c and oci_security.c
 *
 * What needs privileges, or must go on when this process is killed, is done by
 * the helper (lev-reaper, one per engine). Here is what has to be thought
 * about: options, addresses, files. An id is the container's name: it is
 * unique in the store.
 */
#ifndef LEV_OCI_H
#define LEV_OCI_H

#include "discover.h"
#include "engine.h"
#include "helper.h"
#include "imagestore.h"
#include "oci_spec.h"
#include <netinet/in.h>

#define LEV_OCI_NETWORKS_MAX 4 /* of one container */
#define LEV_OCI_PATH_MAX 4096
#define LEV_OCI_BASE "base" /* in the store: the lowest layer of all */

struct lev_oci_network {
    struct lev_oci_network *next;
    char *name; /* its id, too */
    char bridge[16];
    uint32_t base; /* host's byte order */
    unsigned prefix;
    uint8_t *used; /* a bit per address */
    size_t last;   /* the one that was given last */
    size_t members;
};

struct lev_oci_endpoint {
    struct lev_oci_network *network;
    uint32_t address;
    char **aliases;
};

struct lev_oci_container {
    struct lev_oci_container *next;
    atomic_int refs;
    char *name;
    char *dir;    /* upper, work and meta.json, on disk */
    char *bundle; /* the rest, as the helper sees it */
    char hostname[300];
    int root; /* descriptor of its root, as it is mounted in the helper */
    struct lev_stored_image image; /* its layers are held */
    json_t *process;               /* as in its config.json */
    json_t *ports; /* published: {key, HostIp, HostPort}; or NULL */
    enum lev_oci_net net;
    struct lev_oci_endpoint ends[LEV_OCI_NETWORKS_MAX];
    size_t ends_n;
    bool made;    /* by the helper */
    bool removed; /* mutex: somebody has begun to */
};

struct lev_oci {
    struct lev_engine base;
    char *dir; /* of the store */
    char tag[LEV_TAG_MAX + 1];
    char *session; /* dir/sessions/TAG */
    char *cache;
    char *runtime, *init, *reaper; /* programs */
    char *docker_config;
    char **mirrors; /* or NULL */
    bool is_crun;
    struct lev_discover docker; /* for images of a Docker on this machine */
    struct lev_imagestore *images;
    struct lev_helper *helper;
    pthread_mutex_t mutex; /* all below */
    struct lev_oci_container *containers;
    struct lev_oci_network *networks;
    unsigned next_bridge, next_exec;
    char host_address[INET_ADDRSTRLEN]; /* as containers see it, or "" */
};

extern const struct lev_engine_ops lev_engine_oci;

static inline struct lev_oci *
lev_oci_of(struct lev_engine *e)
{
    return lev_container_of(e, struct lev_oci, base);
}

/* With a reference; NOT_FOUND. */
struct lev_oci_container *lev_oci_find(struct lev_oci *o, const char *id,
                                       struct lev_error *err);
void lev_oci_container_unref(struct lev_oci_container *c);
void lev_oci_container_unrefp(struct lev_oci_container **c);
#define _cleanup_oci_container_ _cleanup_(lev_oci_container_unrefp)

/* Digits of a random number. */
int lev_oci_random_hex(char *out, size_t digits, struct lev_error *err);

int lev_oci_create(struct lev_engine *e, const struct lev_scope *scope,
                   const struct lev_container_spec *spec, char **id,
                   struct lev_error *err);
int lev_oci_signal(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, int signo, struct lev_error *err);
int lev_oci_inspect(struct lev_engine *e, const struct lev_scope *scope,
                    const char *id, struct lev_container_state *state,
                    struct lev_error *err);
int lev_oci_remove(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, struct lev_error *err);
int lev_oci_list(struct lev_engine *e, const struct lev_scope *scope,
                 const char *label, struct lev_listed **list,
                 struct lev_error *err);

int lev_oci_put(struct lev_engine *e, const struct lev_scope *scope,
                const char *id, int fd, uint64_t size, struct lev_error *err);
int lev_oci_exists(struct lev_engine *e, const struct lev_scope *scope,
                   const char *id, const char *path, struct lev_error *err);
int lev_oci_get(struct lev_engine *e, const struct lev_scope *scope,
                const char *id, const char *path, size_t max,
                struct lev_buf *out, struct lev_error *err);
/* hosts, hostname and resolv.conf of a container, before its start. */
int lev_oci_write_files(struct lev_oci *o, struct lev_oci_container *c,
                        const struct lev_container_spec *spec,
                        const json_t *config, const json_t *host,
                        struct lev_error *err);
/* The aliases of `c` on its networks, to the hosts files of the others there,
 * and theirs to its own. With the engine's mutex. */
void lev_oci_share_names(struct lev_oci *o, struct lev_oci_container *c);
/* Below a directory that is open, or AT_FDCWD. */
int lev_oci_write_file(int dir, const char *path, const char *text, size_t len,
                       struct lev_error *err);
/* A file of a container's bundle. */
int lev_oci_write_bundle(struct lev_oci *o, const struct lev_oci_container *c,
                         const char *name, const struct lev_buf *text,
                         struct lev_error *err);

struct lev_process *lev_oci_attach(struct lev_engine *e,
                                   const struct lev_scope *scope,
                                   const char *id, struct lev_output *out,
                                   struct lev_error *err);
int lev_oci_start(struct lev_process *p, const struct lev_scope *scope,
                  struct lev_error *err);
int lev_oci_poll(struct lev_process *p, const struct lev_scope *scope,
                 struct pollfd *fds, size_t n, int *exit_code,
                 struct lev_error *err);
void lev_oci_detach(struct lev_process *p);

struct lev_exec *lev_oci_exec_start(struct lev_engine *e,
                                    const struct lev_scope *scope,
                                    const char *id,
                                    const struct lev_exec_spec *spec,
                                    struct lev_error *err);
int lev_oci_exec_fd(const struct lev_exec *x);
ssize_t lev_oci_exec_recv(struct lev_exec *x, int *stream, void *buf,
                          size_t len, struct lev_error *err);
int lev_oci_exec_send(struct lev_exec *x, const struct lev_scope *scope,
                      const void *data, size_t len, struct lev_error *err);
int lev_oci_exec_code(struct lev_exec *x, const struct lev_scope *scope,
                      int *exit_code, struct lev_error *err);
void lev_oci_exec_close(struct lev_exec *x);

int lev_oci_network_create(struct lev_engine *e, const struct lev_scope *scope,
                           const char *name, const char *subnet,
                           const char *const *labels, char **id,
                           struct lev_error *err);
int lev_oci_network_remove(struct lev_engine *e, const struct lev_scope *scope,
                           const char *id, struct lev_error *err);
int lev_oci_network_list(struct lev_engine *e, const struct lev_scope *scope,
                         const char *label, struct lev_listed **list,
                         struct lev_error *err);
int lev_oci_address(struct lev_engine *e, const struct lev_scope *scope,
                    const char *id, const char *network, char address[64],
                    struct lev_error *err);
/* Takes an address on a network for a container that is being made. */
int lev_oci_join(struct lev_oci *o, struct lev_oci_container *c,
                 const struct lev_network_join *join, struct lev_error *err);
void lev_oci_leave(struct lev_oci *o, struct lev_oci_container *c);
/* For the helper's create: an array of its endpoints. */
json_t *lev_oci_endpoints(const struct lev_oci_container *c);
int lev_oci_published(struct lev_engine *e, const struct lev_scope *scope,
                      const char *id, struct lev_port **ports, size_t *n,
                      struct lev_error *err);
bool lev_oci_publishes(const json_t *host);
/* For the helper's create: what the options want published of a container that
 * has its addresses; a new reference. */
json_t *lev_oci_ports_wanted(struct lev_oci_container *c, const json_t *config,
                             const json_t *host, struct lev_error *err);
/* The helper's answer to it. */
void lev_oci_ports_taken(struct lev_oci *o, struct lev_oci_container *c,
                         const json_t *numbers);
/* The engine's default network, made when it is not there. */
int lev_oci_join_default(struct lev_oci *o, const struct lev_scope *scope,
                         struct lev_oci_container *c, struct lev_error *err);
void lev_oci_networks_free(struct lev_oci_network *n);

int lev_oci_image_inspect(struct lev_engine *e, const struct lev_scope *scope,
                          const char *ref, struct lev_image *image,
                          struct lev_error *err);
int lev_oci_image_pull(struct lev_engine *e, const struct lev_scope *scope,
                       const char *ref, int64_t stall,
                       lev_pull_progress *progress, void *ctx,
                       struct lev_error *err);
const char *lev_oci_image_empty(struct lev_engine *e,
                                const struct lev_scope *scope,
                                struct lev_error *err);
int lev_oci_image_remove(struct lev_engine *e, const struct lev_scope *scope,
                         const char *ref, struct lev_error *err);
int lev_oci_runtime_mount(struct lev_engine *e, const struct lev_scope *scope,
                          const char *dir, const char *image,
                          const char *const *labels, struct lev_mount *mount,
                          bool *local, struct lev_error *err);
char *lev_oci_commit(struct lev_engine *e, const struct lev_scope *scope,
                     const char *id, const char *const *labels,
                     struct lev_error *err);
int lev_oci_image_list(struct lev_engine *e, const struct lev_scope *scope,
                       const char *label, struct lev_listed **list,
                       struct lev_error *err);
/* An image of the store by what a user calls it. */
int lev_oci_image_get(struct lev_oci *o, const struct lev_scope *scope,
                      const char *ref, struct lev_stored_image *image,
                      struct lev_error *err);

#endif
