#include "cr.h"

#include "imageref.h"
#include "options.h"

#include <math.h>
#include <string.h>

static PyObject *
wrong_type(const char *name, const char *expected, PyObject *value)
{
    return PyErr_Format(PyExc_TypeError, "%s must be %s, not %s", name,
                        expected, Py_TYPE(value)->tp_name);
}

/* The text of a str without NUL; NULL with an exception. */
static const char *
text_of(PyObject *value, const char *name)
{
    const char *text;
    Py_ssize_t len;

    if (!PyUnicode_Check(value)) {
        wrong_type(name, "str", value);
        return NULL;
    }
    text = PyUnicode_AsUTF8AndSize(value, &len);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "%s has a lone surrogate, which UTF-8 cannot hold: %R",
                     name, value);
        return NULL;
    }
    if (text != NULL && strlen(text) != (size_t)len) {
        PyErr_Format(PyExc_ValueError, "%s must not contain NUL: %R", name,
                     value);
        return NULL;
    }
    return text;
}

/* The same, for the value of `key` in the dict called `name`. */
static const char *
text_at(PyObject *value, const char *name, PyObject *key)
{
    _cleanup_pydecref_ PyObject *item =
        PyUnicode_FromFormat("%s[%R]", name, key);
    const char *text = item == NULL ? NULL : PyUnicode_AsUTF8(item);

    return text == NULL ? NULL : text_of(value, text);
}

/* The value of an int, or `otherwise` for what does not fit; -1 with TypeError
 * for what is no int. */
static long
int_of(PyObject *value, const char *name, Py_ssize_t i, long otherwise)
{
    long n;

    if (!PyLong_Check(value) || PyBool_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s[%zd] must be int, not %s", name, i,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    n = PyLong_AsLong(value);
    if (n == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return n < 0 ? otherwise : n;
}

PyObject *
levpy_check_image(PyObject *value)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};
    struct lev_error err;
    const char *text = text_of(value, "image");

    if (text == NULL) {
        return NULL;
    }
    /* Where tool images live is not known yet: any place does. */
    if (text[0] != '\0' && text[0] != '.' &&
        lev_imageref_parse(text, "registry", &ref, &err) < 0)
    {
        return PyErr_Format(PyExc_ValueError, "image: %s", err.msg);
    }
    if (text[0] == '.' && strchr(text + 1, '.') == NULL) {
        return PyErr_Format(PyExc_ValueError,
                            "image: %R is no tool image: it must look like "
                            "'.user.tool' or '.user.tool:version'",
                            value);
    }
    return Py_NewRef(value);
}

static size_t
span(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789_.-");
}

static bool
is_schema(const char *text)
{
    static const char digits[] = "0123456789";
    size_t n = span(text);

    if (n == 0 || text[n] != '/') {
        return false;
    }
    text += n + 1;
    n = span(text);
    if (n == 0 || text[n] != '@') {
        return false;
    }
    text += n + 1;
    n = strspn(text, digits);
    if (n == 0 || text[n] != '.') {
        return false;
    }
    text += n + 1;
    n = strspn(text, digits);
    return n > 0 && text[n] == '\0';
}

PyObject *
levpy_check_schema(PyObject *value)
{
    const char *text;

    if (value == NULL || value == Py_None) {
        Py_RETURN_NONE;
    }
    text = text_of(value, "schema");
    if (text == NULL) {
        return NULL;
    }
    if (!is_schema(text)) {
        return PyErr_Format(PyExc_ValueError,
                            "schema must look like "
                            "'namespace/name@major.minor', not %R",
                            value);
    }
    return Py_NewRef(value);
}

PyObject *
levpy_check_flag(PyObject *value, const char *name, bool absent)
{
    if (value == NULL) {
        return PyBool_FromLong(absent);
    }
    return PyBool_Check(value) ? Py_NewRef(value)
                               : wrong_type(name, "bool", value);
}

PyObject *
levpy_check_entry(struct levpy_state *st, PyObject *value)
{
    const struct levpy_glue *glue;

    if (value == NULL || value == Py_None) {
        Py_RETURN_NONE;
    }
    glue = levpy_glue(st);
    return glue == NULL ? NULL : PyObject_CallOneArg(glue->entry_call, value);
}

/* A new list of str out of a list or tuple; None for None. */
static PyObject *
list_of_text(PyObject *value, const char *name)
{
    _cleanup_pydecref_ PyObject *list = NULL;

    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        return wrong_type(name, "a list of str", value);
    }
    list = PySequence_List(value);
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        char item[64];

        snprintf(item, sizeof(item), "%s[%zd]", name, i);
        if (text_of(PyList_GET_ITEM(list, i), item) == NULL) {
            return NULL;
        }
    }
    return lev_steal(list);
}

