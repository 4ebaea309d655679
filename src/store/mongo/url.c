#include <string.h>
#include <strings.h>

#include "buf.h"
#include "mongo.h"

/* Of a URL that names none. */
#define DATABASE "lev"

/* Options whose values nobody may read. */
static const char *const secret[] = {
    MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD,
    MONGOC_URI_SSLCLIENTCERTIFICATEKEYPASSWORD,
    MONGOC_URI_AUTHMECHANISMPROPERTIES,
};

/* What the driver says about an option that it leaves out: only its log tells.
 * One thread parses a URL at a time, and the handler is called on it. */
static _Thread_local char warned[300];

void
lev_mongo_log(mongoc_log_level_t level, const char *domain,
              const char *message, void *unused)
{
    if (level <= MONGOC_LOG_LEVEL_WARNING && warned[0] == '\0') {
        snprintf(warned, sizeof(warned), "%s", message);
    }
}

static void
default_int32(mongoc_uri_t *uri, const char *option, int32_t value)
{
    if (!mongoc_uri_has_option(uri, option)) {
        mongoc_uri_set_option_as_int32(uri, option, value);
    }
}

static void
default_bool(mongoc_uri_t *uri, const char *option, bool value)
{
    if (!mongoc_uri_has_option(uri, option)) {
        mongoc_uri_set_option_as_bool(uri, option, value);
    }
}

static int
check(const mongoc_uri_t *uri, struct lev_error *err)
{
    if (!mongoc_write_concern_is_acknowledged(
            mongoc_uri_get_write_concern(uri))) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "store: w=0 in a MongoDB URL: nobody would know "
                             "what is stored; use w=majority, or leave it "
                             "out");
    }
    if (mongoc_uri_has_option(uri, MONGOC_URI_MAXPOOLSIZE) &&
        mongoc_uri_get_option_as_int32(uri, MONGOC_URI_MAXPOOLSIZE, 0) < 1)
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "store: maxPoolSize in a MongoDB URL must be at "
                             "least 1");
    }
    return 0;
}

/* What a store promises: a write that was acknowledged is durable. */
static void
set_write_concern(mongoc_uri_t *uri)
{
    mongoc_write_concern_t *wanted =
        mongoc_write_concern_copy(mongoc_uri_get_write_concern(uri));

    mongoc_write_concern_set_w(wanted, MONGOC_WRITE_CONCERN_W_MAJORITY);
    mongoc_uri_set_write_concern(uri, wanted);
    mongoc_write_concern_destroy(wanted);
}

static bool
has_database(const mongoc_uri_t *uri)
{
    const char *name = mongoc_uri_get_database(uri);

    return name != NULL && *name != '\0';
}

static void
set_defaults(mongoc_uri_t *uri)
{
    default_bool(uri, MONGOC_URI_RETRYWRITES, true);
    default_bool(uri, MONGOC_URI_RETRYREADS, true);
    /* The driver's monitors cannot be cancelled: closing waits for this. */
    default_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, 2000);
    /* A server may be away for half a minute before anything is lost. */
    default_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 45000);
    default_int32(uri, MONGOC_URI_MAXPOOLSIZE, 100);
    if (mongoc_uri_get_appname(uri) == NULL) {
        mongoc_uri_set_appname(uri, "levrt");
    }
    if (!mongoc_uri_has_option(uri, MONGOC_URI_W)) {
        set_write_concern(uri);
    }
    if (!has_database(uri)) {
        mongoc_uri_set_database(uri, DATABASE);
    }
}

/* The driver quotes the part that it does not like, which may be a password
 * with an unescaped character. */
static int
refuse(const char *url, const char *why, struct lev_error *err)
{
    if (strchr(url, '@') != NULL) {
        return lev_error_set(
            err, LEV_E_INVALID, 0,
            "store: this is no MongoDB URL (not shown, as it holds a login); "
            "expected mongodb://USER:PASSWORD@HOST[:PORT][,…]/DATABASE"
            "[?OPTION=VALUE&…], with : / ? # [ ] @ %% in user and password "
            "percent-encoded, and options that MongoDB's C driver knows");
    }
    return lev_error_set(err, LEV_E_INVALID, 0,
                         "store '%.200s': %.300s; expected "
                         "mongodb://HOST[:PORT][,…]/DATABASE[?OPTION=VALUE&…]",
                         url, why);
}

