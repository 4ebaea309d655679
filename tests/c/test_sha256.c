/* SHA-256: the vectors of FIPS 180-4 and of its validation suite, in one piece
 * and cut. */

#include "sha256.h"

#include <assert.h>
#include <string.h>

static void
expect(const char *data, size_t len, size_t cut, const char *wanted)
{
    struct lev_sha256 h;
    char hex[65];

    lev_sha256_init(&h);
    for (size_t i = 0; i < len; i += cut) {
        lev_sha256_update(&h, data + i, len - i < cut ? len - i : cut);
    }
    lev_sha256_hex(&h, hex);
    assert(strcmp(hex, wanted) == 0);
}

int
main(void)
{
    static const char two[] =
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static char many[1000000], zeros[1024];
    static const size_t cuts[] = {1, 3, 55, 63, 64, 65, 1000, 1000000};

    memset(many, 'a', sizeof(many));
    for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++) {
        size_t cut = cuts[i];

        expect("", 0, cut,
               "e3b0c44298fc1c149afbf4c8996fb924"
               "27ae41e4649b934ca495991b7852b855");
        expect("abc", 3, cut,
               "ba7816bf8f01cfea414140de5dae2223"
               "b00361a396177a9cb410ff61f20015ad");
        expect(two, strlen(two), cut,
               "248d6a61d20638b8e5c026930c3e6039"
               "a33ce45964ff2167f6ecedd419db06c1");
        expect(zeros, sizeof(zeros), cut,
               "5f70bf18a086007016e948b04aed3b82"
               "103a36bea41755b6cddfaf10ace3c6ef");
        expect(many, sizeof(many), cut,
               "cdc76e5c9914fb9281a1c7e284d73e67"
               "f1809a48a497200e046d39ccc7112cd0");
    }
    /* The edges of the padding. */
    expect(many, 55, 55,
           "9f4390f8d30c2dd92ec9f095b65e2b9a"
           "e9b0a925a5258e241c9f1e910f734318");
    expect(many, 56, 56,
           "b35439a4ac6f0948b6d6f9e3c6af0f5f"
           "590ce20f1bde7090ef7970686ec6738a");
    expect(many, 63, 63,
           "7d3e74a05d7db15bce4ad9ec0658ea98"
           "e3f06eeecf16b4c6fff2da457ddc2f34");
    expect(many, 64, 64,
           "ffe054fe7ae0cb6dc65c3af9b61d5209"
           "f439851db43d0ba5997337df154668eb");
    expect(many, 119, 119,
           "31eba51c313a5c08226adf18d4a359cf"
           "dfd8d2e816b13f4af952f7ea6584dcfb");
    expect(many, 120, 120,
           "2f3d335432c70b580af0e8e1b3674a7c"
           "020d683aa5f73aaaedfdc55af904c21c");
    return 0;
}
