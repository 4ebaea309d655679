/* session.c - levrt._levrt.Session: a job's engines, store and log records. */

#include "task.h"

#include "docstrings.h"

/* ---- arguments ---- */

bool
levpy_is_mapping(PyObject *value)
{
    /* What collections.abc.Mapping sets on those that inherit from it. */
    return PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_MAPPING);
}

int
levpy_to_bson(struct levpy_state *st, PyObject *value, const char *what,
              bson_t **out)
{
    _cleanup_levbson_out_ struct levbson_out bytes = {0};

    *out = NULL;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    if (!levpy_is_mapping(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a mapping, not %s", what,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (levbson_encode(&st->bson, value, &bytes) < 0) {
        return -1;
    }
    *out = bson_new_from_data(bytes.data, bytes.len);
    if (*out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* The same where None will not do. */
static int
need_bson(struct levpy_state *st, PyObject *value, const char *what,
          bson_t **out)
{
    if (value == Py_None) {
        PyErr_Format(PyExc_TypeError, "%s must be a mapping, not NoneType",
                     what);
        return -1;
    }
    return levpy_to_bson(st, value, what, out);
}

static int
append_name(bson_t *doc, PyObject *name)
{
    const char *text;
    Py_ssize_t len;

    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError,
                     "a projection's names must be str, not %s",
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    text = PyUnicode_AsUTF8AndSize(name, &len);
    if (text == NULL) {
        return -1;
    }
    if (strlen(text) != (size_t)len) {
        PyErr_Format(PyExc_ValueError,
                     "a projection's names must not contain NUL: %R", name);
        return -1;
    }
    if (!bson_append_int32(doc, text, (int)len, 1)) {
        PyErr_SetString(PyExc_ValueError, "the projection is too large");
        return -1;
    }
    return 0;
}

static int
append_names(bson_t *doc, PyObject *names)
{
    _cleanup_pydecref_ PyObject *fast =
        PySequence_Fast(names, "projection must be a mapping, a list of names "
                               "or one name");

    if (fast == NULL) {
        return -1;
    }
    /* PyMongo's reading of no names; {} would be everything. */
    if (PySequence_Fast_GET_SIZE(fast) == 0) {
        BSON_APPEND_INT32(doc, "_id", 1);
    }
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); i++) {
        if (append_name(doc, PySequence_Fast_GET_ITEM(fast, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

int
levpy_projection(struct levpy_state *st, PyObject *value, bson_t **out)
{
    bool one = value != NULL && PyUnicode_Check(value);
    bson_t *doc;

    if (value != NULL && !one && !PyList_Check(value) && !PyTuple_Check(value))
    {
        return levpy_to_bson(st, value, "projection", out);
    }
    *out = NULL;
    if (value == NULL) {
        return 0;
    }
    doc = bson_new();
    if ((one ? append_name(doc, value) : append_names(doc, value)) < 0) {
        bson_destroy(doc);
        return -1;
    }
    *out = doc;
    return 0;
}

/* ---- ops on the store ---- */

/* Everything a store's call may need; each op uses its part. */
struct store_job {
    struct levpy_job job;
    struct lev_session *core;
    char *coll;
    bson_t *query, *projection, *sort, *change;
    bson_t **docs;
    size_t docs_n;
    unsigned flags; /* levpy_update_flags */
    int64_t count;
    struct lev_buf out;
    struct lev_update_result result;
};

static void
destroy_bson(bson_t *doc)
{
    if (doc != NULL) {
        bson_destroy(doc);
    }
}

static void
store_job_release(struct levpy_job *job)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);

    free(sj->coll);
    destroy_bson(sj->query);
    destroy_bson(sj->projection);
    destroy_bson(sj->sort);
    destroy_bson(sj->change);
    for (size_t i = 0; i < sj->docs_n; i++) {
        destroy_bson(sj->docs[i]);
    }
    free(sj->docs);
    lev_buf_deinit(&sj->out);
    if (sj->result.upserted) {
        bson_value_destroy(&sj->result.upserted_id);
    }
}

static struct store_job *
store_job_new(const struct levpy_job_type *type, Session *session,
              const char *coll)
{
    struct store_job *sj = levpy_job_new(type, sizeof(*sj));

    if (sj == NULL) {
        return NULL;
    }
    sj->core = session->core;
    sj->coll = strdup(coll);
    if (sj->coll == NULL) {
        levpy_job_free(&sj->job);
        PyErr_NoMemory();
        return NULL;
    }
    return sj;
}

static int
find_one_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store = lev_session_store(sj->core, scope, &job->err);
    const struct lev_find f = {.coll = sj->coll,
                               .query = sj->query,
                               .projection = sj->projection,
                               .limit = 1};
    struct lev_cursor *cursor;
    int n;

    if (store == NULL) {
        return -1;
    }
    cursor = store->ops->find(store, scope, &f, &job->err);
    if (cursor == NULL) {
        return -1;
    }
    n = store->ops->next(cursor, scope, 1, &sj->out, &job->err);
    store->ops->cursor_close(cursor);
    sj->count = n;
    return n < 0 ? -1 : 0;
}

static PyObject *
find_one_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);

    if (sj->count == 0) {
        Py_RETURN_NONE;
    }
    return levbson_decode(&st->bson, (const uint8_t *)sj->out.data,
                          sj->out.len);
}

PyObject *
levpy_find_one(struct levpy_state *st, Session *session, const char *name,
               const char *coll, bson_t *query, bson_t *projection)
{
    static const struct levpy_job_type type = {
        "find_one", find_one_work, find_one_finish, store_job_release};
    struct store_job *sj = store_job_new(&type, session, coll);
    PyObject *op;

    if (sj == NULL) {
        destroy_bson(query);
        destroy_bson(projection);
        return NULL;
    }
    sj->query = query;
    sj->projection = projection;
    op = levpy_job_op(st, sj, (PyObject *)session, session->bridge);
    if (op != NULL) {
        ((Op *)op)->name = name;
    }
    return op;
}

static int
update_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store;
    const struct lev_update u = {.coll = sj->coll,
                                 .query = sj->query,
                                 .update = sj->change,
                                 .upsert = (sj->flags & LEVPY_UPSERT) != 0,
                                 .multi = (sj->flags & LEVPY_MULTI) != 0};

    if (sj->change == NULL) {
        return 0;
    }
    store = lev_session_store(sj->core, scope, &job->err);
    if (store == NULL) {
        return -1;
    }
    return store->ops->update(store, scope, &u, &sj->result, &job->err);
}

