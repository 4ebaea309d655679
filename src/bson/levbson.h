/* levbson.h - Python values to BSON documents and back.
 *
 * The one codec of the host's binding (levrt._levrt) and of the module that
 * runs inside containers (levrt._guest). It knows CPython and the BSON
 * specification (bsonspec.org, version 1.1), nothing of libbson: containers
 * have none.
 *
 * Both ways are strict. What BSON cannot hold exactly raises, and the message
 * names the key path (`a.b[3]`); bytes that are not BSON raise ValueError
 * with the byte offset and the path. Types whose modules may not be loaded
 * (datetime, uuid, decimal, re, levrt.bson) are looked for in sys.modules when
 * encoding, for a value of such a type cannot exist without its module, and
 * imported when decoding one.
 *
 * All functions want the GIL. Encoding may run Python code (a Mapping's
 * items(), a tzinfo's utcoffset()): the caller's containers may change
 * meanwhile, and other threads may run.
 */
#ifndef LEV_LEVBSON_H
#define LEV_LEVBSON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Documents nest at most this deep, the outermost counted. */
#define LEVBSON_DEPTH_MAX 100

/* Every PyObject * of the codec, once: struct, traverse and clear are made
 * from this list. Types of other modules are NULL until one was met. */
#define LEVBSON_STATE(X)                                                      \
    X(PyTypeObject, ObjectIdType)                                             \
    X(PyTypeObject, uuid_type)                                                \
    X(PyTypeObject, decimal_type)                                             \
    X(PyTypeObject, pattern_type)                                             \
    X(PyTypeObject, enum_type)                                                \
    X(PyObject, kinds)    /* levrt.bson's classes -> BSON type */             \
    X(PyObject, datetime) /* the capsule that datetime_api is from */         \
    X(PyObject, mod_datetime)                                                 \
    X(PyObject, mod_decimal)                                                  \
    X(PyObject, mod_enum)                                                     \
    X(PyObject, mod_levbson)                                                  \
    X(PyObject, mod_re)                                                       \
    X(PyObject, mod_uuid)                                                     \
    X(PyObject, str_as_tuple)                                                 \
    X(PyObject, str_binary)                                                   \
    X(PyObject, str_bid)                                                      \
    X(PyObject, str_bytes)                                                    \
    X(PyObject, str_code)                                                     \
    X(PyObject, str_flags)                                                    \
    X(PyObject, str_id)                                                       \
    X(PyObject, str_inc)                                                      \
    X(PyObject, str_items)                                                    \
    X(PyObject, str_ms)                                                       \
    X(PyObject, str_namespace)                                                \
    X(PyObject, str_pattern)                                                  \
    X(PyObject, str_scope)                                                    \
    X(PyObject, str_subtype)                                                  \
    X(PyObject, str_time)                                                     \
    X(PyObject, str_utcoffset)                                                \
    X(PyObject, str_value)

#define LEVBSON_OID_LEN 12
#define LEVBSON_KEYS_BITS 9
#define LEVBSON_KEYS (1 << LEVBSON_KEYS_BITS)

/* What new ObjectIds are made from; drawn anew after a fork. */
struct levbson_oidgen {
    pid_t pid; /* 0: not drawn yet */
    uint8_t random[5];
    uint32_t counter;
};

/* Must be the first member of the module's state: the ObjectId type finds it
 * through its module. levbson_setup() checks that. */
struct levbson_state {
#define X(type, name) type *name;
    LEVBSON_STATE(X)
#undef X
    const void *datetime_api; /* PyDateTime_CAPI */
    struct levbson_oidgen gen;
    /* Keys met last when decoding, by hash; owned. Documents repeat their
     * keys, and a str that is met again has its hash computed already. */
    PyObject *keys[LEVBSON_KEYS];
};

/* For the module's exec slot: fills the zeroed state; adds to the module
 * encode(mapping) -> bytes, decode(data) -> dict and type ObjectId. -1 with an
 * exception. */
int levbson_setup(PyObject *module, struct levbson_state *st);
/* For the module's traverse and clear (and free) slots. */
int levbson_traverse(struct levbson_state *st, visitproc visit, void *arg);
void levbson_clear(struct levbson_state *st);

/* Bytes that grow; a zeroed struct is empty. */
struct levbson_out {
    uint8_t *data; /* malloc()ed: deinit, or steal it and free() */
    size_t len, cap;
};

void levbson_out_deinit(struct levbson_out *out);
#define _cleanup_levbson_out_ __attribute__((cleanup(levbson_out_deinit)))

/* Append `mapping` (a dict or Mapping) to `out` as one document, keys in the
 * mapping's order. -1 with TypeError, ValueError, OverflowError, RuntimeError
 * (a dict that changed meanwhile), MemoryError, or what the value's own code
 * raised; `out` then holds a torso. */
int levbson_encode(struct levbson_state *st, PyObject *mapping,
                   struct levbson_out *out);

/* A new dict of the one document that fills `data`; NULL with ValueError. A
 * key that comes twice counts with its last value. */
PyObject *levbson_decode(struct levbson_state *st, const uint8_t *data,
                         size_t len);

/* A new ObjectId of these twelve bytes. */
PyObject *levbson_oid_new(struct levbson_state *st,
                          const uint8_t data[LEVBSON_OID_LEN]);
/* 1: `obj` is an ObjectId (ours, another codec's of levrt, or PyMongo's) and
 * its bytes are in `data`; 0: it is none; -1 with an exception. */
int levbson_oid_get(struct levbson_state *st, PyObject *obj,
                    uint8_t data[LEVBSON_OID_LEN]);

#endif
