#include "logmux.h"

#include <string.h>

#define HEAD 8u

/* 1 when the header is whole. */
static int
take_head(struct lev_logmux *m, const char **data, size_t *len,
          struct lev_error *err)
{
    size_t n = HEAD - m->have;
    const unsigned char *h = m->head;

    n = n < *len ? n : *len;
    memcpy(m->head + m->have, *data, n);
    m->have += (unsigned)n;
    *data += n;
    *len -= n;
    if (m->have < HEAD) {
        return 0;
    }
    if (h[0] > LEV_STREAM_DAEMON || h[1] != 0 || h[2] != 0 || h[3] != 0) {
        return lev_error_set(err, LEV_E_ENGINE, 0,
                             "the output is not multiplexed: a frame begins "
                             "with %02x %02x %02x %02x (has the container a "
                             "tty?)",
                             h[0], h[1], h[2], h[3]);
    }
    m->left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 |
              (uint32_t)h[6] << 8 | h[7];
    return 1;
}

/* What the daemon has to say is kept as far as it fits. */
static void
take_daemon(struct lev_logmux *m, const char *data, size_t len)
{
    size_t room = sizeof(m->daemon) - m->daemon_len;

    len = len < room ? len : room;
    memcpy(m->daemon + m->daemon_len, data, len);
    m->daemon_len += len;
}

static int
take_data(struct lev_logmux *m, const char *data, size_t len,
          struct lev_error *err)
{
    if (m->head[0] == LEV_STREAM_DAEMON) {
        take_daemon(m, data, len);
        return 0;
    }
    return m->emit(m->ctx, (enum lev_stream)m->head[0], data, len, err);
}

static int
end_frame(struct lev_logmux *m, struct lev_error *err)
{
    m->have = 0;
    if (m->head[0] != LEV_STREAM_DAEMON) {
        return 0;
    }
    return lev_error_set(err, LEV_E_ENGINE, 0, "the engine says: %.*s",
                         (int)m->daemon_len, m->daemon);
}

int
lev_logmux_feed(struct lev_logmux *m, const char *data, size_t len,
                struct lev_error *err)
{
    while (len > 0) {
        size_t n;

        if (m->have < HEAD) {
            int whole = take_head(m, &data, &len, err);

            if (whole <= 0) {
                return whole;
            }
        }
        n = len < m->left ? len : m->left;
        if (n > 0 && take_data(m, data, n, err) < 0) {
            return -1;
        }
        data += n;
        len -= n;
        m->left -= (uint32_t)n;
        if (m->left == 0 && end_frame(m, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_logmux_end(const struct lev_logmux *m, struct lev_error *err)
{
    if (m->have == 0) {
        return 0;
    }
    return lev_error_set(err, LEV_E_ENGINE, 0,
                         "the output was cut off inside a frame (%u bytes of "
                         "it are missing)",
                         m->have < HEAD ? HEAD - m->have : m->left);
}
