#include "oci.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* What a resolver is told where this machine's own ones cannot be reached from
 * a container; Docker's choice. */
#define FALLBACK_SERVERS "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
#define FILE_MAX (1024 * 1024)

int
lev_oci_write_file(int dir, const char *path, const char *text, size_t len,
                   struct lev_error *err)
{
    _cleanup_close_ int fd =
        openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || fchmod(fd, 0644) < 0 || write(fd, text, len) != (ssize_t)len)
    {
        return lev_error_errno(err, "write %s", path);
    }
    return 0;
}

int
lev_oci_write_bundle(struct lev_oci *o, const struct lev_oci_container *c,
                     const char *name, const struct lev_buf *text,
                     struct lev_error *err)
{
    char path[LEV_OCI_PATH_MAX];

    if (lev_buf_check(text, name, err) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/%s", c->name, name);
    return lev_oci_write_file(lev_helper_bundles(o->helper), path,
                              lev_buf_text(text), text->len, err);
}

static void
append_hosts(struct lev_oci *o, const struct lev_oci_container *c,
             const char *line)
{
    _cleanup_close_ int fd = -1;
    char path[LEV_OCI_PATH_MAX];

    snprintf(path, sizeof(path), "%s/hosts", c->name);
    fd = openat(lev_helper_bundles(o->helper), path,
                O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || write(fd, line, strlen(line)) < 0) {
        return; /* it is being removed */
    }
}

/* ---- names ---- */

static void
address_text(uint32_t address, char text[INET_ADDRSTRLEN])
{
    const struct in_addr in = {htonl(address)};

    inet_ntop(AF_INET, &in, text, INET_ADDRSTRLEN);
}

/* "name:address", the address may have colons itself. */
static void
put_extra(struct lev_buf *hosts, const char *entry, const char *gateway)
{
    const char *colon = strchr(entry, ':');

    if (colon != NULL) {
        const char *to =
            strcmp(colon + 1, "host-gateway") == 0 ? gateway : colon + 1;

        lev_buf_printf(hosts, "%s\t%.*s\n", to, (int)(colon - entry), entry);
    }
}

static int
read_host_file(const char *path, struct lev_buf *text)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char chunk[4096];
    size_t n;

    while (f != NULL && text->len < FILE_MAX &&
           (n = fread(chunk, 1, sizeof(chunk), f)) > 0)
    {
        lev_buf_append(text, chunk, n);
    }
    return f == NULL ? -1 : 0;
}

static int
write_hosts(struct lev_oci *o, const struct lev_oci_container *c,
            const struct lev_container_spec *spec, const json_t *config,
            const json_t *host, struct lev_error *err)
{
    const char *domain = lev_json_str(config, "Domainname");
    _cleanup_buf_ struct lev_buf text = {0};
    char address[INET_ADDRSTRLEN];
    json_t *item;
    size_t i;

    if (c->net != LEV_OCI_NET_HOST || read_host_file("/etc/hosts", &text) < 0)
    {
        lev_buf_puts(&text, "127.0.0.1\tlocalhost\n"
                            "::1\tlocalhost ip6-localhost ip6-loopback\n"
                            "fe00::0\tip6-localnet\n"
                            "ff00::0\tip6-mcastprefix\n"
                            "ff02::1\tip6-allnodes\n"
                            "ff02::2\tip6-allrouters\n");
    }
    json_array_foreach(lev_json_get(host, "ExtraHosts"), i, item)
    {
        put_extra(&text, json_string_value(item), o->host_address);
    }
    for (const char *const *e = spec->extra_hosts; e != NULL && *e != NULL;
         e++) {
        put_extra(&text, *e, o->host_address);
    }
    for (i = 0; i < c->ends_n; i++) {
        address_text(c->ends[i].address, address);
        lev_buf_printf(&text, "%s\t", address);
        if (domain != NULL) {
            lev_buf_printf(&text, "%s.%s ", c->hostname, domain);
        }
        lev_buf_printf(&text, "%s\n", c->hostname);
    }
    return lev_oci_write_bundle(o, c, "hosts", &text, err);
}

/* One line for each of `from`'s endpoints on a network that `to` is on, too.
 */
static void
tell_names(struct lev_oci *o, const struct lev_oci_container *from,
           const struct lev_oci_container *to)
{
    for (size_t i = 0; i < from->ends_n; i++) {
        const struct lev_oci_endpoint *end = &from->ends[i];
        _cleanup_buf_ struct lev_buf line = {0};
        char address[INET_ADDRSTRLEN];
        bool shared = false;

        for (size_t k = 0; k < to->ends_n; k++) {
            shared |= to->ends[k].network == end->network;
        }
        if (!shared) {
            continue;
        }
        address_text(end->address, address);
        lev_buf_printf(&line, "%s\t%s", address, from->name);
        for (char **a = end->aliases; a != NULL && *a != NULL; a++) {
            lev_buf_printf(&line, " %s", *a);
        }
        lev_buf_puts(&line, "\n");
        append_hosts(o, to, lev_buf_text(&line));
    }
}

/* Containers that no alias names find each other by address alone, so that a
 * session of a thousand does not write a million lines. */
static bool
has_aliases(const struct lev_oci_container *c)
{
    for (size_t i = 0; i < c->ends_n; i++) {
        if (c->ends[i].aliases != NULL) {
            return true;
        }
    }
    return false;
}

