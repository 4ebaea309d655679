/* seccomp_profile.h - which system calls a container may make.
 *
 * The meaning is that of Docker 20.10's default profile, with two things
 * refused that later ones refuse as well: io_uring (a way around the filter)
 * and AF_VSOCK (a way to the hypervisor). One table gives both forms: the OCI
 * specification's JSON for runc, and a BPF program, compiled by libseccomp,
 * that crun takes ready made (compiling in every start costs 13 ms). Any
 * thread.
 */
#ifndef LEV_SECCOMP_PROFILE_H
#define LEV_SECCOMP_PROFILE_H

#include "json.h"
#include <stdint.h>

/* For a container with these capabilities. A new reference. */
json_t *lev_seccomp_json(uint64_t caps, struct lev_error *err);
/* Appends an array of struct sock_filter. With `cache_dir` (may be NULL) it is
 * looked for, and kept, there by the hash of what it was made of. */
int lev_seccomp_bpf(uint64_t caps, const char *cache_dir, struct lev_buf *bpf,
                    struct lev_error *err);

#endif
