/* leftovers.c - Session.gc(): what dead sessions have left. */

#include "pysession.h"

#include <string.h>

struct gc_job {
    struct levpy_job job;
    struct lev_session *core;
    char *url; /* or NULL */
    struct lev_gc gc;
    bool dry;
    bson_t found;
};

static int
gc_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct gc_job *gj = lev_container_of(job, struct gc_job, job);

    return lev_session_gc(gj->core, scope, gj->url, &gj->gc, gj->dry,
                          &gj->found, &job->err);
}

static PyObject *
gc_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct gc_job *gj = lev_container_of(job, struct gc_job, job);
    _cleanup_pydecref_ PyObject *dict =
        levbson_decode(&st->bson, bson_get_data(&gj->found), gj->found.len);

    return dict == NULL ? NULL : PyDict_Values(dict);
}

static void
gc_release(struct levpy_job *job)
{
    struct gc_job *gj = lev_container_of(job, struct gc_job, job);

    free(gj->url);
    bson_destroy(&gj->found);
}

PyObject *
levpy_session_gc(Session *self, PyObject *args, PyObject *kwargs)
{
    static const struct levpy_job_type type = {"gc", gc_work, gc_finish,
                                               gc_release};
    static char *keywords[] = {"engine", "dry_run", "kept", NULL};
    const char *url = NULL;
    int dry = 0, kept = 0;
    struct gc_job *gj;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|z$pp:gc", keywords, &url,
                                     &dry, &kept))
    {
        return NULL;
    }
    gj = levpy_job_new(&type, sizeof(*gj));
    if (gj == NULL) {
        return NULL;
    }
    bson_init(&gj->found);
    gj->core = self->core;
    gj->gc.kept = kept != 0;
    gj->dry = dry != 0;
    if (url != NULL && (gj->url = strdup(url)) == NULL) {
        levpy_job_free(&gj->job);
        return PyErr_NoMemory();
    }
    return levpy_job_op(levpy_state_of((PyObject *)self), gj, (PyObject *)self,
                        self->bridge);
}
