/* docker.c - the Engine API of Docker, and of Podman's compatible socket:
 * where it is, which version of it is spoken, and the table of functions. */

#include "docker.h"

#include <errno.h>
#include <string.h>

/* The calls made here did not change between these two. Docker 29 refuses what
 * is below 1.44. */
#define API_OLDEST 41
#define API_NEWEST 47
#define OPEN_TIMEOUT (15 * LEV_SECOND)
#define PATIENCE (10 * LEV_SECOND)

/* An address in the parts that libcurl wants; everything is owned. */
struct endpoint {
    char *base_url, *unix_socket, *ca, *cert, *key;
    bool insecure;
};

static void
endpoint_deinit(struct endpoint *ep)
{
    free(ep->base_url);
    free(ep->unix_socket);
    free(ep->ca);
    free(ep->cert);
    free(ep->key);
}
#define _cleanup_endpoint_ _cleanup_(endpoint_deinit)

static int
bad_url(struct lev_error *err, const char *url, const char *why)
{
    return lev_error_set(err, LEV_E_INVALID, 0,
                         "engine '%.300s': %s; expected unix:///path, "
                         "tcp://host[:port] or https://host[:port]",
                         url, why);
}

static int
use_unix(struct endpoint *ep, const char *url, struct lev_error *err)
{
    const char *path = url + strlen("unix://");

    if (*path != '/') {
        return bad_url(err, url, "the socket's path must be absolute");
    }
    ep->unix_socket = strdup(path);
    return ep->unix_socket == NULL ? lev_error_nomem(err, "engine") : 0;
}

/* "host[:port][/]" with the port docker's client would use. */
static int
use_tcp(struct endpoint *ep, const char *url, bool tls, struct lev_error *err)
{
    const char *host = strstr(url, "://") + 3;
    size_t len = strcspn(host, "/");
    const char *bracket = memrchr(host, ']', len);
    const char *colon = memrchr(host, ':', len);
    bool port = colon != NULL && (bracket == NULL || colon > bracket);
    int rc;

    if (len == 0 || host == colon) {
        return bad_url(err, url, "there is no host in it");
    }
    if (host[len] == '/' && host[len + 1] != '\0') {
        return bad_url(err, url, "a path behind the host is not supported");
    }
    rc = asprintf(&ep->base_url, "%s://%.*s%s", tls ? "https" : "http",
                  (int)len, host,
                  port  ? ""
                  : tls ? ":2376"
                        : ":2375");
    if (rc < 0) {
        ep->base_url = NULL;
        return lev_error_nomem(err, "engine");
    }
    return 0;
}

/* A file of the certificate directory, NULL when it is not there. */
static int
find_pem(const char *dir, const char *name, char **path, struct lev_error *err)
{
    if (asprintf(path, "%s/%s", dir, name) < 0) {
        *path = NULL;
        return lev_error_nomem(err, "engine");
    }
    if (access(*path, R_OK) < 0) {
        if (errno != ENOENT) {
            return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, errno,
                                 "%s cannot be read: %s", *path,
                                 strerrordesc_np(errno));
        }
        free(lev_steal(*path));
    }
    return 0;
}

static int
use_certificates(struct endpoint *ep, const struct lev_engine_config *config,
                 struct lev_error *err)
{
    const char *dir = config->tls_cert_path;

    ep->insecure = !config->tls_verify;
    if (dir == NULL) {
        dir = config->docker_config; /* where docker's client looks */
    }
    if (dir == NULL) {
        return 0;
    }
    if (find_pem(dir, "ca.pem", &ep->ca, err) < 0 ||
        find_pem(dir, "cert.pem", &ep->cert, err) < 0 ||
        find_pem(dir, "key.pem", &ep->key, err) < 0)
    {
        return -1;
    }
    if ((ep->cert == NULL) != (ep->key == NULL)) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "%s has only one of cert.pem and key.pem", dir);
    }
    return 0;
}

static bool
begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static int
parse_url(const char *url, const struct lev_engine_config *config,
          struct endpoint *ep, struct lev_error *err)
{
    bool tls = begins(url, "https://") || config->tls_verify ||
               config->tls_cert_path != NULL;

