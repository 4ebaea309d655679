/* cursor.c - levrt._levrt.Cursor: the documents of a find or of a pipeline,
 * batch by batch. */

#include "pysession.h"

#include "docstrings.h"

/* The core's cursor is used by one job at a time; `busy` sees to that. */
typedef struct {
    PyObject_HEAD
    Session *session;
    char *coll;
    bson_t *query, *projection, *sort;
    bson_t *pipeline; /* {"pipeline": [stage…]}, or NULL: a find */
    int64_t skip, limit;
    struct lev_store *store; /* a reference, once the find has begun */
    struct lev_cursor *cursor;
    atomic_bool busy;
} Cursor;

struct batch_job {
    struct levpy_job job;
    Cursor *cursor; /* the op's owner keeps it */
    int max, n;
    struct lev_buf out;
};

static struct lev_cursor *
aggregate(Cursor *c, struct lev_store *store, const struct lev_scope *scope,
          struct lev_error *err)
{
    const uint8_t *data;
    bson_t stages;
    bson_iter_t it;
    uint32_t len;

    bson_iter_init_find(&it, c->pipeline, "pipeline");
    bson_iter_array(&it, &len, &data);
    bson_init_static(&stages, data, len);
    return store->ops->aggregate(store, scope, c->coll, &stages, err);
}

static int
open_cursor(Cursor *c, const struct lev_scope *scope, struct lev_error *err)
{
    const struct lev_find f = {.coll = c->coll,
                               .query = c->query,
                               .projection = c->projection,
                               .sort = c->sort,
                               .skip = c->skip,
                               .limit = c->limit};
    struct lev_store *store = lev_session_store(c->session->core, scope, err);

    if (store == NULL) {
        return -1;
    }
    c->cursor = c->pipeline == NULL ? store->ops->find(store, scope, &f, err)
                                    : aggregate(c, store, scope, err);
    if (c->cursor == NULL) {
        return -1;
    }
    c->store = lev_store_ref(store);
    return 0;
}

static int
batch_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct batch_job *bj = lev_container_of(job, struct batch_job, job);
    Cursor *c = bj->cursor;

    if (atomic_exchange(&c->busy, true)) {
        return lev_error_set(&job->err, LEV_E_STATE, 0,
                             "the cursor is being read already");
    }
    bj->n = c->cursor == NULL && open_cursor(c, scope, &job->err) < 0
                ? -1
                : c->store->ops->next(c->cursor, scope, bj->max, &bj->out,
                                      &job->err);
    atomic_store(&c->busy, false);
    return bj->n < 0 ? -1 : 0;
}

static PyObject *
batch_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct batch_job *bj = lev_container_of(job, struct batch_job, job);
    const uint8_t *data = (const uint8_t *)bj->out.data;
    _cleanup_pydecref_ PyObject *list = PyList_New(bj->n);

    for (int i = 0; list != NULL && i < bj->n; i++) {
        int32_t len;
        PyObject *doc;

        memcpy(&len, data, sizeof(len));
        len = BSON_UINT32_FROM_LE(len);
        doc = levbson_decode(&st->bson, data, (size_t)len);
        if (doc == NULL) {
            return NULL;
        }
        PyList_SET_ITEM(list, i, doc);
        data += len;
    }
    return lev_steal(list);
}

static void
batch_release(struct levpy_job *job)
{
    lev_buf_deinit(&lev_container_of(job, struct batch_job, job)->out);
}

