/* Containers without a daemon: what a machine lacks and what cannot be had is
 * said by its name, and leaves nothing. Each case is a process with a mount
 * and a network namespace of its own. */
#include "oci_fixture.h"

#include "cgroup.h"
#include "tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define IMAGE "levrt-test/busybox:1"

static struct oci_fixture f;

static void
expect(const struct lev_error *err, enum lev_errcode code, const char *words)
{
    const char *word = words;

    while (*word != '\0') {
        char one[80];
        size_t len = strcspn(word, "|");

        snprintf(one, sizeof(one), "%.*s", (int)len, word);
        if (err->code != code || strstr(err->msg, one) == NULL) {
            fprintf(stderr, "expected %d '%s', got %d: %s\n", (int)code, words,
                    (int)err->code, err->msg);
            abort();
        }
        word += len + (word[len] == '|');
    }
}

/* ---- one engine, many options ---- */

static int
attempt(const char *image, const char *const *cmd, const char *options,
        struct lev_error *err)
{
    struct lev_scope scope = oci_soon();
    struct lev_output out = {.data = NULL};
    struct lev_process *p = NULL;
    bson_error_t why;
    bson_t *parsed = bson_new_from_json((const uint8_t *)options, -1, &why);
    const struct lev_container_spec spec = {
        .name = "refused", .image = image, .cmd = cmd, .options = parsed};
    struct lev_error late;
    char *id = NULL;
    int rc;

    assert(parsed != NULL);
    rc = f.e->ops->create(f.e, &scope, &spec, &id, err);
    bson_destroy(parsed);
    if (rc == 0) {
        p = f.e->ops->attach(f.e, &scope, id, &out, err);
        rc = p == NULL ? -1 : f.e->ops->start(p, &scope, err);
        f.e->ops->detach(p);
    }
    if (id != NULL) {
        assert(f.e->ops->remove(f.e, &scope, id, &late) == 0);
    }
    free(id);
    return rc;
}

static size_t
entries(const char *fmt, const char *a, const char *b)
{
    char path[300];
    size_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), fmt, a, b);
    dir = opendir(path);
    while (dir != NULL && readdir(dir) != NULL) {
        n++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n <= 2 ? 0 : n - 2;
}

/* Of containers; the session itself lives. */
static void
nothing_left(void)
{
    const struct lev_oci *o = lev_oci_of(f.e);
    struct lev_cgroups cg;
    struct lev_error err;

    assert(entries("%s/names", f.dir, "") == 0);
    assert(entries("%s/sessions/%s/containers", f.dir, o->tag) == 0);
    assert(lev_cgroups_find(&cg, &err) == 0);
    for (size_t i = 0; i < cg.n; i++) {
        char path[400];

        snprintf(path, sizeof(path), "%s/levrt-%s/refused", cg.roots[i],
                 o->tag);
        assert(access(path, F_OK) < 0);
    }
}

