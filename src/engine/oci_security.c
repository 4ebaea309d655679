/* oci_security.c - security_opt, the system call filter, AppArmor. */

#include "oci_spec_internal.h"

#include <string.h>
#include <unistd.h>

#include "seccomp_profile.h"

/* ---- the option ---- */

static int
unsupported(const char *text, const char *why, struct lev_error *err)
{
    return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                         "engine oci: option 'security_opt': '%.100s': %s",
                         text, why);
}

static bool
has_selinux(void)
{
    return access("/sys/fs/selinux/enforce", F_OK) == 0;
}

static bool
has_apparmor_profile(const char *name)
{
    _cleanup_fclose_ FILE *f =
        fopen("/sys/kernel/security/apparmor/profiles", "re");
    size_t len = strlen(name);
    char line[256];

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            return true;
        }
    }
    return false;
}

/* `value` is what follows the name and "=" or ":"; NULL for nothing. */
static int
take_one(struct lev_oci_security *to, const char *text, const char *value,
         struct lev_error *err)
{
    bool unconfined = value != NULL && strcmp(value, "unconfined") == 0;

    if (strncmp(text, "no-new-privileges", 17) == 0) {
        to->no_new_privileges = value == NULL || strcmp(value, "true") == 0;
        return to->no_new_privileges || strcmp(value, "false") == 0
                   ? 0
                   : unsupported(text, "expected true or false", err);
    }
    if (strncmp(text, "seccomp", 7) == 0) {
        to->unfiltered = unconfined;
        return unconfined ? 0
                          : unsupported(text,
                                        "its filter is the default profile "
                                        "or 'unconfined'",
                                        err);
    }
    if (strncmp(text, "systempaths", 11) == 0) {
        to->unmasked = unconfined;
        return unconfined ? 0 : unsupported(text, "only 'unconfined'", err);
    }
    if (strncmp(text, "apparmor", 8) == 0) {
        to->apparmor = value;
        return unconfined || has_apparmor_profile(value)
                   ? 0
                   : unsupported(text,
                                 "this machine's kernel has not loaded that "
                                 "AppArmor profile",
                                 err);
    }
    /* label=…: without SELinux there is nothing to label. */
    return strcmp(value, "disable") == 0 && !has_selinux()
               ? 0
               : unsupported(text, "containers are not labelled for SELinux",
                             err);
}

int
lev_oci_security(const struct lev_oci_spec *s, struct lev_oci_security *to,
                 struct lev_error *err)
{
    json_t *item;
    size_t i;

    *to = (struct lev_oci_security){0};
    json_array_foreach(lev_json_get(s->host, "SecurityOpt"), i, item)
    {
        const char *text = json_string_value(item);
        size_t len = strcspn(text, "=:");

        if (take_one(to, text, text[len] == '\0' ? NULL : text + len + 1,
                     err) < 0) {
            return -1;
        }
    }
    if (lev_oci_is_privileged(s)) {
        to->unfiltered = to->unmasked = true;
    }
    return 0;
}

/* ---- what comes of it ---- */

static int
add_seccomp(const struct lev_oci_spec *s, uint64_t caps, json_t *spec,
            struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf bpf = {0}, text = {0};
    json_t *profile;

    if (!s->takes_bpf) {
        profile = lev_seccomp_json(caps, err);
        return profile == NULL
                   ? -1
                   : json_object_set_new(json_object_get(spec, "linux"),
                                         "seccomp", profile);
    }
    if (lev_seccomp_bpf(caps, s->cache_dir, &bpf, err) < 0) {
        return -1;
    }
    lev_buf_base64(&text, bpf.data, bpf.len, false);
    if (lev_buf_check(&text, "seccomp filter", err) < 0) {
        return -1;
    }
    return json_object_set_new(
        spec, "annotations",
        json_pack("{s:s}", "run.oci.seccomp_bpf_data", text.data));
}

/* Docker's own profile, where Docker has loaded it. */
static const char *
apparmor_profile(const struct lev_oci_spec *s,
                 const struct lev_oci_security *security)
{
    if (security->apparmor != NULL) {
        return strcmp(security->apparmor, "unconfined") == 0
                   ? NULL
                   : security->apparmor;
    }
    return !lev_oci_is_privileged(s) && has_apparmor_profile("docker-default")
               ? "docker-default"
               : NULL;
}

int
lev_oci_secure(const struct lev_oci_spec *s,
               const struct lev_oci_security *security, uint64_t caps,
               json_t *spec, struct lev_error *err)
{
    json_t *process = json_object_get(spec, "process");
    const char *profile = apparmor_profile(s, security);

    json_object_set_new(process, "noNewPrivileges",
                        json_boolean(security->no_new_privileges));
    if (profile != NULL) {
        json_object_set_new(process, "apparmorProfile", json_string(profile));
    }
    return security->unfiltered ? 0 : add_seccomp(s, caps, spec, err);
}
