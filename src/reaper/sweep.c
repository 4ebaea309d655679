#include "reaper.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>

#include "tree.h"

#define KILL_ROUNDS 400
#define ROUND_NAP (5 * LEV_MS)

bool
sweep_cgroups(const struct lev_cgroups *cg, const char *tag)
{
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_error err;
    char path[64];

    snprintf(path, sizeof(path), "levrt-%s", tag);
    for (int i = 0; i < KILL_ROUNDS; i++) {
        lev_cgroup_kill(cg, path);
        if (lev_cgroup_is_empty(cg, path) && lev_cgroup_remove(cg, path)) {
            return true;
        }
        lev_scope_sleep(&forever, ROUND_NAP, &err);
    }
    return false;
}

/* By what they lead to: one that was killed may have taken a name and not have
 * come to make what has it. */
void
sweep_names(struct reaper *r, const char *tag)
{
    int fd = openat(r->store_fd, "names", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    char target[512], start[64];
    ssize_t n;

    snprintf(start, sizeof(start), "../sessions/%s/", tag);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);
        if (n > 0 && (size_t)n > strlen(start) &&
            strncmp(target, start, strlen(start)) == 0)
        {
            unlinkat(fd, entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* ---- for who wants to know ---- */

/* Containers have meta.json in a directory, networks are such files. */
static json_t *
read_note(int dir, const char *name, const char *file)
{
    _cleanup_close_ int fd = -1;
    char path[300], text[32768];
    struct lev_error none;
    ssize_t n;

    snprintf(path, sizeof(path), "%s%s", name, file);
    fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    return n <= 0 ? NULL : lev_json_parse(text, (size_t)n, path, &none);
}

static void
report_kind(int session, const char *below, const char *kind, const char *file,
            json_t *found)
{
    int fd = openat(session, below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        _cleanup_json_ json_t *note = NULL;
        const char *id;

        if (entry->d_name[0] == '.') {
            continue;
        }
        note = read_note(fd, entry->d_name, file);
        id = json_string_value(
            json_object_get(lev_json_get(note, "labels"), "zone.lev.session"));
        json_array_append_new(found,
                              json_pack("{s:s, s:s, s:s, s:b}", "kind", kind,
                                        "name", entry->d_name, "session",
                                        id == NULL ? "" : id, "removed", 0));
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void
mark_removed(json_t *found, size_t from)
{
    for (size_t i = from; i < json_array_size(found); i++) {
        json_object_set_new(json_array_get(found, i), "removed", json_true());
    }
}

/* ---- sweeping ---- */

/* Who holds the lock lives; the lock goes with the process, whatever ends it.
 */
static void
sweep_one(struct reaper *r, int sessions, const char *tag,
          const struct sweep_report *report)
{
    _cleanup_close_ int session =
        openat(sessions, tag, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int lock = -1;
    size_t before = 0;
    struct lev_error err;

    lock = session < 0 ? -1 : openat(session, "lock", O_RDWR | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
        return;
    }
    if (report != NULL) {
        before = json_array_size(report->found);
        report_kind(session, "containers", "container", "/meta.json",
                    report->found);
        report_kind(session, "networks", "network", "", report->found);
    }
    if ((report != NULL && report->dry) || !sweep_cgroups(&r->cgroups, tag)) {
        return;
    }
    lev_net_sweep(tag);
    sweep_names(r, tag);
    if (lev_tree_remove(sessions, tag, &err) == 0 && report != NULL) {
        mark_removed(report->found, before); /* else: the next one's turn */
    }
}

void
sweep_dead(struct reaper *r, const struct sweep_report *report)
{
    int fd =
        openat(r->store_fd, "sessions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, r->tag) != 0 &&
            strlen(entry->d_name) <= LEV_TAG_MAX)
        {
            sweep_one(r, dirfd(dir), entry->d_name, report);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* Nothing of this session's is kept open: its lock, ports, or whom it has to
 * tell of an end. */
static _Noreturn void
sweep_in_child(struct reaper *r)
{
    if (dup2(r->store_fd, LEV_HELPER_SOCKET) < 0 ||
        close_range(LEV_HELPER_SOCKET + 1, ~0u, 0) < 0)
    {
        _exit(1);
    }
    r->store_fd = LEV_HELPER_SOCKET;
    if (r->hybrid &&
        (unshare(CLONE_NEWNS) < 0 || umount2(LEV_UNIFIED, MNT_DETACH) < 0))
    {
        _exit(1);
    }
    sweep_dead(r, NULL);
    _exit(0);
}

void
sweep_aside(struct reaper *r)
{
    if (fork() == 0) {
        sweep_in_child(r);
    }
}
