#include "credentials.h"

#include <errno.h>
#include <string.h>

#include "json.h"
#include "subprocess.h"

/* What docker calls its own registry in the file and to helpers. */
#define HUB_KEY "https://index.docker.io/v1/"
#define FILE_MAX_SIZE (1024 * 1024)

static void
wipe(char **text)
{
    if (*text != NULL) {
        explicit_bzero(*text, strlen(*text));
        free(*text);
        *text = NULL;
    }
}

static void
secret_deinit(struct lev_buf *b)
{
    if (b->data != NULL) {
        explicit_bzero(b->data, b->cap);
    }
    lev_buf_deinit(b);
}
#define _cleanup_secret_ _cleanup_(secret_deinit)

void
lev_credentials_deinit(struct lev_credentials *c)
{
    wipe(&c->username);
    wipe(&c->password);
    wipe(&c->identity_token);
    free(c->server);
    c->server = NULL;
}

static bool
is_hub(const char *registry)
{
    return strcmp(registry, "docker.io") == 0 ||
           strcmp(registry, "index.docker.io") == 0 ||
           strcmp(registry, "registry-1.docker.io") == 0;
}

static const char *
server_key(const char *registry)
{
    return is_hub(registry) ? HUB_KEY : registry;
}

/* Keys of the file may carry a scheme and a path: "https://host:port/v1/". */
static bool
key_names(const char *key, const char *registry)
{
    const char *host = strstr(key, "://");
    size_t len;

    host = host == NULL ? key : host + 3;
    len = strcspn(host, "/");
    if (is_hub(registry)) {
        char name[32];

        snprintf(name, sizeof(name), "%.*s", len < 31 ? (int)len : 31, host);
        return is_hub(name);
    }
    return strlen(registry) == len && memcmp(host, registry, len) == 0;
}

/* The member of `object` for the registry: its exact key, else one that means
 * the same host. */
static json_t *
entry_of(json_t *object, const char *registry, const char **key)
{
    json_t *value;

    *key = server_key(registry);
    value = json_object_get(object, *key);
    if (value != NULL) {
        return value;
    }
    json_object_foreach(object, *key, value)
    {
        if (key_names(*key, registry)) {
            return value;
        }
    }
    return NULL;
}

static int
read_all(FILE *f, const char *path, struct lev_buf *out, struct lev_error *err)
{
    for (;;) {
        char *to = lev_buf_reserve(out, 4096);
        size_t n;

        if (to == NULL) {
            return lev_error_nomem(err, path);
        }
        n = fread(to, 1, 4096, f);
        to[n] = '\0';
        out->len += n;
        if (out->len > FILE_MAX_SIZE) {
            return lev_error_set(err, LEV_E_IMAGE, 0, "%s: larger than 1 MiB",
                                 path);
        }
        if (n == 0) {
            break;
        }
    }
    if (ferror(f)) {
        return lev_error_set(err, LEV_E_IMAGE, errno, "%s: %s", path,
                             strerrordesc_np(errno));
    }
    return 0;
}

static int
config_path(const char *config_dir, struct lev_buf *path,
            struct lev_error *err)
{
    const char *home = getenv("HOME");

    if (config_dir != NULL) {
        lev_buf_printf(path, "%s/config.json", config_dir);
    }
    else if (home != NULL && *home != '\0') {
        lev_buf_printf(path, "%s/.docker/config.json", home);
    }
    return lev_buf_check(path, "docker configuration", err);
}

/* The parsed file; NULL without an error (`*found` false) when there is none.
 */
