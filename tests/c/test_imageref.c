/* References of images: tests/data/imageref.json, and a name that is too
 * long. */

#include "imageref.h"
#include "json.h"

#include <assert.h>
#include <string.h>

static int failures;

static void
expect(const char *text, const char *what, const char *got, const char *wanted)
{
    if ((got == NULL) != (wanted == NULL) ||
        (got != NULL && strcmp(got, wanted) != 0))
    {
        fprintf(stderr, "%s: %s is %s, expected %s\n", text, what,
                got == NULL ? "NULL" : got, wanted == NULL ? "NULL" : wanted);
        failures++;
    }
}

static void
test_good(const json_t *c)
{
    const char *text = lev_json_str(c, "text");
    _cleanup_imageref_ struct lev_imageref ref = {0};
    struct lev_error err;

    assert(text != NULL);
    if (lev_imageref_parse(text, lev_json_str(c, "tools"), &ref, &err) < 0) {
        expect(text, "the error", err.msg, NULL);
        return;
    }
    expect(text, "registry", ref.registry, lev_json_str(c, "registry"));
    expect(text, "repository", ref.repository, lev_json_str(c, "repository"));
    expect(text, "tag", ref.tag, lev_json_str(c, "tag"));
    expect(text, "digest", ref.digest, lev_json_str(c, "digest"));
    expect(text, "familiar", ref.familiar, lev_json_str(c, "familiar"));
    expect(text, "is_id", ref.is_id ? "true" : "false",
           lev_json_bool(c, "is_id", false) ? "true" : "false");
}

static void
test_bad(const json_t *c)
{
    const char *text = lev_json_str(c, "text");
    const char *says = lev_json_str(c, "says");
    struct lev_imageref ref;
    struct lev_error err;

    assert(text != NULL && says != NULL);
    if (lev_imageref_parse(text, NULL, &ref, &err) == 0) {
        expect(text, "the result", ref.familiar, NULL);
        lev_imageref_deinit(&ref);
        return;
    }
    assert(err.code == LEV_E_INVALID && ref.familiar == NULL);
    if (strstr(err.msg, says) == NULL) {
        expect(text, "the message", err.msg, says);
    }
}

static void
test_long(void)
{
    _cleanup_imageref_ struct lev_imageref ref = {0};
    char text[260] = "localhost/";
    struct lev_error err;

    memset(text + 10, 'a', 245);
    text[255] = '\0';
    assert(lev_imageref_parse(text, NULL, &ref, &err) == 0);
    lev_imageref_deinit(&ref);
    strcpy(text + 255, "a");
    assert(lev_imageref_parse(text, NULL, &ref, &err) == -1);
    assert(strstr(err.msg, "255 bytes") != NULL);
}

int
main(void)
{
    _cleanup_json_ json_t *cases =
        json_load_file(LEV_TEST_DATA "/imageref.json", 0, NULL);
    json_t *c;
    size_t i;

    assert(cases != NULL);
    json_array_foreach(lev_json_get(cases, "good"), i, c)
    {
        test_good(c);
    }
    json_array_foreach(lev_json_get(cases, "bad"), i, c)
    {
        test_bad(c);
    }
    test_long();
    return failures == 0 ? 0 : 1;
}
