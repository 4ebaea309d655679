/* HTTP and its streams through TLS: certificates of both sides, bytes that the
 * TLS library holds back, handshakes that do not end. A thread takes the TLS
 * off in front of the plain server. */

#include "http_test.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

static char root[] = "/tmp/lev-tls-XXXXXX";
static char cert_file[64], key_file[64];

static void
add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

/* One certificate is the authority, the server's and the client's. */
static void
make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    FILE *f;

    assert(key != NULL && cert != NULL && mkdtemp(root) != NULL);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)"levrt test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(cert, NID_subject_alt_name, "IP:127.0.0.1");
    assert(X509_sign(cert, key, EVP_sha256()) > 0);
    snprintf(cert_file, sizeof(cert_file), "%s/cert.pem", root);
    snprintf(key_file, sizeof(key_file), "%s/key.pem", root);
    f = fopen(cert_file, "we");
    assert(f != NULL && PEM_write_X509(f, cert) == 1);
    fclose(f);
    f = fopen(key_file, "we");
    assert(f != NULL);
    assert(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
remove_certificate(void)
{
    unlink(cert_file);
    unlink(key_file);
    rmdir(root);
}

struct tls {
    struct server listener; /* its thread is not started */
    struct server *plain;
    SSL_CTX *ctx;
    pthread_t thread;
    pthread_t peers[64];
    unsigned n;
};

struct tls_peer {
    struct tls *tls;
    int fd;
};

static bool
send_all(int fd, const char *data, ssize_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, (size_t)len, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        data += n;
        len -= n;
    }
    return true;
}

/* Both ways until one side has enough; the plain end tells the other by
 * leaving, as a server that crashes does: without a TLS goodbye. */
static void
pump(SSL *ssl, int fd, int plain)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                            {.fd = plain, .events = POLLIN}};
    char buf[16384];

    for (;;) {
        int n;

        if (SSL_pending(ssl) == 0 && poll(fds, 2, -1) < 0) {
            continue;
        }
        if (SSL_pending(ssl) > 0 || fds[0].revents != 0) {
            n = SSL_read(ssl, buf, sizeof(buf));
            if (n <= 0 || !send_all(plain, buf, n)) {
                return;
            }
        }
        if (fds[1].revents != 0) {
            n = (int)recv(plain, buf, sizeof(buf), 0);
            if (n <= 0 || SSL_write(ssl, buf, n) <= 0) {
                return;
            }
        }
        fds[0].revents = fds[1].revents = 0;
    }
}

