/* json.h - reading and writing JSON, by jansson.
 *
 * For answers that are not trusted: nothing is assumed to be there or to be of
 * the type that the specification says. A getter takes a path of member names
 * and array indices joined by dots ("State.Health.Status", "Mounts.0.Source";
 * members whose own name has a dot are read by json_object_get()) and gives
 * what it finds only when the type is right. Values are borrowed from the
 * document. A document may be read by any thread, one at a time (jansson
 * counts references without locking).
 */
#ifndef LEV_JSON_H
#define LEV_JSON_H

#include "buf.h"

#include <jansson.h>

#define LEV_JSON_MAX (64u * 1024 * 1024)

static inline void
lev_json_decrefp(json_t **v)
{
    json_decref(*v);
}
#define _cleanup_json_ _cleanup_(lev_json_decrefp)

/* A new reference. ENGINE when it is no JSON or larger than LEV_JSON_MAX;
 * `what` ("the engine's answer") begins the message, which tells line, column
 * and what stands there. An integer beyond int64 becomes a real. */
json_t *lev_json_parse(const char *text, size_t len, const char *what,
                       struct lev_error *err);
/* Where in `text` the value of the outermost object's member `name` stands, to
 * be parsed alone: most of a large answer is of no interest, and making values
 * of all of it costs far more than looking for the end of each. NULL when
 * there is none, or when `text` is no object. What is not looked at may be
 * anything. */
const char *lev_json_find(const char *text, size_t len, const char *name,
                          size_t *found);
/* Appends `v` in its shortest form; any value, not only objects. */
int lev_json_dump(const json_t *v, struct lev_buf *out, struct lev_error *err);

/* NULL when nothing is there; JSON's null is a value. `v` may be NULL. */
json_t *lev_json_get(const json_t *v, const char *path);
/* NULL when there is no string. */
const char *lev_json_str(const json_t *v, const char *path);
/* `absent` when there is no number that is an integer of 64 bits. */
int64_t lev_json_int(const json_t *v, const char *path, int64_t absent);
/* `absent` when there is no number. */
double lev_json_real(const json_t *v, const char *path, double absent);
/* `absent` when there is neither true nor false. */
bool lev_json_bool(const json_t *v, const char *path, bool absent);

#endif
