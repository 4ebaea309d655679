/* Credentials of registries: docker's config.json, and helpers, which are
 * shell scripts in a directory that PATH begins with. */

#include "credentials.h"
#include "json.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

static char dir[] = "/tmp/test_credentials.XXXXXX";
static const struct lev_scope forever = {LEV_NEVER, NULL};

static void
write_file(const char *name, const char *text, mode_t mode)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "w");
    assert(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    assert(chmod(path, mode) == 0);
}

static int
find(const char *config, const char *registry, struct lev_credentials *c,
     struct lev_error *err)
{
    write_file("config.json", config, 0600);
    return lev_credentials_find(dir, registry, &forever, c, err);
}

static bool
same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void
expect(const char *config, const char *registry, const char *user,
       const char *password, const char *token, const char *server)
{
    struct lev_credentials c;
    struct lev_error err = {.msg = ""};
    int rc = find(config, registry, &c, &err);

    if (rc < 0 || !same(c.username, user) || !same(c.password, password) ||
        !same(c.identity_token, token) || !same(c.server, server))
    {
        fprintf(stderr, "%s in %s: rc %d %s\n", registry, config, rc, err.msg);
        abort();
    }
    lev_credentials_deinit(&c);
    assert(c.username == NULL && c.server == NULL);
}

static void
expect_error(const char *config, const char *registry, const char *says)
{
    struct lev_credentials c;
    struct lev_error err = {.msg = ""};

    assert(find(config, registry, &c, &err) == -1);
    assert(c.username == NULL && c.password == NULL && c.server == NULL);
    if (err.code != LEV_E_IMAGE || strstr(err.msg, says) == NULL) {
        fprintf(stderr, "%d %s\n", err.code, err.msg);
        abort();
    }
    assert(strstr(err.msg, "c2VjcmV0") == NULL); /* never the secret */
}

/* "dTpw" is "u:p". */
static void
test_auths(void)
{
    const char *hub = "https://index.docker.io/v1/";

    expect("{}", "docker.io", NULL, NULL, NULL, NULL);
    expect("{\"auths\": {}}", "r:5000", NULL, NULL, NULL, NULL);
    expect("{\"auths\": {\"r:5000\": {\"auth\": \"dTpw\"}}}", "r:5000", "u",
           "p", NULL, "r:5000");
    expect("{\"auths\": {\"r:5000\": {\"auth\": \"dTpw\"}}}", "r:5001", NULL,
           NULL, NULL, NULL);
    expect("{\"auths\": {\"https://r/v2/\": {\"auth\": \"dTpw\"}}}", "r", "u",
           "p", NULL, "https://r/v2/");
    expect("{\"auths\": {\"https://index.docker.io/v1/\": "
           "{\"auth\": \"dTpw\"}}}",
           "docker.io", "u", "p", NULL, hub);
    expect("{\"auths\": {\"docker.io\": {\"auth\": \"dTpw\"}}}", "docker.io",
           "u", "p", NULL, "docker.io");
    expect("{\"auths\": {\"docker.io.evil.org\": {\"auth\": \"dTpw\"}}}",
           "docker.io", NULL, NULL, NULL, NULL);
    expect(
        "{\"auths\": {\"r\": {\"username\": \"a\", \"password\": \"b:c\"}}}",
        "r", "a", "b:c", NULL, "r");
    expect("{\"auths\": {\"r\": {\"auth\": \"dTpwOng=\"}}}", "r", "u", "p:x",
           NULL, "r");
    expect("{\"auths\": {\"r\": {\"auth\": \"dTo=\", "
           "\"identitytoken\": \"tok\"}}}",
           "r", "u", "", "tok", "r");
    expect("{\"auths\": {\"r\": {}}}", "r", NULL, NULL, NULL, "r");
}

static void
test_broken(void)
{
    struct lev_credentials c;
    struct lev_error err;

    expect_error("{\"auths\": \n {\"r\": c2VjcmV0 }}", "r",
                 "no JSON at line 2");
    expect_error("", "r", "config.json: no JSON");
    expect_error("{\"auths\": {\"r\": {\"auth\": \"c2VjcmV0\"}}}", "r",
                 "docker login r");
    expect_error("{\"auths\": {\"r\": {\"auth\": \"*\"}}}", "r", "not base64");
    /* Neither a directory that is missing nor one without the file. */
    assert(lev_credentials_find("/nonexistent", "r", &forever, &c, &err) == 0);
    assert(c.username == NULL && c.server == NULL);
    /* Valid JSON of the wrong shape has no credentials in it. */
    expect("[]", "r", NULL, NULL, NULL, NULL);
    expect("{\"auths\": 3, \"credsStore\": {}}", "r", NULL, NULL, NULL, NULL);
}

