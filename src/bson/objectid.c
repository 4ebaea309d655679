/* objectid.c - type levrt.ObjectId: twelve bytes that name a document.
 *
 * By the specification: seconds since 1970 (4 bytes, high byte first), a
 * random number of the process (5), a counter that starts at random (3, high
 * byte first). Instances hold nothing but their bytes, so the garbage
 * collector need not know them.
 */

#include "codec.h"

#include <structmember.h>
#include <sys/random.h>
#include <time.h>

typedef struct {
    PyObject_HEAD
    uint8_t data[LEVBSON_OID_LEN];
} ObjectId;

#define HEX_LEN (2 * LEVBSON_OID_LEN)

static struct levbson_state *
state_of(PyTypeObject *type)
{
    return PyModule_GetState(PyType_GetModule(type));
}

static PyObject *
make(PyTypeObject *type, const uint8_t data[LEVBSON_OID_LEN])
{
    ObjectId *self = PyObject_New(ObjectId, type);

    if (self != NULL) {
        memcpy(self->data, data, LEVBSON_OID_LEN);
    }
    return (PyObject *)self;
}

PyObject *
levbson_oid_new(struct levbson_state *st, const uint8_t data[LEVBSON_OID_LEN])
{
    return make(st->ObjectIdType, data);
}

/* 1: `type` is the ObjectId of PyMongo or of another codec of levrt, told by
 * its names, since neither may be loaded here; 0: it is not; -1: exception. */
static int
is_foreign_oid(PyTypeObject *type)
{
    _cleanup_pydecref_ PyObject *name = PyType_GetName(type);
    _cleanup_pydecref_ PyObject *module = NULL;
    const char *text;
    int rc;

    if (name == NULL) {
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(name, "ObjectId") != 0) {
        return 0;
    }
    rc = levbson_lookup((PyObject *)type, "__module__", &module);
    if (rc <= 0 || !PyUnicode_Check(module)) {
        return rc < 0 ? -1 : 0;
    }
    text = PyUnicode_AsUTF8(module);
    if (text == NULL) {
        return -1;
    }
    return strcmp(text, "bson.objectid") == 0 || strcmp(text, "levrt") == 0 ||
           strncmp(text, "levrt.", 6) == 0;
}

int
levbson_oid_get(struct levbson_state *st, PyObject *obj,
                uint8_t data[LEVBSON_OID_LEN])
{
    _cleanup_pydecref_ PyObject *binary = NULL;
    int rc;

    if (Py_IS_TYPE(obj, st->ObjectIdType)) {
        memcpy(data, ((ObjectId *)obj)->data, LEVBSON_OID_LEN);
        return 1;
    }
    rc = is_foreign_oid(Py_TYPE(obj));
    if (rc <= 0) {
        return rc;
    }
    binary = PyObject_GetAttr(obj, st->str_binary);
    if (binary == NULL) {
        return -1;
    }
    if (!PyBytes_Check(binary) || PyBytes_GET_SIZE(binary) != LEVBSON_OID_LEN)
    {
        return 0;
    }
    memcpy(data, PyBytes_AS_STRING(binary), LEVBSON_OID_LEN);
    return 1;
}

/* New ids */

