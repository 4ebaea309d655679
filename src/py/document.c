/* document.c - levrt.Document: what one run stored. */

#include "task.h"

#include "docstrings.h"

Document *
levpy_document_new(struct levpy_state *st, Session *session, const char *coll,
                   const uint8_t oid[12])
{
    Document *doc = PyObject_GC_New(Document, st->DocumentType);

    if (doc == NULL) {
        return NULL;
    }
    doc->session = (Session *)Py_NewRef(session);
    doc->run = NULL;
    doc->ordered = false;
    doc->coll = strdup(coll);
    memcpy(doc->oid, oid, sizeof(doc->oid));
    PyObject_GC_Track(doc);
    if (doc->coll == NULL) {
        Py_DECREF(doc);
        PyErr_NoMemory();
        return NULL;
    }
    return doc;
}

static PyObject *
Document_filter(Document *self, void *Py_UNUSED(closure))
{
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    PyObject *oid = levbson_oid_new(&st->bson, self->oid);

    return oid == NULL ? NULL : Py_BuildValue("{s:N}", "_id", oid);
}

/* {**query, **filter} as BSON. */
static int
own_query(Document *self, struct levpy_state *st, PyObject *query,
          bson_t **out)
{
    _cleanup_pydecref_ PyObject *all = PyDict_New();
    _cleanup_pydecref_ PyObject *filter = Document_filter(self, NULL);

    if (all == NULL || filter == NULL) {
        return -1;
    }
    if (query != NULL && query != Py_None) {
        if (!levpy_is_mapping(query)) {
            PyErr_Format(PyExc_TypeError, "query must be a mapping, not %s",
                         Py_TYPE(query)->tp_name);
            return -1;
        }
        if (PyDict_Update(all, query) < 0) {
            return -1;
        }
    }
    if (PyDict_Update(all, filter) < 0) {
        return -1;
    }
    return levpy_to_bson(st, all, "query", out);
}

static PyObject *
Document_get(Document *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"query", "projection", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    PyObject *query = NULL, *projection = NULL, *op;
    bson_t *q, *p;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:get", keywords, &query,
                                     &projection) ||
        levpy_projection(st, projection == Py_None ? NULL : projection, &p) <
            0)
    {
        return NULL;
    }
    if (own_query(self, st, query, &q) < 0) {
        if (p != NULL) {
            bson_destroy(p);
        }
        return NULL;
    }
    if (p == NULL) {
        p = bson_new();
    }
    if (!bson_has_field(p, "_id")) {
        BSON_APPEND_INT32(p, "_id", 0);
    }
    op = levpy_find_one(st, self->session, "Document.get", self->coll, q, p);
    if (op != NULL && self->ordered) {
        ((struct levpy_job *)((Op *)op)->job)->lane = self->session->lane;
    }
    return op;
}

static PyObject *
Document_set(Document *self, PyObject *args, PyObject *kwargs)
{
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    const struct levpy_glue *glue = levpy_glue(st);
    _cleanup_pydecref_ PyObject *data = NULL, *change = NULL;
    bson_t *q, *c;

    if (glue == NULL) {
        return NULL;
    }
    data = PyObject_Call(glue->merge_set, args, kwargs);
    change = data == NULL ? NULL : Py_BuildValue("{s:O}", "$set", data);
    if (change == NULL || own_query(self, st, NULL, &q) < 0) {
        return NULL;
    }
    if (PyDict_GET_SIZE(data) == 0) {
        c = NULL;
    }
    else if (levpy_to_bson(st, change, "data", &c) < 0) {
        bson_destroy(q);
        return NULL;
    }
    return levpy_update(st, self->session, "Document.set", self->coll, q, c,
                        LEVPY_UPSERT | LEVPY_QUIET |
                            (self->ordered ? LEVPY_ORDERED : 0));
}

static PyObject *
Document_coll(Document *self, void *Py_UNUSED(closure))
{
    const struct levpy_glue *glue =
        levpy_glue(levpy_state_of((PyObject *)self));

    return glue == NULL ? NULL
                        : PyObject_CallFunction(glue->collection, "Os",
                                                self->session, self->coll);
}

