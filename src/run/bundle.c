/* bundle.c - the runtime bundle: built by a program, in a process of its own.
 *
 * The builder needs the host's interpreter and takes seconds the first time,
 * so it is neither C nor run in the workflow's process: the command prints the
 * finished directory's path as its last line, and progress on stderr.
 */
#include "session.h"

#include "session_internal.h"
#include "subprocess.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define BUILD_TIMEOUT (300 * LEV_SECOND)

static char *
last_line(char *text)
{
    size_t len = strlen(text);
    char *nl;

    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    nl = strrchr(text, '\n');
    return nl == NULL ? text : nl + 1;
}

static char *
build(struct lev_session *s, const struct lev_scope *parent,
      struct lev_error *err)
{
    struct lev_scope scope = lev_scope_within(parent, BUILD_TIMEOUT);
    _cleanup_buf_ struct lev_buf out = {0}, errors = {0};
    char *dir = NULL;
    int status;

    if (lev_subprocess_run(&scope, s->config.bundle_argv, NULL, &out, &errors,
                           &status, err) < 0)
    {
        lev_error_wrap(err, "build the runtime bundle");
        return NULL;
    }
    if (status != 0 || out.len == 0) {
        lev_error_set(err, LEV_E_LEV, status,
                      "build the runtime bundle: %s exited with %d: %.600s",
                      s->config.bundle_argv[0], status,
                      errors.len == 0 ? "no output" : last_line(errors.data));
        return NULL;
    }
    dir = strdup(last_line(out.data));
    if (dir == NULL) {
        lev_error_nomem(err, "runtime bundle");
    }
    return dir;
}

/* Until the session ends nobody removes its bundle, however old that is. A
 * cache that cannot be written has nothing to lock. */
static void
hold(struct lev_session *s)
{
    _cleanup_free_ char *path = NULL;

    if (asprintf(&path, "%s.used", s->bundle) < 0) {
        path = NULL;
        return;
    }
    s->bundle_lock = open(path, O_RDONLY | O_CLOEXEC);
    if (s->bundle_lock >= 0) {
        flock(s->bundle_lock, LOCK_SH | LOCK_NB);
    }
}

const char *
lev_session_bundle(struct lev_session *s, const struct lev_scope *scope,
                   struct lev_error *err)
{
    _cleanup_gate_ struct lev_gate *gate = NULL;
    const char *dir = atomic_load(&s->bundle_ready);

    if (dir != NULL) {
        return dir;
    }
    if (lev_gate_enter(&s->bundle_gate, scope, err) < 0) {
        return NULL;
    }
    gate = &s->bundle_gate;
    if (s->bundle == NULL) {
        s->bundle = build(s, scope, err);
        if (s->bundle != NULL) {
            hold(s);
        }
        atomic_store(&s->bundle_ready, s->bundle);
    }
    return s->bundle;
}
