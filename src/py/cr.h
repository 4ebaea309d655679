/* cr.h - levrt.Cr: what to run, checked when it is made. */
#ifndef LEVPY_CR_H
#define LEVPY_CR_H

#include "pysession.h"
#include "run.h"

/* Every PyObject * of a Cr, once; they are also its attributes. Normalised
 * copies: what the caller does to its own lists later does not matter. */
#define LEVPY_CR_MEMBERS(X)                                                   \
    X(image)       /* str */                                                  \
    X(schema)      /* str or None */                                          \
    X(host)        /* bool */                                                 \
    X(entry)       /* RemoteCall or None */                                   \
    X(cmd)         /* list[str] or None */                                    \
    X(env)         /* list[str] */                                            \
    X(files)       /* dict[str, bytes | str | PathLike] */                    \
    X(links)       /* dict[str, str] */                                       \
    X(ports)       /* list[int] */                                            \
    X(services)    /* dict[str, Cr] */                                        \
    X(timeout)     /* float or None */                                        \
    X(check)       /* bool or list[int] */                                    \
    X(host_config) /* dict */                                                 \
    X(options)     /* dict */                                                 \
    X(pull)        /* str */                                                  \
    X(engine)      /* str or None */                                          \
    X(name)        /* str or None */                                          \
    X(keep)        /* bool */

typedef struct {
    PyObject_HEAD
#define X(name) PyObject *name;
    LEVPY_CR_MEMBERS(X)
#undef X
} Cr;

/* cr_check.c: each takes what the caller gave (NULL: the default) and returns
 * the normalised object, or NULL with TypeError or ValueError that names the
 * parameter. */
PyObject *levpy_check_image(PyObject *value);
PyObject *levpy_check_schema(PyObject *value);
PyObject *levpy_check_flag(PyObject *value, const char *name, bool absent);
PyObject *levpy_check_entry(struct levpy_state *st, PyObject *value);
PyObject *levpy_check_cmd(PyObject *value);
PyObject *levpy_check_env(PyObject *value);
PyObject *levpy_check_files(struct levpy_state *st, PyObject *value);
PyObject *levpy_check_links(PyObject *value);
PyObject *levpy_check_ports(PyObject *value);
PyObject *levpy_check_services(struct levpy_state *st, PyObject *value);
PyObject *levpy_check_timeout(PyObject *value);
PyObject *levpy_check_accepted(PyObject *value);
PyObject *levpy_check_pull(PyObject *value);
PyObject *levpy_check_text(PyObject *value, const char *name);
PyObject *levpy_check_options(PyObject *value, const char *name);
/* What one parameter alone does not show. */
int levpy_check_together(struct levpy_state *st, Cr *cr);

/* cr_spec.c: the Cr frozen for one run of `session`; its entry is pickled
 * here. `prefix` is the namespace's name or "". NULL with an exception. */
struct lev_run_spec *levpy_cr_spec(struct levpy_state *st, Cr *cr,
                                   const char *prefix);
/* options and host_config in one; NULL without an exception when both are
 * empty. */
int levpy_cr_options(struct levpy_state *st, Cr *cr, bson_t **out);

#endif
