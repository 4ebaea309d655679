/* docker_fixture.h - what the tests of the Docker back end share: an engine
 * named by LEVRT_TEST_DOCKER, an image of busybox in it, and containers that
 * are run to their end. */
#ifndef LEV_DOCKER_FIXTURE_H
#define LEV_DOCKER_FIXTURE_H

#include "engine.h"

#define TEST_IMAGE "levrt-test/busybox:1"

extern const struct lev_scope forever;
extern struct lev_engine *engine;
extern const struct lev_engine_ops *ops;
extern const char *const test_labels[2]; /* "zone.lev.test=<pid>", NULL */

/* Opens the engine and makes the image; exits with 77 without an engine. */
void fixture_start(void);
/* Fails when the tests left containers, networks or connections. */
void fixture_end(void);

/* Ends the program with the error's text. */
void fixture_fail(const char *what, const struct lev_error *err)
    __attribute__((noreturn));
#define MUST(call)                                                            \
    do {                                                                      \
        if ((call) < 0) {                                                     \
            fixture_fail(#call, &err);                                        \
        }                                                                     \
    } while (0)

struct captured {
    struct lev_output base;
    struct lev_buf text[3]; /* [1] stdout, [2] stderr */
    int lost;               /* times the connection broke */
};

void captured_init(struct captured *c);
void captured_deinit(struct captured *c);

/* A spec with a fresh name that runs `sh -c script`. */
struct lev_container_spec sh_spec(const char *script);
/* Creates it; its id is the caller's. */
char *create(const struct lev_container_spec *spec);
/* From create to inspect and removal; the exit code. `state` may be NULL. */
int run(const struct lev_container_spec *spec, struct captured *c,
        struct lev_container_state *state);
/* Attaches to `id` and starts it. */
struct lev_process *begin(const char *id, struct captured *c);
/* Polls until it has ended; the exit code. */
int finish(struct lev_process *p);
/* A request of the test's own; its status. */
long raw(const char *method, const char *path);

#endif
