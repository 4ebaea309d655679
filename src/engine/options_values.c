/* The forms that values may have: each converter takes docker-py's and gives
 * the Engine API's. */

#include "options_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#define LIST_OF_STR "a list of str"

static const char *
python_type(const bson_iter_t *value)
{
    switch (bson_iter_type(value)) {
    case BSON_TYPE_UTF8:
        return "str";
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        return "int";
    case BSON_TYPE_DOUBLE:
        return "float";
    case BSON_TYPE_BOOL:
        return "bool";
    case BSON_TYPE_DOCUMENT:
        return "dict";
    case BSON_TYPE_ARRAY:
        return "list";
    case BSON_TYPE_NULL:
        return "None";
    case BSON_TYPE_BINARY:
        return "bytes";
    case BSON_TYPE_DATE_TIME:
        return "datetime";
    default:
        return "a value of another type";
    }
}

int
lev_option_type_error(const struct lev_option *o, const bson_iter_t *value,
                      const char *expected, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_TYPE, 0,
                         "option '%s': expected %s, got %s", o->name, expected,
                         python_type(value));
}

int
lev_option_invalid(const struct lev_option *o, const char *expected,
                   const char *got, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_INVALID, 0,
                         "option '%s': expected %s, got '%.100s'", o->name,
                         expected, got);
}

json_t *
lev_option_result(json_t *json, const struct lev_option *o,
                  struct lev_error *err)
{
    if (json == NULL) {
        lev_error_nomem(err, o->name);
    }
    return json;
}

const char *
lev_option_text(const struct lev_option *o, const bson_iter_t *value,
                const char *expected, struct lev_error *err)
{
    const char *text;
    uint32_t len;

    if (!BSON_ITER_HOLDS_UTF8(value)) {
        lev_option_type_error(o, value, expected, err);
        return NULL;
    }
    text = bson_iter_utf8(value, &len);
    if (strlen(text) != len) {
        lev_error_set(err, LEV_E_INVALID, 0, "option '%s' has a NUL in it",
                      o->name);
        return NULL;
    }
    return text;
}

static json_t *
json_of_text(const struct lev_option *o, const char *text,
             struct lev_error *err)
{
    return lev_option_result(json_string(text), o, err);
}

json_t *
lev_option_bool(const struct lev_option *o, const bson_iter_t *value,
                struct lev_error *err)
{
    if (!BSON_ITER_HOLDS_BOOL(value)) {
        lev_option_type_error(o, value, "bool", err);
        return NULL;
    }
    return json_boolean(bson_iter_bool(value));
}

bool
lev_option_is_int(const bson_iter_t *value)
{
    return BSON_ITER_HOLDS_INT32(value) || BSON_ITER_HOLDS_INT64(value);
}

json_t *
lev_option_int(const struct lev_option *o, const bson_iter_t *value,
               struct lev_error *err)
{
    int64_t n;

    if (!lev_option_is_int(value)) {
        lev_option_type_error(o, value, "int", err);
        return NULL;
    }
    n = bson_iter_as_int64(value);
    if ((o->min != 0 || o->max != 0) && (n < o->min || n > o->max)) {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "option '%s': expected %lld or more, got %lld", o->name,
                      (long long)o->min, (long long)n);
        return NULL;
    }
    return lev_option_result(json_integer(n), o, err);
}

static int
double_size(const struct lev_option *o, double v, int64_t *bytes,
            struct lev_error *err)
{
    if (!(v >= 0 && v < 9.2e18)) { /* also NaN */
        char text[40];

        snprintf(text, sizeof(text), "%g", v);
        return lev_option_invalid(o, "a number of bytes", text, err);
    }
    *bytes = (int64_t)v;
    return 0;
}

static int
size_of(const struct lev_option *o, const bson_iter_t *value, int64_t *bytes,
        struct lev_error *err)
{
    const char *expected = "a number of bytes or '[number][b|k|m|g]'", *text;

