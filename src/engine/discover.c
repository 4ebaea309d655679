#include "discover.h"

#include <string.h>

#include "discover_context.h"

#define LOGGER "lev.engine"
#define DOCKER_SOCKET "unix:///var/run/docker.sock"

static int
copy(char **to, const char *text, struct lev_error *err)
{
    if (text == NULL || *text == '\0') {
        return 0; /* as if it were not set */
    }
    *to = strdup(text);
    return *to == NULL ? lev_error_nomem(err, "configuration") : 0;
}

static int
from_env(struct lev_discover *d, const char *engine, struct lev_error *err)
{
    const struct {
        char **to;
        const char *name;
    } all[] = {
        {&d->lev_engine, "LEVRT_ENGINE"},
        {&d->docker_host, "DOCKER_HOST"},
        {&d->docker_context, "DOCKER_CONTEXT"},
        {&d->docker_config, "DOCKER_CONFIG"},
        {&d->container_host, "CONTAINER_HOST"},
        {&d->tls_verify, "DOCKER_TLS_VERIFY"},
        {&d->cert_path, "DOCKER_CERT_PATH"},
        {&d->runtime_dir, "XDG_RUNTIME_DIR"},
        {&d->home, "HOME"},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(all); i++) {
        if (copy(all[i].to, getenv(all[i].name), err) < 0) {
            return -1;
        }
    }
    if (d->docker_config == NULL && d->home != NULL &&
        asprintf(&d->docker_config, "%s/.docker", d->home) < 0)
    {
        d->docker_config = NULL;
        return lev_error_nomem(err, "configuration");
    }
    if (copy(&d->system_dir, "/var/run", err) < 0) {
        return -1;
    }
    return copy(&d->engine, engine, err);
}

int
lev_discover_from_env(struct lev_discover *d, const char *engine,
                      const char *source, struct lev_error *err)
{
    *d = (struct lev_discover){.engine_source = source};
    if (from_env(d, engine, err) < 0) {
        lev_discover_deinit(d);
        return -1;
    }
    return 0;
}

void
lev_discover_deinit(struct lev_discover *d)
{
    free(d->engine);
    free(d->lev_engine);
    free(d->docker_host);
    free(d->docker_context);
    free(d->docker_config);
    free(d->container_host);
    free(d->tls_verify);
    free(d->cert_path);
    free(d->runtime_dir);
    free(d->home);
    lev_strv_free(d->mirrors);
    free(d->system_dir);
    *d = (struct lev_discover){0};
}

static struct lev_engine *
chosen(struct lev_engine *e, struct lev_log *log, const char *reason)
{
    lev_log(log, LEV_INFO, LOGGER, "engine %s (%s %s, API %s): %s", e->url,
            e->info.name, e->info.version, e->info.api, reason);
    return e;
}

static struct lev_engine *
open_explicit(const struct lev_engine_config *config, const char *url,
              const char *reason, const struct lev_scope *scope,
              struct lev_error *err)
{
    struct lev_engine *e = strncmp(url, "oci:", 4) == 0
                               ? lev_oci_open(url, config, scope, err)
                               : lev_docker_open(url, config, scope, err);

    if (e == NULL) {
        lev_error_wrap(err, "%s", reason);
        return NULL;
    }
    return chosen(e, config->log, reason);
}

static struct lev_engine *
open_context(const struct lev_discover *d, struct lev_engine_config *config,
             const char *name, const char *source,
             const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_context_ struct lev_docker_context context = {0};
    char reason[300];

    snprintf(reason, sizeof(reason), "docker context '%.100s' of %.150s", name,
             source);
    if (strcmp(name, "default") == 0) {
        return open_explicit(config, DOCKER_SOCKET, reason, scope, err);
    }
    if (lev_docker_context_load(d->docker_config, name, &context, err) < 0) {
        lev_error_wrap(err, "%s", reason);
        return NULL;
    }
    config->tls_verify = context.tls_dir != NULL && !context.skip_verify;
    config->tls_cert_path = context.tls_dir;
    return open_explicit(config, context.host, reason, scope, err);
}

/* What was tried and why it failed, for the error at the end. */
static void
note_failure(struct lev_buf *tried, const char *url,
             const struct lev_error *why)
{
    const char *named = strstr(why->msg, url);
    const char *text = why->msg;

    if (named != NULL && strncmp(named + strlen(url), ": ", 2) == 0) {
        text = named + strlen(url) + 2; /* it names the address already */
    }
    lev_buf_printf(tried, "%s%s: %s", tried->len == 0 ? "" : "; ", url, text);
}

static bool
is_over(const struct lev_error *err)
{
    return err->code == LEV_E_CANCELLED || err->code == LEV_E_TIMEOUT;
}