static int
connect_plain(const struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_port = htons((uint16_t)strtoul(strrchr(s->url, ':') + 1, NULL, 10));
    assert(fd >= 0);
    assert(connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    return fd;
}

static void *
tls_peer_main(void *arg)
{
    struct tls_peer *p = arg;
    SSL *ssl = SSL_new(p->tls->ctx);

    assert(ssl != NULL && SSL_set_fd(ssl, p->fd) == 1);
    if (SSL_accept(ssl) == 1) {
        int plain = connect_plain(p->tls->plain);

        pump(ssl, p->fd, plain);
        close(plain);
    }
    SSL_free(ssl);
    ERR_clear_error();
    close(p->fd);
    free(p);
    return NULL;
}

static void *
tls_main(void *arg)
{
    struct tls *t = arg;
    int fd;

    while ((fd = accept4(t->listener.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct tls_peer *p = calloc(1, sizeof(*p));

        assert(p != NULL && t->n < LEV_ARRAY_LEN(t->peers));
        *p = (struct tls_peer){.tls = t, .fd = fd};
        assert(pthread_create(&t->peers[t->n++], NULL, tls_peer_main, p) == 0);
    }
    return NULL;
}

static void
tls_start(struct tls *t, struct server *plain, bool verify_client)
{
    memset(t, 0, sizeof(*t));
    server_start(plain, true);
    server_listen(&t->listener, true, 64);
    t->plain = plain;
    t->ctx = SSL_CTX_new(TLS_server_method());
    assert(t->ctx != NULL);
    assert(SSL_CTX_use_certificate_file(t->ctx, cert_file, SSL_FILETYPE_PEM));
    assert(SSL_CTX_use_PrivateKey_file(t->ctx, key_file, SSL_FILETYPE_PEM));
    if (verify_client) {
        assert(SSL_CTX_load_verify_locations(t->ctx, cert_file, NULL));
        SSL_CTX_set_verify(
            t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    assert(pthread_create(&t->thread, NULL, tls_main, t) == 0);
}

static void
tls_stop(struct tls *t)
{
    shutdown(t->listener.fd, SHUT_RDWR);
    pthread_join(t->thread, NULL);
    for (unsigned i = 0; i < t->n; i++) {
        pthread_join(t->peers[i], NULL);
    }
    close(t->listener.fd);
    SSL_CTX_free(t->ctx);
    server_stop(t->plain);
}

static struct lev_http *
tls_client(const struct server *listener, struct lev_http_config config)
{
    struct lev_error err;
    struct lev_http *http;
    char url[80];

    snprintf(url, sizeof(url), "https%s", listener->url + strlen("http"));
    config.base_url = url;
    http = lev_http_create(&config, &err);
    must(http == NULL ? -1 : 0, &err);
    return http;
}

static void
test_requests(struct lev_http_config config)
{
    static char body[100000];
    struct lev_http_request post = {.method = "POST",
                                    .path = "/ok",
                                    .body = body,
                                    .body_len = sizeof(body)};
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server plain;
    struct tls t;
    struct lev_http *http;
    struct lev_error err = {0};

    tls_start(&t, &plain, config.key_file != NULL);
    http = tls_client(&t.listener, config);
    for (int i = 0; i < 3; i++) {
        must(get(http, "/ok", &resp, &err), &err);
        expect(&resp, 200, "hello\n");
        must(lev_http_request(http, &forever, &post, &resp, &err), &err);
        must(get(http, "/chunked", &resp, &err), &err);
        expect(&resp, 200, "abcdefg");
    }
    assert(atomic_load(&plain.connections) == 1);
    assert(get(http, "/drop", &resp, &err) == -1);
    assert(err.code == LEV_E_ENGINE);
    lev_http_destroy(http);
    tls_stop(&t);
}

static void
test_refused(struct lev_http_config config, bool verify_client,
             enum lev_errcode code, const char *text)
{
    _cleanup_response_ struct lev_http_response resp = {0};
    struct server plain;
    struct tls t;
    struct lev_http *http;
    struct lev_error err = {0};

    tls_start(&t, &plain, verify_client);
    http = tls_client(&t.listener, config);
    assert(get(http, "/ok", &resp, &err) == -1);
    fails(&err, code, text);
    assert(atomic_load(&plain.requests) == 0);
    lev_http_destroy(http);
    tls_stop(&t);
}

/* Records hold up to 16 KiB: what is read byte by byte must not be waited for
 * at the socket, which is empty already. */
static void
test_stream(struct lev_http_config config)
{
    static char out[60000];
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.method = "POST", .path = "/upgrade"};
    struct server plain;
    struct tls t;
    struct lev_http *http;
    struct lev_http_stream *st;
    struct lev_error err;
    size_t got = 0;

    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] = (char)(i * 7);
    }
    tls_start(&t, &plain, false);
    http = tls_client(&t.listener, config);
    st = lev_http_stream_open(http, &forever, &req, &resp, &err);
    must(st == NULL ? -1 : 0, &err);
    must(lev_http_stream_send(st, &forever, out, sizeof(out), &err), &err);
    while (got < strlen("first ") + sizeof(out)) {
        struct pollfd fd = {.fd = lev_http_stream_fd(st), .events = POLLIN};
        ssize_t n;
        char c;

        while ((n = lev_http_stream_recv(st, &c, 1, &err)) == 1) {
            assert(c == (got < 6 ? "first "[got] : out[got - 6]));
            got++;
        }
        assert(n == -2);
        if (got < strlen("first ") + sizeof(out)) {
            must(lev_scope_poll(&forever, &fd, 1, &err), &err);
        }
    }
    lev_http_stream_close(st);
    req.path = "/refuse";
    assert(lev_http_stream_open(http, &forever, &req, &resp, &err) == NULL);
    assert(err.code == LEV_E_ENGINE && err.detail == 409);
    expect(&resp, 409, "busy");
    lev_http_destroy(http);
    tls_stop(&t);
}

/* A listener that never says a word of TLS. */
static void
test_mute_handshake(void)
{
    struct lev_http_config config = {.connect_timeout = 50 * LEV_MS};
    struct lev_scope brief = lev_scope_within(&forever, 30 * LEV_MS);
    _cleanup_response_ struct lev_http_response resp = {0};
    struct lev_http_request req = {.path = "/ok"};
    struct server mute;
    struct lev_http *http;
    struct lev_error err = {0};

    server_listen(&mute, true, 8);
    http = tls_client(&mute, config);
    assert(lev_http_request(http, &brief, &req, &resp, &err) == -1);
    fails(&err, LEV_E_TIMEOUT, "timed out");
    assert(lev_http_request(http, &forever, &req, &resp, &err) == -1);
    fails(&err, LEV_E_ENGINE_UNAVAILABLE, "no connection within");
    lev_http_destroy(http);
    close(mute.fd);
}

int
main(void)
{
    struct lev_http_config none = {0}, trusting = {.insecure = true};
    struct lev_http_config both = {
        .ca_file = cert_file, .cert_file = cert_file, .key_file = key_file};
    struct lev_http_config ca = {.ca_file = cert_file};
    struct lev_http_config missing = {.ca_file = "/nonexistent/ca.pem"};

    signal(SIGPIPE, SIG_IGN); /* as Python does, and OpenSSL needs */
    make_certificate();
    test_requests(ca);
    test_requests(both);
    test_requests(trusting);
    test_refused(none, false, LEV_E_ENGINE_UNAVAILABLE, "certificate");
    test_refused(missing, false, LEV_E_ENGINE_UNAVAILABLE,
                 "/nonexistent/ca.pem");
    /* TLS 1.3 tells that after the handshake, in the place of an answer. */
    test_refused(ca, true, LEV_E_ENGINE, "certificate");
    test_stream(ca);
    test_mute_handshake();
    remove_certificate();
    return 0;
}
