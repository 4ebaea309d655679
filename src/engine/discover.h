/* discover.h - which engine to use, and why.
 *
 * The order: what the program asks for, LEVRT_ENGINE, DOCKER_HOST,
 * DOCKER_CONTEXT, the current context of $DOCKER_CONFIG/config.json,
 * CONTAINER_HOST, then the first well-known socket that answers (Docker,
 * rootless Docker, Podman), then oci:, which needs no daemon. An explicit
 * choice that fails is an error; it never falls through to the next.
 */
#ifndef LEV_DISCOVER_H
#define LEV_DISCOVER_H

#include "engine.h"

/* What of the environment counts, taken on the thread that may read it; every
 * member is owned and may be NULL. */
struct lev_discover {
    char *engine; /* engine= of the program or of levrt.toml: a URL */
    char *lev_engine, *docker_host, *docker_context, *docker_config,
        *container_host, *tls_verify, *cert_path, *runtime_dir, *home;
    char **mirrors;   /* of Docker Hub, as engine.h has them; or NULL */
    char *system_dir; /* where the system's sockets are: "/var/run" */
    bool gc_only;     /* as in struct lev_engine_config */
    const char *engine_source; /* where `engine` comes from, for the log */
};

int lev_discover_from_env(struct lev_discover *d, const char *engine,
                          const char *source, struct lev_error *err);
void lev_discover_deinit(struct lev_discover *d);

/* Opens the engine; the choice and its reason go to `log` ("lev.engine") at
 * INFO. ENGINE_UNAVAILABLE lists everything that was tried and why each
 * failed. */
struct lev_engine *lev_discover_open(const struct lev_discover *d,
                                     struct lev_log *log,
                                     const struct lev_scope *scope,
                                     struct lev_error *err);

#endif