static void
test_helpers(void)
{
    write_file("docker-credential-good",
               "#!/bin/sh\nread server\n"
               "[ \"$1\" = get ] || exit 9\n"
               "echo '{\"ServerURL\": \"'$server'\", \"Username\": \"me\", "
               "\"Secret\": \"'$server'\"}'\n",
               0755);
    write_file("docker-credential-token",
               "#!/bin/sh\necho '{\"Username\": \"<token>\", "
               "\"Secret\": \"tok\"}'\n",
               0755);
    write_file("docker-credential-none",
               "#!/bin/sh\n"
               "echo credentials not found in native keychain\nexit 1\n",
               0755);
    write_file("docker-credential-broken",
               "#!/bin/sh\necho c2VjcmV0; echo c2VjcmV0 >&2; exit 3\n", 0755);
    write_file("docker-credential-noise", "#!/bin/sh\necho c2VjcmV0\n", 0755);
    write_file("docker-credential-dead", "#!/bin/sh\nkill -9 $$\n", 0755);

    expect("{\"credsStore\": \"good\"}", "r:1", "me", "r:1", NULL, "r:1");
    expect("{\"credsStore\": \"good\"}", "docker.io", "me",
           "https://index.docker.io/v1/", NULL, "https://index.docker.io/v1/");
    expect("{\"credsStore\": \"token\"}", "r", NULL, NULL, "tok", "r");
    expect("{\"credsStore\": \"broken\", \"credHelpers\": {\"r\": \"good\"}}",
           "r", "me", "r", NULL, "r");
    expect("{\"credsStore\": \"none\"}", "r", NULL, NULL, NULL, NULL);
    expect("{\"credsStore\": \"none\", "
           "\"auths\": {\"r\": {\"auth\": \"dTpw\"}}}",
           "r", "u", "p", NULL, "r");
    expect_error("{\"credsStore\": \"broken\"}", "r",
                 "docker-credential-broken failed with exit code 3");
    expect_error("{\"credsStore\": \"dead\"}", "r", "exit code 137");
    expect_error("{\"credsStore\": \"noise\"}", "r",
                 "did not answer with Username and Secret");
    expect_error("{\"credsStore\": \"missing\"}", "r",
                 "docker-credential-missing");
}

/* The scope's end kills the helper, with what it started. */
static void
test_bounded(void)
{
    struct lev_scope brief = lev_scope_within(&forever, 300 * LEV_MS);
    struct lev_credentials c;
    struct lev_error err;
    char path[200];
    int pid;
    FILE *f;

    write_file("docker-credential-slow",
               "#!/bin/sh\necho $$ > \"${0%/*}/pid\"\nsleep 1000\n", 0755);
    write_file("config.json", "{\"credsStore\": \"slow\"}", 0600);
    assert(lev_credentials_find(dir, "r", &brief, &c, &err) == -1);
    assert(err.code == LEV_E_TIMEOUT);
    snprintf(path, sizeof(path), "%s/pid", dir);
    f = fopen(path, "r");
    assert(f != NULL && fscanf(f, "%d", &pid) == 1 && fclose(f) == 0);
    assert(kill(pid, 0) == -1 && errno == ESRCH);
}

static void
expect_header(struct lev_credentials *c, const char *wanted)
{
    _cleanup_buf_ struct lev_buf header = {0}, plain = {0};
    struct lev_error err;

    assert(lev_credentials_header(c, &header, &err) == 0);
    assert(strpbrk(header.data, "+/") == NULL);
    assert(lev_buf_unbase64(&plain, header.data, &err) == 0);
    _cleanup_json_ json_t *a = json_loads(plain.data, 0, NULL);
    _cleanup_json_ json_t *b = json_loads(wanted, 0, NULL);
    assert(a != NULL && b != NULL && json_equal(a, b));
}

static void
test_header(void)
{
    struct lev_credentials none = {0};
    struct lev_credentials user = {.username = (char[]){"u\xc3\xbc?>"},
                                   .password = (char[]){"p\"q"},
                                   .server = (char[]){"r:1"}};
    struct lev_credentials token = {.username = (char[]){"u"},
                                    .password = (char[]){"p"},
                                    .identity_token = (char[]){"t"}};

    expect_header(&none, "{}");
    expect_header(&user, "{\"username\": \"u\xc3\xbc?>\", "
                         "\"password\": \"p\\\"q\", "
                         "\"serveraddress\": \"r:1\"}");
    expect_header(&token, "{\"identitytoken\": \"t\"}");
}

static void
set_path(void)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
    assert(setenv("PATH", path, 1) == 0);
}

static void
remove_dir(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert(system(command) == 0);
}

int
main(void)
{
    assert(mkdtemp(dir) != NULL);
    set_path();
    test_auths();
    test_broken();
    test_helpers();
    test_bounded();
    test_header();
    remove_dir();
    return 0;
}
