/* credentials.h - the user's credentials for a registry, as docker keeps them.
 *
 * $DOCKER_CONFIG/config.json: `credHelpers` for the registry, then
 * `credsStore`, then `auths`. Helpers (docker-credential-NAME) are run within
 * the scope; their output is never logged.
 */
#ifndef LEV_CREDENTIALS_H
#define LEV_CREDENTIALS_H

#include "buf.h"
#include "scope.h"

struct lev_credentials {
    char *username, *password; /* NULL: none are kept for this registry */
    char *identity_token;      /* or NULL */
    char *server;              /* as the key in the file */
};

/* `config_dir` NULL: ~/.docker. A missing file or entry is no error; a file
 * that cannot be read or parsed, or a helper that fails: IMAGE naming it. */
int lev_credentials_find(const char *config_dir, const char *registry,
                         const struct lev_scope *scope,
                         struct lev_credentials *out, struct lev_error *err);
void lev_credentials_deinit(struct lev_credentials *c); /* wipes the secrets */
#define _cleanup_credentials_ _cleanup_(lev_credentials_deinit)

/* The X-Registry-Auth header's value (URL-safe base64 of JSON). */
int lev_credentials_header(const struct lev_credentials *c,
                           struct lev_buf *out, struct lev_error *err);

#endif
