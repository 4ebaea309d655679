#include "bsoncheck.h"

#include "buf.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define MAX_LEVELS (LEV_BSON_MAX_DEPTH + 1)
#define FEW_KEYS 16u
#define FIRST_TABLE 64u
/* A path in a message: the rest of it says no more. */
#define MAX_PATH_SHOWN 200

/* The keys of one document, as offsets: a few are compared one by one, more go
 * into a hash table. 0 is no key's offset (a length and a type come first), so
 * it marks an empty place. */
struct keys {
    uint32_t n, size; /* `size`: places of `table`, a power of two */
    uint32_t few[FEW_KEYS];
    uint32_t *table;
};

struct level {
    const uint8_t *end; /* the terminating NUL */
    const char *key;    /* in the level above; NULL in the outermost */
    bool array;
    uint32_t next; /* of an array: the index that comes now */
    struct keys keys;
};

struct check {
    const uint8_t *data, *p;
    unsigned depth, max_depth;
    const char *key; /* of the element at `p`; NULL between elements */
    bool seeded;
    uint64_t seed[2];
    struct lev_error *err;
    struct level levels[MAX_LEVELS];
};

static uint32_t
le32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

/* Bytes from `p` on that are ASCII, counted in eights. */
static size_t
skip_ascii(const uint8_t *p, size_t len)
{
    size_t n = 0;
    uint64_t eight;

    while (n + 8 <= len) {
        memcpy(&eight, p + n, 8);
        if (eight & UINT64_C(0x8080808080808080)) {
            break;
        }
        n += 8;
    }
    return n;
}

/* How many bytes the character at `p` has (RFC 3629, section 4: no overlong
 * forms, no surrogates); 0 when it is none. */
