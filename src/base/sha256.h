/* sha256.h - SHA-256 (FIPS 180-4), for names and identities.
 *
 * Not for secrets: nothing is wiped. A struct is one thread's.
 */
#ifndef LEV_SHA256_H
#define LEV_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct lev_sha256 {
    uint32_t state[8];
    uint64_t len; /* bytes so far */
    uint8_t block[64];
};

void lev_sha256_init(struct lev_sha256 *h);
void lev_sha256_update(struct lev_sha256 *h, const void *data, size_t len);
/* 64 lower case digits and a NUL; `h` must be initialised again afterwards. */
void lev_sha256_hex(struct lev_sha256 *h, char hex[65]);

#endif
