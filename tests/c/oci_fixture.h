/* oci_fixture.h - an engine without a daemon for a test, with its store in a
 * directory that goes with it, and an image of the host's busybox. */
#ifndef LEV_OCI_FIXTURE_H
#define LEV_OCI_FIXTURE_H

#include "oci.h"

struct oci_fixture {
    struct lev_engine *e;
    char dir[64];
};

/* Ends the test program with 77 (skipped) where it cannot run. */
void oci_fixture_open(struct oci_fixture *f);
void oci_fixture_close(struct oci_fixture *f);

/* The result of one container. */
struct oci_result {
    struct lev_output out; /* first */
    struct lev_buf text[2];
    int code;
    struct lev_container_state state;
};

/* A minute from now. */
struct lev_scope oci_soon(void);
/* `options` as relaxed JSON, or NULL; `change` may be NULL. */
char *oci_make(struct oci_fixture *f, const char *const *cmd,
               const char *options,
               void (*change)(struct lev_container_spec *spec));
/* Start, wait, inspect; `id` stays. */
void oci_go(struct oci_fixture *f, const char *id, struct oci_result *r);
/* All of it, and remove. */
void oci_run(struct oci_fixture *f, const char *const *cmd,
             const char *options, struct oci_result *r);
void oci_result_deinit(struct oci_result *r);

#define OCI_SH(text) ((const char *const[]){"sh", "-c", text, NULL})

#endif
