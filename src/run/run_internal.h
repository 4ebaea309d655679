/* run_internal.h - a run's members, for the files that carry it out:
 *
 *   run.c      the thread, what others may ask for, teardown
 *   bringup.c  the steps from the engine to the running container
 *   image.c    which image it is, and that it is there
 *   guest.c    the runtime bundle and the channel, for entries
 *   files.c    what is copied into it
 *   readiness.c  the probe of its ports
 *   serve.c    the poll loop: output, guest channel, probe, exit
 *   services.c the runs below it
 *   verdict.c  how it ended, in words
 *   record.c   what the store keeps of it
 *
 * Members are of the run's thread alone but for those marked "mutex".
 */
#ifndef LEV_RUN_INTERNAL_H
#define LEV_RUN_INTERNAL_H

#include "channel.h"
#include "images.h"
#include "run.h"
#include "runlog.h"
#include "words.h"
#include "worker.h"

#define LEV_TAIL_SIZE 4096
#define LEV_LINE_MAX 4096

struct lev_log_waiter {
    uint64_t pos;
    void (*fn)(void *ctx);
    void *ctx;
    struct lev_log_waiter *next;
};

/* Output of one stream, cut into lines for the log. */
struct lev_lines {
    char data[LEV_LINE_MAX];
    size_t len;
};

struct lev_service {
    struct lev_run *run;   /* of the service */
    struct lev_run *owner; /* whose service it is */
    const char *alias;
    bool ready;             /* owner's mutex */
    struct lev_error death; /* owner's mutex: what its owner fails with */
};

struct lev_run {
    struct lev_session *session;
    struct lev_run_spec *spec;
    struct lev_run_callbacks callbacks;
    struct lev_member member;
    struct lev_job job; /* of its thread */
    struct lev_site *site;
    const struct lev_engine_ops *ops; /* the site's engine's */
    struct lev_engine *engine;
    atomic_int refs;
    unsigned number;
    char name[128];

    struct lev_cancel cancel;      /* stop: the scope of bring-up and main */
    struct lev_cancel bringing_up; /* a child of it: or a service has died */
    struct lev_cancel hurry;       /* the grace is over */

    pthread_mutex_t mutex;
    int64_t grace;              /* mutex */
    bool stop_asked;            /* mutex */
    bool stop_failure;          /* mutex */
    bool leave;                 /* mutex: it is kept, and runs on */
    bool running;               /* mutex: signals may be sent */
    bool ended;                 /* mutex */
    char *id;                   /* mutex: of the container */
    char address[64];           /* set before ready */
    struct lev_port *published; /* likewise */
    size_t published_n;
    struct lev_runlog log;              /* mutex */
    struct lev_log_waiter *log_waiters; /* mutex */

    const char *phase;
    struct lev_known_image *known; /* its image; NULL before that step */
    bool assumed;                  /* it is what was known before */
    bool doubted;                  /* that was wrong once */
    char *image_ref;               /* as the engine knows it */
    char *files_image;             /* made for files under a read-only root */
    struct lev_mount mounts[2];
    size_t mounts_n;
    bool by_socket;      /* the guest connects to our mounted socket */
    int64_t hello_until; /* lev_now() time, while it has not; 0: no bound */
    char token[33], channel_name[64];
    struct lev_channel_events channel_events; /* with this run as ctx */
    struct lev_channel *channel;
    const struct lev_scope *serving; /* the scope of lev_run_serve() */
    struct lev_output output;
    struct lev_process *process;
    struct lev_exec *probe;
    struct lev_buf probe_out;
    int probe_code;
    int64_t start_time; /* lev_now() at start */
    bool process_ended, log_broken, stored, timed_out;
    char *tail;              /* LEV_TAIL_SIZE, with the first output */
    size_t tail_len;         /* bytes ever written to it */
    struct lev_lines *lines; /* two, when output goes to the log */
    struct lev_run_result result;

