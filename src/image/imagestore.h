/* imagestore.h - images on this machine's disk, for the engine without a
 * daemon.
 *
 *   blobs/sha256/HEX       configs (layers are not kept packed)
 *   layers/HEX/diff        one unpacked copy per layer, by diff id
 *   layers/HEX/done        what is known of it; it is whole when it is here
 *   names.db               references and layer chains (SQLite, WAL)
 *   tmp/                   what is under way; swept when nobody holds its lock
 *   locks/                 one file per layer that is being unpacked
 *
 * Shared by any number of processes of one user. Everything comes to be as a
 * temporary and one rename, after its digest was checked and what it has was
 * synced, so that a crash leaves at most something in tmp/. Who relies on a
 * layer or an image holds a shared lock (flock) on it; removal takes it
 * exclusively and leaves what is in use. Threads: any, on one store too.
 *
 * Errors of all: OS for the disk's (ENOSPC, …), IMAGE for what is wrong with
 * the image, CANCELLED and TIMEOUT by the scope.
 */
#ifndef LEV_IMAGESTORE_H
#define LEV_IMAGESTORE_H

#include "buf.h"
#include "layer.h"
#include "scope.h"

struct lev_imagestore;

/* Layers that must stay while an image of them is being put together. A zeroed
 * struct holds none; one thread's at a time. */
struct lev_image_hold {
    int *fds;
    size_t n;
};

void lev_image_hold_release(struct lev_image_hold *hold);
#define _cleanup_image_hold_ _cleanup_(lev_image_hold_release)

/* An image as its config says, with where its layers lie. */
struct lev_stored_image {
    char id[72];     /* "sha256:…" of its config */
    char *digest;    /* of the manifest it was pulled by, or NULL */
    char *os, *arch; /* the arch as uname -m says; "" when not told */
    char *user, *working_dir, *stop_signal; /* "" when not told */
    /* NULL-terminated; labels as "key=value", exposed as "80/tcp". */
    char **entrypoint, **cmd, **env, **labels, **volumes, **exposed;
    char **layers; /* absolute paths of their diff directories, lowest first */
    int64_t size;  /* unpacked bytes */
    /* Of the root directory: overlayfs shows those of the upper directory,
     * which must be made like that. */
    mode_t root_mode;
    uid_t root_uid;
    gid_t root_gid;
    char *config; /* the JSON itself */
    int lock;     /* holds it; -1: none */
};

/* `dir` NULL: $XDG_DATA_HOME/levrt/oci, /var/lib/levrt/oci for root. Made if
 * missing. `layers`: how they are to be unpacked, the same for every use of
 * one store; NULL: as root. */
struct lev_imagestore *
lev_imagestore_open(const char *dir, const struct lev_layer_options *layers,
                    struct lev_error *err);
void lev_imagestore_close(struct lev_imagestore *s); /* NULL is fine */

static inline void
lev_imagestore_closep(struct lev_imagestore **s)
{
    lev_imagestore_close(*s);
}
#define _cleanup_imagestore_ _cleanup_(lev_imagestore_closep)

/* By reference as users write them ("busybox"), id or its prefix.
 * IMAGE_NOT_FOUND. `*image` may be uninitialised. Holds the image until
 * lev_stored_image_deinit(). */
int lev_imagestore_get(struct lev_imagestore *s, const struct lev_scope *scope,
                       const char *ref, struct lev_stored_image *image,
                       struct lev_error *err);
void lev_stored_image_deinit(struct lev_stored_image *image);

/* 1 when the layer is there (and whole), and now held; 0 when it is not. */
int lev_imagestore_has_layer(struct lev_imagestore *s, const char *diff_id,
                             struct lev_image_hold *hold,
                             struct lev_error *err);
/* Unpacks a layer under the digest and diff id that it must have (either may
 * be NULL: not known), and holds it. Who asks for the same one meanwhile waits
 * for this one; the source of a layer that is there is not read, and `result`
 * is then as of the time it was. */
int lev_imagestore_add_layer(struct lev_imagestore *s,
                             const struct lev_scope *scope,
                             const struct lev_layer_source *source,
                             const char *digest, const char *diff_id,
                             struct lev_image_hold *hold,
                             struct lev_layer_result *result,
                             struct lev_error *err);
/* Makes the image of a config (its JSON, whose layers are all there and held)
 * and gives it the reference; `digest` of its manifest as pulled. Both may be
 * NULL. */
int lev_imagestore_add_image(struct lev_imagestore *s,
                             const struct lev_scope *scope, const char *ref,
                             const char *config, size_t len,
                             const char *digest, char id[72],
                             struct lev_error *err);
/* `id`: as in get. */
int lev_imagestore_tag(struct lev_imagestore *s, const struct lev_scope *scope,
                       const char *id, const char *ref, struct lev_error *err);
/* A reference; the image, too, when it was its last; by id, with all its
 * references. An image that is in use loses its names only, and goes with the
 * next prune. Layers that nobody needs any more go, as far as nobody holds
 * them. IMAGE_NOT_FOUND. */
int lev_imagestore_remove(struct lev_imagestore *s,
                          const struct lev_scope *scope, const char *ref,
                          struct lev_error *err);
/* Images without a name, and layers and configs of no image. */
int lev_imagestore_prune(struct lev_imagestore *s,
                         const struct lev_scope *scope, uint64_t *freed,
                         struct lev_error *err);
/* Appends a JSON array with Id, RepoTags, RepoDigests, Created, Size, Layers
 * of each. */
int lev_imagestore_list(struct lev_imagestore *s,
                        const struct lev_scope *scope, struct lev_buf *json,
                        struct lev_error *err);

/* From archives, to a reference (or those they name themselves, `ref` NULL): a
 * root file system as tar; `docker save`'s or an OCI archive; an OCI layout's
 * directory. `loaded` gets a line per reference or id. */
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
