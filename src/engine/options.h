/* options.h - the table of create and host_config options.
 *
 * One row per option: its name, the forms its value may have, where it goes in
 * the Engine API's JSON, and which engines honour it. The table checks a
 * user's `host_config=`/`options=` when a Cr is made (so that a mistake is
 * reported where it was written), and builds the JSON when the container is
 * created. Values arrive as BSON; the binding does the conversion from Python.
 */
#ifndef LEV_OPTIONS_H
#define LEV_OPTIONS_H

#include "error.h"
#include <bson/bson.h>
#include <jansson.h>

/* Names and values; TYPE or INVALID naming the option, what was expected and
 * what came; UNSUPPORTED_OPTION for a known one that is not there yet (naming
 * it), INVALID with the nearest known name for an unknown one. */
int lev_options_check(const bson_t *options, struct lev_error *err);
/* Adds the options to `config` (the create request's body) and `host_config`
 * (its HostConfig). UNSUPPORTED_OPTION naming option and engine. */
int lev_options_apply(const bson_t *options, const char *engine,
                      json_t *config, json_t *host_config,
                      struct lev_error *err);
/* A size: bytes, or "[number][b|k|m|g]" with fractions ("1.5g"). */
int lev_options_size(const char *text, int64_t *bytes, struct lev_error *err);

#endif
