#include "session_internal.h"

#include <string.h>

/* What dead sessions have left (gc.h), on an engine that is opened for this
 * alone: the session's own sweeps by itself. */

#define AT_ONCE 8

static void
append_text(bson_t *doc, const char *key, const char *text)
{
    if (text == NULL) {
        bson_append_null(doc, key, -1);
    }
    else {
        bson_append_utf8(doc, key, -1, text, -1);
    }
}

static void
append_found(bson_t *out, const char *engine, const struct lev_found *list)
{
    char key[16];
    unsigned i = 0;

    for (const struct lev_found *f = list; f != NULL; f = f->next) {
        bson_t doc;

        snprintf(key, sizeof(key), "%u", i++);
        bson_append_document_begin(out, key, -1, &doc);
        append_text(&doc, "engine", engine);
        append_text(&doc, "kind", lev_leftover_name(f->kind));
        append_text(&doc, "name", f->name);
        append_text(&doc, "id", f->id);
        append_text(&doc, "session", f->session);
        append_text(&doc, "reason", f->reason);
        bson_append_bool(&doc, "removed", -1, f->removed);
        append_text(&doc, "error", f->error);
        bson_append_document_end(out, &doc);
    }
}

int
lev_session_gc(struct lev_session *s, const struct lev_scope *scope,
               const char *url, const struct lev_gc *gc, bool dry, bson_t *out,
               struct lev_error *err)
{
    struct lev_discover d = s->config.discover;
    _cleanup_found_ struct lev_found *list = NULL;
    struct lev_engine *e;
    int rc;

    d.gc_only = true;
    if (url != NULL) {
        d.engine = (char *)url;
        d.engine_source = "engine= of gc()";
    }
    e = lev_discover_open(&d, s->config.log, scope, err);
    if (e == NULL) {
        return -1;
    }
    rc = lev_gc_dead(e, scope, gc, dry, AT_ONCE, &list, err);
    if (rc == 0) {
        append_found(out, e->url, list);
    }
    lev_engine_unref(e);
    return rc;
}
