/* Options about what of the machine a container shares, and how. */

#include "options_internal.h"

#include <ctype.h>
#include <string.h>

json_t *
lev_option_true(const struct lev_option *o, const bson_iter_t *value,
                struct lev_error *err)
{
    json_t *json = lev_option_bool(o, value, err);

    if (json_is_false(json)) {
        lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                      "option '%s' cannot be False: signals and orphans are "
                      "an init's business in every container",
                      o->name);
        return NULL;
    }
    return json;
}

static bool
is_word(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (!isgraph((unsigned char)*p)) {
            return false;
        }
    }
    return *text != '\0';
}

static json_t *
word(const struct lev_option *o, const bson_iter_t *value,
     struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "a list of str", err);

    if (text != NULL && !is_word(text)) {
        lev_option_invalid(o, "words without spaces", text, err);
        return NULL;
    }
    return text == NULL ? NULL : lev_option_result(json_string(text), o, err);
}

json_t *
lev_option_words(const struct lev_option *o, const bson_iter_t *value,
                 struct lev_error *err)
{
    return lev_option_list(o, value, "a list of str", word, err);
}

json_t *
lev_option_domain(const struct lev_option *o, const bson_iter_t *value,
                  struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);

    if (text != NULL && (!is_word(text) || strlen(text) > 64)) {
        lev_option_invalid(o, "a domain's name of 1 to 64 characters", text,
                           err);
        return NULL;
    }
    return text == NULL ? NULL : lev_option_result(json_string(text), o, err);
}

/* ---- labels ---- */

#define LABELS "a dict {name: text} or a list of 'name=text'"
#define OURS "zone.lev."

static int
add_label(const struct lev_option *o, json_t *labels, const char *name,
          size_t len, const char *text, struct lev_error *err)
{
    _cleanup_free_ char *key = strndup(name, len);

    if (key == NULL) {
        return lev_error_nomem(err, o->name);
    }
    if (len == 0 || strncmp(key, OURS, strlen(OURS)) == 0) {
        return lev_option_invalid(
            o, "names that do not begin with " OURS ", which is levrt's", key,
            err);
    }
    return json_object_set_new(labels, key, json_string(text)) < 0
               ? lev_error_nomem(err, o->name)
               : 0;
}

json_t *
lev_option_labels(const struct lev_option *o, const bson_iter_t *value,
                  struct lev_error *err)
{
    _cleanup_json_ json_t *labels = json_object();
    bool list = BSON_ITER_HOLDS_ARRAY(value);
    bson_iter_t it;

    if (!list && !BSON_ITER_HOLDS_DOCUMENT(value)) {
        lev_option_type_error(o, value, LABELS, err);
        return NULL;
    }
    if (labels == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        const char *text = lev_option_text(o, &it, LABELS, err);
        const char *name = list ? text : bson_iter_key(&it);
        size_t len;

        if (text == NULL) {
            return NULL;
        }
        len = list ? strcspn(text, "=") : strlen(name);
        if (list) {
            text += len + (text[len] == '=');
        }
        if (add_label(o, labels, name, len, text, err) < 0) {
            return NULL;
        }
    }
    return lev_steal(labels);
}

/* ---- groups, processors ---- */

static json_t *
group(const struct lev_option *o, const bson_iter_t *value,
      struct lev_error *err)
{
    static const char expected[] = "a list of group names or numbers";
    const char *text;

    if (lev_option_is_int(value)) {
        int64_t n = bson_iter_as_int64(value);

        if (n < 0 || n > UINT32_MAX) {
            lev_option_invalid(o, expected, "a number out of range", err);
            return NULL;
        }
        return lev_option_result(json_sprintf("%lld", (long long)n), o, err);
    }
    text = lev_option_text(o, value, expected, err);
    if (text != NULL && (!is_word(text) || strchr(text, ':') != NULL)) {
        lev_option_invalid(o, expected, text, err);
        return NULL;
    }
    return text == NULL ? NULL : lev_option_result(json_string(text), o, err);
}

json_t *
lev_option_groups(const struct lev_option *o, const bson_iter_t *value,
                  struct lev_error *err)
{
    return lev_option_list(o, value, "a list of group names or numbers", group,
                           err);
}

/* "0-2,4" */
json_t *
lev_option_cpus(const struct lev_option *o, const bson_iter_t *value,
                struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str ('0-2,4')", err), *p;
    unsigned first, last;
    int n;

    for (p = text; p != NULL && *p != '\0'; p += *p == ',') {
        if (!isdigit((unsigned char)*p) || sscanf(p, "%u%n", &first, &n) != 1)
        {
            break;
        }
        p += n;
        if (*p == '-' &&
            (!isdigit((unsigned char)p[1]) ||
             sscanf(p + 1, "%u%n", &last, &n) != 1 || last < first))
        {
            break;
        }
        p += *p == '-' ? n + 1 : 0;
        if (*p != '\0' && (*p != ',' || p[1] == '\0')) {
            break;
        }
    }
    if (text != NULL && (*text == '\0' || *p != '\0')) {
        lev_option_invalid(o, "numbers and ranges of processors ('0-2,4')",
                           text, err);
        return NULL;
    }
    return text == NULL ? NULL : lev_option_result(json_string(text), o, err);
}

