#include "images.h"

#include <string.h>

/* A workflow uses some tools, perhaps dozens: old entries go. */
#define MAX_KNOWN 64

void
lev_images_init(struct lev_images *images)
{
    pthread_mutex_init(&images->mutex, NULL);
    images->first = NULL;
}

void
lev_images_deinit(struct lev_images *images)
{
    while (images->first != NULL) {
        struct lev_known_image *known = images->first;

        images->first = known->next;
        lev_known_image_unref(known);
    }
    pthread_mutex_destroy(&images->mutex);
}

void
lev_known_image_unref(struct lev_known_image *known)
{
    if (known == NULL || atomic_fetch_sub(&known->refs, 1) > 1) {
        return;
    }
    lev_image_deinit(&known->image);
    free(known->ref);
    free(known);
}

/* With the mutex held: the link to what is known of `ref`, else to the end. */
static struct lev_known_image **
find_link(struct lev_images *images, const char *ref)
{
    struct lev_known_image **link = &images->first;

    while (*link != NULL && strcmp((*link)->ref, ref) != 0) {
        link = &(*link)->next;
    }
    return link;
}

/* With the mutex held: what is there, or nothing, is dropped. */
static void
drop(struct lev_known_image **link)
{
    struct lev_known_image *known = *link;

    if (known != NULL) {
        *link = known->next;
        lev_known_image_unref(known);
    }
}

struct lev_known_image *
lev_images_find(struct lev_images *images, const char *ref)
{
    struct lev_known_image *known;

    pthread_mutex_lock(&images->mutex);
    known = *find_link(images, ref);
    if (known != NULL) {
        atomic_fetch_add(&known->refs, 1);
    }
    pthread_mutex_unlock(&images->mutex);
    return known;
}

static struct lev_known_image *
known_new(const char *ref, struct lev_image *image)
{
    struct lev_known_image *known = calloc(1, sizeof(*known));

    if (known == NULL) {
        lev_image_deinit(image);
        return NULL;
    }
    known->refs = 1;
    known->image = *image;
    *image = (struct lev_image){0};
    known->ref = strdup(ref);
    if (known->ref == NULL) {
        lev_known_image_unref(known);
        return NULL;
    }
    return known;
}

struct lev_known_image *
lev_images_add(struct lev_images *images, const char *ref,
               struct lev_image *image, struct lev_error *err)
{
    struct lev_known_image *known = known_new(ref, image);
    struct lev_known_image **link;

    if (known == NULL) {
        lev_error_nomem(err, "image");
        return NULL;
    }
    atomic_fetch_add(&known->refs, 1);
    pthread_mutex_lock(&images->mutex);
    drop(find_link(images, ref));
    known->next = images->first;
    images->first = known;
    link = &images->first;
    for (int i = 0; i < MAX_KNOWN && *link != NULL; i++) {
        link = &(*link)->next;
    }
    drop(link);
    pthread_mutex_unlock(&images->mutex);
    return known;
}

void
lev_images_forget(struct lev_images *images, const char *ref)
{
    pthread_mutex_lock(&images->mutex);
    drop(find_link(images, ref));
    pthread_mutex_unlock(&images->mutex);
}
