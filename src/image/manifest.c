#include "manifest.h"

#include <string.h>
#include <sys/utsname.h>

#include "imageconfig.h"
#include "json.h"
#include "sha256.h"

#define DOCKER "application/vnd.docker.distribution.manifest."
#define OCI "application/vnd.oci.image."

static int
wrong(struct lev_error *err, const char *what)
{
    return lev_error_set(err, LEV_E_IMAGE, 0, "manifest: %s", what);
}

void
lev_manifest_deinit(struct lev_manifest *m)
{
    free(m->layers);
    *m = (struct lev_manifest){0};
}

int
lev_digest_check(const char *what, const char *digest, const void *data,
                 size_t len, struct lev_error *err)
{
    struct lev_sha256 h;
    char hex[65];

    lev_sha256_init(&h);
    lev_sha256_update(&h, data, len);
    lev_sha256_hex(&h, hex);
    return strcmp(hex, digest + 7) == 0
               ? 0
               : lev_error_set(err, LEV_E_IMAGE, 0,
                               "%s: its digest is sha256:%s, expected %s: it "
                               "is damaged, or not what it says",
                               what, hex, digest);
}

/* In uname's words. */
static void
wanted_platform(const char *os, const char *arch, const char **out_os,
                char out_arch[65])
{
    struct utsname u;

    *out_os = os == NULL ? "linux" : os;
    if (arch == NULL && uname(&u) == 0) {
        snprintf(out_arch, 65, "%.64s", u.machine);
        return;
    }
    snprintf(out_arch, 65, "%.64s",
             arch == NULL ? "" : lev_arch_of_go(arch, NULL));
}

int
lev_platform_check(const char *os, const char *arch, const char *wanted_os,
                   const char *wanted_arch, struct lev_error *err)
{
    const char *need_os;
    char need[65];

    wanted_platform(wanted_os, wanted_arch, &need_os, need);
    if ((*os == '\0' || strcmp(os, need_os) == 0) &&
        (*arch == '\0' || strcmp(arch, need) == 0 ||
         (strncmp(arch, "armv", 4) == 0 && strncmp(need, "armv", 4) == 0)))
    {
        return 0;
    }
    return lev_error_set(err, LEV_E_IMAGE, 0,
                         "the image is for %.40s/%.40s, this machine is "
                         "%.40s/%.40s",
                         os, arch, need_os, need);
}

static int
descriptor(const json_t *v, const char *what, struct lev_descriptor *d,
           struct lev_error *err)
{
    const char *digest = lev_json_str(v, "digest");

    if (digest == NULL || !lev_is_sha256(digest)) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "manifest: %s has no SHA-256 digest (%.100s)",
                             what, digest == NULL ? "none" : digest);
    }
    d->size = lev_json_int(v, "size", -1);
    snprintf(d->digest, sizeof(d->digest), "%s", digest);
    return 0;
}

/* What the index has, for the error. */
static void
list_platforms(const json_t *manifests, char *out, size_t len)
{
    const json_t *m;
    size_t i, at = 0;

    *out = '\0';
    json_array_foreach((json_t *)(uintptr_t)manifests, i, m)
    {
        const char *os = lev_json_str(m, "platform.os");
        const char *arch = lev_json_str(m, "platform.architecture");

        if (os != NULL && arch != NULL && at < len - 60 &&
            strcmp(os, "unknown") != 0) {
            at += (size_t)snprintf(out + at, len - at, "%s%.24s/%.24s",
                                   at == 0 ? "" : ", ", os, arch);
        }
    }
}

static bool
fits(const json_t *m, const char *os, const char *arch, bool any_arm)
{
    const char *its_os = lev_json_str(m, "platform.os");
    const char *its = lev_json_str(m, "platform.architecture");

    if (its_os == NULL || its == NULL) {
        return false;
    }
    its = lev_arch_of_go(its, lev_json_str(m, "platform.variant"));
    return strcmp(its_os, os) == 0 &&
           (strcmp(its, arch) == 0 ||
            (any_arm && strncmp(its, "armv", 4) == 0 &&
             strncmp(arch, "armv", 4) == 0));
}

static int
choose(const json_t *root, const char *os, const char *arch,
       struct lev_manifest *m, struct lev_error *err)
{
    const json_t *list = lev_json_get(root, "manifests"), *one;
    const char *need_os;
    char need[65], have[400];
    size_t i;

