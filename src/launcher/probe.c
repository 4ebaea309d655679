#include "launcher.h"

#include <string.h>
#include <time.h>

/* A service is mostly up within milliseconds or within seconds. */
#define FIRST_PAUSE_MS 5
#define LAST_PAUSE_MS 50
#define SHOWN_MAX 100

struct probe {
    bool owned;
    long timeout_ms; /* 0: none */
    const char *const *ports_text;
    uint16_t *ports;
    size_t ports_n;
    struct lev_listeners found;
};

static void
probe_deinit(struct probe *p)
{
    free(p->ports);
    lev_listeners_deinit(&p->found);
}

static int
parse(struct probe *p, int argc, char **argv, struct lev_error *err)
{
    int i = 1;
    long port;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--owned") == 0) {
            p->owned = true;
        }
        else if (strcmp(argv[i], "--timeout-ms") == 0 && i + 1 < argc) {
            if (lev_arg_number(argv[++i], "--timeout-ms", 1L << 30,
                               &p->timeout_ms, err) < 0)
            {
                return -1;
            }
        }
        else {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "probe does not know the option %s", argv[i]);
        }
    }
    if (i == argc) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "probe needs at least one port");
    }
    p->ports = calloc((size_t)(argc - i), sizeof(*p->ports));
    if (p->ports == NULL) {
        return lev_error_nomem(err, "ports");
    }
    for (; i < argc; i++) {
        if (lev_arg_number(argv[i], "a port", UINT16_MAX, &port, err) < 0) {
            return -1;
        }
        p->ports[p->ports_n++] = (uint16_t)port;
    }
    return 0;
}

static bool
listens(const struct probe *p, uint16_t port)
{
    for (size_t i = 0; i < p->found.len; i++) {
        if (p->found.items[i].port == port) {
            return true;
        }
    }
    return false;
}

static bool
all_listen(const struct probe *p)
{
    for (size_t i = 0; i < p->ports_n; i++) {
        if (!listens(p, p->ports[i])) {
            return false;
        }
    }
    return true;
}

static int
look(struct probe *p, struct lev_error *err)
{
    if (lev_listeners_scan(&p->found, err) < 0) {
        return -1;
    }
    /* Reading all of /proc is worth it only for a full set. */
    if (p->owned && all_listen(p)) {
        return lev_listeners_keep_owned(&p->found, err);
    }
    return 0;
}

static int
by_port(const void *a, const void *b)
{
    return (int)((const struct lev_listener *)a)->port -
           (int)((const struct lev_listener *)b)->port;
}

static void
print_missing(const struct probe *p)
{
    const char *comma = "";

    fputs("{\"missing\": [", stdout);
    for (size_t i = 0; i < p->ports_n; i++) {
        if (!listens(p, p->ports[i])) {
            printf("%s%u", comma, p->ports[i]);
            comma = ", ";
        }
    }
}

static void
print_listening(struct probe *p)
{
    size_t shown = 0;

    fputs("], \"listening\": [", stdout);
    if (p->found.len != 0) { /* qsort(NULL, 0) is undefined */
        qsort(p->found.items, p->found.len, sizeof(*p->found.items), by_port);
    }
    for (size_t i = 0; i < p->found.len && shown < SHOWN_MAX; i++) {
        uint16_t port = p->found.items[i].port;

        if (i == 0 || port != p->found.items[i - 1].port) {
            printf("%s%u", shown++ == 0 ? "" : ", ", port);
        }
    }
    fputs("]}\n", stdout);
}

/* 0, LEV_PROBE_TIMEOUT, or -1. */
static int
wait_for_ports(struct probe *p, struct lev_error *err)
{
    const int64_t end = lev_now_ms() + p->timeout_ms;
    long pause = FIRST_PAUSE_MS;

    for (;;) {
        if (look(p, err) < 0) {
            return -1;
        }
        if (all_listen(p)) {
            return 0;
        }
        if (p->timeout_ms != 0) {
            int64_t left = end - lev_now_ms();

            if (left <= 0) {
                return LEV_PROBE_TIMEOUT;
            }
            pause = left < pause ? (long)left : pause;
        }
        nanosleep(&(struct timespec){.tv_nsec = pause * 1000000}, NULL);
        pause = 2 * pause < LAST_PAUSE_MS ? 2 * pause : LAST_PAUSE_MS;
    }
}

int
lev_probe_main(int argc, char **argv)
{
    _cleanup_(probe_deinit) struct probe p = {0};
    struct lev_error err;
    int rc;

    if (parse(&p, argc, argv, &err) < 0) {
        return lev_complain(&err, LEV_LAUNCHER_USAGE);
    }
    rc = wait_for_ports(&p, &err);
    if (rc < 0) {
        return lev_complain(&err, 1);
    }
    if (rc == LEV_PROBE_TIMEOUT) {
        if (p.owned && lev_listeners_keep_owned(&p.found, &err) < 0) {
            return lev_complain(&err, 1);
        }
        print_missing(&p);
        print_listening(&p);
    }
    return rc;
}
