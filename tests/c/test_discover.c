/* Which engine is chosen: sockets in a temporary directory, behind which a
 * thread answers every request with the version that the test set. */

#include "discover.h"
#include "worker.h"

#include <assert.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define DOCKER_29                                                             \
    "{\"Components\":[{\"Name\":\"Engine\"}],\"Version\":\"29.0.1\","         \
    "\"ApiVersion\":\"1.52\",\"MinAPIVersion\":\"1.44\",\"Os\":\"linux\","    \
    "\"Arch\":\"arm64\"}"
#define PODMAN                                                                \
    "{\"Components\":[{\"Name\":\"Podman Engine\"}],\"Version\":\"4.3.1\","   \
    "\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.24\",\"Os\":\"linux\","    \
    "\"Arch\":\"amd64\"}"

#define NO_RUNTIME "/nowhere/crun"

static char dir[] = "/tmp/test_discover.XXXXXX";
static const struct lev_scope forever = {LEV_NEVER, NULL};
static struct lev_scope brief;
static char last_log[600];

/* ---- a server ---- */

struct server {
    int fd;
    const char *answer; /* NULL: none, ever */
};

static void
serve(void *arg)
{
    struct server *s = arg;
    char request[2000], head[200];
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        ssize_t n = recv(fd, request, sizeof(request), 0);

        if (s->answer == NULL) {
            while (recv(fd, request, sizeof(request), 0) > 0) {
            }
        }
        else if (n > 0) {
            snprintf(head, sizeof(head),
                     "HTTP/1.1 %s\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     s->answer[0] == '{' ? "200 OK" : "404 Not Found",
                     strlen(s->answer));
            send(fd, head, strlen(head), MSG_NOSIGNAL);
            send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
        }
        close(fd);
    }
    close(s->fd);
    free(s);
}

/* Binds dir/name; listens too, unless `dead`. */
static int
bind_socket(const char *name, bool dead)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir, name);
    unlink(sa.sun_path);
    assert(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    assert(dead || listen(fd, 16) == 0);
    return fd;
}

/* The descriptor is the test's: shutdown() ends the server. */
static int
start(const char *name, const char *answer)
{
    struct server *s = calloc(1, sizeof(*s));
    struct lev_error err;

    assert(s != NULL);
    s->fd = bind_socket(name, false);
    s->answer = answer;
    int fd = dup(s->fd);
    assert(lev_thread_start("server", serve, s, &err) == 0);
    return fd;
}

static void
stop(int fd)
{
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

/* ---- the environment ---- */

static void
emit(struct lev_log *log, int level, const char *logger, const char *text,
     size_t len)
{
    assert(level == LEV_INFO && strcmp(logger, "lev.engine") == 0);
    snprintf(last_log, sizeof(last_log), "%.*s", (int)len, text);
}

static struct lev_log sink = {.emit = emit};

static char *
path_of(const char *name)
{
    char *path;

    assert(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

static char *
url_of(const char *name)
{
    char *url;

    assert(asprintf(&url, "unix://%s/%s", dir, name) > 0);
    return url;
}

static void
set(char **to, char *text)
{
    free(*to);
    *to = text;
}

static void
write_file(const char *name, const char *text)
{
    _cleanup_free_ char *path = path_of(name);
    _cleanup_fclose_ FILE *f = fopen(path, "w");

    assert(f != NULL && fputs(text, f) >= 0);
}

static void
expect(const struct lev_discover *d, const char *socket, const char *reason)
{
    struct lev_error err = {.msg = ""};
    struct lev_engine *e = lev_discover_open(d, &sink, &forever, &err);

    if (e == NULL || strstr(e->url, socket) == NULL ||
        strstr(last_log, e->url) == NULL || strstr(last_log, reason) == NULL)
    {
        fprintf(stderr, "expected %s because of %s: %s %s\n", socket, reason,
                err.msg, last_log);
        abort();
    }
    lev_engine_unref(e);
}

static void
expect_error(const struct lev_discover *d, enum lev_errcode code,
             const char *says, const char *says_too)
{
    struct lev_error err = {.msg = "no error"};

    brief = lev_scope_within(&forever, 200 * LEV_MS);
    assert(lev_discover_open(d, &sink, &brief, &err) == NULL);
    if (err.code != code || strstr(err.msg, says) == NULL ||
        strstr(err.msg, says_too) == NULL)
    {
        fprintf(stderr, "expected %s and %s: %d %s\n", says, says_too,
                err.code, err.msg);
        abort();
    }
}

static struct lev_discover
environment(void)
{
    return (struct lev_discover){.system_dir = path_of("run"),
                                 .runtime_dir = path_of("user"),
                                 .docker_config = path_of("config"),
                                 .home = path_of("home")};
}

/* ---- the tests ---- */

static void
test_from_env(void)
{
    struct lev_discover d;
    struct lev_error err;

    assert(setenv("LEVRT_ENGINE", "", 1) == 0);
    assert(setenv("DOCKER_HOST", "tcp://h", 1) == 0);
    assert(setenv("HOME", "/home/x", 1) == 0);
    assert(unsetenv("DOCKER_CONFIG") == 0);
    assert(lev_discover_from_env(&d, NULL, "toml", &err) == 0);
    assert(d.engine == NULL && d.lev_engine == NULL);
    assert(strcmp(d.docker_host, "tcp://h") == 0);
    assert(strcmp(d.docker_config, "/home/x/.docker") == 0);
    assert(strcmp(d.system_dir, "/var/run") == 0);
    lev_discover_deinit(&d);
    assert(setenv("DOCKER_CONFIG", "/c", 1) == 0);
    assert(lev_discover_from_env(&d, "unix:///x", "toml", &err) == 0);
    assert(strcmp(d.engine, "unix:///x") == 0);
    assert(strcmp(d.docker_config, "/c") == 0);
    lev_discover_deinit(&d);
}

/* Nothing was asked for: the usual sockets, in their order. */
static void
test_search(void)
{
    struct lev_discover d = environment();
    int dead, server;

    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "run/docker.sock",
                 "user/podman/podman.sock");
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "home/.docker/run/docker.sock",
                 "set LEVRT_ENGINE");
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "install crun",
                 "oci:: LEVRT_OCI_RUNTIME: there is no program " NO_RUNTIME);
    server = start("user/podman/podman.sock", PODMAN);
    expect(&d, "user/podman/podman.sock", "first of the usual sockets");
    assert(strstr(last_log, "Podman Engine 4.3.1, API 1.41") != NULL);
    dead = bind_socket("run/docker.sock", true);
    expect(&d, "user/podman/podman.sock", "first of the usual sockets");
    close(dead);
    int docker = start("run/docker.sock", DOCKER_29);
    expect(&d, "run/docker.sock", "Docker Engine 29.0.1, API 1.47");
    stop(docker);
    stop(server);
    lev_discover_deinit(&d);
}

