#include "docker.h"

#include <string.h>

#include "tar.h"

#define STAT_HEADER "X-Docker-Container-Path-Stat"
#define GO_MODE_SYMLINK (INT64_C(1) << 27) /* os.ModeSymlink */
#define MAX_LINKS 8

int
lev_docker_put(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, int fd, uint64_t size, struct lev_error *err)
{
    static const char *const headers[] = {"Content-Type: application/x-tar",
                                          NULL};
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf path = {0};
    struct lev_http_request req = {
        .method = "PUT", .headers = headers, .body_fd = fd, .body_len = size};

    /* Without the flag a file would replace a directory and all in it. */
    lev_docker_path(d, &path,
                    "/containers/%s/archive?path=%s&noOverwriteDirNonDir=1",
                    id, "/");
    if (lev_buf_check(&path, "put files", err) < 0) {
        return -1;
    }
    req.path = path.data;
    if (lev_http_request(d->http, scope, &req, &resp, err) < 0 ||
        lev_docker_status(&resp, err) < 0)
    {
        if (strstr(err->msg, "cannot overwrite") != NULL ||
            (d->podman && strstr(err->msg, "file exists") != NULL))
        {
            err->code = LEV_E_CONFLICT;
        }
        return lev_error_wrap(err, "put files into container %.12s", id);
    }
    return 0;
}

static int
archive_path(const struct lev_docker *d, const char *id, const char *path,
             struct lev_buf *out, struct lev_error *err)
{
    lev_docker_path(d, out, "/containers/%s/archive?path=%s", id, path);
    return lev_buf_check(out, "path", err);
}

int
lev_docker_exists(struct lev_engine *e, const struct lev_scope *scope,
                  const char *id, const char *path, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf url = {0};
    struct lev_http_request req = {.method = "HEAD"};
    struct lev_container_state state;

    if (archive_path(d, id, path, &url, err) < 0) {
        return -1;
    }
    req.path = url.data;
    if (lev_http_request(d->http, scope, &req, &resp, err) < 0) {
        return lev_error_wrap(err, "look for %s in container %.12s", path, id);
    }
    if (resp.status == 404) {
        /* Of the path or of the container? An answer to HEAD has no words. */
        return lev_docker_inspect(e, scope, id, &state, err);
    }
    if (lev_docker_status(&resp, err) < 0) {
        return lev_error_wrap(err, "look for %s in container %.12s", path, id);
    }
    return 1;
}

/* Where a symbolic link leads, when the answer is one: the engine has resolved
 * all of it, within the container. */
static int
link_target(const struct lev_http_response *resp, char **target,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf header = {0}, text = {0};
    _cleanup_json_ json_t *stat = NULL;
    const char *value = lev_http_header(resp, STAT_HEADER, &header);
    const char *to;

    if (value == NULL || lev_buf_unbase64(&text, value, err) < 0) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the engine's answer has no " STAT_HEADER);
    }
    stat = lev_json_parse(lev_buf_text(&text), text.len, STAT_HEADER, err);
    if (stat == NULL) {
        return -1;
    }
    to = lev_json_str(stat, "linkTarget");
    if (!(lev_json_int(stat, "mode", 0) & GO_MODE_SYMLINK) || to == NULL) {
        return 0;
    }
    *target = strdup(to);
    return *target == NULL ? lev_error_nomem(err, "path") : 0;
}

/* One step; `*next` is set when `path` is a link. */
static int
get_once(struct lev_docker *d, const struct lev_scope *scope, const char *id,
         const char *path, size_t max, struct lev_buf *out, char **next,
         struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_buf_ struct lev_buf url = {0};
    struct lev_http_request req = {.method = "GET"};

    if (archive_path(d, id, path, &url, err) < 0) {
        return -1;
    }
    req.path = url.data;
    req.max_body = max + 64 * 1024; /* the archive's headers and padding */
    if (lev_http_request(d->http, scope, &req, &resp, err) < 0 ||
        lev_docker_status(&resp, err) < 0 || link_target(&resp, next, err) < 0)
    {
        return -1;
    }
    if (*next != NULL) {
        return 0;
    }
    return lev_tar_read_file(lev_buf_text(&resp.body), resp.body.len, max, out,
                             err);
}

int
lev_docker_get(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, const char *path, size_t max,
               struct lev_buf *out, struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    _cleanup_free_ char *at = strdup(path);

    for (int i = 0; at != NULL && i < MAX_LINKS; i++) {
        char *next = NULL;

        if (get_once(d, scope, id, at, max, out, &next, err) < 0) {
            return lev_error_wrap(err, "read %s of container %.12s", path, id);
        }
        if (next == NULL) {
            return 0;
        }
        free(at);
        at = next;
    }
    if (at == NULL) {
        return lev_error_nomem(err, "path");
    }
    return lev_error_set(err, LEV_E_NOT_FOUND, 0,
                         "read %s of container %.12s: too many links", path,
                         id);
}
