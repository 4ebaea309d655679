/* The table of options: tests/data/options.json. */

#include "json.h"
#include "options.h"

#include <assert.h>
#include <string.h>

static int failures;

static const char *
code_name(enum lev_errcode code)
{
    switch (code) {
    case LEV_OK:
        return "OK";
#define X(name, exc)                                                          \
    case LEV_E_##name:                                                        \
        return #name;
        LEV_ERRORS(X)
#undef X
    }
    return "?";
}

static bson_t *
options_of(const json_t *c, char **text)
{
    bson_error_t why;
    bson_t *options;

    *text = json_dumps(lev_json_get(c, "options"), JSON_ENCODE_ANY);
    assert(*text != NULL);
    options = bson_new_from_json((uint8_t *)*text, -1, &why);
    if (options == NULL) {
        fprintf(stderr, "%s: %s\n", *text, why.message);
        abort();
    }
    return options;
}

static bool
same(const json_t *got, const json_t *wanted)
{
    return wanted == NULL ? json_object_size(got) == 0
                          : json_equal(got, wanted) != 0;
}

static void
test_good(const json_t *c)
{
    _cleanup_json_ json_t *config = json_object(), *host = json_object();
    _cleanup_free_ char *text = NULL;
    bson_t *options = options_of(c, &text);
    struct lev_error err = {.msg = ""};

    if (lev_options_check(options, &err) < 0 ||
        lev_options_apply(options, "docker", config, host, &err) < 0 ||
        !same(config, lev_json_get(c, "config")) ||
        !same(host, lev_json_get(c, "host")))
    {
        _cleanup_free_ char *a = json_dumps(config, 0);
        _cleanup_free_ char *b = json_dumps(host, 0);

        fprintf(stderr, "%s: %s, config %s, host %s\n", text, err.msg, a, b);
        failures++;
    }
    bson_destroy(options);
}

static void
test_bad(const json_t *c)
{
    _cleanup_json_ json_t *config = json_object(), *host = json_object();
    _cleanup_free_ char *text = NULL;
    bson_t *options = options_of(c, &text);
    struct lev_error err = {.msg = ""}, late = {.msg = ""};

    if (lev_options_check(options, &err) != -1 ||
        strcmp(code_name(err.code), lev_json_str(c, "code")) != 0 ||
        strstr(err.msg, lev_json_str(c, "says")) == NULL)
    {
        fprintf(stderr, "%s: %s %s\n", text, code_name(err.code), err.msg);
        failures++;
    }
    assert(lev_options_apply(options, "docker", config, host, &late) == -1);
    assert(late.code == err.code && strstr(late.msg, err.msg) != NULL);
    if (late.code == LEV_E_UNSUPPORTED_OPTION) {
        assert(strncmp(late.msg, "engine docker: ", 15) == 0);
    }
    bson_destroy(options);
}

static void
test_size(const json_t *c)
{
    const char *text = lev_json_str(c, "0");
    int64_t bytes = -1;
    struct lev_error err = {.msg = ""};

    if (lev_options_size(text, &bytes, &err) < 0 ||
        bytes != lev_json_int(c, "1", -2))
    {
        fprintf(stderr, "%s: %lld %s\n", text, (long long)bytes, err.msg);
        failures++;
    }
}

int
main(void)
{
    _cleanup_json_ json_t *cases =
        json_load_file(LEV_TEST_DATA "/options.json", JSON_ALLOW_NUL, NULL);
    struct lev_error err;
    json_t *c;
    size_t i;

    assert(cases != NULL && lev_options_check(NULL, &err) == 0);
    json_array_foreach(lev_json_get(cases, "good"), i, c)
    {
        test_good(c);
    }
    json_array_foreach(lev_json_get(cases, "bad"), i, c)
    {
        test_bad(c);
    }
    json_array_foreach(lev_json_get(cases, "sizes"), i, c)
    {
        test_size(c);
    }
    return failures == 0 ? 0 : 1;
}
