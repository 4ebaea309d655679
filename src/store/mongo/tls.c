#include "mongo.h"

static bool
flag(const mongoc_uri_t *uri, const char *name)
{
    return mongoc_uri_get_option_as_bool(uri, name, false);
}

static const char *
text(const mongoc_uri_t *uri, const char *name)
{
    return mongoc_uri_get_option_as_utf8(uri, name, NULL);
}

/* As the driver's own initiator makes it of a URL, but for its checks of
 * revocation, which wait for servers of third parties without end. */
static mongoc_ssl_opt_t
options(const mongoc_uri_t *uri)
{
    mongoc_ssl_opt_t o = *mongoc_ssl_opt_get_default();
    bool insecure = flag(uri, MONGOC_URI_TLSINSECURE);

    o.pem_file = text(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE);
    o.pem_pwd = text(uri, MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD);
    o.ca_file = text(uri, MONGOC_URI_TLSCAFILE);
    o.weak_cert_validation =
        insecure || flag(uri, MONGOC_URI_TLSALLOWINVALIDCERTIFICATES);
    o.allow_invalid_hostname =
        insecure || flag(uri, MONGOC_URI_TLSALLOWINVALIDHOSTNAMES);
    return o;
}

mongoc_stream_t *
lev_mongo_tls(mongoc_stream_t *stream, const mongoc_uri_t *uri,
              const mongoc_host_list_t *host, int32_t ms, bson_error_t *error)
{
    mongoc_ssl_opt_t o = options(uri);
    mongoc_stream_t *tls =
        mongoc_stream_tls_new_with_hostname(stream, host->host, &o, 1);

    if (tls == NULL) {
        mongoc_stream_destroy(stream);
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                       "%s: TLS cannot be set up: is tlsCAFile or "
                       "tlsCertificateKeyFile right?",
                       host->host_and_port);
        return NULL;
    }
    if (!mongoc_stream_tls_handshake_block(tls, host->host, ms, error)) {
        mongoc_stream_destroy(tls);
        return NULL;
    }
    return tls;
}
