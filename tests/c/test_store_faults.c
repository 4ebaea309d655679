/* The embedded store among other processes, and on files and disks that fail.
 * What needs another process forks it before this one has threads. */

#include "storelib.h"

#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A child that runs `fn` and ends with its result. */
static pid_t
start(int (*fn)(void *), void *arg)
{
    pid_t pid = fork();

    assert(pid >= 0);
    if (pid == 0) {
        _exit(fn(arg));
    }
    return pid;
}

static void
ends_well(pid_t pid)
{
    int status;

    assert(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "a child ended with status %#x\n", status);
        abort();
    }
}

static struct lev_error
open_fails(const char *name, enum lev_errcode code)
{
    struct lev_error err;
    char url[600];

    snprintf(url, sizeof(url), "sqlite:%s", dir_path(name));
    assert(lev_store_open(url, &forever, &err) == NULL);
    if (err.code != code) {
        fprintf(stderr, "code %d: %s\n", err.code, err.msg);
        abort();
    }
    assert(strstr(err.msg, dir_path(name)) != NULL);
    return err;
}

/* Directly, behind the store's back. */
static void
sql(const char *name, const char *text)
{
    sqlite3 *db;
    char *why = NULL;

    assert(sqlite3_open(dir_path(name), &db) == SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", text, why);
        abort();
    }
    assert(sqlite3_close(db) == SQLITE_OK);
}

/* kill -9 */

#define KILLS 12
#define WRITERS 4

struct killed {
    struct lev_store *st;
    int round, fd;
    long me;
};

static void
write_and_tell(void *arg)
{
    struct killed *k = arg;

    for (int i = 0;; i++) {
        struct lev_error err;
        int id = (k->round * WRITERS + (int)k->me) * 100000 + i;
        bson_t *doc = BCON_NEW("_id", BCON_INT32(id), "text",
                               BCON_UTF8("so that it is not all in one page"));

        if (k->st->ops->insert(k->st, &forever, "k", (const bson_t *[]){doc},
                               1, &err) < 0)
        {
            _exit(1);
        }
        bson_destroy(doc);
        if (write(k->fd, &id, sizeof(id)) != sizeof(id)) {
            _exit(2);
        }
    }
}

static int
be_killed(void *arg)
{
    struct killed *from = arg;
    struct killed ks[WRITERS];
    struct lev_error err;

    from->st = store_open("killed.db");
    for (long i = 0; i < WRITERS; i++) {
        ks[i] = *from;
        ks[i].me = i;
        assert(lev_thread_start("w", write_and_tell, &ks[i], &err) == 0);
    }
    for (;;) {
        pause();
    }
}

