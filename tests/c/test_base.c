/* The base library: buffers, errors, scopes, pools, the completion queue. */

#include "buf.h"
#include "compq.h"
#include "scope.h"
#include "utf8.h"
#include "worker.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>

static void
test_buf(void)
{
    _cleanup_buf_ struct lev_buf b = {0}, c = {0};
    struct lev_error err;

    assert(strcmp(lev_buf_text(&b), "") == 0);
    lev_buf_printf(&b, "%s-%d", "a", 7);
    lev_buf_putc(&b, '!');
    assert(strcmp(b.data, "a-7!") == 0 && b.len == 4);
    lev_buf_consume(&b, 2);
    assert(strcmp(b.data, "7!") == 0);
    lev_buf_clear(&b);
    lev_buf_urlencode(&b, "a b/ü~");
    assert(strcmp(b.data, "a%20b%2F%C3%BC~") == 0);
    for (size_t n = 0; n < 70; n++) {
        char data[70], *text;

        memset(data, (int)(n * 7 + 250), n);
        lev_buf_clear(&b);
        lev_buf_base64(&b, data, n, n & 1);
        lev_buf_clear(&c);
        assert(lev_buf_unbase64(&c, lev_buf_text(&b), &err) == 0);
        assert(c.len == n && memcmp(lev_buf_text(&c), data, n) == 0);
        text = lev_buf_take(&b);
        assert(text != NULL);
        free(text);
    }
    assert(lev_buf_unbase64(&c, "a*b=", &err) == -1);
    assert(lev_buf_unbase64(&c, "abcde", &err) == -1);
    assert(err.code == LEV_E_INVALID);
}

static void
test_error(void)
{
    struct lev_error err;
    char deep[2000];

    memset(deep, 'x', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    assert(lev_error_set(&err, LEV_E_ENGINE, 409, "in use") == -1);
    assert(lev_error_wrap(&err, "remove %s", "c1") == -1);
    assert(strcmp(err.msg, "remove c1: in use") == 0 && err.detail == 409);
    lev_error_wrap(&err, "%s", deep);
    assert(strlen(err.msg) == sizeof(err.msg) - 1);
}

/* Closed again, it is not what has got its number meanwhile. */
static void
test_closep(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), number = fd, other;

    assert(fd >= 0);
    lev_closep(&fd);
    assert(fd == -1);
    other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert(other == number);
    lev_closep(&fd);
    assert(fcntl(other, F_GETFD) >= 0);
    lev_closep(&other);
}

static void
test_utf8(void)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"ascii ü 日 😀 \xf4\x8f\xbf\xbf", "ascii ü 日 😀 \xf4\x8f\xbf\xbf"},
        {"cut \xe6\x97", "cut ??"},
        {"\xe6\x97日", "??日"},
        {"\x80\xff", "??"},
        {"\xc0\xaf", "??"},           /* overlong */
        {"\xe0\x9f\xbf", "???"},      /* overlong */
        {"\xf0\x8f\xbf\xbf", "????"}, /* overlong */
        {"\xed\xa0\x80", "???"},      /* a surrogate */
        {"\xf4\x90\x80\x80", "????"}, /* beyond U+10FFFF */
        {"\xf0\x9f\x98", "???"},      /* cut */
    };
    struct lev_error err;

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        char text[32];

        strcpy(text, cases[i][0]);
        lev_utf8_mend(text);
        assert(strcmp(text, cases[i][1]) == 0);
    }
    lev_error_set(&err, LEV_E_START, 0, "%.4s, then", "日日");
    assert(strcmp(err.msg, "日?, then") == 0);
}

static void
fire_later(void *arg)
{
    usleep(20000);
    lev_cancel_fire(arg);
}

static void
set_later(void *arg)
{
    usleep(20000);
    lev_event_set(arg);
}

