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

/* options_values.c: numbers, names, addresses, file systems. */
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
/* options_system.c: what of the machine's a container shares, and how. */
lev_option_convert lev_option_true; /* false is refused */
lev_option_convert lev_option_domain;
lev_option_convert lev_option_words; /* a list of str without spaces */
lev_option_convert lev_option_labels;
lev_option_convert lev_option_groups;
lev_option_convert lev_option_cpus;
lev_option_convert lev_option_sysctls;
lev_option_convert lev_option_pid_mode;
lev_option_convert lev_option_ipc_mode;
lev_option_convert lev_option_userns_mode;
lev_option_convert lev_option_security;
/* options_ports.c */
lev_option_convert lev_option_ports;
lev_option_convert lev_option_port_bindings;

/* For converters: "option 'NAME': expected WHAT, got 'GOT'", -1. */
int lev_option_invalid(const struct lev_option *o, const char *expected,
                       const char *got, struct lev_error *err);
/* NOMEM when it is NULL. */
json_t *lev_option_result(json_t *json, const struct lev_option *o,
                          struct lev_error *err);
/* Its text, borrowed; NULL with TYPE when it is no str, INVALID when there is
 * a NUL in it. */
const char *lev_option_text(const struct lev_option *o,
                            const bson_iter_t *value, const char *expected,
                            struct lev_error *err);
/* Calls `each` for the items of a list; their results go into an array. */
json_t *lev_option_list(const struct lev_option *o, const bson_iter_t *value,
                        const char *expected, lev_option_convert *each,
                        struct lev_error *err);
bool lev_option_is_int(const bson_iter_t *value);
bool lev_option_is_address(const char *text);

#endif
