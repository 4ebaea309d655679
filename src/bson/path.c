#include "codec.h"

/* Whether a key reads back from `a.b[3]` without quotes. */
static bool
is_plain(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (strchr(".[]'\" \t\r\n", key[i]) != NULL) {
            return false;
        }
    }
    return len > 0;
}

static PyObject *
step_text(const struct levbson_path *step, const char *base)
{
    _cleanup_pydecref_ PyObject *key = NULL;

    if (step->index >= 0) {
        return PyUnicode_FromFormat("[%zd]", step->index);
    }
    key = PyUnicode_DecodeUTF8(base + step->key, (Py_ssize_t)step->keylen,
                               "backslashreplace");
    if (key == NULL) {
        return NULL;
    }
    if (!is_plain(base + step->key, step->keylen)) {
        return PyUnicode_FromFormat("[%R]", key);
    }
    return PyUnicode_FromFormat(step->up == NULL ? "%U" : ".%U", key);
}

PyObject *
levbson_path_text(const struct levbson_path *path, const uint8_t *base)
{
    _cleanup_pydecref_ PyObject *text = NULL;

    if (path == NULL) {
        return PyUnicode_FromString("document");
    }
    text = PyUnicode_FromString("");
    for (const struct levbson_path *step = path; text && step != NULL;
         step = step->up)
    {
        _cleanup_pydecref_ PyObject *head =
            step_text(step, (const char *)base);

        Py_XSETREF(text, head == NULL ? NULL : PyUnicode_Concat(head, text));
    }
    return lev_steal(text);
}