static void
test_options(void)
{
    static const struct {
        const char *options;
        enum lev_errcode code;
        const char *words; /* apart by | */
    } cases[] = {
        {"{\"user\": \"nobodys\"}", LEV_E_START,
         "the user 'nobodys' is not in the image's /etc/passwd|number"},
        {"{\"user\": \"root:nobodys\"}", LEV_E_START,
         "the group 'nobodys' is not in the image's /etc/group"},
        {"{\"group_add\": [\"nobodys\"]}", LEV_E_START,
         "option 'group_add'|'nobodys'"},
        {"{\"working_dir\": \"/etc/passwd/x\"}", LEV_E_START,
         "working directory|/etc/passwd/x|Not a directory"},
        {"{\"mem_limit\": \"4k\"}", LEV_E_START,
         "memory limit is below|mem_limit of 6m"},
        {"{\"nano_cpus\": 1000}", LEV_E_ENGINE,
         "option 'nano_cpus'|0.01|got 1000"},
        {"{\"nano_cpus\": 4096000000000}", LEV_E_ENGINE,
         "option 'nano_cpus'|processors"},
        {"{\"cpuset_cpus\": \"0,4095\"}", LEV_E_ENGINE,
         "option 'cpuset_cpus'|no processor 4095"},
        {"{\"ulimits\": [{\"name\": \"nofiles\", \"soft\": 1}]}", LEV_E_ENGINE,
         "option 'ulimits'|'nofiles'"},
        {"{\"devices\": [\"/dev/none\"]}", LEV_E_ENGINE,
         "option 'devices'|/dev/none"},
        {"{\"devices\": [\"/etc/passwd\"]}", LEV_E_ENGINE,
         "/etc/passwd is no device"},
        {"{\"sysctls\": {\"kernel.pid_max\": 9}}", LEV_E_ENGINE,
         "option 'sysctls'|kernel.pid_max|whole machine"},
        {"{\"sysctls\": {\"net.core.somaxconn\": 9}, \"network_mode\": "
         "\"host\"}",
         LEV_E_ENGINE, "net.core.somaxconn|whole machine"},
        {"{\"sysctls\": {\"net.no.such\": 9}}", LEV_E_START, "net/no/such"},
        {"{\"cap_add\": [\"NONE_SUCH\"]}", LEV_E_INVALID,
         "option 'cap_add'|'NONE_SUCH'"},
        {"{\"network_mode\": \"none-such\"}", LEV_E_NOT_FOUND, "none-such"},
        {"{\"network_mode\": \"container:none-such\"}", LEV_E_NOT_FOUND,
         "none-such"},
        {"{\"pid_mode\": \"container:none-such\"}", LEV_E_NOT_FOUND,
         "none-such"},
        {"{\"ipc_mode\": \"container:other\"}", LEV_E_UNSUPPORTED_OPTION,
         "engine oci|option 'ipc_mode'"},
        {"{\"cgroup_parent\": \"/x\"}", LEV_E_UNSUPPORTED_OPTION,
         "engine oci|option 'cgroup_parent'"},
        {"{\"security_opt\": [\"seccomp={}\"]}", LEV_E_UNSUPPORTED_OPTION,
         "engine oci|option 'security_opt'|seccomp={}"},
        {"{\"security_opt\": [\"apparmor=none-such\"]}",
         LEV_E_UNSUPPORTED_OPTION, "engine oci|apparmor=none-such"},
        {"{\"security_opt\": [\"label=type:x\"]}", LEV_E_UNSUPPORTED_OPTION,
         "engine oci|label=type:x"},
        {"{\"tmpfs\": {\"/x\": \"size=many\"}}", LEV_E_START, "tmpfs"},
    };
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;

    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        if (attempt(IMAGE, cmd, cases[i].options, &err) == 0) {
            fprintf(stderr, "%s was taken\n", cases[i].options);
            abort();
        }
        expect(&err, cases[i].code, cases[i].words);
        nothing_left();
    }
    assert(attempt(IMAGE, cmd, "{}", &err) == 0);
    assert(attempt("none/such:1", cmd, "{}", &err) < 0);
    expect(&err, LEV_E_IMAGE_NOT_FOUND, "none/such:1");
    nothing_left();
}

static void
test_ulimits(void)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;
    struct rlimit now;
    char options[128];

    assert(getrlimit(RLIMIT_NOFILE, &now) == 0);
    snprintf(options, sizeof(options),
             "{\"ulimits\": [{\"name\": \"nofile\", \"soft\": 9, \"hard\": "
             "%llu}]}",
             (unsigned long long)now.rlim_max + 1);
    assert(attempt(IMAGE, cmd, options, &err) < 0);
    expect(&err, LEV_E_UNSUPPORTED_OPTION,
           "option 'ulimits'|hard limit of|CAP_SYS_RESOURCE");
    nothing_left();
}

/* A machine whose groups lack controllers; what needs none of them works. */
static void
no_controller(const char *words)
{
    static const char *const limits[][2] = {
        {"{\"mem_limit\": \"64m\"}", "option 'mem_limit'|'memory'"},
        {"{\"pids_limit\": 99}", "option 'pids_limit'|'pids'"},
        {"{\"nano_cpus\": 500000000}", "option 'nano_cpus'|'cpu'"},
        {"{\"cpu_shares\": 512}", "option 'cpu_shares'|'cpu'"},
        {"{\"cpu_quota\": 5000}", "option 'cpu_quota'|'cpu'"},
    };
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;

    for (size_t i = 0; i < LEV_ARRAY_LEN(limits); i++) {
        assert(attempt(IMAGE, cmd, limits[i][0], &err) < 0);
        expect(&err, LEV_E_UNSUPPORTED_OPTION, limits[i][1]);
        expect(&err, LEV_E_UNSUPPORTED_OPTION, words);
    }
    assert(attempt(IMAGE, cmd, "{\"cpuset_cpus\": \"0\"}", &err) < 0);
    expect(&err, LEV_E_UNSUPPORTED_OPTION, "option 'cpuset_cpus'|'cpuset'");
    nothing_left();
}

