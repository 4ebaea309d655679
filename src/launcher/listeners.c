#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Of <netinet/tcp.h>, and of the state column of /proc/net/tcp. */
#define STATE_LISTEN 10

void
lev_listeners_deinit(struct lev_listeners *l)
{
    free(l->items);
    memset(l, 0, sizeof(*l));
}

static int
add(struct lev_listeners *l, uint16_t port, uint64_t inode,
    struct lev_error *err)
{
    if (l->len == l->cap) {
        size_t cap = l->cap != 0 ? 2 * l->cap : 32;
        struct lev_listener *items = realloc(l->items, cap * sizeof(*items));

        if (items == NULL) {
            return lev_error_nomem(err, "listening sockets");
        }
        l->items = items;
        l->cap = cap;
    }
    l->items[l->len++] = (struct lev_listener){port, inode};
    return 0;
}

/* Docker's resolver listens inside of its containers: not a tool's port. */
static int
is_resolver(const struct inet_diag_msg *m)
{
    return m->idiag_family == AF_INET &&
           m->id.idiag_src[0] == htonl(0x7f00000b); /* 127.0.0.11 */
}

/* 1: the dump has ended; 0: there is more. */
static int
take_messages(struct lev_listeners *l, const void *data, size_t len,
              struct lev_error *err)
{
    const struct nlmsghdr *h = data;

    for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
        const struct inet_diag_msg *m = NLMSG_DATA(h);

        if (h->nlmsg_type == NLMSG_DONE) {
            return 1;
        }
        if (h->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *e = NLMSG_DATA(h);

            errno = -e->error;
            return lev_error_errno(err, "sock_diag");
        }
        if (m->idiag_state == STATE_LISTEN && !is_resolver(m) &&
            add(l, ntohs(m->id.idiag_sport), m->idiag_inode, err) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
dump_family(int fd, int family, struct lev_listeners *l, struct lev_error *err)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 req;
    } ask = {
        .head = {.nlmsg_len = sizeof(ask),
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .req = {.sdiag_family = (uint8_t)family,
                .sdiag_protocol = IPPROTO_TCP,
                .idiag_states = 1u << STATE_LISTEN},
    };
    union {
        struct nlmsghdr head; /* for its alignment */
        char bytes[16384];
    } answer;

    if (send(fd, &ask, sizeof(ask), 0) < 0) {
        return lev_error_errno(err, "sock_diag");
    }
    for (;;) {
        ssize_t n = recv(fd, &answer, sizeof(answer), 0);
        int rc;

        if (n <= 0) {
            return lev_error_errno(err, "sock_diag");
        }
        rc = take_messages(l, &answer, (size_t)n, err);
        if (rc != 0) {
            return rc > 0 ? 0 : -1;
        }
    }
}

static int
scan_netlink(struct lev_listeners *l, struct lev_error *err)
{
    _cleanup_close_ int fd =
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd < 0) {
        return lev_error_errno(err, "sock_diag");
    }
    if (dump_family(fd, AF_INET, l, err) < 0) {
        return -1;
    }
    return dump_family(fd, AF_INET6, l, err);
}

/* "  0: 0100007F:1F90 00000000:0000 0A …uid timeout inode …" */
static int
take_line(struct lev_listeners *l, const char *line, struct lev_error *err)
{
    unsigned int port, state;
    uint64_t inode;
    int n = sscanf(line,
                   " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s "
                   "%*u %*u %" SCNu64,
                   &port, &state, &inode);

    if (n != 3 || state != STATE_LISTEN) {
        return 0; /* the heading, or a connection */
    }
    return add(l, (uint16_t)port, inode, err);
}

static int
scan_file(const char *path, struct lev_listeners *l, struct lev_error *err)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char line[512];

    if (f == NULL) {
        return lev_error_errno(err, "%s", path);
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        if (take_line(l, line, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_listeners_scan(struct lev_listeners *l, struct lev_error *err)
{
    struct lev_error refused;

    l->len = 0;
    if (scan_netlink(l, &refused) == 0) {
        return 0;
    }
    l->len = 0;
    if (scan_file("/proc/net/tcp", l, err) < 0) {
        return lev_error_wrap(err, "%s, and no way around it", refused.msg);
    }
    if (scan_file("/proc/net/tcp6", l, err) < 0 && err->detail != ENOENT) {
        return -1;
    }
    return 0; /* ENOENT: a kernel without IPv6 */
}

/* Marks by a swap to the front: items[0 … *kept) are owned. */
static void
claim(struct lev_listeners *l, size_t *kept, uint64_t inode)
{
    for (size_t i = *kept; i < l->len; i++) {
        if (l->items[i].inode == inode) {
            struct lev_listener owned = l->items[i];

            l->items[i] = l->items[*kept];
            l->items[(*kept)++] = owned;
            return;
        }
    }
}

static void
closedirp(DIR **dir)
{
    if (*dir != NULL) {
        closedir(*dir);
    }
}

/* Processes come and go meanwhile: what cannot be read holds nothing. */
static void
claim_of_process(const char *pid, struct lev_listeners *l, size_t *kept)
{
    char path[300];
    _cleanup_(closedirp) DIR *dir = NULL;
    struct dirent *e;

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    dir = opendir(path);
    while (dir != NULL && *kept < l->len && (e = readdir(dir)) != NULL) {
        char target[64];
        uint64_t inode;
        ssize_t n =
            readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

        if (n > 0) {
            target[n] = '\0';
            if (sscanf(target, "socket:[%" SCNu64 "]", &inode) == 1) {
                claim(l, kept, inode);
            }
        }
    }
}

int
lev_listeners_keep_owned(struct lev_listeners *l, struct lev_error *err)
{
    _cleanup_(closedirp) DIR *proc = opendir("/proc");
    struct dirent *e;
    size_t kept = 0;

    if (proc == NULL) {
        return lev_error_errno(err, "/proc, for the owners of the sockets");
    }
    while (kept < l->len && (e = readdir(proc)) != NULL) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9') {
            claim_of_process(e->d_name, l, &kept);
        }
    }
    l->len = kept;
    return 0;
}
