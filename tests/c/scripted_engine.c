#include "scripted_engine.h"

#include "worker.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const struct lev_scope forever = {LEV_NEVER, NULL};

struct client {
    struct scripted_engine *engine;
    int fd;
};

static void
nap(void)
{
    struct lev_error err;

    assert(lev_scope_sleep(&forever, 50 * LEV_MS, &err) == 0);
}

static bool
send_chunk(int fd, const char *data, size_t len)
{
    char size[20];

    snprintf(size, sizeof(size), "%zx\r\n", len);
    return send(fd, size, strlen(size), MSG_NOSIGNAL) > 0 &&
           send(fd, data, len, MSG_NOSIGNAL) > 0 &&
           send(fd, "\r\n", 2, MSG_NOSIGNAL) > 0;
}

static bool
send_again(int fd, const struct scripted_answer *a)
{
    char text[400];

    for (int i = 0; i != a->times; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), a->again, i + 1);
#pragma GCC diagnostic pop
        if (!send_chunk(fd, text, strlen(text))) {
            return false;
        }
        nap();
    }
    return true;
}

/* `held` is told while it is. */
static void
hold(struct scripted_engine *s, int fd, int *held)
{
    char byte;

    pthread_mutex_lock(&s->mutex);
    *held = fd;
    pthread_mutex_unlock(&s->mutex);
    while (recv(fd, &byte, 1, 0) > 0) {
    }
    pthread_mutex_lock(&s->mutex);
    *held = *held == fd ? -1 : *held;
    pthread_mutex_unlock(&s->mutex);
}

static void
send_answer(struct scripted_engine *s, int fd, const struct scripted_answer *a,
            int *held)
{
    size_t len = a->body == NULL ? 0 : a->body_len;
    char head[200];

    if (a->body != NULL && len == 0) {
        len = strlen(a->body);
    }
    snprintf(head, sizeof(head),
             "HTTP/1.1 %s\r\nConnection: close\r\n"
             "Transfer-Encoding: chunked\r\n\r\n",
             a->status);
    if (a->status != NULL) {
        send(fd, head, strlen(head), MSG_NOSIGNAL);
    }
    if ((len > 0 && !send_chunk(fd, a->body, len)) || !send_again(fd, a)) {
        return;
    }
    if (a->hold) {
        hold(s, fd, held);
    }
    if (!a->drop && !a->hold) {
        send(fd, "0\r\n\r\n", 5, MSG_NOSIGNAL);
    }
}

static struct scripted_answer
find_answer(struct scripted_engine *s, const char *request, int **held)
{
    struct scripted_answer a = {.status = "500 Unexpected",
                                .body = "{\"message\":\"not in the script\"}"};

    pthread_mutex_lock(&s->mutex);
    for (size_t i = s->routes_n; i-- > 0;) {
        if (strncmp(request, s->routes[i].route, strlen(s->routes[i].route)) ==
            0) {
            a = s->routes[i].answer;
            s->routes[i].requests++;
            *held = &s->routes[i].held;
            break;
        }
    }
    memcpy(s->last_request, request, sizeof(s->last_request));
    pthread_mutex_unlock(&s->mutex);
    s->requests++;
    return a;
}

static void
serve_one(void *arg)
{
    static const struct scripted_answer version = {
        .status = "200 OK",
        .body = "{\"ApiVersion\":\"1.41\",\"Version\":\"0\","
                "\"Arch\":\"amd64\",\"Os\":\"linux\"}"};
    struct scripted_engine *s = ((struct client *)arg)->engine;
    int fd = ((struct client *)arg)->fd;
    char request[sizeof(s->last_request)] = "";
    ssize_t n = recv(fd, request, sizeof(request) - 1, 0);

    free(arg);
    if (strncmp(request, "GET /version", 12) == 0) {
        send_answer(s, fd, &version, NULL);
    }
    else if (n > 0) {
        int *held = NULL;
        const struct scripted_answer a = find_answer(s, request, &held);

        send_answer(s, fd, &a, held);
    }
    close(fd);
    s->alive--;
}

static void
serve(void *arg)
{
    struct scripted_engine *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        struct client *c = malloc(sizeof(*c));
        struct lev_error err;

        assert(c != NULL);
        *c = (struct client){s, fd};
        s->alive++;
        assert(lev_thread_start("client", serve_one, c, &err) == 0);
    }
    s->alive--;
}

void
scripted_start(struct scripted_engine *s)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct lev_error err;

    *s = (struct scripted_engine){.alive = 1};
    pthread_mutex_init(&s->mutex, NULL);
    strcpy(s->dir, "/tmp/scripted_engine.XXXXXX");
    assert(mkdtemp(s->dir) != NULL);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/sock", s->dir);
    assert(bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    assert(listen(s->fd, 64) == 0);
    assert(lev_thread_start("server", serve, s, &err) == 0);
}

void
scripted_stop(struct scripted_engine *s)
{
    char command[100];

    shutdown(s->fd, SHUT_RDWR);
    while (s->alive > 0) {
        nap();
    }
    close(s->fd);
    pthread_mutex_destroy(&s->mutex);
    snprintf(command, sizeof(command), "rm -r %s", s->dir);
    assert(system(command) == 0);
}

struct lev_engine *
scripted_open(struct scripted_engine *s)
{
    struct lev_engine_config config = {.docker_config = s->dir};
    struct lev_error err;
    struct lev_engine *e;
    char url[120];

    snprintf(url, sizeof(url), "unix://%s/sock", s->dir);
    e = lev_docker_open(url, &config, &forever, &err);
    if (e == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return e;
}

void
scripted_set(struct scripted_engine *s, const char *route,
             const struct scripted_answer *answer)
{
    size_t i = 0;

    pthread_mutex_lock(&s->mutex);
    while (i < s->routes_n && strcmp(s->routes[i].route, route) != 0) {
        i++;
    }
    assert(i < SCRIPTED_ROUTES);
    if (i == s->routes_n) {
        s->routes_n++;
        s->routes[i].held = -1;
    }
    s->routes[i].route = route;
    s->routes[i].answer = *answer;
    s->routes[i].requests = 0;
    pthread_mutex_unlock(&s->mutex);
}

void
scripted_cut(struct scripted_engine *s, const char *route)
{
    bool cut = false;

    while (!cut) {
        pthread_mutex_lock(&s->mutex);
        for (size_t i = 0; i < s->routes_n; i++) {
            if (strcmp(s->routes[i].route, route) == 0 &&
                s->routes[i].held >= 0) {
                cut = true;
                shutdown(s->routes[i].held, SHUT_RDWR);
                s->routes[i].held = -1;
            }
        }
        pthread_mutex_unlock(&s->mutex);
        if (!cut) {
            nap();
        }
    }
}

void
scripted_wait(struct scripted_engine *s, int requests)
{
    while (s->requests < requests) {
        nap();
    }
}

int
scripted_count(struct scripted_engine *s, const char *route)
{
    int n = 0;

    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->routes_n; i++) {
        if (strcmp(s->routes[i].route, route) == 0) {
            n = s->routes[i].requests;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    return n;
}
