/* tar.h - archives for an engine's archive API: written to a file that has no
 * name, so that descriptor and size make a request's body; and what comes back
 * read with bounds.
 *
 * The format is POSIX pax with extended headers where they are needed: long
 * names, large files, holes. Names are bytes (UTF-8 by convention), whatever
 * the process's locale is. Targets are absolute paths in the container;
 * entries for the *parents* of a target are never written, since an entry of a
 * directory replaces a symbolic link of the image (think of /lib), while a
 * missing one lets the engine follow the link. A tar is one thread's at a
 * time. After a failure only lev_tar_destroy() may follow.
 */
#ifndef LEV_TAR_H
#define LEV_TAR_H

#include "buf.h"
#include "scope.h"

#include <sys/types.h>

struct lev_tar;

struct lev_tar_meta {
    mode_t mode; /* the permission bits */
    uid_t uid;
    gid_t gid;
    int64_t mtime; /* seconds since the epoch */
};

/* In $TMPDIR, else /tmp. */
struct lev_tar *lev_tar_create(struct lev_error *err);
void lev_tar_destroy(struct lev_tar *tar); /* NULL is fine */
void lev_tar_destroyp(struct lev_tar **tar);
#define _cleanup_tar_ _cleanup_(lev_tar_destroyp)

/* INVALID for a target that is not absolute, has a ".." or names the root;
 * OS when the archive cannot be written. */
int lev_tar_add_bytes(struct lev_tar *tar, const char *target,
                      const void *data, size_t len,
                      const struct lev_tar_meta *meta, struct lev_error *err);
int lev_tar_add_dir(struct lev_tar *tar, const char *target,
                    const struct lev_tar_meta *meta, struct lev_error *err);
/* The file or directory tree `local`, under the name `target` (of a directory
 * "/" too: its children then). A symbolic link is followed where it is `local`
 * itself and kept below it. Modes, times, links and holes are kept, the owner
 * is `uid` and `gid`. INVALID naming a socket, fifo or device; OS naming the
 * file that cannot be read, has vanished or became shorter while it was read.
 */
int lev_tar_add_path(struct lev_tar *tar, const struct lev_scope *scope,
                     const char *target, const char *local, uid_t uid,
                     gid_t gid, struct lev_error *err);
/* Ends the archive: `*fd` is the caller's to close, `*size` its length.
 * Nothing can be added afterwards. */
int lev_tar_finish(struct lev_tar *tar, int *fd, uint64_t *size,
                   struct lev_error *err);

/* Appends to `out` the content of the first regular file of an archive.
 * ENGINE when it is no archive, has no file, or the file has more than `limit`
 * bytes. */
int lev_tar_read_file(const void *archive, size_t len, size_t limit,
                      struct lev_buf *out, struct lev_error *err);

#endif
