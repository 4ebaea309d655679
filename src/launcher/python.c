/* The bundle's interpreter, started without anything of the image.
 *
 * The kernel cannot start it: its loader has another path in every image, or
 * none. So the bundle's own loader is run, with the bundle's libraries first
 * and the RUNPATHs of the host's files out of sight. `--argv0` makes the
 * interpreter believe that this program is its executable, so what starts
 * sys.executable again comes through here again.
 */
#include "launcher.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

extern char **environ;

#define ASIDE "LEV_ENV_"

static const char *
executable(void)
{
    /* What the kernel was asked to run: needs no /proc. */
    uintptr_t name = (uintptr_t)getauxval(AT_EXECFN);

    return name != 0 ? (const char *)name : "/lev/bin/python3";
}

/* "<root>/bin/python3" → "<root>"; the files are under it. Called by another
 * name (a symlink of a virtual environment), it is /lev. */
static int
bundle_root(char *root, size_t size, struct lev_error *err)
{
    const char *self = executable();
    const char *bin = strrchr(self, '/');
    char probe[4096];

    if (bin != NULL && bin - self >= 4 && memcmp(bin - 4, "/bin", 4) == 0) {
        int n = (int)(bin - 4 - self);

        snprintf(root, size, "%.*s", n, self);
        if (snprintf(probe, sizeof(probe), "%s/loader/python3", root) <
                (int)sizeof(probe) &&
            access(probe, X_OK) == 0)
        {
            return 0;
        }
    }
    snprintf(root, size, "/lev");
    if (access("/lev/loader/python3", X_OK) < 0) {
        return lev_error_errno(err, "no runtime bundle at %s or /lev", self);
    }
    return 0;
}

/* Variables of the image that would change which code the loader or the
 * interpreter runs. */
static bool
is_foreign(const char *variable)
{
    return strncmp(variable, "LD_", 3) == 0 ||
           strncmp(variable, "PYTHON", 6) == 0;
}

/* The image's own programs get them back: the guest puts them into os.environ
 * again under their old names. */
static int
put_aside(struct lev_error *err)
{
    for (char **e = environ; *e != NULL; e++) {
        size_t len = strlen(*e);
        char *renamed;

        if (!is_foreign(*e)) {
            continue;
        }
        renamed = malloc(sizeof(ASIDE) + len);
        if (renamed == NULL) {
            return lev_error_nomem(err, "environment");
        }
        memcpy(renamed, ASIDE, sizeof(ASIDE) - 1);
        memcpy(renamed + sizeof(ASIDE) - 1, *e, len + 1);
        *e = renamed; /* lives until execve copies it */
    }
    return 0;
}

static int
run_loader(const char *root, int argc, char **argv, struct lev_error *err)
{
    char loader[4096], lib[4096], program[4096];
    const char *const head[] = {
        loader, "--library-path", lib,     "--inhibit-rpath",
        "",     "--argv0",        argv[0], program};
    const size_t n = LEV_ARRAY_LEN(head);
    _cleanup_free_ char **args = calloc(n + (size_t)argc, sizeof(*args));

    if (args == NULL) {
        return lev_error_nomem(err, "arguments");
    }
    snprintf(loader, sizeof(loader), "%s/loader/python3", root);
    snprintf(lib, sizeof(lib), "%s/lib", root);
    snprintf(program, sizeof(program), "%s/libexec/python3", root);
    for (size_t i = 0; i < n; i++) {
        args[i] = (char *)(uintptr_t)head[i];
    }
    /* The NULL at the end comes along. */
    memcpy(args + n, argv + 1, (size_t)argc * sizeof(*args));
    execv(loader, args);
    return lev_error_errno(err, "run %s", loader);
}

int
lev_python_main(int argc, char **argv)
{
    struct lev_error err;
    char root[4000];
    char absolute[4096];

    if (bundle_root(root, sizeof(root), &err) < 0) {
        return lev_complain(&err, 127);
    }
    /* sys.executable must name this program also when it was found by PATH
     * under a short name. */
    if (strchr(argv[0], '/') == NULL) {
        snprintf(absolute, sizeof(absolute), "%s/bin/python3", root);
        argv[0] = absolute;
    }
    if (put_aside(&err) < 0 || run_loader(root, argc, argv, &err) < 0) {
        return lev_complain(&err, 126);
    }
    return 0;
}
