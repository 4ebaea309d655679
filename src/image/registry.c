#include "registry.h"

#include <string.h>

#include "imageconfig.h"
#include "manifest.h"
#include "registry_blob.h"
#include "registry_client.h"
#include "sha256.h"
#include "worker.h"

#define CONFIG_MAX (8u * 1024 * 1024)
#define PARALLEL 3u
#define PARALLEL_MAX 16u
#define ACCEPT                                                                \
    "application/vnd.oci.image.index.v1+json, "                               \
    "application/vnd.docker.distribution.manifest.list.v2+json, "             \
    "application/vnd.oci.image.manifest.v1+json, "                            \
    "application/vnd.docker.distribution.manifest.v2+json"

/* One image on its way. */
struct pull {
    const struct lev_registry_config *config;
    struct lev_imagestore *store;
    struct lev_scope scope; /* with `cancel` */
    struct lev_cancel cancel;
    struct lev_regclient *client;
    const struct lev_imageref *ref;
    char digest[72]; /* what the reference means */
    struct lev_manifest manifest;
    struct lev_buf image_config;
    char **diff_ids;
    pthread_mutex_t mutex; /* of what follows */
    size_t next;           /* layer to be taken */
    bool failed;
    struct lev_error err; /* of who failed first */
    int64_t done, total;
    lev_registry_progress *progress;
    void *ctx;
};

struct worker {
    struct pull *pull;
    struct lev_image_hold hold;
    struct lev_event ended;
    const char *layer; /* that it is at */
    bool started;
};

/* --- manifests ------------------------------------------------------------
 */

/* What a document must be: by its digest, when that is known. */
static int
check_document(struct lev_regstream *s, const struct lev_buf *doc,
               const char *digest, char found[72], struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf told = {0};
    const char *header =
        lev_regstream_header(s, "Docker-Content-Digest", &told);
    struct lev_sha256 h;

    lev_sha256_init(&h);
    lev_sha256_update(&h, lev_buf_text(doc), doc->len);
    memcpy(found, "sha256:", 7);
    lev_sha256_hex(&h, found + 7);
    if (digest == NULL && header != NULL && lev_is_sha256(header)) {
        digest = header;
    }
    return digest == NULL || strcmp(digest, found) == 0
               ? 0
               : lev_error_set(err, LEV_E_IMAGE, 0,
                               "manifest: its digest is %s, expected %s: it "
                               "is damaged, or not what it says",
                               found, digest);
}

static int
fetch_manifest(struct pull *p, const char *which, const char *digest,
               char found[72], struct lev_error *err)
{
    _cleanup_regstream_ struct lev_regstream s = {0};
    _cleanup_buf_ struct lev_buf doc = {0}, kind = {0};
    char path[256];

    snprintf(path, sizeof(path), "manifests/%.200s", which);
    if (lev_regclient_open(p->client, &p->scope, path, ACCEPT, 0, &s, err) <
            0 ||
        lev_regstream_all(&s, LEV_MANIFEST_MAX, &doc, err) < 0 ||
        check_document(&s, &doc, digest, found, err) < 0)
    {
        return -1;
    }
    lev_manifest_deinit(&p->manifest);
    return lev_manifest_parse(lev_buf_text(&doc), doc.len,
                              lev_regstream_header(&s, "Content-Type", &kind),
                              p->config->os, p->config->arch, &p->manifest,
                              err);
}

static int
find_manifest(struct pull *p, struct lev_error *err)
{
    const char *digest = p->ref->digest;
    const char *tag = p->ref->tag != NULL ? p->ref->tag : "latest";
    char ignored[72];

    if (digest != NULL && !lev_is_sha256(digest)) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "digest '%.100s': levrt knows SHA-256 only",
                             digest);
    }
    if (fetch_manifest(p, digest != NULL ? digest : tag, digest, p->digest,
                       err) < 0)
    {
        return -1;
    }
    for (int depth = 0; p->manifest.is_index; depth++) {
        struct lev_descriptor chosen = p->manifest.chosen;

        if (depth > 2) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "manifest: indexes within indexes");
        }
        if (fetch_manifest(p, chosen.digest, chosen.digest, ignored, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
fetch_config(struct pull *p, struct lev_error *err)
{
    const struct lev_descriptor *d = &p->manifest.config;
    _cleanup_regblob_ struct lev_regblob blob;
    ssize_t n;

    lev_regblob_init(&blob, p->client, &p->scope, d->digest, d->size);
    do {
        char *to = lev_buf_reserve(&p->image_config, 16384);

        if (to == NULL) {
            return lev_error_nomem(err, "image's config");
        }
        n = blob.source.read(blob.source.ctx, to, 16384, err);
        if (n < 0) {
            return -1;
        }
        p->image_config.len += (size_t)n;
        if (p->image_config.len > CONFIG_MAX) {
            return lev_error_set(err, LEV_E_IMAGE, 0,
                                 "image's config has more than %u bytes",
                                 CONFIG_MAX);
        }
    } while (n > 0);
    return lev_digest_check("image's config", d->digest, p->image_config.data,
                            p->image_config.len, err);
}

static int
read_config(struct pull *p, struct lev_error *err)
{
    struct lev_stored_image parsed = {.lock = -1};
    size_t n = 0;
    int rc;

    if (fetch_config(p, err) < 0) {
        return -1;
    }
    rc =
        lev_imageconfig_parse(lev_buf_text(&p->image_config),
                              p->image_config.len, &parsed, &p->diff_ids, err);
    if (rc == 0) {
        rc = lev_platform_check(parsed.os, parsed.arch, p->config->os,
                                p->config->arch, err);
    }
    lev_stored_image_deinit(&parsed);
    while (rc == 0 && p->diff_ids[n] != NULL) {
        n++;
    }
    if (rc == 0 && n != p->manifest.n) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "image: its config names %zu layers, its "
                             "manifest %zu",
                             n, p->manifest.n);
    }
    return rc;
}

