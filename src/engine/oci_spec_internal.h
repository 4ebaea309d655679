/* oci_spec_internal.h - the parts of a config.json that have files of their
 * own. Each takes from the options what is its business. */
#ifndef LEV_OCI_SPEC_INTERNAL_H
#define LEV_OCI_SPEC_INTERNAL_H

#include "oci_spec.h"

bool lev_oci_is_privileged(const struct lev_oci_spec *s);

/* oci_limits.c */
/* "rlimits" of the process; a new reference. */
json_t *lev_oci_rlimits(const struct lev_oci_spec *s, struct lev_error *err);
/* "resources" of linux, with these device rules; a new reference. */
json_t *lev_oci_resources(const struct lev_oci_spec *s, const json_t *rules,
                          struct lev_error *err);
/* "sysctl" of linux; a new reference. */
json_t *lev_oci_sysctls(const struct lev_oci_spec *s, struct lev_error *err);

/* oci_security.c */
struct lev_oci_security {
    bool no_new_privileges;
    bool unfiltered;      /* no seccomp */
    bool unmasked;        /* all of /proc and /sys */
    const char *apparmor; /* borrowed; NULL: the default */
};
/* The option "security_opt". */
int lev_oci_security(const struct lev_oci_spec *s, struct lev_oci_security *to,
                     struct lev_error *err);
/* Adds filter, profile and flag to the whole of a config.json. */
int lev_oci_secure(const struct lev_oci_spec *s,
                   const struct lev_oci_security *security, uint64_t caps,
                   json_t *spec, struct lev_error *err);

#endif
