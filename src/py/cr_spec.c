#include "cr.h"

#include <string.h>

static char *
copy_text(PyObject *value)
{
    const char *text = PyUnicode_AsUTF8(value);
    char *copy = text == NULL ? NULL : strdup(text);

    if (copy == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    return copy;
}

/* NULL for None, without an exception. */
static int
copy_optional(PyObject *value, char **to)
{
    if (value == Py_None) {
        return 0;
    }
    *to = copy_text(value);
    return *to == NULL ? -1 : 0;
}

static char **
copy_list(PyObject *list)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    char **v = calloc((size_t)n + 1, sizeof(*v));

    if (v == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        v[i] = copy_text(PyList_GET_ITEM(list, i));
        if (v[i] == NULL) {
            lev_strv_free(v);
            return NULL;
        }
    }
    return v;
}

static void *
array_of(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);

    return p == NULL ? PyErr_NoMemory() : p;
}

static int
freeze_file(struct lev_run_file *f, PyObject *target, PyObject *value)
{
    _cleanup_pydecref_ PyObject *path = NULL;
    const char *data;
    Py_ssize_t len;

    f->target = copy_text(target);
    if (f->target == NULL) {
        return -1;
    }
    if (PyBytes_Check(value)) {
        data = PyBytes_AS_STRING(value);
        len = PyBytes_GET_SIZE(value);
    }
    else if (PyUnicode_Check(value)) {
        data = PyUnicode_AsUTF8AndSize(value, &len);
    }
    else {
        if (!PyUnicode_FSConverter(value, &path)) {
            return -1;
        }
        f->path = strdup(PyBytes_AS_STRING(path));
        return f->path == NULL ? PyErr_NoMemory(), -1 : 0;
    }
    if (data == NULL) {
        return -1;
    }
    f->data = array_of((size_t)len, 1);
    if (f->data == NULL) {
        return -1;
    }
    memcpy(f->data, data, (size_t)len);
    f->len = (size_t)len;
    return 0;
}

