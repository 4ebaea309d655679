/* imageref.h - references of images, parsed as Docker's client does.
 *
 * name[:tag][@digest], an image id or its prefix, or a tool image
 * `.user.tool[:version]`, which expands to <registry>/lev.user.tool:version.
 * The grammar is the distribution project's "reference" package. Before a name
 * "docker-daemon:" may stand: the image as the Docker of this machine has it.
 */
#ifndef LEV_IMAGEREF_H
#define LEV_IMAGEREF_H

#include "error.h"
#include <stdbool.h>

struct lev_imageref {
    char *registry;   /* "docker.io", "localhost:5000" */
    char *repository; /* "library/busybox" */
    char *tag;        /* or NULL */
    char *digest;     /* "sha256:…" or NULL */
    char *familiar;   /* as an engine is asked for it: "busybox:latest" */
    bool is_id;       /* could be an image id or a prefix of one */
    bool of_daemon; /* "docker-daemon:" was before it, and is in `familiar` */
};

/* INVALID naming the reference and what is wrong with it. `tool_registry`:
 * where tool images live; a tool image without a version is INVALID here, with
 * the remedy. */
int lev_imageref_parse(const char *text, const char *tool_registry,
                       struct lev_imageref *ref, struct lev_error *err);
void lev_imageref_deinit(struct lev_imageref *ref);
#define _cleanup_imageref_ _cleanup_(lev_imageref_deinit)

/* What `text` names in a store or a Docker: without "docker-daemon:". */
#define LEV_OF_DAEMON "docker-daemon:"
const char *lev_imageref_plain(const char *text);

#endif
