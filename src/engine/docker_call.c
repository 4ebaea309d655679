#include "docker.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#define MESSAGE_MAX 600
/* For messages. */
#define ANSWER "the engine's answer"

void
lev_docker_path(const struct lev_docker *d, struct lev_buf *path,
                const char *fmt, ...)
{
    va_list ap;

    lev_buf_puts(path, d->prefix);
    va_start(ap, fmt);
    for (const char *p = fmt; *p != '\0'; p++) {
        if (p[0] == '%' && p[1] == 's') {
            lev_buf_urlencode(path, va_arg(ap, const char *));
            p++;
        }
        else {
            lev_buf_putc(path, *p);
        }
    }
    va_end(ap);
}

/* What helps against what an engine says. */
static const struct {
    const char *says, *hint;
} hints[] = {
    {"could not find an available, non-overlapping IPv4 address pool",
     "remove unused networks (docker network prune), or give the daemon more "
     "room (default-address-pools in daemon.json)"},
    {"no space left on device",
     "free some space on the engine's machine (docker system df)"},
    {"Client sent an HTTP request to an HTTPS server",
     "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"},
    {"error getting credentials", "log in again (docker login)"},
};

static const char *
hint_for(const char *message)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(hints); i++) {
        if (strstr(message, hints[i].says) != NULL) {
            return hints[i].hint;
        }
    }
    return NULL;
}

/* Podman prints a structure of its own, which is longer than any message, and
 * then what was wrong. */
static const char *
skip_dump(const char *message)
{
    const char *dump = strstr(message, "copier.request{");
    const char *end = NULL;

    for (const char *p = dump; p != NULL; p = strstr(p + 1, "}: ")) {
        end = p == dump ? end : p + 3;
    }
    return end == NULL ? message : end;
}

/* Of "error" answers: {"message": …}. */
static void
message_of(const struct lev_http_response *resp, char *text, size_t size)
{
    _cleanup_json_ json_t *body =
        json_loadb(lev_buf_text(&resp->body), resp->body.len, 0, NULL);
    const char *message = lev_json_str(body, "message");
    size_t len;

    if (message == NULL) {
        message = lev_buf_text(&resp->body);
    }
    message = skip_dump(message);
    len = strnlen(message, size - 1);
    while (len > 0 && strchr("\r\n ", message[len - 1]) != NULL) {
        len--;
    }
    memcpy(text, message, len);
    text[len] = '\0';
    if (len == 0) {
        snprintf(text, size, "HTTP status %ld", resp->status);
    }
}

static enum lev_errcode
code_of(long status, const char *message)
{
    if (status == 404 && (strcasestr(message, "no such image") != NULL ||
                          strcasestr(message, "image not known") != NULL))
    {
        return LEV_E_IMAGE_NOT_FOUND;
    }
    /* Podman answers 500 to what its containers are not ready for, and Docker
     * to the start of an exec whose container has just ended. */
    if (status == 409 || strstr(message, "container state improper") != NULL ||
        strstr(message, " is not running") != NULL)
    {
        return LEV_E_CONFLICT;
    }
    return status == 404 ? LEV_E_NOT_FOUND : LEV_E_ENGINE;
}

int
lev_docker_status(const struct lev_http_response *resp, struct lev_error *err)
{
    char message[MESSAGE_MAX];
    const char *hint;

    if ((resp->status >= 200 && resp->status < 300) || resp->status == 304) {
        return 0;
    }
    message_of(resp, message, sizeof(message));
    hint = hint_for(message);
    return lev_error_set(err, code_of(resp->status, message),
                         (int)resp->status, "%s%s%s", message,
                         hint == NULL ? "" : "; ", hint == NULL ? "" : hint);
}

static int
call(struct lev_docker *d, const struct lev_scope *scope, const char *method,
     const struct lev_buf *path, const json_t *body,
     struct lev_http_response *resp, struct lev_error *err)
{
    static const char *const json_type[] = {"Content-Type: application/json",
                                            NULL};
    _cleanup_buf_ struct lev_buf text = {0};
    struct lev_http_request req = {.method = method};

    if (lev_buf_check(path, "path of a request", err) < 0 ||
        (body != NULL && lev_json_dump(body, &text, err) < 0))
    {
        return -1;
    }
    req.path = path->data;
    if (body != NULL) {
        req.headers = json_type;
        req.body = text.data;
        req.body_len = text.len;
    }
    if (lev_http_request(d->http, scope, &req, resp, err) < 0) {
        return -1;
    }
    return lev_docker_status(resp, err);
}

