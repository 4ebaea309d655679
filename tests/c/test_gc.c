/* Whose things are, by their labels, and what is removed of them: on an engine
 * that is three lists. */

#include "gc.h"
#include "owner.h"

#include <assert.h>
#include <string.h>
#include <sys/wait.h>

static const struct lev_scope forever = {LEV_NEVER, NULL};

/* ---- labels ---- */

#define LABELS_MAX 8

struct labels {
    char text[LABELS_MAX][160];
    char *v[LABELS_MAX + 1];
};

static void
set(struct labels *l, const char *key, const char *value)
{
    size_t i = 0, len = strlen(key);

    while (l->v[i] != NULL &&
           (strncmp(l->v[i], key, len) != 0 || l->v[i][len] != '='))
    {
        i++;
    }
    assert(i < LABELS_MAX);
    snprintf(l->text[i], sizeof(l->text[i]), "%s=%s", key, value);
    l->v[i] = l->text[i];
}

static void
set_owner(struct labels *l, const struct lev_owner *owner)
{
    char pid[64];

    *l = (struct labels){0};
    lev_owner_pid_text(owner, pid);
    set(l, LEV_LABEL_SESSION, "s");
    set(l, LEV_LABEL_PID, pid);
    set(l, LEV_LABEL_BOOT, owner->boot);
    set(l, LEV_LABEL_HOST, owner->host);
}

static void
expect(const struct lev_owner *self, const struct labels *l,
       enum lev_owner_state state, const char *says)
{
    char why[100] = "";

    assert(lev_owner_judge(self, l->v, 1000, why) == state);
    assert(strstr(why, says) != NULL);
}

/* A process that has ended; waited for, or not. */
static pid_t
end_process(bool wait)
{
    siginfo_t info;
    pid_t pid = fork();

    assert(pid >= 0);
    if (pid == 0) {
        _exit(0);
    }
    assert(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    if (wait) {
        waitpid(pid, NULL, 0);
    }
    return pid;
}

static void
test_process(void)
{
    struct lev_owner self, other;
    struct labels l;
    pid_t zombie;

    lev_owner_self(&self);
    assert(self.pid == getpid() && self.start > 0 && self.namespace > 0);
    assert(strlen(self.boot) == 36);
    set_owner(&l, &self);
    expect(&self, &l, LEV_OWNER_ALIVE, "");
    set(&l, LEV_LABEL_EXPIRES, "999"); /* alive is alive */
    expect(&self, &l, LEV_OWNER_ALIVE, "");
    other = self;
    other.start--;
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_DEAD, "another one now");
    other = self;
    other.pid = end_process(true);
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_DEAD, "is gone");
    other.pid = zombie = end_process(false);
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_DEAD, "is gone");
    waitpid(zombie, NULL, 0);
}

/* What cannot be known from here is left alone until it expires. */
static void
test_elsewhere(void)
{
    static const char *const bad[] = {
        "", "1", "1:2", "x:2:3", "-1:2:3", "1:0:3", "1::", "99999999x", NULL};
    struct lev_owner self, other;
    struct labels l = {0};

    lev_owner_self(&self);
    snprintf(self.host, sizeof(self.host), "here");
    expect(&self, &l, LEV_OWNER_NONE, "");
    set(&l, LEV_LABEL_PID, "1:2:3");
    expect(&self, &l, LEV_OWNER_NONE, "");
    set(&l, LEV_LABEL_SESSION, "s");
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    other = self;
    other.namespace ++;
    other.pid = end_process(true);
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    for (int i = 0; bad[i] != NULL; i++) {
        set(&l, LEV_LABEL_PID, bad[i]);
        expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    }
    snprintf(other.boot, sizeof(other.boot), "another");
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_DEAD, "anew");
    snprintf(other.host, sizeof(other.host), "there");
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    set(&l, LEV_LABEL_EXPIRES, "1000");
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    set(&l, LEV_LABEL_EXPIRES, "soon");
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
    set(&l, LEV_LABEL_EXPIRES, "999");
    expect(&self, &l, LEV_OWNER_DEAD, "expired");
    /* Two machines without an id are not the same. */
    other.host[0] = self.host[0] = '\0';
    set_owner(&l, &other);
    expect(&self, &l, LEV_OWNER_UNKNOWN, "");
}

/* ---- an engine ---- */

#define THINGS_MAX 40

static struct thing {
    enum lev_leftover kind;
    const char *name;
    struct labels labels;
    bool gone, stuck;
} things[THINGS_MAX];
static size_t things_n;

static int
list(enum lev_leftover kind, const char *label, struct lev_listed **found)
{
    struct lev_listed *all = NULL;

    assert(strcmp(label, LEV_LABEL_SESSION) == 0);
    for (size_t i = things_n; i-- > 0;) {
        struct lev_listed *item;

        if (things[i].kind != kind || things[i].gone) {
            continue;
        }
        item = calloc(1, sizeof(*item));
        assert(item != NULL);
        item->id = strdup(things[i].name);
        item->name = strdup(things[i].name);
        item->labels = lev_strv_copy((const char *const *)things[i].labels.v);
        item->next = all;
        all = item;
    }
    *found = all;
    return 0;
}

