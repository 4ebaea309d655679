/* sha256_internal.h - the compression function of SHA-256, as the processor at
 * hand does it best. Chosen once, by the first use; any thread.
 */
#ifndef LEV_SHA256_INTERNAL_H
#define LEV_SHA256_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const uint32_t lev_sha256_k[64];

/* Both: `n` blocks of 64 bytes. The second only where _usable() says so. */
bool lev_sha256_ni_usable(void);
void lev_sha256_ni(uint32_t state[8], const uint8_t *data, size_t n);

#endif
