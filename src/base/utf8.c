#include "utf8.h"

#include <stdbool.h>
#include <stddef.h>

static bool
continues(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* Bytes of the character that `s` begins with; 0 when it is none. The end of
 * the text continues nothing, so it is never passed. */
static size_t
length_of(const unsigned char *s)
{
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4 || !continues(s[1])) {
        return 0;
    }
    if (s[0] < 0xe0) {
        return 2;
    }
    /* The second byte tells overlong forms, surrogates and what is beyond
     * U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f) ||
        !continues(s[2]))
    {
        return 0;
    }
    if (s[0] < 0xf0) {
        return 3;
    }
    return continues(s[3]) ? 4 : 0;
}

void
lev_utf8_mend(char *text)
{
    while (*text != '\0') {
        size_t n = length_of((const unsigned char *)text);

        if (n == 0) {
            *text = '?';
            n = 1;
        }
        text += n;
    }
}
