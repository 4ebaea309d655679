/* spawn.c - runs a command again and again, several at once, and does nothing
 * else: what a program like crun can do at best.
 *
 * usage: spawn CONCURRENCY
 *
 * Each line of its input is a number of runs and a command, words between
 * spaces; "{}" in a word becomes the run's number, from 0 in each line. Each
 * line of its output is JSON: the wall-clock and CPU seconds that the runs
 * took. A run that fails ends it.
 */

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 32
#define WORD_MAX 4096

extern char **environ;

static posix_spawn_file_actions_t actions;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("spawn: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static double
seconds(struct timeval tv)
{
    return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static double
cpu_seconds(void)
{
    double total = 0;

    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage usage;

        getrusage(who, &usage);
        total += seconds(usage.ru_utime) + seconds(usage.ru_stime);
    }
    return total;
}

static double
wall_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
fill_in(char *out, const char *word, unsigned number)
{
    const char *hole = strstr(word, "{}");

    if (hole == NULL) {
        snprintf(out, WORD_MAX, "%s", word);
    }
    else {
        snprintf(out, WORD_MAX, "%.*s%u%s", (int)(hole - word), word, number,
                 hole + 2);
    }
}

static void
start(char *const *words, size_t n, unsigned number)
{
    static char texts[WORDS_MAX][WORD_MAX];
    char *argv[WORDS_MAX + 1];
    pid_t pid;
    int rc;

    for (size_t i = 0; i < n; i++) {
        fill_in(texts[i], words[i], number);
        argv[i] = texts[i];
    }
    argv[n] = NULL;
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    if (rc != 0) {
        die("%s: %s", argv[0], strerror(rc));
    }
}

static void
wait_one(const char *what)
{
    int status;

    while (wait(&status) < 0) {
        if (errno != EINTR) {
            die("wait: %s", strerror(errno));
        }
    }
    if (status != 0) {
        die("%s failed: status %#x", what, (unsigned)status);
    }
}

static void
run_all(unsigned runs, char *const *words, size_t n, unsigned concurrency)
{
    double wall = wall_seconds(), cpu = cpu_seconds();
    unsigned running = 0;

    for (unsigned i = 0; i < runs; i++) {
        if (running == concurrency) {
            wait_one(words[0]);
            running--;
        }
        start(words, n, i);
        running++;
    }
    for (; running > 0; running--) {
        wait_one(words[0]);
    }
    printf("{\"seconds\": %.6f, \"cpu\": %.6f}\n", wall_seconds() - wall,
           cpu_seconds() - cpu);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    unsigned concurrency = argc == 2 ? (unsigned)atoi(argv[1]) : 0;
    char line[16384];

    if (concurrency == 0) {
        die("usage: spawn CONCURRENCY");
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char *words[WORDS_MAX], *save = NULL;
        char *count = strtok_r(line, " \n", &save);
        size_t n = 0;

        while (n < WORDS_MAX && (words[n] = strtok_r(NULL, " \n", &save))) {
            n++;
        }
        if (n == 0 || n == WORDS_MAX) {
            die("bad line");
        }
        run_all((unsigned)atoi(count), words, n, concurrency);
    }
    return 0;
}
