/* pysession.h - the session as Python sees it: the core's, and a log sink. */
#ifndef LEVPY_PYSESSION_H
#define LEVPY_PYSESSION_H

#include "op.h"
#include "session.h"

typedef struct {
    PyObject_HEAD
    struct lev_session *core;
    Bridge *bridge; /* of the loop it was made on: log records go there */
    PyObject *log;  /* callable(level, logger, text) */
    struct levpy_log *sink;
    struct levpy_lane *lane; /* of ordered updates */
} Session;

/* log.c: a sink whose records go to the session's `log`; NULL when out of
 * memory. The core's session owns it through its base. */
struct levpy_log *levpy_log_new(Session *session);
struct lev_log *levpy_log_base(struct levpy_log *sink);
/* What comes from now on is dropped: the session goes. */
void levpy_log_silence(struct levpy_log *sink);

/* The session of the running loop, made where there is none; a new reference.
 * The glue decides: levrt.run() has made one, or it is implicit. */
Session *levpy_session_current(struct levpy_state *st);

bool levpy_is_mapping(PyObject *value);
/* `value` (a mapping, or None) as BSON; NULL without an exception for None. */
int levpy_to_bson(struct levpy_state *st, PyObject *value, const char *what,
                  bson_t **out);
/* A projection: a mapping, a list of names, one name, or None. */
int levpy_projection(struct levpy_state *st, PyObject *value, bson_t **out);

/* leftovers.c: Session.gc() */
PyObject *levpy_session_gc(Session *self, PyObject *args, PyObject *kwargs);

/* An op for the first document that matches, or None. Takes the BSON over. */
PyObject *levpy_find_one(struct levpy_state *st, Session *session,
                         const char *name, const char *coll, bson_t *query,
                         bson_t *projection);
enum levpy_update_flags {
    LEVPY_UPSERT = 1,
    LEVPY_MULTI = 2,
    LEVPY_QUIET = 4,   /* its result is None */
    LEVPY_ORDERED = 8, /* after the ordered ones that began before */
};
/* An op for an update: a tuple (matched, modified, upserted id or None). Takes
 * the BSON over. Without a `change` (NULL) it does nothing, in its turn. */
PyObject *levpy_update(struct levpy_state *st, Session *session,
                       const char *name, const char *coll, bson_t *query,
                       bson_t *change, unsigned flags);

#endif
