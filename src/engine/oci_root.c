#include "oci_root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <archive.h>
#include <archive_entry.h>

#define RETRIES 64 /* of a lookup that raced with a rename */

int
lev_root_open(int root, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = -1;

    for (int i = 0; i < RETRIES; i++) {
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN) {
            break;
        }
    }
    return fd;
}

static int
make_dir(int root, const char *path, struct lev_error *err)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *parent = NULL;
    _cleanup_close_ int fd = -1;
    const char *name = slash == NULL ? path : slash + 1;

    parent =
        slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path));
    if (parent == NULL) {
        return lev_error_nomem(err, "path");
    }
    fd = lev_root_open(root, *parent == '\0' ? "/" : parent,
                       O_PATH | O_DIRECTORY);
    if (fd < 0 || (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)) {
        return lev_error_errno(err, "make the directory %s", path);
    }
    return 0;
}

int
lev_root_mkdirs(int root, const char *path, struct lev_error *err)
{
    _cleanup_free_ char *part = strdup(path);
    int fd = lev_root_open(root, path, O_RDONLY | O_DIRECTORY);
    size_t len;

    if (part == NULL) {
        lev_closep(&fd);
        return lev_error_nomem(err, "path");
    }
    if (fd >= 0) {
        return fd;
    }
    len = strlen(part);
    while (len > 1 && part[len - 1] == '/') {
        part[--len] = '\0';
    }
    for (size_t i = 1; i <= len; i++) {
        char kept = part[i];
        int there;

        if (kept != '/' && kept != '\0') {
            continue;
        }
        part[i] = '\0';
        there = lev_root_open(root, part, O_PATH | O_DIRECTORY);
        if (there < 0 && make_dir(root, part, err) < 0) {
            return -1;
        }
        lev_closep(&there);
        part[i] = kept;
    }
    fd = lev_root_open(root, path, O_RDONLY | O_DIRECTORY);
    return fd < 0 ? lev_error_errno(err, "open the directory %s", path) : fd;
}

int
lev_root_read(int root, const char *path, size_t max, struct lev_buf *out,
              struct lev_error *err)
{
    /* A fifo or a device of the image must not hold us up. */
    _cleanup_close_ int fd =
        lev_root_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    char chunk[16 * 1024];
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        int code = errno;
        bool none = code == ENOENT || code == ENOTDIR || code == ELOOP;

        return lev_error_set(err, none ? LEV_E_NOT_FOUND : LEV_E_OS,
                             none ? 404 : code, "read %s: %s", path,
                             strerrordesc_np(code));
    }
    if (!S_ISREG(st.st_mode)) {
        return lev_error_set(err, LEV_E_NOT_FOUND, 404,
                             "read %s: it is no regular file", path);
    }
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        size_t room = max - out->len < (size_t)n ? max - out->len : (size_t)n;

        lev_buf_append(out, chunk, room);
        if (out->len >= max) {
            break;
        }
    }
    return n < 0 ? lev_error_errno(err, "read %s", path)
                 : lev_buf_check(out, path, err);
}

/* ---- tar ---- */

static void
archive_freep(struct archive **a)
{
    if (*a != NULL) {
        archive_read_free(*a);
    }
}

static int
archive_error(struct archive *a, struct lev_error *err)
{
    return lev_error_set(
        err, LEV_E_INVALID, archive_errno(a), "archive: %s",
        archive_error_string(a) == NULL ? "damaged" : archive_error_string(a));
}

static int
write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int
copy_content(struct archive *a, const struct lev_scope *scope, int fd,
             const char *path, struct lev_error *err)
{
    const void *data;
    size_t len;
    int64_t at;
    int rc;

    while ((rc = archive_read_data_block(a, &data, &len, &at)) == ARCHIVE_OK) {
        if (lev_scope_check(scope, err) < 0) {
            return -1;
        }
        if (lseek(fd, at, SEEK_SET) < 0 || write_all(fd, data, len) < 0) {
            return lev_error_errno(err, "write %s", path);
        }
    }
    return rc == ARCHIVE_EOF ? 0 : archive_error(a, err);
}

