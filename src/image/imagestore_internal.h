/* imagestore_internal.h - how the image store is cut: directories, locks and
 * temporaries (imagestore_disk.c), layers (imagestore_layer.c), images
 * (imagestore.c), removal (imagestore_remove.c), archives (imagestore_load.c).
 */
#ifndef LEV_IMAGESTORE_INTERNAL_H
#define LEV_IMAGESTORE_INTERNAL_H

#include "gate.h"
#include "imagestore.h"
#include "names.h"

#define LEV_DONE_MAX 512

struct lev_imagestore {
    char *dir;
    int at, layers, blobs, tmp, locks; /* its directories */
    struct lev_layer_options options;
    struct lev_gate gate; /* of the database */
    struct lev_names names;
};

/* Something in tmp/, locked against sweepers; a directory. */
struct lev_temporary {
    struct lev_imagestore *store;
    char name[32];
    int fd; /* -1: none, or renamed away */
};

int lev_temporary_make(struct lev_imagestore *s, struct lev_temporary *t,
                       struct lev_error *err);
/* Removes it, unless it was renamed. */
void lev_temporary_drop(struct lev_temporary *t);
#define _cleanup_temporary_ _cleanup_(lev_temporary_drop)
/* Moves `name` in `dirfd` to tmp/, from where it is removed. */
int lev_imagestore_discard(struct lev_imagestore *s, int dirfd,
                           const char *name, struct lev_error *err);
/* Removes what nobody holds. */
int lev_imagestore_sweep(struct lev_imagestore *s, struct lev_error *err);

/* flock(2) that ends with the scope. */
int lev_flock(int fd, int how, const struct lev_scope *scope,
              struct lev_error *err);
/* A file in locks/, locked; -1. */
int lev_imagestore_lock(struct lev_imagestore *s, const char *name,
                        const struct lev_scope *scope, struct lev_error *err);
/* Takes the file away and unlocks it. */
void lev_imagestore_unlock(struct lev_imagestore *s, const char *name, int fd);

/* A whole small file. */
int lev_read_file_at(int dirfd, const char *name, size_t limit,
                     struct lev_buf *out, struct lev_error *err);
int lev_write_synced_at(int dirfd, const char *name, const char *data,
                        size_t len, struct lev_error *err);
/* Written to a temporary and synced, then renamed. */
int lev_imagestore_write_blob(struct lev_imagestore *s, const char *hex,
                              const char *data, size_t len,
                              struct lev_error *err);

/* The database, for one thread; what it did not commit is undone. */
int lev_imagestore_enter(struct lev_imagestore *s,
                         const struct lev_scope *scope, struct lev_error *err);
void lev_imagestore_leave(struct lev_imagestore **s);
#define _cleanup_store_ _cleanup_(lev_imagestore_leave)

/* The name under which a reference is kept: "docker.io/library/x:latest". */
int lev_imagestore_name(const char *ref, struct lev_buf *name,
                        struct lev_error *err);
/* Which image `ref` means; 1, or 0. `*by_name` gets (may be NULL) whether it
 * was found by name, which is then in `name`. In the gate. */
int lev_imagestore_find(struct lev_imagestore *s, const char *ref, char id[72],
                        struct lev_buf *name, bool *by_name,
                        struct lev_error *err);
int lev_imagestore_missing(struct lev_error *err, const char *ref);

/* What layers/HEX/done says; 1, or 0 when it is not there. */
int lev_imagestore_layer_info(struct lev_imagestore *s, const char *diff_id,
                              struct lev_layer_result *info,
                              struct lev_error *err);

#endif
