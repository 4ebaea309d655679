#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "store.h"

/* What the library exports. */
#define ENTRY "lev_mongo_ops"

static struct {
    pthread_mutex_t mutex;
    const struct lev_store_ops *ops; /* once loaded */
} loaded = {PTHREAD_MUTEX_INITIALIZER, NULL};

/* lib/lev_mongo.so beside the file that holds this code. */
static char *
library_path(struct lev_error *err)
{
    const char *slash;
    Dl_info self;
    char *path;

    if (dladdr(&loaded, &self) == 0 || self.dli_fname == NULL) {
        lev_error_set(err, LEV_E_STORE, 0,
                      "store: the program's own file is not known, beside "
                      "which the MongoDB back end is");
        return NULL;
    }
    slash = strrchr(self.dli_fname, '/');
    if (asprintf(&path, "%.*slib/lev_mongo.so",
                 slash == NULL ? 0 : (int)(slash + 1 - self.dli_fname),
                 self.dli_fname) < 0)
    {
        lev_error_nomem(err, "path");
        return NULL;
    }
    return path;
}

static const struct lev_store_ops *
load(struct lev_error *err)
{
    _cleanup_free_ char *path = library_path(err);
    const struct lev_store_ops *(*entry)(void) = NULL;
    void *library;

    if (path == NULL) {
        return NULL;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        entry = (const struct lev_store_ops *(*)(void))dlsym(library, ENTRY);
    }
    if (entry == NULL) {
        lev_error_set(err, LEV_E_STORE, 0,
                      "store: the MongoDB back end cannot be loaded (%s); "
                      "install levrt anew, or use sqlite:PATH",
                      dlerror());
        return NULL;
    }
    return entry();
}

const struct lev_store_ops *
lev_store_mongo(struct lev_error *err)
{
    const struct lev_store_ops *ops;

    pthread_mutex_lock(&loaded.mutex);
    if (loaded.ops == NULL) {
        loaded.ops = load(err);
    }
    ops = loaded.ops;
    pthread_mutex_unlock(&loaded.mutex);
    return ops;
}