    /* Services. */
    struct lev_service *services; /* mutex to change, or from elsewhere */
    size_t services_n;            /* likewise; those that were started */
    size_t services_waiting;      /* mutex: for them to become ready */
    /* Mutex. One of it is the run's own, until lev_services_stop() waits: so
     * it cannot become 0 between one service's end and the next one's start.
     */
    size_t services_alive;
    struct lev_event services_ready; /* all are ready */
    struct lev_event services_gone;  /* all have ended */
    char *network;                   /* of this run and its services */
    struct lev_service *as_service;  /* this run is one */
};

/* Each returns 0, or -1 with `err` and run->phase saying where. */
int lev_run_bring_up(struct lev_run *run, const struct lev_scope *scope,
                     struct lev_error *err);
/* What will run, as far as it is known before: for the record and for words
 * about programs that are missing. */
int lev_run_note_argv(struct lev_run *run, struct lev_error *err);

/* The image, pulled when it is not there and may be. */
int lev_run_find_image(struct lev_run *run, const struct lev_scope *scope,
                       struct lev_error *err);
/* When a step's `err` says that an assumed image is not there: true, and the
 * next look for it asks the engine. */
bool lev_run_doubt_image(struct lev_run *run, const struct lev_error *err);
/* Asks the engine which image the container was made from, and corrects what
 * was assumed of it. */
void lev_run_check_image(struct lev_run *run, const struct lev_scope *scope,
                         const char *image_id);
int lev_run_put_files(struct lev_run *run, const struct lev_scope *scope,
                      const char *id, struct lev_error *err);

/* The bundle and the channel: nothing without an entry (and, for the bundle,
 * ports). The mounts, before create: */
int lev_guest_prepare(struct lev_run *run, const struct lev_scope *scope,
                      struct lev_error *err);
const char *const *lev_guest_entrypoint(const struct lev_run *run); /* NULL */
void lev_guest_environment(const struct lev_run *run, struct lev_words *env);
/* True when `err` of create was about our socket, and it can be tried again
 * without. */
bool lev_guest_without_socket(struct lev_run *run,
                              const struct lev_error *err);
/* Before the start, and after it. */
void lev_guest_offer(struct lev_run *run);
int lev_guest_connect(struct lev_run *run, const struct lev_scope *scope,
                      struct lev_error *err);
/* Until when a hello is waited for, and what is done when none came. */
int64_t lev_guest_deadline(struct lev_run *run);
int lev_guest_silent(struct lev_run *run, const struct lev_scope *scope,
                     struct lev_error *err);

int lev_run_wait_ready(struct lev_run *run, const struct lev_scope *scope,
                       struct lev_error *err);

/* Serves until the process has ended (1), or the probe (0, with its code in
 * probe_code), or the scope (-1). */
int lev_run_serve(struct lev_run *run, const struct lev_scope *scope,
                  struct lev_error *err);
void lev_run_output_init(struct lev_run *run);
void lev_run_output_end(struct lev_run *run); /* what is left of the lines */
/* The last lines of the output, trimmed; at most the tail's size. */
char *lev_run_tail(const struct lev_run *run);

int lev_services_start(struct lev_run *run, const struct lev_scope *scope,
                       struct lev_error *err);
/* On a service's thread, when it is known how it ended, and before what is
 * left of it is removed: an owner that is being brought up fails at once. */
void lev_service_judged(struct lev_service *svc);
/* -1 when one of them has ended with a failure. */
int lev_services_check(struct lev_run *run, struct lev_error *err);
void lev_services_stop(struct lev_run *run);

/* Judges the end: fills in result.err from `err` (NULL: it ran to its end). */
void lev_run_judge(struct lev_run *run, const struct lev_error *err);

/* Writes the record to lev.runs, and the document when nothing has been stored
 * in it. */
int lev_run_record(struct lev_run *run, const struct lev_scope *scope,
                   struct lev_error *err);
/* $set of these keys with a sequence number, once however often it is sent. */
int lev_run_store(struct lev_run *run, const struct lev_scope *scope,
                  int64_t seq, const bson_t *data, struct lev_error *err);

#endif