/* A BSON value by itself, through a document that holds nothing else. */
static PyObject *
value_to_python(struct levpy_state *st, const bson_value_t *value)
{
    bson_t doc = BSON_INITIALIZER;
    _cleanup_pydecref_ PyObject *dict = NULL;

    BSON_APPEND_VALUE(&doc, "v", value);
    dict = levbson_decode(&st->bson, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
    return dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemString(dict, "v"));
}

static PyObject *
update_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    PyObject *id = sj->result.upserted && !(sj->flags & LEVPY_QUIET)
                       ? value_to_python(st, &sj->result.upserted_id)
                       : Py_NewRef(Py_None);

    if (sj->flags & LEVPY_QUIET) {
        return id;
    }
    return id == NULL ? NULL
                      : Py_BuildValue("LLN", (long long)sj->result.matched,
                                      (long long)sj->result.modified, id);
}

PyObject *
levpy_update(struct levpy_state *st, Session *session, const char *name,
             const char *coll, bson_t *query, bson_t *change, unsigned flags)
{
    static const struct levpy_job_type type = {
        "update", update_work, update_finish, store_job_release};
    struct store_job *sj = store_job_new(&type, session, coll);
    PyObject *op;

    if (sj == NULL) {
        destroy_bson(query);
        destroy_bson(change);
        return NULL;
    }
    sj->query = query;
    sj->change = change;
    sj->flags = flags;
    if (flags & LEVPY_ORDERED) {
        sj->job.lane = session->lane;
    }
    op = levpy_job_op(st, sj, (PyObject *)session, session->bridge);
    if (op != NULL) {
        ((Op *)op)->name = name;
    }
    return op;
}