PyObject *
levpy_check_cmd(PyObject *value)
{
    if (value == NULL || value == Py_None) {
        Py_RETURN_NONE;
    }
    return list_of_text(value, "cmd");
}

static int
check_env_item(PyObject *item, Py_ssize_t i)
{
    const char *text = PyUnicode_AsUTF8(item);
    const char *eq = text == NULL ? NULL : strchr(text, '=');

    if (eq == NULL || eq == text) {
        PyErr_Format(PyExc_ValueError,
                     "env[%zd] must look like 'NAME=value', not %R", i, item);
        return -1;
    }
    return 0;
}

static PyObject *
env_of_dict(PyObject *dict)
{
    _cleanup_pydecref_ PyObject *list = PyList_New(0);
    PyObject *key, *value;
    Py_ssize_t pos = 0;

    while (list != NULL && PyDict_Next(dict, &pos, &key, &value)) {
        _cleanup_pydecref_ PyObject *item = NULL;
        const char *name = text_of(key, "a name in env");

        if (name == NULL || text_at(value, "env", key) == NULL) {
            return NULL;
        }
        if (name[0] == '\0' || strchr(name, '=') != NULL) {
            return PyErr_Format(PyExc_ValueError,
                                "env: %R is no name of a variable", key);
        }
        item = PyUnicode_FromFormat("%U=%U", key, value);
        if (item == NULL || PyList_Append(list, item) < 0) {
            return NULL;
        }
    }
    return lev_steal(list);
}

PyObject *
levpy_check_env(PyObject *value)
{
    _cleanup_pydecref_ PyObject *list = NULL;

    if (value == NULL || value == Py_None) {
        return PyList_New(0);
    }
    if (PyDict_Check(value)) {
        return env_of_dict(value);
    }
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        return wrong_type("env", "a list of 'NAME=value' or a dict", value);
    }
    list = list_of_text(value, "env");
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        if (check_env_item(PyList_GET_ITEM(list, i), i) < 0) {
            return NULL;
        }
    }
    return lev_steal(list);
}

PyObject *
levpy_check_files(struct levpy_state *st, PyObject *value)
{
    const struct levpy_glue *glue;

    if (value == NULL || value == Py_None) {
        return PyDict_New();
    }
    if (!PyDict_Check(value)) {
        return wrong_type("files", "a dict by absolute path", value);
    }
    glue = levpy_glue(st);
    return glue == NULL ? NULL : PyObject_CallOneArg(glue->check_files, value);
}

static bool
is_hostname(const char *text)
{
    size_t n = span(text);

    return n > 0 && n < 254 && text[n] == '\0' && text[0] != '-' &&
           text[0] != '.';
}

PyObject *
levpy_check_links(PyObject *value)
{
    PyObject *key, *host;
    Py_ssize_t pos = 0;

    if (value == NULL || value == Py_None) {
        return PyDict_New();
    }
    if (!PyDict_Check(value)) {
        return wrong_type("links", "a dict of alias to host", value);
    }
    while (PyDict_Next(value, &pos, &key, &host)) {
        const char *alias = text_of(key, "an alias in links");
        const char *target =
            alias == NULL ? NULL : text_at(host, "links", key);

        if (target == NULL) {
            return NULL;
        }
        if (!is_hostname(alias)) {
            return PyErr_Format(PyExc_ValueError, "links: %R is no host name",
                                key);
        }
        if (target[0] == '\0') {
            return PyErr_Format(PyExc_ValueError,
                                "links: the host of %R is empty; a run that "
                                "has not started, or has ended, has no "
                                "address",
                                key);
        }
    }
    return PyDict_Copy(value);
}

PyObject *
levpy_check_ports(PyObject *value)
{
    _cleanup_pydecref_ PyObject *list = NULL;

    if (value == NULL || value == Py_None) {
        return PyList_New(0);
    }
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        return wrong_type("ports", "a list of int", value);
    }
    list = PySequence_List(value);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        long port = int_of(item, "ports", i, 0);

        if (port < 0) {
            return NULL;
        }
        if (port < 1 || port > 65535) {
            return PyErr_Format(PyExc_ValueError,
                                "ports[%zd] must be 1 to 65535, not %R", i,
                                item);
        }
    }
    return lev_steal(list);
}

