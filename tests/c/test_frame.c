/* Frames of the guest: cut, lying, hostile. */

#include "frame.h"

#include <assert.h>
#include <string.h>

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static void
contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fprintf(stderr, "'%s' lacks '%s'\n", text, part);
        abort();
    }
}

static void
accept(const void *data, size_t len)
{
    struct lev_error err;

    must(lev_bson_check(data, len, LEV_BSON_MAX_DEPTH, &err), &err);
}

/* In memory of its own, so that the sanitizer sees a byte too far. */
static void
refuse(const void *data, size_t len, const char *text)
{
    struct lev_error err = {0};
    uint8_t *copy = malloc(len > 0 ? len : 1);

    assert(copy != NULL);
    memcpy(copy, data, len);
    assert(lev_bson_check(copy, len, LEV_BSON_MAX_DEPTH, &err) == -1);
    assert(err.code == LEV_E_INVALID);
    contains(err.msg, text);
    free(copy);
}

#define REFUSE(bytes, text) refuse(bytes, sizeof(bytes) - 1, text)

static bson_t *
every_type(void)
{
    bson_decimal128_t dec = {.low = 1, .high = UINT64_C(0x3040000000000000)};
    bson_oid_t oid;
    bson_t *scope = BCON_NEW("x", BCON_INT32(1));
    bson_t *doc = BCON_NEW(
        "double", BCON_DOUBLE(1.5), "text", "h\xc3\xa4llo", "doc", "{", "a.b",
        "{", "$c", BCON_INT32(1), "}", "}", "list", "[", BCON_INT32(1),
        BCON_UTF8("two"), "[", "]", "{", "k", BCON_NULL, "}", "]", "yes",
        BCON_BOOL(true), "when", BCON_DATE_TIME(-1), "re",
        BCON_REGEX("^a", "i"), "int", BCON_INT64(INT64_MIN), "ts",
        BCON_TIMESTAMP(1, 2), "min", BCON_MINKEY, "max", BCON_MAXKEY, "undef",
        BCON_UNDEFINED, "code", BCON_CODE("f()"), "symbol", BCON_SYMBOL("s"));

    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    assert(BSON_APPEND_OID(doc, "oid", &oid));
    assert(BSON_APPEND_DECIMAL128(doc, "dec", &dec));
    assert(BSON_APPEND_BINARY(doc, "bin", BSON_SUBTYPE_BINARY,
                              (const uint8_t *)"\0\xff", 2));
    assert(BSON_APPEND_BINARY(doc, "old", BSON_SUBTYPE_BINARY_DEPRECATED,
                              (const uint8_t *)"ab", 2));
    assert(BSON_APPEND_DBPOINTER(doc, "ref", "coll", &oid));
    assert(BSON_APPEND_CODE_WITH_SCOPE(doc, "scoped", "g()", scope));
    assert(bson_append_utf8(doc, "nul", 3, "a\0b", 3));
    assert(bson_append_utf8(doc, "", 0, "empty key", 9));
    bson_destroy(scope);
    return doc;
}

static void
test_every_type(void)
{
    bson_t *doc = every_type();
    struct lev_error err;

    must(lev_bson_validate(doc, &err), &err);
    accept("\5\0\0\0\0", 5);
    bson_destroy(doc);
}

/* A document that is cut off is refused at each byte, also when its own
 * length follows. */
static void
test_cut(void)
{
    bson_t *doc = every_type();
    _cleanup_buf_ struct lev_buf copy = {0};

    for (uint32_t n = 0; n < doc->len; n++) {
        uint32_t len = BSON_UINT32_TO_LE(n);

        refuse(bson_get_data(doc), n, "");
        if (n >= 5) {
            lev_buf_clear(&copy);
            lev_buf_append(&copy, bson_get_data(doc), n);
            memcpy(copy.data, &len, 4);
            refuse(copy.data, n, "BSON");
        }
    }
    bson_destroy(doc);
}