static json_t *
load_config(const char *path, bool *found, struct lev_error *err)
{
    _cleanup_secret_ struct lev_buf text = {0};
    _cleanup_json_ json_t *config = NULL;
    _cleanup_fclose_ FILE *f = NULL;
    json_error_t where;

    *found = false;
    if (*path == '\0') {
        return NULL;
    }
    f = fopen(path, "re");
    if (f == NULL && (errno == ENOENT || errno == ENOTDIR)) {
        return NULL;
    }
    *found = true;
    if (f == NULL) {
        lev_error_set(err, LEV_E_IMAGE, errno, "%s cannot be read: %s", path,
                      strerrordesc_np(errno));
        return NULL;
    }
    if (read_all(f, path, &text, err) < 0) {
        return NULL;
    }
    /* Not lev_json_parse(): it quotes the text, which holds secrets. */
    config = json_loadb(lev_buf_text(&text), text.len, 0, &where);
    if (config == NULL) {
        lev_error_set(err, LEV_E_IMAGE, 0, "%s: no JSON at line %d, column %d",
                      path, where.line, where.column);
    }
    return lev_steal(config);
}

static int
take_text(const char *text, size_t len, char **to, struct lev_error *err)
{
    wipe(to);
    *to = strndup(text, len);
    return *to == NULL ? lev_error_nomem(err, "credentials") : 0;
}

/* `auth` is base64 of "user:password". */
static int
decode_auth(const char *auth, const char *path, struct lev_credentials *out,
            struct lev_error *err)
{
    _cleanup_secret_ struct lev_buf plain = {0};
    const char *colon;
    struct lev_error why;

    if (lev_buf_unbase64(&plain, auth, &why) < 0 ||
        (colon = memchr(lev_buf_text(&plain), ':', plain.len)) == NULL)
    {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "%s: the entry auths/%s/auth is not base64 of "
                             "user:password; log in again: docker login %s",
                             path, out->server, out->server);
    }
    if (take_text(plain.data, (size_t)(colon - plain.data), &out->username,
                  err) < 0)
    {
        return -1;
    }
    return take_text(colon + 1, strlen(colon + 1), &out->password, err);
}

static int
take_member(json_t *entry, const char *name, char **to, struct lev_error *err)
{
    const char *text = json_string_value(json_object_get(entry, name));

    if (text == NULL || *text == '\0') {
        return 0;
    }
    return take_text(text, strlen(text), to, err);
}

static int
find_in_auths(json_t *config, const char *path, const char *registry,
              struct lev_credentials *out, struct lev_error *err)
{
    const char *key, *auth;
    json_t *entry = entry_of(json_object_get(config, "auths"), registry, &key);

    if (entry == NULL) {
        return 0;
    }
    if (take_text(key, strlen(key), &out->server, err) < 0) {
        return -1;
    }
    auth = json_string_value(json_object_get(entry, "auth"));
    if (auth != NULL && *auth != '\0' && decode_auth(auth, path, out, err) < 0)
    {
        return -1;
    }
    if (take_member(entry, "username", &out->username, err) < 0 ||
        take_member(entry, "password", &out->password, err) < 0)
    {
        return -1;
    }
    return take_member(entry, "identitytoken", &out->identity_token, err);
}

/* Helpers say so in words, on their standard output, with exit code 1. */
static bool
says_not_found(const struct lev_buf *out)
{
    return strstr(lev_buf_text(out), "credentials not found") != NULL ||
           strstr(lev_buf_text(out), "no credentials server URL") != NULL ||
           strstr(lev_buf_text(out), "no credentials username") != NULL;
}

/* By hand: jansson's error text could quote the secret. */
static int
parse_helper(const char *helper, const struct lev_buf *text,
             struct lev_credentials *out, struct lev_error *err)
{
    _cleanup_json_ json_t *answer =
        json_loadb(lev_buf_text(text), text->len, 0, NULL);
    const char *user = json_string_value(json_object_get(answer, "Username"));
    const char *secret = json_string_value(json_object_get(answer, "Secret"));

    if (user == NULL || secret == NULL) {
        return lev_error_set(err, LEV_E_IMAGE, 0,
                             "credential helper docker-credential-%s did not "
                             "answer with Username and Secret",
                             helper);
    }
    if (strcmp(user, "<token>") == 0) {
        return take_text(secret, strlen(secret), &out->identity_token, err);
    }
    if (take_text(user, strlen(user), &out->username, err) < 0) {
        return -1;
    }
    return take_text(secret, strlen(secret), &out->password, err);
}