int
lev_docker_call(struct lev_docker *d, const struct lev_scope *scope,
                const char *method, const struct lev_buf *path,
                const json_t *body, json_t **answer, struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};

    if (call(d, scope, method, path, body, &resp, err) < 0) {
        return -1;
    }
    if (answer == NULL) {
        return 0;
    }
    *answer =
        lev_json_parse(lev_buf_text(&resp.body), resp.body.len, ANSWER, err);
    return *answer == NULL ? -1 : 0;
}

static void
conn_givep(struct lev_http_conn **conn)
{
    lev_http_conn_give(*conn);
}

/* Until the answer is there; a cancel leaves it `patience` more, and is told
 * with the answer. */
static int
wait_patiently(struct lev_http_conn *conn, struct lev_http_transfer *t,
               const struct lev_scope *scope, int64_t patience,
               struct lev_error *err)
{
    const struct lev_scope uncancelled = {scope->deadline, NULL};
    struct lev_scope s = *scope;
    struct lev_error why;
    int done;

    while ((done = lev_http_transfer_done(t, err)) == 0) {
        if (lev_http_conn_poll(conn, &s, NULL, 0, &why) == 0) {
            continue;
        }
        if (why.code != LEV_E_CANCELLED || s.cancel == NULL) {
            break;
        }
        s = lev_scope_within(&uncancelled, patience);
    }
    if (done < 0 || lev_scope_check(scope, err) < 0) {
        return -1;
    }
    if (done == 0) {
        *err = why;
        return -1;
    }
    return 0;
}

int
lev_docker_post_through(struct lev_docker *d, const struct lev_scope *scope,
                        const struct lev_buf *path, struct lev_error *err)
{
    _cleanup_(conn_givep) struct lev_http_conn *conn = NULL;
    struct lev_http_request req = {.method = "POST", .path = path->data};
    struct lev_http_transfer *t;

    if (lev_buf_check(path, "path of a request", err) < 0 ||
        lev_scope_check(scope, err) < 0)
    {
        return -1;
    }
    conn = lev_http_conn_take(d->http, err);
    t = conn == NULL ? NULL : lev_http_transfer_start(conn, &req, err);
    if (t == NULL || wait_patiently(conn, t, scope, d->patience, err) < 0) {
        return -1;
    }
    return lev_docker_status(lev_http_transfer_response(t), err);
}

/* The member `name` of the object in `text` goes into `to`, if it is there. */
static int
copy_member(const struct lev_buf *text, const char *name, json_t *to,
            struct lev_error *err)
{
    size_t len = 0;
    const char *at = lev_json_find(lev_buf_text(text), text->len, name, &len);
    json_t *v;

    if (at == NULL) {
        return 0;
    }
    v = lev_json_parse(at, len, ANSWER, err);
    if (v == NULL) {
        return -1;
    }
    return json_object_set_new(to, name, v) < 0 ? lev_error_nomem(err, ANSWER)
                                                : 0;
}

int
lev_docker_get_members(struct lev_docker *d, const struct lev_scope *scope,
                       const struct lev_buf *path, const char *const *names,
                       json_t **answer, struct lev_error *err)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    _cleanup_json_ json_t *object = json_object();

    if (object == NULL) {
        return lev_error_nomem(err, ANSWER);
    }
    if (call(d, scope, "GET", path, NULL, &resp, err) < 0) {
        return -1;
    }
    for (; *names != NULL; names++) {
        if (copy_member(&resp.body, *names, object, err) < 0) {
            return -1;
        }
    }
    /* None of them: then it may be no JSON at all, which this says. */
    *answer = json_object_size(object) > 0
                  ? lev_steal(object)
                  : lev_json_parse(lev_buf_text(&resp.body), resp.body.len,
                                   ANSWER, err);
    return *answer == NULL ? -1 : 0;
}

