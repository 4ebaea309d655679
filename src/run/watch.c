#include "session_internal.h"

#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include "helper.h"
#include "worker.h"

/* lev-reaper, where the engine's containers are a daemon's (session.h). It is
 * started with the first such engine, before anything is on it, and not waited
 * for: what it is told lies in its socket until it reads. */

static const struct lev_scope at_once = {0, NULL};

/* With the mutex held. */
static void
tell(struct lev_session *s, json_t *message)
{
    struct lev_error err;

    if (s->watch == NULL) {
        json_decref(message);
        return;
    }
    if (lev_helper_tell(s->watch, &at_once, message, &err) < 0) {
        lev_log(s->config.log, LEV_WARNING, "lev",
                "lev-reaper does not listen; what this session leaves when "
                "its process is killed is removed by the next one: %s",
                err.msg);
    }
}

/* It leaves us at once; what is left of that is no child for the program to
 * meet when it waits for its own. */
static void
reap(void *arg)
{
    waitpid((pid_t)(intptr_t)arg, NULL, 0);
}

static struct lev_helper *
start(const struct lev_session *s, struct lev_error *err)
{
    _cleanup_free_ char *reaper = NULL, *sweeper = NULL;
    struct lev_helper *h;
    struct lev_error none;

    if (lev_engine_program(NULL, "lev-reaper", &reaper, err) < 0 ||
        lev_engine_program(NULL, "lev-sweep", &sweeper, err) < 0)
    {
        return NULL;
    }
    h = lev_helper_spawn(
        (const char *const[]){reaper, "watch", s->id, sweeper, NULL}, err);
    if (h != NULL) {
        lev_thread_start("lev-watch", reap,
                         (void *)(intptr_t)lev_helper_pid(h), &none);
    }
    return h;
}

static json_t *
endpoint_message(struct lev_engine *e)
{
    struct lev_engine_config c;

    e->ops->endpoint(e, &c);
    return json_pack("{s:s, s:s, s:s?, s:b, s:s?}", "op", "endpoint", "url",
                     e->url, "docker_config", c.docker_config, "tls_verify",
                     c.tls_verify, "cert_path", c.tls_cert_path);
}

void
lev_session_watch(struct lev_session *s, struct lev_engine *e)
{
    struct lev_error err;

    pthread_mutex_lock(&s->mutex);
    if (e->ops->endpoint == NULL) {
        if (s->dir != NULL) {
            e->ops->adopt(e, s->dir);
        }
        pthread_mutex_unlock(&s->mutex);
        return;
    }
    if (s->watch == NULL && !s->unwatched) {
        s->watch = start(s, &err);
        if (s->watch == NULL) {
            s->unwatched = true;
            lev_log(s->config.log, LEV_WARNING, "lev",
                    "lev-reaper does not start; what this session leaves when "
                    "its process is killed is removed by the next one: %s",
                    err.msg);
        }
        if (s->watch != NULL && s->dir != NULL) {
            tell(s, json_pack("{s:s, s:s}", "op", "dir", "path", s->dir));
        }
    }
    tell(s, endpoint_message(e));
    pthread_mutex_unlock(&s->mutex);
}

void
lev_session_watch_dir(struct lev_session *s)
{
    tell(s, json_pack("{s:s, s:s}", "op", "dir", "path", s->dir));
    for (struct lev_site *site = s->sites; site != NULL; site = site->next) {
        if (site->engine->ops->adopt != NULL) {
            site->engine->ops->adopt(site->engine, s->dir);
        }
    }
}

void
lev_session_watch_end(struct lev_session *s, bool clean)
{
    pthread_mutex_lock(&s->mutex);
    tell(s, json_pack("{s:s, s:b}", "op", "end", "clean", clean));
    lev_helper_release(lev_steal(s->watch));
    pthread_mutex_unlock(&s->mutex);
}