static int
run_helper(const char *helper, const char *server,
           const struct lev_scope *scope, struct lev_buf *out, int *status,
           struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf program = {0}, errors = {0};
    const char *argv[] = {NULL, "get", NULL};

    lev_buf_printf(&program, "docker-credential-%s", helper);
    if (lev_buf_check(&program, "credential helper", err) < 0) {
        return -1;
    }
    argv[0] = program.data;
    if (lev_subprocess_run(scope, argv, server, out, &errors, status, err) < 0)
    {
        if (err->code == LEV_E_OS) {
            err->code = LEV_E_IMAGE;
            lev_error_wrap(err,
                           "a credential helper cannot be run (install it, "
                           "or take it out of credsStore and credHelpers in "
                           "docker's config.json)");
        }
        return -1;
    }
    return 0;
}

/* 1: found, 0: the helper keeps none, -1. */
static int
ask_helper(const char *helper, const char *registry,
           const struct lev_scope *scope, struct lev_credentials *out,
           struct lev_error *err)
{
    _cleanup_secret_ struct lev_buf text = {0};
    const char *server = server_key(registry);
    int status;

    if (run_helper(helper, server, scope, &text, &status, err) < 0) {
        return -1;
    }
    if (status != 0 && says_not_found(&text)) {
        return 0;
    }
    if (status != 0) {
        return lev_error_set(err, LEV_E_IMAGE, status,
                             "docker-credential-%s failed with exit code %d; "
                             "try: echo %s | docker-credential-%s get",
                             helper, status, server, helper);
    }
    if (parse_helper(helper, &text, out, err) < 0 ||
        take_text(server, strlen(server), &out->server, err) < 0)
    {
        return -1;
    }
    return 1;
}

static int
find(json_t *config, const char *path, const char *registry,
     const struct lev_scope *scope, struct lev_credentials *out,
     struct lev_error *err)
{
    const char *key;
    const char *helper = json_string_value(
        entry_of(json_object_get(config, "credHelpers"), registry, &key));
    int found = 0;

    if (helper == NULL) {
        helper = json_string_value(json_object_get(config, "credsStore"));
    }
    if (helper != NULL && *helper != '\0') {
        found = ask_helper(helper, registry, scope, out, err);
    }
    if (found != 0) {
        return found < 0 ? -1 : 0;
    }
    return find_in_auths(config, path, registry, out, err);
}

int
lev_credentials_find(const char *config_dir, const char *registry,
                     const struct lev_scope *scope,
                     struct lev_credentials *out, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_json_ json_t *config = NULL;
    bool found;

    *out = (struct lev_credentials){0};
    if (config_path(config_dir, &path, err) < 0) {
        return -1;
    }
    config = load_config(lev_buf_text(&path), &found, err);
    if (config == NULL && !found) {
        return 0;
    }
    if (config == NULL ||
        find(config, path.data, registry, scope, out, err) < 0) {
        lev_credentials_deinit(out);
        return lev_error_wrap(err, "credentials for %s", registry);
    }
    return 0;
}

static void
set_text(json_t *object, const char *name, const char *text, bool *ok)
{
    if (text != NULL && json_object_set_new(object, name, json_string(text))) {
        *ok = false;
    }
}

int
lev_credentials_header(const struct lev_credentials *c, struct lev_buf *out,
                       struct lev_error *err)
{
    _cleanup_json_ json_t *object = json_object();
    _cleanup_secret_ struct lev_buf text = {0};
    bool ok = object != NULL;
    bool token = c->identity_token != NULL;

    if (ok) {
        set_text(object, "username", token ? NULL : c->username, &ok);
        set_text(object, "password", token ? NULL : c->password, &ok);
        set_text(object, "identitytoken", c->identity_token, &ok);
        set_text(object, "serveraddress", c->server, &ok);
    }
    if (!ok || lev_json_dump(object, &text, err) < 0) {
        return lev_error_nomem(err, "registry credentials");
    }
    lev_buf_base64(out, text.data, text.len, true);
    return lev_buf_check(out, "registry credentials", err);
}
