/* registry.h - pulling images by the distribution API (OCI distribution 1.1,
 * Docker registry v2).
 *
 * HTTPS, and plain HTTP for loopback registries; token and basic
 * authentication with the user's credentials; mirrors; indexes of several
 * platforms; blobs resumed by Range after a broken connection, layers in
 * parallel, each unpacked into the image store as it comes. What a registry
 * says is not trusted: sizes are bounded, digests are checked.
 */
#ifndef LEV_REGISTRY_H
#define LEV_REGISTRY_H

#include "imageref.h"
#include "imagestore.h"

struct lev_registry_config {
    const char *docker_config;  /* directory of config.json; NULL: ~/.docker */
    const char *const *mirrors; /* of docker.io, "https://host"; or NULL */
    const char *os, *arch;      /* of the image; NULL: this machine's */
    const char *ca_file;        /* NULL: the system's */
    int64_t stall;              /* nanoseconds without progress */
    unsigned parallel;          /* layers at once; 0: 3 */
};

typedef void lev_registry_progress(void *ctx, int64_t done, int64_t total,
                                   const char *text);

/* Pulls `ref` into the store; its id. Calls of `progress` come from several
 * threads, one at a time. PULL (detail: the HTTP status; "no progress" in the
 * words of a stall), IMAGE_NOT_FOUND, IMAGE for what is wrong with the image
 * itself, OS for the disk. */
int lev_registry_pull(const struct lev_registry_config *config,
                      struct lev_imagestore *store,
                      const struct lev_scope *scope,
                      const struct lev_imageref *ref,
                      lev_registry_progress *progress, void *ctx, char id[72],
                      struct lev_error *err);

#endif