/* Every write that was acknowledged before a kill -9 is there, whole. */
static void
test_kill(void)
{
    static int acked[200000];
    int n = 0;

    for (int round = 0; round < KILLS; round++) {
        int pipes[2], status, want = n + 1 + (round * 7919) % 150;
        struct killed k = {.round = round};
        pid_t pid;

        assert(pipe(pipes) == 0);
        k.fd = pipes[1];
        pid = start(be_killed, &k);
        close(pipes[1]);
        while (n < want) {
            assert(read(pipes[0], &acked[n], sizeof(int)) == sizeof(int));
            n++;
        }
        kill(pid, SIGKILL);
        assert(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        /* What was told before it died counts, too. */
        while (read(pipes[0], &acked[n], sizeof(int)) == sizeof(int)) {
            n++;
        }
        close(pipes[0]);
    }
    struct lev_store *st = store_open("killed.db");

    for (int i = 0; i < n; i++) {
        char query[40], want[120];

        snprintf(query, sizeof(query), "{'_id': %d}", acked[i]);
        snprintf(want, sizeof(want),
                 "{'_id':%d,'text':'sothatitisnotallinonepage'}", acked[i]);
        FINDS(st, "k", query, want);
    }
    assert(count(st, "k", "{}") <= n + KILLS * WRITERS);
    lev_store_unref(st);
}

/* Others at the same time. */

#define EACH 60

static int
write_many(void *arg)
{
    struct lev_store *st = store_open("both.db");
    int me = *(int *)arg;

    for (int i = 0; i < EACH; i++) {
        char doc[60];

        snprintf(doc, sizeof(doc), "{'_id': '%d-%d'}", me, i);
        put(st, "b", doc);
        update(st, "b", "{'_id': 'sum'}", "{'$set': {'a': 1}}", true, false);
    }
    lev_store_unref(st);
    return 0;
}

static void
test_processes(void)
{
    pid_t pids[4];
    int ids[4];

    for (int i = 0; i < 4; i++) {
        ids[i] = i;
        pids[i] = start(write_many, &ids[i]);
    }
    for (int i = 0; i < 4; i++) {
        ends_well(pids[i]);
    }
    struct lev_store *st = store_open("both.db");

    assert(count(st, "b", "{}") == 4 * EACH + 1);
    lev_store_unref(st);
}

static int
open_first(void *arg)
{
    struct lev_store *st = store_open(arg);

    put(st, "o", "{}");
    lev_store_unref(st);
    return 0;
}

/* All find that there is no file, and make it. */
static void
test_first_open(void)
{
    for (int round = 0; round < 10; round++) {
        char name[20];
        pid_t pids[8];

        snprintf(name, sizeof(name), "new/%d.db", round);
        for (int i = 0; i < 8; i++) {
            pids[i] = start(open_first, name);
        }
        for (int i = 0; i < 8; i++) {
            ends_well(pids[i]);
        }
    }
}

struct holder {
    int told[2], go[2];
};

static int
hold_lock(void *arg)
{
    struct holder *h = arg;
    sqlite3 *db;
    char c = 'x';

    assert(sqlite3_open(dir_path("lock.db"), &db) == SQLITE_OK);
    assert(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    assert(write(h->told[1], &c, 1) == 1);
    assert(read(h->go[0], &c, 1) == 1);
    assert(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    return 0;
}

/* With the lock of the side file, which comes first. */
static int
hold_side_lock(void *arg)
{
    struct holder *h = arg;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(dir_path("lock.db-lock"), O_RDWR);
    char c = 'x';

    assert(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
    assert(write(h->told[1], &c, 1) == 1);
    assert(read(h->go[0], &c, 1) == 1);
    return 0;
}

static void *
fire(void *arg)
{
    lev_cancel_fire(arg);
    return NULL;
}

static void
test_locked(int (*holder)(void *))
{
    struct holder h;
    struct lev_scope brief = {0, NULL}, told;
    bson_t *doc = json("{'late': 1}");
    struct lev_cancel cancel;
    struct lev_store *st;
    struct lev_error err;
    pthread_t thread;
    pid_t pid;
    char c = 'x';

    st = store_open("lock.db");
    lev_store_unref(st);
    assert(pipe(h.told) == 0 && pipe(h.go) == 0);
    pid = start(holder, &h);
    assert(read(h.told[0], &c, 1) == 1);
    st = store_open("lock.db");
    assert(count(st, "l", "{}") == 0); /* readers do not mind */
    brief.deadline = lev_now() + LEV_SECOND / 5;
    assert(st->ops->insert(st, &brief, "l", (const bson_t *[]){doc}, 1, &err) <
           0);
    if (err.code != LEV_E_STORE_UNAVAILABLE) {
        fprintf(stderr, "%d: %s\n", err.code, err.msg);
        abort();
    }
    assert(strstr(err.msg, dir_path("lock.db")) != NULL);
    assert(strstr(err.msg, "locked by another process") != NULL);

    lev_cancel_init(&cancel, NULL);
    told = (struct lev_scope){LEV_NEVER, &cancel};
    assert(pthread_create(&thread, NULL, fire, &cancel) == 0);
    assert(st->ops->insert(st, &told, "l", (const bson_t *[]){doc}, 1, &err) <
           0);
    assert(err.code == LEV_E_CANCELLED);
    pthread_join(thread, NULL);

    assert(write(h.go[1], &c, 1) == 1);
    put(st, "l", "{'_id': 1}");
    FINDS(st, "l", "{}", "{'_id':1}"); /* withdrawn writes are not there */
    ends_well(pid);
    lev_store_unref(st);
    assert(unlink(dir_path("lock.db")) == 0);
    lev_cancel_deinit(&cancel);
    bson_destroy(doc);
    for (int i = 0; i < 2; i++) {
        close(h.told[i]);
        close(h.go[i]);
    }
}

/* Forks. */

static int
use_inherited(void *arg)
{
    struct lev_store *st = arg, *again;
    char url[600], pid[40];
    struct lev_error err;
    int64_t n;

    snprintf(pid, sizeof(pid), "process %d", (int)getppid());
    if (st->ops->count(st, &forever, "f", NULL, &n, &err) == 0 ||
        err.code != LEV_E_STORE || strstr(err.msg, pid) == NULL)
    {
        return 1;
    }
    snprintf(url, sizeof(url), "%s", st->url);
    again = lev_store_open(url, &forever, &err);
    if (again != NULL || err.code != LEV_E_STORE ||
        strstr(err.msg, pid) == NULL) {
        return 2;
    }
    lev_store_unref(st);
    return 0;
}

static void
test_fork(void)
{
    struct lev_store *st = store_open("fork.db");

    put(st, "f", "{'_id': 1}");
    ends_well(start(use_inherited, st));
    put(st, "f", "{'_id': 2}");
    assert(count(st, "f", "{}") == 2);
    lev_store_unref(st);
}

/* Files that are not what they should be. */

static void
test_not_ours(void)
{
    struct lev_store *st;
    struct lev_error err;
    FILE *f = fopen(dir_path("text.db"), "w");

    for (int i = 0; i < 200; i++) {
        fputs("this is no database at all\n", f);
    }
    fclose(f);
    err = open_fails("text.db", LEV_E_STORE);
    assert(strstr(err.msg, "no database") != NULL);
    sql("other.db", "CREATE TABLE mine (x)");
    err = open_fails("other.db", LEV_E_STORE);
    assert(strstr(err.msg, "another program") != NULL);
    assert(mkdir(dir_path("dir.db"), 0700) == 0);
    open_fails("dir.db", LEV_E_STORE);
    st = store_open("new.db");
    put(st, "n", "{}");
    lev_store_unref(st);
    sql("new.db", "UPDATE meta SET value = 99 WHERE name = 'schema'");
    err = open_fails("new.db", LEV_E_STORE);
    assert(strstr(err.msg, "99") != NULL &&
           strstr(err.msg, "upgrade levrt") != NULL);
}

static void
scribble(const char *name, off_t from)
{
    char noise[4096];
    int fd = open(dir_path(name), O_RDWR);
    struct stat st;

    assert(fd >= 0 && fstat(fd, &st) == 0);
    memset(noise, 0xa5, sizeof(noise));
    for (off_t at = from; at < st.st_size; at += (off_t)sizeof(noise)) {
        assert(pwrite(fd, noise, sizeof(noise), at) == sizeof(noise));
    }
    close(fd);
}

static void
test_corrupt(void)
{
    struct lev_store *st = store_open("corrupt.db");
    struct lev_find f = {.coll = "c"};
    _cleanup_buf_ struct lev_buf out = {0};
    struct lev_error err = {0};
    struct lev_cursor *c;
    char doc[400];
    int n;

    for (int i = 0; i < 100; i++) {
        snprintf(doc, sizeof(doc), "{'_id': %d, 'fill': '%0300d'}", i, i);
        put(st, "c", doc);
    }
    lev_store_unref(st);
    scribble("corrupt.db", 4096 * 6);
    st = store_open("corrupt.db");
    c = st->ops->find(st, &forever, &f, &err);
    assert(c != NULL);
    do {
        n = st->ops->next(c, &forever, 10, &out, &err);
    } while (n > 0);
    assert(n < 0 && err.code == LEV_E_STORE);
    assert(strstr(err.msg, "damaged") != NULL &&
           strstr(err.msg, dir_path("corrupt.db")) != NULL);
    st->ops->cursor_close(c);
    lev_store_unref(st);
}

/* A user who may not write. */

static void
become_nobody(void)
{
    if (geteuid() == 0) {
        assert(setresgid(65534, 65534, 65534) == 0);
        assert(setresuid(65534, 65534, 65534) == 0);
    }
}

static int
open_read_only(void *arg)
{
    struct lev_error err;

    become_nobody();
    err = open_fails("ro/file.db", LEV_E_STORE);
    if (strstr(err.msg, "read-only") == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    err = open_fails("ro/none.db", LEV_E_STORE);
    if (strstr(err.msg, "Permission denied") == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    return 0;
}

static void
test_read_only(void)
{
    struct lev_store *st = store_open("ro/file.db");

    put(st, "r", "{}");
    lev_store_unref(st);
    assert(chmod(dir_path(""), 0755) == 0);
    assert(chmod(dir_path("ro/file.db"), 0444) == 0);
    assert(chmod(dir_path("ro"), 0555) == 0);
    ends_well(start(open_read_only, NULL));
    assert(chmod(dir_path("ro"), 0755) == 0);
}

/* A full disk: a file system of 1 MiB in a mount namespace of its own. */

static int
fill_disk(void *arg)
{
    struct lev_store *st;
    struct lev_error err = {0};
    int64_t stored = 0;

    if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) <
            0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir_path("full"), "tmpfs", 0, "size=1m") < 0)
    {
        perror("a small file system");
        return 1;
    }
    st = store_open("full/x.db");
    for (;; stored++) {
        char doc[2100];
        bson_t *b;
        int rc;

        snprintf(doc, sizeof(doc), "{'_id': %d, 'fill': '%02000d'}",
                 (int)stored, 0);
        b = json(doc);
        rc =
            st->ops->insert(st, &forever, "f", (const bson_t *[]){b}, 1, &err);
        bson_destroy(b);
        if (rc < 0) {
            break;
        }
    }
    if (err.code != LEV_E_STORE || strstr(err.msg, "full") == NULL ||
        stored < 10 || count(st, "f", "{}") != stored)
    {
        fprintf(stderr, "%d stored, %s\n", (int)stored, err.msg);
        return 2;
    }
    lev_store_unref(st);
    st = store_open("full/x.db");
    if (count(st, "f", "{'fill': {'$exists': true}}") != stored) {
        return 3;
    }
    lev_store_unref(st);
    return 0;
}

static void
test_full(void)
{
    assert(mkdir(dir_path("full"), 0700) == 0);
    ends_well(start(fill_disk, NULL));
}

static int
count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

int
main(void)
{
    int fds = count_fds();

    dir_make();
    test_kill();
    test_first_open();
    test_processes();
    test_locked(hold_lock);
    test_locked(hold_side_lock);
    test_read_only();
    test_full();
    test_fork();
    test_not_ours();
    test_corrupt();
    dir_remove();
    assert(count_fds() == fds);
    return 0;
}