static int
insert_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store = lev_session_store(sj->core, scope, &job->err);

    if (store == NULL) {
        return -1;
    }
    return store->ops->insert(store, scope, sj->coll,
                              (const bson_t *const *)sj->docs, sj->docs_n,
                              &job->err);
}

static PyObject *
none_finish(struct levpy_job *job, struct levpy_state *st)
{
    Py_RETURN_NONE;
}

static int
count_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store = lev_session_store(sj->core, scope, &job->err);

    if (store == NULL) {
        return -1;
    }
    return store->ops->count(store, scope, sj->coll, sj->query, &sj->count,
                             &job->err);
}

static PyObject *
count_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);

    return PyLong_FromLongLong(sj->count);
}

static int
delete_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store = lev_session_store(sj->core, scope, &job->err);

    return store == NULL
               ? -1
               : store->ops->remove(store, scope, sj->coll, sj->query,
                                    (sj->flags & LEVPY_MULTI) != 0, &sj->count,
                                    &job->err);
}

static int
collections_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    struct lev_store *store = lev_session_store(sj->core, scope, &job->err);

    if (store == NULL) {
        return -1;
    }
    sj->query = bson_new();
    return store->ops->collections(store, scope, sj->query, &job->err);
}

static PyObject *
collections_finish(struct levpy_job *job, struct levpy_state *st)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);
    _cleanup_pydecref_ PyObject *dict =
        levbson_decode(&st->bson, bson_get_data(sj->query), sj->query->len);

    return dict == NULL ? NULL : PyDict_Values(dict);
}

static PyObject *
Session_find_one(Session *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coll", "query", "projection", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    PyObject *query = NULL, *projection = NULL;
    bson_t *q, *p = NULL;
    const char *coll;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|OO:find_one", keywords,
                                     &coll, &query, &projection) ||
        levpy_to_bson(st, query, "filter", &q) < 0)
    {
        return NULL;
    }
    if (levpy_projection(st, projection == Py_None ? NULL : projection, &p) <
        0) {
        destroy_bson(q);
        return NULL;
    }
    return levpy_find_one(st, self, "Collection.find_one", coll, q, p);
}

static PyObject *
Session_update(Session *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coll",   "query", "update",
                               "upsert", "multi", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    PyObject *query, *change;
    int upsert = 0, multi = 0;
    bson_t *q, *c;
    const char *coll;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOO|$pp:update", keywords,
                                     &coll, &query, &change, &upsert,
                                     &multi) ||
        need_bson(st, query, "query", &q) < 0)
    {
        return NULL;
    }
    if (need_bson(st, change, "update", &c) < 0) {
        destroy_bson(q);
        return NULL;
    }
    return levpy_update(st, self, "Collection.update", coll, q, c,
                        (upsert ? LEVPY_UPSERT : 0) |
                            (multi ? LEVPY_MULTI : 0));
}

static PyObject *
Session_insert(Session *self, PyObject *args, PyObject *kwargs)
{
    static const struct levpy_job_type type = {
        "Collection.insert", insert_work, none_finish, store_job_release};
    static char *keywords[] = {"coll", "documents", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    _cleanup_pydecref_ PyObject *fast = NULL;
    struct store_job *sj;
    PyObject *docs;
    const char *coll;
    Py_ssize_t n;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO:insert", keywords,
                                     &coll, &docs))
    {
        return NULL;
    }
    fast = PySequence_Fast(docs, "documents must be a list of mappings");
    if (fast == NULL || (sj = store_job_new(&type, self, coll)) == NULL) {
        return NULL;
    }
    n = PySequence_Fast_GET_SIZE(fast);
    sj->docs = calloc((size_t)n + 1, sizeof(*sj->docs));
    if (sj->docs == NULL) {
        levpy_job_free(&sj->job);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < n && i < PySequence_Fast_GET_SIZE(fast); i++) {
        PyObject *doc = PySequence_Fast_GET_ITEM(fast, i);

        if (need_bson(st, doc, "a document", &sj->docs[i]) < 0) {
            levpy_job_free(&sj->job);
            return NULL;
        }
        sj->docs_n = (size_t)i + 1;
    }
    return levpy_job_op(st, sj, (PyObject *)self, self->bridge);
}

