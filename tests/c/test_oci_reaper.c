/* What is left when the workflow is killed: nothing. */
#include "oci_fixture.h"

#include <assert.h>
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tree.h"

#define CONTAINERS 12
#define GONE_TIMEOUT (20 * LEV_SECOND)

/* What the workflow tells about itself. */
struct told {
    pid_t reaper;
    char dir[64], tag[LEV_TAG_MAX + 1];
    char id[64]; /* of a container */
};

static void
drop(struct lev_output *out, int stream, const char *data, size_t len)
{
}

static struct lev_network_join session_network;

static void
on_network(struct lev_container_spec *spec)
{
    spec->networks = &session_network;
    spec->networks_n = 1;
}

static char *
start_one(struct oci_fixture *f, struct lev_output *out)
{
    struct lev_scope scope = oci_soon();
    struct lev_process *p;
    struct lev_error err;
    char *id =
        oci_make(f, OCI_SH("sleep 1000 & exec sleep 1000"), NULL, on_network);

    p = f->e->ops->attach(f->e, &scope, id, out, &err);
    if (p == NULL || f->e->ops->start(p, &scope, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return id;
}

/* A process that starts containers, says so, and goes on until it is killed.
 */
static _Noreturn void
workflow(int to, bool paused)
{
    static struct lev_output out = {.data = drop};
    struct lev_scope scope = oci_soon();
    struct oci_fixture f;
    struct told told = {0};
    struct lev_error err;
    char *id = NULL, *network;

    oci_fixture_open(&f);
    if (f.e->ops->network_create(f.e, &scope, "net", "10.47.0.0/24", NULL,
                                 &network, &err) < 0)
    {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    session_network.network = network;
    for (int i = 0; i < CONTAINERS; i++) {
        id = start_one(&f, &out);
    }
    if (paused) {
        assert(
            lev_helper_call(lev_oci_of(f.e)->helper, &scope,
                            json_pack("{s:s, s:s}", "op", "pause", "name", id),
                            NULL, 0, NULL, &err) == 0);
    }
    told.reaper = lev_helper_pid(lev_oci_of(f.e)->helper);
    snprintf(told.dir, sizeof(told.dir), "%s", f.dir);
    snprintf(told.tag, sizeof(told.tag), "%s", lev_oci_of(f.e)->tag);
    snprintf(told.id, sizeof(told.id), "%s", id);
    assert(write(to, &told, sizeof(told)) == sizeof(told));
    for (;;) {
        pause();
    }
}

static pid_t
start_workflow(struct told *told, bool paused)
{
    int fds[2];
    ssize_t n;
    pid_t pid;

    assert(pipe(fds) == 0);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        workflow(fds[1], paused);
    }
    close(fds[1]);
    n = read(fds[0], told, sizeof(*told));
    close(fds[0]);
    if (n != (ssize_t)sizeof(*told)) { /* it skips, or has complained */
        int status;

        waitpid(pid, &status, 0);
        exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    return pid;
}

static bool
is_there(const char *fmt, const char *tag)
{
    char path[256];

    snprintf(path, sizeof(path), fmt, tag);
    return access(path, F_OK) == 0;
}

static bool
has_entries(const struct told *t, const char *below)
{
    struct dirent *entry;
    char path[256];
    bool any = false;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/%s", t->dir, below);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        any |= entry->d_name[0] != '.';
    }
    closedir(dir);
    return any;
}

/* Process 1 may be late to reap what has ended. */
static bool
is_zombie(const char *pid)
{
    char path[300], line[256] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return true;
    }
    line[fread(line, 1, sizeof(line) - 1, file)] = '\0';
    fclose(file);
    return strstr(line, ") Z ") != NULL || strstr(line, ") X ") != NULL;
}

static bool
has_processes(const char *tag)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    bool any = false;

    while ((entry = readdir(dir)) != NULL) {
        char path[300], text[4096] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%s/cgroup", entry->d_name);
        file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9'
                   ? fopen(path, "re")
                   : NULL;
        if (file == NULL) {
            continue;
        }
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        fclose(file);
        snprintf(path, sizeof(path), "levrt-%s", tag);
        any |= strstr(text, path) != NULL && !is_zombie(entry->d_name);
    }
    closedir(dir);
    return any;
}

