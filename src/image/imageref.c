#include "imageref.h"

#include <ctype.h>
#include <string.h>

#include "buf.h"

/* The distribution project's limit for registry and repository together. */
#define NAME_MAX_LEN 255
#define TAG_MAX_LEN 128
#define DEFAULT_TOOL_REGISTRY "talentsec"

/* A part of the text that is being parsed; it is not NUL-terminated. */
struct span {
    const char *at;
    size_t len;
};

static bool
is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool
is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool
is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (strchr("0123456789abcdef", text[i]) == NULL || text[i] == '\0') {
            return false;
        }
    }
    return len > 0;
}

/* One component of a repository's path: runs of lower case letters and digits,
 * separated by one '.', one or two '_', or any number of '-'. */
static bool
path_component_ok(struct span s)
{
    size_t i = 0;

    while (i < s.len) {
        size_t from = i, run;

        while (i < s.len && is_lower_alnum(s.at[i])) {
            i++;
        }
        if (i == from) {
            return false; /* begins with a separator, or two kinds in a row */
        }
        if (i == s.len) {
            return true;
        }
        for (run = 1; i + run < s.len && s.at[i + run] == s.at[i]; run++) {
        }
        if (!(s.at[i] == '-' || (s.at[i] == '.' && run == 1) ||
              (s.at[i] == '_' && run <= 2)))
        {
            return false;
        }
        i += run;
    }
    return false; /* empty, or it ends with a separator */
}

static bool
path_ok(struct span s)
{
    size_t from = 0;

    for (size_t i = 0; i <= s.len; i++) {
        if (i == s.len || s.at[i] == '/') {
            if (!path_component_ok((struct span){s.at + from, i - from})) {
                return false;
            }
            from = i + 1;
        }
    }
    return true;
}

static bool
label_ok(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(at[i]) && at[i] != '-') {
            return false;
        }
    }
    return len > 0 && at[0] != '-' && at[len - 1] != '-';
}

static bool
port_ok(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)at[i])) {
            return false;
        }
    }
    return len > 0;
}

/* Where "[IPv6]" ends, one behind the bracket; 0 when there is none. */
static size_t
ipv6_end(struct span s)
{
    size_t i = 1;

    while (i < s.len && (isxdigit((unsigned char)s.at[i]) || s.at[i] == ':')) {
        i++;
    }
    return i > 1 && i < s.len && s.at[i] == ']' ? i + 1 : 0;
}

/* host[:port]: dotted labels or an IPv6 address in brackets. */
static bool
registry_ok(struct span s)
{
    size_t from = 0, i = 0;

    if (s.len > 0 && s.at[0] == '[') {
        i = ipv6_end(s);
        if (i == 0) {
            return false;
        }
    }
    else {
        for (; i <= s.len; i++) {
            if (i == s.len || s.at[i] == '.' || s.at[i] == ':') {
                if (!label_ok(s.at + from, i - from)) {
                    return false;
                }
                from = i + 1;
            }
            if (i == s.len || s.at[i] == ':') {
                break;
            }
        }
    }
    if (i == s.len) {
        return true;
    }
    return s.at[i] == ':' && port_ok(s.at + i + 1, s.len - i - 1);
}

static bool
tag_ok(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        bool first = is_alnum(s.at[i]) || s.at[i] == '_';

        if (!first && (i == 0 || (s.at[i] != '.' && s.at[i] != '-'))) {
            return false;
        }
    }
    return s.len > 0 && s.len <= TAG_MAX_LEN;
}

/* algorithm:hex, where the algorithm is words joined by one of "-_+." and the
 * known algorithms have their own lengths. */
static bool
digest_ok(struct span s)
{
    const char *colon = memchr(s.at, ':', s.len);
    size_t algo = colon == NULL ? 0 : (size_t)(colon - s.at), hex;
    bool word = false;

    for (size_t i = 0; i < algo; i++) {
        bool sep = memchr("-_+.", s.at[i], 4) != NULL;

        if (!sep &&
            !(word ? is_alnum(s.at[i]) : isalpha((unsigned char)s.at[i]) != 0))
        {
            return false;
        }
        if (sep && !word) {
            return false;
        }
        word = !sep;
    }
    if (!word) {
        return false;
    }
    hex = s.len - algo - 1;
    if (algo == 6 && memcmp(s.at, "sha256", 6) == 0 && hex != 64) {
        return false;
    }
    if (algo == 6 && memcmp(s.at, "sha512", 6) == 0 && hex != 128) {
        return false;
    }
    return hex >= 32 && is_hex(colon + 1, hex);
}

static int
bad(struct lev_error *err, const char *text, const char *why)
{
    return lev_error_set(err, LEV_E_INVALID, 0, "image %s%.200s%s: %s",
                         *text == '\0' ? "''" : "'", text,
                         *text == '\0' ? "" : "'", why);
}

