/* zone.h - time zones: by offset ("+05:30"), or by name from the system's zone
 * files (RFC 8536).
 *
 * Done here because the C library knows one zone for the whole process. An
 * open zone does not change.
 */
#ifndef LEV_ZONE_H
#define LEV_ZONE_H

#include "error.h"
#include <stdint.h>

struct lev_zone;

/* QUERY 40485 for what is no zone. */
struct lev_zone *lev_zone_open(const char *name, struct lev_error *err);
void lev_zone_close(struct lev_zone *z); /* NULL is fine */
const char *lev_zone_name(const struct lev_zone *z);
/* Local time minus UTC at a moment, in seconds. */
int64_t lev_zone_offset(const struct lev_zone *z, int64_t utc_ms);
/* The moment of a local time; where a clock goes back, the earlier one. */
int64_t lev_zone_to_utc(const struct lev_zone *z, int64_t local_ms);

#endif
