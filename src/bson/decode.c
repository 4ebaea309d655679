/* decode.c - documents, arrays and the plain types.
 *
 * Nothing is read before it is known to lie inside its document, and a
 * document inside the one around it. The bytes may come from a container:
 * they are taken for hostile.
 */

#include "decoder.h"

#include <stdarg.h>
#include <stdlib.h>

#define KEY_CACHED_MAX 32
#define DOCUMENT_MIN 5 /* its length and its last NUL */

PyObject *
levbson_invalid(struct decoder *d, const uint8_t *at, const char *format, ...)
{
    _cleanup_pydecref_ PyObject *text = NULL, *where = NULL;
    va_list ap;

    va_start(ap, format);
    text = PyUnicode_FromFormatV(format, ap);
    va_end(ap);
    where = levbson_path_text(d->path, d->base);
    if (text != NULL && where != NULL) {
        PyErr_Format(PyExc_ValueError, "BSON, byte %zd, %U: %U",
                     (Py_ssize_t)(at - d->base), where, text);
    }
    return NULL;
}

const uint8_t *
levbson_take(struct decoder *d, struct span *s, size_t n, const char *what)
{
    const uint8_t *p = s->p;

    if (span_left(s) < n) {
        levbson_invalid(d, p, "the %s is cut short", what);
        return NULL;
    }
    s->p += n;
    return p;
}

/* Text */

static inline uint64_t
load64(const uint8_t *p)
{
    uint64_t n;

    memcpy(&n, p, sizeof(n));
    return n;
}

static inline bool
is_ascii(const uint8_t *p, size_t len)
{
    const uint64_t high = 0x8080808080808080ULL;
    uint64_t seen = 0;

    for (; len >= 8; p += 8, len -= 8) {
        seen |= load64(p);
    }
    for (; len > 0; p++, len--) {
        seen |= *p;
    }
    return (seen & high) == 0;
}

/* NULL with ValueError at `at` for what is not UTF-8. */
static PyObject *
new_str(struct decoder *d, const uint8_t *p, size_t len, const char *what)
{
    PyObject *str;

    if (len > 1 && is_ascii(p, len)) {
        str = PyUnicode_New((Py_ssize_t)len, 0x7f);
        if (str != NULL) {
            memcpy(PyUnicode_1BYTE_DATA(str), p, len);
        }
        return str;
    }
    str = PyUnicode_DecodeUTF8((const char *)p, (Py_ssize_t)len, NULL);
    if (str == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return levbson_invalid(d, p, "the %s is not UTF-8", what);
    }
    return str;
}

PyObject *
levbson_take_str(struct decoder *d, struct span *s, const char *what)
{
    const uint8_t *at = s->p;
    const uint8_t *head = levbson_take(d, s, 4, what);
    uint32_t len;

    if (head == NULL) {
        return NULL;
    }
    len = get_le32(head);
    if (len < 1 || len > span_left(s)) {
        return levbson_invalid(d, at,
                               "the %s has length %d where %zu bytes "
                               "are left",
                               what, (int)len, span_left(s));
    }
    s->p += len;
    if (s->p[-1] != '\0') {
        return levbson_invalid(d, s->p - 1, "the %s does not end in NUL",
                               what);
    }
    return new_str(d, head + 4, len - 1, what);
}

PyObject *
levbson_take_cstring(struct decoder *d, struct span *s, const char *what)
{
    const uint8_t *p = s->p;
    const uint8_t *nul = memchr(p, '\0', span_left(s));

    if (nul == NULL) {
        return levbson_invalid(d, p, "the %s has no end", what);
    }
    s->p = nul + 1;
    return new_str(d, p, (size_t)(nul - p), what);
}

/* Keys */

/* The NUL that ends a key; NULL: there is none before `end`. Most keys are
 * short: the zero byte of one word is found without a call. */
