/* layer.h - one layer's archive, unpacked into a directory of its own.
 *
 * Layers are not trusted. Nothing is ever written outside the destination:
 * each path is resolved with the destination as its root (openat2,
 * RESOLVE_IN_ROOT), as if in a chroot, and bytes and entries are bounded.
 * Whiteouts and opaque directories become what overlayfs understands, so that
 * the directory is an overlay's lower one as it is. Attributes are kept where
 * they mean something inside a container: user.* (not overlayfs's),
 * security.capability and ACLs. Devices that the user may not make are left
 * out. Threads: one per unpacking.
 */
#ifndef LEV_LAYER_H
#define LEV_LAYER_H

#include "buf.h"
#include "scope.h"

#include <stdbool.h>
#include <sys/types.h>

struct lev_layer_options {
    uint64_t max_bytes;   /* unpacked, all files together; 0: 64 GiB */
    uint64_t max_entries; /* 0: 4,000,000 */
    /* For a user without subordinate ids: everything belongs to the one id, no
     * device nodes, whiteouts and opaque marks as user.overlay.* wants them.
     */
    bool squash_owners;
    bool user_xattrs; /* "user.overlay.opaque" instead of "trusted.…" */
};

/* A source of compressed bytes, pulled by the unpacker. */
struct lev_layer_source {
    /* As read(2), but -1 with `err`. */
    ssize_t (*read)(void *ctx, void *buf, size_t len, struct lev_error *err);
    void *ctx;
};

struct lev_layer_result {
    char diff_id[72]; /* "sha256:…" of the uncompressed archive */
    char digest[72];  /* "sha256:…" of the bytes that were read */
    uint64_t size;    /* bytes that were read */
    uint64_t bytes;   /* unpacked */
    uint64_t entries; /* directories without one of their own included */
    /* The archive says how the root itself is; if not, it is 0755 and the
     * layer below decides. */
    bool has_root;
    bool root_opaque; /* it hides all layers below, which overlayfs cannot */
};

/* gzip, zstd or plain tar, told from its first bytes. The whole source is
 * read, also what follows the archive's end. IMAGE naming the entry and what
 * is wrong with it; OS (ENOSPC, …) with the path. What was unpacked until then
 * stays: the caller removes the directory. */
int lev_layer_unpack(const struct lev_scope *scope,
                     const struct lev_layer_source *source, int dirfd,
                     const struct lev_layer_options *options,
                     struct lev_layer_result *result, struct lev_error *err);

/* The other way: what `dirfd` (an overlay's upper directory) holds, as a
 * layer: whiteouts are written as such. Uncompressed tar to `fd`. */
int lev_layer_pack(const struct lev_scope *scope, int dirfd, int fd,
                   struct lev_layer_result *result, struct lev_error *err);

#endif
