/* imageconfig.h - what an image's config says (OCI image spec, "config";
 * Docker image spec v1.2). Not trusted: types are checked, what is absent is
 * empty.
 */
#ifndef LEV_IMAGECONFIG_H
#define LEV_IMAGECONFIG_H

#include "imagestore.h"
#include "strv.h"

#define LEV_IMAGE_LAYERS_MAX 500 /* overlayfs takes as many */

/* Fills what comes from the config, and `*diff_ids` (NULL-terminated, to be
 * freed by lev_strv_free()). The image is to be zeroed before. IMAGE. */
int lev_imageconfig_parse(const char *json, size_t len,
                          struct lev_stored_image *image, char ***diff_ids,
                          struct lev_error *err);
/* "sha256:" and 64 lower case hex digits. */
bool lev_is_sha256(const char *digest);
/* Go's name of an architecture to that of uname -m, as far as they differ. */
const char *lev_arch_of_go(const char *arch, const char *variant);
/* Of this machine, in Go's words. */
const char *lev_arch_here(void);

#endif
