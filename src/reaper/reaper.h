/* reaper.h - the helper of one session.
 *
 *   main.c       its surroundings, the poll loop, the end
 *   request.c    what the engine asks for (helper.h tells the messages)
 *   container.c  a container's mounts, namespaces and cgroups, and their end
 *   ports.c      its published ports
 *   process.c    starting the runtime, and what becomes of what it starts
 *   runtime.c    the runtime's program
 *   sweep.c      what dead sessions have left
 *   watch.c      instead of all this, where containers are a daemon's
 *
 * One thread. It is in a session, a mount namespace and, once a network is
 * asked for, beside a network namespace of its own, and it is the subreaper of
 * all that it starts: a container's first process is its child and cannot
 * vanish unseen. What the runtime notes about containers is only ever removed,
 * never believed: a runtime that is killed leaves containers it does not know.
 */
#ifndef LEV_REAPER_H
#define LEV_REAPER_H

#include <signal.h>

#include "cgroup.h"
#include "helper.h"
#include "network.h"

#define LEV_ENDED_MAX 256
#define LEV_PLACES_MAX 8 /* networks of one container */
#define LEV_ADOPTED_MAX 16
#define LEV_UNIFIED "/sys/fs/cgroup/unified"

struct reaper;
struct container;

/* A process in a container: its first one, or an exec. */
struct process {
    struct process *next;
    struct container *container;
    unsigned number; /* 0: the first one */
    pid_t runtime;   /* of crun, while it starts the process; else 0 */
    pid_t pid;       /* while it lives; else 0 */
    int exit_fd;     /* where its end is told; -1 */
    int reply_fd;    /* who waits for its start; -1 */
    bool doomed;     /* to be killed as soon as it is known */
};

struct container {
    struct container *next;
    struct reaper *reaper;
    char *name;
    int ns; /* network namespace, or -1 */
    struct lev_net_place places[LEV_PLACES_MAX];
    size_t places_n;
    struct lev_published *ports;
    int *held; /* a descriptor per port */
    size_t ports_n;
    enum { CREATED, STARTING, RUNNING, ENDED } state;
    bool paused, removing, mounted;
    bool shares_pids; /* the end of its first process ends nobody else */
    unsigned steps, next_kill; /* of its removal */
    int *waiting;              /* who asked for it */
    size_t waiting_n;
    int code, oom;
    int64_t peak, started, finished;
    pid_t pid;
    uint64_t signals; /* a bit for each that waits for the init */
    struct process *processes;
};

struct reaper {
    char *dir; /* of the store, absolute */
    char tag[LEV_TAG_MAX + 1];
    char *session_dir; /* dir/sessions/TAG */
    const char *runtime;
    char *sealed; /* a copy of it that nobody can write to; or NULL */
    int runtime_fd;
    int store_fd, session_fd, lock_fd;
    int sock, workflow, signals;
    struct lev_cgroups cgroups;
    bool gc_only; /* nothing is run, nor swept unasked */
    bool hybrid;  /* the unified hierarchy is bound to a group of ours */
    struct lev_net *net;
    struct container *containers;
    char *adopted[LEV_ADOPTED_MAX]; /* directories of the workflow's */
    size_t adopted_n;
    struct {
        pid_t pid;
        int status;
    } ended[LEV_ENDED_MAX]; /* children that nobody has asked for yet */
    size_t ended_n;
    bool stopping;
};

/* Text in a buffer of the callee's choice: "%s/…" below the session's
 * directory. */
#define LEV_PATH_MAX 4096
void reaper_path(const struct reaper *r, char path[LEV_PATH_MAX],
                 const char *fmt, ...) LEV_PRINTF(3, 4);
int64_t reaper_wall_ms(void);

/* ---- request.c ---- */
void request_serve(struct reaper *r, struct lev_packet *p);
/* Answers and closes; `body` is consumed. -1 as `fd` is nobody. */
void reply(int fd, json_t *body, int extra_fd);
void reply_error(int fd, const struct lev_error *err);

/* ---- container.c ---- */
struct container *container_find(const struct reaper *r, const char *name);
int container_create(struct reaper *r, const json_t *request, int *root_fd,
                     json_t **answer, struct lev_error *err);
void container_path(const struct container *c, char path[LEV_PATH_MAX]);
/* "levrt-TAG/NAME" */
void container_cgroup(const struct container *c, char path[LEV_PATH_MAX]);
/* One that has ended can be started again: its files, addresses and ports are
 * what they were, its cgroups and what the runtime noted are new. */
int container_renew(struct container *c, struct lev_error *err);
/* To its init, or later when that does not listen yet. */
int container_signal(struct container *c, int signo, struct lev_error *err);
/* Hands on what waits; true while something still does. */
bool container_deliver(struct container *c);
void container_remove(struct container *c, int reply_fd);
/* Goes on with its removal; true when it is gone (and freed). */
bool container_step(struct container *c);

/* ---- ports.c ---- */
/* Takes what the request wants published; `list` gets it as it is then. */
int ports_publish(struct container *c, const json_t *request, json_t *list,
                  struct lev_error *err);
void ports_withdraw(struct container *c);

/* ---- process.c ---- */
int process_start(struct container *c, unsigned number, const int fds[4],
                  int reply_fd, struct lev_error *err);
void process_reap(struct reaper *r);
struct process *process_first(const struct container *c);
void process_kill(struct process *p);

/* ---- runtime.c ---- */
void runtime_seal(struct reaper *r);

/* ---- sweep.c ---- */
struct sweep_report {
    json_t
        *found; /* an array that is added to: {kind, name, session, removed} */
    bool dry;   /* nothing is removed */
};

/* Of all sessions whose reaper is gone; `report` may be NULL. */
void sweep_dead(struct reaper *r, const struct sweep_report *report);
/* The same in a child, which nobody waits for. */
void sweep_aside(struct reaper *r);
/* Gives back the names of a session's containers. */
void sweep_names(struct reaper *r, const char *tag);
/* Kills and removes all groups of a session; false when one stays busy. */
bool sweep_cgroups(const struct lev_cgroups *cg, const char *tag);

#endif
