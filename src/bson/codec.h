/* codec.h - what the files of the codec share; not for its users. */
#ifndef LEV_CODEC_H
#define LEV_CODEC_H

#include "levbson.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "base.h"

static inline void
levbson_decrefp(void *p)
{
    Py_XDECREF(*(PyObject **)p);
}
#define _cleanup_pydecref_ _cleanup_(levbson_decrefp)

/* The element types of the specification, by its names. */
enum bson_type {
    BSON_DOUBLE = 0x01,
    BSON_STRING = 0x02,
    BSON_DOCUMENT = 0x03,
    BSON_ARRAY = 0x04,
    BSON_BINARY = 0x05,
    BSON_UNDEFINED = 0x06,
    BSON_OID = 0x07,
    BSON_BOOL = 0x08,
    BSON_DATETIME = 0x09,
    BSON_NULL = 0x0a,
    BSON_REGEX = 0x0b,
    BSON_DBPOINTER = 0x0c,
    BSON_CODE = 0x0d,
    BSON_SYMBOL = 0x0e,
    BSON_CODE_SCOPE = 0x0f,
    BSON_INT32 = 0x10,
    BSON_TIMESTAMP = 0x11,
    BSON_INT64 = 0x12,
    BSON_DECIMAL128 = 0x13,
    BSON_MAXKEY = 0x7f,
    BSON_MINKEY = 0xff,
};

enum bson_subtype {
    BSON_SUBTYPE_GENERIC = 0,
    BSON_SUBTYPE_OLD = 2, /* holds its length a second time */
    BSON_SUBTYPE_UUID = 4,
};

static inline uint32_t
get_le32(const uint8_t *p)
{
    uint32_t n;

    memcpy(&n, p, sizeof(n));
    return le32toh(n);
}

static inline uint64_t
get_le64(const uint8_t *p)
{
    uint64_t n;

    memcpy(&n, p, sizeof(n));
    return le64toh(n);
}

static inline void
set_le32(uint8_t *p, uint32_t n)
{
    n = htole32(n);
    memcpy(p, &n, sizeof(n));
}

static inline void
set_le64(uint8_t *p, uint64_t n)
{
    n = htole64(n);
    memcpy(p, &n, sizeof(n));
}

/* Where in a document the codec is: one of these per open container, on the C
 * stack, the innermost first. Keys are offsets into the BSON, which both ways
 * have: no reference to a Python object that might go away. */
struct levbson_path {
    const struct levbson_path *up;
    Py_ssize_t index;   /* of an array's element; -1: a key */
    size_t key, keylen; /* its bytes, from the document's start */
};

/* `a.b[3]` as a new str; "document" for the outermost. A key that would not
 * read back (empty, with a dot or a bracket) is written `['x.y']`. */
PyObject *levbson_path_text(const struct levbson_path *path,
                            const uint8_t *base);

/* 1: *value is a new reference to obj.name; 0: it has none; -1: exception. */
int levbson_lookup(PyObject *obj, const char *name, PyObject **value);

/* 1: `obj` is an instance of the class `attr` of module `name`, which *slot
 * keeps once it was found; 0: it is none, or the module is not loaded; -1:
 * exception. */
int levbson_is_instance(PyObject *obj, PyTypeObject **slot, PyObject *name,
                        const char *attr);
/* The class, its module imported; borrowed from *slot. */
PyTypeObject *levbson_import_type(PyTypeObject **slot, PyObject *name,
                                  const char *attr);

/* datetime.c */
/* 1: `obj` is a datetime, *ms its time; 0: it is none; -1: exception. */
int levbson_datetime_get(struct levbson_state *st, PyObject *obj, int64_t *ms);
/* What to do about one of datetime's other classes; NULL: it is none. */
const char *levbson_datetime_advice(const struct levbson_state *st,
                                    PyObject *obj);
/* An aware datetime in UTC, or a DateTimeMS beyond the years 1 to 9999. */
PyObject *levbson_datetime_new(struct levbson_state *st, int64_t ms);

/* decimal.c */
#define BSON_DECIMAL128_LEN 16
/* 1: `obj`, a decimal.Decimal, is exactly `bid`; 0: Decimal128 cannot hold it;
 * -1: exception. */
int levbson_decimal_get(struct levbson_state *st, PyObject *obj,
                        uint8_t bid[BSON_DECIMAL128_LEN]);
/* The Decimal, or a levrt.bson.Decimal128 of an encoding that is not
 * canonical and could not be written back. */
PyObject *levbson_decimal_new(struct levbson_state *st,
                              const uint8_t bid[BSON_DECIMAL128_LEN]);

/* An instance of levrt.bson's class `name`; the arguments as
 * Py_BuildValue() makes a tuple of them. */
PyObject *levbson_new(struct levbson_state *st, const char *name,
                      const char *format, ...);

int levbson_oid_setup(PyObject *module, struct levbson_state *st);

#endif