static int
set_owner(int fd, const struct archive_entry *e, const char *path,
          struct lev_error *err)
{
    struct archive_entry *entry = (struct archive_entry *)e;

    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)}};

    if (fchown(fd, (uid_t)archive_entry_uid(entry),
               (gid_t)archive_entry_gid(entry)) < 0 ||
        fchmod(fd, archive_entry_perm(entry)) < 0 || futimens(fd, times) < 0)
    {
        return lev_error_errno(err, "owner, mode and time of %s", path);
    }
    return 0;
}

static int
unpack_file(struct archive *a, const struct lev_scope *scope,
            struct archive_entry *e, int parent, const char *name,
            const char *path, struct lev_error *err)
{
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return lev_error_set(err, LEV_E_CONFLICT, EISDIR,
                                 "cannot overwrite the directory %s by a file",
                                 path);
        }
        unlinkat(parent, name, 0);
    }
    fd = openat(parent, name,
                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return lev_error_errno(err, "make %s", path);
    }
    return copy_content(a, scope, fd, path, err) < 0 ||
                   set_owner(fd, e, path, err) < 0
               ? -1
               : 0;
}

static int
unpack_link(struct archive_entry *e, int parent, const char *name,
            const char *path, struct lev_error *err)
{
    if ((unlinkat(parent, name, 0) < 0 && errno != ENOENT) ||
        symlinkat(archive_entry_symlink(e), parent, name) < 0 ||
        fchownat(parent, name, (uid_t)archive_entry_uid(e),
                 (gid_t)archive_entry_gid(e), AT_SYMLINK_NOFOLLOW) < 0)
    {
        if (errno == EISDIR || errno == EEXIST) {
            return lev_error_set(err, LEV_E_CONFLICT, EISDIR,
                                 "cannot overwrite the directory %s by a link",
                                 path);
        }
        return lev_error_errno(err, "make the link %s", path);
    }
    return 0;
}

/* "a/b/" of an archive → "/a/b". */
static char *
absolute(const char *name)
{
    size_t len = strlen(name);
    char *path;

    while (len > 0 && name[len - 1] == '/') {
        len--;
    }
    while (len > 0 && *name == '/') {
        name++;
        len--;
    }
    return asprintf(&path, "/%.*s", (int)len, name) < 0 ? NULL : path;
}

static int
unpack_entry(struct archive *a, const struct lev_scope *scope, int root,
             struct archive_entry *e, struct lev_error *err)
{
    _cleanup_free_ char *path = absolute(archive_entry_pathname(e));
    _cleanup_free_ char *above = NULL;
    _cleanup_close_ int parent = -1;
    const char *name;

    if (path == NULL) {
        return lev_error_nomem(err, "path");
    }
    if (archive_entry_filetype(e) == AE_IFDIR) {
        parent = lev_root_mkdirs(root, path, err);
        return parent < 0 ? -1 : set_owner(parent, e, path, err);
    }
    name = strrchr(path, '/') + 1;
    above = strndup(path, (size_t)(name - path));
    if (above == NULL) {
        return lev_error_nomem(err, "path");
    }
    if (*name == '\0' || strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%s: no name of a file in an archive", path);
    }
    parent = lev_root_mkdirs(root, above, err);
    if (parent < 0) {
        return -1;
    }
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return unpack_file(a, scope, e, parent, name, path, err);
    case AE_IFLNK:
        return unpack_link(e, parent, name, path, err);
    default:
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%s: neither file, directory nor link", path);
    }
}

int
lev_root_unpack(int root, const struct lev_scope *scope, int fd,
                struct lev_error *err)
{
    _cleanup_(archive_freep) struct archive *a = archive_read_new();
    struct archive_entry *e;
    int rc;

    if (a == NULL) {
        return lev_error_nomem(err, "archive");
    }
    archive_read_support_format_tar(a);
    if (archive_read_open_fd(a, fd, 64 * 1024) != ARCHIVE_OK) {
        return archive_error(a, err);
    }
    while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
        if (lev_scope_check(scope, err) < 0 ||
            unpack_entry(a, scope, root, e, err) < 0)
        {
            return -1;
        }
    }
    return rc == ARCHIVE_EOF ? 0 : archive_error(a, err);
}

/* ---- users ---- */

#define USERS_MAX (1024 * 1024)

/* The line of a file of colon-separated fields whose field 0 is `name`, or
 * whose field 2 is `number`; its fields, cut in place. */