PyObject *
levpy_check_services(struct levpy_state *st, PyObject *value)
{
    PyObject *key, *cr;
    Py_ssize_t pos = 0;

    if (value == NULL || value == Py_None) {
        return PyDict_New();
    }
    if (!PyDict_Check(value)) {
        return wrong_type("services", "a dict of alias to Cr", value);
    }
    while (PyDict_Next(value, &pos, &key, &cr)) {
        const char *alias = text_of(key, "an alias in services");

        if (alias == NULL) {
            return NULL;
        }
        if (!is_hostname(alias)) {
            return PyErr_Format(PyExc_ValueError,
                                "services: %R is no host name", key);
        }
        if (!PyObject_TypeCheck(cr, st->CrType)) {
            return PyErr_Format(PyExc_TypeError,
                                "services[%R] must be a Cr, not %s", key,
                                Py_TYPE(cr)->tp_name);
        }
        if (((Cr *)cr)->host == Py_True) {
            return PyErr_Format(PyExc_ValueError,
                                "services[%R] has host=True: a service is "
                                "reached by its alias on the run's network",
                                key);
        }
    }
    return PyDict_Copy(value);
}

PyObject *
levpy_check_timeout(PyObject *value)
{
    double s;

    if (value == NULL || value == Py_None) {
        Py_RETURN_NONE;
    }
    if ((!PyLong_Check(value) && !PyFloat_Check(value)) || PyBool_Check(value))
    {
        return wrong_type("timeout", "a number of seconds", value);
    }
    s = PyFloat_AsDouble(value);
    if (s == -1.0 && PyErr_Occurred()) {
        /* An int beyond every float. */
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    if (!(s > 0) || isinf(s)) {
        return PyErr_Format(PyExc_ValueError,
                            "timeout must be a positive number of seconds, "
                            "not %R",
                            value);
    }
    return PyFloat_FromDouble(s);
}

PyObject *
levpy_check_accepted(PyObject *value)
{
    _cleanup_pydecref_ PyObject *list = NULL;

    if (value == NULL) {
        Py_RETURN_TRUE;
    }
    if (PyBool_Check(value)) {
        return Py_NewRef(value);
    }
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        return wrong_type("check", "bool or a list of exit codes", value);
    }
    list = PySequence_List(value);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        long code = int_of(item, "check", i, 256);

        if (code < 0) {
            return NULL;
        }
        if (code > 255) {
            return PyErr_Format(PyExc_ValueError,
                                "check[%zd] must be an exit code from 0 to "
                                "255, not %R",
                                i, item);
        }
    }
    return lev_steal(list);
}

PyObject *
levpy_check_pull(PyObject *value)
{
    const char *text;

    if (value == NULL) {
        return PyUnicode_FromString("missing");
    }
    text = text_of(value, "pull");
    if (text == NULL) {
        return NULL;
    }
    if (strcmp(text, "missing") != 0 && strcmp(text, "always") != 0 &&
        strcmp(text, "never") != 0)
    {
        return PyErr_Format(PyExc_ValueError,
                            "pull must be 'missing', 'always' or 'never', "
                            "not %R",
                            value);
    }
    return Py_NewRef(value);
}

PyObject *
levpy_check_text(PyObject *value, const char *name)
{
    const char *text;

    if (value == NULL || value == Py_None) {
        Py_RETURN_NONE;
    }
    text = text_of(value, name);
    if (text == NULL) {
        return NULL;
    }
    if (text[0] == '\0') {
        return PyErr_Format(PyExc_ValueError, "%s must not be empty", name);
    }
    return Py_NewRef(value);
}

PyObject *
levpy_check_options(PyObject *value, const char *name)
{
    PyObject *key, *option;
    Py_ssize_t pos = 0;

    if (value == NULL || value == Py_None) {
        return PyDict_New();
    }
    if (!PyDict_Check(value)) {
        return wrong_type(name, "a dict", value);
    }
    while (PyDict_Next(value, &pos, &key, &option)) {
        if (!PyUnicode_Check(key)) {
            return PyErr_Format(PyExc_TypeError,
                                "%s: an option's name must be str, not %s",
                                name, Py_TYPE(key)->tp_name);
        }
    }
    return PyDict_Copy(value);
}

/* The hosts file is the other container's then. */
static int
check_links(struct levpy_state *st, const Cr *cr, const bson_t *options)
{
    struct lev_error err;
    bson_iter_t it;

    if (PyDict_GET_SIZE(cr->links) == 0 ||
        !bson_iter_init_find(&it, options, "network_mode") ||
        !BSON_ITER_HOLDS_UTF8(&it) ||
        strncmp(bson_iter_utf8(&it, NULL), "container:", 10) != 0)
    {
        return 0;
    }
    lev_error_set(&err, LEV_E_UNSUPPORTED_OPTION, 0,
                  "links cannot be made with network_mode=%.100s: that "
                  "container's hosts file counts; give links to its own run",
                  bson_iter_utf8(&it, NULL));
    levpy_raise(st, &err);
    return -1;
}

