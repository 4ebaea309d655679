/* Two runtimes, one filter: what each lets through, and Docker's beside it
 * where there is one (LEVRT_TEST_DOCKER, with the image levrt-test/busybox:1).
 */
#include "oci_fixture.h"

#include <assert.h>
#include <string.h>

/* Stricter than Docker 20.10, as later ones are: the only differences. */
static const char *const stricter[] = {
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "socket vsock",
};
/* After Docker 20.10; without pointers to hide anything behind. */
static const char *const newer[] = {"pkey_alloc"};

static char probe_path[] = "/probe";
static struct lev_mount probe_mount = {.type = LEV_MOUNT_BIND,
                                       .source = (char *)LEV_SYSCALL_PROBE,
                                       .target = probe_path,
                                       .read_only = true};

static void
with_probe(struct lev_container_spec *spec)
{
    spec->mounts = &probe_mount;
    spec->mounts_n = 1;
}

static char *
probe(struct oci_fixture *f, const char *options)
{
    struct lev_scope scope = oci_soon();
    struct oci_result r;
    struct lev_error err;
    char *text, *id = oci_make(f, (const char *const[]){"/probe", NULL},
                               options, with_probe);

    oci_go(f, id, &r);
    if (r.code != 0) {
        fprintf(stderr, "probe: code %d, %s\n", r.code,
                lev_buf_text(&r.text[1]));
        abort();
    }
    assert(f->e->ops->remove(f->e, &scope, id, &err) == 0);
    free(id);
    text = strdup(lev_buf_text(&r.text[0]));
    oci_result_deinit(&r);
    return text;
}

static char *
probe_with(const char *runtime, const char *options)
{
    struct oci_fixture f;
    char *text;

    setenv("LEVRT_OCI_RUNTIME", runtime, 1);
    oci_fixture_open(&f);
    text = probe(&f, options);
    oci_fixture_close(&f);
    return text;
}

static bool
is_among(const char *line, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]);

        if (strncmp(line, names[i], len) == 0 && line[len] == ':') {
            return true;
        }
    }
    return false;
}

/* The number of lines that differ and are not in one of the tables. */
static int
compare(char *ours, char *theirs, bool docker)
{
    char *save = NULL, *their_save = NULL;
    char *b = strtok_r(theirs, "\n", &their_save);
    int differ = 0;

    for (char *a = strtok_r(ours, "\n", &save); a != NULL;
         a = strtok_r(NULL, "\n", &save),
              b = strtok_r(NULL, "\n", &their_save))
    {
        assert(b != NULL);
        if (strcmp(a, b) == 0) {
            continue;
        }
        if (docker && is_among(a, stricter, LEV_ARRAY_LEN(stricter))) {
            assert(strstr(a, ": EPERM") != NULL);
            continue;
        }
        if (docker && is_among(a, newer, LEV_ARRAY_LEN(newer))) {
            continue;
        }
        fprintf(stderr, "%s, but the other: %s\n", a, b);
        differ++;
    }
    assert(b == NULL);
    return differ;
}

static void
test_runtimes_agree(const char *options)
{
    char *crun = probe_with("crun", options);
    char *runc = probe_with("runc", options);

    assert(compare(crun, runc, false) == 0);
    free(crun);
    free(runc);
}

static void
test_meaning(void)
{
    static const char *const expected[] = {
        "clone newuser: EPERM",      "clone3: ENOSYS",        "mount: EPERM",
        "unshare newns: EPERM",      "personality 8: done",   "keyctl: EPERM",
        "socket vsock: EPERM",       "io_uring_setup: EPERM", "bpf: EPERM",
        "personality 0x40000: EPERM"};
    char *text = probe_with("crun", NULL);

    for (size_t i = 0; i < LEV_ARRAY_LEN(expected); i++) {
        if (strstr(text, expected[i]) == NULL) {
            fprintf(stderr, "no '%s' in:\n%s", expected[i], text);
            abort();
        }
    }
    free(text);
}

static void
test_as_docker(const char *url, const char *options)
{
    const struct lev_engine_config config = {0};
    struct lev_scope scope = oci_soon();
    struct oci_fixture f = {0};
    struct lev_error err;
    char *ours = probe_with("crun", options), *theirs;

    f.e = lev_docker_open(url, &config, &scope, &err);
    if (f.e == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    theirs = probe(&f, options);
    lev_engine_unref(f.e);
    assert(compare(ours, theirs, true) == 0);
    free(ours);
    free(theirs);
}

int
main(void)
{
    static const char *const options[] = {
        NULL, "{\"cap_add\": [\"SYS_ADMIN\", \"SYS_PTRACE\"]}",
        "{\"cap_drop\": [\"ALL\"]}"};
    const char *docker = getenv("LEVRT_TEST_DOCKER");

    for (size_t i = 0; i < LEV_ARRAY_LEN(options); i++) {
        test_runtimes_agree(options[i]);
        if (docker != NULL) {
            test_as_docker(docker, options[i]);
        }
    }
    test_meaning();
    puts(docker == NULL ? "ok, but without a Docker to compare with" : "ok");
    return 0;
}
