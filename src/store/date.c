#include "date.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int64_t
floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Years are counted from March here, so that the leap day is the last. */
int64_t
lev_date_days(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400);
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;

    return era * 146097 + days - 719468;
}

static void
split_days(int64_t days, struct lev_date *d)
{
    int64_t z = days + 719468;
    int64_t era = floor_div(z, 146097);
    int64_t of_era = z - era * 146097;
    int64_t y =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;

    d->day = (int)(of_year - (153 * m + 2) / 5 + 1);
    d->month = (int)(m < 10 ? m + 3 : m - 9);
    d->year = y + era * 400 + (d->month <= 2);
    d->yearday = (int)(days - lev_date_days(d->year, 1, 1)) + 1;
    d->weekday = (int)(days + 4 - floor_div(days + 4, 7) * 7);
}

void
lev_date_split(int64_t ms, struct lev_date *d)
{
    int64_t days = floor_div(ms, LEV_DAY_MS);
    int rest = (int)((ms % LEV_DAY_MS + LEV_DAY_MS) % LEV_DAY_MS);

    split_days(days, d);
    d->ms = rest % 1000;
    d->second = rest / 1000 % 60;
    d->minute = rest / 60000 % 60;
    d->hour = rest / 3600000;
}

int64_t
lev_date_join(const struct lev_date *d)
{
    int64_t months = d->year * 12 + d->month - 1;
    int64_t year = floor_div(months, 12);
    int64_t days = lev_date_days(year, (int)(months - year * 12) + 1, d->day);

    return days * LEV_DAY_MS + d->hour * INT64_C(3600000) +
           d->minute * INT64_C(60000) + d->second * INT64_C(1000) + d->ms;
}

int
lev_date_week(const struct lev_date *d)
{
    return (d->yearday - 1 + 7 - d->weekday) / 7;
}

static int
iso_weekday(const struct lev_date *d)
{
    return d->weekday == 0 ? 7 : d->weekday;
}

static int
weeks_of_year(int64_t year)
{
    struct lev_date first, last;

    split_days(lev_date_days(year, 1, 1), &first);
    split_days(lev_date_days(year, 12, 31), &last);
    return first.weekday == 4 || last.weekday == 4 ? 53 : 52;
}

int
lev_date_iso_week(const struct lev_date *d)
{
    int week = (d->yearday - iso_weekday(d) + 10) / 7;

    if (week < 1) {
        return weeks_of_year(d->year - 1);
    }
    return week > weeks_of_year(d->year) ? 1 : week;
}

int64_t
lev_date_iso_year(const struct lev_date *d)
{
    int week = (d->yearday - iso_weekday(d) + 10) / 7;

    if (week < 1) {
        return d->year - 1;
    }
    return week > weeks_of_year(d->year) ? d->year + 1 : d->year;
}

/* Parsing. */

struct input {
    const char *p, *end;
};

static bool
take(struct input *in, char ch)
{
    if (in->p == in->end || *in->p != ch) {
        return false;
    }
    in->p++;
    return true;
}

static bool
take_digits(struct input *in, int n, int *out)
{
    *out = 0;
    for (; n > 0; n--) {
        if (in->p == in->end || *in->p < '0' || *in->p > '9') {
            return false;
        }
        *out = *out * 10 + (*in->p++ - '0');
    }
    return true;
}

static void
take_fraction(struct input *in, int *ms)
{
    int scale = 100;

    for (; in->p < in->end && *in->p >= '0' && *in->p <= '9'; in->p++) {
        *ms += (*in->p - '0') * scale;
        scale /= 10;
    }
}

/* "Z", "+hh", "+hhmm" or "+hh:mm"; minutes. */
static bool
take_offset(struct input *in, int *minutes)
{
    bool minus = in->p < in->end && *in->p == '-';
    int hours, rest = 0;

    *minutes = 0;
    if (in->p == in->end || take(in, 'Z') || take(in, 'z')) {
        return true;
    }
    if ((!take(in, '+') && !take(in, '-')) || !take_digits(in, 2, &hours)) {
        return false;
    }
    if (in->p < in->end) {
        take(in, ':');
        if (!take_digits(in, 2, &rest)) {
            return false;
        }
    }
    *minutes = (hours * 60 + rest) * (minus ? -1 : 1);
    return hours < 24 && rest < 60;
}

static bool
take_time(struct input *in, struct lev_date *d)
{
    if (!take_digits(in, 2, &d->hour) || !take(in, ':') ||
        !take_digits(in, 2, &d->minute))
    {
        return false;
    }
    if (take(in, ':')) {
        if (!take_digits(in, 2, &d->second)) {
            return false;
        }
        if (take(in, '.')) {
            take_fraction(in, &d->ms);
        }
    }
    return d->hour < 24 && d->minute < 60 && d->second < 60;
}

bool
lev_date_parse(const char *text, size_t len, int64_t *ms)
{
    struct input in = {text, text + len};
    struct lev_date d = {0}, back;
    int year, offset = 0;

    if (!take_digits(&in, 4, &year) || !take(&in, '-') ||
        !take_digits(&in, 2, &d.month) || !take(&in, '-') ||
        !take_digits(&in, 2, &d.day))
    {
        return false;
    }
    d.year = year;
    if ((take(&in, 'T') || take(&in, ' ')) &&
        (!take_time(&in, &d) || !take_offset(&in, &offset)))
    {
        return false;
    }
    if (in.p != in.end || d.month < 1 || d.month > 12) {
        return false;
    }
    *ms = lev_date_join(&d);
    lev_date_split(*ms, &back); /* is there such a day in that month? */
    *ms -= offset * INT64_C(60000);
    return back.day == d.day;
}

int
lev_date_print(int64_t ms, char *text, size_t size)
{
    struct lev_date d;

    lev_date_split(ms, &d);
    return snprintf(text, size, "%04" PRId64 "-%02d-%02dT%02d:%02d:%02d.%03dZ",
                    d.year, d.month, d.day, d.hour, d.minute, d.second, d.ms);
}
