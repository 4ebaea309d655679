/* oci_root.h - files below a container's root, as the container sees them.
 *
 * `root` is a descriptor of the root directory. Every path is resolved by the
 * kernel below it (openat2 with RESOLVE_IN_ROOT): links of the image, however
 * they are made, lead nowhere else. Any thread.
 */
#ifndef LEV_OCI_ROOT_H
#define LEV_OCI_ROOT_H

#include "buf.h"
#include "scope.h"

/* As open(2); -1 with errno. */
int lev_root_open(int root, const char *path, int flags);
/* Directories that are missing are made, root's and 0755. A descriptor of the
 * last one, or -1. */
int lev_root_mkdirs(int root, const char *path, struct lev_error *err);
/* The content of a regular file, at most `max` bytes; NOT_FOUND. */
int lev_root_read(int root, const char *path, size_t max, struct lev_buf *out,
                  struct lev_error *err);
/* Unpacks a tar archive; CONFLICT where a file would replace a directory. */
int lev_root_unpack(int root, const struct lev_scope *scope, int fd,
                    struct lev_error *err);

/* Who a container runs as. */
struct lev_oci_user {
    uint32_t uid, gid;
    uint32_t groups[64]; /* supplementary ones */
    size_t groups_n;
    char home[256];
};

/* "user[:group]", names or numbers, by the image's /etc/passwd and /etc/group;
 * "" is root. START when a name is not there. */
int lev_root_user(int root, const char *text, struct lev_oci_user *user,
                  struct lev_error *err);
/* A group's name or number, likewise. */
int lev_root_group(int root, const char *name, uint32_t *gid,
                   struct lev_error *err);

#endif
