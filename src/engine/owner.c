#include "owner.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "sha256.h"

static void
read_line(const char *path, char *text, size_t size)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");

    if (f == NULL || fgets(text, (int)size, f) == NULL) {
        text[0] = '\0';
    }
    text[strcspn(text, "\n")] = '\0';
}

/* Its state ('\0': there is no such process) and start. */
static char
read_process(pid_t pid, uint64_t *start)
{
    _cleanup_fclose_ FILE *f = NULL;
    char path[64], text[1024] = "", state = '\0';
    const char *rest;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f == NULL) {
        return '\0';
    }
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    rest = strrchr(text, ')'); /* its name may have any character */
    /* Fields 3 and 22. */
    if (rest == NULL ||
        sscanf(rest + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
               "%*d %*d %*d %*d %" SCNu64,
               &state, start) != 2)
    {
        return '\0';
    }
    return state;
}

/* The machine's id is not for others to see, and images of machines that were
 * copied share it: its hash, with the machine's name. */
static void
read_host(char host[17])
{
    struct lev_sha256 hash;
    struct utsname name;
    char id[64], hex[65];

    read_line("/etc/machine-id", id, sizeof(id));
    host[0] = '\0';
    if (id[0] == '\0' || uname(&name) < 0) {
        return;
    }
    lev_sha256_init(&hash);
    lev_sha256_update(&hash, "levrt", 5);
    lev_sha256_update(&hash, id, strlen(id));
    lev_sha256_update(&hash, name.nodename, strlen(name.nodename));
    lev_sha256_hex(&hash, hex);
    snprintf(host, 17, "%.16s", hex);
}

void
lev_owner_self(struct lev_owner *self)
{
    struct stat st;

    *self = (struct lev_owner){.pid = getpid()};
    read_process(self->pid, &self->start);
    if (stat("/proc/self/ns/pid", &st) == 0) {
        self->namespace = st.st_ino;
    }
    read_line("/proc/sys/kernel/random/boot_id", self->boot,
              sizeof(self->boot));
    read_host(self->host);
}

void
lev_owner_pid_text(const struct lev_owner *owner, char text[64])
{
    snprintf(text, 64, "%d:%" PRIu64 ":%" PRIu64, (int)owner->pid,
             owner->start, owner->namespace);
}

const char *
lev_label(char *const *labels, const char *key)
{
    size_t len = strlen(key);

    for (; labels != NULL && *labels != NULL; labels++) {
        if (strncmp(*labels, key, len) == 0 && (*labels)[len] == '=') {
            return *labels + len + 1;
        }
    }
    return NULL;
}

static enum lev_owner_state
judge_expiry(char *const *labels, int64_t now, char why[100])
{
    const char *text = lev_label(labels, LEV_LABEL_EXPIRES);
    char *end;
    long long expires = text == NULL ? 0 : strtoll(text, &end, 10);

    if (text == NULL || *end != '\0' || expires <= 0 || now <= expires) {
        return LEV_OWNER_UNKNOWN;
    }
    snprintf(why, 100, "it has expired");
    return LEV_OWNER_DEAD;
}

static enum lev_owner_state
judge_process(int pid, uint64_t start, char why[100])
{
    uint64_t theirs = 0;
    char state = read_process(pid, &theirs);

    if (state == '\0' || state == 'Z' || state == 'X') {
        snprintf(why, 100, "its process %d is gone", pid);
        return LEV_OWNER_DEAD;
    }
    if (theirs != start) {
        snprintf(why, 100, "its process is gone, %d is another one now", pid);
        return LEV_OWNER_DEAD;
    }
    return LEV_OWNER_ALIVE;
}

enum lev_owner_state
lev_owner_judge(const struct lev_owner *self, char *const *labels, int64_t now,
                char why[100])
{
    const char *session = lev_label(labels, LEV_LABEL_SESSION);
    const char *pid_text = lev_label(labels, LEV_LABEL_PID);
    const char *boot = lev_label(labels, LEV_LABEL_BOOT);
    const char *host = lev_label(labels, LEV_LABEL_HOST);
    uint64_t start, namespace;
    int pid;

    if (session == NULL || *session == '\0') {
        return LEV_OWNER_NONE;
    }
    if (boot == NULL || *boot == '\0' || self->boot[0] == '\0') {
        return judge_expiry(labels, now, why);
    }
    if (strcmp(boot, self->boot) != 0) {
        /* A boot that is not ours has ended only when it was this machine's.
         */
        if (host == NULL || *host == '\0' || strcmp(host, self->host) != 0) {
            return judge_expiry(labels, now, why);
        }
        snprintf(why, 100, "the machine was started anew since");
        return LEV_OWNER_DEAD;
    }
    if (pid_text == NULL ||
        sscanf(pid_text, "%d:%" SCNu64 ":%" SCNu64, &pid, &start,
               &namespace) != 3 ||
        pid <= 0 || start == 0 || namespace != self->namespace)
    {
        return judge_expiry(labels, now, why);
    }
    return judge_process(pid, start, why);
}
