/* fuzz_manifest.c - libFuzzer over what a registry says: manifests and
 * indexes, configs, challenges, answers of token servers.
 */
#include "imageconfig.h"
#include "manifest.h"
#include "registry_auth.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
as_manifest(const char *text, size_t len)
{
    struct lev_manifest m;
    struct lev_error err;

    if (lev_manifest_parse(text, len, NULL, NULL, "amd64", &m, &err) == 0) {
        for (size_t i = 0; i < m.n; i++) {
            if (!lev_is_sha256(m.layers[i].digest)) {
                abort();
            }
        }
        lev_manifest_deinit(&m);
    }
}

static void
as_config(const char *text, size_t len)
{
    struct lev_stored_image image = {.lock = -1};
    char **diff_ids = NULL;
    struct lev_error err;

    lev_imageconfig_parse(text, len, &image, &diff_ids, &err);
    lev_stored_image_deinit(&image);
    lev_strv_free(diff_ids);
}

static void
as_answers(const char *text, size_t len)
{
    struct lev_buf body = {0}, out = {0};
    struct lev_challenge c;
    struct lev_error err;
    char words[300];

    lev_buf_append(&body, text, len);
    lev_challenge_parse(lev_buf_text(&body), &c);
    if (memchr(c.realm, '\0', sizeof(c.realm)) == NULL) {
        abort();
    }
    lev_registry_words(&body, words, sizeof(words));
    lev_auth_token(&body, "realm", &out, &err);
    lev_buf_deinit(&body);
    lev_buf_deinit(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    as_manifest(text, size);
    as_config(text, size);
    as_answers(text, size);
    free(text);
    return 0;
}
