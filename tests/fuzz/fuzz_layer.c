/* fuzz_layer.c - libFuzzer over the layer reader: whatever the bytes are, they
 * are unpacked or refused, and a file beside the layer stays as it is.
 */
#include "layer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
    const uint8_t *data;
    size_t len;
};

static ssize_t
take(void *ctx, void *buf, size_t len, struct lev_error *err)
{
    struct bytes *b = ctx;
    size_t n = b->len < len ? b->len : len;

    if (n > 0) {
        memcpy(buf, b->data, n);
    }
    b->data += n;
    b->len -= n;
    return (ssize_t)n;
}

static int
work_dir(void)
{
    static char dir[] = "/dev/shm/lev-fuzz-XXXXXX";
    int fd, at;

    if (mkdtemp(dir) == NULL ||
        (at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
    {
        abort();
    }
    fd = openat(at, "outside", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1) {
        abort();
    }
    close(fd);
    return at;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct lev_scope forever = {.deadline = LEV_NEVER};
    static const struct lev_layer_options limits = {.max_bytes = 1000000,
                                                    .max_entries = 500};
    static int at = -1;
    struct bytes bytes = {data, size};
    struct lev_layer_source source = {.read = take, .ctx = &bytes};
    struct lev_layer_result result;
    struct lev_error err;
    struct stat before, after;
    int fd;

    if (at < 0) {
        at = work_dir();
    }
    if (fstatat(at, "outside", &before, 0) < 0 ||
        mkdirat(at, "layer", 0700) < 0 ||
        (fd = openat(at, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
    {
        abort();
    }
    if (lev_layer_unpack(&forever, &source, fd, &limits, &result, &err) == 0 &&
        result.size != size)
    {
        abort();
    }
    close(fd);
    if (fstatat(at, "outside", &after, 0) < 0 ||
        memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) != 0 ||
        after.st_nlink != 1 || lev_tree_remove(at, "layer", &err) < 0)
    {
        abort();
    }
    return 0;
}