/* --- layers -----------------------------------------------------------------
 */

static void
tell(struct pull *p, int64_t bytes, const char *layer)
{
    char text[64];

    pthread_mutex_lock(&p->mutex);
    p->done += bytes;
    if (p->progress != NULL) {
        snprintf(text, sizeof(text), "layer %.12s", layer + 7);
        p->progress(p->ctx, p->done, p->total, text);
    }
    pthread_mutex_unlock(&p->mutex);
}

static void
on_bytes(void *ctx, size_t n)
{
    const struct worker *w = ctx;

    tell(w->pull, (int64_t)n, w->layer);
}

static int
take_layer(struct worker *w, size_t i, struct lev_error *err)
{
    struct pull *p = w->pull;
    const struct lev_descriptor *d = &p->manifest.layers[i];
    _cleanup_regblob_ struct lev_regblob blob;
    struct lev_layer_result result;

    w->layer = d->digest;
    lev_regblob_init(&blob, p->client, &p->scope, d->digest, d->size);
    blob.on_bytes = on_bytes;
    blob.ctx = w;
    if (lev_imagestore_add_layer(p->store, &p->scope, &blob.source, d->digest,
                                 p->diff_ids[i], &w->hold, &result, err) < 0)
    {
        return -1;
    }
    /* It was there, or is now by somebody else. */
    tell(p, d->size > 0 ? d->size - (int64_t)blob.off : 0, d->digest);
    return 0;
}

/* The next layer; -1 when there is none, or no use in it. */
static ssize_t
next_layer(struct pull *p)
{
    ssize_t i = -1;

    pthread_mutex_lock(&p->mutex);
    if (!p->failed && p->next < p->manifest.n) {
        i = (ssize_t)p->next++;
    }
    pthread_mutex_unlock(&p->mutex);
    return i;
}

/* The first failure is the one that is told: it ends the others. */
static void
fail(struct pull *p, const struct lev_error *err)
{
    pthread_mutex_lock(&p->mutex);
    if (!p->failed) {
        p->failed = true;
        p->err = *err;
    }
    pthread_mutex_unlock(&p->mutex);
    lev_cancel_fire(&p->cancel);
}

static void
work(struct worker *w)
{
    struct lev_error err;
    ssize_t i;

    while ((i = next_layer(w->pull)) >= 0) {
        if (take_layer(w, (size_t)i, &err) < 0) {
            fail(w->pull, &err);
        }
    }
}

static void
worker_main(void *arg)
{
    struct worker *w = arg;

    work(w);
    lev_event_set(&w->ended);
}

static unsigned
worker_count(const struct pull *p)
{
    unsigned n = p->config->parallel == 0 ? PARALLEL : p->config->parallel;

    n = n < PARALLEL_MAX ? n : PARALLEL_MAX;
    return n < p->manifest.n ? n : (unsigned)p->manifest.n;
}

/* This thread is a worker too, so that one that cannot be started is no
 * failure. */
static void
take_layers(struct pull *p, struct worker *workers, unsigned n)
{
    static const struct lev_scope forever = {.deadline = LEV_NEVER};
    struct lev_error ignored;

    for (unsigned i = 0; i < n; i++) {
        workers[i].pull = p;
        lev_event_init(&workers[i].ended);
        workers[i].started =
            i > 0 && lev_thread_start("lev-pull", worker_main, &workers[i],
                                      &ignored) == 0;
    }
    if (n > 0) {
        work(&workers[0]);
    }
    for (unsigned i = 0; i < n; i++) {
        if (workers[i].started) {
            lev_scope_wait(&forever, &workers[i].ended, &ignored);
        }
        lev_event_deinit(&workers[i].ended);
    }
}