/* Cuts "@digest" and ":tag" off `name`; absent parts have `at` NULL. */
static void
split(const char *text, struct span *name, struct span *tag,
      struct span *digest)
{
    const char *at = strchr(text, '@'), *slash, *colon;

    *tag = *digest = (struct span){NULL, 0};
    *name = (struct span){text, strlen(text)};
    if (at != NULL) {
        *digest = (struct span){at + 1, strlen(at + 1)};
        name->len = (size_t)(at - text);
    }
    slash = memrchr(name->at, '/', name->len);
    colon = memrchr(name->at, ':', name->len);
    /* A colon before the last slash is a port's. */
    if (colon != NULL && (slash == NULL || colon > slash)) {
        *tag = (struct span){colon + 1,
                             name->len - (size_t)(colon + 1 - name->at)};
        name->len = (size_t)(colon - name->at);
    }
}

/* Docker's rule: the first component is a registry when it has a dot, a colon
 * or an upper case letter, or is "localhost". */
static bool
names_registry(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '.' || s.at[i] == ':' ||
            isupper((unsigned char)s.at[i])) {
            return true;
        }
    }
    return s.len == 9 && memcmp(s.at, "localhost", 9) == 0;
}

static void
split_registry(struct span name, struct span *registry, struct span *path)
{
    const char *slash = memchr(name.at, '/', name.len);
    size_t n = slash == NULL ? 0 : (size_t)(slash - name.at);

    *registry = (struct span){"docker.io", 9};
    *path = name;
    if (slash == NULL || !names_registry((struct span){name.at, n})) {
        return;
    }
    *path = (struct span){slash + 1, name.len - n - 1};
    if (n != 15 || memcmp(name.at, "index.docker.io", 15) != 0) {
        *registry = (struct span){name.at, n};
    }
}

static const char *
path_problem(struct span path)
{
    if (path.len == 0) {
        return "it has no name; expected name[:tag][@digest]";
    }
    for (size_t i = 0; i < path.len; i++) {
        if (isupper((unsigned char)path.at[i])) {
            return "the repository's name must be lower case";
        }
    }
    if (!path_ok(path)) {
        return "the repository's name may hold lower case letters, digits, "
               "and '.', '_', '__' or '-' between them, in parts separated "
               "by '/'";
    }
    return NULL;
}

static const char *
part_problem(struct span registry, struct span path, struct span tag,
             struct span digest)
{
    const char *problem;

    if (!registry_ok(registry)) {
        return "the registry before the first '/' must be host[:port]";
    }
    problem = path_problem(path);
    if (problem != NULL) {
        return problem;
    }
    if (registry.len + 1 + path.len > NAME_MAX_LEN) {
        return "the name is longer than 255 bytes";
    }
    if (tag.at != NULL && !tag_ok(tag)) {
        return "a tag is 1 to 128 letters, digits, '_', '.' and '-', and does "
               "not begin with '.' or '-'";
    }
    if (digest.at != NULL && !digest_ok(digest)) {
        return "a digest is algorithm:hex, for sha256 with 64 digits of "
               "0-9a-f";
    }
    return NULL;
}

static char *
span_copy(struct span s)
{
    return strndup(s.at, s.len);
}

/* The shortest form an engine understands, with a tag unless a digest says
 * which. */
static char *
familiar(const struct lev_imageref *ref)
{
    _cleanup_buf_ struct lev_buf b = {0};
    const char *path = ref->repository;

    if (strcmp(ref->registry, "docker.io") != 0) {
        lev_buf_printf(&b, "%s/", ref->registry);
    }
    else if (strncmp(path, "library/", 8) == 0 &&
             strchr(path + 8, '/') == NULL) {
        path += 8;
    }
    lev_buf_puts(&b, path);
    if (ref->tag != NULL) {
        lev_buf_printf(&b, ":%s", ref->tag);
    }
    else if (ref->digest == NULL) {
        lev_buf_puts(&b, ":latest");
    }
    if (ref->digest != NULL) {
        lev_buf_printf(&b, "@%s", ref->digest);
    }
    return lev_buf_take(&b);
}

static char *
repository(struct span registry, struct span path)
{
    _cleanup_buf_ struct lev_buf b = {0};

    if (registry.len == 9 && memcmp(registry.at, "docker.io", 9) == 0 &&
        memchr(path.at, '/', path.len) == NULL)
    {
        lev_buf_puts(&b, "library/");
    }
    lev_buf_append(&b, path.at, path.len);
    return lev_buf_take(&b);
}

/* A whole id: 64 hex digits, or "sha256:" and a prefix of them. It cannot be
 * a name: Docker forbids such names. */
static bool
is_whole_id(const char *text)
{
    size_t len = strlen(text);

    if (strncmp(text, "sha256:", 7) == 0) {
        return len > 7 && len <= 7 + 64 && is_hex(text + 7, len - 7);
    }
    return len == 64 && is_hex(text, len);
}