/* No daemon anywhere: none is needed. The store is where root's is, on a file
 * system of this test's own, which nobody else sees. */
static void
test_no_daemon(void)
{
    struct lev_discover d = environment();

    if (geteuid() != 0) {
        expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "oci:", "set LEVRT_ENGINE");
        lev_discover_deinit(&d);
        return;
    }
    assert(unshare(CLONE_NEWNS) == 0);
    assert(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0);
    assert(mount("tmpfs", "/var/lib", "tmpfs", 0, NULL) == 0);
    assert(unsetenv("LEVRT_OCI_RUNTIME") == 0);
    expect(&d, "oci:", "no daemon answers");
    assert(setenv("PATH", dir, 1) == 0);
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "run/docker.sock",
                 "no OCI runtime in PATH: install crun");
    lev_discover_deinit(&d);
}

/* Each source wins over those below it. */
static void
test_order(void)
{
    static const char *const names[] = {"s0", "s1", "s2",
                                        "s4", "s5", "run/docker.sock"};
    struct lev_discover d = environment();
    int fds[LEV_ARRAY_LEN(names)];

    for (size_t i = 0; i < LEV_ARRAY_LEN(names); i++) {
        fds[i] = start(names[i], DOCKER_29);
    }
    expect(&d, "run/docker.sock", "usual");
    set(&d.container_host, url_of("s5"));
    expect(&d, "s5", "CONTAINER_HOST");
    write_file("config/config.json", "{\"currentContext\": \"default\"}");
    expect(&d, "s5", "CONTAINER_HOST");
    write_file("config/config.json", "{\"currentContext\": \"there\"}");
    expect(&d, "s4", "docker context 'there' of docker's config.json");
    set(&d.docker_context, strdup("nowhere"));
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "'nowhere' of DOCKER_CONTEXT",
                 "docker context ls");
    set(&d.docker_context, strdup("there"));
    expect(&d, "s4", "docker context 'there' of DOCKER_CONTEXT");
    set(&d.docker_host, url_of("s2"));
    expect(&d, "s2", "DOCKER_HOST");
    set(&d.lev_engine, url_of("s1"));
    expect(&d, "s1", "LEVRT_ENGINE");
    set(&d.engine, url_of("s0"));
    d.engine_source = "engine in levrt.toml";
    expect(&d, "s0", "engine in levrt.toml");
    /* An explicit choice never falls through. */
    stop(fds[0]);
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "engine in levrt.toml: ", "s0");
    for (size_t i = 1; i < LEV_ARRAY_LEN(names); i++) {
        stop(fds[i]);
    }
    lev_discover_deinit(&d);
}

