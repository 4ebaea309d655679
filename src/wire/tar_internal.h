/* tar_internal.h - what tar.c (the archive) and tar_path.c (files and trees
 * that go into it) share.
 */
#ifndef LEV_TAR_INTERNAL_H
#define LEV_TAR_INTERNAL_H

#include "tar.h"

#include <archive.h>
#include <archive_entry.h>

struct lev_tar {
    int fd;
    bool abandoned;
    struct archive *out;
};

static inline void
lev_tar_entry_freep(struct archive_entry **e)
{
    archive_entry_free(*e);
}
#define _cleanup_entry_ _cleanup_(lev_tar_entry_freep)

/* "/a//./b/" becomes "a/b", as entries are named; "/" becomes "". */
int lev_tar_entry_name(const char *target, struct lev_buf *name,
                       struct lev_error *err);
struct archive_entry *lev_tar_entry_new(const char *name, mode_t mode,
                                        uid_t uid, gid_t gid,
                                        struct lev_error *err);
int lev_tar_write_header(struct lev_tar *tar, struct archive_entry *e,
                         struct lev_error *err);
int lev_tar_write_data(struct lev_tar *tar, const void *data, size_t len,
                       struct lev_error *err);

#endif
