/* registry_auth.h - what a registry asks for when it answers 401 (RFC 9110,
 * 11.6.1; the distribution project's token authentication), and the answer.
 */
#ifndef LEV_REGISTRY_AUTH_H
#define LEV_REGISTRY_AUTH_H

#include "buf.h"
#include "credentials.h"

struct lev_challenge {
    bool basic, bearer;
    char realm[1024], service[256], scope[1024]; /* of bearer */
};

/* From an answer's headers, as received. */
void lev_challenge_parse(const char *headers, struct lev_challenge *c);

/* "Basic …" for the user's name and password. */
int lev_auth_basic(const struct lev_credentials *cred, struct lev_buf *out,
                   struct lev_error *err);
/* What is asked of the token server: query of a GET or form of a POST. */
int lev_auth_query(const struct lev_challenge *c, const char *scope,
                   const struct lev_credentials *cred, struct lev_buf *out,
                   struct lev_error *err);
/* "Bearer …" from its answer. PULL when there is none in it. */
int lev_auth_token(const struct lev_buf *answer, const char *realm,
                   struct lev_buf *out, struct lev_error *err);

/* The words of a registry's error JSON, or "" when there are none. */
void lev_registry_words(const struct lev_buf *body, char *out, size_t len);

#endif
