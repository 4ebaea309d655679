/* names.h - what references mean: the database of an image store.
 *
 * SQLite with a write-ahead log, shared by processes. A struct is one thread's
 * at a time: the store's gate sees to it. Whoever changes something does so
 * between begin and commit; lev_names_end() undoes what was not committed.
 */
#ifndef LEV_NAMES_H
#define LEV_NAMES_H

#include "buf.h"
#include "scope.h"

#include <sqlite3.h>

struct lev_names {
    sqlite3 *db;
    struct lev_scope scope; /* of who uses it now: how long locks may take */
    bool writing;
};

int lev_names_open(struct lev_names *n, const char *path,
                   struct lev_error *err);
void lev_names_close(struct lev_names *n);

int lev_names_begin(struct lev_names *n, struct lev_error *err);
int lev_names_commit(struct lev_names *n, struct lev_error *err);
void lev_names_end(struct lev_names *n);

/* The image of a name; 1, or 0 when there is none. */
int lev_names_find(struct lev_names *n, const char *name, char id[72],
                   struct lev_error *err);
/* By the beginning of its id, "sha256:…"; INVALID when several begin so. */
int lev_names_find_id(struct lev_names *n, const char *prefix, char id[72],
                      struct lev_error *err);
/* By the digest of its manifest. */
int lev_names_find_digest(struct lev_names *n, const char *digest, char id[72],
                          struct lev_error *err);
/* 1 when it is there; `digest` is appended when it has one. */
int lev_names_image(struct lev_names *n, const char *id,
                    struct lev_buf *digest, int64_t *size, int64_t *created,
                    struct lev_error *err);
int lev_names_add_image(struct lev_names *n, const char *id,
                        const char *digest, int64_t size,
                        const char *const *layers, struct lev_error *err);
int lev_names_remove_image(struct lev_names *n, const char *id,
                           struct lev_error *err);
int lev_names_set(struct lev_names *n, const char *name, const char *id,
                  struct lev_error *err);
/* The name, or (NULL) all names of the image. */
int lev_names_unset(struct lev_names *n, const char *name, const char *id,
                    struct lev_error *err);

/* Lines, each ended by a newline. */
enum lev_names_list {
    LEV_NAMES_IMAGES,   /* ids, newest first */
    LEV_NAMES_NAMELESS, /* ids without a name */
    LEV_NAMES_OF,       /* the names of image `id` */
    LEV_NAMES_LAYERS,   /* its diff ids */
};
int lev_names_list(struct lev_names *n, enum lev_names_list what,
                   const char *id, struct lev_buf *lines,
                   struct lev_error *err);
/* 1 when an image has it. */
int lev_names_uses_layer(struct lev_names *n, const char *diff_id,
                         struct lev_error *err);

#endif