static void
test_lying_lengths(void)
{
    REFUSE("\4\0\0\0\0", "BSON: a document's length is not that");
    REFUSE("\6\0\0\0\0", "length is not that");
    REFUSE("\xff\xff\xff\xff\0", "length is not that");
    REFUSE("\5\0\0\0\1", "does not end in NUL");
    REFUSE("\5\0\0\0\0\0", "bytes follow the document");
    REFUSE("\6\0\0\0\0\0", "");
    /* {a: "b"} with lengths 0, 3 and 2^32-1, and without its NUL */
    REFUSE("\x0e\0\0\0\2a\0\0\0\0\0b\0\0", "BSON: 'a': the string's length");
    REFUSE("\x0e\0\0\0\2a\0\3\0\0\0b\0\0", "the string's length");
    REFUSE("\x0e\0\0\0\2a\0\xff\xff\xff\xff"
           "b\0\0",
           "the string's length");
    REFUSE("\x0e\0\0\0\2a\0\2\0\0\0bc\0", "the string does not end in NUL");
    /* {a: {}}: the inner one reaches over the outer one's end, or is short */
    REFUSE("\x0d\0\0\0\3a\0\6\0\0\0\0\0", "'a': a document's length");
    REFUSE("\x0d\0\0\0\3a\0\4\0\0\0\0\0", "'a': a document's length");
    /* {a: binary}: too long; subtype 2 with another inner length */
    REFUSE("\x0e\0\0\0\5a\0\2\0\0\0\0b\0", "'a': the binary's length");
    REFUSE("\x12\0\0\0\5a\0\5\0\0\0\2\2\0\0\0b\0", "subtype 2");
    REFUSE("\x0a\0\0\0\x07"
           "a\0\1\2\0",
           "'a': the value is cut off");
    REFUSE("\7\0\0\0\x0a"
           "a\0",
           "BSON: a key is cut off");
    REFUSE("\x09\0\0\0\x08"
           "a\0\2\0",
           "'a': the boolean is neither 0 nor 1");
    REFUSE("\x08\0\0\0\x20"
           "a\0\0",
           "'a': there is no type 0x20");
    REFUSE("\x0a\0\0\0\x0b"
           "a\0x\0\1",
           "");
    /* code with scope whose length is a byte too large */
    REFUSE("\x18\0\0\0\x0f"
           "a\0\x10\0\0\0\2\0\0\0f\0\5\0\0\0\0\0\0",
           "'a': the code's length");
}

static void
test_duplicates(void)
{
    bson_t *doc = BCON_NEW("a", "{", "b", "[", "{", "x", BCON_INT32(1), "y",
                           BCON_INT32(2), "x", BCON_INT32(3), "}", "]", "}");
    bson_t *apart = BCON_NEW("a", "{", "a", "{", "a", BCON_INT32(1), "}", "}",
                             "b", "{", "a", BCON_INT32(1), "}");
    struct lev_error err;

    assert(lev_bson_validate(doc, &err) == -1);
    assert(err.code == LEV_E_INVALID);
    contains(err.msg, "BSON: 'a.b.0.x': this key is there twice");
    must(lev_bson_validate(apart, &err), &err);
    bson_destroy(doc);
    bson_destroy(apart);
}

/* Quadratic work would not end within the test's time. */
static void
test_many_keys(void)
{
    const int n = 1000000;
    bson_t *doc = bson_new();
    struct lev_error err;
    char key[32];

    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "a-long-common-prefix-%d", i);
        assert(BSON_APPEND_NULL(doc, key));
    }
    must(lev_bson_validate(doc, &err), &err);
    assert(BSON_APPEND_NULL(doc, "a-long-common-prefix-777"));
    assert(lev_bson_validate(doc, &err) == -1);
    contains(err.msg, "'a-long-common-prefix-777': this key is there twice");
    bson_destroy(doc);
}

/* Each pair of places in documents around the sizes where the way of keeping
 * keys changes. */
