/* Docker's output frames, cut at every place, and what is none. */

#include "logmux.h"

#include <assert.h>
#include <string.h>

struct sink {
    struct lev_buf out, err;
    size_t pieces;
    bool full;
};

static int
emit(void *ctx, enum lev_stream stream, const char *data, size_t len,
     struct lev_error *err)
{
    struct sink *sink = ctx;

    assert(len > 0);
    assert(stream == LEV_STREAM_STDOUT || stream == LEV_STREAM_STDERR);
    if (sink->full) {
        return lev_error_set(err, LEV_E_OS, 28, "disk full");
    }
    sink->pieces++;
    lev_buf_append(stream == LEV_STREAM_STDOUT ? &sink->out : &sink->err, data,
                   len);
    return 0;
}

static void
sink_deinit(struct sink *sink)
{
    lev_buf_deinit(&sink->out);
    lev_buf_deinit(&sink->err);
}

static const char frames[] = "\1\0\0\0\0\0\0\3one"
                             "\2\0\0\0\0\0\0\0"
                             "\2\0\0\0\0\0\0\4oops"
                             "\1\0\0\0\0\0\0\4 two";
#define FRAMES (sizeof(frames) - 1)

static void
test_cut_everywhere(void)
{
    for (size_t a = 0; a <= FRAMES; a++) {
        for (size_t b = a; b <= FRAMES; b++) {
            _cleanup_(sink_deinit) struct sink sink = {0};
            struct lev_logmux m = {.emit = emit, .ctx = &sink};
            struct lev_error err;

            assert(lev_logmux_feed(&m, frames, a, &err) == 0);
            assert(lev_logmux_feed(&m, frames + a, b - a, &err) == 0);
            assert(lev_logmux_feed(&m, frames + b, FRAMES - b, &err) == 0);
            assert(lev_logmux_end(&m, &err) == 0);
            assert(strcmp(sink.out.data, "one two") == 0);
            assert(strcmp(sink.err.data, "oops") == 0);
        }
    }
}

static void
test_bytewise(void)
{
    _cleanup_(sink_deinit) struct sink sink = {0};
    struct lev_logmux m = {.emit = emit, .ctx = &sink};
    struct lev_error err;

    for (size_t i = 0; i < FRAMES; i++) {
        assert(lev_logmux_feed(&m, frames + i, 1, &err) == 0);
    }
    assert(sink.pieces == 11 && strcmp(sink.out.data, "one two") == 0);
}

/* A frame that claims 4 GiB costs nothing, and its data comes at once. */
static void
test_huge_claim(void)
{
    _cleanup_(sink_deinit) struct sink sink = {0};
    struct lev_logmux m = {.emit = emit, .ctx = &sink};
    struct lev_error err;

    assert(lev_logmux_feed(&m, "\1\0\0\0\xff\xff\xff\xffhi", 10, &err) == 0);
    assert(strcmp(sink.out.data, "hi") == 0);
    assert(lev_logmux_end(&m, &err) == -1 && err.code == LEV_E_ENGINE);
    assert(strstr(err.msg, "4294967293 bytes") != NULL);
}

static void
refuse(const char *data, size_t len, const char *expected)
{
    _cleanup_(sink_deinit) struct sink sink = {0};
    struct lev_logmux m = {.emit = emit, .ctx = &sink};
    struct lev_error err = {0};

    assert(lev_logmux_feed(&m, data, len, &err) == -1);
    assert(err.code == LEV_E_ENGINE && strstr(err.msg, expected) != NULL);
    assert(sink.out.len == 0 && sink.err.len == 0);
}

static void
test_garbage(void)
{
    static char daemon[8 + 1000] = "\3\0\0\0\0\0\3\xe8";

    refuse("$ ls -l\r\n", 9, "has the container a tty?");
    refuse("\4\0\0\0\0\0\0\1x", 9, "04 00 00 00");
    refuse("\1\0\1\0\0\0\0\1x", 9, "01 00 01 00");
    refuse("\3\0\0\0\0\0\0\4gone", 12, "the engine says: gone");
    refuse("\3\0\0\0\0\0\0\0", 8, "the engine says");
    memset(daemon + 8, 'x', 1000);
    refuse(daemon, sizeof(daemon), "xxx");
}

static void
test_callback_fails(void)
{
    _cleanup_(sink_deinit) struct sink sink = {.full = true};
    struct lev_logmux m = {.emit = emit, .ctx = &sink};
    struct lev_error err;

    assert(lev_logmux_feed(&m, frames, FRAMES, &err) == -1);
    assert(err.code == LEV_E_OS && strcmp(err.msg, "disk full") == 0);
}

static void
test_end(void)
{
    for (size_t n = 0; n < 11; n++) {
        _cleanup_(sink_deinit) struct sink sink = {0};
        struct lev_logmux m = {.emit = emit, .ctx = &sink};
        struct lev_error err;

        assert(lev_logmux_feed(&m, frames, n, &err) == 0);
        assert(lev_logmux_end(&m, &err) == (n == 0 ? 0 : -1));
    }
}

int
main(void)
{
    test_cut_everywhere();
    test_bytewise();
    test_huge_claim();
    test_garbage();
    test_callback_fails();
    test_end();
    return 0;
}
