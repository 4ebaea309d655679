#include "regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* About 0.1 s of backtracking; honest patterns need thousands of steps. */
#define MATCH_LIMIT 2000000
#define HEAP_LIMIT_KIB 65536

struct lev_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
    char *pattern; /* for messages */
};

static inline void
regex_destroyp(struct lev_regex **re)
{
    lev_regex_destroy(*re);
}

void
lev_regex_destroy(struct lev_regex *re)
{
    if (re == NULL) {
        return;
    }
    pcre2_code_free(re->code);
    pcre2_match_context_free(re->limits);
    free(re->pattern);
    free(re);
}

static int
options_of(const char *text, uint32_t *options, struct lev_error *err)
{
    /* UTF: patterns and text are. Bytes that are not are left unmatched. */
    *options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
    for (const char *p = text; *p != '\0'; p++) {
        switch (*p) {
        case 'i':
            *options |= PCRE2_CASELESS;
            break;
        case 'm':
            *options |= PCRE2_MULTILINE;
            break;
        case 's':
            *options |= PCRE2_DOTALL;
            break;
        case 'x':
            *options |= PCRE2_EXTENDED;
            break;
        case 'u': /* UTF, which is always on */
            break;
        default:
            return lev_error_set(
                err, LEV_E_QUERY, 51108,
                "$options '%s': '%c' is none of i, m, s, x, u", text, *p);
        }
    }
    return 0;
}

static int
compile(struct lev_regex *re, uint32_t options, struct lev_error *err)
{
    PCRE2_UCHAR why[128];
    PCRE2_SIZE at;
    int rc;

    re->code = pcre2_compile((PCRE2_SPTR)re->pattern, PCRE2_ZERO_TERMINATED,
                             options, &rc, &at, NULL);
    if (re->code != NULL) {
        return 0;
    }
    pcre2_get_error_message(rc, why, sizeof(why));
    return lev_error_set(err, LEV_E_QUERY, 51091,
                         "the regular expression '%s' is not one: %s at "
                         "character %zu",
                         re->pattern, (const char *)why, (size_t)at);
}

struct lev_regex *
lev_regex_compile(const char *pattern, const char *options,
                  struct lev_error *err)
{
    _cleanup_(regex_destroyp) struct lev_regex *re = calloc(1, sizeof(*re));
    uint32_t flags;

    if (re == NULL || (re->pattern = strdup(pattern)) == NULL ||
        (re->limits = pcre2_match_context_create(NULL)) == NULL)
    {
        lev_error_nomem(err, "regular expression");
        return NULL;
    }
    pcre2_set_match_limit(re->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(re->limits, HEAP_LIMIT_KIB);
    if (options_of(options, &flags, err) < 0 || compile(re, flags, err) < 0) {
        return NULL;
    }
    return lev_steal(re);
}

int
lev_regex_search(const struct lev_regex *re, const char *text, size_t len,
                 struct lev_error *err)
{
    /* Whether, not where: one pair is enough. */
    pcre2_match_data *found = pcre2_match_data_create(1, NULL);
    PCRE2_UCHAR why[128];
    int rc;

    if (found == NULL) {
        return lev_error_nomem(err, "regular expression");
    }
    rc = pcre2_match(re->code, (PCRE2_SPTR)text, len, 0, 0, found, re->limits);
    pcre2_match_data_free(found);
    if (rc >= 0) {
        return 1;
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        return 0;
    }
    pcre2_get_error_message(rc, why, sizeof(why));
    return lev_error_set(err, LEV_E_QUERY, 51156,
                         "the regular expression '%s' was given up on a text "
                         "of %zu bytes: %s; write it without nested repeats",
                         re->pattern, len, (const char *)why);
}
