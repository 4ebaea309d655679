/* raw.c - the least that a client can do: the requests that levrt makes for a
 * run, by plain blocking sockets, kept alive, one thread per run at once.
 *
 * usage: raw SOCKET IMAGE NETWORK CONCURRENCY
 *
 * Each line of its input is a number of runs to make; each line of its output
 * is JSON: the wall-clock and CPU seconds that they took. Nothing is parsed
 * but what the next request needs, so this is a floor and no example.
 */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64
/* Longer than any answer that is looked into. */
#define ANSWER_MAX 65536

struct connection {
    int fd; /* -1: not connected */
    size_t len, pos;
    char data[16384];
};

/* What one run at a time needs; `attach` is closed by the engine each time. */
struct client {
    struct connection calls, wait, attach;
    char answer[ANSWER_MAX];
};

static const char *socket_path, *image, *network;
static unsigned concurrency;
static atomic_long runs_left;
static atomic_ulong serial;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("raw: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

/* ---- HTTP ---- */

static void
connection_open(struct connection *c)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    c->len = c->pos = 0;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(addr.sun_path, socket_path); /* main() has looked at its length */
    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        die("%s: %s", socket_path, strerror(errno));
    }
}

static void
connection_close(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
}

static void
send_all(struct connection *c, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

        if (n < 0) {
            die("send: %s", strerror(errno));
        }
        data += n;
        len -= (size_t)n;
    }
}

/* False at the end of the stream. */
static bool
fill(struct connection *c)
{
    ssize_t n = recv(c->fd, c->data, sizeof(c->data), 0);

    if (n < 0) {
        die("recv: %s", strerror(errno));
    }
    c->pos = 0;
    c->len = (size_t)n;
    return n > 0;
}

static char
next_byte(struct connection *c)
{
    if (c->pos == c->len && !fill(c)) {
        die("the engine closed a connection");
    }
    return c->data[c->pos++];
}

static void
read_line(struct connection *c, char *line, size_t size)
{
    size_t n = 0;
    char byte;

    while ((byte = next_byte(c)) != '\n') {
        if (n + 1 < size) {
            line[n++] = byte;
        }
    }
    line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = '\0';
}

static void
read_bytes(struct connection *c, char *out, size_t room, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char byte = next_byte(c);

        if (i < room) {
            out[i] = byte;
        }
    }
}