static void
check_gone(const struct told *t)
{
    assert(!has_entries(t, "sessions"));
    assert(!has_entries(t, "names"));
    assert(!has_processes(t->tag));
    assert(!is_there("/sys/class/net/lv%s", t->tag));
    assert(!is_there("/sys/fs/cgroup/pids/levrt-%s", t->tag));
    assert(!is_there("/sys/fs/cgroup/memory/levrt-%s", t->tag));
    assert(!is_there("/sys/fs/cgroup/unified/levrt-%s", t->tag));
    assert(!is_there("/sys/fs/cgroup/levrt-%s", t->tag));
}

static void
wait_for_end(pid_t pid)
{
    struct lev_scope scope = {lev_now() + GONE_TIMEOUT, NULL};
    struct pollfd pfd = {.fd = (int)syscall(SYS_pidfd_open, pid, 0),
                         .events = POLLIN};
    struct lev_error err;

    if (pfd.fd >= 0) {
        assert(lev_scope_poll(&scope, &pfd, 1, &err) == 1);
        close(pfd.fd);
    }
}

static void
remove_store(const struct told *t)
{
    struct lev_error err;

    if (lev_tree_remove(-1, t->dir, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

static void
test_workflow_killed(bool paused)
{
    struct told t;
    pid_t pid = start_workflow(&t, paused);

    assert(has_processes(t.tag) && has_entries(&t, "names"));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    wait_for_end(t.reaper);
    check_gone(&t);
    remove_store(&t);
}

/* Nobody is left who could: the next session does it. */
static void
test_reaper_killed(void)
{
    const struct lev_engine_config config = {.bin_dir =
                                                 getenv("LEVRT_TEST_BIN")};
    struct lev_scope scope = oci_soon();
    struct lev_engine *e;
    struct lev_error err;
    struct told t;
    char url[80];
    pid_t pid = start_workflow(&t, false);

    kill(t.reaper, SIGKILL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    wait_for_end(t.reaper);
    assert(has_processes(t.tag));
    snprintf(url, sizeof(url), "oci:%s", t.dir);
    e = lev_oci_open(url, &config, &scope, &err);
    if (e == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    assert(!has_processes(t.tag));
    lev_engine_unref(e);
    check_gone(&t);
    remove_store(&t);
}

/* The engine says so, and at once, when its helper is gone; the next one on
 * the same store takes away what that has left. */
static void
test_helper_lost(void)
{
    const struct lev_engine_config config = {.bin_dir =
                                                 getenv("LEVRT_TEST_BIN")};
    struct lev_scope scope = oci_soon();
    struct told t = {0};
    struct oci_fixture f;
    struct lev_engine *next;
    struct lev_error err;
    char *id, url[80];

    oci_fixture_open(&f);
    id = oci_make(&f, OCI_SH("true"), NULL, NULL);
    kill(lev_helper_pid(lev_oci_of(f.e)->helper), SIGKILL);
    assert(f.e->ops->signal(f.e, &scope, id, SIGTERM, &err) < 0);
    assert(err.code == LEV_E_ENGINE_UNAVAILABLE);
    free(id);
    snprintf(t.dir, sizeof(t.dir), "%s", f.dir);
    snprintf(t.tag, sizeof(t.tag), "%s", lev_oci_of(f.e)->tag);
    lev_engine_unref(f.e);
    snprintf(url, sizeof(url), "oci:%s", f.dir);
    next = lev_oci_open(url, &config, &scope, &err);
    assert(next != NULL);
    lev_engine_unref(next);
    check_gone(&t);
    remove_store(&t);
}

int
main(void)
{
    test_workflow_killed(false);
    test_workflow_killed(true);
    test_reaper_killed();
    test_helper_lost();
    puts("ok");
    return 0;
}
