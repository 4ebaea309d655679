/* Images of a Docker that runs beside: LEVRT_TEST_DOCKER, with the image
 * levrt-test/busybox:1; and of one that fails. */
#include "oci_fixture.h"

#include "scripted_engine.h"

#include <assert.h>
#include <string.h>

#define IMAGE "docker-daemon:levrt-test/busybox:1"

static struct oci_fixture f;
static int64_t most;

static void
on_progress(void *ctx, int64_t done, int64_t total, const char *text)
{
    assert(total == 0 && strstr(text, "daemon") != NULL);
    most = done > most ? done : most;
}

static int
pull(const char *ref, int64_t stall, struct lev_error *err)
{
    struct lev_scope scope = oci_soon();

    return f.e->ops->image_pull(f.e, &scope, ref, stall, on_progress, NULL,
                                err);
}

/* With the environment as it is now. */
static void
reopen(const char *docker)
{
    assert(setenv("DOCKER_HOST", docker, 1) == 0);
    oci_fixture_open(&f);
}

static void
of_daemon(struct lev_container_spec *spec)
{
    spec->image = IMAGE;
}

static void
test_real(const char *docker)
{
    struct lev_scope scope = oci_soon();
    struct lev_image image = {0};
    struct lev_error err;
    struct oci_result r;
    char *id;

    reopen(docker);
    /* The fixture's own has that name. */
    assert(f.e->ops->image_remove(f.e, &scope, IMAGE, &err) == 0);
    assert(f.e->ops->image_inspect(f.e, &scope, IMAGE, &image, &err) < 0);
    assert(err.code == LEV_E_IMAGE_NOT_FOUND);
    if (pull(IMAGE, 30 * LEV_SECOND, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    assert(most > 100000);
    assert(f.e->ops->image_inspect(f.e, &scope, IMAGE, &image, &err) == 0);
    assert(strcmp(image.cmd[0], "sh") == 0 &&
           strcmp(image.arch, "x86_64") == 0);
    lev_image_deinit(&image);
    id = oci_make(&f, OCI_SH("head -n 1 /etc/passwd"), NULL, of_daemon);
    oci_go(&f, id, &r);
    assert(strcmp(lev_buf_text(&r.text[0]), "root:x:0:0::/root:/bin/sh\n") ==
           0);
    oci_result_deinit(&r);
    assert(f.e->ops->remove(f.e, &scope, id, &err) == 0);
    free(id);
    assert(pull("docker-daemon:none/such:1", 30 * LEV_SECOND, &err) < 0);
    assert(err.code == LEV_E_IMAGE_NOT_FOUND &&
           strstr(err.msg, "none/such:1") != NULL);
    assert(pull("docker-daemon:a@sha256:"
                "0000000000000000000000000000000000000000000000000000000000000"
                "000",
                LEV_SECOND, &err) < 0);
    assert(err.code == LEV_E_INVALID);
    oci_fixture_close(&f);
}

static void
test_none(void)
{
    struct lev_error err;

    reopen("unix:///none/such.sock");
    assert(pull(IMAGE, LEV_SECOND, &err) < 0);
    assert(err.code == LEV_E_ENGINE_UNAVAILABLE &&
           strstr(err.msg, "/none/such.sock") != NULL);
    oci_fixture_close(&f);
}

static void
test_faults(void)
{
    static const char route[] =
        "GET /v1.41/images/levrt-test%2Fbusybox%3A1/get";
    static const struct {
        struct scripted_answer answer;
        enum lev_errcode code;
        const char *word;
    } cases[] = {
        {{.status = "200 OK", .body = "tar", .hold = true},
         LEV_E_PULL,
         "nothing for"},
        {{.status = "200 OK", .body = "tar", .drop = true},
         LEV_E_ENGINE,
         "cut short"},
        {{.status = "500 Internal Server Error",
          .body = "{\"message\": \"no space\"}"},
         LEV_E_ENGINE,
         "no space"},
        {{.status = "200 OK", .body = "no archive at all"}, LEV_E_IMAGE, ""},
    };
    struct scripted_engine s;
    struct lev_error err;
    char url[100];

    scripted_start(&s);
    snprintf(url, sizeof(url), "unix://%s/sock", s.dir);
    reopen(url);
    for (size_t i = 0; i < LEV_ARRAY_LEN(cases); i++) {
        scripted_set(&s, route, &cases[i].answer);
        assert(pull(IMAGE, LEV_SECOND / 2, &err) < 0);
        if (err.code != cases[i].code ||
            strstr(err.msg, cases[i].word) == NULL ||
            strstr(err.msg, IMAGE) == NULL)
        {
            fprintf(stderr, "case %zu: %d %s\n", i, (int)err.code, err.msg);
            abort();
        }
    }
    oci_fixture_close(&f);
    scripted_stop(&s);
}

int
main(void)
{
    const char *docker = getenv("LEVRT_TEST_DOCKER");

    unsetenv("LEVRT_ENGINE");
    test_none();
    test_faults();
    if (docker == NULL) {
        fprintf(stderr, "skipped: LEVRT_TEST_DOCKER is not set\n");
        return 77;
    }
    test_real(docker);
    puts("ok");
    return 0;
}
