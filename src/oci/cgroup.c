#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define DEPTH_MAX 32 /* a container can nest them; deeper ones are left */

static long
magic_of(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) < 0 ? 0 : (long)fs.f_type;
}

static void
closedirp(DIR **dir)
{
    if (*dir != NULL) {
        closedir(*dir);
    }
}
#define _cleanup_dir_ _cleanup_(closedirp)

static bool
add_root(struct lev_cgroups *cg, const char *name)
{
    if (cg->n == LEV_HIERARCHIES_MAX ||
        snprintf(cg->roots[cg->n], sizeof(cg->roots[0]), ROOT "%s%s",
                 *name == '\0' ? "" : "/", name) >= (int)sizeof(cg->roots[0]))
    {
        return false;
    }
    cg->n++;
    return true;
}

/* A mount of one controller may have a second name (cpu, cpu,cpuacct): links
 * are passed over. */
static void
add_v1_roots(struct lev_cgroups *cg, DIR *dir)
{
    struct dirent *entry;

    while ((entry = readdir(dir)) != NULL) {
        char path[512];

        if (entry->d_name[0] == '.' || entry->d_type == DT_LNK) {
            continue;
        }
        snprintf(path, sizeof(path), ROOT "/%s", entry->d_name);
        if (magic_of(path) == CGROUP_SUPER_MAGIC) {
            add_root(cg, entry->d_name);
        }
    }
}

static bool
has_file(const char *dir, const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* v1 has the counters in its root, too; v2 only below it. */
static void
find_memory(struct lev_cgroups *cg)
{
    for (size_t i = 0; i < cg->n; i++) {
        cg->counts_memory[i] =
            (int)i == cg->unified ||
            has_file(cg->roots[i], "memory.max_usage_in_bytes");
    }
}

int
lev_cgroups_find(struct lev_cgroups *cg, struct lev_error *err)
{
    _cleanup_dir_ DIR *dir = NULL;

    *cg = (struct lev_cgroups){.unified = -1};
    if (magic_of(ROOT) == CGROUP2_SUPER_MAGIC) {
        cg->unified = 0;
        add_root(cg, "");
        find_memory(cg);
        return 0;
    }
    dir = opendir(ROOT);
    if (dir != NULL) {
        add_v1_roots(cg, dir);
    }
    if (cg->n == 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, 0,
                             "there are no cgroups at " ROOT
                             ": mount cgroup2 there");
    }
    cg->v1 = true;
    if (magic_of(ROOT "/unified") == CGROUP2_SUPER_MAGIC) {
        cg->unified = (int)cg->n;
        add_root(cg, "unified");
    }
    find_memory(cg);
    return 0;
}

static bool
write_text(const char *dir, const char *file, const char *text)
{
    _cleanup_close_ int fd = -1;
    char path[4200];

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static int64_t
read_number(const char *dir, const char *file)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[4200];
    long long n;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    f = fopen(path, "re");
    return f != NULL && fscanf(f, "%lld", &n) == 1 ? n : -1;
}

/* True when the words in the file are in a line, and this is one of them. */
static bool
has_word(const char *dir, const char *file, const char *word)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[4200], one[64];

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    f = fopen(path, "re");
    while (f != NULL && fscanf(f, "%63s", one) == 1) {
        if (strcmp(one, word) == 0) {
            return true;
        }
    }
    return false;
}

/* The number after `key` in a file of "key number" lines. */
static int64_t
read_member(const char *dir, const char *file, const char *key)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[4200], name[64];
    long long n;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    f = fopen(path, "re");
    while (f != NULL && fscanf(f, "%63s %lld", name, &n) == 2) {
        if (strcmp(name, key) == 0) {
            return n;
        }
    }
    return -1;
}

/* The list of who is in the group. A threaded one (cgroup v2, where processes
 * were in the way of more) tells of its threads alone, and each stands for its
 * process. */
static FILE *
open_members(const char *path)
{
    char file[4200];
    FILE *f;
    int c;

    snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    f = fopen(file, "re");
    if (f == NULL) {
        return NULL;
    }
    errno = 0;
    c = fgetc(f);
    if (c != EOF) {
        ungetc(c, f);
    }
    else if (errno == EOPNOTSUPP) {
        fclose(f);
        snprintf(file, sizeof(file), "%s/cgroup.threads", path);
        f = fopen(file, "re");
    }
    return f;
}

static bool
has_no_members(const char *path)
{
    _cleanup_fclose_ FILE *f = open_members(path);
    int pid;

    return f == NULL || fscanf(f, "%d", &pid) != 1;
}

/* What a container sees as the root is none to the kernel (that has no type):
 * while processes are in it, some controllers are refused, and others turn all
 * groups below into threaded ones. */
static bool
root_is_in_the_way(void)
{
    return access(ROOT "/cgroup.type", F_OK) == 0 && !has_no_members(ROOT);
}

/* One by one: a single write of all is refused for the one that is not there.
 */
void
lev_cgroups_enable(const struct lev_cgroups *cg)
{
    static const char *const wanted[] = {"+cpu", "+cpuset", "+io", "+memory",
                                         "+pids"};

    if (cg->v1 || root_is_in_the_way()) {
        return;
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(wanted); i++) {
        write_text(ROOT, "cgroup.subtree_control", wanted[i]);
    }
}

