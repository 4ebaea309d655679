/* decoder.h - between decode.c (documents, arrays, the plain types) and
 * decode_rare.c (what becomes an object of another module). */
#ifndef LEV_DECODER_H
#define LEV_DECODER_H

#include "codec.h"

#define DECODER_INLINE_ITEMS 32

struct decoder {
    struct levbson_state *st;
    const uint8_t *base;             /* the outermost document */
    const struct levbson_path *path; /* the innermost open container's */
    int depth;
    /* Items of the arrays that are open, owned: an array's length is known at
     * its end, and then its list is made in one piece. */
    PyObject **items;
    size_t nitems, cap;
    PyObject *inline_items[DECODER_INLINE_ITEMS];
};

/* Where the decoder is, and where the enclosing document ends. */
struct span {
    const uint8_t *p, *end;
};

static inline size_t
span_left(const struct span *s)
{
    return (size_t)(s->end - s->p);
}

/* Set ValueError with the offset of `at` and the path; always NULL. */
PyObject *levbson_invalid(struct decoder *d, const uint8_t *at,
                          const char *format, ...);

/* `n` bytes, or NULL with ValueError: "`what` is cut short". */
const uint8_t *levbson_take(struct decoder *d, struct span *s, size_t n,
                            const char *what);
/* New references, or NULL with an exception. */
PyObject *levbson_take_str(struct decoder *d, struct span *s,
                           const char *what);
PyObject *levbson_take_cstring(struct decoder *d, struct span *s,
                               const char *what);
PyObject *levbson_take_document(struct decoder *d, struct span *s);
/* A value of a type that levbson_take_value() does not know at a glance. */
PyObject *levbson_take_rare(struct decoder *d, struct span *s, uint8_t type,
                            const uint8_t *at);

#endif