const char *
lev_docker_arch(const char *arch, const char *variant)
{
    /* Go's names to the kernel's. */
    static const char *const names[][2] = {{"amd64", "x86_64"},
                                           {"386", "i686"},
                                           {"arm64", "aarch64"},
                                           {"mips64le", "mips64"},
                                           {"loong64", "loongarch64"}};

    if (arch == NULL || *arch == '\0') {
        return NULL;
    }
    if (strcmp(arch, "arm") == 0) {
        return variant != NULL && strcmp(variant, "v6") == 0   ? "armv6l"
               : variant != NULL && strcmp(variant, "v5") == 0 ? "armv5tel"
                                                               : "armv7l";
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(names); i++) {
        if (strcmp(arch, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return arch;
}

json_t *
lev_docker_labels(const char *const *labels, struct lev_error *err)
{
    json_t *object = json_object();

    for (size_t i = 0; object != NULL && i < lev_strv_len(labels); i++) {
        const char *eq = strchrnul(labels[i], '=');
        _cleanup_free_ char *key =
            strndup(labels[i], (size_t)(eq - labels[i]));

        if (key == NULL ||
            json_object_set_new(object, key,
                                json_string(*eq == '=' ? eq + 1 : "")) < 0)
        {
            json_decref(object);
            object = NULL;
        }
    }
    if (object == NULL) {
        lev_error_nomem(err, "labels");
    }
    return object;
}

int
lev_docker_label_list(const json_t *object, char ***labels,
                      struct lev_error *err)
{
    char **v = calloc(json_object_size(object) + 1, sizeof(*v));
    const char *key;
    json_t *value;
    size_t n = 0;

    if (v == NULL) {
        return lev_error_nomem(err, "labels");
    }
    json_object_foreach((json_t *)object, key, value)
    {
        const char *text = json_string_value(value);

        if (asprintf(&v[n], "%s=%s", key, text == NULL ? "" : text) < 0) {
            v[n] = NULL;
            lev_strv_free(v);
            return lev_error_nomem(err, "labels");
        }
        n++;
    }
    *labels = v;
    return 0;
}

int
lev_docker_check_text(const char *what, const char *const *v,
                      struct lev_error *err)
{
    for (size_t i = 0; i < lev_strv_len(v); i++) {
        if (!bson_utf8_validate(v[i], strlen(v[i]), false)) {
            return lev_error_set(err, LEV_E_INVALID, 0,
                                 "%s: item %zu is not valid UTF-8, which is "
                                 "all that an engine takes",
                                 what, i);
        }
    }
    return 0;
}

json_t *
lev_docker_strings(const char *const *v)
{
    json_t *array = v == NULL ? json_null() : json_array();

    for (size_t i = 0; array != NULL && i < lev_strv_len(v); i++) {
        if (json_array_append_new(array, json_string(v[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

int64_t
lev_docker_time(const char *text)
{
    struct tm tm = {0};
    const char *p =
        text == NULL ? NULL : strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t ms = 0, scale = 100, seconds;

    if (p == NULL) {
        return 0;
    }
    seconds = timegm(&tm);
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10) {
            ms += (*p - '0') * scale;
        }
    }
    if (*p == '+' || *p == '-') {
        int hours, minutes;

        if (sscanf(p + 1, "%2d:%2d", &hours, &minutes) == 2) {
            seconds -= (*p == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);
        }
    }
    return seconds < 0 ? 0 : seconds * 1000 + ms;
}

int
lev_docker_filter(struct lev_buf *path, const char *label,
                  struct lev_error *err)
{
    _cleanup_json_ json_t *filters = NULL;
    _cleanup_buf_ struct lev_buf text = {0};

    if (label == NULL) {
        return 0;
    }
    filters = json_pack("{s:[s]}", "label", label);
    if (filters == NULL) {
        return lev_error_nomem(err, "filters");
    }
    if (lev_json_dump(filters, &text, err) < 0) {
        return -1;
    }
    lev_buf_puts(path, strchr(lev_buf_text(path), '?') == NULL ? "?filters="
                                                               : "&filters=");
    lev_buf_urlencode(path, text.data);
    return lev_buf_check(path, "filters", err);
}

int
lev_docker_list_add(struct lev_listed ***end, const char *id, const char *name,
                    const char *subnet, const json_t *labels,
                    struct lev_error *err)
{
    struct lev_listed *item = calloc(1, sizeof(*item));

    if (item == NULL) {
        return lev_error_nomem(err, "listing");
    }
    item->id = strdup(id == NULL ? "" : id);
    item->name = strdup(name == NULL ? "" : name);
    item->subnet = subnet == NULL ? NULL : strdup(subnet);
    if (item->id == NULL || item->name == NULL ||
        (subnet != NULL && item->subnet == NULL))
    {
        lev_listed_free(item);
        return lev_error_nomem(err, "listing");
    }
    if (lev_docker_label_list(labels, &item->labels, err) < 0) {
        lev_listed_free(item);
        return -1;
    }
    **end = item;
    *end = &item->next;
    return 0;
}
