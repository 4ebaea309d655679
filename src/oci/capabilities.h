/* capabilities.h - Linux capabilities as bit sets, by their names.
 *
 * Pure functions, any thread.
 */
#ifndef LEV_CAPABILITIES_H
#define LEV_CAPABILITIES_H

#include "json.h"
#include <stdint.h>

#define LEV_CAP(n) (UINT64_C(1) << (n)) /* n: CAP_… of linux/capability.h */
/* What Docker gives to a container that asks for nothing. */
#define LEV_CAPS_DEFAULT UINT64_C(0xa80425fb)

/* Those that this process may give: its bounding set. */
uint64_t lev_caps_available(void);
/* By name with or without "CAP_", in any case; "ALL" is all that are
 * available. INVALID for an unknown one. */
int lev_caps_parse(const char *name, uint64_t *caps, struct lev_error *err);
/* The defaults with cap_drop and cap_add (arrays of names, or NULL) applied as
 * Docker does: ALL among the added starts from everything. */
int lev_caps_apply(const json_t *add, const json_t *drop, uint64_t *caps,
                   struct lev_error *err);
/* "CAP_CHOWN", …; a new reference, NULL when out of memory. */
json_t *lev_caps_json(uint64_t caps);

#endif