    if (lev_option_is_int(value)) {
        *bytes = bson_iter_as_int64(value);
        return 0;
    }
    if (BSON_ITER_HOLDS_DOUBLE(value)) {
        return double_size(o, bson_iter_double(value), bytes, err);
    }
    text = lev_option_text(o, value, expected, err);
    if (text == NULL) {
        return -1;
    }
    if (strcmp(text, "-1") == 0) {
        *bytes = -1;
        return 0;
    }
    if (lev_options_size(text, bytes, err) < 0) {
        return lev_error_wrap(err, "option '%s'", o->name);
    }
    return 0;
}

static json_t *
size_from(const struct lev_option *o, const bson_iter_t *value, int64_t min,
          struct lev_error *err)
{
    int64_t bytes;

    if (size_of(o, value, &bytes, err) < 0) {
        return NULL;
    }
    if (bytes < min) {
        lev_error_set(err, LEV_E_INVALID, 0,
                      "option '%s': expected %s, got %lld", o->name,
                      min < 0 ? "a size, or -1 for no limit"
                              : "a size of 0 or more",
                      (long long)bytes);
        return NULL;
    }
    return lev_option_result(json_integer(bytes), o, err);
}

json_t *
lev_option_size(const struct lev_option *o, const bson_iter_t *value,
                struct lev_error *err)
{
    return size_from(o, value, 0, err);
}

json_t *
lev_option_swap_size(const struct lev_option *o, const bson_iter_t *value,
                     struct lev_error *err)
{
    return size_from(o, value, -1, err);
}

json_t *
lev_option_user(const struct lev_option *o, const bson_iter_t *value,
                struct lev_error *err)
{
    const char *expected = "a user ('name', 'uid' or 'uid:gid') or a number";
    const char *text;

    if (lev_option_is_int(value)) {
        int64_t uid = bson_iter_as_int64(value);
        char number[24];

        snprintf(number, sizeof(number), "%lld", (long long)uid);
        if (uid < 0) {
            lev_option_invalid(o, expected, number, err);
            return NULL;
        }
        return json_of_text(o, number, err);
    }
    text = lev_option_text(o, value, expected, err);
    return text == NULL ? NULL : json_of_text(o, text, err);
}

json_t *
lev_option_hostname(const struct lev_option *o, const bson_iter_t *value,
                    struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);

    if (text == NULL) {
        return NULL;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-._", *p) == NULL) {
            lev_option_invalid(o, "letters, digits, '-', '.' and '_'", text,
                               err);
            return NULL;
        }
    }
    if (*text == '\0' || strlen(text) > 64) {
        lev_option_invalid(o, "1 to 64 characters", text, err);
        return NULL;
    }
    return json_of_text(o, text, err);
}

json_t *
lev_option_network_mode(const struct lev_option *o, const bson_iter_t *value,
                        struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);

    if (text == NULL) {
        return NULL;
    }
    if (*text == '\0' || strcmp(text, "container:") == 0) {
        lev_option_invalid(
            o,
            "'bridge', 'none', 'host', 'container:<name|id>' or the name "
            "of a network",
            text, err);
        return NULL;
    }
    return json_of_text(o, text, err);
}

json_t *
lev_option_absolute_path(const struct lev_option *o, const bson_iter_t *value,
                         struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);

    if (text != NULL && *text != '/') {
        lev_option_invalid(o, "an absolute path", text, err);
        return NULL;
    }
    return text == NULL ? NULL : json_of_text(o, text, err);
}

json_t *
lev_option_list(const struct lev_option *o, const bson_iter_t *value,
                const char *expected, lev_option_convert *each,
                struct lev_error *err)
{
    _cleanup_json_ json_t *array = json_array();
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_ARRAY(value)) {
        lev_option_type_error(o, value, expected, err);
        return NULL;
    }
    if (array == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        json_t *item = each(o, &it, err);

        if (item == NULL) {
            return NULL;
        }
        if (json_array_append_new(array, item) < 0) {
            return lev_option_result(NULL, o, err);
        }
    }
    return lev_steal(array);
}

static json_t *
capability(const struct lev_option *o, const bson_iter_t *value,
           struct lev_error *err)
{
    const char *text = lev_option_text(o, value, LIST_OF_STR, err);