static mongoc_uri_t *
parse(const char *url, struct lev_error *err)
{
    bson_error_t error = {0};
    _cleanup_uri_ mongoc_uri_t *uri = NULL;

    warned[0] = '\0';
    uri = mongoc_uri_new_with_error(url, &error);
    if (uri == NULL) {
        refuse(url, error.message, err);
        return NULL;
    }
    if (warned[0] != '\0') {
        refuse(url, warned, err);
        return NULL;
    }
    return check(uri, err) < 0 ? NULL : lev_steal(uri);
}

mongoc_uri_t *
lev_mongo_uri(const char *url, struct lev_error *err)
{
    mongoc_uri_t *uri = parse(url, err);

    if (uri != NULL) {
        set_defaults(uri);
    }
    return uri;
}

static bool
is_secret(const char *option)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(secret); i++) {
        if (strcasecmp(option, secret[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void
append_hosts(struct lev_buf *out, const mongoc_uri_t *uri)
{
    const char *srv = mongoc_uri_get_srv_hostname(uri);
    const mongoc_host_list_t *host;

    if (srv != NULL) {
        lev_buf_puts(out, srv);
        return;
    }
    for (host = mongoc_uri_get_hosts(uri); host != NULL; host = host->next) {
        lev_buf_printf(out, "%s%s", host->host_and_port,
                       host->next == NULL ? "" : ",");
    }
}

static void
append_option(struct lev_buf *out, bson_iter_t *it, char before)
{
    const char *key = bson_iter_key(it);

    lev_buf_printf(out, "%c%s=", before, key);
    if (BSON_ITER_HOLDS_UTF8(it)) {
        lev_buf_urlencode(out, bson_iter_utf8(it, NULL));
    }
    else if (BSON_ITER_HOLDS_BOOL(it)) {
        lev_buf_puts(out, bson_iter_bool(it) ? "true" : "false");
    }
    else {
        lev_buf_printf(out, "%lld", (long long)bson_iter_as_int64(it));
    }
}

/* `from`: options as the driver keeps them, names in lower case. */
static void
append_options(struct lev_buf *out, const bson_t *from, char *before)
{
    bson_iter_t it;

    if (from == NULL || !bson_iter_init(&it, from)) {
        return;
    }
    while (bson_iter_next(&it)) {
        if (!is_secret(bson_iter_key(&it))) {
            append_option(out, &it, *before);
            *before = '&';
        }
    }
}

/* Two spellings of one store that differ are two stores: they merely do not
 * share connections. The user belongs to it, as rights are the user's. */
char *
lev_mongo_canonical(const char *url, struct lev_error *err)
{
    _cleanup_uri_ mongoc_uri_t *uri = parse(url, err);
    _cleanup_buf_ struct lev_buf out = {0};
    const char *user;
    char before = '?';

    if (uri == NULL) {
        return NULL;
    }
    lev_buf_puts(&out, mongoc_uri_get_srv_hostname(uri) != NULL
                           ? "mongodb+srv://"
                           : "mongodb://");
    user = mongoc_uri_get_username(uri);
    if (user != NULL) {
        lev_buf_urlencode(&out, user);
        lev_buf_putc(&out, '@');
    }
    append_hosts(&out, uri);
    lev_buf_putc(&out, '/');
    lev_buf_urlencode(&out, has_database(uri) ? mongoc_uri_get_database(uri)
                                              : DATABASE);
    append_options(&out, mongoc_uri_get_options(uri), &before);
    append_options(&out, mongoc_uri_get_credentials(uri), &before);
    if (lev_buf_check(&out, "URL", err) < 0) {
        return NULL;
    }
    return lev_buf_take(&out);
}
