/* oci_spec.h - what an OCI runtime is told: a container's config.json.
 *
 * From the image's configuration, the run's and the user's options, with the
 * defaults that Docker gives to its containers. Pure but for what it reads
 * below the container's root (users) and on this machine (devices, cgroups).
 * Any thread.
 */
#ifndef LEV_OCI_SPEC_H
#define LEV_OCI_SPEC_H

#include "engine.h"
#include "imagestore.h"
#include "json.h"
#include "oci_root.h"

/* How a container is connected. */
enum lev_oci_net {
    LEV_OCI_NET_NONE, /* a namespace of its own with a loopback */
    LEV_OCI_NET_PATH, /* the namespace at a path */
    LEV_OCI_NET_HOST,
};

struct lev_oci_spec {
    const struct lev_container_spec *spec;
    const struct lev_stored_image *image;
    const json_t *config, *host; /* of lev_options_apply() */
    int root;                    /* descriptor of its root */
    const char *bundle; /* its directory: root, hosts, hostname, … */
    const char *init;   /* the program that is its process 1 */
    const char *cgroup; /* "/levrt-TAG/NAME" */
    const char *hostname;
    enum lev_oci_net net;
    const char *netns; /* with LEV_OCI_NET_PATH */
    const char *pidns; /* a path, "" is the machine's, NULL its own */
    bool ipc_host;
    const char *cache_dir; /* for compiled filters; or NULL */
    bool takes_bpf;        /* the runtime is crun */
};

/* The whole of config.json; a new reference. START (a user that is not there,
 * nothing to run), UNSUPPORTED_OPTION, INVALID, naming the option. */
json_t *lev_oci_spec_build(const struct lev_oci_spec *s,
                           struct lev_error *err);
/* The "process" of an exec in a container whose config.json's is `process`. */
json_t *lev_oci_spec_exec(const json_t *process, int root,
                          const struct lev_exec_spec *exec,
                          struct lev_error *err);
/* The option "network_mode" of `host`, "host" with host_network; else NULL. */
const char *lev_oci_network_mode(const struct lev_container_spec *spec,
                                 const json_t *host);

#endif