static int
draw_random(struct levbson_oidgen *gen)
{
    uint8_t noise[8];
    ssize_t n;

    do {
        n = getrandom(noise, sizeof(noise), 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(noise)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    memcpy(gen->random, noise, sizeof(gen->random));
    gen->counter = (uint32_t)noise[5] << 16 | noise[6] << 8 | noise[7];
    gen->pid = getpid();
    return 0;
}

static int
generate(struct levbson_oidgen *gen, uint8_t data[LEVBSON_OID_LEN])
{
    uint32_t now = (uint32_t)time(NULL);

    /* A child of fork() must not go on with its parent's numbers. */
    if (gen->pid != getpid() && draw_random(gen) < 0) {
        return -1;
    }
    now = htobe32(now);
    memcpy(data, &now, sizeof(now));
    memcpy(data + 4, gen->random, sizeof(gen->random));
    data[9] = (uint8_t)(gen->counter >> 16);
    data[10] = (uint8_t)(gen->counter >> 8);
    data[11] = (uint8_t)gen->counter;
    gen->counter = (gen->counter + 1) & 0xffffff;
    return 0;
}

/* Hexadecimal */

static int
hex_digit(Py_UCS4 c)
{
    if (c >= '0' && c <= '9') {
        return (int)c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (int)c - 'a' + 10 : -1;
}

static bool
parse_hex(PyObject *text, uint8_t data[LEVBSON_OID_LEN])
{
    if (PyUnicode_GetLength(text) != HEX_LEN) {
        return false;
    }
    for (Py_ssize_t i = 0; i < LEVBSON_OID_LEN; i++) {
        int high = hex_digit(PyUnicode_ReadChar(text, 2 * i));
        int low = hex_digit(PyUnicode_ReadChar(text, 2 * i + 1));

        if (high < 0 || low < 0) {
            return false;
        }
        data[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void
print_hex(const ObjectId *self, char hex[HEX_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < LEVBSON_OID_LEN; i++) {
        hex[2 * i] = digits[self->data[i] >> 4];
        hex[2 * i + 1] = digits[self->data[i] & 0xf];
    }
    hex[HEX_LEN] = '\0';
}

/* 1: `value` stands for the id in `data`; 0: it has the right type but not
 * the right form; -1 with an exception. */
static int
parse(struct levbson_state *st, PyObject *value, uint8_t data[LEVBSON_OID_LEN])
{
    int rc;

    if (PyUnicode_Check(value)) {
        return parse_hex(value, data);
    }
    if (PyBytes_Check(value)) {
        if (PyBytes_GET_SIZE(value) != LEVBSON_OID_LEN) {
            return 0;
        }
        memcpy(data, PyBytes_AS_STRING(value), LEVBSON_OID_LEN);
        return 1;
    }
    rc = levbson_oid_get(st, value, data);
    if (rc == 0) {
        _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(value));

        if (name != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "oid must be an ObjectId, a str of 24 hexadecimal "
                         "digits or 12 bytes, not %U",
                         name);
        }
        return -1;
    }
    return rc;
}

/* The type */

static PyObject *
ObjectId_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"oid", NULL};
    struct levbson_state *st = state_of(type);
    uint8_t data[LEVBSON_OID_LEN];
    PyObject *oid = Py_None;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:ObjectId", keywords,
                                     &oid)) {
        return NULL;
    }
    if (oid == Py_None) {
        return generate(&st->gen, data) < 0 ? NULL : make(type, data);
    }
    rc = parse(st, oid, data);
    if (rc == 0) {
        PyErr_Format(PyExc_ValueError,
                     "oid must be 24 hexadecimal digits or 12 bytes, not %A",
                     oid);
    }
    return rc > 0 ? make(type, data) : NULL;
}

static void
ObjectId_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *
ObjectId_str(ObjectId *self)
{
    char hex[HEX_LEN + 1];

    print_hex(self, hex);
    return PyUnicode_FromStringAndSize(hex, HEX_LEN);
}

static PyObject *
ObjectId_repr(ObjectId *self)
{
    char hex[HEX_LEN + 1];

    print_hex(self, hex);
    return PyUnicode_FromFormat("ObjectId('%s')", hex);
}

static PyObject *
ObjectId_bytes(ObjectId *self, PyObject *Py_UNUSED(unused))
{
    return PyBytes_FromStringAndSize((const char *)self->data,
                                     LEVBSON_OID_LEN);
}

static PyObject *
ObjectId_get_binary(ObjectId *self, void *Py_UNUSED(closure))
{
    return ObjectId_bytes(self, NULL);
}

/* The hash of its bytes, as PyMongo's is: what is equal must hash equal. */
static Py_hash_t
ObjectId_hash(ObjectId *self)
{
    _cleanup_pydecref_ PyObject *bytes = ObjectId_bytes(self, NULL);

    return bytes == NULL ? -1 : PyObject_Hash(bytes);
}

static PyObject *
ObjectId_richcompare(ObjectId *self, PyObject *other, int op)
{
    uint8_t data[LEVBSON_OID_LEN];
    int rc = levbson_oid_get(state_of(Py_TYPE(self)), other, data);

    if (rc < 0) {
        return NULL;
    }
    if (rc == 0) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    rc = memcmp(self->data, data, LEVBSON_OID_LEN);
    Py_RETURN_RICHCOMPARE(rc, 0, op);
}

