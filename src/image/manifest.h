/* manifest.h - manifests and indexes: what an image consists of (OCI image
 * spec; Docker image manifest version 2, schema 2).
 *
 * Not trusted. Errors are IMAGE and say what is wrong and what there is.
 */
#ifndef LEV_MANIFEST_H
#define LEV_MANIFEST_H

#include "error.h"
#include <stdbool.h>
#include <stdint.h>

#define LEV_MANIFEST_MAX (4u * 1024 * 1024)

struct lev_descriptor {
    char digest[72];
    int64_t size; /* -1: not told */
};

struct lev_manifest {
    bool is_index; /* then only `chosen` counts */
    struct lev_descriptor chosen;
    struct lev_descriptor config;
    struct lev_descriptor *layers; /* lowest first */
    size_t n;
};

/* `os` and `arch` (NULL: this machine's; Go's names or uname's) choose from an
 * index. `kind`: the media type that came with it, or NULL. */
int lev_manifest_parse(const char *json, size_t len, const char *kind,
                       const char *os, const char *arch,
                       struct lev_manifest *m, struct lev_error *err);
void lev_manifest_deinit(struct lev_manifest *m);
#define _cleanup_manifest_ _cleanup_(lev_manifest_deinit)

/* IMAGE when `len` bytes of `data` do not have it. */
int lev_digest_check(const char *what, const char *digest, const void *data,
                     size_t len, struct lev_error *err);
/* Whether an image for this platform runs: IMAGE when it says another one. */
int lev_platform_check(const char *os, const char *arch, const char *wanted_os,
                       const char *wanted_arch, struct lev_error *err);

#endif
