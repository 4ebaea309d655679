/* layer_internal.h - how layer.c is cut: the stream (layer_stream.c) turns a
 * source into archive entries and digests on the way; the place
 * (layer_place.c) finds and makes directories below the destination; the
 * writer (layer_write.c) makes entries there; layer.c decides which.
 */
#ifndef LEV_LAYER_INTERNAL_H
#define LEV_LAYER_INTERNAL_H

#include "layer.h"

#include <stdbool.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "sha256.h"

/* The stream. Digests are of everything that went by; finish it first. */
struct lev_layer_stream {
    const struct lev_scope *scope;
    const struct lev_layer_source *source;
    uint64_t max_unpacked; /* of the archive itself */
    struct archive *raw;   /* decompresses; NULL: the source is plain */
    struct archive *tar;
    struct lev_sha256 packed, unpacked;
    uint64_t packed_len, unpacked_len;
    char *in;    /* one read of the source */
    size_t held; /* of it, taken to tell the compression, not handed on */
    bool ended;
    bool failed; /* then `err` says why, whatever libarchive says */
    struct lev_error err;
};

int lev_layer_stream_open(struct lev_layer_stream *s,
                          const struct lev_scope *scope,
                          const struct lev_layer_source *source,
                          uint64_t max_unpacked, struct lev_error *err);
void lev_layer_stream_close(struct lev_layer_stream *s);
/* 1 with an entry, 0 at the end. */
int lev_layer_stream_next(struct lev_layer_stream *s,
                          struct archive_entry **entry, struct lev_error *err);
/* 1 with a piece of the entry's content, 0 at its end. */
int lev_layer_stream_data(struct lev_layer_stream *s, const void **data,
                          size_t *len, int64_t *offset, struct lev_error *err);
/* Reads on to the source's end. */
int lev_layer_stream_finish(struct lev_layer_stream *s,
                            struct lev_layer_result *result,
                            struct lev_error *err);

/* A directory whose mode and time are set when all else is done. */
struct lev_late_dir {
    size_t path; /* in the arena */
    mode_t mode;
    struct timespec mtime;
};

struct lev_layer_place {
    const struct lev_layer_options *options;
    int root;
    struct lev_buf parent_path; /* the last one asked for, and its fd */
    int parent;                 /* -1: none */
    struct lev_buf arena;       /* paths of late directories */
    struct lev_late_dir *late;
    size_t late_n, late_cap;
    uint64_t bytes, entries;
    bool has_root;    /* the archive had an entry for the root itself */
    bool root_opaque; /* … and hides all layers below */
};

void lev_layer_place_init(struct lev_layer_place *p, int root,
                          const struct lev_layer_options *options);
void lev_layer_place_deinit(struct lev_layer_place *p);

/* "a//./b/" → "a/b"; "" is the root. IMAGE for ".." and what is too long. */
int lev_layer_path(const char *name, struct lev_buf *path,
                   struct lev_error *err);
/* The directory that holds `path`, made if missing, and the last part of it;
 * the fd is borrowed until the next call. Links are followed as in a chroot.
 */
int lev_layer_place_parent(struct lev_layer_place *p, const char *path,
                           const char **name, struct lev_error *err);
/* As above, but nothing is made; -1 also when it is not there. A new fd. */
int lev_layer_place_find(struct lev_layer_place *p, const char *path,
                         const char **name, struct lev_error *err);
int lev_layer_place_remove(struct lev_layer_place *p, int parent,
                           const char *name, struct lev_error *err);
int lev_layer_place_count(struct lev_layer_place *p, struct lev_error *err);
/* Makes the directory `name` in `parent`, or takes the one that is there. */
int lev_layer_place_dir(struct lev_layer_place *p, int parent,
                        const char *name, struct lev_error *err);
int lev_layer_place_opaque(struct lev_layer_place *p, int parent,
                           const char *name, struct lev_error *err);
int lev_layer_place_late(struct lev_layer_place *p, const char *path,
                         mode_t mode, struct timespec mtime,
                         struct lev_error *err);
/* Modes and times of directories. */
int lev_layer_place_finish(struct lev_layer_place *p, struct lev_error *err);

/* The writer: one entry at its (normalised, not empty) path. */
int lev_layer_write(struct lev_layer_place *p, struct lev_layer_stream *s,
                    struct archive_entry *e, const char *path,
                    struct lev_error *err);
int lev_layer_write_root(struct lev_layer_place *p, struct archive_entry *e,
                         struct lev_error *err);
int lev_layer_write_whiteout(struct lev_layer_place *p, const char *dir_path,
                             const char *name, struct lev_error *err);

bool lev_layer_is_whiteout(const struct stat *st);
bool lev_layer_wanted_xattr(const char *name);
/* "layer: entry 'NAME': …", the name cut and made printable. */
int lev_layer_error(struct lev_error *err, enum lev_errcode code, int detail,
                    const char *name, const char *fmt, ...) LEV_PRINTF(5, 6);
/* The same from errno; code OS, or IMAGE where the archive is to blame. */
int lev_layer_errno(struct lev_error *err, const char *name, const char *what);

#endif