static inline const uint8_t *
find_nul(const uint8_t *p, const uint8_t *end)
{
    if (end - p >= 8) {
        uint64_t word = get_le64(p);
        uint64_t zeros =
            (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL;

        if (zeros != 0) { /* the lowest is exact, those above it may not be */
            return p + __builtin_ctzll(zeros) / 8;
        }
    }
    return memchr(p, '\0', (size_t)(end - p));
}

static inline uint64_t
load32(const uint8_t *p)
{
    uint32_t n;

    memcpy(&n, p, sizeof(n));
    return n;
}

/* Two loads that overlap cover a key of up to 16 bytes; of a longer one its
 * ends and its length must do. */
static inline size_t
hash_key(const uint8_t *p, size_t len)
{
    uint64_t hash = len;

    if (len >= 8) {
        hash += load64(p) ^ (load64(p + len - 8) * 3);
    }
    else if (len >= 4) {
        hash += load32(p) | load32(p + len - 4) << 32;
    }
    else if (len > 0) {
        hash += (uint64_t)p[0] << 8 | (uint64_t)p[len / 2] << 16 |
                (uint64_t)p[len - 1] << 24;
    }
    hash *= 0x9e3779b97f4a7c15ULL; /* its top bits depend on all of ours */
    return (size_t)(hash >> (64 - LEVBSON_KEYS_BITS));
}

static inline bool
is_key(PyObject *key, const uint8_t *p, size_t len)
{
    return key != NULL && (size_t)PyUnicode_GET_LENGTH(key) == len &&
           memcmp(PyUnicode_1BYTE_DATA(key), p, len) == 0;
}

/* A key has two slots, side by side; the newest is in the first. Only ASCII
 * is kept, whose characters are its bytes. */
static PyObject *
new_key(struct decoder *d, const uint8_t *p, size_t len)
{
    PyObject **slots, *key;

    if (len > KEY_CACHED_MAX) {
        return new_str(d, p, len, "key");
    }
    slots = &d->st->keys[hash_key(p, len) & ~(size_t)1];
    if (is_key(slots[0], p, len)) {
        return Py_NewRef(slots[0]);
    }
    if (is_key(slots[1], p, len)) {
        return Py_NewRef(slots[1]);
    }
    key = new_str(d, p, len, "key");
    if (key != NULL && PyUnicode_IS_ASCII(key)) {
        Py_XSETREF(slots[1], slots[0]);
        slots[0] = Py_NewRef(key);
    }
    return key;
}

/* Values */

static PyObject *
take_double(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 8, "double");
    uint64_t bits;
    double number;

    if (p == NULL) {
        return NULL;
    }
    bits = get_le64(p);
    memcpy(&number, &bits, sizeof(number));
    return PyFloat_FromDouble(number);
}

static PyObject *
take_int32(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 4, "int32");

    return p == NULL ? NULL : PyLong_FromLong((int32_t)get_le32(p));
}

static PyObject *
take_int64(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 8, "int64");

    return p == NULL ? NULL : PyLong_FromLongLong((int64_t)get_le64(p));
}

static PyObject *
take_datetime(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 8, "datetime");

    return p == NULL ? NULL
                     : levbson_datetime_new(d->st, (int64_t)get_le64(p));
}

static PyObject *
take_bool(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, 1, "bool");

    if (p == NULL) {
        return NULL;
    }
    if (*p > 1) {
        return levbson_invalid(d, p, "the bool is %d, not 0 or 1", *p);
    }
    return PyBool_FromLong(*p);
}

static PyObject *
take_oid(struct decoder *d, struct span *s)
{
    const uint8_t *p = levbson_take(d, s, LEVBSON_OID_LEN, "ObjectId");

    return p == NULL ? NULL : levbson_oid_new(d->st, p);
}

static PyObject *take_array(struct decoder *d, struct span *s);

static inline PyObject *
take_value(struct decoder *d, struct span *s, uint8_t type, const uint8_t *at)
{
    switch (type) {
    case BSON_DOUBLE:
        return take_double(d, s);
    case BSON_STRING:
        return levbson_take_str(d, s, "str");
    case BSON_DOCUMENT:
        return levbson_take_document(d, s);
    case BSON_ARRAY:
        return take_array(d, s);
    case BSON_OID:
        return take_oid(d, s);
    case BSON_BOOL:
        return take_bool(d, s);
    case BSON_DATETIME:
        return take_datetime(d, s);
    case BSON_NULL:
        return Py_NewRef(Py_None);
    case BSON_INT32:
        return take_int32(d, s);
    case BSON_INT64:
        return take_int64(d, s);
    default:
        return levbson_take_rare(d, s, type, at);
    }
}

/* Containers */

/* The elements' span of the document at s->p; s goes behind it. */
static int
enter(struct decoder *d, struct span *s, struct span *inside)
{
    const uint8_t *at = s->p;
    uint32_t len;

    if (span_left(s) < DOCUMENT_MIN) {
        levbson_invalid(d, at, "the document is cut short");
        return -1;
    }
    len = get_le32(at);
    if (len < DOCUMENT_MIN || len > span_left(s)) {
        levbson_invalid(d, at,
                        "the document has length %d where %zu bytes "
                        "are left",
                        (int)len, span_left(s));
        return -1;
    }
    *inside = (struct span){at + 4, at + len - 1};
    if (*inside->end != '\0') {
        levbson_invalid(d, inside->end, "the document does not end in NUL");
        return -1;
    }
    if (d->depth >= LEVBSON_DEPTH_MAX) {
        levbson_invalid(d, at, "nested more than %d levels deep",
                        LEVBSON_DEPTH_MAX);
        return -1;
    }
    d->depth++;
    s->p += len;
    return 0;
}