void
lev_oci_share_names(struct lev_oci *o, struct lev_oci_container *c)
{
    bool named = has_aliases(c);

    for (struct lev_oci_container *i = o->containers; i != NULL; i = i->next) {
        if (i == c) {
            continue;
        }
        if (named) {
            tell_names(o, c, i);
        }
        if (has_aliases(i)) {
            tell_names(o, i, c);
        }
    }
    if (named) {
        tell_names(o, c, c);
    }
}

/* ---- the resolver ---- */

static bool
is_loopback(const char *server)
{
    return strncmp(server, "127.", 4) == 0 || strcmp(server, "::1") == 0;
}

/* One line of search domains or options; "." alone is none. */
static void
put_words(const char *keyword, const json_t *words, struct lev_buf *out)
{
    const char *first = json_string_value(json_array_get(words, 0));
    json_t *word;
    size_t i;

    if (first == NULL || strcmp(first, ".") == 0) {
        return;
    }
    lev_buf_puts(out, keyword);
    json_array_foreach((json_t *)words, i, word)
    {
        lev_buf_printf(out, " %s", json_string_value(word));
    }
    lev_buf_puts(out, "\n");
}

/* What the options take the place of. */
static bool
is_replaced(const char *line, const json_t *host)
{
    return (json_array_size(lev_json_get(host, "DnsSearch")) > 0 &&
            (strncmp(line, "search", 6) == 0 ||
             strncmp(line, "domain", 6) == 0)) ||
           (json_array_size(lev_json_get(host, "DnsOptions")) > 0 &&
            strncmp(line, "options", 7) == 0);
}

/* Copies lines; of name servers those only that a container can reach. Their
 * number. */
static int
filter_servers(char *text, const json_t *host, bool keep_loopback,
               struct lev_buf *out)
{
    bool keep_servers = json_array_size(lev_json_get(host, "Dns")) == 0;
    char *save = NULL;
    int kept = 0;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
    {
        char server[128];

        if (sscanf(line, " nameserver %127s", server) != 1) {
            if (!is_replaced(line, host)) {
                lev_buf_printf(out, "%s\n", line);
            }
        }
        else if (keep_servers && (keep_loopback || !is_loopback(server))) {
            lev_buf_printf(out, "%s\n", line);
            kept++;
        }
    }
    return kept;
}

static int
write_resolv(struct lev_oci *o, const struct lev_oci_container *c,
             const json_t *host, struct lev_error *err)
{
    static const char *const sources[] = {
        "/etc/resolv.conf",
        /* The servers behind systemd's resolver on 127.0.0.53. */
        "/run/systemd/resolve/resolv.conf"};
    const json_t *dns = lev_json_get(host, "Dns");
    bool on_host = c->net == LEV_OCI_NET_HOST;
    _cleanup_buf_ struct lev_buf out = {0};
    json_t *item;
    int servers = 0;
    size_t i;

    for (i = 0; i < LEV_ARRAY_LEN(sources) && servers == 0; i++) {
        _cleanup_buf_ struct lev_buf text = {0};

        if (read_host_file(sources[i], &text) == 0 && text.data != NULL) {
            lev_buf_clear(&out);
            servers = filter_servers(text.data, host, on_host, &out);
        }
        servers += (int)json_array_size(dns);
    }
    json_array_foreach(dns, i, item)
    {
        lev_buf_printf(&out, "nameserver %s\n", json_string_value(item));
    }
    if (servers == 0 && !on_host) {
        lev_buf_puts(&out, FALLBACK_SERVERS);
    }
    put_words("search", lev_json_get(host, "DnsSearch"), &out);
    put_words("options", lev_json_get(host, "DnsOptions"), &out);
    return lev_oci_write_bundle(o, c, "resolv.conf", &out, err);
}

int
lev_oci_write_files(struct lev_oci *o, struct lev_oci_container *c,
                    const struct lev_container_spec *spec,
                    const json_t *config, const json_t *host,
                    struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf name = {0};

    lev_buf_printf(&name, "%s\n", c->hostname);
    return lev_oci_write_bundle(o, c, "hostname", &name, err) < 0 ||
                   write_hosts(o, c, spec, config, host, err) < 0 ||
                   write_resolv(o, c, host, err) < 0
               ? -1
               : 0;
}

/* ---- what is copied ---- */

int
lev_oci_put(struct lev_engine *e, const struct lev_scope *scope,
            const char *id, int fd, uint64_t size, struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);

    if (c == NULL || lseek(fd, 0, SEEK_SET) < 0 ||
        lev_root_unpack(c->root, scope, fd, err) < 0)
    {
        return c == NULL
                   ? -1
                   : lev_error_wrap(err, "put files into container %s", id);
    }
    return 0;
}

int
lev_oci_exists(struct lev_engine *e, const struct lev_scope *scope,
               const char *id, const char *path, struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);
    _cleanup_close_ int fd = -1;

    if (c == NULL) {
        return -1;
    }
    fd = lev_root_open(c->root, path, O_PATH);
    if (fd >= 0) {
        return 1;
    }
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) {
        return 0;
    }
    return lev_error_errno(err, "look for %s in container %s", path, id);
}

int
lev_oci_get(struct lev_engine *e, const struct lev_scope *scope,
            const char *id, const char *path, size_t max, struct lev_buf *out,
            struct lev_error *err)
{
    _cleanup_oci_container_ struct lev_oci_container *c =
        lev_oci_find(lev_oci_of(e), id, err);

    if (c == NULL) {
        return -1;
    }
    return lev_root_read(c->root, path, max, out, err) < 0
               ? lev_error_wrap(err, "container %s", id)
               : 0;
}