    if (text == NULL) {
        return NULL;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && *p != '_') {
            lev_option_invalid(o, "names of capabilities ('NET_ADMIN', 'ALL')",
                               text, err);
            return NULL;
        }
    }
    if (*text == '\0') {
        lev_option_invalid(o, "names of capabilities ('NET_ADMIN', 'ALL')",
                           text, err);
        return NULL;
    }
    return json_of_text(o, text, err);
}

json_t *
lev_option_capabilities(const struct lev_option *o, const bson_iter_t *value,
                        struct lev_error *err)
{
    return lev_option_list(o, value, LIST_OF_STR, capability, err);
}

bool
lev_option_is_address(const char *text)
{
    unsigned char raw[16];

    return inet_pton(AF_INET, text, raw) == 1 ||
           inet_pton(AF_INET6, text, raw) == 1;
}

static json_t *
address(const struct lev_option *o, const bson_iter_t *value,
        struct lev_error *err)
{
    const char *text = lev_option_text(o, value, LIST_OF_STR, err);

    if (text != NULL && !lev_option_is_address(text)) {
        lev_option_invalid(o, "IP addresses", text, err);
        return NULL;
    }
    return text == NULL ? NULL : json_of_text(o, text, err);
}

json_t *
lev_option_addresses(const struct lev_option *o, const bson_iter_t *value,
                     struct lev_error *err)
{
    return lev_option_list(o, value, LIST_OF_STR, address, err);
}

static json_t *
host_entry(const struct lev_option *o, const char *host, size_t host_len,
           const char *to, struct lev_error *err)
{
    if (host_len == 0) {
        lev_option_invalid(o, "a host's name before each address", to, err);
        return NULL;
    }
    /* The daemon takes addresses only, but for this name of its own. */
    if (!lev_option_is_address(to) && strcmp(to, "host-gateway") != 0) {
        lev_option_invalid(o, "an IP address for each host", to, err);
        return NULL;
    }
    return lev_option_result(json_sprintf("%.*s:%s", (int)host_len, host, to),
                             o, err);
}

static json_t *
host_text(const struct lev_option *o, const bson_iter_t *value,
          struct lev_error *err)
{
    const char *expected = "a dict {host: address} or a list of "
                           "'host:address'";
    const char *text = lev_option_text(o, value, expected, err);
    const char *colon = text == NULL ? NULL : strchr(text, ':');

    if (text != NULL && colon == NULL) {
        lev_option_invalid(o, "'host:address'", text, err);
    }
    if (colon == NULL) {
        return NULL;
    }
    return host_entry(o, text, (size_t)(colon - text), colon + 1, err);
}

static json_t *
host_member(const struct lev_option *o, const bson_iter_t *value,
            struct lev_error *err)
{
    const char *host = bson_iter_key(value);
    const char *to =
        lev_option_text(o, value, "a str as each host's address", err);

    return to == NULL ? NULL : host_entry(o, host, strlen(host), to, err);
}

json_t *
lev_option_extra_hosts(const struct lev_option *o, const bson_iter_t *value,
                       struct lev_error *err)
{
    _cleanup_json_ json_t *array = NULL;
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_DOCUMENT(value)) {
        return lev_option_list(
            o, value, "a dict {host: address} or a list of 'host:address'",
            host_text, err);
    }
    array = json_array();
    if (array == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        json_t *item = host_member(o, &it, err);

        if (item == NULL) {
            return NULL;
        }
        if (json_array_append_new(array, item) < 0) {
            return lev_option_result(NULL, o, err);
        }
    }
    return lev_steal(array);
}

static int
add_tmpfs(const struct lev_option *o, json_t *object, const char *path,
          size_t len, const char *mount_options, struct lev_error *err)
{
    _cleanup_free_ char *key = strndup(path, len);

    if (key == NULL) {
        return lev_error_nomem(err, o->name);
    }
    if (*key != '/') {
        return lev_option_invalid(o, "absolute paths", key, err);
    }
    if (json_object_set_new(object, key, json_string(mount_options)) < 0) {
        return lev_error_nomem(err, o->name);
    }
    return 0;
}

