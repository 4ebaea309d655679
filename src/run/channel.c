#include "channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A frame that cannot be sent within this time has no reader any more. */
#define SEND_TIMEOUT (30 * LEV_SECOND)
/* Bytes taken by one receive: what else there is comes with the next poll. */
#define RECEIVE_MAX (256 * 1024)

struct lev_channel {
    struct lev_channel_events ev;
    struct lev_frame_reader reader;
    char *path;                /* of the listener's socket, or NULL */
    int listener;              /* until the guest has connected */
    int fd;                    /* the connection, or -1 */
    struct lev_engine *engine; /* of the exec */
    struct lev_exec *exec;     /* the relay, or NULL */
    const char *token, *payload, *entry;
    size_t payload_len;
    const char *const *argv;
    bool greeted, over;
    bool told_all; /* the last frame has come */
    int64_t last_seq;
};

static void
lev_channel_closep(struct lev_channel **ch)
{
    lev_channel_close(*ch);
}

static struct lev_channel *
channel_new(const struct lev_channel_events *ev, struct lev_error *err)
{
    struct lev_channel *ch = calloc(1, sizeof(*ch));

    if (ch == NULL) {
        lev_error_nomem(err, "guest channel");
        return NULL;
    }
    ch->ev = *ev;
    ch->listener = ch->fd = -1;
    return ch;
}

struct lev_channel *
lev_channel_listen(const char *path, const struct lev_channel_events *ev,
                   struct lev_error *err)
{
    _cleanup_(lev_channel_closep) struct lev_channel *ch =
        channel_new(ev, err);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (ch == NULL) {
        return NULL;
    }
    if (strlen(path) >= sizeof(addr.sun_path)) {
        lev_error_set(err, LEV_E_OS, ENAMETOOLONG,
                      "the socket path %s is too long; set XDG_RUNTIME_DIR to "
                      "a shorter directory",
                      path);
        return NULL;
    }
    strcpy(addr.sun_path, path);
    ch->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ch->listener < 0 ||
        bind(ch->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0)
    {
        lev_error_errno(err, "make the guest's socket %s", path);
        return NULL;
    }
    ch->path = strdup(path);
    /* Its directory is ours alone; the container's user is anybody. */
    if (ch->path == NULL || chmod(path, 0666) < 0 ||
        listen(ch->listener, 8) < 0) {
        lev_error_errno(err, "make the guest's socket %s", path);
        return NULL;
    }
    return lev_steal(ch);
}

struct lev_channel *
lev_channel_relay(struct lev_engine *engine, const struct lev_scope *scope,
                  const char *id, const char *name,
                  const struct lev_channel_events *ev, struct lev_error *err)
{
    const char *const argv[] = {"/lev/bin/lev-launcher", "relay", name, NULL};
    const struct lev_exec_spec spec = {.argv = argv, .input = true};
    _cleanup_(lev_channel_closep) struct lev_channel *ch =
        channel_new(ev, err);

    if (ch == NULL) {
        return NULL;
    }
    ch->engine = engine;
    ch->exec = engine->ops->exec_start(engine, scope, id, &spec, err);
    if (ch->exec == NULL) {
        return NULL;
    }
    return lev_steal(ch);
}

static void
stop_listening(struct lev_channel *ch)
{
    lev_closep(&ch->listener);
    if (ch->path != NULL) {
        unlink(ch->path);
        free(lev_steal(ch->path));
    }
}

/* Somebody else may have come first: until a hello was right, another one may
 * come. False when there is nothing to wait at. */
static bool
wait_for_another(struct lev_channel *ch)
{
    if (ch->greeted || ch->listener < 0) {
        return false;
    }
    lev_closep(&ch->fd);
    lev_frame_reader_deinit(&ch->reader);
    return true;
}

/* The connection ends, and with it what the guest may say. */
static void
hang_up(struct lev_channel *ch)
{
    stop_listening(ch);
    lev_closep(&ch->fd);
    if (ch->exec != NULL) {
        ch->engine->ops->exec_close(lev_steal(ch->exec));
    }
    ch->over = true;
}

void
lev_channel_close(struct lev_channel *ch)
{
    if (ch == NULL) {
        return;
    }
    hang_up(ch);
    lev_frame_reader_deinit(&ch->reader);
    free(ch);
}

void
lev_channel_offer(struct lev_channel *ch, const char *token,
                  const char *payload, size_t len, const char *const *argv,
                  const char *entry)
{
    ch->token = token;
    ch->payload = payload;
    ch->payload_len = len;
    ch->argv = argv;
    ch->entry = entry;
}

int
lev_channel_fd(const struct lev_channel *ch)
{
    if (ch->over) {
        return -1;
    }
    if (ch->exec != NULL) {
        return ch->engine->ops->exec_fd(ch->exec);
    }
    return ch->fd >= 0 ? ch->fd : ch->listener;
}

