/* The MongoDB store without a server: its URLs, and that a server which takes
 * connections and says nothing is left when a scope ends. */

#include "storelib.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char *
canonical(const char *url, struct lev_error *err)
{
    const struct lev_store_ops *ops = lev_store_mongo(err);

    assert(ops != NULL);
    return ops->canonical(url, err);
}

static void
test_canonical(void)
{
    static const struct {
        const char *url, *want;
    } cases[] = {
        {"mongodb://h", "mongodb://h:27017/lev"},
        {"mongodb://H.example/db", "mongodb://h.example:27017/db"},
        {"mongodb://a:1,b:2/", "mongodb://a:1,b:2/lev"},
        {"mongodb://u:secret@h/db", "mongodb://u@h:27017/db"},
        {"mongodb://u%40x:se%2Fcret@h/db?w=1&tls=true",
         "mongodb://u%40x@h:27017/db?w=1&tls=true"},
        {"mongodb://u:secret@h/db?authSource=admin",
         "mongodb://u@h:27017/db?authsource=admin"},
        {"mongodb://h/?tls=true&tlsCertificateKeyFilePassword=secret",
         "mongodb://h:27017/lev?tls=true"},
        {"mongodb+srv://u:secret@cluster.example.org/db",
         "mongodb+srv://u@cluster.example.org/db?tls=true"},
        {"mongodb://%2Ftmp%2Fmongo.sock/db", "mongodb:///tmp/mongo.sock/db"},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        struct lev_error err;

        expect_text(__FILE__, (int)i, canonical(cases[i].url, &err),
                    cases[i].want);
    }
}

/* Refused, saying what is wrong, and never a password. */
static void
test_bad_urls(void)
{
    static const struct {
        const char *url, *text;
    } cases[] = {
        {"mongodb://", "expected mongodb://HOST"},
        {"mongodb:///db", "expected mongodb://HOST"},
        {"mongodb://h:port/db", "expected mongodb://HOST"},
        {"mongodb://h:99999/db", "expected mongodb://HOST"},
        {"mongodb://u:sec/ret@h/db", "percent-encoded"},
        {"mongodb://u:secret@h:port/db", "percent-encoded"},
        {"mongodb+srv://a.example.org,b.example.org", "expected"},
        {"mongodb+srv://a.example.org:27017/db", "expected"},
        {"mongodb://h/db?w=0", "w=0"},
        {"mongodb://h/db?maxPoolSize=0", "maxPoolSize"},
        {"mongodb://h/db?nosuch=1", "nosuch"},
        {"mongodb://u:secret@h/db?retryWrites=maybe", "options"},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        struct lev_error err = {0};

        if (canonical(cases[i].url, &err) != NULL) {
            fprintf(stderr, "%s: taken\n", cases[i].url);
            abort();
        }
        assert(err.code == LEV_E_INVALID);
        if (strstr(err.msg, cases[i].text) == NULL ||
            strstr(err.msg, "sec") != NULL || strstr(err.msg, "ret@") != NULL)
        {
            fprintf(stderr, "%s: %s\n", cases[i].url, err.msg);
            abort();
        }
    }
}

/* Takes connections, and that is all. */
static int
listen_mute(char *url, size_t size, const char *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    assert(listen(fd, 16) == 0);
    assert(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    snprintf(url, size, "mongodb://127.0.0.1:%d/db?%s",
             ntohs(address.sin_port), options);
    return fd;
}

static int
count_within(struct lev_store *st, const struct lev_scope *scope,
             struct lev_error *err)
{
    int64_t n;

    return st->ops->count(st, scope, "c", NULL, &n, err);
}

static void *
fire_soon(void *arg)
{
    struct lev_scope nap = {lev_now() + 100 * LEV_MS, NULL};
    struct lev_error ignored;

    lev_scope_sleep(&nap, LEV_SECOND, &ignored);
    lev_cancel_fire(arg);
    return NULL;
}

static void
test_mute(void)
{
    char url[200];
    int fd = listen_mute(url, sizeof(url), "connectTimeoutMS=300");
    struct lev_scope soon = {lev_now() + 200 * LEV_MS, NULL};
    struct lev_cancel cancel;
    struct lev_scope cancelled = {LEV_NEVER, &cancel};
    struct lev_error err;
    struct lev_store *st = lev_store_open(url, &forever, &err);
    pthread_t thread;

    assert(st != NULL);
    assert(count_within(st, &soon, &err) < 0);
    assert(err.code == LEV_E_TIMEOUT);
    lev_cancel_init(&cancel, NULL);
    assert(pthread_create(&thread, NULL, fire_soon, &cancel) == 0);
    assert(count_within(st, &cancelled, &err) < 0);
    assert(err.code == LEV_E_CANCELLED);
    pthread_join(thread, NULL);
    lev_cancel_deinit(&cancel);
    lev_store_unref(st);
    close(fd);
}

/* Nobody there: as long as the URL says, then a typed error. */
static void
test_unavailable(void)
{
    char url[200];
    struct lev_error err;
    struct lev_store *st;

    close(listen_mute(url, sizeof(url), "serverSelectionTimeoutMS=300"));
    st = lev_store_open(url, &forever, &err);
    assert(st != NULL);
    assert(count_within(st, &forever, &err) < 0);
    assert(err.code == LEV_E_STORE_UNAVAILABLE);
    assert(strstr(err.msg, "127.0.0.1") != NULL);
    lev_store_unref(st);
}

static void
test_fork(void)
{
    char url[200], pid[20];
    int fd = listen_mute(url, sizeof(url), "connectTimeoutMS=300");
    struct lev_error err;
    struct lev_store *st = lev_store_open(url, &forever, &err);
    int status;
    pid_t child;

    assert(st != NULL);
    snprintf(pid, sizeof(pid), "process %d ", (int)getpid());
    child = fork();
    if (child == 0) {
        int rc = count_within(st, &forever, &err);

        _exit(rc < 0 && err.code == LEV_E_STORE && strstr(err.msg, pid) != NULL
                  ? 0
                  : 1);
    }
    assert(waitpid(child, &status, 0) == child && status == 0);
    lev_store_unref(st);
    close(fd);
}

int
main(void)
{
    test_canonical();
    test_bad_urls();
    test_mute();
    test_unavailable();
    test_fork();
    return 0;
}