    if (begins(url, "unix://")) {
        return use_unix(ep, url, err);
    }
    if (begins(url, "ssh://")) {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "engine '%.300s': ssh:// is not supported yet; "
                             "forward the socket (ssh -L "
                             "/path.sock:/var/run/docker.sock HOST) and use "
                             "unix:///path.sock",
                             url);
    }
    if (!begins(url, "tcp://") && !begins(url, "http://") &&
        !begins(url, "https://"))
    {
        return bad_url(err, url, "not a known kind of address");
    }
    if (use_tcp(ep, url, tls, err) < 0) {
        return -1;
    }
    return tls ? use_certificates(ep, config, err) : 0;
}

static int
minor_of(const char *version)
{
    int major, minor;

    if (version == NULL || sscanf(version, "%d.%d", &major, &minor) != 2) {
        return -1;
    }
    return major == 1 ? minor : -1;
}

static int
choose_version(struct lev_docker *d, const json_t *answer,
               struct lev_error *err)
{
    const char *newest = lev_json_str(answer, "ApiVersion");
    const char *oldest = lev_json_str(answer, "MinAPIVersion");
    int theirs = minor_of(newest), floor = minor_of(oldest);
    int minor = theirs < API_NEWEST ? theirs : API_NEWEST;

    if (theirs < 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "it does not speak Docker's Engine API (no "
                             "ApiVersion in the answer to GET /version)");
    }
    if (theirs < API_OLDEST) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "%s %s speaks API %s; 1.%d (Docker 20.10) or "
                             "newer is needed",
                             d->base.info.name, d->base.info.version, newest,
                             API_OLDEST);
    }
    if (floor > API_NEWEST) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "%s %s refuses API versions below %s, and 1.%d "
                             "is the newest known here; update levrt",
                             d->base.info.name, d->base.info.version, oldest,
                             API_NEWEST);
    }
    snprintf(d->base.info.api, sizeof(d->base.info.api), "1.%d", minor);
    snprintf(d->prefix, sizeof(d->prefix), "/v1.%d", minor);
    return 0;
}

static void
take_text(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text == NULL ? "" : text);
}

static void
take_info(struct lev_docker *d, const json_t *answer)
{
    struct lev_engine_info *info = &d->base.info;
    const char *arch = lev_json_str(answer, "Arch");
    const char *name = lev_json_str(answer, "Components.0.Name");

    if (name == NULL || strcmp(name, "Engine") == 0) {
        name = "Docker Engine";
    }
    d->podman = strcmp(name, "Podman Engine") == 0;
    take_text(info->name, sizeof(info->name), name);
    take_text(info->version, sizeof(info->version),
              lev_json_str(answer, "Version"));
    take_text(info->os, sizeof(info->os), lev_json_str(answer, "Os"));
    take_text(info->arch, sizeof(info->arch), lev_docker_arch(arch, NULL));
    take_text(d->go_arch, sizeof(d->go_arch), arch);
}

static int
negotiate(struct lev_docker *d, const struct lev_scope *parent,
          struct lev_error *err)
{
    struct lev_scope scope = lev_scope_within(parent, OPEN_TIMEOUT);
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *answer = NULL;

    lev_docker_path(d, &path, "/version");
    if (lev_docker_call(d, &scope, "GET", &path, NULL, &answer, err) < 0) {
        if (err->code == LEV_E_TIMEOUT && scope.deadline != parent->deadline) {
            return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                                 "no answer within %d s",
                                 (int)(OPEN_TIMEOUT / LEV_SECOND));
        }
        if (err->code == LEV_E_ENGINE || err->code == LEV_E_NOT_FOUND) {
            err->code = LEV_E_ENGINE_UNAVAILABLE; /* not an engine at all */
        }
        return -1;
    }
    take_info(d, answer);
    return choose_version(d, answer, err);
}

static void
docker_destroy(struct lev_engine *e)
{
    struct lev_docker *d = lev_docker_of(e);

    lev_docker_runtimes_free(d->runtimes);
    lev_http_destroy(d->http);
    lev_gate_deinit(&d->images_gate);
    lev_gate_deinit(&d->runtime_gate);
    pthread_mutex_destroy(&d->pulls_mutex);
    free(d->docker_config);
    free(d->cert_path);
    free(d->base.url);
    free(d);
}

static int
docker_ping(struct lev_engine *e, const struct lev_scope *scope,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(lev_docker_of(e), &path, "/_ping");
    return lev_docker_call(lev_docker_of(e), scope, "GET", &path, NULL, NULL,
                           err);
}

