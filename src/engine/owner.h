/* owner.h - whose a container, network or image is, and whether that one still
 * lives: what the labels of levrt say.
 *
 *   zone.lev.session  the session's id
 *   zone.lev.pid      PID:START:NAMESPACE of the workflow's process: its start
 *                     as in /proc/PID/stat, and its pid namespace, since one
 *                     engine may serve containers that have pids of their own
 *   zone.lev.boot     the start of the machine (boot_id)
 *   zone.lev.host     which machine: an engine may serve several
 *   zone.lev.expires  seconds since the epoch, after which it may go also
 *                     where nobody can tell whether its workflow lives
 *   zone.lev.keep     it stays, whatever becomes of its session
 *   zone.lev.name     a container's own name, as its engine was asked for it:
 *                     what somebody makes of an image of one inherits its
 *                     labels, and is not levrt's
 *   zone.lev.role     what it is for; an image is levrt's when it is "files"
 *
 * Any thread.
 */
#ifndef LEV_OWNER_H
#define LEV_OWNER_H

#include "error.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LEV_LABEL_SESSION "zone.lev.session"
#define LEV_LABEL_PID "zone.lev.pid"
#define LEV_LABEL_BOOT "zone.lev.boot"
#define LEV_LABEL_HOST "zone.lev.host"
#define LEV_LABEL_EXPIRES "zone.lev.expires"
#define LEV_LABEL_KEEP "zone.lev.keep"
#define LEV_LABEL_NAME "zone.lev.name"
#define LEV_LABEL_ROLE "zone.lev.role"

struct lev_owner {
    pid_t pid;
    uint64_t start;     /* ticks since the machine's start; 0: not known */
    uint64_t namespace; /* inode of the pid namespace; 0: not known */
    char boot[40];      /* "" where /proc does not say */
    char host[17];      /* "" where the machine has no id */
};

enum lev_owner_state {
    LEV_OWNER_NONE,    /* nothing of levrt's */
    LEV_OWNER_ALIVE,   /* its workflow runs */
    LEV_OWNER_DEAD,    /* it does not, and never will */
    LEV_OWNER_UNKNOWN, /* another machine's or namespace's, not expired */
};

/* This process. */
void lev_owner_self(struct lev_owner *self);
/* The value of LEV_LABEL_PID. */
void lev_owner_pid_text(const struct lev_owner *owner, char text[64]);
/* `labels`: "K=V", ends with NULL; may be NULL. `now`: seconds since the
 * epoch. `why` (100 bytes) says it in words when DEAD. */
enum lev_owner_state lev_owner_judge(const struct lev_owner *self,
                                     char *const *labels, int64_t now,
                                     char why[100]);
/* The value of `key`, or NULL; borrowed. */
const char *lev_label(char *const *labels, const char *key);

#endif