/* NULL with `*ended` when the scope ended the search. */
static struct lev_engine *
try_socket(const struct lev_engine_config *config, const char *dir,
           const char *name, struct lev_buf *tried,
           const struct lev_scope *scope, bool *ended, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf url = {0};
    struct lev_engine *e;

    if (dir == NULL) {
        return NULL;
    }
    lev_buf_printf(&url, "unix://%s/%s", dir, name);
    if (lev_buf_check(&url, "engine", err) < 0) {
        *ended = true;
        return NULL;
    }
    e = lev_docker_open(url.data, config, scope, err);
    if (e != NULL) {
        return chosen(e, config->log,
                      "nothing else was asked for, and it is the first of "
                      "the usual sockets that answers");
    }
    *ended = is_over(err);
    note_failure(tried, url.data, err);
    return NULL;
}

/* The last resort: no daemon at all. */
static struct lev_engine *
try_oci(const struct lev_engine_config *config, struct lev_buf *tried,
        const struct lev_scope *scope, bool *ended, struct lev_error *err)
{
    struct lev_engine *e = lev_oci_open("oci:", config, scope, err);

    if (e != NULL) {
        return chosen(e, config->log,
                      "nothing else was asked for, and no daemon answers at "
                      "the usual sockets");
    }
    *ended = is_over(err);
    note_failure(tried, "oci:", err);
    return NULL;
}

static struct lev_engine *
search(const struct lev_discover *d, const struct lev_engine_config *config,
       const struct lev_scope *scope, struct lev_error *err)
{
    const struct {
        const char *dir, *name;
    } usual[] = {
        {d->system_dir, "docker.sock"},
        {d->runtime_dir, "docker.sock"},
        {d->home, ".docker/run/docker.sock"},
        {d->system_dir, "podman/podman.sock"},
        {d->runtime_dir, "podman/podman.sock"},
    };
    _cleanup_buf_ struct lev_buf tried = {0};
    struct lev_engine *e;
    bool ended = false;

    for (size_t i = 0; i < LEV_ARRAY_LEN(usual); i++) {
        e = try_socket(config, usual[i].dir, usual[i].name, &tried, scope,
                       &ended, err);
        if (e != NULL || ended) {
            return e;
        }
    }
    e = try_oci(config, &tried, scope, &ended, err);
    if (e != NULL || ended) {
        return e;
    }
    lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                  "no container engine was found: install crun (and be root), "
                  "start Docker or Podman, or set LEVRT_ENGINE; none of "
                  "engine=, LEVRT_ENGINE, "
                  "DOCKER_HOST, DOCKER_CONTEXT, docker's current context and "
                  "CONTAINER_HOST is set; tried %s",
                  lev_buf_text(&tried));
    return NULL;
}

/* What names an address by itself, and may need TLS; `*found` when one did. */
static struct lev_engine *
open_named(const struct lev_discover *d, struct lev_log *log,
           const struct lev_scope *scope, bool *found, struct lev_error *err)
{
    const struct lev_engine_config config = {
        .log = log,
        .gc_only = d->gc_only,
        .docker_config = d->docker_config,
        .mirrors = (const char *const *)d->mirrors,
        .tls_verify = d->tls_verify != NULL,
        .tls_cert_path = d->tls_verify == NULL ? NULL : d->cert_path};
    const struct {
        const char *url, *reason;
    } named[] = {
        {d->engine, d->engine_source == NULL ? "engine=" : d->engine_source},
        {d->lev_engine, "LEVRT_ENGINE is set"},
        {d->docker_host, "DOCKER_HOST is set"},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(named); i++) {
        if (named[i].url != NULL) {
            *found = true;
            return open_explicit(&config, named[i].url, named[i].reason, scope,
                                 err);
        }
    }
    *found = false;
    return NULL;
}

struct lev_engine *
lev_discover_open(const struct lev_discover *d, struct lev_log *log,
                  const struct lev_scope *scope, struct lev_error *err)
{
    struct lev_engine_config config = {.log = log,
                                       .gc_only = d->gc_only,
                                       .docker_config = d->docker_config,
                                       .mirrors =
                                           (const char *const *)d->mirrors};
    _cleanup_free_ char *current = NULL;
    struct lev_engine *e;
    bool found;

    e = open_named(d, log, scope, &found, err);
    if (found) {
        return e;
    }
    if (d->docker_context != NULL) {
        return open_context(d, &config, d->docker_context, "DOCKER_CONTEXT",
                            scope, err);
    }
    if (lev_docker_context_current(d->docker_config, &current, err) < 0) {
        return NULL;
    }
    if (current != NULL) {
        return open_context(d, &config, current, "docker's config.json", scope,
                            err);
    }
    if (d->container_host != NULL) {
        return open_explicit(&config, d->container_host,
                             "CONTAINER_HOST is set", scope, err);
    }
    return search(d, &config, scope, err);
}