static void
test_context_errors(void)
{
    struct lev_discover d = environment();

    write_file("config/config.json", "{\n\"currentContext\": there}");
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "config/config.json",
                 "no JSON at line 2");
    write_file("config/config.json", "{\"currentContext\": \"broken\"}");
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "'broken'", "meta.json");
    write_file("config/config.json", "{\"currentContext\": \"hostless\"}");
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "'hostless'",
                 "no Endpoints.docker.Host");
    write_file("config/config.json", "{\"currentContext\": \"far\"}");
    expect_error(&d, LEV_E_UNSUPPORTED_OPTION, "'far'",
                 "ssh:// is not supported yet");
    write_file("config/config.json", "{}");
    lev_discover_deinit(&d);
}

static void
test_urls(void)
{
    struct lev_discover d = environment();

    set(&d.engine, strdup("docker"));
    expect_error(&d, LEV_E_INVALID, "engine 'docker'", "unix:///path");
    set(&d.engine, strdup("unix://run/docker.sock"));
    expect_error(&d, LEV_E_INVALID, "must be absolute", "run/docker.sock");
    set(&d.engine, strdup("tcp://"));
    expect_error(&d, LEV_E_INVALID, "there is no host", "");
    set(&d.engine, strdup("tcp://:2375"));
    expect_error(&d, LEV_E_INVALID, "there is no host", "");
    set(&d.engine, strdup("tcp://host/path"));
    expect_error(&d, LEV_E_INVALID, "a path behind the host", "");
    set(&d.engine, strdup("ssh://host"));
    expect_error(&d, LEV_E_UNSUPPORTED_OPTION, "ssh://host", "ssh -L");
    set(&d.engine, strdup("oci:here"));
    expect_error(&d, LEV_E_INVALID, "'oci:here'", "oci:/absolute/directory");
    /* Port 1 of this machine: nobody listens there. */
    set(&d.engine, strdup("tcp://127.0.0.1:1"));
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "tcp://127.0.0.1:1", "refused");
    set(&d.engine, strdup("tcp://[::1]:1/"));
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "tcp://[::1]:1", "");
    set(&d.tls_verify, strdup("1"));
    set(&d.cert_path, path_of("half"));
    expect_error(&d, LEV_E_ENGINE_UNAVAILABLE, "half",
                 "only one of cert.pem and key.pem");
    lev_discover_deinit(&d);
}

static void
expect_answer(const char *answer, enum lev_errcode code, const char *says)
{
    struct lev_discover d = {.engine = url_of("odd")};
    int server = start("odd", answer);

    expect_error(&d, code, says, "odd");
    stop(server);
    lev_discover_deinit(&d);
}

static void
test_answers(void)
{
    expect_answer("{\"Version\":\"19.03\",\"ApiVersion\":\"1.40\"}",
                  LEV_E_ENGINE_UNAVAILABLE, "1.41 (Docker 20.10) or newer");
    expect_answer("{\"Version\":\"40\",\"ApiVersion\":\"1.90\","
                  "\"MinAPIVersion\":\"1.60\"}",
                  LEV_E_ENGINE_UNAVAILABLE, "update levrt");
    expect_answer("{}", LEV_E_ENGINE_UNAVAILABLE, "does not speak");
    expect_answer("{\"ApiVersion\": 3}", LEV_E_ENGINE_UNAVAILABLE,
                  "does not speak");
    expect_answer("{broken", LEV_E_ENGINE_UNAVAILABLE, "answer");
    expect_answer("<html>no such page</html>", LEV_E_ENGINE_UNAVAILABLE,
                  "no such page");
    expect_answer(NULL, LEV_E_TIMEOUT, "timed out");
}

static void
make_dirs(void)
{
    /* The names' SHA-256, as docker's client names the directories. */
    char command[2000];

    snprintf(
        command, sizeof(command),
        "cd %s && mkdir -p run/podman user/podman home config half && "
        "touch half/cert.pem && "
        "put() { d=config/contexts/meta/$(printf %%s \"$1\" | sha256sum | "
        "cut -c1-64); mkdir -p $d && printf %%s \"$2\" > $d/meta.json; } && "
        "put there "
        "'{\"Name\":\"there\",\"Endpoints\":{\"docker\":{\"Host\":"
        "\"unix://%s/s4\",\"SkipTLSVerify\":false}}}' && "
        "put far "
        "'{\"Endpoints\":{\"docker\":{\"Host\":\"ssh://far\"}}}' && "
        "put hostless '{\"Endpoints\":{}}' && put broken '{'",
        dir, dir);
    assert(system(command) == 0);
}

int
main(void)
{
    char command[100];

    assert(mkdtemp(dir) != NULL);
    make_dirs();
    assert(setenv("LEVRT_OCI_RUNTIME", NO_RUNTIME, 1) == 0);
    test_search();
    test_order();
    test_context_errors();
    test_urls();
    test_answers();
    test_from_env();
    snprintf(command, sizeof(command), "/bin/rm -r %s", dir);
    test_no_daemon();
    assert(system(command) == 0);
    return 0;
}
