/* readiness.c - a run is ready when its ports listen.
 *
 * The probe of the runtime bundle runs inside the container and waits there:
 * so a listener on another interface or on 127.0.0.1 counts, and a published
 * port's proxy does not. It is one more descriptor of the run's poll loop.
 */
#include "run_internal.h"

#include <jansson.h>
#include <string.h>

#include "words.h"

#define PROBE_TIMEOUT_SLACK (5 * LEV_SECOND)
/* The exit code of a probe that has waited in vain. */
#define NOT_ALL_LISTEN 3

/* `privileged`: to see whose the listeners are, whatever user they run as. */
static int
start_probe(struct lev_run *run, const struct lev_scope *scope,
            bool privileged, struct lev_error *err)
{
    const struct lev_session_config *c = lev_session_config(run->session);
    _cleanup_words_ struct lev_words argv = {0};
    struct lev_exec_spec spec = {.privileged = privileged};

    if (privileged || !run->spec->host) {
        spec.user = "0";
    }

    lev_words_printf(&argv, "/lev/bin/lev-launcher");
    lev_words_printf(&argv, "probe");
    if (run->spec->host) {
        lev_words_printf(&argv, "--owned");
    }
    lev_words_printf(&argv, "--timeout-ms");
    lev_words_printf(&argv, "%lld", (long long)(c->ready_timeout / LEV_MS));
    for (size_t i = 0; i < run->spec->ports_n; i++) {
        lev_words_printf(&argv, "%u", run->spec->ports[i]);
    }
    if (argv.failed) {
        return lev_error_nomem(err, "probe");
    }
    spec.argv = (const char *const *)argv.v;
    run->probe = run->ops->exec_start(run->engine, scope, run->id, &spec, err);
    return run->probe == NULL ? -1 : 0;
}

static void
list_ports(const json_t *doc, const char *key, struct lev_buf *out)
{
    const json_t *list = json_object_get(doc, key), *v;
    size_t i;

    json_array_foreach(list, i, v)
    {
        lev_buf_printf(out, "%s%lld", i == 0 ? "" : ", ",
                       (long long)json_integer_value(v));
    }
    if (json_array_size(list) == 0) {
        lev_buf_puts(out, "nothing");
    }
}

static int
not_ready(struct lev_run *run, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf missing = {0}, listening = {0};
    json_t *doc = json_loads(lev_buf_text(&run->probe_out),
                             JSON_DISABLE_EOF_CHECK, NULL);
    int64_t ready = lev_session_config(run->session)->ready_timeout;

    if (run->probe_code != NOT_ALL_LISTEN || doc == NULL) {
        json_decref(doc);
        return lev_error_set(
            err, LEV_E_READINESS, 0,
            "the readiness probe failed (exit code %d): %.400s",
            run->probe_code, lev_buf_text(&run->probe_out));
    }
    list_ports(doc, "missing", &missing);
    list_ports(doc, "listening", &listening);
    json_decref(doc);
    return lev_error_set(err, LEV_E_READINESS, 0,
                         "port %s did not open within %.0f s; what listens "
                         "instead: %s",
                         lev_buf_text(&missing),
                         (double)ready / (double)LEV_SECOND,
                         lev_buf_text(&listening));
}

static int
ended_early(struct lev_run *run, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_START, 0,
                         "it ended with exit code %d before its ports opened",
                         run->result.exit_code);
}

/* Serves until the probe has ended; 1 when the container ended first. */
static int
serve_probe(struct lev_run *run, const struct lev_scope *scope,
            bool privileged, struct lev_error *err)
{
    /* An exec in a container that has ended is refused: serve says how it
     * ended. */
    if (start_probe(run, scope, privileged, err) < 0 &&
        err->code != LEV_E_CONFLICT)
    {
        return -1;
    }
    return lev_run_serve(run, scope, err);
}

/* What an engine says with when it could not run the program of an exec: for
 * a privileged one, because it has not all capabilities itself. */
#define EXEC_REFUSED 126

/* The probe is what died first: of a refusal, or with its container, whose end
 * is about to be heard of. 1 when it is. */
static int
ended_meanwhile(struct lev_run *run, const struct lev_scope *scope)
{
    struct lev_scope moment = lev_scope_within(scope, LEV_SECOND);
    struct lev_error err;

    return lev_run_serve(run, &moment, &err) == 1;
}

/* 0 with probe_code, 1 when the container has ended, -1. */
static int
probe_ports(struct lev_run *run, const struct lev_scope *scope,
            struct lev_error *err)
{
    bool host = run->spec->host;
    int rc = serve_probe(run, scope, host, err);

    if (rc == 0 && run->probe_code == EXEC_REFUSED && host) {
        /* As the container's user: all but listeners of other users. */
        lev_buf_clear(&run->probe_out);
        rc = serve_probe(run, scope, false, err);
    }
    if (rc == 0 && run->probe_code != 0 && run->probe_code != NOT_ALL_LISTEN) {
        rc = ended_meanwhile(run, scope);
    }
    return rc == 0 ? lev_scope_check(scope, err) : rc;
}

int
lev_run_wait_ready(struct lev_run *run, const struct lev_scope *parent,
                   struct lev_error *err)
{
    int64_t bound =
        lev_session_config(run->session)->ready_timeout + PROBE_TIMEOUT_SLACK;
    struct lev_scope scope = lev_scope_within(parent, bound);
    int rc;

    if (run->spec->ports_n == 0) {
        return 0;
    }
    rc = probe_ports(run, &scope, err);
    if (rc == 1) {
        return ended_early(run, err);
    }
    if (rc < 0) {
        if (err->code == LEV_E_TIMEOUT &&
            lev_scope_check(parent, &(struct lev_error){0}) == 0)
        {
            return lev_error_set(err, LEV_E_READINESS, 0,
                                 "the readiness probe did not answer in time");
        }
        return -1;
    }
    if (run->probe_code != 0) {
        return not_ready(run, err);
    }
    return lev_services_check(run, err);
}
