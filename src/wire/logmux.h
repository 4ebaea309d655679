/* logmux.h - takes Docker's multiplexed output apart.
 *
 * Attach and logs of a container without a tty send frames: one byte for the
 * stream (0 stdin, 1 stdout, 2 stderr, 3 an error of the daemon), three zero
 * bytes, the length as four bytes, big end first, and the data (Engine API,
 * ContainerAttach, "Stream format"). Bytes are fed as they come, cut anywhere;
 * each piece of data is handed on at once, so that memory does not depend on
 * what a frame claims to hold. One thread at a time.
 */
#ifndef LEV_LOGMUX_H
#define LEV_LOGMUX_H

#include "buf.h"

enum lev_stream {
    LEV_STREAM_STDIN = 0,
    LEV_STREAM_STDOUT = 1,
    LEV_STREAM_STDERR = 2,
    LEV_STREAM_DAEMON = 3, /* never emitted: it becomes an error */
};

struct lev_logmux {
    /* A piece of data, `len` > 0; -1 with `err` set ends the feeding. */
    int (*emit)(void *ctx, enum lev_stream stream, const char *data,
                size_t len, struct lev_error *err);
    void *ctx;
    /* Private; zeroed at the start. */
    unsigned char head[8];
    unsigned have; /* bytes of `head` */
    uint32_t left; /* bytes of data that the frame still owes */
    char daemon[256];
    size_t daemon_len;
};

/* ENGINE when this is no multiplexed stream or the daemon reports an error in
 * it; nothing more may be fed then. */
int lev_logmux_feed(struct lev_logmux *m, const char *data, size_t len,
                    struct lev_error *err);
/* At the end of the stream: ENGINE when it was cut inside a frame. */
int lev_logmux_end(const struct lev_logmux *m, struct lev_error *err);

#endif
