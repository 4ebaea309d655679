/* channel.h - the host's end of the channel to a guest.
 *
 * Two ways to it: a unix socket file of this machine that is mounted into the
 * container (one connection, then the listener is gone), or one exec of the
 * relay where the engine is elsewhere. Either carries the frames of frame.h.
 * One thread drives it: it polls lev_channel_fd() and calls
 * lev_channel_receive(). Nothing from a guest is trusted: not its lengths, its
 * BSON, nor its order of frames.
 */
#ifndef LEV_CHANNEL_H
#define LEV_CHANNEL_H

#include "engine.h"
#include "frame.h"

struct lev_channel;

/* Frames of the guest, for the run. All on the driving thread. */
struct lev_channel_events {
    /* Store it; 0 acknowledges it, -1 refuses it with `err`. */
    int (*set)(void *ctx, int64_t seq, const bson_t *data,
               struct lev_error *err);
    void (*log)(void *ctx, int level, const char *name, const char *text);
    void (*progress)(void *ctx, double fraction, const char *text);
    void (*fail)(void *ctx, const bson_t *fail);
    void (*exited)(void *ctx, int code);
    void *ctx;
};

/* A listener at `path`. */
struct lev_channel *lev_channel_listen(const char *path,
                                       const struct lev_channel_events *ev,
                                       struct lev_error *err);
/* By an exec of the relay in container `id`; `name` is the guest's abstract
 * socket. */
struct lev_channel *lev_channel_relay(struct lev_engine *engine,
                                      const struct lev_scope *scope,
                                      const char *id, const char *name,
                                      const struct lev_channel_events *ev,
                                      struct lev_error *err);
void lev_channel_close(struct lev_channel *ch); /* NULL is fine */

/* What the guest must say and what it gets for it: borrowed. */
void lev_channel_offer(struct lev_channel *ch, const char *token,
                       const char *payload, size_t len,
                       const char *const *argv, const char *entry);

int lev_channel_fd(const struct lev_channel *ch);       /* -1: it is over */
bool lev_channel_greeted(const struct lev_channel *ch); /* hello was right */
/* Takes what is there and acts on it. 0, also at the end of the stream; -1
 * when the guest broke the protocol or the scope ended. */
int lev_channel_receive(struct lev_channel *ch, const struct lev_scope *scope,
                        struct lev_error *err);

#endif