/* ---- kernel parameters ---- */

static int
add_sysctl(const struct lev_option *o, json_t *all, const bson_iter_t *value,
           struct lev_error *err)
{
    const char *name = bson_iter_key(value), *text;
    char number[24];

    if (!is_word(name) || strchr(name, '/') != NULL ||
        strchr(name, '.') == NULL) {
        return lev_option_invalid(o, "names as 'net.ipv4.ip_forward'", name,
                                  err);
    }
    if (lev_option_is_int(value)) {
        snprintf(number, sizeof(number), "%lld",
                 (long long)bson_iter_as_int64(value));
        text = number;
    }
    else {
        text = lev_option_text(o, value, "a dict {name: str or int}", err);
    }
    if (text == NULL) {
        return -1;
    }
    return json_object_set_new(all, name, json_string(text)) < 0
               ? lev_error_nomem(err, o->name)
               : 0;
}

json_t *
lev_option_sysctls(const struct lev_option *o, const bson_iter_t *value,
                   struct lev_error *err)
{
    _cleanup_json_ json_t *all = json_object();
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_DOCUMENT(value)) {
        lev_option_type_error(o, value, "a dict {name: str or int}", err);
        return NULL;
    }
    if (all == NULL || !bson_iter_recurse(value, &it)) {
        return lev_option_result(NULL, o, err);
    }
    while (bson_iter_next(&it)) {
        if (add_sysctl(o, all, &it, err) < 0) {
            return NULL;
        }
    }
    return lev_steal(all);
}

/* ---- whose namespaces ---- */

/* One of `known` (ends with NULL), or "container:<name|id>". */
static json_t *
mode(const struct lev_option *o, const bson_iter_t *value,
     const char *const *known, const char *expected, struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);
    bool good =
        text != NULL && strncmp(text, "container:", 10) == 0 && text[10];

    for (; text != NULL && *known != NULL; known++) {
        good |= strcmp(text, *known) == 0;
    }
    if (text != NULL && !good) {
        lev_option_invalid(o, expected, text, err);
    }
    return good ? lev_option_result(json_string(text), o, err) : NULL;
}

json_t *
lev_option_pid_mode(const struct lev_option *o, const bson_iter_t *value,
                    struct lev_error *err)
{
    static const char *const known[] = {"host", NULL};

    return mode(o, value, known, "'host' or 'container:<name|id>'", err);
}

json_t *
lev_option_ipc_mode(const struct lev_option *o, const bson_iter_t *value,
                    struct lev_error *err)
{
    static const char *const known[] = {"host", "private", "shareable", "none",
                                        NULL};

    return mode(o, value, known,
                "'private', 'shareable', 'host', 'none' or "
                "'container:<name|id>'",
                err);
}

json_t *
lev_option_userns_mode(const struct lev_option *o, const bson_iter_t *value,
                       struct lev_error *err)
{
    const char *text = lev_option_text(o, value, "str", err);

    if (text != NULL && strcmp(text, "host") != 0) {
        lev_option_invalid(o, "'host'", text, err);
        return NULL;
    }
    return text == NULL ? NULL : lev_option_result(json_string(text), o, err);
}

/* ---- security ---- */

static json_t *
security(const struct lev_option *o, const bson_iter_t *value,
         struct lev_error *err)
{
    static const char *const names[] = {"no-new-privileges", "seccomp",
                                        "apparmor", "label", "systempaths"};
    const char *text = lev_option_text(o, value, "a list of str", err);
    size_t len = text == NULL ? 0 : strcspn(text, "=:");

    for (size_t i = 0; text != NULL && i < LEV_ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == len && strncmp(text, names[i], len) == 0 &&
            (i == 0 || (text[len] != '\0' && text[len + 1] != '\0')))
        {
            return lev_option_result(json_string(text), o, err);
        }
    }
    if (text != NULL) {
        lev_option_invalid(o,
                           "'no-new-privileges', 'seccomp=…', 'apparmor=…', "
                           "'label=…' and 'systempaths=unconfined'",
                           text, err);
    }
    return NULL;
}

json_t *
lev_option_security(const struct lev_option *o, const bson_iter_t *value,
                    struct lev_error *err)
{
    return lev_option_list(o, value, "a list of str", security, err);
}
