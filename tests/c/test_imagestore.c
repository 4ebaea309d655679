/* The image store: what comes in, what stays, who holds it, what a crash or a
 * full disk leaves. As root, and with a file system of its own. */

#include "imagestore.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <archive.h>

#include "tarmaker.h"
#include "tree.h"

static const struct lev_scope forever = {.deadline = LEV_NEVER};
static char base[] = "/tmp/lev-images-XXXXXX";
static char dir[64];

static void
must(int rc, const struct lev_error *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static void
fails(int rc, struct lev_error *err, enum lev_errcode code, const char *text)
{
    if (rc != -1 || err->code != code || strstr(err->msg, text) == NULL) {
        fprintf(stderr, "%d: %d '%s', expected %d '%s'\n", rc, err->code,
                err->msg, code, text);
        abort();
    }
    *err = (struct lev_error){0};
}

static struct lev_imagestore *
open_store(void)
{
    struct lev_error err;
    struct lev_imagestore *s = lev_imagestore_open(dir, NULL, &err);

    must(s == NULL ? -1 : 0, &err);
    return s;
}

static void
fresh(void)
{
    struct lev_error err;

    must(lev_tree_remove(AT_FDCWD, dir, &err), &err);
}

static size_t
count(const char *sub)
{
    char path[128];
    struct dirent *e;
    size_t n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", dir, sub);
    d = opendir(path);
    assert(d != NULL);
    while ((e = readdir(d)) != NULL) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

/* A layer with one file of `len` bytes that depend on `seed`. */
static void
make_layer(struct lev_buf *tar, const char *name, int seed, size_t len)
{
    char *data = malloc(len + 1);

    assert(data != NULL);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(seed + (int)(i * i));
    }
    lev_buf_clear(tar);
    maker_add(tar, &(struct maker_entry){.name = name,
                                         .data = len > 0 ? data : NULL,
                                         .len = len});
    maker_end(tar);
    free(data);
}

static int
add(struct lev_imagestore *s, const struct lev_buf *tar, const char *digest,
    const char *diff_id, struct lev_image_hold *hold,
    struct lev_layer_result *r, struct lev_error *err)
{
    struct maker_source source;

    maker_source_init(&source, tar, 65536);
    return lev_imagestore_add_layer(s, &forever, &source.source, digest,
                                    diff_id, hold, r, err);
}

static void
config_of(struct lev_buf *config, const char *extra, const char *a,
          const char *b)
{
    lev_buf_clear(config);
    lev_buf_printf(
        config,
        "{\"architecture\":\"amd64\",\"os\":\"linux\",%s"
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"%s%s%s]"
        "}}",
        extra, a, b == NULL ? "" : ",\"", b == NULL ? "" : b,
        b == NULL ? "" : "\"");
}

/* An image of two layers, of which the first is always the same. */
static void
add_image(struct lev_imagestore *s, const char *ref, int seed, char id[72])
{
    _cleanup_buf_ struct lev_buf tar = {0}, config = {0};
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    struct lev_layer_result a, b;
    struct lev_error err;

    make_layer(&tar, "base", 1, 1000);
    must(add(s, &tar, NULL, NULL, &hold, &a, &err), &err);
    make_layer(&tar, "top", seed, 2000);
    must(add(s, &tar, NULL, NULL, &hold, &b, &err), &err);
    config_of(&config, "", a.diff_id, b.diff_id);
    must(lev_imagestore_add_image(s, &forever, ref, config.data, config.len,
                                  NULL, id, &err),
         &err);
}

static void
test_config(void)
{
    static const char extra[] =
        "\"config\":{\"User\":\"1000:100\",\"WorkingDir\":\"/w\","
        "\"Entrypoint\":[\"/e\",\"x\"],\"Cmd\":null,\"Env\":[\"A=b\"],"
        "\"Labels\":{\"k\":\"v\"},\"Volumes\":{\"/data\":{}},"
        "\"ExposedPorts\":{\"80/tcp\":{}},\"StopSignal\":\"SIGINT\"},";
    _cleanup_buf_ struct lev_buf tar = {0}, config = {0};
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    struct lev_stored_image image;
    struct lev_imagestore *s;
    struct lev_layer_result r;
    struct lev_error err;
    struct stat st;
    char id[72];

    fresh();
    s = open_store();
    maker_add(&tar, &(struct maker_entry){"./", '5', .mode = 0711, .uid = 9});
    maker_add(&tar, &(struct maker_entry){"file", .data = "text"});
    must(add(s, &tar, NULL, NULL, &hold, &r, &err), &err);
    config_of(&config, extra, r.diff_id, NULL);
    must(lev_imagestore_add_image(s, &forever, "x.test:5000/a/b", config.data,
                                  config.len, NULL, id, &err),
         &err);
    must(lev_imagestore_get(s, &forever, "x.test:5000/a/b:latest", &image,
                            &err),
         &err);
    assert(strcmp(image.id, id) == 0 && image.digest == NULL);
    assert(strcmp(image.arch, "x86_64") == 0);
    assert(strcmp(image.os, "linux") == 0 && image.size == 4);
    assert(strcmp(image.user, "1000:100") == 0);
    assert(strcmp(image.working_dir, "/w") == 0);
    assert(strcmp(image.stop_signal, "SIGINT") == 0);
    assert(strcmp(image.entrypoint[1], "x") == 0 && !image.entrypoint[2]);
    assert(image.cmd[0] == NULL && strcmp(image.env[0], "A=b") == 0);
    assert(strcmp(image.labels[0], "k=v") == 0);
    assert(strcmp(image.volumes[0], "/data") == 0);
    assert(strcmp(image.exposed[0], "80/tcp") == 0);
    assert(image.root_mode == 0711 && image.root_uid == 9);
    assert(stat(image.layers[0], &st) == 0 && image.layers[1] == NULL);
    lev_stored_image_deinit(&image);
    lev_imagestore_close(s);
}

static void
test_names(void)
{
    struct lev_stored_image image;
    struct lev_imagestore *s;
    struct lev_error err;
    char a[72], b[72];

    fresh();
    s = open_store();
    add_image(s, "busybox", 2, a);
    add_image(s, "docker.io/library/busybox:2", 3, b);
    must(lev_imagestore_get(s, &forever, "busybox:latest", &image, &err),
         &err);
    assert(strcmp(image.id, a) == 0);
    lev_stored_image_deinit(&image);
    must(lev_imagestore_get(s, &forever, b, &image, &err), &err);
    lev_stored_image_deinit(&image);
    b[7 + 12] = '\0';
    must(lev_imagestore_get(s, &forever, b + 7, &image, &err), &err);
    lev_stored_image_deinit(&image);
    fails(lev_imagestore_get(s, &forever, "sha256:", &image, &err), &err,
          LEV_E_INVALID, "sha256:");
    fails(lev_imagestore_get(s, &forever, "other", &image, &err), &err,
          LEV_E_IMAGE_NOT_FOUND, "'other' is not on this machine");
    must(lev_imagestore_tag(s, &forever, "busybox", "mine:1", &err), &err);
    /* With one name less it stays, with its last it goes. */
    must(lev_imagestore_remove(s, &forever, "busybox", &err), &err);
    must(lev_imagestore_get(s, &forever, "mine:1", &image, &err), &err);
    lev_stored_image_deinit(&image);
    assert(count("layers") == 3);
    must(lev_imagestore_remove(s, &forever, "mine:1", &err), &err);
    assert(count("layers") == 2); /* the other image has the first too */
    fails(lev_imagestore_remove(s, &forever, "mine:1", &err), &err,
          LEV_E_IMAGE_NOT_FOUND, "mine:1");
    must(lev_imagestore_remove(s, &forever, b + 7, &err), &err);
    assert(count("layers") == 0 && count("blobs/sha256") == 0);
    assert(count("tmp") == 0 && count("locks") == 0);
    lev_imagestore_close(s);
}

static void
test_held(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, json = {0};
    struct lev_imagestore *s, *other;
    struct lev_image_hold hold = {0};
    struct lev_stored_image image;
    struct lev_layer_result r;
    struct lev_error err;
    uint64_t freed;
    char id[72];

    fresh();
    s = open_store();
    other = open_store();
    add_image(s, "a", 2, id);
    must(lev_imagestore_get(s, &forever, "a", &image, &err), &err);
    must(lev_imagestore_remove(other, &forever, "a", &err), &err);
    must(lev_imagestore_prune(other, &forever, &freed, &err), &err);
    assert(freed == 0 && access(image.layers[1], F_OK) == 0);
    lev_stored_image_deinit(&image);
    must(lev_imagestore_list(s, &forever, &json, &err), &err);
    assert(strstr(json.data, id) != NULL);
    must(lev_imagestore_prune(other, &forever, &freed, &err), &err);
    assert(freed == 3000 && count("layers") == 0);
    /* A layer whose image is still to come. */
    make_layer(&tar, "x", 1, 10);
    must(add(s, &tar, NULL, NULL, &hold, &r, &err), &err);
    must(lev_imagestore_prune(other, &forever, &freed, &err), &err);
    assert(count("layers") == 1);
    lev_image_hold_release(&hold);
    must(lev_imagestore_prune(other, &forever, &freed, &err), &err);
    assert(count("layers") == 0 && freed == 10);
    lev_imagestore_close(other);
    lev_imagestore_close(s);
}

static void
test_digests(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, packed = {0}, config = {0};
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    struct maker_source source;
    struct lev_imagestore *s;
    struct lev_layer_result r;
    struct lev_error err;
    char digest[72], diff_id[72], id[72];

    fresh();
    s = open_store();
    make_layer(&tar, "x", 1, 100000);
    maker_pack(&tar, ARCHIVE_FILTER_GZIP, &packed);
    maker_digest(&tar, diff_id);
    maker_digest(&packed, digest);
    fails(add(s, &packed, diff_id, diff_id, &hold, &r, &err), &err,
          LEV_E_IMAGE, "its digest is sha256:");
    fails(add(s, &packed, digest, digest, &hold, &r, &err), &err, LEV_E_IMAGE,
          "its diff id is sha256:");
    fails(add(s, &packed, "md5:1", NULL, &hold, &r, &err), &err, LEV_E_IMAGE,
          "'md5:1' is no SHA-256 digest");
    fails(add(s, &packed, NULL, "sha256:../../x", &hold, &r, &err), &err,
          LEV_E_IMAGE, "is no SHA-256 digest");
    packed.len -= 10;
    fails(add(s, &packed, digest, diff_id, &hold, &r, &err), &err, LEV_E_IMAGE,
          "");
    packed.len += 10;
    packed.data[packed.len / 2] ^= 1;
    fails(add(s, &packed, digest, diff_id, &hold, &r, &err), &err, LEV_E_IMAGE,
          "");
    packed.data[packed.len / 2] ^= 1;
    assert(count("layers") == 0 && count("tmp") == 0 && count("locks") == 0);
    must(add(s, &packed, digest, diff_id, &hold, &r, &err), &err);
    /* Again: not read. */
    maker_source_init(&source, &packed, 100);
    source.fail_at = 0;
    must(lev_imagestore_add_layer(s, &forever, &source.source, digest, diff_id,
                                  &hold, &r, &err),
         &err);
    assert(strcmp(r.digest, digest) == 0 && r.bytes == 100000);
    /* An image of a layer that is not here, and configs that are none. */
    config_of(&config, "", digest, NULL);
    fails(lev_imagestore_add_image(s, &forever, "a", config.data, config.len,
                                   NULL, id, &err),
          &err, LEV_E_IMAGE, "is not in the store");
    config_of(&config, "", "sha256:1", NULL);
    fails(lev_imagestore_add_image(s, &forever, "a", config.data, config.len,
                                   NULL, id, &err),
          &err, LEV_E_IMAGE, "'sha256:1' is no SHA-256");
    fails(lev_imagestore_add_image(s, &forever, "a", "{", 1, NULL, id, &err),
          &err, LEV_E_IMAGE, "image's config");
    fails(lev_imagestore_add_image(s, &forever, "a", "{}", 2, NULL, id, &err),
          &err, LEV_E_IMAGE, "it names no layers");
    fails(lev_imagestore_add_image(s, &forever, "A:", "{}", 2, NULL, id, &err),
          &err, LEV_E_INVALID, "A:");
    lev_imagestore_close(s);
}

static void
test_opaque_root(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, config = {0};
    _cleanup_image_hold_ struct lev_image_hold hold = {0};
    struct lev_stored_image image;
    struct lev_layer_result a, b;
    struct lev_imagestore *s;
    struct lev_error err;
    char id[72];

    fresh();
    s = open_store();
    make_layer(&tar, "below", 1, 10);
    must(add(s, &tar, NULL, NULL, &hold, &a, &err), &err);
    lev_buf_clear(&tar);
    maker_add(&tar, &(struct maker_entry){.name = ".wh..wh..opq"});
    maker_add(&tar, &(struct maker_entry){"new", .data = "n"});
    must(add(s, &tar, NULL, NULL, &hold, &b, &err), &err);
    config_of(&config, "", a.diff_id, b.diff_id);
    must(lev_imagestore_add_image(s, &forever, "a", config.data, config.len,
                                  NULL, id, &err),
         &err);
    must(lev_imagestore_get(s, &forever, "a", &image, &err), &err);
    assert(image.layers[1] == NULL);
    assert(strstr(image.layers[0], b.diff_id + 7) != NULL);
    lev_stored_image_deinit(&image);
    lev_imagestore_close(s);
}

/* --- processes --------------------------------------------------------- */

static void
child_adds(int seed)
{
    struct lev_imagestore *s = open_store();
    struct lev_stored_image image;
    struct lev_error err;
    char ref[32], id[72];

    for (int i = 0; i < 5; i++) {
        snprintf(ref, sizeof(ref), "name%d:%d", seed % 3, i);
        add_image(s, ref, 10 + i, id);
        must(lev_imagestore_get(s, &forever, id, &image, &err), &err);
        assert(access(image.layers[0], F_OK) == 0);
        assert(access(image.layers[1], F_OK) == 0);
        lev_stored_image_deinit(&image);
    }
    lev_imagestore_close(s);
}

static void
wait_all(pid_t *pids, int n)
{
    for (int i = 0; i < n; i++) {
        int status;

        assert(waitpid(pids[i], &status, 0) == pids[i]);
        assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void
test_many(void)
{
    pid_t pids[8];

    fresh();
    for (int i = 0; i < 8; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            child_adds(i);
            _exit(0);
        }
    }
    wait_all(pids, 8);
    assert(count("layers") == 6 && count("blobs/sha256") == 5);
    assert(count("tmp") == 0 && count("locks") == 0);
}

/* Adding and removing for ever; killed from outside. */
static void
child_churns(unsigned seed)
{
    struct lev_imagestore *s = open_store();

    for (;;) {
        struct lev_stored_image image;
        struct lev_error err;
        char ref[32], id[72];
        int what = rand_r(&seed) % 4;
        uint64_t freed;

        snprintf(ref, sizeof(ref), "n:%d", what);
        add_image(s, ref, 10 + rand_r(&seed) % 4, id);
        if (lev_imagestore_get(s, &forever, ref, &image, &err) == 0) {
            for (char **p = image.layers; *p != NULL; p++) {
                assert(access(*p, F_OK) == 0);
            }
            lev_stored_image_deinit(&image);
        }
        if (what == 0) {
            must(lev_imagestore_prune(s, &forever, &freed, &err), &err);
        }
        if (lev_imagestore_remove(s, &forever, ref, &err) < 0) {
            assert(err.code == LEV_E_IMAGE_NOT_FOUND);
        }
    }
}

static void
nap_us(unsigned us)
{
    struct lev_error ignored;

    lev_scope_sleep(&forever, us * INT64_C(1000), &ignored);
}

static void
test_killed(void)
{
    struct lev_imagestore *s;
    struct lev_error err;
    unsigned seed = 1;
    uint64_t freed;

    fresh();
    for (int round = 0; round < 40; round++) {
        pid_t pids[3];

        for (int i = 0; i < 3; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                child_churns((unsigned)(round * 3 + i));
            }
        }
        nap_us(5000 + (unsigned)rand_r(&seed) % 60000);
        for (int i = 0; i < 3; i++) {
            int status;

            kill(pids[i], SIGKILL);
            assert(waitpid(pids[i], &status, 0) == pids[i]);
            assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
    }
    /* Whatever was left: images that are whole, and nothing in the way. */
    s = open_store();
    assert(count("tmp") == 0);
    for (int i = 0; i < 4; i++) {
        struct lev_stored_image image;
        char ref[32];

        snprintf(ref, sizeof(ref), "n:%d", i);
        if (lev_imagestore_get(s, &forever, ref, &image, &err) == 0) {
            lev_stored_image_deinit(&image);
            must(lev_imagestore_remove(s, &forever, ref, &err), &err);
        }
        else {
            assert(err.code == LEV_E_IMAGE_NOT_FOUND);
        }
    }
    must(lev_imagestore_prune(s, &forever, &freed, &err), &err);
    assert(count("layers") == 0 && count("blobs/sha256") == 0);
    assert(count("tmp") == 0);
    lev_imagestore_close(s);
}

/* --- a full disk -------------------------------------------------------- */

static void
in_small_disk(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_image_hold hold = {0};
    struct lev_layer_result r;
    struct lev_imagestore *s;
    struct lev_error err;

    assert(mkdir(dir, 0700) == 0);
    assert(mount("tmpfs", dir, "tmpfs", 0, "size=4m") == 0);
    s = open_store();
    make_layer(&tar, "big", 1, 8 << 20);
    fails(add(s, &tar, NULL, NULL, &hold, &r, &err), &err, LEV_E_OS,
          "entry 'big': write: No space left on device");
    assert(count("tmp") == 0 && count("layers") == 0);
    make_layer(&tar, "small", 1, 1 << 20);
    must(add(s, &tar, NULL, NULL, &hold, &r, &err), &err);
    lev_image_hold_release(&hold);
    lev_imagestore_close(s);
    assert(umount(dir) == 0);
}

static void
test_full(void)
{
    pid_t pid;

    fresh();
    pid = fork();
    if (pid == 0) {
        assert(unshare(CLONE_NEWNS) == 0);
        assert(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        in_small_disk();
        _exit(0);
    }
    wait_all(&pid, 1);
}

/* --- archives ----------------------------------------------------------- */

static int
file_of(const struct lev_buf *b)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    assert(fd >= 0);
    assert(write(fd, b->data, b->len) == (ssize_t)b->len);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void
add_blob(struct lev_buf *tar, const struct lev_buf *blob, char digest[72])
{
    char name[100];

    maker_digest(blob, digest);
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest + 7);
    maker_add(tar, &(struct maker_entry){
                       .name = name, .data = blob->data, .len = blob->len});
}

static void
make_oci_archive(struct lev_buf *tar, const char *arch)
{
    _cleanup_buf_ struct lev_buf layer = {0}, packed = {0}, config = {0},
                                 manifest = {0}, index = {0};
    char diff_id[72], layer_digest[72], config_digest[72], digest[72];

    make_layer(&layer, "file", 7, 5000);
    maker_digest(&layer, diff_id);
    maker_pack(&layer, ARCHIVE_FILTER_ZSTD, &packed);
    add_blob(tar, &packed, layer_digest);
    config_of(&config, "", diff_id, NULL);
    add_blob(tar, &config, config_digest);
    lev_buf_printf(&manifest,
                   "{\"schemaVersion\":2,\"config\":{\"mediaType\":"
                   "\"application/vnd.oci.image.config.v1+json\",\"digest\":"
                   "\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
                   "\"application/vnd.oci.image.layer.v1.tar+zstd\","
                   "\"digest\":\"%s\",\"size\":%zu}]}",
                   config_digest, config.len, layer_digest, packed.len);
    add_blob(tar, &manifest, digest);
    lev_buf_printf(&index,
                   "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\","
                   "\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":"
                   "\"linux\",\"architecture\":\"%s\"},\"annotations\":{"
                   "\"org.opencontainers.image.ref.name\":\"named:1\"}}]}",
                   digest, manifest.len, arch);
    maker_add(tar,
              &(struct maker_entry){.name = "index.json", .data = index.data});
    maker_end(tar);
}

static void
test_load_oci(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, loaded = {0};
    struct lev_stored_image image;
    struct lev_imagestore *s;
    struct lev_error err;
    int fd;

    fresh();
    s = open_store();
    make_oci_archive(&tar, "amd64");
    fd = file_of(&tar);
    must(lev_imagestore_load(s, &forever, fd, NULL, &loaded, &err), &err);
    assert(strcmp(loaded.data, "named:1\n") == 0);
    lev_buf_clear(&loaded);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    must(lev_imagestore_load(s, &forever, fd, "other:2", &loaded, &err), &err);
    assert(strcmp(loaded.data, "other:2\n") == 0 && count("layers") == 1);
    must(lev_imagestore_get(s, &forever, "named:1", &image, &err), &err);
    assert(image.digest != NULL && image.size == 5000);
    lev_stored_image_deinit(&image);
    assert(count("tmp") == 0);
    close(fd);
    lev_imagestore_close(s);
}

static void
make_docker_archive(struct lev_buf *tar, const char *config_name)
{
    _cleanup_buf_ struct lev_buf layer = {0}, config = {0}, manifest = {0};
    char diff_id[72];

    make_layer(&layer, "file", 7, 5000);
    maker_digest(&layer, diff_id);
    config_of(&config, "", diff_id, diff_id);
    maker_add(tar, &(struct maker_entry){.name = "1/layer.tar",
                                         .data = layer.data,
                                         .len = layer.len});
    maker_add(tar, &(struct maker_entry){"2/layer.tar", '2',
                                         .link = "../1/layer.tar"});
    maker_add(tar, &(struct maker_entry){"out", '2', .link = "/etc/passwd"});
    maker_add(tar,
              &(struct maker_entry){.name = "c.json", .data = config.data});
    lev_buf_printf(&manifest,
                   "[{\"Config\":\"%s\",\"RepoTags\":[\"a:1\",\"b:2\"],"
                   "\"Layers\":[\"1/layer.tar\",\"2/layer.tar\"]}]",
                   config_name);
    maker_add(tar, &(struct maker_entry){.name = "manifest.json",
                                         .data = manifest.data});
    maker_end(tar);
}

static void
load_fails(struct lev_imagestore *s, const struct lev_buf *tar,
           const char *text)
{
    _cleanup_buf_ struct lev_buf loaded = {0};
    struct lev_error err;
    int fd = file_of(tar);

    fails(lev_imagestore_load(s, &forever, fd, NULL, &loaded, &err), &err,
          LEV_E_IMAGE, text);
    close(fd);
}

static void
test_load_docker(void)
{
    _cleanup_buf_ struct lev_buf tar = {0}, loaded = {0};
    struct lev_stored_image image;
    struct lev_imagestore *s;
    struct lev_error err;
    int fd;

    fresh();
    s = open_store();
    make_docker_archive(&tar, "c.json");
    fd = file_of(&tar);
    must(lev_imagestore_load(s, &forever, fd, NULL, &loaded, &err), &err);
    assert(strcmp(loaded.data, "a:1\nb:2\n") == 0 && count("layers") == 1);
    must(lev_imagestore_get(s, &forever, "b:2", &image, &err), &err);
    assert(image.layers[1] != NULL && image.layers[2] == NULL);
    lev_stored_image_deinit(&image);
    close(fd);
    lev_buf_clear(&tar);
    make_docker_archive(&tar, "../../names.db");
    load_fails(s, &tar, "names.db");
    lev_buf_clear(&tar);
    make_docker_archive(&tar, "out"); /* a link that leads out */
    load_fails(s, &tar, "out");
    lev_buf_clear(&tar);
    make_layer(&tar, "root", 1, 10);
    load_fails(s, &tar, "neither a manifest.json nor an index.json");
    lev_buf_clear(&tar);
    lev_buf_puts(&tar, "this is no archive");
    load_fails(s, &tar, "broken archive");
    assert(count("tmp") == 0);
    lev_imagestore_close(s);
}

static void
test_import(void)
{
    _cleanup_buf_ struct lev_buf tar = {0};
    struct lev_stored_image image;
    struct lev_imagestore *s;
    struct lev_error err;
    char id[72];
    int fd;

    fresh();
    s = open_store();
    make_layer(&tar, "bin/sh", 1, 100);
    fd = file_of(&tar);
    must(lev_imagestore_import(s, &forever, fd, "root:1", id, &err), &err);
    must(lev_imagestore_get(s, &forever, "root:1", &image, &err), &err);
    assert(strcmp(image.id, id) == 0 && image.size == 100);
    lev_stored_image_deinit(&image);
    close(fd);
    lev_imagestore_close(s);
}

int
main(void)
{
    struct lev_error err;

    if (geteuid() != 0) {
        fprintf(stderr, "needs root\n");
        return 77;
    }
    assert(mkdtemp(base) != NULL);
    snprintf(dir, sizeof(dir), "%s/store", base);
    test_config();
    test_names();
    test_held();
    test_digests();
    test_opaque_root();
    test_load_oci();
    test_load_docker();
    test_import();
    test_full();
    test_many();
    test_killed();
    must(lev_tree_remove(AT_FDCWD, base, &err), &err);
    return 0;
}