int
lev_cgroups_require(const struct lev_cgroups *cg, const char *controller,
                    const char *option, struct lev_error *err)
{
    char path[64];

    snprintf(path, sizeof(path), ROOT "/%s/cgroup.procs", controller);
    if (cg->v1 ? access(path, F_OK) == 0
               : has_word(ROOT, "cgroup.subtree_control", controller))
    {
        return 0;
    }
    if (!cg->v1 && has_word(ROOT, "cgroup.controllers", controller)) {
        return lev_error_set(
            err, LEV_E_UNSUPPORTED_OPTION, 0,
            "engine oci: option '%s': no group can have the cgroup "
            "controller '%s' while processes are in " ROOT
            " itself, as in a container: move them to one below it "
            "(mkdir " ROOT "/init, then write each pid to its cgroup.procs)",
            option, controller);
    }
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "engine oci: option '%s': this machine has no cgroup "
                         "controller '%s': its kernel lacks it, or was booted "
                         "with cgroup_disable, or this is a container that "
                         "was not given it",
                         option, controller);
}

/* Calls `fn` for the directory and all below it, the deepest first; true when
 * all of them were. */
static bool
walk(const char *path, int depth, bool (*fn)(const char *path))
{
    _cleanup_dir_ DIR *dir = opendir(path);
    struct dirent *entry;
    bool all = true;

    if (dir == NULL) {
        return true;
    }
    while ((entry = readdir(dir)) != NULL) {
        char sub[4096];

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
            depth >= DEPTH_MAX ||
            snprintf(sub, sizeof(sub), "%s/%s", path, entry->d_name) >=
                (int)sizeof(sub))
        {
            continue;
        }
        all &= walk(sub, depth + 1, fn);
    }
    return fn(path) && all;
}

static bool
each_hierarchy(const struct lev_cgroups *cg, const char *path,
               bool (*fn)(const char *path))
{
    bool all = true;

    for (size_t i = 0; i < cg->n; i++) {
        char dir[4096];

        snprintf(dir, sizeof(dir), "%s/%s", cg->roots[i], path);
        all &= walk(dir, 0, fn);
    }
    return all;
}

static bool
kill_members(const char *path)
{
    _cleanup_fclose_ FILE *f = open_members(path);
    int pid;

    while (f != NULL && fscanf(f, "%d", &pid) == 1) {
        if (pid > 0) {
            kill(pid, SIGKILL);
        }
    }
    return true;
}

/* A frozen process takes its SIGKILL when it is thawed. */
static bool
thaw(const char *path)
{
    write_text(path, "freezer.state", "THAWED");
    write_text(path, "cgroup.freeze", "0");
    return true;
}

bool
lev_cgroup_kill_at_once(const struct lev_cgroups *cg, const char *path)
{
    char unified[4096];

    if (cg->unified < 0) {
        return false;
    }
    snprintf(unified, sizeof(unified), "%s/%s", cg->roots[cg->unified], path);
    return write_text(unified, "cgroup.kill", "1");
}

void
lev_cgroup_kill(const struct lev_cgroups *cg, const char *path)
{
    lev_cgroup_kill_at_once(cg, path);
    each_hierarchy(cg, path, kill_members);
    each_hierarchy(cg, path, thaw);
}

bool
lev_cgroup_is_empty(const struct lev_cgroups *cg, const char *path)
{
    return each_hierarchy(cg, path, has_no_members);
}

int
lev_cgroup_freeze(const struct lev_cgroups *cg, const char *path, bool freeze,
                  struct lev_error *err)
{
    for (size_t i = 0; i < cg->n; i++) {
        char dir[4096];

        snprintf(dir, sizeof(dir), "%s/%s", cg->roots[i], path);
        if (cg->v1 ? write_text(dir, "freezer.state",
                                freeze ? "FROZEN" : "THAWED")
                   : write_text(dir, "cgroup.freeze", freeze ? "1" : "0"))
        {
            return 0;
        }
    }
    return lev_error_set(err, LEV_E_ENGINE, 0,
                         "cannot %s: no freezer among this machine's cgroups",
                         freeze ? "pause" : "unpause");
}

void
lev_cgroup_memory(const struct lev_cgroups *cg, const char *path,
                  int64_t *peak, bool *oom_killed)
{
    *peak = -1;
    *oom_killed = false;
    for (size_t i = 0; i < cg->n; i++) {
        bool v2 = (int)i == cg->unified;
        int64_t bytes, kills;
        char dir[4096];

        if (!cg->counts_memory[i]) {
            continue;
        }
        snprintf(dir, sizeof(dir), "%s/%s", cg->roots[i], path);
        bytes =
            read_number(dir, v2 ? "memory.peak" : "memory.max_usage_in_bytes");
        kills = read_member(dir, v2 ? "memory.events" : "memory.oom_control",
                            "oom_kill");
        *peak = bytes > *peak ? bytes : *peak;
        *oom_killed |= kills > 0;
    }
}

static bool
remove_one(const char *path)
{
    return rmdir(path) == 0 || errno == ENOENT;
}

/* To look what is below is dear: a group of a container is full of files. */
bool
lev_cgroup_remove(const struct lev_cgroups *cg, const char *path)
{
    bool all = true;

    for (size_t i = 0; i < cg->n; i++) {
        char dir[4096];

        snprintf(dir, sizeof(dir), "%s/%s", cg->roots[i], path);
        all &= remove_one(dir) || walk(dir, 0, remove_one);
    }
    return all;
}