/* A program of another machine: named, and not given to a shell. */
static void
test_architecture(void)
{
    static const char script[] =
        "printf '\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\2\\0\\267\\0\\1"
        "\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0"
        "\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0' "
        "> /bin/tool; chmod 755 /bin/tool; exec /dev/init -- tool";
    struct oci_result r;

    oci_run(&f, OCI_SH(script), NULL, &r);
    assert(r.code == 126);
    assert(strstr(lev_buf_text(&r.text[1]),
                  "exec tool failed: Exec format error: it was built for "
                  "aarch64, and this machine is ") != NULL);
    oci_result_deinit(&r);
}

/* ---- machines that lack something ---- */

static void
drop_capability(unsigned cap)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    assert(syscall(SYS_capget, &head, data) == 0);
    data[cap / 32].permitted &= ~(1u << cap % 32);
    data[cap / 32].effective &= ~(1u << cap % 32);
    assert(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0);
    assert(syscall(SYS_capset, &head, data) == 0);
}

static int
try_open(const char *dir, struct lev_error *err)
{
    const struct lev_engine_config config = {.bin_dir =
                                                 getenv("LEVRT_TEST_BIN")};
    struct lev_scope scope = oci_soon();
    struct lev_engine *e;
    char url[100];

    snprintf(url, sizeof(url), "oci:%s", dir);
    e = lev_oci_open(url, &config, &scope, err);
    if (e == NULL) {
        return -1;
    }
    lev_engine_unref(e);
    return 0;
}

static void
refused(const char *words)
{
    char dir[] = "/var/tmp/levrt-refused-XXXXXX", sessions[64];
    struct lev_error err;

    assert(mkdtemp(dir) != NULL);
    assert(try_open(dir, &err) < 0);
    expect(&err, LEV_E_ENGINE_UNAVAILABLE, words);
    snprintf(sessions, sizeof(sessions), "%s/sessions", dir);
    assert(entries("%s", sessions, "") == 0);
    assert(lev_tree_remove(-1, dir, &err) == 0);
}

static void
case_no_cgroup(void)
{
    struct lev_cgroups cg;
    struct lev_error err;

    assert(lev_cgroups_find(&cg, &err) == 0);
    /* One that cannot be written is enough. */
    assert(mount(cg.roots[0], cg.roots[0], NULL, MS_BIND, NULL) == 0);
    assert(mount(NULL, cg.roots[0], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY,
                 NULL) == 0);
    refused("cgroup|Read-only file system|control groups that can be written");
}

/* cgroup v1: no hierarchy of theirs is mounted. */
static void
hide_controllers(void)
{
    static const char *const names[] = {"cpu", "cpuset", "memory", "pids"};
    char path[64];

    for (size_t i = 0; i < LEV_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", names[i]);
        assert(mount("tmpfs", path, "tmpfs", 0, NULL) == 0);
    }
}

/* cgroup v2: as in a container that has its own cgroup namespace. The root of
 * what it sees is no root, and holds processes. */
static void
enter_box(void)
{
    static const char box[] = "/sys/fs/cgroup/levrt-box";
    FILE *procs;

    assert(mkdir(box, 0755) == 0);
    procs = fopen("/sys/fs/cgroup/levrt-box/cgroup.procs", "we");
    assert(procs != NULL && fprintf(procs, "%d", (int)getpid()) > 0 &&
           fclose(procs) == 0);
    assert(unshare(CLONE_NEWCGROUP) == 0);
    assert(umount2("/sys/fs/cgroup", MNT_DETACH) == 0);
    assert(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0);
}

static void
case_no_controllers(void)
{
    const char *const cmd[] = {"sleep", "600", NULL};
    struct lev_cgroups cg;
    struct lev_error err;

    assert(lev_cgroups_find(&cg, &err) == 0);
    if (cg.v1) {
        hide_controllers();
        oci_fixture_open(&f);
        no_controller("this machine has no cgroup controller");
    }
    else {
        enter_box();
        oci_fixture_open(&f);
        no_controller("while processes are in /sys/fs/cgroup itself");
        /* Without limits there are groups, threaded ones, and they end. */
        assert(attempt(IMAGE, cmd, "{}", &err) == 0);
        assert(attempt(IMAGE, cmd, "{\"pid_mode\": \"host\"}", &err) == 0);
        nothing_left();
    }
    oci_fixture_close(&f);
}

static void
case_no_runtime(void)
{
    assert(setenv("LEVRT_OCI_RUNTIME", "/none/such", 1) == 0);
    refused("LEVRT_OCI_RUNTIME|/none/such");
    assert(unsetenv("LEVRT_OCI_RUNTIME") == 0);
    assert(setenv("PATH", "/none", 1) == 0);
    refused("no OCI runtime in PATH|apt install crun|dnf install crun");
}

