#include "zone.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "date.h"

#define ZONES "/usr/share/zoneinfo"
#define FILE_MAX (1024 * 1024)

/* A day of the year on which the clock changes, from a TZ string. */
struct change {
    char kind; /* 'M': month, week, day; 'J', '0': day of the year */
    int month, week, day; /* week 5: the last */
    int64_t time;         /* seconds of the day, local time before it */
};

/* What holds behind the last transition of the file. */
struct rule {
    bool has_dst;
    int64_t std, dst; /* local time minus UTC, seconds */
    struct change start, end;
};

struct lev_zone {
    char *name;
    size_t n;
    int64_t *at;     /* moments of transitions, seconds */
    int32_t *offset; /* from each of them on */
    int32_t first;   /* before them */
    struct rule rule;
};

static inline void
zone_closep(struct lev_zone **z)
{
    lev_zone_close(*z);
}

void
lev_zone_close(struct lev_zone *z)
{
    if (z != NULL) {
        free(z->name);
        free(z->at);
        free(z->offset);
        free(z);
    }
}

const char *
lev_zone_name(const struct lev_zone *z)
{
    return z->name;
}

/* TZ strings: POSIX's, with hours up to 167 as RFC 8536 allows. */

static bool
skip_name(const char **p)
{
    const char *from = *p;

    if (**p == '<') {
        *p += strcspn(*p, ">");
        if (**p != '>') {
            return false;
        }
        (*p)++;
        return true;
    }
    while ((**p >= 'A' && **p <= 'Z') || (**p >= 'a' && **p <= 'z')) {
        (*p)++;
    }
    return *p > from;
}

static bool
take_number(const char **p, int *out)
{
    const char *from = *p;

    *out = 0;
    while (**p >= '0' && **p <= '9' && *p - from < 4) {
        *out = *out * 10 + (*(*p)++ - '0');
    }
    return *p > from;
}

/* [+-]hh[:mm[:ss]] */
static bool
take_time(const char **p, int64_t *seconds)
{
    int sign = **p == '-' ? -1 : 1, hours, minutes = 0, rest = 0;

    if (**p == '-' || **p == '+') {
        (*p)++;
    }
    if (!take_number(p, &hours)) {
        return false;
    }
    if (**p == ':') {
        (*p)++;
        if (!take_number(p, &minutes)) {
            return false;
        }
        if (**p == ':') {
            (*p)++;
            if (!take_number(p, &rest)) {
                return false;
            }
        }
    }
    *seconds = sign * (hours * INT64_C(3600) + minutes * 60 + rest);
    return true;
}

static bool
take_change(const char **p, struct change *c)
{
    bool good;

    c->time = 7200;
    if (*(*p)++ != ',') {
        return false;
    }
    c->kind = **p == 'M' || **p == 'J' ? *(*p)++ : '0';
    if (c->kind == 'M') {
        good = take_number(p, &c->month) && *(*p)++ == '.' &&
               take_number(p, &c->week) && *(*p)++ == '.' &&
               take_number(p, &c->day) && c->month >= 1 && c->month <= 12;
    }
    else {
        good = take_number(p, &c->day);
    }
    if (good && **p == '/') {
        (*p)++;
        good = take_time(p, &c->time);
    }
    return good;
}

static bool
parse_rule(const char *p, struct rule *r)
{
    int64_t west;

    *r = (struct rule){0};
    if (!skip_name(&p) || !take_time(&p, &west)) {
        return false;
    }
    r->std = -west;
    r->dst = r->std + 3600;
    if (*p == '\0') {
        return true;
    }
    if (!skip_name(&p)) {
        return false;
    }
    if (*p != ',') {
        if (!take_time(&p, &west)) {
            return false;
        }
        r->dst = -west;
    }
    r->has_dst = true;
    return take_change(&p, &r->start) && take_change(&p, &r->end) &&
           *p == '\0';
}

