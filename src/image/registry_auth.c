#include "registry_auth.h"

#include <string.h>

#include "json.h"

static void
copy_value(const char *from, size_t len, char *out, size_t size)
{
    size_t n = 0;

    /* A value that does not fit is no value: half of a URL is another one. */
    for (size_t i = 0; i < len && n + 1 < size; i++) {
        if (from[i] == '\\' && i + 1 < len) {
            i++;
        }
        out[n++] = from[i];
    }
    out[n + 1 < size ? n : 0] = '\0';
}

/* One name=value or name="value"; what stands behind it. */
static const char *
parameter(const char *p, const char *end, struct lev_challenge *c)
{
    const char *name = p, *value;
    size_t name_len = strcspn(p, "=, \t\r\n"), len;

    p += name_len;
    if (p >= end || *p != '=') {
        return p;
    }
    value = ++p;
    if (*p == '"') {
        value = ++p;
        while (p < end && *p != '"') {
            p += *p == '\\' && p + 1 < end ? 2 : 1;
        }
        p = p > end ? end : p;
        len = (size_t)(p - value);
        p += p < end;
    }
    else {
        len = strcspn(p, ", \t\r\n");
        p += len;
    }
    if (name_len == 5 && strncasecmp(name, "realm", 5) == 0) {
        copy_value(value, len, c->realm, sizeof(c->realm));
    }
    else if (name_len == 7 && strncasecmp(name, "service", 7) == 0) {
        copy_value(value, len, c->service, sizeof(c->service));
    }
    else if (name_len == 5 && strncasecmp(name, "scope", 5) == 0) {
        copy_value(value, len, c->scope, sizeof(c->scope));
    }
    return p;
}

static void
parse_line(const char *p, const char *end, struct lev_challenge *c)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    if (strncasecmp(p, "Basic", 5) == 0) {
        c->basic = true;
        return;
    }
    if (strncasecmp(p, "Bearer", 6) != 0 || c->bearer) {
        return;
    }
    c->bearer = true;
    p += 6;
    while (p < end) {
        const char *before = p;

        p += strspn(p, ", \t");
        p = p < end ? parameter(p, end, c) : end;
        if (p == before) {
            return;
        }
    }
}

void
lev_challenge_parse(const char *headers, struct lev_challenge *c)
{
    static const char name[] = "WWW-Authenticate:";

    *c = (struct lev_challenge){0};
    for (const char *p = headers; *p != '\0';) {
        size_t len = strcspn(p, "\r\n");

        if (strncasecmp(p, name, sizeof(name) - 1) == 0) {
            parse_line(p + sizeof(name) - 1, p + len, c);
        }
        p += len;
        p += strspn(p, "\r\n");
    }
    if (c->realm[0] == '\0') {
        c->bearer = false;
    }
}

int
lev_auth_basic(const struct lev_credentials *cred, struct lev_buf *out,
               struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf plain = {0};

    lev_buf_printf(&plain, "%s:%s", cred->username,
                   cred->password == NULL ? "" : cred->password);
    lev_buf_puts(out, "Basic ");
    lev_buf_base64(out, plain.data, plain.len, false);
    if (plain.data != NULL) {
        explicit_bzero(plain.data, plain.cap);
    }
    return lev_buf_check(&plain, "credentials", err) < 0
               ? -1
               : lev_buf_check(out, "credentials", err);
}

static void
add(struct lev_buf *out, const char *key, const char *value)
{
    lev_buf_printf(out, "%s%s=", out->len > 0 ? "&" : "", key);
    lev_buf_urlencode(out, value);
}

int
lev_auth_query(const struct lev_challenge *c, const char *scope,
               const struct lev_credentials *cred, struct lev_buf *out,
               struct lev_error *err)
{
    if (c->service[0] != '\0') {
        add(out, "service", c->service);
    }
    add(out, "scope", c->scope[0] != '\0' ? c->scope : scope);
    if (cred->identity_token != NULL) {
        add(out, "grant_type", "refresh_token");
        add(out, "client_id", "levrt");
        add(out, "refresh_token", cred->identity_token);
    }
    else if (cred->username != NULL) {
        add(out, "account", cred->username);
    }
    return lev_buf_check(out, "token request", err);
}

int
lev_auth_token(const struct lev_buf *answer, const char *realm,
               struct lev_buf *out, struct lev_error *err)
{
    _cleanup_json_ json_t *v = lev_json_parse(
        lev_buf_text(answer), answer->len, "token server's answer", err);
    const char *token = lev_json_str(v, "token");

    if (token == NULL) {
        token = lev_json_str(v, "access_token");
    }
    if (v == NULL) {
        err->code = err->code == LEV_E_ENGINE ? LEV_E_PULL : err->code;
        return -1;
    }
    if (token == NULL || *token == '\0') {
        return lev_error_set(err, LEV_E_PULL, 0,
                             "token server %.200s: there is no token in its "
                             "answer",
                             realm);
    }
    for (const char *p = token; *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~') {
            return lev_error_set(err, LEV_E_PULL, 0,
                                 "token server %.200s: its token cannot stand "
                                 "in a header",
                                 realm);
        }
    }
    lev_buf_printf(out, "Bearer %s", token);
    return lev_buf_check(out, "token", err);
}

void
lev_registry_words(const struct lev_buf *body, char *out, size_t len)
{
    struct lev_error ignored;
    _cleanup_json_ json_t *v = NULL;
    const char *text, *code;

    *out = '\0';
    if (body->len == 0) {
        return;
    }
    v = lev_json_parse(body->data, body->len, "answer", &ignored);
    code = lev_json_str(v, "errors.0.code");
    text = lev_json_str(v, "errors.0.message");
    if (text == NULL) {
        text = lev_json_str(v, "message");
    }
    if (text == NULL) {
        text = lev_json_str(v, "details");
    }
    if (text != NULL || code != NULL) {
        snprintf(out, len, "%.200s%s%.60s%s", text == NULL ? "" : text,
                 code != NULL ? " (" : "", code == NULL ? "" : code,
                 code != NULL ? ")" : "");
    }
}
