/* images.h - what a site knows of images, so that a run need not ask for what
 * has hardly ever changed since the last one.
 *
 * A description that is found here may be old: its reference may stand for
 * another image by now, or for none. Who relies on one compares its id with
 * the container's afterwards, and calls lev_images_forget() when they differ.
 *
 * All functions are for any thread.
 */
#ifndef LEV_IMAGES_H
#define LEV_IMAGES_H

#include "engine.h"

#include <pthread.h>

/* A description that several runs share; it does not change. */
struct lev_known_image {
    atomic_int refs;
    struct lev_image image;
    char *ref;
    struct lev_known_image *next; /* in its list */
};

/* A site's list, the last one added first. Zeroed but for the mutex. */
struct lev_images {
    pthread_mutex_t mutex;
    struct lev_known_image *first;
};

void lev_images_init(struct lev_images *images);
void lev_images_deinit(struct lev_images *images);

/* What is known of `ref`, with a reference of the caller's; or NULL. */
struct lev_known_image *lev_images_find(struct lev_images *images,
                                        const char *ref);
/* Takes the content of `image` over, also on failure, and keeps it for others
 * in place of what was known of `ref`; with a reference of the caller's. */
struct lev_known_image *lev_images_add(struct lev_images *images,
                                       const char *ref,
                                       struct lev_image *image,
                                       struct lev_error *err);
void lev_images_forget(struct lev_images *images, const char *ref);

void lev_known_image_unref(struct lev_known_image *known); /* NULL is fine */

#endif