static bool
is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* The local second of a year's change, as if local time were UTC. */
static int64_t
change_of_year(const struct change *c, int64_t year)
{
    int64_t day = lev_date_days(year, 1, 1);
    struct lev_date first;
    int64_t month;

    if (c->kind == 'J') { /* 1 to 365, never 29 February */
        day += c->day - 1 + (is_leap(year) && c->day >= 60);
    }
    else if (c->kind == '0') {
        day += c->day;
    }
    else {
        month = lev_date_days(year, c->month, 1);
        lev_date_split(month * LEV_DAY_MS, &first);
        day = month + (c->day - first.weekday + 7) % 7 + (c->week - 1) * 7;
        month = c->month == 12 ? lev_date_days(year + 1, 1, 1)
                               : lev_date_days(year, c->month + 1, 1);
        while (day >= month) {
            day -= 7;
        }
    }
    return day * 86400 + c->time;
}

static int64_t
rule_offset(const struct rule *r, int64_t utc)
{
    struct lev_date d;
    int64_t start, end;
    bool dst;

    if (!r->has_dst) {
        return r->std;
    }
    lev_date_split((utc + r->std) * 1000, &d);
    start = change_of_year(&r->start, d.year) - r->std;
    end = change_of_year(&r->end, d.year) - r->dst;
    dst = start < end ? utc >= start && utc < end
                      : utc >= start || utc < end; /* in the south */
    return dst ? r->dst : r->std;
}

/* Zone files. */

static uint64_t
big_endian(const char *p, int bytes)
{
    uint64_t n = 0;

    for (; bytes > 0; bytes--) {
        n = n << 8 | (unsigned char)*p++;
    }
    return n;
}

struct header {
    size_t utc, std, leap, times, types, chars;
};

#define HEADER 44

static bool
read_header(const struct lev_buf *file, size_t at, struct header *h)
{
    const char *p = file->data + at;

    if (file->len < at + HEADER || memcmp(p, "TZif", 4) != 0) {
        return false;
    }
    h->utc = big_endian(p + 20, 4);
    h->std = big_endian(p + 24, 4);
    h->leap = big_endian(p + 28, 4);
    h->times = big_endian(p + 32, 4);
    h->types = big_endian(p + 36, 4);
    h->chars = big_endian(p + 40, 4);
    return h->types > 0 && h->times < FILE_MAX && h->types <= 256 &&
           h->chars < FILE_MAX && h->leap < FILE_MAX && h->utc < FILE_MAX &&
           h->std < FILE_MAX;
}

/* Bytes of the block behind a header with times of that size. */
static size_t
block_size(const struct header *h, size_t time)
{
    return h->times * (time + 1) + h->types * 6 + h->chars +
           h->leap * (time + 4) + h->std + h->utc;
}

static bool
read_transitions(struct lev_zone *z, const char *p, const struct header *h)
{
    const char *types = p + h->times * 8;
    const char *infos = types + h->times;

    z->at = calloc(h->times + 1, sizeof(*z->at));
    z->offset = calloc(h->times + 1, sizeof(*z->offset));
    if (z->at == NULL || z->offset == NULL) {
        return false;
    }
    z->first = (int32_t)big_endian(infos, 4);
    for (z->n = 0; z->n < h->times; z->n++) {
        size_t type = (unsigned char)types[z->n];

        if (type >= h->types) {
            return false;
        }
        z->at[z->n] = (int64_t)big_endian(p + z->n * 8, 8);
        z->offset[z->n] = (int32_t)big_endian(infos + type * 6, 4);
    }
    return true;
}

/* Version 2 and later: a block with 32-bit times to be passed over, one with
 * 64-bit times, and a TZ string between newlines. */
static bool
parse_file(struct lev_zone *z, struct lev_buf *file)
{
    struct header h;
    size_t at, end;
    char *rule;

    if (!read_header(file, 0, &h) || file->data[4] < '2') {
        return false;
    }
    at = HEADER + block_size(&h, 4);
    if (at > file->len || !read_header(file, at, &h)) {
        return false;
    }
    at += HEADER;
    end = at + block_size(&h, 8);
    if (end + 2 > file->len || file->data[end] != '\n' ||
        file->data[file->len - 1] != '\n')
    {
        return false;
    }
    rule = file->data + end + 1;
    file->data[file->len - 1] = '\0';
    if (!read_transitions(z, file->data + at, &h)) {
        return false;
    }
    if (rule[0] == '\0') {
        z->rule =
            (struct rule){.std = z->n > 0 ? z->offset[z->n - 1] : z->first};
        return true;
    }
    return parse_rule(rule, &z->rule);
}

