/* imagestore.h - images on this machine's disk, for the engine without a daemon.
 *
 *   blobs/sha256/HEX       manifests, configs (layers are not kept packed)
 *   layers/HEX/diff        one unpacked copy per layer, by diff id
 *   layers/HEX/done        it is whole; written and synced last
 *   names.db               references and layer chains (SQLite, WAL)
 *   tmp/                   what is under way; swept when nobody holds its lock
 *
 * Shared by any number of processes of one user. Everything comes to be as a
 * temporary and one rename, after its digest was checked, so that a crash leaves
 * at most something in tmp/. Who uses layers holds a shared lock on them
 * (lev_image_hold); removal takes it exclusively and leaves what is in use.
 */
#ifndef LEV_IMAGESTORE_H
#define LEV_IMAGESTORE_H

#include "buf.h"
#include "layer.h"
#include "scope.h"

struct lev_imagestore;

/* An image as its config says, with where its layers lie. */
struct lev_stored_image {
    char id[72];      /* "sha256:…" of its config */
    char *digest;     /* of the manifest it was pulled by, or NULL */
    char *os, *arch;  /* as uname -m says */
    char *user, *working_dir, *stop_signal;
    char **entrypoint, **cmd, **env, **labels, **volumes; /* NULL-terminated */
    char **layers; /* absolute paths of their diff directories, lowest first */
    int64_t size;  /* unpacked bytes */
};

/* `dir` NULL: $XDG_DATA_HOME/levrt/oci, /var/lib/levrt/oci for root. */
struct lev_imagestore *lev_imagestore_open(const char *dir,
                                           struct lev_error *err);
void lev_imagestore_close(struct lev_imagestore *s); /* NULL is fine */

/* By reference ("docker.io/library/busybox:latest"), id or its prefix.
 * IMAGE_NOT_FOUND. Holds its layers until lev_stored_image_deinit(). */
int lev_imagestore_get(struct lev_imagestore *s, const struct lev_scope *scope,
                       const char *ref, struct lev_stored_image *image,
                       struct lev_error *err);
void lev_stored_image_deinit(struct lev_stored_image *image);

/* 1 when the layer is there (and whole). */
int lev_imagestore_has_layer(struct lev_imagestore *s, const char *diff_id);
/* Unpacks a layer under the digest and diff id that it must have (either may be
 * NULL: not known). Who asks for the same one meanwhile waits for this one. */
int lev_imagestore_add_layer(struct lev_imagestore *s,
                             const struct lev_scope *scope,
                             const struct lev_layer_source *source,
                             const char *digest, const char *diff_id,
                             struct lev_layer_result *result,
                             struct lev_error *err);
/* Makes the image of a config (its JSON, whose layers are all there) and gives
 * it the reference; `manifest` and `digest` as pulled, or NULL. */
int lev_imagestore_add_image(struct lev_imagestore *s,
                             const struct lev_scope *scope, const char *ref,
                             const char *config, size_t len,
                             const char *manifest_digest, char id[72],
                             struct lev_error *err);
int lev_imagestore_tag(struct lev_imagestore *s, const char *id,
                       const char *ref, struct lev_error *err);
/* A reference; the image, too, when it was its last. Layers that nobody needs
 * any more go, as far as nobody holds them. */
int lev_imagestore_remove(struct lev_imagestore *s,
                          const struct lev_scope *scope, const char *ref,
                          struct lev_error *err);
int lev_imagestore_prune(struct lev_imagestore *s,
                         const struct lev_scope *scope, uint64_t *freed,
                         struct lev_error *err);

/* From archives, to a reference (or those they name themselves, `ref` NULL): a
 * root file system as tar; `docker save`'s or an OCI archive; an OCI layout's
 * directory. */
int lev_imagestore_import(struct lev_imagestore *s,
                          const struct lev_scope *scope, int fd,
                          const char *ref, char id[72], struct lev_error *err);
int lev_imagestore_load(struct lev_imagestore *s,
                        const struct lev_scope *scope, int fd, const char *ref,
                        struct lev_buf *loaded, struct lev_error *err);
int lev_imagestore_load_layout(struct lev_imagestore *s,
                               const struct lev_scope *scope, const char *dir,
                               const char *ref, struct lev_buf *loaded,
                               struct lev_error *err);

#endif