static void
case_no_mounts(void)
{
    drop_capability(CAP_SYS_ADMIN);
    refused("mount namespace|CAP_SYS_ADMIN");
}

/* overlayfs does not stand on itself. */
static void
case_no_overlay(void)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;

    assert(mount("tmpfs", "/mnt", "tmpfs", 0, NULL) == 0);
    assert(mkdir("/mnt/l", 0755) == 0 && mkdir("/mnt/u", 0755) == 0 &&
           mkdir("/mnt/w", 0755) == 0 && mkdir("/mnt/m", 0755) == 0);
    assert(mount("overlay", "/mnt/m", "overlay", 0,
                 "lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w") == 0);
    assert(mount("/mnt/m", "/var/tmp", NULL, MS_BIND, NULL) == 0);
    oci_fixture_open(&f);
    assert(attempt(IMAGE, cmd, "{}", &err) < 0);
    expect(&err, LEV_E_ENGINE_UNAVAILABLE, "overlayfs|choose another");
    nothing_left();
    oci_fixture_close(&f);
}

static void
no_bridge(const char *words)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;

    assert(attempt(IMAGE, cmd, "{\"network_mode\": \"bridge\"}", &err) < 0);
    expect(&err, LEV_E_ENGINE_UNAVAILABLE, words);
    nothing_left();
    assert(entries("/sys/class/net", "", "") >= 1);
}

static void
host_network(void)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_error err;

    if (attempt(IMAGE, cmd, "{\"network_mode\": \"host\"}", &err) < 0) {
        fprintf(stderr, "on the host's network: %s\n", err.msg);
        abort();
    }
}

static void
case_no_rules(void)
{
    static const char *const programs[] = {"/usr/bin/env", "/usr/bin/crun",
                                           "/usr/sbin/runc"};
    char dir[] = "/var/tmp/levrt-path-XXXXXX", to[64];
    struct lev_error err;

    assert(mkdtemp(dir) != NULL);
    for (size_t i = 0; i < LEV_ARRAY_LEN(programs); i++) {
        snprintf(to, sizeof(to), "%s%s", dir, strrchr(programs[i], '/'));
        assert(access(programs[i], X_OK) < 0 || symlink(programs[i], to) == 0);
    }
    assert(setenv("PATH", dir, 1) == 0);
    oci_fixture_open(&f);
    no_bridge("nftables|host=True|network_mode=\"none\"");
    host_network();
    oci_fixture_close(&f);
    assert(lev_tree_remove(-1, dir, &err) == 0);
}

static void
case_no_networks(void)
{
    const char *const cmd[] = {"true", NULL};
    struct lev_cgroups cg;
    struct lev_error err;

    assert(lev_cgroups_find(&cg, &err) == 0);
    drop_capability(CAP_NET_ADMIN);
    oci_fixture_open(&f);
    no_bridge("CAP_NET_ADMIN|host=True");
    if (cg.v1) {
        host_network();
    }
    else { /* it takes as much to guard devices */
        assert(attempt(IMAGE, cmd, "{}", &err) < 0);
        expect(&err, LEV_E_ENGINE_UNAVAILABLE, "devices|CAP_NET_ADMIN");
        nothing_left();
    }
    oci_fixture_close(&f);
}

static void
case_options(void)
{
    oci_fixture_open(&f);
    test_options();
    test_architecture();
    oci_fixture_close(&f);
}

static void
case_ulimits(void)
{
    drop_capability(CAP_SYS_RESOURCE);
    oci_fixture_open(&f);
    test_ulimits();
    oci_fixture_close(&f);
}

static void
run(const char *name, void (*body)(void))
{
    pid_t pid = fork();
    int status;

    assert(pid >= 0);
    if (pid == 0) {
        assert(unshare(CLONE_NEWNS | CLONE_NEWNET) == 0);
        assert(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0);
        body();
        _exit(0);
    }
    assert(waitpid(pid, &status, 0) == pid);
    if (status != 0) {
        fprintf(stderr, "%s: status %d\n", name, status);
        abort();
    }
}

int
main(void)
{
    oci_fixture_open(&f); /* skips where it cannot run */
    oci_fixture_close(&f);
    run("options", case_options);
    run("ulimits", case_ulimits);
    run("no cgroup", case_no_cgroup);
    run("no controllers", case_no_controllers);
    rmdir("/sys/fs/cgroup/levrt-box");
    run("no runtime", case_no_runtime);
    run("no mounts", case_no_mounts);
    run("no overlay", case_no_overlay);
    run("no rules", case_no_rules);
    run("no networks", case_no_networks);
    puts("ok");
    return 0;
}