static void
test_scope(void)
{
    struct lev_cancel parent, child, late;
    struct lev_error err;
    struct lev_event ev;

    lev_cancel_init(&parent, NULL);
    lev_cancel_init(&child, &parent);
    lev_event_init(&ev);
    struct lev_scope s = {LEV_NEVER, &child};
    struct lev_scope brief = lev_scope_within(&s, 10 * LEV_MS);

    assert(lev_scope_poll(&brief, NULL, 0, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT);
    assert(lev_scope_wait(&brief, &ev, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT);
    assert(lev_scope_sleep(&s, LEV_MS, &err) == 0);
    assert(lev_scope_left_ms(&brief, 50) == 0);
    assert(lev_scope_left_ms(&s, 50) == 50);

    assert(lev_thread_start("set", set_later, &ev, &err) == 0);
    assert(lev_scope_wait(&s, &ev, &err) == 0);
    lev_event_deinit(&ev);

    lev_event_init(&ev);
    assert(lev_thread_start("fire", fire_later, &parent, &err) == 0);
    assert(lev_scope_wait(&s, &ev, &err) == -1);
    assert(err.code == LEV_E_CANCELLED);
    assert(lev_scope_poll(&s, NULL, 0, &err) == -1);
    assert(err.code == LEV_E_CANCELLED);
    lev_cancel_init(&late, &parent);
    assert(lev_cancel_fired(&late));
    lev_cancel_deinit(&late);
    lev_cancel_deinit(&child);
    lev_cancel_deinit(&parent);
    lev_event_deinit(&ev);
}

#define JOBS 5000

static struct lev_compq *queue;

struct counted {
    struct lev_job job;
    struct lev_completion done;
};

static void
count_job(struct lev_job *job)
{
    lev_compq_push(queue, &((struct counted *)job)->done);
}

static int delivered;

static void
count_done(struct lev_completion *c)
{
    free(lev_container_of(c, struct counted, done));
    delivered++;
}

static void
test_pool(void)
{
    struct lev_error err;
    struct lev_pool *pool = lev_pool_create(4, &err);

    queue = lev_compq_create(&err);
    assert(pool != NULL && queue != NULL);
    for (int i = 0; i < JOBS; i++) {
        struct counted *c = calloc(1, sizeof(*c));

        assert(c != NULL);
        c->job.run = count_job;
        c->done.deliver = count_done;
        assert(lev_pool_submit(pool, &c->job, &err) == 0);
    }
    while (delivered < JOBS) {
        struct pollfd pfd = {.fd = lev_compq_fd(queue), .events = POLLIN};

        /* A lost wake-up shows as a time-out here. */
        assert(poll(&pfd, 1, 5000) == 1);
        for (struct lev_completion *c = lev_compq_drain(queue), *next;
             c != NULL; c = next)
        {
            next = c->next;
            c->deliver(c);
        }
    }
    lev_pool_destroy(pool);
    lev_compq_destroy(queue);
}

#define LASTING 20

struct lasting {
    struct lev_job job;
    pthread_barrier_t *barrier;
};

static void
lasting_job(struct lev_job *job)
{
    struct lasting *l = lev_container_of(job, struct lasting, job);

    /* Passed when all of them run at once, and only then. */
    pthread_barrier_wait(l->barrier);
}

struct short_job {
    struct lev_job job;
    struct lev_pool *leave; /* or NULL */
    pthread_t thread;
    struct lev_event done;
};

static void
run_short(struct lev_job *job)
{
    struct short_job *sj = lev_container_of(job, struct short_job, job);

    sj->thread = pthread_self();
    lev_pool_leave(sj->leave);
    lev_event_set(&sj->done);
}

static pthread_t
start_short(struct lev_pool *pool, bool leave)
{
    struct short_job sj = {.job.run = run_short, .leave = leave ? pool : NULL};
    const struct lev_scope soon = {lev_now() + 5 * LEV_SECOND, NULL};
    struct lev_error err;

    lev_event_init(&sj.done);
    assert(lev_pool_start(pool, &sj.job, &err) == 0);
    assert(lev_scope_wait(&soon, &sj.done, &err) == 0);
    lev_event_deinit(&sj.done);
    return sj.thread;
}

/* Each has a thread at once, although the limit is none; threads are used
 * again; and a job may be the last user of its pool. */
static void
test_pool_start(void)
{
    struct lasting all[LASTING] = {0};
    struct lev_error err;
    struct lev_pool *pool = lev_pool_create(0, &err);
    pthread_barrier_t barrier;
    pthread_t seen[64];
    size_t n = 0;
    bool again = false;

    assert(pool != NULL);
    assert(pthread_barrier_init(&barrier, NULL, LASTING + 1) == 0);
    for (int i = 0; i < LASTING; i++) {
        all[i].job.run = lasting_job;
        all[i].barrier = &barrier;
        assert(lev_pool_start(pool, &all[i].job, &err) == 0);
    }
    pthread_barrier_wait(&barrier);
    /* One that is not idle again yet is no failure; that none ever is, is. */
    while (!again && n < LEV_ARRAY_LEN(seen)) {
        seen[n] = start_short(pool, false);
        for (size_t i = 0; i < n; i++) {
            again |= pthread_equal(seen[i], seen[n]) != 0;
        }
        n++;
    }
    assert(again);
    start_short(pool, true);
    pthread_barrier_destroy(&barrier);
}

int
main(void)
{
    test_buf();
    test_error();
    test_closep();
    test_utf8();
    test_scope();
    test_pool();
    test_pool_start();
    return 0;
}
