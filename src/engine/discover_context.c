#include "discover_context.h"

#include <errno.h>
#include <string.h>

#include "json.h"
#include "sha256.h"

/* The parsed file. Without an error `*found` is false when there is none. */
static json_t *
load(const char *path, bool *found, struct lev_error *err)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    json_error_t where;
    json_t *json;

    *found = f != NULL || (errno != ENOENT && errno != ENOTDIR);
    if (f == NULL) {
        if (*found) {
            lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, errno,
                          "%s cannot be read: %s", path,
                          strerrordesc_np(errno));
        }
        return NULL;
    }
    json = json_loadf(f, 0, &where);
    if (json == NULL) {
        lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                      "%s: no JSON at line %d, column %d", path, where.line,
                      where.column);
    }
    return json;
}

static void
hash_name(const char *name, char hex[65])
{
    struct lev_sha256 h;

    lev_sha256_init(&h);
    lev_sha256_update(&h, name, strlen(name));
    lev_sha256_hex(&h, hex);
}

static int
take_host(const json_t *meta, const char *path,
          struct lev_docker_context *context, struct lev_error *err)
{
    const char *host = lev_json_str(meta, "Endpoints.docker.Host");

    if (host == NULL || *host == '\0') {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "%s has no Endpoints.docker.Host", path);
    }
    context->host = strdup(host);
    context->skip_verify =
        lev_json_bool(meta, "Endpoints.docker.SkipTLSVerify", false);
    return context->host == NULL ? lev_error_nomem(err, "context") : 0;
}

static int
load_context(const char *docker_config, const char *name,
             struct lev_docker_context *context, struct lev_error *err)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_json_ json_t *meta = NULL;
    char hex[65];
    bool found;

    hash_name(name, hex);
    if (asprintf(&path, "%s/contexts/meta/%s/meta.json", docker_config, hex) <
            0 ||
        asprintf(&context->tls_dir, "%s/contexts/tls/%s/docker", docker_config,
                 hex) < 0)
    {
        return lev_error_nomem(err, "context");
    }
    meta = load(path, &found, err);
    if (!found) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "there is no such context (%s is missing); list "
                             "them with docker context ls",
                             path);
    }
    if (meta == NULL || take_host(meta, path, context, err) < 0) {
        return -1;
    }
    if (access(context->tls_dir, F_OK) < 0) {
        free(lev_steal(context->tls_dir));
    }
    return 0;
}

int
lev_docker_context_load(const char *docker_config, const char *name,
                        struct lev_docker_context *context,
                        struct lev_error *err)
{
    *context = (struct lev_docker_context){0};
    if (docker_config == NULL) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "neither DOCKER_CONFIG nor HOME says where "
                             "docker's contexts are");
    }
    if (load_context(docker_config, name, context, err) < 0) {
        lev_docker_context_deinit(context);
        return -1;
    }
    return 0;
}

void
lev_docker_context_deinit(struct lev_docker_context *context)
{
    free(context->host);
    free(context->tls_dir);
    *context = (struct lev_docker_context){0};
}

int
lev_docker_context_current(const char *docker_config, char **name,
                           struct lev_error *err)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_json_ json_t *config = NULL;
    const char *current;
    bool found;

    *name = NULL;
    if (docker_config == NULL) {
        return 0;
    }
    if (asprintf(&path, "%s/config.json", docker_config) < 0) {
        path = NULL;
        return lev_error_nomem(err, "configuration");
    }
    config = load(path, &found, err);
    if (config == NULL) {
        return found ? -1 : 0;
    }
    current = lev_json_str(config, "currentContext");
    if (current == NULL || *current == '\0' || strcmp(current, "default") == 0)
    {
        return 0;
    }
    *name = strdup(current);
    return *name == NULL ? lev_error_nomem(err, "configuration") : 0;
}