bool
lev_channel_greeted(const struct lev_channel *ch)
{
    return ch->greeted;
}

static int
send_socket(int fd, const struct lev_scope *scope, const uint8_t *data,
            size_t len, struct lev_error *err)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        struct pollfd pfd = {.fd = fd, .events = POLLOUT};

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        }
        else if (errno == EAGAIN) {
            if (lev_scope_poll(scope, &pfd, 1, err) < 0) {
                return -1;
            }
        }
        else if (errno != EINTR) {
            return lev_error_errno(err, "send to the guest");
        }
    }
    return 0;
}

static int
send_frame(struct lev_channel *ch, const struct lev_scope *parent,
           const bson_t *frame, struct lev_error *err)
{
    struct lev_scope scope = lev_scope_within(parent, SEND_TIMEOUT);
    const uint8_t *data = bson_get_data(frame);

    if (ch->exec != NULL) {
        return ch->engine->ops->exec_send(ch->exec, &scope, data, frame->len,
                                          err);
    }
    return send_socket(ch->fd, &scope, data, frame->len, err);
}

static int
send_payload(struct lev_channel *ch, const struct lev_scope *scope,
             struct lev_error *err)
{
    bson_t frame = BSON_INITIALIZER, argv;
    int rc = 0;

    BSON_APPEND_BINARY(&frame, "payload", BSON_SUBTYPE_BINARY,
                       (const uint8_t *)ch->payload,
                       (uint32_t)ch->payload_len);
    BSON_APPEND_UTF8(&frame, "entry", ch->entry);
    BSON_APPEND_ARRAY_BEGIN(&frame, "argv", &argv);
    for (uint32_t i = 0; ch->argv != NULL && ch->argv[i] != NULL; i++) {
        char buf[16];
        const char *key;

        bson_uint32_to_string(i, &key, buf, sizeof(buf));
        BSON_APPEND_UTF8(&argv, key, ch->argv[i]);
    }
    bson_append_array_end(&frame, &argv);
    rc = send_frame(ch, scope, &frame, err);
    bson_destroy(&frame);
    return rc;
}

static const char *
string_of(const bson_t *doc, const char *key)
{
    bson_iter_t it;

    if (!bson_iter_init_find(&it, doc, key) || !BSON_ITER_HOLDS_UTF8(&it)) {
        return NULL;
    }
    return bson_iter_utf8(&it, NULL);
}

static int
protocol_error(struct lev_error *err, const char *what)
{
    return lev_error_set(err, LEV_E_ENGINE, 0,
                         "the guest broke the channel's protocol: %s", what);
}

/* Comparing takes the same time wherever the first difference is. */
static bool
same_token(const char *a, const char *b)
{
    size_t n = strlen(b);
    unsigned char diff = 0;

    if (strlen(a) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        diff |= (unsigned char)(a[i] ^ b[i]);
    }
    return diff == 0;
}

static int
greet(struct lev_channel *ch, const struct lev_scope *scope,
      const bson_t *frame, struct lev_error *err)
{
    const char *token = string_of(frame, "token");

    if (ch->greeted || !bson_has_field(frame, "hello")) {
        return protocol_error(err, "hello comes first, and once");
    }
    if (token == NULL || !same_token(token, ch->token)) {
        return protocol_error(err, "hello with a wrong token");
    }
    ch->greeted = true;
    stop_listening(ch);
    return send_payload(ch, scope, err);
}

static int
on_set(struct lev_channel *ch, const struct lev_scope *scope,
       const bson_t *frame, bson_iter_t *seq_it, struct lev_error *err)
{
    bson_t answer = BSON_INITIALIZER, data;
    bson_iter_t it;
    const uint8_t *bytes;
    uint32_t len;
    int64_t seq = bson_iter_as_int64(seq_it);
    struct lev_error refused;
    int rc;

    if (!bson_iter_init_find(&it, frame, "data") ||
        !BSON_ITER_HOLDS_DOCUMENT(&it)) {
        return protocol_error(err, "set without data");
    }
    if (seq <= ch->last_seq) {
        return protocol_error(err, "set with a sequence number used before");
    }
    ch->last_seq = seq;
    bson_iter_document(&it, &len, &bytes);
    if (!bson_init_static(&data, bytes, len)) {
        return protocol_error(err, "set with broken data");
    }
    if (ch->ev.set(ch->ev.ctx, seq, &data, &refused) == 0) {
        BSON_APPEND_INT64(&answer, "ack", seq);
    }
    else {
        BSON_APPEND_INT64(&answer, "nak", seq);
        BSON_APPEND_UTF8(&answer, "type", lev_error_name(refused.code));
        BSON_APPEND_UTF8(&answer, "text", refused.msg);
    }
    rc = send_frame(ch, scope, &answer, err);
    bson_destroy(&answer);
    return rc;
}

static int
on_log(struct lev_channel *ch, const bson_t *frame, bson_iter_t *level,
       struct lev_error *err)
{
    const char *name = string_of(frame, "name");
    const char *text = string_of(frame, "text");

