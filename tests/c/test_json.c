/* JSON that is not trusted: what is no JSON, and values of another type. */

#include "json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *
parse(const char *text)
{
    struct lev_error err;
    json_t *v = lev_json_parse(text, strlen(text), "the answer", &err);

    if (v == NULL) {
        fprintf(stderr, "%s\n", err.msg);
    }
    assert(v != NULL);
    return v;
}

static void
refuse(const char *text, size_t len, const char *expected)
{
    struct lev_error err = {0};

    assert(lev_json_parse(text, len, "the answer", &err) == NULL);
    assert(err.code == LEV_E_ENGINE);
    if (strstr(err.msg, expected) == NULL) {
        fprintf(stderr, "'%s' lacks '%s'\n", err.msg, expected);
        abort();
    }
}

static void
test_getters(void)
{
    _cleanup_json_ json_t *v = parse(
        "{\"State\": {\"Status\": \"running\", \"Pid\": 17, \"On\": true,"
        " \"Big\": 18446744073709551615, \"Half\": 0.5, \"Whole\": 3.0,"
        " \"None\": null}, \"Mounts\": [{\"Source\": \"/a\"}, 2],"
        " \"zone.lev\": \"x\"}");

    assert(strcmp(lev_json_str(v, "State.Status"), "running") == 0);
    assert(lev_json_str(v, "State.Pid") == NULL);
    assert(lev_json_str(v, "State.Status.x") == NULL);
    assert(lev_json_str(v, "Missing.Status") == NULL);
    assert(lev_json_str(NULL, "a") == NULL);
    assert(lev_json_int(v, "State.Pid", -1) == 17);
    assert(lev_json_int(v, "State.Status", -1) == -1);
    assert(lev_json_int(v, "State.Half", -1) == -1);
    assert(lev_json_int(v, "State.Whole", -1) == 3);
    assert(lev_json_int(v, "State.Big", -1) == -1);
    assert(lev_json_real(v, "State.Big", 0) == 0x1p64);
    assert(lev_json_real(v, "State.Pid", 0) == 17);
    assert(lev_json_real(v, "State.On", 9) == 9);
    assert(lev_json_bool(v, "State.On", false));
    assert(!lev_json_bool(v, "State.Pid", false));
    assert(lev_json_bool(v, "State.Off", true));
    assert(json_is_null(lev_json_get(v, "State.None")));
    assert(lev_json_get(v, "State.No") == NULL);
    assert(strcmp(lev_json_str(v, "Mounts.0.Source"), "/a") == 0);
    assert(lev_json_int(v, "Mounts.1", 0) == 2);
    assert(lev_json_get(v, "Mounts.2") == NULL);
    assert(lev_json_get(v, "Mounts.-1") == NULL);
    assert(lev_json_get(v, "Mounts.x") == NULL);
    assert(lev_json_get(v, "Mounts.99999999999999999999999999") == NULL);
    assert(lev_json_get(v, "zone.lev") == NULL); /* documented */
    assert(lev_json_get(v, "") == v);
}

static void
test_long_names(void)
{
    char path[600];
    _cleanup_json_ json_t *v = parse("{}");

    memset(path, 'k', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert(lev_json_get(v, path) == NULL);
}

static void
test_errors(void)
{
    static char deep[5000];

    refuse("", 0, "the answer is no JSON: line 1, column 0");
    refuse("{\"a\": }", 7, "line 1, column 7");
    refuse("[1,\n 2,\n oops]", 14, "line 3");
    refuse("<html>\x01", 7, "(around '<html>?')");
    refuse("{} trailing", 11, "end of file expected");
    refuse("\"\xff\"", 3, "unable to decode byte 0xff");
    memset(deep, '[', sizeof(deep));
    refuse(deep, sizeof(deep), "maximum parsing depth");
    refuse("{}", LEV_JSON_MAX + 1, "at most 67108864");
    for (size_t n = 0; n < 8; n++) {
        refuse("{\"a\": 1}", n, "is no JSON");
    }
}

static void
test_dump(void)
{
    static const char text[] = "{\"b\":[1,\"\xc3\xbc\",null],\"a\":true}";
    _cleanup_json_ json_t *v = parse(text), *one = parse("7");
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_error err;

    assert(lev_json_dump(v, &out, &err) == 0);
    assert(strcmp(out.data, text) == 0);
    assert(lev_json_dump(one, &out, &err) == 0);
    assert(out.len == strlen(text) + 1 && out.data[out.len - 1] == '7');
    assert(json_object_set_new(v, "self", json_incref(v)) == -1);
    assert(lev_json_dump(NULL, &out, &err) == -1);
    assert(err.code == LEV_E_INVALID);
}

/* The value that is found, "-" where there is none. */
static void
finds(const char *text, const char *name, const char *want)
{
    size_t len = 1;
    const char *at = lev_json_find(text, strlen(text), name, &len);

    at = at == NULL ? "-" : at;
    if (len != strlen(want) || memcmp(at, want, len) != 0) {
        fprintf(stderr, "%s in %s: %.*s\n", name, text, (int)len, at);
        abort();
    }
}

static void
test_find(void)
{
    static const char text[] =
        " { \"a\" : 1 ,\"in\":{\"b\":2,\"s\":\"}],\\\"\"} , "
        "\"list\":[{\"b\":3},[\"]\"]],\"q\\\"b\":4,\"b\":\"{\\\\\",\"\":null}";

    finds(text, "a", "1 ");
    finds(text, "in", "{\"b\":2,\"s\":\"}],\\\"\"} ");
    finds(text, "list", "[{\"b\":3},[\"]\"]]");
    finds(text, "b", "\"{\\\\\"");
    finds(text, "", "null");
    finds(text, "s", "-");
    finds(text, "q\"b", "-"); /* names are compared as they are written */
    finds("{}", "a", "-");
    finds("[{\"a\":1}]", "a", "-");
    finds("{\"a\":1]", "b", "-");
    finds("{\"a\" 1,\"b\":2}", "b", "-");
    /* Cut anywhere, it stays within what is there. */
    for (size_t n = 0; n < sizeof(text); n++) {
        char *part = strndup(text, n);
        size_t len = 0;
        const char *at = lev_json_find(part, n, "zz", &len);

        assert(at == NULL);
        at = lev_json_find(part, n, "b", &len);
        assert(at == NULL || at + len <= part + n);
        free(part);
    }
}

int
main(void)
{
    test_getters();
    test_find();
    test_long_names();
    test_errors();
    test_dump();
    return 0;
}