/* --- the image
 * ---------------------------------------------------------------- */

static int
add_image(struct pull *p, char id[72], struct lev_error *err)
{
    const struct lev_imageref *r = p->ref;
    _cleanup_buf_ struct lev_buf name = {0};

    lev_buf_printf(&name, "%s/%s%c%s", r->registry, r->repository,
                   r->digest != NULL ? '@' : ':',
                   r->digest != NULL ? r->digest
                   : r->tag != NULL  ? r->tag
                                     : "latest");
    return lev_buf_check(&name, "image's name", err) < 0
               ? -1
               : lev_imagestore_add_image(
                     p->store, &p->scope, name.data, p->image_config.data,
                     p->image_config.len, p->digest, id, err);
}

static int
take_image(struct pull *p, char id[72], struct lev_error *err)
{
    struct worker workers[PARALLEL_MAX] = {0};
    unsigned n = worker_count(p);
    int rc;

    for (size_t i = 0; i < p->manifest.n; i++) {
        p->total +=
            p->manifest.layers[i].size > 0 ? p->manifest.layers[i].size : 0;
    }
    take_layers(p, workers, n);
    if (p->failed) {
        *err = p->err;
    }
    rc = p->failed ? -1 : add_image(p, id, err);
    for (unsigned i = 0; i < n; i++) {
        lev_image_hold_release(&workers[i].hold);
    }
    return rc;
}

static int
pull_from(struct pull *p, const char *base, const char *registry, bool *asked,
          struct lev_error *err)
{
    struct lev_regclient_config config = {
        .base = base,
        .registry = registry,
        .repository = p->ref->repository,
        .docker_config = p->config->docker_config,
        .ca_file = p->config->ca_file,
        .stall = p->config->stall,
    };

    *asked = false;
    lev_regclient_destroy(lev_steal(p->client));
    p->client = lev_regclient_create(&config, &p->scope, err);
    if (p->client == NULL || find_manifest(p, err) < 0) {
        return -1;
    }
    *asked = true;
    return read_config(p, err);
}

static int
pull_from_anywhere(struct pull *p, struct lev_error *err)
{
    bool hub = strcmp(p->ref->registry, "docker.io") == 0, asked;
    const char *const *mirror = hub ? p->config->mirrors : NULL;

    for (; mirror != NULL && *mirror != NULL; mirror++) {
        const char *host = strstr(*mirror, "://");

        /* What a mirror does not have, or a mirror that is not there, is no
         * failure; one that has the image and fails is. */
        if (pull_from(p, *mirror, host == NULL ? *mirror : host + 3, &asked,
                      err) == 0) {
            return 0;
        }
        if (asked || lev_scope_check(&p->scope, err) < 0) {
            return -1;
        }
    }
    return pull_from(p, hub ? "registry-1.docker.io" : p->ref->registry,
                     p->ref->registry, &asked, err);
}

/* In the words that the caller's errors have. */
static int
explain(const struct lev_imageref *ref, struct lev_error *err)
{
    if (err->code == LEV_E_NOT_FOUND) {
        err->code = LEV_E_IMAGE_NOT_FOUND;
    }
    else if (err->code == LEV_E_ENGINE ||
             err->code == LEV_E_ENGINE_UNAVAILABLE) {
        err->code = LEV_E_PULL;
    }
    return lev_error_wrap(err, "pull %.200s", ref->familiar);
}

static void
pull_deinit(struct pull *p)
{
    lev_regclient_destroy(p->client);
    lev_manifest_deinit(&p->manifest);
    lev_buf_deinit(&p->image_config);
    lev_strv_free(p->diff_ids);
    lev_cancel_deinit(&p->cancel);
    pthread_mutex_destroy(&p->mutex);
}
#define _cleanup_pull_ _cleanup_(pull_deinit)

int
lev_registry_pull(const struct lev_registry_config *config,
                  struct lev_imagestore *store, const struct lev_scope *scope,
                  const struct lev_imageref *ref,
                  lev_registry_progress *progress, void *ctx, char id[72],
                  struct lev_error *err)
{
    _cleanup_pull_ struct pull p = {.config = config,
                                    .store = store,
                                    .ref = ref,
                                    .progress = progress,
                                    .ctx = ctx};

    lev_cancel_init(&p.cancel, scope->cancel);
    p.scope = (struct lev_scope){scope->deadline, &p.cancel};
    pthread_mutex_init(&p.mutex, NULL);
    if (ref->registry == NULL) {
        return lev_error_set(err, LEV_E_IMAGE_NOT_FOUND, 0,
                             "image '%.100s' is an id, which no registry "
                             "knows; pull it by name",
                             ref->familiar);
    }
    return pull_from_anywhere(&p, err) < 0 || take_image(&p, id, err) < 0
               ? explain(ref, err)
               : 0;
}