static PyObject *
Session_count(Session *self, PyObject *args, PyObject *kwargs)
{
    static const struct levpy_job_type type = {"Collection.count_documents",
                                               count_work, count_finish,
                                               store_job_release};
    static char *keywords[] = {"coll", "query", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    PyObject *query = NULL;
    struct store_job *sj;
    const char *coll;
    bson_t *q;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|O:count", keywords,
                                     &coll, &query) ||
        levpy_to_bson(st, query, "filter", &q) < 0)
    {
        return NULL;
    }
    sj = store_job_new(&type, self, coll);
    if (sj == NULL) {
        destroy_bson(q);
        return NULL;
    }
    sj->query = q;
    return levpy_job_op(st, sj, (PyObject *)self, self->bridge);
}

static PyObject *
Session_delete(Session *self, PyObject *args, PyObject *kwargs)
{
    static const struct levpy_job_type type = {
        "Collection.delete", delete_work, count_finish, store_job_release};
    static char *keywords[] = {"coll", "query", "multi", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    struct store_job *sj;
    PyObject *query;
    const char *coll;
    int multi = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO|$p:delete", keywords,
                                     &coll, &query, &multi) ||
        (sj = store_job_new(&type, self, coll)) == NULL)
    {
        return NULL;
    }
    if (need_bson(st, query, "filter", &sj->query) < 0) {
        levpy_job_free(&sj->job);
        return NULL;
    }
    sj->flags = multi ? LEVPY_MULTI : 0;
    return levpy_job_op(st, sj, (PyObject *)self, self->bridge);
}

static PyObject *
Session_collections(Session *self, PyObject *Py_UNUSED(unused))
{
    static const struct levpy_job_type type = {
        "Session.collections", collections_work, collections_finish,
        store_job_release};
    struct store_job *sj = store_job_new(&type, self, "");

    return sj == NULL ? NULL
                      : levpy_job_op(levpy_state_of((PyObject *)self), sj,
                                     (PyObject *)self, self->bridge);
}

static PyObject *
Session_stop(Session *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"hurry", NULL};
    int hurry = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:stop", keywords,
                                     &hurry)) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(lev_session_stop(self->core, hurry != 0));
}

static PyObject *
Session_document(Session *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coll", "oid", NULL};
    struct levpy_state *st = levpy_state_of((PyObject *)self);
    uint8_t bytes[LEVBSON_OID_LEN];
    const char *coll;
    Document *doc;
    PyObject *oid;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO:document", keywords,
                                     &coll, &oid) ||
        (rc = levbson_oid_get(&st->bson, oid, bytes)) < 0)
    {
        return NULL;
    }
    if (rc == 0) {
        return PyErr_Format(PyExc_TypeError, "oid must be ObjectId, not %s",
                            Py_TYPE(oid)->tp_name);
    }
    doc = levpy_document_new(st, self, coll, bytes);
    if (doc != NULL) {
        doc->ordered = true;
    }
    return (PyObject *)doc;
}

static int
flush_work(struct levpy_job *job, const struct lev_scope *scope)
{
    return 0; /* its turn has come: those before it have ended */
}

static PyObject *
Session_flush(Session *self, PyObject *Py_UNUSED(unused))
{
    static const struct levpy_job_type type = {"Session.flush", flush_work,
                                               none_finish, store_job_release};
    struct store_job *sj = store_job_new(&type, self, "");

    if (sj == NULL) {
        return NULL;
    }
    sj->job.lane = self->lane;
    return levpy_job_op(levpy_state_of((PyObject *)self), sj, (PyObject *)self,
                        self->bridge);
}

static int
close_work(struct levpy_job *job, const struct lev_scope *scope)
{
    struct store_job *sj = lev_container_of(job, struct store_job, job);

    lev_session_close(sj->core, scope);
    return 0;
}

