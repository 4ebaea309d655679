#include "sha256.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "sha256_internal.h"

/* The first 32 bits of the fractional parts of the cube roots of the first 64
 * primes. */
const uint32_t lev_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t
rotate(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}

static void
expand(const uint8_t *block, uint32_t w[64])
{
    for (int i = 0; i < 16; i++) {
        const uint8_t *p = block + i * 4;

        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
               (uint32_t)p[2] << 8 | p[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];

        w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
}

static void
compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];

    expand(block, w);
    memcpy(s, state, sizeof(s));
    for (int i = 0; i < 64; i++) {
        uint32_t t1 =
            s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
            ((s[4] & s[5]) ^ (~s[4] & s[6])) + lev_sha256_k[i] + w[i];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(*s));
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        state[i] += s[i];
    }
}

static void
portable(uint32_t state[8], const uint8_t *data, size_t n)
{
    for (; n > 0; n--, data += 64) {
        compress(state, data);
    }
}

typedef void blocks_fn(uint32_t state[8], const uint8_t *data, size_t n);

static void
blocks(uint32_t state[8], const uint8_t *data, size_t n)
{
    static _Atomic(blocks_fn *) chosen;
    blocks_fn *fn = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (fn == NULL) { /* two threads at once come to the same result */
        fn = lev_sha256_ni_usable() ? lev_sha256_ni : portable;
        atomic_store_explicit(&chosen, fn, memory_order_relaxed);
    }
    fn(state, data, n);
}

void
lev_sha256_init(struct lev_sha256 *h)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                      0xa54ff53a, 0x510e527f, 0x9b05688c,
                                      0x1f83d9ab, 0x5be0cd19};

    memcpy(h->state, start, sizeof(start));
    h->len = 0;
}

void
lev_sha256_update(struct lev_sha256 *h, const void *data, size_t len)
{
    const uint8_t *from = data;
    size_t have = h->len % 64, n = have == 0 ? 0 : 64 - have;

    n = n < len ? n : len;
    h->len += len;
    if (n > 0) {
        memcpy(h->block + have, from, n);
        if (have + n < 64) {
            return;
        }
        blocks(h->state, h->block, 1);
    }
    from += n;
    len -= n;
    if (len >= 64) {
        blocks(h->state, from, len / 64);
    }
    if (len % 64 > 0) {
        memcpy(h->block, from + len - len % 64, len % 64);
    }
}

void
lev_sha256_hex(struct lev_sha256 *h, char hex[65])
{
    static const uint8_t end[64] = {0x80};
    uint64_t bits = h->len * 8;
    uint8_t length[8];

    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    lev_sha256_update(h, end, 1 + (119 - h->len % 64) % 64);
    lev_sha256_update(h, length, sizeof(length));
    for (int i = 0; i < 8; i++) {
        snprintf(hex + i * 8, 9, "%08x", h->state[i]);
    }
}
