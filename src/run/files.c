#include "run_internal.h"

#include "tar.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#define PASSWD_MAX (4u * 1024 * 1024)

static bool
is_number(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return len > 0;
}

/* The numbers of `name` in the text of a passwd file (uid:gid are its third
 * and fourth field) or group file (gid is its third); false when it is not
 * there. */
static bool
look_up(const char *text, const char *name, size_t len, unsigned *id,
        unsigned *group)
{
    for (const char *line = text; line != NULL && *line != '\0';
         line = strchr(line, '\n'), line = line == NULL ? NULL : line + 1)
    {
        unsigned first, second = 0;

        if (strncmp(line, name, len) != 0 || line[len] != ':' ||
            sscanf(line + len + 1, "%*[^:]:%u:%u", &first, &second) < 1)
        {
            continue;
        }
        *id = first;
        if (group != NULL) {
            *group = second;
        }
        return true;
    }
    return false;
}

static int
read_image_file(struct lev_run *run, const struct lev_scope *scope,
                const char *id, const char *path, struct lev_buf *out,
                struct lev_error *err)
{
    if (run->ops->get(run->engine, scope, id, path, PASSWD_MAX, out, err) <
            0 &&
        err->code != LEV_E_NOT_FOUND)
    {
        return -1;
    }
    return 0;
}

static int
unknown_user(struct lev_error *err, const char *user, const char *file)
{
    return lev_error_set(err, LEV_E_START, 0,
                         "the user %s of the container is not in the image's "
                         "%s: give a number, or a name that is there",
                         user, file);
}

/* Who owns copied files: the container's user, which the image names as
 * name|uid[:group|gid] and the option user= may replace. */
static int
find_owner(struct lev_run *run, const struct lev_scope *scope, const char *id,
           struct lev_tar_meta *meta, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf passwd = {0}, groups = {0};
    const char *user =
        run->known->image.user == NULL ? "" : run->known->image.user;
    bson_iter_t it;
    size_t len;
    unsigned uid = 0, gid = 0;

    if (run->spec->options != NULL &&
        bson_iter_init_find(&it, run->spec->options, "user") &&
        BSON_ITER_HOLDS_UTF8(&it))
    {
        user = bson_iter_utf8(&it, NULL);
    }
    else if (run->spec->options != NULL &&
             bson_iter_init_find(&it, run->spec->options, "user"))
    {
        meta->uid = (uid_t)bson_iter_as_int64(&it);
        return 0;
    }
    len = strcspn(user, ":");
    if (len == 0) {
        return 0;
    }
    if (is_number(user, len)) {
        uid = (unsigned)strtoul(user, NULL, 10);
    }
    else {
        if (read_image_file(run, scope, id, "/etc/passwd", &passwd, err) < 0) {
            return -1;
        }
        if (!look_up(lev_buf_text(&passwd), user, len, &uid, &gid)) {
            return unknown_user(err, user, "/etc/passwd");
        }
    }
    if (user[len] == ':') {
        const char *group = user + len + 1;

        if (is_number(group, strlen(group))) {
            gid = (unsigned)strtoul(group, NULL, 10);
        }
        else {
            if (read_image_file(run, scope, id, "/etc/group", &groups, err) <
                0) {
                return -1;
            }
            if (!look_up(lev_buf_text(&groups), group, strlen(group), &gid,
                         NULL)) {
                return unknown_user(err, user, "/etc/group");
            }
        }
    }
    meta->uid = uid;
    meta->gid = gid;
    return 0;
}

static int
add_file(struct lev_tar *tar, const struct lev_scope *scope,
         const struct lev_run_file *f, const struct lev_tar_meta *meta,
         struct lev_error *err)
{
    if (f->path != NULL) {
        return lev_tar_add_path(tar, scope, f->target, f->path, meta->uid,
                                meta->gid, err);
    }
    return lev_tar_add_bytes(tar, f->target, f->data, f->len, meta, err);
}

int
lev_run_put_files(struct lev_run *run, const struct lev_scope *scope,
                  const char *id, struct lev_error *err)
{
    _cleanup_tar_ struct lev_tar *tar = lev_tar_create(err);
    struct lev_tar_meta meta = {.mode = 0644, .mtime = time(NULL)};
    _cleanup_close_ int fd = -1;
    uint64_t size;

    if (tar == NULL || find_owner(run, scope, id, &meta, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < run->spec->files_n; i++) {
        const struct lev_run_file *f = &run->spec->files[i];

        if (add_file(tar, scope, f, &meta, err) < 0) {
            return lev_error_wrap(err, "%s", f->target);
        }
    }
    if (lev_tar_finish(tar, &fd, &size, err) < 0) {
        return -1;
    }
    if (run->ops->put(run->engine, scope, id, fd, size, err) < 0) {
        if (err->code == LEV_E_CONFLICT) {
            err->code = LEV_E_START;
            return lev_error_wrap(err, "a target is a directory in the image");
        }
        return -1;
    }
    return 0;
}
