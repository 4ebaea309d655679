#include "imageconfig.h"

#include <string.h>
#include <sys/utsname.h>

#include "json.h"

#define WORDS_MAX 10000

bool
lev_is_sha256(const char *digest)
{
    return digest != NULL && strlen(digest) == 7 + 64 &&
           strncmp(digest, "sha256:", 7) == 0 &&
           strspn(digest + 7, "0123456789abcdef") == 64;
}

static const struct {
    const char *go, *uname;
} arch_names[] = {
    {"amd64", "x86_64"},        {"386", "i686"},   {"arm64", "aarch64"},
    {"arm", "armv7l"},          {"arm", "armv6l"}, {"mips64le", "mips64"},
    {"loong64", "loongarch64"},
};

const char *
lev_arch_of_go(const char *arch, const char *variant)
{
    if (strcmp(arch, "arm") == 0 && variant != NULL &&
        strcmp(variant, "v6") == 0) {
        return "armv6l";
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(arch_names); i++) {
        if (strcmp(arch_names[i].go, arch) == 0) {
            return arch_names[i].uname;
        }
    }
    return arch;
}

const char *
lev_arch_here(void)
{
    static _Thread_local struct utsname u;

    if (uname(&u) < 0) {
        return "";
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(arch_names); i++) {
        if (strcmp(arch_names[i].uname, u.machine) == 0) {
            return arch_names[i].go;
        }
    }
    return u.machine;
}

static int
wrong(struct lev_error *err, const char *what)
{
    return lev_error_set(err, LEV_E_IMAGE, 0, "image's config: %s", what);
}

static int
take_text(const json_t *root, const char *path, char **out,
          struct lev_error *err)
{
    const char *text = lev_json_str(root, path);

    *out = strdup(text == NULL ? "" : text);
    return *out == NULL ? lev_error_nomem(err, "image's config") : 0;
}

/* A list of strings, or the keys of an object; "key=value" with `values`. */
static int
add_words(const json_t *v, bool values, char **words, struct lev_error *err)
{
    const char *key;
    json_t *item;
    size_t i, n = 0;

    if (json_is_array(v)) {
        json_array_foreach((json_t *)(uintptr_t)v, i, item)
        {
            if (!json_is_string(item)) {
                return wrong(err, "a list holds what is no string");
            }
            words[n++] = strdup(json_string_value(item));
            if (words[n - 1] == NULL) {
                return lev_error_nomem(err, "image's config");
            }
        }
        return 0;
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        const char *value = json_string_value(item);
        int rc = values ? asprintf(&words[n], "%s=%s", key,
                                   value == NULL ? "" : value)
                        : asprintf(&words[n], "%s", key);

        if (rc < 0) {
            words[n] = NULL;
            return lev_error_nomem(err, "image's config");
        }
        n++;
    }
    return 0;
}

static int
take_words(const json_t *root, const char *path, bool values, char ***out,
           struct lev_error *err)
{
    const json_t *v = lev_json_get(root, path);
    size_t n = json_is_array(v) ? json_array_size(v) : json_object_size(v);

    if (n > WORDS_MAX) {
        return wrong(err, "a list is too long");
    }
    *out = calloc(n + 1, sizeof(**out));
    if (*out == NULL) {
        return lev_error_nomem(err, "image's config");
    }
    return add_words(v, values, *out, err);
}

static int
take_platform(const json_t *root, struct lev_stored_image *image,
              struct lev_error *err)
{
    const char *arch = lev_json_str(root, "architecture");

    image->arch = strdup(
        arch == NULL ? ""
                     : lev_arch_of_go(arch, lev_json_str(root, "variant")));
    if (image->arch == NULL) {
        return lev_error_nomem(err, "image's config");
    }
    return take_text(root, "os", &image->os, err);
}

static int
take_diff_ids(const json_t *root, char ***diff_ids, struct lev_error *err)
{
    if (!json_is_array(lev_json_get(root, "rootfs.diff_ids"))) {
        return wrong(err, "it names no layers (rootfs.diff_ids)");
    }
    if (take_words(root, "rootfs.diff_ids", false, diff_ids, err) < 0) {
        return -1;
    }
    for (size_t i = 0; (*diff_ids)[i] != NULL; i++) {
        if (!lev_is_sha256((*diff_ids)[i])) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "image's config: '%.100s' is no SHA-256 "
                                 "digest of a layer",
                                 (*diff_ids)[i]);
        }
        if (i >= LEV_IMAGE_LAYERS_MAX) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "image: more than %d layers",
                                 LEV_IMAGE_LAYERS_MAX);
        }
    }
    return 0;
}

int
lev_imageconfig_parse(const char *json, size_t len,
                      struct lev_stored_image *image, char ***diff_ids,
                      struct lev_error *err)
{
    _cleanup_json_ json_t *root =
        lev_json_parse(json, len, "image's config", err);

    *diff_ids = NULL;
    if (root == NULL) {
        err->code = err->code == LEV_E_ENGINE ? LEV_E_IMAGE : err->code;
        return -1;
    }
    if (!json_is_object(root)) {
        return wrong(err, "it is no object");
    }
    image->config = strndup(json, len);
    if (image->config == NULL) {
        return lev_error_nomem(err, "image's config");
    }
    if (take_platform(root, image, err) < 0 ||
        take_text(root, "config.User", &image->user, err) < 0 ||
        take_text(root, "config.WorkingDir", &image->working_dir, err) < 0 ||
        take_text(root, "config.StopSignal", &image->stop_signal, err) < 0 ||
        take_words(root, "config.Entrypoint", false, &image->entrypoint, err) <
            0 ||
        take_words(root, "config.Cmd", false, &image->cmd, err) < 0 ||
        take_words(root, "config.Env", false, &image->env, err) < 0 ||
        take_words(root, "config.Labels", true, &image->labels, err) < 0 ||
        take_words(root, "config.Volumes", false, &image->volumes, err) < 0 ||
        take_words(root, "config.ExposedPorts", false, &image->exposed, err) <
            0)
    {
        return -1;
    }
    return take_diff_ids(root, diff_ids, err);
}