    if (!json_is_array(list)) {
        return wrong(err, "an index that lists no manifests");
    }
    m->is_index = true;
    wanted_platform(os, arch, &need_os, need);
    for (int any_arm = 0; any_arm < 2; any_arm++) {
        json_array_foreach((json_t *)(uintptr_t)list, i, one)
        {
            if (fits(one, need_os, need, any_arm != 0)) {
                return descriptor(one, "an image of the index", &m->chosen,
                                  err);
            }
        }
    }
    /* One that says nothing of platforms is for all. */
    if (json_array_size(list) == 1 &&
        lev_json_get(json_array_get(list, 0), "platform") == NULL)
    {
        return descriptor(json_array_get(list, 0), "the image of the index",
                          &m->chosen, err);
    }
    list_platforms(list, have, sizeof(have));
    return lev_error_set(err, LEV_E_IMAGE, 0,
                         "the image has no version for %.40s/%.40s; it has: "
                         "%s",
                         need_os, need, *have == '\0' ? "none" : have);
}

/* Layers are told by their content; what can be no layer is refused by name.
 */
static int
layer_kind(const char *kind, struct lev_error *err)
{
    if (kind == NULL ||
        strncmp(kind, OCI "layer.v1.tar", strlen(OCI "layer.v1.tar")) == 0 ||
        strncmp(kind, OCI "layer.nondistributable.",
                strlen(OCI "layer.nondistributable.")) == 0 ||
        strncmp(kind, "application/vnd.docker.image.rootfs.", 36) == 0)
    {
        if (kind == NULL || strstr(kind, "+encrypted") == NULL) {
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_IMAGE, 0,
                         "manifest: a layer of type '%.150s' cannot be "
                         "unpacked",
                         kind);
}

static int
take_image(const json_t *root, struct lev_manifest *m, struct lev_error *err)
{
    const json_t *layers = lev_json_get(root, "layers"), *one;
    const char *kind = lev_json_str(root, "config.mediaType");
    size_t i;

    if (kind != NULL &&
        strcmp(kind, "application/vnd.docker.container.image.v1+json") != 0 &&
        strcmp(kind, OCI "config.v1+json") != 0)
    {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "it is no container image: its config is of type "
                             "'%.150s'",
                             kind);
    }
    if (descriptor(lev_json_get(root, "config"), "the config", &m->config,
                   err) < 0)
    {
        return -1;
    }
    if (!json_is_array(layers)) {
        return wrong(err, "it lists no layers");
    }
    if (json_array_size(layers) > LEV_IMAGE_LAYERS_MAX) {
        return wrong(err, "too many layers");
    }
    m->layers = calloc(json_array_size(layers) + 1, sizeof(*m->layers));
    if (m->layers == NULL) {
        return lev_error_nomem(err, "manifest");
    }
    json_array_foreach((json_t *)(uintptr_t)layers, i, one)
    {
        if (layer_kind(lev_json_str(one, "mediaType"), err) < 0 ||
            descriptor(one, "a layer", &m->layers[i], err) < 0)
        {
            return -1;
        }
        m->n++;
    }
    return 0;
}

static int
take(const json_t *root, const char *kind, const char *os, const char *arch,
     struct lev_manifest *m, struct lev_error *err)
{
    const char *own = lev_json_str(root, "mediaType");

    /* What the document itself says, as far as it says anything: the header
     * that came with it must not change its meaning. */
    kind = own != NULL ? own : kind;
    if (lev_json_int(root, "schemaVersion", 0) == 1 ||
        (kind != NULL && strncmp(kind, DOCKER "v1+", strlen(DOCKER) + 3) == 0))
    {
        return wrong(err,
                     "the image is kept in Docker's schema 1, which nobody "
                     "should use any more; push it again with a current "
                     "docker, or copy it with `skopeo copy --format v2s2`");
    }
    if (lev_json_int(root, "schemaVersion", 0) != 2) {
        return wrong(err, "it has no schemaVersion 2");
    }
    if (lev_json_get(root, "manifests") != NULL &&
        lev_json_get(root, "layers") != NULL)
    {
        return wrong(err, "it is both an image and an index");
    }
    if (lev_json_get(root, "manifests") != NULL) {
        return choose(root, os, arch, m, err);
    }
    return take_image(root, m, err);
}

int
lev_manifest_parse(const char *json, size_t len, const char *kind,
                   const char *os, const char *arch, struct lev_manifest *m,
                   struct lev_error *err)
{
    _cleanup_json_ json_t *root = lev_json_parse(json, len, "manifest", err);
    struct lev_manifest out = {0};

    *m = out;
    if (root == NULL) {
        err->code = err->code == LEV_E_ENGINE ? LEV_E_IMAGE : err->code;
        return -1;
    }
    if (take(root, kind, os, arch, &out, err) < 0) {
        lev_manifest_deinit(&out);
        return -1;
    }
    *m = out;
    return 0;
}