static PyObject *
Session_close(Session *self, PyObject *Py_UNUSED(unused))
{
    static const struct levpy_job_type type = {"Session.close", close_work,
                                               none_finish, store_job_release};
    struct store_job *sj = store_job_new(&type, self, "");

    return sj == NULL ? NULL
                      : levpy_job_op(levpy_state_of((PyObject *)self), sj,
                                     (PyObject *)self, self->bridge);
}

static int64_t
seconds(double s)
{
    return s <= 0       ? 0
           : s >= 9.0e9 ? LEV_NEVER
                        : (int64_t)(s * (double)LEV_SECOND);
}

static PyObject *
Session_close_now(Session *self, PyObject *arg)
{
    double limit = PyFloat_AsDouble(arg);
    const struct lev_scope forever = {LEV_NEVER, NULL};
    struct lev_scope scope;
    struct lev_error err;

    if (PyErr_Occurred()) {
        return NULL;
    }
    if (levpy_bridge_is_parents(self->bridge)) {
        Py_RETURN_NONE;
    }
    scope = lev_scope_within(&forever, seconds(limit));
    Py_BEGIN_ALLOW_THREADS
        /* What is not stored in time is told by the ops. */
        (void)
    levpy_lane_wait(self->lane, &scope, &err);
    lev_session_close(self->core, &scope);
    Py_END_ALLOW_THREADS
    return levpy_bridge_settle(self->bridge) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the type ---- */

Session *
levpy_session_current(struct levpy_state *st)
{
    const struct levpy_glue *glue = levpy_glue(st);
    PyObject *session =
        glue == NULL ? NULL : PyObject_CallNoArgs(glue->current_session);

    if (session != NULL && !Py_IS_TYPE(session, st->SessionType)) {
        PyErr_SetString(PyExc_TypeError, "no session");
        Py_CLEAR(session);
    }
    return (Session *)session;
}

static char **
strings_of(PyObject *list, const char *complaint)
{
    _cleanup_pydecref_ PyObject *fast = PySequence_Fast(list, complaint);
    Py_ssize_t n = fast == NULL ? 0 : PySequence_Fast_GET_SIZE(fast);
    char **v;

    if (fast == NULL) {
        return NULL;
    }
    v = calloc((size_t)n + 1, sizeof(*v));
    for (Py_ssize_t i = 0; v != NULL && i < n; i++) {
        const char *text = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(fast, i));

        if (text == NULL || (v[i] = strdup(text)) == NULL) {
            lev_strv_free(v);
            v = NULL;
        }
    }
    if (v == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    return v;
}

static int
create_core(Session *self, struct levpy_state *st,
            struct lev_session_config *config, const char *engine,
            const char *source, char ***mirrors)
{
    struct lev_error err;

    if (lev_discover_from_env(&config->discover, engine, source, &err) < 0) {
        levpy_raise(st, &err);
        return -1;
    }
    config->discover.mirrors = lev_steal(*mirrors);
    self->lane = levpy_lane_new();
    self->sink = self->lane == NULL ? NULL : levpy_log_new(self);
    if (self->sink == NULL) {
        lev_discover_deinit(&config->discover);
        PyErr_NoMemory();
        return -1;
    }
    config->log = levpy_log_base(self->sink);
    self->core = lev_session_create(config, &err);
    if (self->core == NULL) {
        self->sink = NULL; /* it went with the session */
        levpy_raise(st, &err);
        return -1;
    }
    return 0;
}

static PyObject *
Session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {
        "job",           "user",       "store",         "data_dir",
        "tool_registry", "mirrors",    "engine",        "engine_source",
        "bundle_argv",   "pull_stall", "ready_timeout", "grace",
        "log",           NULL};
    struct levpy_state *st =
        levpy_state(PyType_GetModuleByDef(type, &levpy_module));
    _cleanup_pydecref_ PyObject *made = NULL;
    struct lev_session_config config = {0};
    const char *engine = NULL, *source = NULL;
    _cleanup_strv_ char **argv = NULL, **mirrors = NULL;
    double stall, ready, grace;
    PyObject *argv_list, *mirror_list, *log;
    Session *self;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "$sssssOzzOdddO:Session", keywords, &config.job,
            &config.user, &config.store, &config.data_dir,
            &config.tool_registry, &mirror_list, &engine, &source, &argv_list,
            &stall, &ready, &grace, &log) ||
        (made = type->tp_alloc(type, 0)) == NULL)
    {
        return NULL;
    }
    self = (Session *)made;
    config.pull_stall = seconds(stall);
    config.ready_timeout = seconds(ready);
    config.grace = seconds(grace);
    self->log = Py_NewRef(log);
    self->bridge = levpy_bridge_current(st);
    if (self->bridge == NULL ||
        (argv = strings_of(argv_list, "bundle_argv must be a list")) == NULL ||
        (mirrors = strings_of(mirror_list, "mirrors must be a list")) == NULL)
    {
        return NULL;
    }
    config.bundle_argv = (const char *const *)argv;
    return create_core(self, st, &config, engine, source, &mirrors) < 0
               ? NULL
               : lev_steal(made);
}