static PyObject *
Document_all(Document *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"query", "projection", NULL};
    PyObject *query = Py_None, *projection = Py_None;
    _cleanup_pydecref_ PyObject *coll = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:all", keywords, &query,
                                     &projection))
    {
        return NULL;
    }
    coll = Document_coll(self, NULL);
    return coll == NULL
               ? NULL
               : PyObject_CallMethod(coll, "find", "OO", query, projection);
}

static PyObject *
Document_run(Document *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->run == NULL ? Py_None : self->run);
}

/* ---- logs ---- */

static PyObject *
Document_read_logs(PyObject *self, PyObject *pos)
{
    return levpy_kept_logs(levpy_state_of(self), (Document *)self, pos);
}

static PyObject *
Document_logs(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const struct levpy_glue *glue = levpy_glue(levpy_state_of(self));

    return glue == NULL ? NULL : PyObject_CallOneArg(glue->kept_logs, self);
}

static PyObject *
Document_repr(Document *self)
{
    _cleanup_pydecref_ PyObject *filter = Document_filter(self, NULL);

    return filter == NULL ? NULL
                          : PyUnicode_FromFormat("<Document %R in %s>", filter,
                                                 self->coll);
}

static PyObject *
Document_richcompare(PyObject *a, PyObject *b, int op)
{
    Document *x = (Document *)a, *y = (Document *)b;
    bool same;

    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    same = memcmp(x->oid, y->oid, sizeof(x->oid)) == 0 &&
           strcmp(x->coll, y->coll) == 0;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
Document_hash(Document *self)
{
    Py_hash_t h;

    memcpy(&h, self->oid + 4, sizeof(h));
    return h == -1 ? -2 : h;
}

static int
Document_traverse(Document *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->session);
    Py_VISIT(self->run);
    return 0;
}

static int
Document_clear(Document *self)
{
    Py_CLEAR(self->session);
    Py_CLEAR(self->run);
    return 0;
}

static void
Document_dealloc(Document *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    free(self->coll);
    Document_clear(self);
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

static PyMethodDef Document_methods[] = {
    {"get", (PyCFunction)(void (*)(void))Document_get,
     METH_VARARGS | METH_KEYWORDS, levrt_Document_get_DOC},
    {"set", (PyCFunction)(void (*)(void))Document_set,
     METH_VARARGS | METH_KEYWORDS, levrt_Document_set_DOC},
    {"all", (PyCFunction)(void (*)(void))Document_all,
     METH_VARARGS | METH_KEYWORDS, levrt_Document_all_DOC},
    {"logs", Document_logs, METH_NOARGS, levrt_Document_logs_DOC},
    {"_read_logs", Document_read_logs, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Document_getset[] = {
    {"coll", (getter)Document_coll, NULL, levrt_Document_coll_DOC, NULL},
    {"filter", (getter)Document_filter, NULL, levrt_Document_filter_DOC, NULL},
    /* The published name; outside a class body it is not mangled. */
    {"__filters", (getter)Document_filter, NULL, levrt_Document_filter_DOC,
     NULL},
    {"run", (getter)Document_run, NULL, levrt_Document_run_DOC, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Document_slots[] = {
    {Py_tp_doc, (void *)levrt_Document_DOC},
    {Py_tp_dealloc, Document_dealloc},
    {Py_tp_traverse, Document_traverse},
    {Py_tp_clear, Document_clear},
    {Py_tp_repr, Document_repr},
    {Py_tp_richcompare, Document_richcompare},
    {Py_tp_hash, Document_hash},
    {Py_tp_methods, Document_methods},
    {Py_tp_getset, Document_getset},
    {0, NULL},
};

static PyType_Spec Document_spec = {
    .name = "levrt.Document",
    .basicsize = sizeof(Document),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Document_slots,
};

int
levpy_document_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->DocumentType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Document_spec, NULL);
    if (st->DocumentType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->DocumentType);
}