static int
add_tmpfs_item(const struct lev_option *o, const bson_iter_t *value, bool dict,
               json_t *object, struct lev_error *err)
{
    const char *expected = "a dict {path: mount options} or a list of "
                           "'path[:mount options]'";
    const char *text, *colon;

    if (dict && BSON_ITER_HOLDS_NULL(value)) {
        return add_tmpfs(o, object, bson_iter_key(value),
                         strlen(bson_iter_key(value)), "", err);
    }
    text = lev_option_text(o, value, expected, err);
    if (text == NULL) {
        return -1;
    }
    if (dict) {
        return add_tmpfs(o, object, bson_iter_key(value),
                         strlen(bson_iter_key(value)), text, err);
    }
    colon = strchrnul(text, ':');
    return add_tmpfs(o, object, text, (size_t)(colon - text),
                     *colon == ':' ? colon + 1 : "", err);
}

json_t *
lev_option_tmpfs(const struct lev_option *o, const bson_iter_t *value,
                 struct lev_error *err)
{
    _cleanup_json_ json_t *object = json_object();
    bool dict = BSON_ITER_HOLDS_DOCUMENT(value);
    bson_iter_t it;

    if (!dict && !BSON_ITER_HOLDS_ARRAY(value)) {
        lev_option_type_error(o, value,
                              "a dict {path: mount options} or a list of "
                              "'path[:mount options]'",
                              err);
        return NULL;
    }
    if (object == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        if (add_tmpfs_item(o, &it, dict, object, err) < 0) {
            return NULL;
        }
    }
    return lev_steal(object);
}

struct ulimit {
    const char *name;
    int64_t soft, hard;
    bool has_soft, has_hard;
};

static int
ulimit_number(const struct lev_option *o, const bson_iter_t *value, int64_t *n,
              bool *has, struct lev_error *err)
{
    if (BSON_ITER_HOLDS_NULL(value)) {
        return 0;
    }
    if (!lev_option_is_int(value)) {
        return lev_option_type_error(o, value, "int as soft and hard limits",
                                     err);
    }
    *n = bson_iter_as_int64(value);
    *has = true;
    if (*n < -1) {
        char text[24];

        snprintf(text, sizeof(text), "%lld", (long long)*n);
        return lev_option_invalid(o, "limits of 0 or more, or -1 for none",
                                  text, err);
    }
    return 0;
}

static int
ulimit_member(const struct lev_option *o, const bson_iter_t *value,
              struct ulimit *u, struct lev_error *err)
{
    const char *key = bson_iter_key(value);

    if (strcasecmp(key, "name") == 0) {
        u->name = lev_option_text(o, value, "a str as the limit's name", err);
        return u->name == NULL ? -1 : 0;
    }
    if (strcasecmp(key, "soft") == 0) {
        return ulimit_number(o, value, &u->soft, &u->has_soft, err);
    }
    if (strcasecmp(key, "hard") == 0) {
        return ulimit_number(o, value, &u->hard, &u->has_hard, err);
    }
    return lev_option_invalid(o, "the keys Name, Soft and Hard", key, err);
}

static int
ulimit_check(const struct lev_option *o, struct ulimit *u,
             struct lev_error *err)
{
    if (u->name == NULL || *u->name == '\0') {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "option '%s': a limit needs its Name ('nofile')",
                             o->name);
    }
    if (!u->has_soft && !u->has_hard) {
        return lev_option_invalid(o, "a Soft or a Hard limit for each name",
                                  u->name, err);
    }
    /* One stands for both, as in docker's client. */
    u->soft = u->has_soft ? u->soft : u->hard;
    u->hard = u->has_hard ? u->hard : u->soft;
    if (u->hard != -1 && (u->soft > u->hard || u->soft == -1)) {
        return lev_option_invalid(
            o, "a Soft limit that is not above the Hard one", u->name, err);
    }
    return 0;
}

static json_t *
ulimit(const struct lev_option *o, const bson_iter_t *value,
       struct lev_error *err)
{
    struct ulimit u = {NULL, 0, 0, false, false};
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &it)) {
        lev_option_type_error(o, value, "a list of dicts {Name, Soft, Hard}",
                              err);
        return NULL;
    }
    while (bson_iter_next(&it)) {
        if (ulimit_member(o, &it, &u, err) < 0) {
            return NULL;
        }
    }
    if (ulimit_check(o, &u, err) < 0) {
        return NULL;
    }
    return lev_option_result(json_pack("{s:s, s:I, s:I}", "Name", u.name,
                                       "Soft", (json_int_t)u.soft, "Hard",
                                       (json_int_t)u.hard),
                             o, err);
}

