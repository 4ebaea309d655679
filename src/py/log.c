/* log.c - log records of the core, from any thread to the loop's.
 *
 * The sink outlives the session that it was made for: the core's threads may
 * still have words when nobody listens any more.
 */

#include "pysession.h"

struct levpy_log {
    struct lev_log base;
    atomic_int refs; /* the core session's, and one of each record under way */
    pthread_mutex_t mutex;
    Session *session; /* borrowed; NULL when nobody listens any more */
};

struct record {
    struct lev_completion done;
    struct levpy_log *sink; /* a reference */
    int level;
    char logger[160];
    size_t len;
    char text[];
};

static void
sink_unref(struct levpy_log *sink)
{
    if (atomic_fetch_sub(&sink->refs, 1) == 1) {
        pthread_mutex_destroy(&sink->mutex);
        free(sink);
    }
}

static void
record_deliver(struct lev_completion *c)
{
    struct record *r = lev_container_of(c, struct record, done);
    _cleanup_pydecref_ PyObject *log = NULL, *none = NULL;
    Session *session;

    pthread_mutex_lock(&r->sink->mutex);
    session = r->sink->session;
    pthread_mutex_unlock(&r->sink->mutex);
    /* A session goes on this thread only: what was there above still is, but
     * may be gone when the call returns. */
    if (session != NULL) {
        log = Py_NewRef(session->log);
        none = PyObject_CallFunction(
            log, "isN", r->level, r->logger,
            PyUnicode_DecodeUTF8(r->text, (Py_ssize_t)r->len, "replace"));
        if (none == NULL) {
            PyErr_WriteUnraisable(log);
        }
    }
    sink_unref(r->sink);
    free(r);
}

static void
log_emit(struct lev_log *log, int level, const char *logger, const char *text,
         size_t len)
{
    struct levpy_log *sink = lev_container_of(log, struct levpy_log, base);
    struct record *r = malloc(sizeof(*r) + len);

    if (r == NULL) {
        return;
    }
    r->done.deliver = record_deliver;
    r->sink = sink;
    r->level = level;
    r->len = len;
    snprintf(r->logger, sizeof(r->logger), "%s", logger);
    memcpy(r->text, text, len);
    pthread_mutex_lock(&sink->mutex);
    if (sink->session != NULL) {
        atomic_fetch_add(&sink->refs, 1);
        lev_compq_push(sink->session->bridge->queue, &r->done);
        r = NULL;
    }
    pthread_mutex_unlock(&sink->mutex);
    free(r);
}

static void
log_destroy(struct lev_log *log)
{
    sink_unref(lev_container_of(log, struct levpy_log, base));
}

struct levpy_log *
levpy_log_new(Session *session)
{
    struct levpy_log *sink = calloc(1, sizeof(*sink));

    if (sink != NULL) {
        sink->base.emit = log_emit;
        sink->base.destroy = log_destroy;
        sink->refs = 1;
        sink->session = session;
        pthread_mutex_init(&sink->mutex, NULL);
    }
    return sink;
}

struct lev_log *
levpy_log_base(struct levpy_log *sink)
{
    return &sink->base;
}

void
levpy_log_silence(struct levpy_log *sink)
{
    pthread_mutex_lock(&sink->mutex);
    sink->session = NULL;
    pthread_mutex_unlock(&sink->mutex);
}
