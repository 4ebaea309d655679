/* runlog.h - a container's output, kept on disk within a bound.
 *
 * One file per run below the data directory, `<document id>.log`; when it
 * reaches half of the bound it becomes `.log.1`, replacing the one before, so
 * that the newest output is always there. Records: stream (1 byte), time (ms
 * since the epoch, int64), length (uint32), bytes; numbers little-endian. No
 * output, no file. One writer, any number of readers; readers of a run that
 * lives go through its lock (run.h).
 *
 * A file that follows another one begins with a mark, a record of stream 0:
 * its position among the records of the run, and how many bytes of output came
 * before it (both uint64). A reader that has seen less knows what it misses.
 */
#ifndef LEV_RUNLOG_H
#define LEV_RUNLOG_H

#include "buf.h"
#include <sys/types.h>

#define LEV_RUNLOG_BOUND (32u * 1024 * 1024)
#define LEV_RUNLOG_TOTAL (UINT64_C(1) * 1024 * 1024 * 1024)
#define LEV_RUNLOG_PIECE (256u * 1024) /* good to read at once */
#define LEV_RUNLOG_HEAD 13
#define LEV_RUNLOG_MARK 16

struct lev_runlog {
    char *path;
    int fd, old_fd;            /* of `.log` and `.log.1` */
    uint64_t start, old_start; /* positions of their first bytes */
    uint64_t size;             /* bytes in the current file */
    uint64_t output;           /* bytes of output, without heads and marks */
};

/* `dir` is made when the first record comes. */
int lev_runlog_init(struct lev_runlog *log, const char *dir, const char *name,
                    struct lev_error *err);
void lev_runlog_deinit(struct lev_runlog *log);
int lev_runlog_append(struct lev_runlog *log, int stream, int64_t time,
                      const char *data, size_t len, struct lev_error *err);
/* Whole records from position `*pos` on, at most about `max` bytes; moves
 * `*pos` behind them (and over what the bound has dropped). */
int lev_runlog_read(const struct lev_runlog *log, uint64_t *pos, size_t max,
                    struct lev_buf *out, struct lev_error *err);
/* The same of a run of which there is only the file, maybe another process's;
 * appends nothing at the end. STATE when the file has gone since `*pos`. */
int lev_runlog_load(const char *dir, const char *name, uint64_t *pos,
                    size_t max, struct lev_buf *out, struct lev_error *err);
/* Removes the logs written longest ago until those below `dir` take no more
 * than `total` bytes. Failures leave more of them. */
void lev_runlog_sweep(const char *dir, uint64_t total);

#endif
