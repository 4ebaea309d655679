/* tarmaker.h - archives for the tests of layers, byte by byte, so that they
 * can say what no tar program would write.
 */
#ifndef LEV_TARMAKER_H
#define LEV_TARMAKER_H

#include "buf.h"
#include "layer.h"

struct maker_entry {
    const char *name;
    char type; /* of the header; 0: '0' */
    const char *link;
    const char *data; /* the content */
    size_t len;       /* of it; 0: strlen(data) */
    const char *size; /* the field as it shall stand there; NULL: right */
    unsigned mode;    /* 0: 0644 */
    unsigned uid, gid;
    const char *mtime; /* octal; NULL: 1500000000 */
    unsigned major, minor;
    /* Records of a pax header that goes before, as "key=value\n…". */
    const char *pax;
};

/* One header and its content, padded. */
void maker_add(struct lev_buf *tar, const struct maker_entry *e);
/* A pax header whose body is `text` as it is. */
void maker_add_pax(struct lev_buf *tar, const char *text, size_t len);
/* Appends "len key=value\n" to the records of a pax header. */
void maker_record(struct lev_buf *records, const char *key, const void *value,
                  size_t len);
/* Puts the checksum of the header at `at` right. */
void maker_checksum(struct lev_buf *tar, size_t at);
void maker_end(struct lev_buf *tar); /* two blocks of zeros */

/* `filter`: ARCHIVE_FILTER_GZIP or _ZSTD. */
void maker_pack(const struct lev_buf *tar, int filter, struct lev_buf *out);
void maker_digest(const struct lev_buf *b, char digest[72]);

/* A source that gives at most `step` bytes at once. */
struct maker_source {
    struct lev_layer_source source;
    const struct lev_buf *from;
    size_t at, step;
    /* Where it fails, with LEV_E_PULL; SIZE_MAX: nowhere. */
    size_t fail_at;
};
void maker_source_init(struct maker_source *s, const struct lev_buf *from,
                       size_t step);

#endif