static void
test_duplicate_anywhere(void)
{
    for (int n = 2; n < 140; n += n < 20 ? 1 : 7) {
        for (int twice = 0; twice < n; twice++) {
            bson_t *doc = bson_new();
            struct lev_error err;
            char key[16];

            for (int i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "k%d", i);
                assert(BSON_APPEND_INT32(doc, key, i));
            }
            must(lev_bson_validate(doc, &err), &err);
            snprintf(key, sizeof(key), "k%d", twice);
            assert(BSON_APPEND_INT32(doc, key, 0));
            assert(lev_bson_validate(doc, &err) == -1);
            bson_destroy(doc);
        }
    }
}

/* {"a": {"a": … {}}} of `depth` levels, or [[…]]. */
static void
nest(struct lev_buf *out, unsigned depth, bool array)
{
    for (unsigned i = depth; i > 0; i--) {
        uint32_t len = BSON_UINT32_TO_LE(5 + (i - 1) * 8);

        lev_buf_append(out, &len, 4);
        if (i > 1) {
            lev_buf_append(out,
                           array ? "\4"
                                   "0\0"
                                 : "\3"
                                   "a\0",
                           3);
        }
    }
    for (unsigned i = 0; i < depth; i++) {
        lev_buf_putc(out, '\0');
    }
}

static void
test_depth(bool array)
{
    static const unsigned deep[] = {101, 102, 1000, 5000000};
    _cleanup_buf_ struct lev_buf doc = {0};

    nest(&doc, 100, array);
    accept(doc.data, doc.len);
    for (size_t i = 0; i < LEV_ARRAY_LEN(deep); i++) {
        lev_buf_clear(&doc);
        nest(&doc, deep[i], array);
        refuse(doc.data, doc.len, array ? "0.0.0.0" : "a.a.a.a");
        refuse(doc.data, doc.len, "nested too deep (100 levels at most)");
    }
}

static void
test_utf8(void)
{
    static const char *const bad[] = {
        "\xff",
        "\xc3",
        "\x80",
        "\xc0\x80",
        "\xe0\x80\x80",
        "\xed\xa0\x80",
        "\xf4\x90\x80\x80",
        "\xf0\x80\x80\x80",
        "a\xe2\x82",
        "\xf8\x88\x80\x80\x80",
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(bad); i++) {
        _cleanup_buf_ struct lev_buf value = {0}, key = {0};
        size_t n = strlen(bad[i]);

        lev_buf_append(&value, "\0\0\0\0\2v\0\0\0\0\0", 11);
        lev_buf_append(&value, bad[i], n);
        lev_buf_append(&value, "\0\0", 2);
        value.data[0] = (char)value.len;
        value.data[7] = (char)(n + 1);
        refuse(value.data, value.len, "'v': the string is not UTF-8");
        lev_buf_append(&key, "\0\0\0\0\x0a", 5);
        lev_buf_append(&key, bad[i], n);
        lev_buf_append(&key, "\0\0", 2);
        key.data[0] = (char)key.len;
        refuse(key.data, key.len, "a key or pattern is not UTF-8");
    }
}

static bool
is_text(const uint8_t *bytes, size_t n)
{
    uint8_t doc[32] = {0, 0, 0, 0, 2, 'v', 0};
    struct lev_error err;

    memcpy(doc + 11, bytes, n);
    doc[7] = (uint8_t)(n + 1);
    doc[0] = (uint8_t)(11 + n + 2);
    return lev_bson_check(doc, 11 + n + 2, LEV_BSON_MAX_DEPTH, &err) == 0;
}

/* All characters, and all pairs of bytes with something before and behind: the
 * judge is libbson, whose only exception is known. */
