/* imagetool.c - the image store by commands, for tests in Python.
 *
 *   imagetool STORE pull REF [PARALLEL [STALL_MS]] | get REF | list | rm REF |
 *             prune | load FILE | layout DIR [REF]
 *
 * Prints what it did; a failure as "CODE DETAIL MESSAGE" on stderr, exit
 * code 1. LEV_MIRROR: of docker.io. LEV_ARCH: of the image.
 */

#include "registry.h"

#include <fcntl.h>
#include <string.h>

static const struct lev_scope forever = {.deadline = LEV_NEVER};

static const char *
name_of(enum lev_errcode code)
{
    static const char *const names[] = {
#define X(name, exc) [LEV_E_##name] = #name,
        LEV_ERRORS(X)
#undef X
    };

    return names[code];
}

static void
on_progress(void *ctx, int64_t done, int64_t total, const char *text)
{
    int64_t *last = ctx;

    if (done < *last || done > total) {
        fprintf(stderr, "progress went from %lld to %lld of %lld\n",
                (long long)*last, (long long)done, (long long)total);
        abort();
    }
    *last = done;
}

static int
pull(struct lev_imagestore *s, char **args, struct lev_error *err)
{
    const char *mirrors[] = {getenv("LEV_MIRROR"), NULL};
    struct lev_registry_config config = {
        .docker_config = getenv("DOCKER_CONFIG"),
        .mirrors = mirrors,
        .arch = getenv("LEV_ARCH"),
        .stall = 10 * LEV_SECOND,
    };
    _cleanup_imageref_ struct lev_imageref ref = {0};
    int64_t done = 0;
    char id[72];

    if (args[1] != NULL) {
        config.parallel = (unsigned)atoi(args[1]);
        if (args[2] != NULL) {
            config.stall = atoi(args[2]) * LEV_MS;
        }
    }
    if (lev_imageref_parse(args[0], NULL, &ref, err) < 0 ||
        lev_registry_pull(&config, s, &forever, &ref, on_progress, &done, id,
                          err) < 0)
    {
        return -1;
    }
    printf("%s %lld\n", id, (long long)done);
    return 0;
}

static int
get(struct lev_imagestore *s, const char *ref, struct lev_error *err)
{
    struct lev_stored_image image;

    if (lev_imagestore_get(s, &forever, ref, &image, err) < 0) {
        return -1;
    }
    printf("%s %s %s\n", image.id, image.digest == NULL ? "-" : image.digest,
           image.arch);
    for (char **p = image.layers; *p != NULL; p++) {
        printf("%s\n", *p);
    }
    lev_stored_image_deinit(&image);
    return 0;
}

static int
list(struct lev_imagestore *s, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf json = {0};

    if (lev_imagestore_list(s, &forever, &json, err) < 0) {
        return -1;
    }
    printf("%s\n", json.data);
    return 0;
}

static int
load(struct lev_imagestore *s, char **args, bool layout, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf loaded = {0};
    _cleanup_close_ int fd = -1;
    int rc;

    if (layout) {
        rc = lev_imagestore_load_layout(s, &forever, args[0], args[1], &loaded,
                                        err);
    }
    else {
        fd = open(args[0], O_RDONLY | O_CLOEXEC);
        rc = fd < 0
                 ? lev_error_errno(err, "%s", args[0])
                 : lev_imagestore_load(s, &forever, fd, args[1], &loaded, err);
    }
    printf("%s", lev_buf_text(&loaded));
    return rc;
}

static int
prune(struct lev_imagestore *s, struct lev_error *err)
{
    uint64_t freed;

    if (lev_imagestore_prune(s, &forever, &freed, err) < 0) {
        return -1;
    }
    printf("%llu\n", (unsigned long long)freed);
    return 0;
}

static int
run(struct lev_imagestore *s, const char *what, char **args,
    struct lev_error *err)
{
    if (strcmp(what, "pull") == 0) {
        return pull(s, args, err);
    }
    if (strcmp(what, "get") == 0) {
        return get(s, args[0], err);
    }
    if (strcmp(what, "list") == 0) {
        return list(s, err);
    }
    if (strcmp(what, "rm") == 0) {
        return lev_imagestore_remove(s, &forever, args[0], err);
    }
    if (strcmp(what, "prune") == 0) {
        return prune(s, err);
    }
    if (strcmp(what, "load") == 0 || strcmp(what, "layout") == 0) {
        return load(s, args, strcmp(what, "layout") == 0, err);
    }
    return lev_error_set(err, LEV_E_INVALID, 0, "no command '%s'", what);
}

int
main(int argc, char **argv)
{
    _cleanup_imagestore_ struct lev_imagestore *s = NULL;
    static const struct lev_layer_options squashed = {.squash_owners = true,
                                                      .user_xattrs = true};
    struct lev_error err;

    if (argc < 3) {
        fprintf(stderr, "usage: imagetool STORE COMMAND …\n");
        return 2;
    }
    s = lev_imagestore_open(
        argv[1], getenv("LEV_SQUASH") == NULL ? NULL : &squashed, &err);
    if (s == NULL || run(s, argv[2], argv + 3, &err) < 0) {
        fprintf(stderr, "%s %d %s\n", name_of(err.code), err.detail, err.msg);
        return 1;
    }
    return 0;
}