static int
parse_name(const char *text, struct lev_imageref *ref, struct lev_error *err)
{
    struct span name, tag, digest, registry, path;
    const char *problem;

    split(text, &name, &tag, &digest);
    split_registry(name, &registry, &path);
    problem = part_problem(registry, path, tag, digest);
    if (problem != NULL) {
        return bad(err, text, problem);
    }
    ref->registry = span_copy(registry);
    ref->repository = repository(registry, path);
    ref->tag = tag.at == NULL ? NULL : span_copy(tag);
    ref->digest = digest.at == NULL ? NULL : span_copy(digest);
    if (ref->registry == NULL || ref->repository == NULL ||
        (tag.at != NULL && ref->tag == NULL) ||
        (digest.at != NULL && ref->digest == NULL))
    {
        return lev_error_nomem(err, "image reference");
    }
    /* "cafe" may be both: the engine looks for the name first, then for an
     * id, but only while no tag is given. */
    ref->is_id = tag.at == NULL && digest.at == NULL &&
                 is_hex(text, strlen(text)) && strlen(text) <= 64;
    ref->familiar = ref->is_id ? strdup(text) : familiar(ref);
    return ref->familiar == NULL ? lev_error_nomem(err, "image reference") : 0;
}

/* ".user.tool[:version]" to "<registry>/lev.user.tool:version". */
static int
expand_tool(const char *text, const char *registry, struct lev_buf *out,
            struct lev_error *err)
{
    struct span name, tag, digest, user, tool;
    const char *dot;

    split(text, &name, &tag, &digest);
    dot = memchr(name.at + 1, '.', name.len - 1);
    if (dot == NULL) {
        return bad(err, text, "a tool image is .user.tool:version");
    }
    user = (struct span){name.at + 1, (size_t)(dot - name.at) - 1};
    tool = (struct span){dot + 1, name.len - user.len - 2};
    if (!path_component_ok(user) || !path_component_ok(tool)) {
        return bad(err, text,
                   "a tool image is .user.tool:version; user and tool may "
                   "hold lower case letters, digits, '_' and '-'");
    }
    if (tag.at == NULL && digest.at == NULL) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "image '%.200s': a tool image needs its version; "
                             "write '%.200s:VERSION'",
                             text, text);
    }
    lev_buf_printf(out, "%s/lev%s",
                   registry == NULL ? DEFAULT_TOOL_REGISTRY : registry, text);
    return lev_buf_check(out, "image reference", err);
}

static int
parse(const char *text, const char *tool_registry, struct lev_imageref *ref,
      struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf tool = {0};

    if (*text == '\0') {
        return bad(err, text, "it is empty; expected name[:tag][@digest]");
    }
    if (is_whole_id(text)) {
        ref->is_id = true;
        ref->familiar = strdup(text);
        return ref->familiar == NULL ? lev_error_nomem(err, "image id") : 0;
    }
    if (*text != '.') {
        return parse_name(text, ref, err);
    }
    if (expand_tool(text, tool_registry, &tool, err) < 0) {
        return -1;
    }
    return parse_name(tool.data, ref, err);
}

const char *
lev_imageref_plain(const char *text)
{
    size_t len = strlen(LEV_OF_DAEMON);

    return strncmp(text, LEV_OF_DAEMON, len) == 0 ? text + len : text;
}

/* A name of this kind is never a short form: what stands for it is asked of
 * the daemon, by an engine that has images of its own. */
static int
parse_of_daemon(const char *text, struct lev_imageref *ref,
                struct lev_error *err)
{
    const char *plain = lev_imageref_plain(text);
    _cleanup_free_ char *name = NULL;

    if (*plain == '.') {
        return bad(err, text, "a tool image comes from its registry");
    }
    if (parse(plain, NULL, ref, err) < 0) {
        return -1;
    }
    if (ref->repository == NULL || ref->digest != NULL) {
        return bad(err, text,
                   "of a daemon, an image is named by name[:tag] alone");
    }
    name = lev_steal(ref->familiar);
    ref->of_daemon = true;
    if (asprintf(&ref->familiar, LEV_OF_DAEMON "%s", name) < 0) {
        ref->familiar = NULL;
        return lev_error_nomem(err, "image reference");
    }
    return 0;
}

int
lev_imageref_parse(const char *text, const char *tool_registry,
                   struct lev_imageref *ref, struct lev_error *err)
{
    bool of_daemon = lev_imageref_plain(text) != text;

    *ref = (struct lev_imageref){0};
    if ((of_daemon ? parse_of_daemon(text, ref, err)
                   : parse(text, tool_registry, ref, err)) < 0)
    {
        lev_imageref_deinit(ref);
        return -1;
    }
    return 0;
}

void
lev_imageref_deinit(struct lev_imageref *ref)
{
    free(ref->registry);
    free(ref->repository);
    free(ref->tag);
    free(ref->digest);
    free(ref->familiar);
    *ref = (struct lev_imageref){0};
}