json_t *
lev_option_ulimits(const struct lev_option *o, const bson_iter_t *value,
                   struct lev_error *err)
{
    return lev_option_list(o, value, "a list of dicts {Name, Soft, Hard}",
                           ulimit, err);
}

static bool
is_permissions(const char *text, size_t len)
{
    return len > 0 && len <= 3 && strspn(text, "rwm") >= len;
}

/* "/dev/a[:/dev/b][:rwm]"; as docker's client, a second part that is no path
 * may be the permissions. */
static json_t *
device_text(const struct lev_option *o, const char *text,
            struct lev_error *err)
{
    size_t host = strcspn(text, ":");
    const char *inside = text[host] == ':' ? text + host + 1 : "";
    size_t len = strcspn(inside, ":");
    const char *mode = inside[len] == ':' ? inside + len + 1 : "rwm";

    if (inside[len] == '\0' && is_permissions(inside, len)) {
        mode = inside;
        len = 0;
    }
    if (len == 0) {
        inside = text;
        len = host;
    }
    if (*text != '/' || *inside != '/' || !is_permissions(mode, strlen(mode)))
    {
        lev_option_invalid(o, "'/dev/on_host[:/dev/in_container][:rwm]'", text,
                           err);
        return NULL;
    }
    return lev_option_result(json_pack("{s:s%, s:s%, s:s}", "PathOnHost", text,
                                       host, "PathInContainer", inside, len,
                                       "CgroupPermissions", mode),
                             o, err);
}

/* The Engine API's own form, which docker-py passes through. */
/* As in the text form: the same path inside, all permissions. */
static int
device_defaults(json_t *device, const struct lev_option *o,
                struct lev_error *err)
{
    json_t *path = json_object_get(device, "PathOnHost");

    if (path == NULL) {
        return lev_option_invalid(o, "PathOnHost in a device's dict", "none",
                                  err);
    }
    if (json_object_get(device, "PathInContainer") == NULL &&
        json_object_set(device, "PathInContainer", path) < 0)
    {
        return lev_error_nomem(err, o->name);
    }
    if (json_object_get(device, "CgroupPermissions") == NULL &&
        json_object_set_new(device, "CgroupPermissions", json_string("rwm")) <
            0)
    {
        return lev_error_nomem(err, o->name);
    }
    return 0;
}

static json_t *
device_dict(const struct lev_option *o, const bson_iter_t *value,
            struct lev_error *err)
{
    _cleanup_json_ json_t *object = json_object();
    bson_iter_t it;

    if (object == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        const char *text =
            lev_option_text(o, &it, "str in a device's dict", err);

        if (text == NULL) {
            return NULL;
        }
        if (strcmp(key, "PathOnHost") != 0 &&
            strcmp(key, "PathInContainer") != 0 &&
            strcmp(key, "CgroupPermissions") != 0)
        {
            lev_option_invalid(
                o, "PathOnHost, PathInContainer and CgroupPermissions", key,
                err);
            return NULL;
        }
        if (json_object_set_new(object, key, json_string(text)) < 0) {
            return lev_option_result(NULL, o, err);
        }
    }
    return device_defaults(object, o, err) < 0 ? NULL : lev_steal(object);
}

static json_t *
device(const struct lev_option *o, const bson_iter_t *value,
       struct lev_error *err)
{
    const char *text;

    if (BSON_ITER_HOLDS_DOCUMENT(value)) {
        return device_dict(o, value, err);
    }
    text = lev_option_text(o, value, LIST_OF_STR, err);
    return text == NULL ? NULL : device_text(o, text, err);
}

json_t *
lev_option_devices(const struct lev_option *o, const bson_iter_t *value,
                   struct lev_error *err)
{
    return lev_option_list(o, value, LIST_OF_STR, device, err);
}
