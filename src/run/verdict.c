#include "run_internal.h"

#include <signal.h>
#include <string.h>

/* The init of a container ends with 128 + n when signal n ended the tool. */
static int
signal_of(int exit_code)
{
    return exit_code > 128 && exit_code < 128 + NSIG ? exit_code - 128 : 0;
}

static const char *
signal_name(int signo)
{
    const char *name = sigabbrev_np(signo);

    return name == NULL ? "?" : name;
}

static bool
accepted(const struct lev_run *run, int code)
{
    if (code == 0 || !run->spec->check) {
        return true;
    }
    for (size_t i = 0; i < run->spec->accepted_n; i++) {
        if (run->spec->accepted[i] == code) {
            return true;
        }
    }
    return false;
}

/* The init's word that the program could not be started, or NULL: Docker's
 * ends as a shell does, Podman's with 1. */
static const char *
init_complaint(const struct lev_run_result *r)
{
    const char *at = r->exit_code == 126 || r->exit_code == 127
                         ? strstr(r->log_tail, "[FATAL tini")
                     : r->exit_code == 1
                         ? strstr(r->log_tail, "ERROR (catatonit:")
                         : NULL;

    return at == NULL ? NULL : strstr(at, "exec ");
}

static void
not_started(struct lev_run *run, const char *complaint)
{
    struct lev_run_result *r = &run->result;
    const char *program = r->argv == NULL ? "?" : r->argv[0];

    run->phase = "start";
    if (r->exit_code == 126 || strstr(complaint, "Permission denied") != NULL)
    {
        lev_error_set(&r->err, LEV_E_START, r->exit_code,
                      "%s in the image %s cannot be executed (exit code "
                      "%d): %.200s",
                      program, run->spec->image, r->exit_code, complaint);
        r->hint = "check its mode, its #! line, and for what architecture it "
                  "was built";
    }
    else {
        lev_error_set(&r->err, LEV_E_START, r->exit_code,
                      "%s is not in the image %s (exit code %d): %.200s",
                      program, run->spec->image, r->exit_code, complaint);
        r->hint = run->spec->image_python
                      ? "@remote(python=\"image\") runs the image's own "
                        "python3, from its PATH; without it the entry runs on "
                        "the workflow's Python"
                      : "check cmd= and the image's entrypoint and PATH";
    }
}

static void
out_of_memory(struct lev_run *run)
{
    struct lev_run_result *r = &run->result;
    bson_iter_t it;
    char limit[64] = "the machine's memory", peak[64] = "";

    if (run->spec->options != NULL &&
        bson_iter_init_find(&it, run->spec->options, "mem_limit"))
    {
        if (BSON_ITER_HOLDS_UTF8(&it)) {
            snprintf(limit, sizeof(limit), "mem_limit=%.40s",
                     bson_iter_utf8(&it, NULL));
        }
        else {
            snprintf(limit, sizeof(limit), "mem_limit=%lld",
                     (long long)bson_iter_as_int64(&it));
        }
    }
    if (r->peak_memory >= 0) {
        snprintf(peak, sizeof(peak), "; peak %.1f MB",
                 (double)r->peak_memory / 1e6);
    }
    lev_error_set(&r->err, LEV_E_OOM, 137,
                  "killed by the kernel for memory (limit: %s%s)", limit,
                  peak);
    r->hint = "give it more with host_config={\"mem_limit\": …}";
}

static void
raised(struct lev_run *run)
{
    struct lev_run_result *r = &run->result;

    lev_error_set(&r->err, LEV_E_REMOTE, r->exit_code,
                  "the entry %s raised %s: %.700s", run->spec->entry_name,
                  r->remote_type,
                  r->remote_text == NULL ? "" : r->remote_text);
}

static void
bad_exit(struct lev_run *run)
{
    struct lev_run_result *r = &run->result;

    if (r->signal != 0) {
        lev_error_set(&r->err, LEV_E_TASK, r->exit_code,
                      "killed by SIG%s (exit code %d)", signal_name(r->signal),
                      r->exit_code);
    }
    else {
        lev_error_set(&r->err, LEV_E_TASK, r->exit_code, "exit code %d",
                      r->exit_code);
    }
    if (r->exit_code == 126 || r->exit_code == 127) {
        r->hint = "126 and 127 are a shell's codes for a program that cannot "
                  "be executed or found";
    }
    if (r->exit_code == 137 && !r->oom_killed) {
        /* Docker with cgroup v1 loses that word at times. */
        r->hint =
            run->spec->options != NULL &&
                    bson_has_field(run->spec->options, "mem_limit")
                ? "137 is SIGKILL; the engine does not say that it was "
                  "the kernel's out-of-memory killer, but with mem_limit "
                  "it is likely"
                : "137 is SIGKILL; it was not the kernel's "
                  "out-of-memory killer";
    }
}

/* It came to its end by itself, or was stopped. */
static void
judge_exit(struct lev_run *run)
{
    struct lev_run_result *r = &run->result;
    const char *complaint;
    bool asked;

    pthread_mutex_lock(&run->mutex);
    asked = run->stop_asked && !run->stop_failure;
    pthread_mutex_unlock(&run->mutex);
    r->signal = signal_of(r->exit_code);
    if (asked) {
        return; /* who stops a tool knows that it did not finish */
    }
    complaint = init_complaint(r);
    if (complaint != NULL) {
        not_started(run, complaint);
    }
    else if (accepted(run, r->exit_code)) {
        return;
    }
    else if (r->oom_killed && r->exit_code == 137) {
        out_of_memory(run);
    }
    else if (r->remote_type != NULL) {
        raised(run);
    }
    else {
        bad_exit(run);
    }
}

static void
too_late(struct lev_run *run)
{
    struct lev_run_result *r = &run->result;

    lev_error_set(&r->err, LEV_E_DEADLINE, 0,
                  "it did not end within its timeout of %.1f s and was "
                  "stopped (exit code %d)",
                  (double)run->spec->timeout / (double)LEV_SECOND,
                  r->exit_code);
    r->signal = signal_of(r->exit_code);
    r->hint = "what it had stored by then is in its document";
}

void
lev_run_judge(struct lev_run *run, const struct lev_error *err)
{
    struct lev_run_result *r = &run->result;
    struct lev_error own;

    r->log_tail = lev_run_tail(run);
    if (r->log_tail == NULL) {
        r->log_tail = strdup("");
    }
    if (run->timed_out) {
        too_late(run);
    }
    else if (err != NULL) {
        r->err = *err;
    }
    else {
        judge_exit(run);
    }
    r->phase = run->phase;
    if (r->err.code == LEV_OK) {
        return;
    }
    own = r->err;
    lev_error_set(&r->err, own.code, own.detail, "%s (image %s), %s: %s",
                  run->name,
                  run->spec->image[0] == '\0' ? "\"\"" : run->spec->image,
                  run->phase, own.msg);
}