static int
take(enum lev_leftover kind, const char *id, struct lev_error *err)
{
    for (size_t i = 0; i < things_n; i++) {
        if (things[i].kind == kind && strcmp(things[i].name, id) == 0) {
            assert(!things[i].gone);
            if (things[i].stuck) {
                return lev_error_set(err, LEV_E_ENGINE, 500, "it is stuck");
            }
            things[i].gone = true;
            return 0;
        }
    }
    abort();
}

#define KIND(name, KIND)                                                      \
    static int list_##name(struct lev_engine *e, const struct lev_scope *s,   \
                           const char *label, struct lev_listed **found,      \
                           struct lev_error *err)                             \
    {                                                                         \
        return list(LEV_LEFT_##KIND, label, found);                           \
    }                                                                         \
    static int take_##name(struct lev_engine *e, const struct lev_scope *s,   \
                           const char *id, struct lev_error *err)             \
    {                                                                         \
        return take(LEV_LEFT_##KIND, id, err);                                \
    }
KIND(containers, CONTAINER)
KIND(networks, NETWORK)
KIND(images, IMAGE)
#undef KIND

static const struct lev_engine_ops ops = {
    .list = list_containers,
    .remove = take_containers,
    .network_list = list_networks,
    .network_remove = take_networks,
    .image_list = list_images,
    .image_remove = take_images,
};
static struct lev_engine engine = {.ops = &ops};

static struct thing *
put(enum lev_leftover kind, const char *name, const struct lev_owner *owner,
    const char *session)
{
    struct thing *t = &things[things_n++];

    assert(things_n <= THINGS_MAX);
    *t = (struct thing){.kind = kind, .name = name};
    set_owner(&t->labels, owner);
    set(&t->labels, LEV_LABEL_SESSION, session);
    if (kind == LEV_LEFT_CONTAINER) {
        set(&t->labels, LEV_LABEL_NAME, name);
    }
    if (kind == LEV_LEFT_IMAGE) {
        set(&t->labels, LEV_LABEL_ROLE, "files");
    }
    return t;
}

/* Names of what is removed, in its order; without removing it first. */
static void
expect_gc(const struct lev_gc *gc, const char *names, size_t left)
{
    _cleanup_found_ struct lev_found *found = NULL;
    _cleanup_buf_ struct lev_buf text = {0};
    struct lev_error err;

    assert(lev_gc_find(&engine, &forever, gc, &found, &err) == 0);
    for (const struct lev_found *f = found; f != NULL; f = f->next) {
        lev_buf_printf(&text, "%s ", f->name);
        assert(!f->removed && f->error == NULL && f->reason[0] != '\0');
    }
    if (strcmp(lev_buf_text(&text), names) != 0) {
        fprintf(stderr, "expected %s: %s\n", names, lev_buf_text(&text));
        abort();
    }
    assert(lev_gc_remove(&engine, &forever, found, 4) == left);
    for (const struct lev_found *f = found; f != NULL; f = f->next) {
        assert(f->removed == (f->error == NULL));
    }
}

static void
test_gc(void)
{
    const struct lev_gc dead = {0}, one = {.session = "mine"};
    const struct lev_gc all = {.kept = true};
    struct lev_owner self, gone;
    struct thing *t;

    lev_owner_self(&self);
    gone = self;
    gone.pid = end_process(true);
    things_n = 0;
    put(LEV_LEFT_NETWORK, "dead-net", &gone, "dead");
    put(LEV_LEFT_CONTAINER, "dead-1", &gone, "dead");
    put(LEV_LEFT_CONTAINER, "live-1", &self, "live");
    put(LEV_LEFT_NETWORK, "live-net", &self, "live");
    put(LEV_LEFT_IMAGE, "live-image", &self, "live");
    put(LEV_LEFT_CONTAINER, "dead-2", &gone, "dead")->stuck = true;
    put(LEV_LEFT_IMAGE, "dead-image", &gone, "dead");
    put(LEV_LEFT_CONTAINER, "mine-1", &self, "mine");
    /* Somebody's own, of an image of a container of ours; and the image. */
    t = put(LEV_LEFT_CONTAINER, "theirs", &gone, "dead");
    set(&t->labels, LEV_LABEL_NAME, "dead-1");
    t = put(LEV_LEFT_IMAGE, "their-image", &gone, "dead");
    set(&t->labels, LEV_LABEL_ROLE, "main");
    /* Kept on purpose, with what it needs. */
    t = put(LEV_LEFT_CONTAINER, "kept-1", &gone, "kept");
    set(&t->labels, LEV_LABEL_KEEP, "1");
    put(LEV_LEFT_CONTAINER, "kept-2", &gone, "kept");
    put(LEV_LEFT_NETWORK, "kept-net", &gone, "kept");
    put(LEV_LEFT_IMAGE, "kept-image", &gone, "kept");
    expect_gc(&dead, "dead-1 dead-2 kept-2 dead-net dead-image ", 1);
    expect_gc(&dead, "dead-2 ", 1);
    things[5].stuck = false;
    expect_gc(&dead, "dead-2 ", 0);
    expect_gc(&dead, "", 0);
    expect_gc(&one, "mine-1 ", 0);
    expect_gc(&all, "kept-1 kept-net kept-image ", 0);
    for (size_t i = 0; i < things_n; i++) {
        bool stays = strncmp(things[i].name, "live", 4) == 0 ||
                     strncmp(things[i].name, "their", 5) == 0;

        assert(things[i].gone == !stays);
    }
}

int
main(void)
{
    test_process();
    test_elsewhere();
    test_gc();
    puts("ok");
    return 0;
}
