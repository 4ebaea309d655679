/* run.h - one Cr from bring-up to teardown.
 *
 * A run owns one thread: it brings services and container up, waits until the
 * ports listen, serves output, guest channel and exit in one poll loop, and
 * tears everything down, whatever happened. Services are runs of their own
 * below it. The functions here may be called from any thread.
 *
 * The two callbacks come on the run's thread: `ready` at most once, `ended`
 * exactly once and last; after it the result does not change any more.
 */
#ifndef LEV_RUN_H
#define LEV_RUN_H

#include "session.h"

struct lev_run;

/* A frame of the guest channel carries it, with a little beside it. */
#define LEV_RUN_PAYLOAD_MAX (40u * 1000 * 1000)

struct lev_run_file {
    char *target; /* absolute, normalised */
    char *path;   /* a local file or directory, or NULL */
    char *data;   /* else these bytes */
    size_t len;
};

struct lev_run_pair {
    char *key, *value;
};

enum lev_pull_policy { LEV_PULL_MISSING, LEV_PULL_ALWAYS, LEV_PULL_NEVER };

/* A Cr, frozen for one run. Owned by the run; every pointer is owned. */
struct lev_run_spec {
    char *image;
    char *schema; /* or NULL */
    char *coll;   /* the collection its document goes to */
    char *name;   /* the container's, or NULL: made from the session's */
    char *engine; /* URL or NULL */
    bool host;
    bool keep; /* the container stays, and runs on when the session ends */
    /* The entry: what it is called, and its pickle. NULL: the image's own. */
    char *entry_name, *payload;
    size_t payload_len;
    bool image_python;
    char **cmd; /* NULL: the image's */
    char **env;
    struct lev_run_file *files;
    size_t files_n;
    struct lev_run_pair *links;
    size_t links_n;
    uint16_t *ports;
    size_t ports_n;
    struct {
        char *alias;
        struct lev_run_spec *spec;
    } * services;
    size_t services_n;
    int64_t timeout; /* nanoseconds of run time; 0: none */
    bool check;      /* a code outside `accepted` is a failure */
    int *accepted;   /* besides 0 */
    size_t accepted_n;
    bson_t *options; /* or NULL */
    enum lev_pull_policy pull;
    bool debug_output;  /* container output goes to the log, line by line */
    bool want_address;  /* lev_run_address() will be asked for */
    uint8_t doc_id[12]; /* the document's ObjectId */
};

void lev_run_spec_free(struct lev_run_spec *spec); /* NULL is fine */

/* How it ended. `err.code` is LEV_OK or one of TASK, START, REMOTE, OOM,
 * READINESS, DEADLINE, CANCELLED, or another error's own code. */
struct lev_run_result {
    struct lev_error err;
    const char *phase; /* a constant: "pull", "create", …; where it failed */
    int exit_code;     /* -1: it never ran */
    int signal;        /* that ended it; 0 */
    bool oom_killed;
    char *log_tail;   /* its last lines; may be "" */
    const char *hint; /* a constant or NULL */
    /* Of the entry's exception (REMOTE): */
    char *remote_type, *remote_text, *traceback, *builtin;
    /* The record: */
    char *image, *digest;
    char **argv;
    int64_t started, finished; /* ms since the epoch; 0: not */
    int64_t peak_memory;       /* bytes; -1: unknown */
};

struct lev_run_callbacks {
    void (*ready)(void *ctx); /* NULL: nobody waits for that */
    void (*ended)(void *ctx);
    void *ctx;
};

/* Takes the spec over, also on failure. `parent` NULL but for services. */
struct lev_run *lev_run_create(struct lev_session *session,
                               struct lev_run_spec *spec,
                               const struct lev_run_callbacks *callbacks,
                               struct lev_error *err);
/* The creator's reference is given back with unref; the thread has its own. */
struct lev_run *lev_run_ref(struct lev_run *run);
void lev_run_unref(struct lev_run *run);
int lev_run_start(struct lev_run *run, struct lev_error *err);

unsigned lev_run_number(const struct lev_run *run);
const char *lev_run_name(const struct lev_run *run);
const struct lev_run_spec *lev_run_spec(const struct lev_run *run);
/* After ready, with want_address; "" otherwise. */
const char *lev_run_address(const struct lev_run *run);
/* Likewise: what of it is published on the engine's machine; borrowed. */
const struct lev_port *lev_run_published(const struct lev_run *run, size_t *n);
/* After ended. */
const struct lev_run_result *lev_run_result(const struct lev_run *run);

/* Stop: the stop signal, `grace` (negative: the session's), then kill. Does
 * not wait. Cancelling during bring-up undoes it. `failure`: the result is
 * CANCELLED; else a stop that the program asked for, judged by exit code. */
void lev_run_stop(struct lev_run *run, int64_t grace, bool failure);
/* The grace of a stop under way ends now. */
void lev_run_hurry(struct lev_run *run);
/* To the main process. STATE when it has ended or has not started. */
int lev_run_signal(struct lev_run *run, const struct lev_scope *scope,
                   int signo, struct lev_error *err);

/* The log kept of its output: records from `*pos` on (0: the beginning) into
 * `out`; see runlog.h. Returns 1 when the run has ended and nothing follows.
 */
int lev_run_logs(struct lev_run *run, uint64_t *pos, struct lev_buf *out,
                 struct lev_error *err);
/* `fn(ctx)` is called once, on the run's thread, when there is more to read
 * behind `pos` or the run ended; at once where that is so already. */
void lev_run_logs_notify(struct lev_run *run, uint64_t pos,
                         void (*fn)(void *ctx), void *ctx);
/* Takes the notification with this `ctx` back; false when it has been given,
 * or is being given, already. */
bool lev_run_logs_forget(struct lev_run *run, void *ctx);

#endif
