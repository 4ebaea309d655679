/* runlog.h - a container's output, kept on disk within a bound.
 *
 * One file per run below the data directory, `<document id>.log`; when it
 * reaches half of the bound it becomes `.log.1`, replacing the one before, so
 * that the newest output is always there. Records: stream (1 byte), time (ms
 * since the epoch, int64), length (uint32), bytes; numbers little-endian. No
 * output, no file. One writer, any number of readers; readers of a run that
 * lives go through its lock (run.h).
 */
#ifndef LEV_RUNLOG_H
#define LEV_RUNLOG_H

#include "buf.h"
#include <sys/types.h>

#define LEV_RUNLOG_BOUND (32u * 1024 * 1024)
#define LEV_RUNLOG_TOTAL (UINT64_C(1) * 1024 * 1024 * 1024)
#define LEV_RUNLOG_HEAD 13

struct lev_runlog {
    char *path;
    int fd;
    uint64_t start; /* position of the current file's first byte */
    uint64_t size;  /* bytes in it */
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
/* Of a run that has ended, maybe of another process: everything kept. */
int lev_runlog_load(const char *dir, const char *name, struct lev_buf *out,
                    struct lev_error *err);
/* Removes the logs written longest ago until those below `dir` take no more
 * than `total` bytes. Failures leave more of them. */
void lev_runlog_sweep(const char *dir, uint64_t total);

#endif
