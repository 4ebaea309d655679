#include "reaper.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

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

void
sweep_names(struct reaper *r, int session)
{
    int fd = openat(session, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    char name[300];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof(name), "names/%s", entry->d_name);
            unlinkat(r->store_fd, name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* Who holds the lock lives; the lock goes with the process, whatever ends it.
 */
static void
sweep_one(struct reaper *r, int sessions, const char *tag)
{
    _cleanup_close_ int session =
        openat(sessions, tag, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int lock = -1;
    struct lev_error err;

    lock = session < 0 ? -1 : openat(session, "lock", O_RDWR | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0 ||
        !sweep_cgroups(&r->cgroups, tag))
    {
        return;
    }
    lev_net_sweep(tag);
    sweep_names(r, session);
    lev_tree_remove(sessions, tag, &err); /* what is left: the next one */
}

void
sweep_dead(struct reaper *r)
{
    int fd =
        openat(r->store_fd, "sessions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, r->tag) != 0 &&
            strlen(entry->d_name) <= LEV_TAG_MAX)
        {
            sweep_one(r, dirfd(dir), entry->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}