static void
test_utf8_whole(void)
{
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        bool surrogate = cp >= 0xd800 && cp < 0xe000;
        char text[8];
        uint32_t len;

        bson_utf8_from_unichar(cp, text, &len);
        if (cp > 0) { /* which libbson writes as 0xc0 0x80 */
            assert(is_text((const uint8_t *)text, len) == !surrogate);
        }
    }
    for (uint32_t v = 0; v < 0x10000 * 3; v++) {
        static const char *const tails[] = {"", "\x80", "\xbf\x80"};
        uint8_t bytes[16] = "0123456789", *p = bytes + v % 10;
        size_t n;

        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
        strcpy((char *)p + 2, tails[v >> 16]);
        n = (size_t)(p - bytes) + 2 + strlen(tails[v >> 16]);
        assert(is_text(bytes, n) ==
               (bson_utf8_validate((const char *)bytes, n, true) &&
                memchr(bytes, 0xc0, n) == NULL));
    }
}

static void
test_array_keys(const char *wrong)
{
    bson_t *doc = bson_new(), list;
    struct lev_error err;

    assert(BSON_APPEND_ARRAY_BEGIN(doc, "l", &list));
    for (int i = 0; i < 1234; i++) {
        char key[8];

        snprintf(key, sizeof(key), "%d", i);
        assert(BSON_APPEND_INT32(&list, key, 1));
    }
    assert(BSON_APPEND_INT32(&list, wrong, 1));
    assert(bson_append_array_end(doc, &list));
    assert(lev_bson_validate(doc, &err) == -1);
    contains(err.msg, "the keys of an array are not 0, 1, 2");
    contains(err.msg, wrong);
    bson_destroy(doc);
}

static void
test_path_in_message(void)
{
    bson_t *doc = bson_new(), inner;
    struct lev_error err;
    char key[3000];

    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    assert(BSON_APPEND_DOCUMENT_BEGIN(doc, "a\nb\xc3\xa4", &inner));
    assert(BSON_APPEND_NULL(&inner, key) && BSON_APPEND_NULL(&inner, key));
    assert(bson_append_document_end(doc, &inner));
    assert(lev_bson_validate(doc, &err) == -1);
    contains(err.msg, "'a\\x0ab\\xc3\\xa4.kkkk");
    contains(err.msg, "kk\xe2\x80\xa6': this key is there twice");
    bson_destroy(doc);
}

/* Whatever is changed: what we accept libbson accepts, and nothing crashes. */
static void
test_mutations(void)
{
    bson_t *doc = every_type();
    uint8_t *copy = malloc(doc->len);
    unsigned accepted = 0;
    uint32_t random = 1;

    assert(copy != NULL);
    for (int i = 0; i < 200000; i++) {
        struct lev_error err;
        bson_t view;

        memcpy(copy, bson_get_data(doc), doc->len);
        for (int k = 0; k < 1 + i % 3; k++) {
            random = random * 1103515245 + 12345;
            copy[(random >> 8) % doc->len] = (uint8_t)(random >> 24);
        }
        if (lev_bson_check(copy, doc->len, LEV_BSON_MAX_DEPTH, &err) == 0) {
            assert(bson_init_static(&view, copy, doc->len));
            assert(bson_validate(
                &view, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL,
                NULL));
            accepted++;
        }
    }
    assert(accepted > 1000 && accepted < 199000);
    free(copy);
    bson_destroy(doc);
}

static void
test_reader(size_t piece)
{
    struct lev_frame_reader r = {0};
    _cleanup_buf_ struct lev_buf stream = {0};
    struct lev_error err;
    int seen = 0;
    bson_t doc;

    for (int i = 0; i < 300; i++) {
        bson_t *frame = BCON_NEW("set", BCON_INT64(i), "data", "{", "x",
                                 BCON_INT32(i), "}");

        lev_buf_append(&stream, bson_get_data(frame), frame->len);
        bson_destroy(frame);
    }
    for (size_t at = 0; at < stream.len; at += piece) {
        size_t n = stream.len - at < piece ? stream.len - at : piece;
        int rc;

        must(lev_frame_reader_feed(&r, stream.data + at, n, &err), &err);
        while ((rc = lev_frame_reader_next(&r, &doc, &err)) == 1) {
            bson_iter_t it;

            assert(bson_iter_init_find(&it, &doc, "set"));
            assert(bson_iter_int64(&it) == seen++);
        }
        must(rc, &err);
    }
    assert(seen == 300);
    must(lev_frame_reader_end(&r, &err), &err);
    must(lev_frame_reader_feed(&r, "\x10\0\0\0", 4, &err), &err);
    assert(lev_frame_reader_next(&r, &doc, &err) == 0);
    assert(lev_frame_reader_end(&r, &err) == -1 && err.code == LEV_E_ENGINE);
    contains(err.msg, "inside a frame, after 4 bytes");
    lev_frame_reader_deinit(&r);
}