static int
freeze_files(struct lev_run_spec *spec, PyObject *files)
{
    PyObject *target, *value;
    Py_ssize_t pos = 0;

    spec->files =
        array_of((size_t)PyDict_GET_SIZE(files), sizeof(*spec->files));
    if (spec->files == NULL) {
        return -1;
    }
    while (PyDict_Next(files, &pos, &target, &value)) {
        if (freeze_file(&spec->files[spec->files_n++], target, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
freeze_links(struct lev_run_spec *spec, PyObject *links)
{
    PyObject *alias, *host;
    Py_ssize_t pos = 0;

    spec->links =
        array_of((size_t)PyDict_GET_SIZE(links), sizeof(*spec->links));
    if (spec->links == NULL) {
        return -1;
    }
    while (PyDict_Next(links, &pos, &alias, &host)) {
        struct lev_run_pair *pair = &spec->links[spec->links_n++];

        pair->key = copy_text(alias);
        pair->value = pair->key == NULL ? NULL : copy_text(host);
        if (pair->value == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
freeze_ports(struct lev_run_spec *spec, PyObject *ports)
{
    size_t n = (size_t)PyList_GET_SIZE(ports);

    spec->ports = array_of(n, sizeof(*spec->ports));
    if (spec->ports == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        spec->ports[i] =
            (uint16_t)PyLong_AsLong(PyList_GET_ITEM(ports, (Py_ssize_t)i));
    }
    spec->ports_n = n;
    return 0;
}

static int
freeze_services(struct levpy_state *st, struct lev_run_spec *spec,
                PyObject *services, const char *prefix)
{
    PyObject *alias, *cr;
    Py_ssize_t pos = 0;

    spec->services =
        array_of((size_t)PyDict_GET_SIZE(services), sizeof(*spec->services));
    if (spec->services == NULL) {
        return -1;
    }
    while (PyDict_Next(services, &pos, &alias, &cr)) {
        size_t i = spec->services_n++;

        spec->services[i].alias = copy_text(alias);
        spec->services[i].spec = spec->services[i].alias == NULL
                                     ? NULL
                                     : levpy_cr_spec(st, (Cr *)cr, prefix);
        if (spec->services[i].spec == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
freeze_entry(struct lev_run_spec *spec, PyObject *entry)
{
    _cleanup_pydecref_ PyObject *name = NULL, *payload = NULL, *python = NULL;

    if (entry == Py_None) {
        return 0;
    }
    name = PyObject_GetAttrString(entry, "name");
    python = name == NULL ? NULL : PyObject_GetAttrString(entry, "python");
    payload =
        python == NULL ? NULL : PyObject_CallMethod(entry, "payload", NULL);
    if (payload == NULL) {
        return -1;
    }
    spec->entry_name = copy_text(name);
    if (spec->entry_name == NULL) {
        return -1;
    }
    spec->image_python =
        PyUnicode_Check(python) &&
        PyUnicode_CompareWithASCIIString(python, "image") == 0;
    if (!PyBytes_Check(payload)) {
        PyErr_SetString(PyExc_TypeError, "the entry's payload must be bytes");
        return -1;
    }
    spec->payload_len = (size_t)PyBytes_GET_SIZE(payload);
    if (spec->payload_len > LEV_RUN_PAYLOAD_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "the entry %U closes over %zu bytes of data, more than "
                     "%zu: give it as files=",
                     name, spec->payload_len, (size_t)LEV_RUN_PAYLOAD_MAX);
        return -1;
    }
    spec->payload = array_of(spec->payload_len, 1);
    if (spec->payload == NULL) {
        return -1;
    }
    memcpy(spec->payload, PyBytes_AS_STRING(payload), spec->payload_len);
    return 0;
}

static int
freeze_accepted(struct lev_run_spec *spec, PyObject *check)
{
    size_t n;

    spec->check = check != Py_False;
    if (!PyList_Check(check)) {
        return 0;
    }
    n = (size_t)PyList_GET_SIZE(check);
    spec->accepted = array_of(n, sizeof(*spec->accepted));
    if (spec->accepted == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        spec->accepted[i] =
            (int)PyLong_AsLong(PyList_GET_ITEM(check, (Py_ssize_t)i));
    }
    spec->accepted_n = n;
    return 0;
}

static enum lev_pull_policy
policy_of(PyObject *pull)
{
    if (PyUnicode_CompareWithASCIIString(pull, "always") == 0) {
        return LEV_PULL_ALWAYS;
    }
    return PyUnicode_CompareWithASCIIString(pull, "never") == 0
               ? LEV_PULL_NEVER
               : LEV_PULL_MISSING;
}

/* Ports are names of bindings, as docker-py takes them: ints, too. */
static int
name_ports(PyObject *all)
{
    PyObject *bindings = PyDict_GetItemString(all, "port_bindings");
    _cleanup_pydecref_ PyObject *named = NULL;
    PyObject *port, *binding;
    Py_ssize_t pos = 0;

    if (bindings == NULL || !PyDict_Check(bindings)) {
        return 0;
    }
    named = PyDict_New();
    while (named != NULL && PyDict_Next(bindings, &pos, &port, &binding)) {
        _cleanup_pydecref_ PyObject *name =
            PyLong_CheckExact(port) ? PyObject_Str(port) : Py_NewRef(port);

        if (name == NULL || PyDict_SetItem(named, name, binding) < 0) {
            return -1;
        }
    }
    return named == NULL ? -1
                         : PyDict_SetItemString(all, "port_bindings", named);
}

int
levpy_cr_options(struct levpy_state *st, Cr *cr, bson_t **out)
{
    _cleanup_pydecref_ PyObject *all = PyDict_Copy(cr->options);

    *out = NULL;
    if (all == NULL || PyDict_Update(all, cr->host_config) < 0 ||
        name_ports(all) < 0)
    {
        return -1;
    }
    if (PyDict_GET_SIZE(all) == 0) {
        return 0;
    }
    return levpy_to_bson(st, all, "options", out);
}

/* `a|b|<schema>`; without a schema the namespace alone, `_` at the root. One
 * that no store takes is refused here: after the run its findings would be
 * lost. */
static char *
collection_name(PyObject *schema, const char *prefix)
{
    const char *tail = schema == Py_None ? NULL : PyUnicode_AsUTF8(schema);
    char *name = NULL;

    if (tail == NULL) {
        name = strdup(prefix[0] == '\0' ? "_" : prefix);
    }
    else if (asprintf(&name, "%s%s%s", prefix, prefix[0] == '\0' ? "" : "|",
                      tail) < 0)
    {
        name = NULL;
    }
    if (name == NULL) {
        PyErr_NoMemory();
    }
    else if (strlen(name) > LEV_STORE_COLL_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "the collection's name, namespaces and schema, has %zu "
                     "bytes; a store takes at most %d: %.80s...",
                     strlen(name), LEV_STORE_COLL_MAX, name);
        free(lev_steal(name));
    }
    else if (strcmp(name, "lev.runs") == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "the collection lev.runs is levrt's own: give the run "
                        "a schema or another namespace");
        free(lev_steal(name));
    }
    return name;
}

static int
freeze(struct levpy_state *st, struct lev_run_spec *spec, Cr *cr,
       const char *prefix)
{
    bson_oid_t oid;

    spec->image = copy_text(cr->image);
    if (spec->image == NULL || copy_optional(cr->schema, &spec->schema) < 0 ||
        copy_optional(cr->engine, &spec->engine) < 0 ||
        copy_optional(cr->name, &spec->name) < 0 ||
        (spec->coll = collection_name(cr->schema, prefix)) == NULL)
    {
        return -1;
    }
    spec->host = cr->host == Py_True;
    spec->keep = cr->keep == Py_True;
    spec->pull = policy_of(cr->pull);
    if (cr->timeout != Py_None) {
        double s = PyFloat_AsDouble(cr->timeout);

        spec->timeout =
            s > 9.0e9 ? LEV_NEVER / 2 : (int64_t)(s * (double)LEV_SECOND);
    }
    bson_oid_init(&oid, NULL);
    memcpy(spec->doc_id, oid.bytes, sizeof(spec->doc_id));
    if ((cr->cmd != Py_None && (spec->cmd = copy_list(cr->cmd)) == NULL) ||
        (spec->env = copy_list(cr->env)) == NULL ||
        freeze_files(spec, cr->files) < 0 ||
        freeze_links(spec, cr->links) < 0 ||
        freeze_ports(spec, cr->ports) < 0 ||
        freeze_accepted(spec, cr->check) < 0 ||
        levpy_cr_options(st, cr, &spec->options) < 0 ||
        freeze_entry(spec, cr->entry) < 0)
    {
        return -1;
    }
    return freeze_services(st, spec, cr->services, prefix);
}

struct lev_run_spec *
levpy_cr_spec(struct levpy_state *st, Cr *cr, const char *prefix)
{
    struct lev_run_spec *spec = calloc(1, sizeof(*spec));
    int rc;

    if (spec == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    rc = Py_EnterRecursiveCall(" in the services of a Cr");
    if (rc == 0) {
        rc = freeze(st, spec, cr, prefix);
        Py_LeaveRecursiveCall();
    }
    if (rc < 0) {
        lev_run_spec_free(spec);
        return NULL;
    }
    return spec;
}