static void
docker_endpoint(struct lev_engine *e, struct lev_engine_config *config)
{
    const struct lev_docker *d = lev_docker_of(e);

    *config = (struct lev_engine_config){.docker_config = d->docker_config,
                                         .tls_verify = d->tls_verify,
                                         .tls_cert_path = d->cert_path};
}

static struct lev_docker *
docker_new(const char *url, const struct lev_engine_config *config,
           struct lev_error *err)
{
    struct lev_docker *d = calloc(1, sizeof(*d));

    if (d == NULL) {
        lev_error_nomem(err, "engine");
        return NULL;
    }
    d->base.ops = &lev_engine_docker;
    d->base.refs = 1;
    d->base.log = config->log;
    d->patience = PATIENCE;
    lev_gate_init(&d->images_gate);
    lev_gate_init(&d->runtime_gate);
    pthread_mutex_init(&d->pulls_mutex, NULL);
    d->base.url = strdup(url);
    d->tls_verify = config->tls_verify;
    if (config->docker_config != NULL) {
        d->docker_config = strdup(config->docker_config);
    }
    if (config->tls_cert_path != NULL) {
        d->cert_path = strdup(config->tls_cert_path);
    }
    if (d->base.url == NULL ||
        (config->docker_config != NULL && d->docker_config == NULL) ||
        (config->tls_cert_path != NULL && d->cert_path == NULL))
    {
        docker_destroy(&d->base);
        lev_error_nomem(err, "engine");
        return NULL;
    }
    return d;
}

static int
docker_connect(struct lev_docker *d, const struct lev_engine_config *config,
               const struct lev_scope *scope, struct lev_error *err)
{
    _cleanup_endpoint_ struct endpoint ep = {0};
    struct lev_http_config http = {0};

    if (parse_url(d->base.url, config, &ep, err) < 0) {
        return -1;
    }
    d->remote = ep.unix_socket == NULL;
    http.base_url = ep.base_url;
    http.unix_socket = ep.unix_socket;
    http.ca_file = ep.ca;
    http.cert_file = ep.cert;
    http.key_file = ep.key;
    http.insecure = ep.insecure;
    d->http = lev_http_create(&http, err);
    if (d->http == NULL) {
        return -1;
    }
    if (negotiate(d, scope, err) < 0) {
        if (strstr(err->msg, d->base.url) == NULL) {
            lev_error_wrap(err, "engine %s", d->base.url);
        }
        return -1;
    }
    return 0;
}

struct lev_engine *
lev_docker_open(const char *url, const struct lev_engine_config *config,
                const struct lev_scope *scope, struct lev_error *err)
{
    struct lev_docker *d = docker_new(url, config, err);

    if (d == NULL) {
        return NULL;
    }
    if (docker_connect(d, config, scope, err) < 0) {
        docker_destroy(&d->base);
        return NULL;
    }
    return &d->base;
}

const struct lev_engine_ops lev_engine_docker = {
    .name = "docker",
    .destroy = docker_destroy,
    .ping = docker_ping,
    .endpoint = docker_endpoint,
    .image_inspect = lev_docker_image_inspect,
    .image_pull = lev_docker_image_pull,
    .image_empty = lev_docker_image_empty,
    .image_remove = lev_docker_image_remove,
    .image_list = lev_docker_image_list,
    .runtime_mount = lev_docker_runtime_mount,
    .create = lev_docker_create,
    .put = lev_docker_put,
    .exists = lev_docker_exists,
    .get = lev_docker_get,
    .commit = lev_docker_commit,
    .attach = lev_docker_attach,
    .start = lev_docker_start,
    .poll = lev_docker_poll,
    .detach = lev_docker_detach,
    .signal = lev_docker_signal,
    .inspect = lev_docker_inspect,
    .address = lev_docker_address,
    .published = lev_docker_published,
    .remove = lev_docker_remove,
    .list = lev_docker_list,
    .exec_start = lev_docker_exec_start,
    .exec_fd = lev_docker_exec_fd,
    .exec_recv = lev_docker_exec_recv,
    .exec_send = lev_docker_exec_send,
    .exec_code = lev_docker_exec_code,
    .exec_close = lev_docker_exec_close,
    .network_create = lev_docker_network_create,
    .network_remove = lev_docker_network_remove,
    .network_list = lev_docker_network_list,
};
