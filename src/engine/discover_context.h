/* discover_context.h - contexts of docker's client.
 *
 * A context has a name and lies below the client's configuration directory, in
 * contexts/meta/<SHA-256 of the name>/meta.json; its TLS files are in
 * contexts/tls/<the same>/docker/.
 */
#ifndef LEV_DISCOVER_CONTEXT_H
#define LEV_DISCOVER_CONTEXT_H

#include "error.h"
#include <stdbool.h>

struct lev_docker_context {
    char *host;    /* "unix://…", "tcp://…", "ssh://…" */
    char *tls_dir; /* NULL when it has no TLS files */
    bool skip_verify;
};

/* ENGINE_UNAVAILABLE when there is no such context, or it cannot be read. */
int lev_docker_context_load(const char *docker_config, const char *name,
                            struct lev_docker_context *context,
                            struct lev_error *err);
void lev_docker_context_deinit(struct lev_docker_context *context);
#define _cleanup_context_ _cleanup_(lev_docker_context_deinit)

/* The one that config.json makes current; `*name` is NULL when there is none,
 * or it is "default". */
int lev_docker_context_current(const char *docker_config, char **name,
                               struct lev_error *err);

#endif
