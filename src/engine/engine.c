#include "engine.h"

#include <string.h>

struct lev_engine *
lev_engine_ref(struct lev_engine *e)
{
    e->refs++;
    return e;
}

void
lev_engine_unref(struct lev_engine *e)
{
    if (e != NULL && --e->refs == 0) {
        e->ops->destroy(e);
    }
}

void
lev_image_deinit(struct lev_image *image)
{
    free(image->id);
    free(image->digest);
    free(image->arch);
    free(image->user);
    free(image->working_dir);
    free(image->stop_signal);
    lev_strv_free(image->entrypoint);
    lev_strv_free(image->cmd);
    lev_strv_free(image->env);
    *image = (struct lev_image){0};
}

void
lev_mount_deinit(struct lev_mount *mount)
{
    free(mount->source);
    free(mount->target);
    *mount = (struct lev_mount){0};
}

void
lev_listed_free(struct lev_listed *list)
{
    while (list != NULL) {
        struct lev_listed *next = list->next;

        free(list->id);
        free(list->name);
        free(list->subnet);
        lev_strv_free(list->labels);
        free(list);
        list = next;
    }
}