static bool
find_line(char *text, const char *name, const char *number, char *fields[8])
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
    {
        size_t n = 0;

        for (char *f; n < 8 && (f = strsep(&line, ":")) != NULL; n++) {
            fields[n] = f;
        }
        if (n > 2 && ((name != NULL && strcmp(fields[0], name) == 0) ||
                      (number != NULL && strcmp(fields[2], number) == 0)))
        {
            for (; n < 8; n++) {
                fields[n] = (char *)"";
            }
            return true;
        }
    }
    return false;
}

static bool
read_number(const char *text, uint32_t *n)
{
    char *end;
    unsigned long value;

    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    value = strtoul(text, &end, 10);
    *n = (uint32_t)value;
    return *end == '\0' && errno == 0 && value <= INT32_MAX;
}

static void
add_groups(char *text, const char *user, struct lev_oci_user *out)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
    {
        char *fields[4] = {NULL}, *members;
        uint32_t gid;

        for (size_t n = 0; n < 4; n++) {
            fields[n] = strsep(&line, ":");
        }
        members = fields[3];
        if (members == NULL || !read_number(fields[2], &gid)) {
            continue;
        }
        for (char *m; (m = strsep(&members, ",")) != NULL;) {
            if (strcmp(m, user) == 0 &&
                out->groups_n < LEV_ARRAY_LEN(out->groups)) {
                out->groups[out->groups_n++] = gid;
            }
        }
    }
}

static int
load(int root, const char *path, struct lev_buf *text, struct lev_error *err)
{
    if (lev_root_read(root, path, USERS_MAX, text, err) < 0 &&
        err->code != LEV_E_NOT_FOUND)
    {
        return -1;
    }
    return 0;
}

static int
find_user(int root, const char *user, bool with_groups,
          struct lev_oci_user *out, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf passwd = {0}, group = {0};
    char *fields[8];
    uint32_t uid;
    bool numeric = read_number(user, &uid);

    if (load(root, "/etc/passwd", &passwd, err) < 0) {
        return -1;
    }
    if (passwd.data == NULL ||
        !find_line(passwd.data, user, numeric ? user : NULL, fields))
    {
        if (!numeric) {
            return lev_error_set(err, LEV_E_START, 0,
                                 "the user '%.100s' is not in the image's "
                                 "/etc/passwd; give its number",
                                 user);
        }
        out->uid = uid;
        return 0;
    }
    if (!read_number(fields[2], &out->uid) ||
        !read_number(fields[3], &out->gid)) {
        return lev_error_set(err, LEV_E_START, 0,
                             "the user '%.100s' has no numbers in the image's "
                             "/etc/passwd",
                             user);
    }
    snprintf(out->home, sizeof(out->home), "%s",
             fields[5][0] == '/' ? fields[5] : "/");
    if (with_groups && load(root, "/etc/group", &group, err) == 0 &&
        group.data != NULL)
    {
        add_groups(group.data, fields[0], out);
    }
    return 0;
}

int
lev_root_group(int root, const char *name, uint32_t *gid,
               struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf group = {0};
    char *fields[8];

    if (read_number(name, gid)) {
        return 0;
    }
    if (load(root, "/etc/group", &group, err) < 0) {
        return -1;
    }
    if (group.data == NULL || !find_line(group.data, name, NULL, fields) ||
        !read_number(fields[2], gid))
    {
        return lev_error_set(err, LEV_E_START, 0,
                             "the group '%.100s' is not in the image's "
                             "/etc/group; give its number",
                             name);
    }
    return 0;
}

int
lev_root_user(int root, const char *text, struct lev_oci_user *user,
              struct lev_error *err)
{
    const char *colon = strchrnul(text, ':');
    _cleanup_free_ char *name =
        colon == text ? strdup("0") : strndup(text, (size_t)(colon - text));

    *user = (struct lev_oci_user){.home = "/"};
    if (name == NULL) {
        return lev_error_nomem(err, "user");
    }
    /* A group that is given takes the place of all of them. */
    if (find_user(root, name, *colon == '\0', user, err) < 0) {
        return -1;
    }
    if (*colon == ':' && colon[1] != '\0') {
        return lev_root_group(root, colon + 1, &user->gid, err);
    }
    return 0;
}
