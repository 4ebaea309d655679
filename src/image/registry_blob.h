/* registry_blob.h - a blob of a registry as a source of bytes, which goes on
 * where it was when its connection breaks.
 *
 * It is asked for when it is first read: a layer that is there already costs
 * nothing. One thread's at a time.
 */
#ifndef LEV_REGISTRY_BLOB_H
#define LEV_REGISTRY_BLOB_H

#include "layer.h"
#include "registry_client.h"

struct lev_regblob {
    struct lev_layer_source source; /* hand this to the unpacker */
    struct lev_regclient *client;
    const struct lev_scope *scope;
    const char *digest;
    int64_t size; /* as the manifest says; -1: not told */
    uint64_t off; /* read so far */
    bool open;
    int failures; /* since the last byte */
    int resumes;
    struct lev_regstream stream;
    /* Told of each piece; may be NULL. */
    void (*on_bytes)(void *ctx, size_t n);
    void *ctx;
};

void lev_regblob_init(struct lev_regblob *b, struct lev_regclient *client,
                      const struct lev_scope *scope, const char *digest,
                      int64_t size);
void lev_regblob_deinit(struct lev_regblob *b);
#define _cleanup_regblob_ _cleanup_(lev_regblob_deinit)

#endif
