#include "engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int
lev_engine_program(const char *bin_dir, const char *name, char **path,
                   struct lev_error *err)
{
    Dl_info info;
    const char *slash;

    if (bin_dir != NULL) {
        if (asprintf(path, "%s/%s", bin_dir, name) < 0) {
            *path = NULL;
        }
    }
    else if (dladdr(&lev_engine_program, &info) != 0 &&
             (slash = strrchr(info.dli_fname, '/')) != NULL)
    {
        if (asprintf(path, "%.*s/bin/%s", (int)(slash - info.dli_fname),
                     info.dli_fname, name) < 0)
        {
            *path = NULL;
        }
    }
    if (*path == NULL) {
        return lev_error_nomem(err, name);
    }
    if (access(*path, X_OK) < 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, errno,
                             "%s: %s; is levrt installed whole?", *path,
                             strerrordesc_np(errno));
    }
    return 0;
}

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
