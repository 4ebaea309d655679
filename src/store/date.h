/* date.h - milliseconds since 1970 as a calendar date of the proleptic
 * Gregorian calendar, and back.
 *
 * Without time zones: shift the milliseconds first (zone.h). Pure functions.
 */
#ifndef LEV_DATE_H
#define LEV_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEV_DAY_MS INT64_C(86400000)

struct lev_date {
    int64_t year;
    int month, day;               /* from 1 */
    int hour, minute, second, ms; /* from 0 */
    int weekday;                  /* Sunday 0 */
    int yearday;                  /* from 1 */
};

void lev_date_split(int64_t ms, struct lev_date *d);
/* Only year, month, day and time count; months beyond 1 to 12 carry over. */
int64_t lev_date_join(const struct lev_date *d);
int64_t lev_date_days(int64_t year, int month, int day); /* since 1970 */

int lev_date_week(const struct lev_date *d); /* weeks begin on Sundays */
/* ISO 8601: weeks begin on Mondays, the first one has the first Thursday. */
int lev_date_iso_week(const struct lev_date *d);
int64_t lev_date_iso_year(const struct lev_date *d);

/* "2020-02-29", "2020-02-29T01:02", "2020-02-29 01:02:03.004+02:00", …; UTC
 * where the text names no offset. */
bool lev_date_parse(const char *text, size_t len, int64_t *ms);
/* "2020-02-29T01:02:03.004Z"; how long it is. */
int lev_date_print(int64_t ms, char *text, size_t size);

#endif