static PyObject *
ObjectId_reduce(PyObject *self, PyObject *Py_UNUSED(unused))
{
    PyObject *bytes = ObjectId_bytes((ObjectId *)self, NULL);

    return bytes == NULL ? NULL
                         : Py_BuildValue("(O(N))", Py_TYPE(self), bytes);
}

static PyObject *
ObjectId_get_generation_time(ObjectId *self, void *Py_UNUSED(closure))
{
    uint32_t seconds;

    memcpy(&seconds, self->data, sizeof(seconds));
    return levbson_datetime_new(state_of(Py_TYPE(self)),
                                be32toh(seconds) * 1000LL);
}

static PyObject *
ObjectId_is_valid(PyObject *type, PyObject *value)
{
    uint8_t data[LEVBSON_OID_LEN];
    int rc = parse(state_of((PyTypeObject *)type), value, data);

    if (rc < 0) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    return PyBool_FromLong(rc > 0);
}

static PyObject *
ObjectId_from_datetime(PyObject *cls, PyObject *value)
{
    PyTypeObject *type = (PyTypeObject *)cls;
    uint8_t data[LEVBSON_OID_LEN] = {0};
    uint32_t seconds;
    int64_t ms;
    int rc = levbson_datetime_get(state_of(type), value, &ms);

    if (rc == 0) {
        _cleanup_pydecref_ PyObject *name = PyType_GetName(Py_TYPE(value));

        if (name != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "generation_time must be a datetime, not %U", name);
        }
    }
    if (rc <= 0) {
        return NULL;
    }
    if (ms < 0 || ms / 1000 > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "generation_time must be in the years 1970 to 2106");
        return NULL;
    }
    seconds = htobe32((uint32_t)(ms / 1000));
    memcpy(data, &seconds, sizeof(seconds));
    return make(type, data);
}

static PyMethodDef ObjectId_methods[] = {
    {"__bytes__", (PyCFunction)ObjectId_bytes, METH_NOARGS, NULL},
    {"__reduce__", ObjectId_reduce, METH_NOARGS, NULL},
    {"is_valid", ObjectId_is_valid, METH_O | METH_CLASS,
     PyDoc_STR("is_valid($type, oid, /)\n--\n\n"
               "Whether ObjectId(oid) would work for this value.")},
    {"from_datetime", ObjectId_from_datetime, METH_O | METH_CLASS,
     PyDoc_STR("from_datetime($type, generation_time, /)\n--\n\n"
               "The smallest id of that second, to compare others with.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef ObjectId_getset[] = {
    {"binary", (getter)ObjectId_get_binary, NULL,
     PyDoc_STR("The twelve bytes."), NULL},
    {"generation_time", (getter)ObjectId_get_generation_time, NULL,
     PyDoc_STR("When the id was made: an aware datetime in UTC, in seconds."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(ObjectId_doc,
             "ObjectId(oid=None)\n--\n\n"
             "Twelve bytes that name a document: time, process, counter.\n"
             "\n"
             "Without *oid* a new one; else 24 hexadecimal digits, 12 bytes "
             "or another\nObjectId, PyMongo's too. Ids are ordered by their "
             "bytes, so by the second\nthey were made in.");

static PyType_Slot ObjectId_slots[] = {
    {Py_tp_doc, (void *)ObjectId_doc},
    {Py_tp_new, ObjectId_new},
    {Py_tp_dealloc, ObjectId_dealloc},
    {Py_tp_str, ObjectId_str},
    {Py_tp_repr, ObjectId_repr},
    {Py_tp_hash, ObjectId_hash},
    {Py_tp_richcompare, ObjectId_richcompare},
    {Py_tp_methods, ObjectId_methods},
    {Py_tp_getset, ObjectId_getset},
    {0, NULL},
};

static PyType_Spec ObjectId_spec = {
    .name = "levrt.ObjectId",
    .basicsize = sizeof(ObjectId),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ObjectId_slots,
};

int
levbson_oid_setup(PyObject *module, struct levbson_state *st)
{
    st->ObjectIdType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &ObjectId_spec, NULL);
    if (st->ObjectIdType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->ObjectIdType);
}