static void
request(struct connection *c, const char *method, const char *path,
        const char *body)
{
    char text[4096];
    int n = snprintf(text, sizeof(text),
                     "%s /v1.41%s HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     method, path, strlen(body), body);

    if (n < 0 || (size_t)n >= sizeof(text)) {
        die("a request is too long");
    }
    if (c->fd < 0) {
        connection_open(c);
    }
    send_all(c, text, (size_t)n);
}

struct head {
    int status;
    long length; /* -1: until the end of the connection */
    bool chunked;
};

static struct head
read_head(struct connection *c)
{
    struct head head = {.length = -1};
    char line[1024];

    read_line(c, line, sizeof(line));
    if (sscanf(line, "HTTP/1.1 %d", &head.status) != 1) {
        die("no HTTP: %s", line);
    }
    for (;;) {
        read_line(c, line, sizeof(line));
        if (line[0] == '\0') {
            return head;
        }
        if (strncasecmp(line, "Content-Length:", 15) == 0) {
            head.length = atol(line + 15);
        }
        head.chunked |= strcasecmp(line, "Transfer-Encoding: chunked") == 0;
    }
}

/* The body, cut at ANSWER_MAX, as a string. */
static void
read_body(struct connection *c, struct head head, char *answer)
{
    size_t n = 0, room = ANSWER_MAX - 1;
    char line[64];

    if (!head.chunked && head.length >= 0) {
        read_bytes(c, answer, room, (size_t)head.length);
        n = (size_t)head.length < room ? (size_t)head.length : room;
    }
    while (head.chunked) {
        size_t size;

        read_line(c, line, sizeof(line));
        size = strtoul(line, NULL, 16);
        read_bytes(c, answer + n, room - n, size);
        n += size < room - n ? size : room - n;
        read_line(c, line, sizeof(line));
        head.chunked = size > 0;
    }
    answer[n] = '\0';
}

static void
check(struct head head, const char *what, const char *answer)
{
    if (head.status < 200 || head.status >= 300) {
        die("%s: %d %s", what, head.status, answer);
    }
}

static void
call(struct client *cl, const char *method, const char *path, const char *body)
{
    struct head head;

    request(&cl->calls, method, path, body);
    head = read_head(&cl->calls);
    if (head.status == 204) {
        head.length = 0;
    }
    read_body(&cl->calls, head, cl->answer);
    check(head, path, cl->answer);
}

/* ---- one run ---- */

static void
create(struct client *cl, char id[65])
{
    char path[128], body[1024];
    const char *at;

    snprintf(path, sizeof(path), "/containers/create?name=raw-%d-%lu",
             (int)getpid(), atomic_fetch_add(&serial, 1));
    snprintf(body, sizeof(body),
             "{\"Image\":\"%s\",\"Cmd\":[\"true\"],\"Tty\":false,"
             "\"Labels\":{\"bench\":\"raw\"},\"NetworkingConfig\":"
             "{\"EndpointsConfig\":{\"%s\":{}}},\"HostConfig\":"
             "{\"Init\":true,\"LogConfig\":{\"Type\":\"none\"},"
             "\"NetworkMode\":\"%s\"}}",
             image, network, network);
    call(cl, "POST", path, body);
    at = strstr(cl->answer, "\"Id\":\"");
    if (at == NULL || sscanf(at + 6, "%64[0-9a-f]", id) != 1) {
        die("create: no Id in %s", cl->answer);
    }
}

static void
begin(struct connection *c, const char *fmt, const char *id, struct head *head)
{
    char path[256];

    snprintf(path, sizeof(path), fmt, id);
    request(c, "POST", path, "");
    *head = read_head(c);
    check(*head, path, "");
}

static void
one_run(struct client *cl)
{
    char id[65], path[128];
    struct head attach, wait;

    create(cl, id);
    begin(&cl->attach, "/containers/%s/attach?stream=1&stdout=1&stderr=1", id,
          &attach);
    begin(&cl->wait, "/containers/%s/wait?condition=next-exit", id, &wait);
    snprintf(path, sizeof(path), "/containers/%s/start", id);
    call(cl, "POST", path, "");
    read_body(&cl->wait, wait, cl->answer);
    if (strstr(cl->answer, "\"StatusCode\":0") == NULL) {
        die("the container failed: %s", cl->answer);
    }
    while (fill(&cl->attach)) {
    }
    connection_close(&cl->attach);
    snprintf(path, sizeof(path), "/containers/%s/json", id);
    call(cl, "GET", path, "");
    snprintf(path, sizeof(path), "/containers/%s?force=1&v=1", id);
    call(cl, "DELETE", path, "");
}

/* ---- many ---- */

static void *
thread_main(void *arg)
{
    while (atomic_fetch_sub(&runs_left, 1) > 0) {
        one_run(arg);
    }
    return NULL;
}

static void
many_runs(struct client *clients, long n)
{
    pthread_t threads[MAX_THREADS];

    atomic_store(&runs_left, n);
    for (unsigned i = 0; i < concurrency; i++) {
        if (pthread_create(&threads[i], NULL, thread_main, &clients[i]) != 0) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < concurrency; i++) {
        pthread_join(threads[i], NULL);
    }
}

static double
seconds(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
    struct client *clients;
    long n;

    if (argc != 5 || (concurrency = (unsigned)atoi(argv[4])) < 1 ||
        concurrency > MAX_THREADS)
    {
        die("usage: raw SOCKET IMAGE NETWORK CONCURRENCY");
    }
    socket_path = argv[1];
    image = argv[2];
    network = argv[3];
    if (strlen(socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        die("%s: too long for a socket", socket_path);
    }
    clients = calloc(concurrency, sizeof(*clients));
    if (clients == NULL) {
        die("out of memory");
    }
    for (unsigned i = 0; i < concurrency; i++) {
        clients[i].calls.fd = clients[i].wait.fd = clients[i].attach.fd = -1;
    }
    while (scanf("%ld", &n) == 1) {
        double wall = seconds(CLOCK_MONOTONIC);
        double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

        many_runs(clients, n);
        printf("{\"seconds\": %.6f, \"cpu\": %.6f}\n",
               seconds(CLOCK_MONOTONIC) - wall,
               seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        fflush(stdout);
    }
    free(clients);
    return 0;
}
