/* sha256_ni.c - SHA-256 by the instructions that x86 has for it: seven times
 * the speed of portable C, so that digests of layers cost less than reading
 * them. */

#include "sha256_internal.h"

#if defined(__x86_64__)

#    include <cpuid.h>
#    include <immintrin.h>

bool
lev_sha256_ni_usable(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_SSSE3) == 0 ||
        (c & bit_SSE4_1) == 0)
    {
        return false;
    }
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29) != 0;
}

/* The instructions keep the state as two registers, (a, b, e, f) and
 * (c, d, g, h), highest word first. */
#    define TARGET __attribute__((target("sha,sse4.1,ssse3")))

TARGET static inline __m128i
four_rounds(__m128i *abef, __m128i *cdgh, __m128i w, const uint32_t *k)
{
    __m128i wk = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *)k));

    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0e));
    return w;
}

/* w[t..t+3] from the sixteen before. */
TARGET static inline __m128i
schedule(__m128i w0, __m128i w1, __m128i w2, __m128i w3)
{
    __m128i s = _mm_sha256msg1_epu32(w0, w1);

    s = _mm_add_epi32(s, _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(s, w3);
}

TARGET static inline void
block(__m128i *abef, __m128i *cdgh, const uint8_t *data)
{
    const __m128i swap =
        _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i save0 = *abef, save1 = *cdgh, w[4];

#    pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        w[i] = _mm_shuffle_epi8(
            _mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
        four_rounds(abef, cdgh, w[i], lev_sha256_k + 4 * i);
    }
#    pragma GCC unroll 3
    for (int i = 16; i < 64; i += 16) {
#    pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            w[j] =
                schedule(w[j], w[(j + 1) & 3], w[(j + 2) & 3], w[(j + 3) & 3]);
            four_rounds(abef, cdgh, w[j], lev_sha256_k + i + 4 * j);
        }
    }
    *abef = _mm_add_epi32(*abef, save0);
    *cdgh = _mm_add_epi32(*cdgh, save1);
}

TARGET void
lev_sha256_ni(uint32_t state[8], const uint8_t *data, size_t n)
{
    __m128i dcba = _mm_loadu_si128((const __m128i *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
    __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

    for (; n > 0; n--, data += 64) {
        block(&abef, &cdgh, data);
    }
    cdab = _mm_shuffle_epi32(abef, 0x1b);
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(cdab, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(efgh, cdab, 8));
}

#else

bool
lev_sha256_ni_usable(void)
{
    return false;
}

void
lev_sha256_ni(uint32_t state[8], const uint8_t *data, size_t n)
{
    __builtin_unreachable();
}

#endif