static PyObject *
Session_id(Session *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(lev_session_id(self->core));
}

static int
Session_traverse(Session *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->bridge);
    Py_VISIT(self->log);
    return 0;
}

static int
Session_clear(Session *self)
{
    /* The core's threads push to the bridge through it. */
    if (self->sink != NULL) {
        levpy_log_silence(self->sink);
        self->sink = NULL;
    }
    Py_CLEAR(self->bridge);
    Py_CLEAR(self->log);
    return 0;
}

static void
Session_dealloc(Session *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Session_clear(self);
    levpy_lane_unref(self->lane);
    if (self->core != NULL) {
        /* Closing the store may wait for its writer. */
        Py_BEGIN_ALLOW_THREADS
        lev_session_unref(self->core);
        Py_END_ALLOW_THREADS
    }
    tp->tp_free((PyObject *)self);
    Py_DECREF(tp);
}

#define METHOD(name, doc)                                                     \
    {                                                                         \
#        name, (PyCFunction)(void (*)(void))Session_##name,                   \
            METH_VARARGS | METH_KEYWORDS, doc                                 \
    }

static PyMethodDef Session_methods[] = {
    METHOD(find_one, levrt_Session_find_one_DOC),
    METHOD(update, levrt_Session_update_DOC),
    METHOD(insert, levrt_Session_insert_DOC),
    METHOD(count, levrt_Session_count_DOC),
    METHOD(delete, levrt_Session_delete_DOC),
    {"gc", (PyCFunction)(void (*)(void))levpy_session_gc,
     METH_VARARGS | METH_KEYWORDS, levrt_Session_gc_DOC},
    METHOD(stop, levrt_Session_stop_DOC),
    METHOD(document, levrt_Session_document_DOC),
    {"collections", (PyCFunction)Session_collections, METH_NOARGS,
     levrt_Session_collections_DOC},
    {"flush", (PyCFunction)Session_flush, METH_NOARGS,
     levrt_Session_flush_DOC},
    {"close", (PyCFunction)Session_close, METH_NOARGS,
     levrt_Session_close_DOC},
    {"close_now", (PyCFunction)Session_close_now, METH_O,
     levrt_Session_close_now_DOC},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Session_getset[] = {
    {"id", (getter)Session_id, NULL, levrt_Session_id_DOC, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Session_slots[] = {
    {Py_tp_doc, (void *)levrt_Session_DOC}, {Py_tp_new, Session_new},
    {Py_tp_dealloc, Session_dealloc},       {Py_tp_traverse, Session_traverse},
    {Py_tp_clear, Session_clear},           {Py_tp_methods, Session_methods},
    {Py_tp_getset, Session_getset},         {0, NULL},
};

static PyType_Spec Session_spec = {
    .name = "levrt._levrt.Session",
    .basicsize = sizeof(Session),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Session_slots,
};

int
levpy_session_setup(PyObject *module)
{
    struct levpy_state *st = levpy_state(module);

    st->SessionType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Session_spec, NULL);
    if (st->SessionType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->SessionType);
}