    if (name == NULL || text == NULL) {
        return protocol_error(err, "log without name or text");
    }
    ch->ev.log(ch->ev.ctx, (int)bson_iter_as_int64(level), name, text);
    return 0;
}

static int
on_frame(struct lev_channel *ch, const struct lev_scope *scope,
         const bson_t *frame, struct lev_error *err)
{
    bson_iter_t it;

    if (!ch->greeted) {
        return greet(ch, scope, frame, err);
    }
    if (bson_iter_init_find(&it, frame, "set")) {
        return on_set(ch, scope, frame, &it, err);
    }
    if (bson_iter_init_find(&it, frame, "log")) {
        return on_log(ch, frame, &it, err);
    }
    if (bson_iter_init_find(&it, frame, "progress")) {
        ch->ev.progress(ch->ev.ctx, bson_iter_as_double(&it),
                        string_of(frame, "text"));
        return 0;
    }
    if (bson_iter_init_find(&it, frame, "fail") &&
        BSON_ITER_HOLDS_DOCUMENT(&it)) {
        const uint8_t *bytes;
        uint32_t len;
        bson_t fail;

        bson_iter_document(&it, &len, &bytes);
        if (bson_init_static(&fail, bytes, len)) {
            ch->ev.fail(ch->ev.ctx, &fail);
        }
        return 0;
    }
    if (bson_iter_init_find(&it, frame, "exit")) {
        ch->ev.exited(ch->ev.ctx, (int)bson_iter_as_int64(&it));
        ch->told_all = true;
        return 0;
    }
    return protocol_error(err, "an unknown frame");
}

static int
take_connection(struct lev_channel *ch, struct lev_error *err)
{
    ch->fd = accept4(ch->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (ch->fd < 0) {
        return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED
                   ? 0
                   : lev_error_errno(err, "accept the guest");
    }
    return 0;
}

static void
relay_said(struct lev_channel *ch, const char *data, size_t len)
{
    char text[256];

    snprintf(text, sizeof(text), "%.*s", (int)(len < 250 ? len : 250), data);
    ch->ev.log(ch->ev.ctx, LEV_WARNING, "relay", text);
}

/* As lev_engine_ops.exec_recv: 0 at the end, -2 when nothing is there. */
static ssize_t
receive_some(struct lev_channel *ch, char *buf, size_t len,
             struct lev_error *err)
{
    ssize_t n;

    if (ch->exec != NULL) {
        int stream = 1;

        do {
            n = ch->engine->ops->exec_recv(ch->exec, &stream, buf, len, err);
            if (n > 0 && stream != 1) {
                relay_said(ch, buf, (size_t)n);
            }
        } while (n > 0 && stream != 1);
        return n;
    }
    do {
        n = recv(ch->fd, buf, len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        return -2;
    }
    /* A container that is killed resets its end: the end all the same. */
    return n < 0 && errno == ECONNRESET ? 0 : n;
}

/* Takes what is there and acts on it; 0, 1 at the end, -1. */
static int
receive(struct lev_channel *ch, const struct lev_scope *scope,
        struct lev_error *err)
{
    char buf[32 * 1024];
    size_t taken = 0;
    bson_t frame;
    int rc;

    while (taken < RECEIVE_MAX) {
        ssize_t n = receive_some(ch, buf, sizeof(buf), err);

        if (n == -2) {
            return 0;
        }
        if (n <= 0) {
            return n < 0 ? -1 : 1;
        }
        taken += (size_t)n;
        if (lev_frame_reader_feed(&ch->reader, buf, (size_t)n, err) < 0) {
            return -1;
        }
        while ((rc = lev_frame_reader_next(&ch->reader, &frame, err)) == 1) {
            if (on_frame(ch, scope, &frame, err) < 0) {
                return -1;
            }
            /* Through the relay, the guest's end of the stream cannot be
             * seen: who waits for ours would wait for ever. */
            if (ch->told_all) {
                return 1;
            }
        }
        if (rc < 0) {
            return -1;
        }
        if (ch->exec == NULL && (size_t)n < sizeof(buf)) {
            return 0; /* that was all; if not, poll tells */
        }
    }
    return 0;
}

int
lev_channel_receive(struct lev_channel *ch, const struct lev_scope *scope,
                    struct lev_error *err)
{
    int rc;

    if (ch->over) {
        return 0;
    }
    if (ch->exec == NULL && ch->fd < 0) {
        return take_connection(ch, err);
    }
    rc = receive(ch, scope, err);
    if (rc < 0 && (err->detail == EPIPE || err->detail == ECONNRESET)) {
        rc = 1; /* killed while it was answered: the end all the same */
    }
    if (rc != 0 && wait_for_another(ch)) {
        return 0;
    }
    if (rc == 1) {
        hang_up(ch);
        return 0;
    }
    return rc;
}
