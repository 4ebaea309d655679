/* frame.h - the guest channel's framing: BSON documents, one after another.
 *
 * A BSON document begins with its own length, so nothing is added. A reader
 * takes bytes as they come and gives whole documents back; each one is bounded
 * and validated (lengths, UTF-8, depth, duplicate keys) before anybody looks
 * into it, since the guest is not trusted.
 *
 * Frames, guest to host (`seq` counts from 1 and is an int64):
 *   {hello: 1, token: str, python: str}   first, once
 *   {set: seq, data: {…}}                 $set of these keys; acknowledged
 *   {log: level, name: str, text: str}    a logging record
 *   {progress: double, text: str | null}  lev.progress()
 *   {fail: {type, module, text, traceback, builtin: str | null}}
 *                                         the entry raised
 *   {exit: int}                           the entry ended; its exit code
 * host to guest:
 *   {payload: binary, argv: [str], …}     the answer to hello
 *   {ack: seq} | {nak: seq, type: str, text: str}
 *                                         type: an exception's name
 *
 * A reader is one thread's at a time; a zeroed struct is a new one.
 */
#ifndef LEV_FRAME_H
#define LEV_FRAME_H

#include "bsoncheck.h"
#include "buf.h"

#define LEV_FRAME_MAX (48u * 1024 * 1024)

struct lev_frame_reader {
    struct lev_buf in;
    size_t used; /* bytes of `in` that were given out as frames */
};

void lev_frame_reader_deinit(struct lev_frame_reader *r);
/* Adds what was received; ends the borrowing of the last document. */
int lev_frame_reader_feed(struct lev_frame_reader *r, const void *data,
                          size_t len, struct lev_error *err);
/* 1: a whole, valid document, `*doc` borrows it until the next feed; 0: more
 * bytes are needed; -1: ENGINE, the stream cannot be trusted any more. A frame
 * may be one level deeper than LEV_BSON_MAX_DEPTH: it wraps a document. */
int lev_frame_reader_next(struct lev_frame_reader *r, bson_t *doc,
                          struct lev_error *err);
/* When the stream has ended: ENGINE when that was inside a frame. */
int lev_frame_reader_end(const struct lev_frame_reader *r,
                         struct lev_error *err);

#endif