static void
reader_refuses(const char *data, size_t len, const char *text)
{
    struct lev_frame_reader r = {0};
    struct lev_error err = {0};
    bson_t doc;

    must(lev_frame_reader_feed(&r, data, len, &err), &err);
    for (int again = 0; again < 2; again++) {
        assert(lev_frame_reader_next(&r, &doc, &err) == -1);
        assert(err.code == LEV_E_ENGINE);
        contains(err.msg, "frame from the container: ");
        contains(err.msg, text);
    }
    lev_frame_reader_deinit(&r);
}

static void
test_reader_refuses(void)
{
    _cleanup_buf_ struct lev_buf deep = {0};

    /* At once, not when so much has come. */
    reader_refuses("\1\0\0\3", 4, "a length of 50331649 bytes");
    reader_refuses("\xff\xff\xff\xff", 4, "a length of 4294967295 bytes");
    reader_refuses("\4\0\0\0", 4, "a length of 4 bytes");
    reader_refuses("HTTP/1.1 400 Bad Request", 24, "a length of");
    reader_refuses("\x08\0\0\0\x20"
                   "a\0\0",
                   8, "BSON: 'a': there is no type 0x20");
    nest(&deep, 102, false);
    reader_refuses(deep.data, deep.len, "nested too deep");
}

/* What a frame wraps may have all the depth a document may have. */
static void
test_reader_depth(void)
{
    struct lev_frame_reader r = {0};
    _cleanup_buf_ struct lev_buf deep = {0};
    struct lev_error err;
    bson_t doc;

    nest(&deep, 101, false);
    must(lev_frame_reader_feed(&r, deep.data, deep.len, &err), &err);
    assert(lev_frame_reader_next(&r, &doc, &err) == 1);
    lev_frame_reader_deinit(&r);
}

/* After a large frame its memory is given back. */
static void
test_reader_memory(void)
{
    struct lev_frame_reader r = {0};
    bson_t *frame = bson_new(), doc;
    size_t len = 5000000;
    char *data = calloc(1, len);
    struct lev_error err;

    assert(data != NULL);
    assert(BSON_APPEND_BINARY(frame, "b", BSON_SUBTYPE_BINARY,
                              (const uint8_t *)data, (uint32_t)len));
    must(lev_frame_reader_feed(&r, bson_get_data(frame), frame->len, &err),
         &err);
    assert(lev_frame_reader_next(&r, &doc, &err) == 1);
    assert(doc.len == frame->len);
    must(lev_frame_reader_feed(&r, "\5\0\0", 3, &err), &err);
    assert(r.in.cap < 1000);
    must(lev_frame_reader_feed(&r, "\0\0", 2, &err), &err);
    assert(lev_frame_reader_next(&r, &doc, &err) == 1 && doc.len == 5);
    lev_frame_reader_deinit(&r);
    bson_destroy(frame);
    free(data);
}

int
main(void)
{
    test_every_type();
    test_cut();
    test_lying_lengths();
    test_duplicates();
    test_many_keys();
    test_duplicate_anywhere();
    test_depth(false);
    test_depth(true);
    test_utf8();
    test_utf8_whole();
    test_array_keys("0");
    test_array_keys("1233");
    test_array_keys("01234");
    test_array_keys("12345");
    test_array_keys("123");
    test_array_keys("");
    test_path_in_message();
    test_mutations();
    test_reader(1);
    test_reader(7);
    test_reader(100000);
    test_reader_refuses();
    test_reader_depth();
    test_reader_memory();
    return 0;
}
