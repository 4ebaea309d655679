/* options_internal.h - a row of the table, and the forms of its values. */
#ifndef LEV_OPTIONS_INTERNAL_H
#define LEV_OPTIONS_INTERNAL_H

#include "json.h"
#include "options.h"

struct lev_option;

/* The Engine API's value, as a new reference; TYPE or INVALID naming the
 * option. */
typedef json_t *lev_option_convert(const struct lev_option *o,
                                   const bson_iter_t *value,
                                   struct lev_error *err);

struct lev_option {
    const char *name;
    lev_option_convert *convert; /* NULL: known, but not there yet */
    enum {
        LEV_OPTION_HOST, /* a member of HostConfig */
        LEV_OPTION_CONFIG,
    } place;
    const char *key;
    int64_t min, max; /* of a number; both 0: any */
    /* What a user wants who gives an option that is not there ("env= of the
     * Cr"), or NULL. */
    const char *instead;
};

extern const struct lev_option lev_option_table[];
extern const size_t lev_option_count;

/* "option 'NAME': expected WHAT, got TYPE", the type as Python calls it. */
int lev_option_type_error(const struct lev_option *o, const bson_iter_t *value,
                          const char *expected, struct lev_error *err);

lev_option_convert lev_option_bool;
lev_option_convert lev_option_int;
lev_option_convert lev_option_size;      /* a size ≥ 0 */
lev_option_convert lev_option_swap_size; /* or -1 */
lev_option_convert lev_option_user;      /* a name, or a number */
lev_option_convert lev_option_hostname;
lev_option_convert lev_option_network_mode;
lev_option_convert lev_option_absolute_path;
lev_option_convert lev_option_capabilities;
lev_option_convert lev_option_addresses;
lev_option_convert lev_option_extra_hosts;
lev_option_convert lev_option_tmpfs;
lev_option_convert lev_option_ulimits;
lev_option_convert lev_option_devices;

#endif