/* The key of the element at s->p, from its type byte on. */
static inline int
take_key(struct decoder *d, struct span *s, uint8_t *type, const uint8_t **key,
         size_t *len)
{
    const uint8_t *nul;

    *type = *s->p++;
    *key = s->p;
    nul = find_nul(s->p, s->end);
    if (nul == NULL) {
        d->path = d->path->up;
        levbson_invalid(d, s->p, "a key has no end");
        return -1;
    }
    *len = (size_t)(nul - s->p);
    s->p = nul + 1;
    return 0;
}

static int
take_element(struct decoder *d, struct span *s, PyObject *dict,
             struct levbson_path *path)
{
    _cleanup_pydecref_ PyObject *key = NULL, *value = NULL;
    const uint8_t *at = s->p, *text;
    uint8_t type;
    size_t len;

    if (take_key(d, s, &type, &text, &len) < 0) {
        return -1;
    }
    path->key = (size_t)(text - d->base);
    path->keylen = len;
    key = new_key(d, text, len);
    if (key == NULL) {
        return -1;
    }
    value = take_value(d, s, type, at);
    return value == NULL ? -1 : PyDict_SetItem(dict, key, value);
}

PyObject *
levbson_take_document(struct decoder *d, struct span *s)
{
    struct levbson_path path = {.up = d->path, .index = -1};
    _cleanup_pydecref_ PyObject *dict = NULL;
    struct span inside;

    if (enter(d, s, &inside) < 0) {
        return NULL;
    }
    dict = PyDict_New();
    if (dict == NULL) {
        return NULL;
    }
    d->path = &path;
    while (inside.p < inside.end) {
        if (take_element(d, &inside, dict, &path) < 0) {
            return NULL;
        }
    }
    d->path = path.up;
    d->depth--;
    return lev_steal(dict);
}

static int
push_item(struct decoder *d, PyObject *item)
{
    if (d->nitems == d->cap) {
        size_t bytes = d->cap * sizeof(*d->items);
        bool on_stack = d->items == d->inline_items;
        PyObject **items =
            PyMem_Realloc(on_stack ? NULL : d->items, 2 * bytes);

        if (items == NULL) {
            Py_DECREF(item);
            PyErr_NoMemory();
            return -1;
        }
        if (on_stack) {
            memcpy(items, d->items, bytes);
        }
        d->items = items;
        d->cap *= 2;
    }
    d->items[d->nitems++] = item;
    return 0;
}

/* A list of the items from `first` on, which become its own. */
static PyObject *
pop_list(struct decoder *d, size_t first)
{
    size_t n = d->nitems - first;
    PyObject *list = PyList_New((Py_ssize_t)n);

    if (list == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        PyList_SET_ITEM(list, (Py_ssize_t)i, d->items[first + i]);
    }
    d->nitems = first;
    return list;
}

static PyObject *
take_array(struct decoder *d, struct span *s)
{
    struct levbson_path path = {.up = d->path};
    size_t first = d->nitems;
    struct span inside;

    if (enter(d, s, &inside) < 0) {
        return NULL;
    }
    d->path = &path;
    for (; inside.p < inside.end; path.index++) {
        const uint8_t *at = inside.p, *key;
        PyObject *item;
        uint8_t type;
        size_t len;

        /* The key should be the index; the order alone counts. */
        if (take_key(d, &inside, &type, &key, &len) < 0) {
            return NULL;
        }
        item = take_value(d, &inside, type, at);
        if (item == NULL || push_item(d, item) < 0) {
            return NULL;
        }
    }
    d->path = path.up;
    d->depth--;
    return pop_list(d, first);
}

static void
init(struct decoder *d, struct levbson_state *st, const uint8_t *base)
{
    d->st = st;
    d->base = base;
    d->path = NULL;
    d->depth = 0;
    d->items = d->inline_items;
    d->nitems = 0;
    d->cap = DECODER_INLINE_ITEMS;
}

static void
deinit(struct decoder *d)
{
    while (d->nitems > 0) { /* of arrays that were left by an error */
        Py_DECREF(d->items[--d->nitems]);
    }
    if (d->items != d->inline_items) {
        PyMem_Free(d->items);
    }
}

PyObject *
levbson_decode(struct levbson_state *st, const uint8_t *data, size_t len)
{
    _cleanup_(deinit) struct decoder d;
    struct span s = {data, data + len};

    init(&d, st, data);
    if (len >= DOCUMENT_MIN && get_le32(data) < len) {
        return levbson_invalid(&d, data,
                               "the document has length %d, but %zu bytes are "
                               "here",
                               (int)get_le32(data), len);
    }
    return levbson_take_document(&d, &s);
}
