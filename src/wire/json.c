#include "json.h"

#include <ctype.h>
#include <string.h>

/* The bytes around the place of an error, as printable ASCII. */
static void
excerpt(const char *text, size_t len, int position, char *out, size_t size)
{
    size_t at = position < 0 ? 0 : (size_t)position;
    size_t from, n = 0;

    at = at > len ? len : at;
    from = at > 20 ? at - 20 : 0;
    for (size_t i = from; i < len && i < at + 20 && n + 1 < size; i++) {
        out[n++] = text[i];
        if (!isprint((unsigned char)text[i])) {
            out[n - 1] = '?';
        }
    }
    out[n] = '\0';
}

json_t *
lev_json_parse(const char *text, size_t len, const char *what,
               struct lev_error *err)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t where;
    char near[48];
    json_t *v;

    if (len > LEV_JSON_MAX) {
        lev_error_set(err, LEV_E_ENGINE, 0,
                      "%s: %zu bytes of JSON, at most %u are taken", what, len,
                      LEV_JSON_MAX);
        return NULL;
    }
    v = json_loadb(text, len, flags, &where);
    if (v == NULL && json_error_code(&where) == json_error_numeric_overflow) {
        v = json_loadb(text, len, flags | JSON_DECODE_INT_AS_REAL, &where);
    }
    if (v != NULL) {
        return v;
    }
    if (json_error_code(&where) == json_error_out_of_memory) {
        lev_error_nomem(err, what);
        return NULL;
    }
    excerpt(text, len, where.position, near, sizeof(near));
    lev_error_set(err, LEV_E_ENGINE, 0,
                  "%s is no JSON: line %d, column %d: %s (around '%s')", what,
                  where.line, where.column, where.text, near);
    return NULL;
}

static const char *
skip_blanks(const char *p, const char *end)
{
    while (p < end && strchr(" \t\r\n", *p) != NULL && *p != '\0') {
        p++;
    }
    return p;
}

/* From behind the opening quote to behind the closing one; `end` without. */
static const char *
skip_string(const char *p, const char *end)
{
    while (p < end && *p != '"') {
        p += *p == '\\' && p + 1 < end ? 2 : 1;
    }
    return p < end ? p + 1 : end;
}

/* To the comma or bracket behind a value. */
static const char *
skip_value(const char *p, const char *end)
{
    unsigned depth = 0;

    while (p < end) {
        char c = *p;

        if (c == '"') {
            p = skip_string(p + 1, end);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
            break;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        p++;
    }
    return p;
}

const char *
lev_json_find(const char *text, size_t len, const char *name, size_t *found)
{
    const char *end = text + len, *p = skip_blanks(text, end);
    size_t n = strlen(name);

    if (p == end || *p != '{') {
        return NULL;
    }
    do {
        const char *key = skip_blanks(p + 1, end), *behind, *value;

        if (key == end || *key != '"') {
            return NULL;
        }
        behind = skip_string(++key, end);
        value = skip_blanks(behind, end);
        if (value == end || *value != ':') {
            return NULL;
        }
        value = skip_blanks(value + 1, end);
        p = skip_value(value, end);
        if ((size_t)(behind - key) == n + 1 && memcmp(key, name, n) == 0) {
            *found = (size_t)(p - value);
            return value;
        }
    } while (p < end && *p == ',');
    return NULL;
}

static int
append(const char *data, size_t len, void *arg)
{
    struct lev_buf *out = arg;

    lev_buf_append(out, data, len);
    return out->failed ? -1 : 0;
}

int
lev_json_dump(const json_t *v, struct lev_buf *out, struct lev_error *err)
{
    int rc =
        json_dump_callback(v, append, out, JSON_COMPACT | JSON_ENCODE_ANY);

    if (lev_buf_check(out, "JSON", err) < 0) {
        return -1;
    }
    return rc == 0 ? 0
                   : lev_error_set(err, LEV_E_INVALID, 0,
                                   "this value cannot be written as JSON");
}

static json_t *
element(const json_t *array, const char *name, size_t len)
{
    size_t i = 0;

    for (size_t k = 0; k < len; k++) {
        if (!isdigit((unsigned char)name[k]) || i > json_array_size(array)) {
            return NULL;
        }
        i = i * 10 + (size_t)(name[k] - '0');
    }
    return json_array_get(array, i);
}

/* jansson before 2.14 looks up whole C strings only. */
static json_t *
member(const json_t *object, const char *name, size_t len)
{
    char key[256];

    if (len >= sizeof(key)) {
        return NULL;
    }
    memcpy(key, name, len);
    key[len] = '\0';
    return json_object_get(object, key);
}

json_t *
lev_json_get(const json_t *v, const char *path)
{
    /* As jansson's own getters: const in, not const out. */
    json_t *at = (json_t *)(uintptr_t)v;

    while (at != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");

        at =
            json_is_array(at) ? element(at, path, len) : member(at, path, len);
        path += len + (path[len] == '.');
    }
    return at;
}

const char *
lev_json_str(const json_t *v, const char *path)
{
    return json_string_value(lev_json_get(v, path));
}

int64_t
lev_json_int(const json_t *v, const char *path, int64_t absent)
{
    const json_t *at = lev_json_get(v, path);
    double real = json_real_value(at);

    if (json_is_integer(at)) {
        return json_integer_value(at);
    }
    /* The bounds are exact: 2^63 itself is a double, 2^63 - 1 is none. */
    if (json_is_real(at) && real >= -0x1p63 && real < 0x1p63 &&
        (double)(int64_t)real == real)
    {
        return (int64_t)real;
    }
    return absent;
}

double
lev_json_real(const json_t *v, const char *path, double absent)
{
    const json_t *at = lev_json_get(v, path);

    return json_is_number(at) ? json_number_value(at) : absent;
}

bool
lev_json_bool(const json_t *v, const char *path, bool absent)
{
    const json_t *at = lev_json_get(v, path);

    return json_is_boolean(at) ? json_is_true(at) : absent;
}
