#include "launcher.h"

#include <errno.h>
#include <string.h>
#include <time.h>

int64_t
lev_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
lev_complain(const struct lev_error *err, int code)
{
    fprintf(stderr, "lev-launcher: %s\n", err->msg);
    return code;
}

int
lev_arg_number(const char *text, const char *what, long max, long *out,
               struct lev_error *err)
{
    char *end = NULL;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > max)
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "%s must be a number from 1 to %ld, not \"%s\"",
                             what, max, text);
    }
    *out = value;
    return 0;
}

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

int
main(int argc, char **argv)
{
    struct lev_error err;

    if (argc > 0 && strncmp(base_name(argv[0]), "python", 6) == 0) {
        return lev_python_main(argc, argv);
    }
    if (argc > 0 && strcmp(base_name(argv[0]), "init") == 0) {
        return lev_init_main(argc, argv);
    }
    if (argc > 1 && strcmp(argv[1], "init") == 0) {
        return lev_init_main(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "probe") == 0) {
        return lev_probe_main(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "relay") == 0) {
        return lev_relay_main(argc - 1, argv + 1);
    }
    lev_error_set(&err, LEV_E_INVALID, 0,
                  "usage: lev-launcher probe [--owned] [--timeout-ms N] "
                  "PORT… | relay [--timeout-ms N] NAME | init [--] PROGRAM …");
    return lev_complain(&err, LEV_LAUNCHER_USAGE);
}