static int
check_name(Cr *cr)
{
    const char *text;

    if (cr->name == Py_None) {
        return 0;
    }
    text = text_of(cr->name, "name");
    if (text == NULL) {
        return -1;
    }
    if (strlen(text) < 2 || span(text) != strlen(text) ||
        strchr("_.-", text[0]) != NULL || strlen(text) > 120)
    {
        PyErr_Format(PyExc_ValueError,
                     "name must have 2 to 120 letters, digits, '_', '.' or "
                     "'-' and begin with a letter or digit, not %R",
                     cr->name);
        return -1;
    }
    return 0;
}

/* Files below these would not be there when the container runs. */
static int
check_targets(struct levpy_state *st, Cr *cr)
{
    _cleanup_pydecref_ PyObject *none = NULL;
    const struct levpy_glue *glue;

    if (PyDict_GET_SIZE(cr->files) == 0) {
        return 0;
    }
    glue = levpy_glue(st);
    if (glue == NULL) {
        return -1;
    }
    none = PyObject_CallFunctionObjArgs(glue->check_targets, cr->files,
                                        cr->options, cr->host_config, NULL);
    return none == NULL ? -1 : 0;
}

/* The runtime is all that an empty image has. */
static int
check_empty(Cr *cr)
{
    if (cr->entry == Py_None && PyUnicode_GET_LENGTH(cr->image) == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "image: an empty image has nothing to run: give it "
                        "an entry, or name an image");
        return -1;
    }
    return 0;
}

/* options and host_config are one set of names in two dicts. */
static int
check_twice(Cr *cr)
{
    PyObject *name, *value;
    Py_ssize_t pos = 0;

    while (PyDict_Next(cr->options, &pos, &name, &value)) {
        int both = PyDict_Contains(cr->host_config, name);

        if (both > 0) {
            PyErr_Format(PyExc_ValueError,
                         "%U is in options and in host_config: give it once",
                         name);
        }
        if (both != 0) {
            return -1;
        }
    }
    return 0;
}

/* A run and its services share a network, and so an engine. */
static int
check_engines(const Cr *cr)
{
    PyObject *alias, *service;
    Py_ssize_t pos = 0;

    while (PyDict_Next(cr->services, &pos, &alias, &service)) {
        PyObject *engine = ((Cr *)service)->engine;

        if (engine == Py_None) {
            continue;
        }
        if (cr->engine == Py_None ||
            PyUnicode_Compare(engine, cr->engine) != 0) {
            PyErr_Format(PyExc_ValueError,
                         "services[%R] has engine=%R: a service runs on the "
                         "engine of its run, whose engine= is %R",
                         alias, engine, cr->engine);
            return -1;
        }
    }
    return 0;
}

/* Services end with their run, and what is kept would lose them. */
static int
check_keep(const Cr *cr)
{
    PyObject *alias, *service;
    Py_ssize_t pos = 0;

    if (cr->keep == Py_True && PyDict_GET_SIZE(cr->services) > 0) {
        PyErr_SetString(PyExc_ValueError,
                        "keep=True and services exclude each other: services "
                        "end with their run");
        return -1;
    }
    while (PyDict_Next(cr->services, &pos, &alias, &service)) {
        if (((Cr *)service)->keep == Py_True) {
            PyErr_Format(PyExc_ValueError,
                         "services[%R] has keep=True: services end with their "
                         "run; start it as a run of its own",
                         alias);
            return -1;
        }
    }
    return 0;
}

int
levpy_check_together(struct levpy_state *st, Cr *cr)
{
    struct lev_error err;
    bson_t *options;
    bool network;
    int rc = 0;

    if (check_engines(cr) < 0 || check_name(cr) < 0 || check_empty(cr) < 0 ||
        check_keep(cr) < 0 || check_twice(cr) < 0 ||
        levpy_cr_options(st, cr, &options) < 0)
    {
        return -1;
    }
    if (options == NULL) {
        return check_targets(st, cr);
    }
    network = bson_has_field(options, "network_mode");
    if (lev_options_check(options, &err) < 0) {
        levpy_raise(st, &err);
        rc = -1;
    }
    else if (check_links(st, cr, options) < 0) {
        rc = -1;
    }
    else if (network && cr->host == Py_True) {
        PyErr_SetString(PyExc_ValueError,
                        "host=True and network_mode exclude each other");
        rc = -1;
    }
    else if (network && PyDict_GET_SIZE(cr->services) > 0) {
        PyErr_SetString(PyExc_ValueError,
                        "services need the run's own network: leave "
                        "network_mode out");
        rc = -1;
    }
    bson_destroy(options);
    return rc < 0 ? -1 : check_targets(st, cr);
}