static PyObject *
Cursor_next_batch(Cursor *self, PyObject *arg)
{
    static const struct levpy_job_type type = {"Cursor.next_batch", batch_work,
                                               batch_finish, batch_release};
    struct batch_job *bj;
    long max = PyLong_AsLong(arg);

    if (max == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (max < 1 || max > 1000000) {
        return PyErr_Format(PyExc_ValueError,
                            "a batch has 1 to 1000000 documents, not %ld",
                            max);
    }
    bj = levpy_job_new(&type, sizeof(*bj));
    if (bj == NULL) {
        return NULL;
    }
    bj->cursor = self;
    bj->max = (int)max;
    return levpy_job_op(levpy_state_of((PyObject *)self), bj, (PyObject *)self,
                        self->session->bridge);
}

static int
pipeline_to_bson(struct levpy_state *st, PyObject *pipeline, bson_t **out)
{
    _cleanup_pydecref_ PyObject *wrapped = NULL;

    if (pipeline == NULL || pipeline == Py_None) {
        return 0;
    }
    if (!PyList_Check(pipeline) && !PyTuple_Check(pipeline)) {
        PyErr_Format(PyExc_TypeError,
                     "pipeline must be a list of stages, not %s",
                     Py_TYPE(pipeline)->tp_name);
        return -1;
    }
    wrapped = Py_BuildValue("{s:O}", "pipeline", pipeline);
    return wrapped == NULL ? -1 : levpy_to_bson(st, wrapped, "pipeline", out);
}

static PyObject *
Cursor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"session",    "coll",     "query",
                               "projection", "sort",     "skip",
                               "limit",      "pipeline", NULL};
    struct levpy_state *st =
        levpy_state(PyType_GetModuleByDef(type, &levpy_module));
    PyObject *query = NULL, *projection = NULL, *sort = NULL;
    PyObject *pipeline = NULL;
    _cleanup_pydecref_ PyObject *made = NULL;
    Session *session;
    Cursor *self;
    const char *coll;
    long long skip = 0, limit = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!s|OOOLLO:Cursor",
                                     keywords, st->SessionType, &session,
                                     &coll, &query, &projection, &sort, &skip,
                                     &limit, &pipeline))
    {
        return NULL;
    }
    if (skip < 0 || limit < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "skip and limit must not be negative");
        return NULL;
    }
    made = type->tp_alloc(type, 0);
    if (made == NULL) {
        return NULL;
    }
    self = (Cursor *)made;
    self->skip = skip;
    self->limit = limit;
    self->coll = strdup(coll);
    if (self->coll == NULL) {
        return PyErr_NoMemory();
    }
    if (levpy_to_bson(st, query, "filter", &self->query) < 0 ||
        levpy_projection(st, projection == Py_None ? NULL : projection,
                         &self->projection) < 0 ||
        levpy_to_bson(st, sort, "sort", &self->sort) < 0 ||
        pipeline_to_bson(st, pipeline, &self->pipeline) < 0)
    {
        return NULL;
    }
    self->session = (Session *)Py_NewRef(session);
    return lev_steal(made);
}

static int
Cursor_traverse(Cursor *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->session);
    return 0;
}

static int
Cursor_clear(Cursor *self)
{
    Py_CLEAR(self->session);
    return 0;
}

static void
Cursor_dealloc(Cursor *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->cursor != NULL) {
        self->store->ops->cursor_close(self->cursor);
        lev_store_unref(self->store);
    }
    if (self->query != NULL) {
        bson_destroy(self->query);
    }
    if (self->projection != NULL) {
        bson_destroy(self->projection);
    }
    if (self->sort != NULL) {
        bson_destroy(self->sort);
    }
    if (self->pipeline != NULL) {
        bson_destroy(self->pipeline);
    }
    free(self->coll);
    Cursor_clear(self);
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyMethodDef Cursor_methods[] = {
    {"next_batch", (PyCFunction)Cursor_next_batch, METH_O,
     levrt_Cursor_next_batch_DOC},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Cursor_slots[] = {
    {Py_tp_doc, (void *)levrt_Cursor_DOC},
    {Py_tp_new, Cursor_new},
    {Py_tp_dealloc, Cursor_dealloc},
    {Py_tp_traverse, Cursor_traverse},
    {Py_tp_clear, Cursor_clear},
    {Py_tp_methods, Cursor_methods},
    {0, NULL},
};

static PyType_Spec Cursor_spec = {
    .name = "levrt._levrt.Cursor",
    .basicsize = sizeof(Cursor),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Cursor_slots,
};

int
levpy_cursor_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->CursorType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Cursor_spec, NULL);
    if (st->CursorType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->CursorType);
}
