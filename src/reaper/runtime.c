/* runtime.c - the OCI runtime's program, ready to be started often.
 *
 * A container must not be able to write to the program that enters it
 * (CVE-2019-5736), so crun and runc make a copy of themselves, or a mount, and
 * execute themselves once more from there, with each start. A copy in memory
 * that is sealed is as safe, and they take it for theirs: it is made once per
 * session.
 */
#include "reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

/* Exactly these: that is what they look for. */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define ELF_MAGIC "\177ELF"

/* A script's interpreter could not open a descriptor that is closed by its
 * exec. */
static bool
is_program(int fd)
{
    char magic[4];

    return pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
           memcmp(magic, ELF_MAGIC, sizeof(magic)) == 0;
}

static bool
copy(int from, int to)
{
    struct stat st;
    off_t left;

    if (fstat(from, &st) < 0) {
        return false;
    }
    for (left = st.st_size; left > 0;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)left);

        if (n <= 0) {
            return false;
        }
        left -= n;
    }
    return true;
}

static int
sealed_copy(const char *path)
{
    _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int to = -1;

    if (from < 0 || !is_program(from)) {
        return -1;
    }
    to = memfd_create("runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0 || !copy(from, to) || fchmod(to, 0555) < 0 ||
        fcntl(to, F_ADD_SEALS, SEALS) < 0)
    {
        return -1;
    }
    return lev_steal_fd(&to);
}

void
runtime_seal(struct reaper *r)
{
    const char *name = strrchr(r->runtime, '/');
    char path[LEV_PATH_MAX], target[64];

    r->runtime_fd = sealed_copy(r->runtime);
    if (r->runtime_fd < 0) {
        return; /* then it does what it did anyway */
    }
    /* By a link of its name: as that it appears among the processes. */
    reaper_path(r, path, "state/%s", name == NULL ? r->runtime : name + 1);
    snprintf(target, sizeof(target), "/proc/self/fd/%d", r->runtime_fd);
    if (symlink(target, path) < 0 || (r->sealed = strdup(path)) == NULL) {
        lev_closep(&r->runtime_fd);
    }
}
