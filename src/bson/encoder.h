/* encoder.h - between encode.c (documents, arrays, the plain types) and
 * encode_rare.c (what other modules define). */
#ifndef LEV_ENCODER_H
#define LEV_ENCODER_H

#include "codec.h"

struct encoder {
    struct levbson_state *st;
    struct levbson_out *out;
    const struct levbson_path *path; /* the innermost open container's */
    int depth;
};

/* Room for `more` bytes behind out->len; -1 with an exception. */
int levbson_grow(struct levbson_out *out, size_t more);

static inline uint8_t *
reserve(struct encoder *e, size_t more)
{
    struct levbson_out *out = e->out;

    if (out->cap - out->len < more && levbson_grow(out, more) < 0) {
        return NULL;
    }
    return out->data + out->len;
}

/* Set an exception whose text begins with the path of the element that is
 * being written; always -1. `format` is PyUnicode_FromFormat()'s. */
int levbson_refuse(struct encoder *e, PyObject *exc, const char *format, ...);

/* These append a value and return its BSON type, or -1 with an exception. */
int levbson_put_value(struct encoder *e, PyObject *value);
int levbson_put_mapping(struct encoder *e, PyObject *mapping);
int levbson_put_sequence(struct encoder *e, PyObject *list_or_tuple);
int levbson_put_int(struct encoder *e, PyObject *number);
int levbson_put_float(struct encoder *e, double number);
int levbson_put_int64(struct encoder *e, int64_t n, enum bson_type type);
int levbson_put_binary(struct encoder *e, const void *data, Py_ssize_t len,
                       uint8_t subtype);
int levbson_put_oid(struct encoder *e, const uint8_t oid[LEVBSON_OID_LEN]);
/* Whether it is a collections.abc.Mapping. */
bool levbson_is_mapping(PyObject *value);
/* 1: it is a member of an enum; 0: it is none; -1: exception. */
int levbson_is_enum(struct levbson_state *st, PyObject *value);

/* All the types that levbson_put_value() does not know at a glance. */
int levbson_put_rare(struct encoder *e, PyObject *value);

/* refuse.c: TypeError that says what to do about `value`; always -1. */
int levbson_refuse_type(struct encoder *e, PyObject *value);

/* text.c */
int levbson_put_str(struct encoder *e, PyObject *text);
/* A str as a NUL-terminated string without length, as regexes have; 0 or -1.
 * `what` names it in errors. */
int levbson_put_cstring(struct encoder *e, PyObject *text, const char *what);
/* The type byte, still empty, and a key that is not plain ASCII, has a NUL or
 * is no str at all; sets the key of `path`, the innermost container's. 0, or
 * -1 with an error that names the container: such a key is no part of the
 * path. */
int levbson_put_odd_key(struct encoder *e, PyObject *key,
                        struct levbson_path *path);

#endif