static bool
is_safe(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        bool word = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
                    (*p >= '0' && *p <= '9') || *p == '_' || *p == '-' ||
                    *p == '+' || (*p == '/' && p > name);

        if (!word) {
            return false;
        }
    }
    return name[0] != '\0' && strlen(name) < 100;
}

static int
read_file(const char *name, struct lev_buf *file)
{
    _cleanup_buf_ struct lev_buf path = {0};
    _cleanup_close_ int fd = -1;
    struct stat st;
    ssize_t n;
    char *room;

    lev_buf_printf(&path, ZONES "/%s", name);
    fd = open(lev_buf_text(&path), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size > FILE_MAX ||
        (room = lev_buf_reserve(file, (size_t)st.st_size + 1)) == NULL)
    {
        return -1;
    }
    while ((n = read(fd, room + file->len, (size_t)st.st_size - file->len)) >
           0) {
        file->len += (size_t)n;
    }
    return n < 0 ? -1 : 0;
}

/* "+hh", "+hhmm" or "+hh:mm" */
static bool
parse_offset(const char *text, int64_t *seconds)
{
    size_t len = strlen(text);
    int digits[4] = {0}, n = 0;

    if (text[0] != '+' && text[0] != '-') {
        return false;
    }
    for (const char *p = text + 1; *p != '\0'; p++) {
        if (*p == ':' && n == 2 && len == 6) {
            continue;
        }
        if (*p < '0' || *p > '9' || n == 4) {
            return false;
        }
        digits[n++] = *p - '0';
    }
    *seconds = (digits[0] * 10 + digits[1]) * INT64_C(3600) +
               (digits[2] * 10 + digits[3]) * INT64_C(60);
    if (text[0] == '-') {
        *seconds = -*seconds;
    }
    return n == 2 || n == 4;
}

struct lev_zone *
lev_zone_open(const char *name, struct lev_error *err)
{
    _cleanup_(zone_closep) struct lev_zone *z = calloc(1, sizeof(*z));
    _cleanup_buf_ struct lev_buf file = {0};

    if (z == NULL || (z->name = strdup(name)) == NULL) {
        lev_error_nomem(err, "time zone");
        return NULL;
    }
    if (strcmp(name, "UTC") == 0 || strcmp(name, "GMT") == 0 ||
        strcmp(name, "Z") == 0 || parse_offset(name, &z->rule.std))
    {
        return lev_steal(z);
    }
    if (!is_safe(name) || read_file(name, &file) < 0 || !parse_file(z, &file))
    {
        lev_error_set(err, LEV_E_QUERY, 40485,
                      "expression: there is no time zone '%s' (names are "
                      "looked up in %s)",
                      name, ZONES);
        return NULL;
    }
    return lev_steal(z);
}

int64_t
lev_zone_offset(const struct lev_zone *z, int64_t utc_ms)
{
    /* Years that no calendar has are as the last one that counts. */
    static const int64_t farthest = INT64_C(8000000000000);
    int64_t utc = utc_ms / 1000 - (utc_ms % 1000 < 0);
    size_t low = 0, high = z->n;

    utc = utc > farthest ? farthest : utc < -farthest ? -farthest : utc;
    while (low < high) { /* the first transition behind it */
        size_t mid = (low + high) / 2;

        if (z->at[mid] <= utc) {
            low = mid + 1;
        }
        else {
            high = mid;
        }
    }
    if (low == z->n) {
        return rule_offset(&z->rule, utc);
    }
    return low == 0 ? z->first : z->offset[low - 1];
}

int64_t
lev_zone_to_utc(const struct lev_zone *z, int64_t local_ms)
{
    int64_t guess = local_ms - lev_zone_offset(z, local_ms) * 1000;
    int64_t early = local_ms - lev_zone_offset(z, guess - LEV_DAY_MS) * 1000;

    /* What held the day before is right unless the clock changed since. */
    if (early + lev_zone_offset(z, early) * 1000 == local_ms) {
        return early;
    }
    return local_ms - lev_zone_offset(z, guess) * 1000;
}