static size_t
utf8_length(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0], low = 0x80, high = 0xbf;
    size_t n = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || n > left) {
        return 0;
    }
    low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : low;
    high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : high;
    for (size_t i = 1; i < n; i++) {
        if (p[i] < low || p[i] > high) {
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}

/* libbson has such a function, which takes three times as long and lets 0xc0
 * 0x80 stand for NUL. */
static bool
is_utf8(const uint8_t *p, size_t len)
{
    size_t n;

    for (size_t i = skip_ascii(p, len); i < len; i += n) {
        n = utf8_length(p + i, len - i);
        if (n == 0) {
            return false;
        }
        if (n > 1) {
            n += skip_ascii(p + i + n, len - i - n);
        }
    }
    return true;
}

/* A key as text: what is not plain ASCII might not be text at all. */
static void
path_add(struct lev_buf *path, const char *key)
{
    if (path->len > 0) {
        lev_buf_putc(path, '.');
    }
    for (; *key != '\0' && path->len < MAX_PATH_SHOWN; key++) {
        unsigned char c = (unsigned char)*key;

        if (c >= 0x20 && c < 0x7f) {
            lev_buf_putc(path, *key);
        }
        else {
            lev_buf_printf(path, "\\x%02x", c);
        }
    }
    if (*key != '\0') {
        lev_buf_puts(path, "\xe2\x80\xa6");
    }
}

static int
invalid(struct check *c, const char *reason)
{
    _cleanup_buf_ struct lev_buf path = {0};

    for (unsigned i = 1; i < c->depth && path.len < MAX_PATH_SHOWN; i++) {
        path_add(&path, c->levels[i].key);
    }
    if (c->key != NULL) {
        path_add(&path, c->key);
    }
    if (c->depth <= 1 && c->key == NULL) {
        return lev_error_set(c->err, LEV_E_INVALID, 0, "BSON: %s", reason);
    }
    return lev_error_set(c->err, LEV_E_INVALID, 0, "BSON: '%s': %s",
                         lev_buf_text(&path), reason);
}

static uint64_t
rotate(uint64_t v, int n)
{
    return v << n | v >> (64 - n);
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein): the guest chooses the keys, so it must
 * not be able to choose where they go. */
static uint64_t
hash(const struct check *c, const char *key, size_t len)
{
    uint64_t v[4] = {c->seed[0] ^ UINT64_C(0x736f6d6570736575),
                     c->seed[1] ^ UINT64_C(0x646f72616e646f6d),
                     c->seed[0] ^ UINT64_C(0x6c7967656e657261),
                     c->seed[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t last = (uint64_t)len << 56, word = 0;
    size_t i;

    for (i = 0; i + 8 <= len; i += 8) {
        memcpy(&word, key + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t k = 0; i + k < len; k++) {
        last |= (uint64_t)(unsigned char)key[i + k] << (8 * k);
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const char *
key_at(const struct check *c, uint32_t offset)
{
    return (const char *)c->data + offset;
}

/* The place of `key`: where it is or where it would go. */
static uint32_t *
find_place(const struct check *c, const struct keys *k, const char *key)
{
    uint32_t mask = k->size - 1;
    uint32_t i = (uint32_t)hash(c, key, strlen(key)) & mask;

    while (k->table[i] != 0 && strcmp(key_at(c, k->table[i]), key) != 0) {
        i = (i + 1) & mask;
    }
    return &k->table[i];
}

static int
seed(struct check *c)
{
    if (c->seeded) {
        return 0;
    }
    /* Sixteen bytes are given whole or not at all (getrandom(2)). */
    while (getrandom(c->seed, sizeof(c->seed), 0) < 0) {
        if (errno != EINTR) {
            return lev_error_errno(c->err, "getrandom");
        }
    }
    c->seeded = true;
    return 0;
}

static int
keys_grow(struct check *c, struct keys *k)
{
    struct keys grown = {.size = k->size == 0 ? FIRST_TABLE : k->size * 2};
    const uint32_t *old = k->table != NULL ? k->table : k->few;
    uint32_t n = k->table != NULL ? k->size : k->n;

    if (seed(c) < 0) {
        return -1;
    }
    grown.table = calloc(grown.size, sizeof(*grown.table));
    if (grown.table == NULL) {
        return lev_error_nomem(c->err, "keys of a document");
    }
    for (uint32_t i = 0; i < n; i++) {
        if (old[i] != 0) {
            *find_place(c, &grown, key_at(c, old[i])) = old[i];
        }
    }
    free(k->table);
    k->table = grown.table;
    k->size = grown.size;
    return 0;
}

/* 1 when the document has `key` already. */
static int
keys_add_few(struct check *c, struct keys *k, const char *key)
{
    for (uint32_t i = 0; i < k->n; i++) {
        if (strcmp(key_at(c, k->few[i]), key) == 0) {
            return 1;
        }
    }
    k->few[k->n++] = (uint32_t)((const uint8_t *)key - c->data);
    return 0;
}

static int
keys_add(struct check *c, struct keys *k, const char *key)
{
    uint32_t *place;

    if (k->table == NULL && k->n < FEW_KEYS) {
        return keys_add_few(c, k, key);
    }
    if ((k->table == NULL || k->n >= k->size / 4 * 3) && keys_grow(c, k) < 0) {
        return -1;
    }
    place = find_place(c, k, key);
    if (*place != 0) {
        return 1;
    }
    *place = (uint32_t)((const uint8_t *)key - c->data);
    k->n++;
    return 0;
}

static size_t
left(const struct check *c)
{
    return (size_t)(c->levels[c->depth - 1].end - c->p);
}

/* A document begins at `p` and may take `avail` bytes. */
static int
enter(struct check *c, size_t avail, bool array)
{
    uint32_t len;

    if (avail < 5) {
        return invalid(c, "a document is cut off");
    }
    len = le32(c->p);
    if (len < 5 || len > avail) {
        return invalid(c, "a document's length is not that of its content");
    }
    if (c->p[len - 1] != '\0') {
        return invalid(c, "a document does not end in NUL");
    }
    if (c->depth == c->max_depth) {
        return invalid(c, "nested too deep (100 levels at most)");
    }
    c->levels[c->depth] =
        (struct level){.end = c->p + len - 1, .key = c->key, .array = array};
    c->depth++;
    c->p += 4;
    c->key = NULL;
    return 0;
}

static void
leave(struct check *c)
{
    struct level *top = &c->levels[c->depth - 1];

    free(top->keys.table);
    c->p = top->end + 1;
    c->depth--;
}

static int
take(struct check *c, size_t len)
{
    if (len > left(c)) {
        return invalid(c, "the value is cut off");
    }
    c->p += len;
    return 0;
}

/* The text up to a NUL; NULL with the error set. */
static const char *
take_cstring(struct check *c, const char *what)
{
    const uint8_t *end = memchr(c->p, '\0', left(c));
    const char *text = (const char *)c->p;

    if (end == NULL) {
        invalid(c, what);
        return NULL;
    }
    if (!is_utf8(c->p, (size_t)(end - c->p))) {
        invalid(c, "a key or pattern is not UTF-8");
        return NULL;
    }
    c->p = end + 1;
    return text;
}

static int
take_string(struct check *c)
{
    uint32_t len;

    if (left(c) < 5) {
        return invalid(c, "the string is cut off");
    }
    len = le32(c->p);
    if (len < 1 || len > left(c) - 4) {
        return invalid(c, "the string's length is not that of its content");
    }
    if (c->p[4 + len - 1] != '\0') {
        return invalid(c, "the string does not end in NUL");
    }
    if (!is_utf8(c->p + 4, len - 1)) {
        return invalid(c, "the string is not UTF-8");
    }
    c->p += 4 + len;
    return 0;
}

static int
take_binary(struct check *c)
{
    uint32_t len;

    if (left(c) < 5) {
        return invalid(c, "the binary is cut off");
    }
    len = le32(c->p);
    if (len > left(c) - 5) {
        return invalid(c, "the binary's length is not that of its content");
    }
    if (c->p[4] == BSON_SUBTYPE_BINARY_DEPRECATED &&
        (len < 4 || le32(c->p + 5) != len - 4))
    {
        return invalid(c, "the binary's inner length (subtype 2) is wrong");
    }
    c->p += 5 + len;
    return 0;
}

static int
take_bool(struct check *c)
{
    if (left(c) >= 1 && *c->p > 1) {
        return invalid(c, "the boolean is neither 0 nor 1");
    }
    return take(c, 1);
}

static int
take_regex(struct check *c)
{
    return take_cstring(c, "the pattern is cut off") == NULL ||
                   take_cstring(c, "the pattern's options are cut off") == NULL
               ? -1
               : 0;
}

/* A length of all, the code, and the document of its variables, which must end
 * where the length says. */
static int
take_scoped_code(struct check *c)
{
    const uint8_t *end;
    uint32_t len;

    if (left(c) < 4 || (len = le32(c->p)) > left(c)) {
        return invalid(c, "the code with scope is cut off");
    }
    end = c->p + len;
    c->p += 4;
    if (take_string(c) < 0) {
        return -1;
    }
    if (c->p > end || (size_t)(end - c->p) < 5 ||
        le32(c->p) != (size_t)(end - c->p))
    {
        return invalid(c, "the code's length is not that of its content");
    }
    return enter(c, (size_t)(end - c->p), false);
}

static int
take_value(struct check *c, uint8_t type)
{
    char reason[64];

    switch (type) {
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DATE_TIME:
    case BSON_TYPE_TIMESTAMP:
    case BSON_TYPE_INT64:
        return take(c, 8);
    case BSON_TYPE_INT32:
        return take(c, 4);
    case BSON_TYPE_OID:
        return take(c, 12);
    case BSON_TYPE_DECIMAL128:
        return take(c, 16);
    case BSON_TYPE_BOOL:
        return take_bool(c);
    case BSON_TYPE_UNDEFINED:
    case BSON_TYPE_NULL:
    case BSON_TYPE_MINKEY:
    case BSON_TYPE_MAXKEY:
        return 0;
    case BSON_TYPE_UTF8:
    case BSON_TYPE_CODE:
    case BSON_TYPE_SYMBOL:
        return take_string(c);
    case BSON_TYPE_DBPOINTER:
        return take_string(c) < 0 ? -1 : take(c, 12);
    case BSON_TYPE_BINARY:
        return take_binary(c);
    case BSON_TYPE_REGEX:
        return take_regex(c);
    case BSON_TYPE_CODEWSCOPE:
        return take_scoped_code(c);
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        return enter(c, left(c), type == BSON_TYPE_ARRAY);
    default:
        snprintf(reason, sizeof(reason), "there is no type 0x%02x", type);
        return invalid(c, reason);
    }
}

/* Is `text` the number `v` as printf() writes it? */
static bool
is_decimal(const char *text, uint32_t v)
{
    char digits[10];
    size_t n = 0;

    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    while (n > 0 && *text == digits[n - 1]) {
        text++;
        n--;
    }
    return n == 0 && *text == '\0';
}

static int
check_index(struct check *c, struct level *top)
{
    return is_decimal(c->key, top->next++)
               ? 0
               : invalid(c, "the keys of an array are not 0, 1, 2 and so on");
}

static int
check_key(struct check *c, struct level *top)
{
    int twice;

    if (top->array) {
        return check_index(c, top);
    }
    twice = keys_add(c, &top->keys, c->key);
    if (twice < 0) {
        return -1;
    }
    return twice ? invalid(c, "this key is there twice") : 0;
}

static int
take_element(struct check *c)
{
    struct level *top = &c->levels[c->depth - 1];
    uint8_t type = *c->p++;
    const char *key = take_cstring(c, "a key is cut off");

    if (key == NULL) {
        return -1;
    }
    c->key = key;
    if (check_key(c, top) < 0 || take_value(c, type) < 0) {
        return -1;
    }
    c->key = NULL;
    return 0;
}

static int
walk(struct check *c, size_t len)
{
    if (enter(c, len, false) < 0) {
        return -1;
    }
    if (c->levels[0].end + 1 != c->data + len) {
        return invalid(c, "bytes follow the document");
    }
    while (c->depth > 0) {
        if (c->p == c->levels[c->depth - 1].end) {
            leave(c);
        }
        else if (take_element(c) < 0) {
            return -1;
        }
    }
    return 0;
}

int
lev_bson_check(const uint8_t *data, size_t len, unsigned max_depth,
               struct lev_error *err)
{
    /* Its levels are set when they are entered: not zeroed here. */
    struct check c;
    int rc;

    c.data = c.p = data;
    c.depth = 0;
    c.max_depth = max_depth < MAX_LEVELS ? max_depth : MAX_LEVELS;
    c.key = NULL;
    c.seeded = false;
    c.err = err;
    rc = walk(&c, len);
    while (c.depth > 0) {
        leave(&c);
    }
    return rc;
}

int
lev_bson_validate(const bson_t *doc, struct lev_error *err)
{
    return lev_bson_check(bson_get_data(doc), doc->len, LEV_BSON_MAX_DEPTH,
                          err);
}
