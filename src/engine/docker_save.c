#include "docker.h"

#include <errno.h>
#include <unistd.h>

struct saving {
    int fd;
    int64_t bytes;
    lev_pull_progress *progress;
    void *ctx;
};

static int
on_data(void *ctx, const char *data, size_t len, struct lev_error *err)
{
    struct saving *s = ctx;
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(s->fd, data + done, len - done);

        if (n < 0 && errno != EINTR) {
            return lev_error_errno(err, "keep the image's archive");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    s->bytes += (int64_t)len;
    if (s->progress != NULL) {
        s->progress(s->ctx, s->bytes, 0, "saved by the daemon");
    }
    return 0;
}

/* Until it is complete, each piece within the time that it may take. */
static int
receive(struct lev_http_conn *conn, struct lev_http_transfer *t,
        const struct lev_scope *scope, int64_t stall,
        const struct saving *saving, struct lev_error *err)
{
    int done;

    while ((done = lev_http_transfer_done(t, err)) == 0) {
        struct lev_scope brief = lev_scope_within(scope, stall);
        int64_t before = saving->bytes;

        if (lev_http_conn_poll(conn, &brief, NULL, 0, err) == 0) {
            continue;
        }
        if (err->code == LEV_E_TIMEOUT && brief.deadline < scope->deadline &&
            saving->bytes == before)
        {
            lev_error_set(err, LEV_E_PULL, 0,
                          "the daemon gave nothing for %d s",
                          (int)(stall / LEV_SECOND));
        }
        return -1;
    }
    return done < 0 ? -1 : 0;
}

static int
save(struct lev_docker *d, const struct lev_scope *scope,
     const struct lev_buf *path, int64_t stall, struct saving *saving,
     struct lev_error *err)
{
    const struct lev_http_request req = {
        .path = lev_buf_text(path), .on_data = on_data, .ctx = saving};
    struct lev_http_conn *conn = lev_http_conn_take(d->http, err);
    struct lev_http_transfer *t =
        conn == NULL ? NULL : lev_http_transfer_start(conn, &req, err);
    int rc = -1;

    if (t != NULL) {
        rc = receive(conn, t, scope, stall, saving, err);
        if (rc == 0) {
            rc = lev_docker_status(lev_http_transfer_response(t), err);
        }
        lev_http_transfer_end(t);
    }
    lev_http_conn_give(conn);
    return rc;
}

int
lev_docker_image_save(struct lev_engine *e, const struct lev_scope *scope,
                      const char *ref, int fd, int64_t stall,
                      lev_pull_progress *progress, void *ctx,
                      struct lev_error *err)
{
    struct lev_docker *d = lev_docker_of(e);
    struct saving saving = {.fd = fd, .progress = progress, .ctx = ctx};
    _cleanup_buf_ struct lev_buf path = {0};

    lev_docker_path(d, &path, "/images/%s/get", ref);
    if (lev_buf_check(&path, "request", err) < 0) {
        return -1;
    }
    if (save(d, scope, &path, stall, &saving, err) < 0) {
        if (err->detail == 404) {
            err->code = LEV_E_IMAGE_NOT_FOUND;
        }
        return lev_error_wrap(err, "save image %s of %s", ref, e->url);
    }
    return 0;
}
