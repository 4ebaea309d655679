#include "expr_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "date.h"
#include "number.h"
#include "zone.h"

/* The moment that a date, timestamp or ObjectId stands for. */
static bool
moment_of(const bson_value_t *v, int64_t *ms)
{
    switch (v->value_type) {
    case BSON_TYPE_DATE_TIME:
        *ms = v->value.v_datetime;
        return true;
    case BSON_TYPE_TIMESTAMP:
        *ms = (int64_t)v->value.v_timestamp.timestamp * 1000;
        return true;
    case BSON_TYPE_OID:
        *ms = (int64_t)(uint32_t)bson_oid_get_time_t(&v->value.v_oid) * 1000;
        return true;
    default:
        return false;
    }
}

/* 1 with the moment of argument `i`, 0 when it is null. */
static int
eval_moment(const struct lev_node *n, size_t i, int code, struct lev_eval *ev,
            int64_t *ms, struct lev_error *err)
{
    bson_value_t v;

    if (lev_node_arg(n, i, ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    return moment_of(&v, ms)
               ? 1
               : lev_error_set(err, LEV_E_QUERY, code,
                               "expression: %s needs a date, not %s",
                               n->op->name, lev_value_type_name(v.value_type));
}

/* The zone of that name, kept for the next document. */
static int
find_zone(struct lev_eval *ev, const char *name, struct lev_error *err)
{
    if (ev->zone != NULL && strcmp(lev_zone_name(ev->zone), name) == 0) {
        return 0;
    }
    lev_zone_close(lev_steal(ev->zone));
    ev->zone = lev_zone_open(name, err);
    return ev->zone == NULL ? -1 : 0;
}

/* 1 with the zone of argument `i` in `ev`, UTC where it is left out; 0 when it
 * is null. */
static int
eval_zone(const struct lev_node *n, size_t i, struct lev_eval *ev,
          struct lev_error *err)
{
    bson_value_t v;

    if (i >= n->n || n->args[i] == NULL) {
        return find_zone(ev, "UTC", err) < 0 ? -1 : 1;
    }
    if (lev_node_eval(n->args[i], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (v.value_type != BSON_TYPE_UTF8) {
        return lev_error_set(err, LEV_E_QUERY, 40517,
                             "expression: the timezone of %s is a string, not "
                             "%s",
                             n->op->name, lev_value_type_name(v.value_type));
    }
    return find_zone(ev, v.value.v_utf8.str, err) < 0 ? -1 : 1;
}

static int64_t
local(const struct lev_eval *ev, int64_t ms)
{
    int64_t moved;

    return __builtin_add_overflow(ms, lev_zone_offset(ev->zone, ms) * 1000,
                                  &moved)
               ? ms
               : moved;
}

/* $year … $isoDayOfWeek; `n->op->data` takes the part. */

typedef bson_value_t (*part_fn)(const struct lev_date *);

struct part {
    part_fn fn;
};

static int
eval_part(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
          struct lev_error *err)
{
    const struct part *part = n->op->data;
    struct lev_date d;
    int64_t ms;
    int rc = eval_moment(n, 0, 16006, ev, &ms, err);

    *out = lev_value_null;
    if (rc > 0) {
        rc = eval_zone(n, 1, ev, err);
    }
    if (rc > 0) {
        lev_date_split(local(ev, ms), &d);
        *out = part->fn(&d);
    }
    return rc < 0 ? -1 : 0;
}

static bson_value_t
year(const struct lev_date *d)
{
    return lev_node_int(d->year);
}

static bson_value_t
month(const struct lev_date *d)
{
    return lev_node_int(d->month);
}

static bson_value_t
day(const struct lev_date *d)
{
    return lev_node_int(d->day);
}

static bson_value_t
hour(const struct lev_date *d)
{
    return lev_node_int(d->hour);
}

static bson_value_t
minute(const struct lev_date *d)
{
    return lev_node_int(d->minute);
}

static bson_value_t
second(const struct lev_date *d)
{
    return lev_node_int(d->second);
}

static bson_value_t
millisecond(const struct lev_date *d)
{
    return lev_node_int(d->ms);
}

static bson_value_t
day_of_year(const struct lev_date *d)
{
    return lev_node_int(d->yearday);
}

static bson_value_t
day_of_week(const struct lev_date *d)
{
    return lev_node_int(d->weekday + 1);
}

static bson_value_t
week(const struct lev_date *d)
{
    return lev_node_int(lev_date_week(d));
}

static bson_value_t
iso_week(const struct lev_date *d)
{
    return lev_node_int(lev_date_iso_week(d));
}

static int
iso_weekday(const struct lev_date *d)
{
    return d->weekday == 0 ? 7 : d->weekday;
}

static bson_value_t
iso_day(const struct lev_date *d)
{
    return lev_node_int(iso_weekday(d));
}

static bson_value_t
iso_year(const struct lev_date *d)
{
    bson_value_t v = {.value_type = BSON_TYPE_INT64}; /* always a long */

    v.value.v_int64 = lev_date_iso_year(d);
    return v;
}

/* $dateToString */

static const char *const month_names[] = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December",
};

static void
put_offset(struct lev_buf *b, int64_t seconds, bool in_minutes)
{
    long minutes = (long)(seconds / 60);
    long size = minutes < 0 ? -minutes : minutes;

    if (in_minutes) {
        lev_buf_printf(b, "%+ld", minutes);
    }
    else {
        lev_buf_printf(b, "%c%02ld%02ld", minutes < 0 ? '-' : '+', size / 60,
                       size % 60);
    }
}

/* What "%ch" stands for; false when it is nothing. */
static bool
put_spec(struct lev_buf *b, char ch, const struct lev_date *d, int64_t offset)
{
    const struct {
        char ch;
        const char *format;
        int64_t value;
    } numbers[] = {
        {'d', "%02" PRId64, d->day},
        {'G', "%04" PRId64, lev_date_iso_year(d)},
        {'H', "%02" PRId64, d->hour},
        {'j', "%03" PRId64, d->yearday},
        {'L', "%03" PRId64, d->ms},
        {'m', "%02" PRId64, d->month},
        {'M', "%02" PRId64, d->minute},
        {'S', "%02" PRId64, d->second},
        {'u', "%" PRId64, iso_weekday(d)},
        {'U', "%02" PRId64, lev_date_week(d)},
        {'V', "%02" PRId64, lev_date_iso_week(d)},
        {'w', "%" PRId64, d->weekday + 1},
        {'Y', "%04" PRId64, d->year},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(numbers); i++) {
        if (numbers[i].ch == ch) {
            char text[32];

            snprintf(text, sizeof(text), numbers[i].format, numbers[i].value);
            lev_buf_puts(b, text);
            return true;
        }
    }
    switch (ch) {
    case 'b':
        lev_buf_append(b, month_names[d->month - 1], 3);
        return true;
    case 'B':
        lev_buf_puts(b, month_names[d->month - 1]);
        return true;
    case 'z':
    case 'Z':
        put_offset(b, offset, ch == 'Z');
        return true;
    case '%':
        lev_buf_putc(b, '%');
        return true;
    default:
        return false;
    }
}

static int
print_date(struct lev_text format, const struct lev_date *d, int64_t offset,
           struct lev_buf *b, struct lev_error *err)
{
    for (size_t i = 0; i < format.len; i++) {
        if (format.s[i] != '%') {
            lev_buf_putc(b, format.s[i]);
            continue;
        }
        if (++i == format.len) {
            return lev_error_set(err, LEV_E_QUERY, 18535,
                                 "expression: a '%%' ends the format of "
                                 "$dateToString");
        }
        if (!put_spec(b, format.s[i], d, offset)) {
            return lev_error_set(err, LEV_E_QUERY, 18536,
                                 "expression: $dateToString knows no '%%%c'",
                                 format.s[i]);
        }
        if (b->len > LEV_RESULT_MAX) {
            break; /* lev_arena_text() says so */
        }
    }
    return lev_buf_check(b, "expression", err);
}

/* 1 with the format, 0 when it is null. */
static int
eval_format(const struct lev_node *n, struct lev_eval *ev,
            struct lev_text *format, struct lev_error *err)
{
    bool utc = strcmp(lev_zone_name(ev->zone), "UTC") == 0;
    bson_value_t v;

    if (n->args[1] == NULL) {
        format->s = utc ? "%Y-%m-%dT%H:%M:%S.%LZ" : "%Y-%m-%dT%H:%M:%S.%L";
        format->len = strlen(format->s);
        return 1;
    }
    if (lev_node_eval(n->args[1], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    return lev_text_of(&v, format)
               ? 1
               : lev_error_set(err, LEV_E_QUERY, 18533,
                               "expression: the format of $dateToString is a "
                               "string, not %s",
                               lev_value_type_name(v.value_type));
}

static int
eval_to_string(const struct lev_node *n, struct lev_eval *ev,
               bson_value_t *out, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf b = {0};
    struct lev_text format;
    struct lev_date d;
    int64_t ms;
    int rc = eval_moment(n, 0, 16006, ev, &ms, err);

    *out = lev_value_null;
    if (rc == 0 && n->args[3] != NULL) {
        return lev_node_eval(n->args[3], ev, out, err);
    }
    if (rc > 0) {
        rc = eval_zone(n, 2, ev, err);
    }
    if (rc > 0) {
        rc = eval_format(n, ev, &format, err);
    }
    if (rc <= 0) {
        return rc;
    }
    lev_date_split(local(ev, ms), &d);
    return print_date(format, &d, lev_zone_offset(ev->zone, ms), &b, err) < 0
               ? -1
               : lev_text_finish(&b, ev, out, err);
}

/* $dateTrunc: {date, unit, binSize, timezone, startOfWeek}. Bins are counted
 * from the year 2000. */

struct unit {
    const char *name;
    int64_t ms; /* its length, shorter than a day */
    int days;   /* … or in days */
    int months; /* … or in months */
};

static const struct unit *
find_unit(struct lev_text name)
{
    static const struct unit units[] = {
        {"millisecond", 1, 0, 0}, {"second", 1000, 0, 0},
        {"minute", 60000, 0, 0},  {"hour", 3600000, 0, 0},
        {"day", 0, 1, 0},         {"week", 0, 7, 0},
        {"month", 0, 0, 1},       {"quarter", 0, 0, 3},
        {"year", 0, 0, 12},
    };

    for (size_t i = 0; i < LEV_ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == name.len &&
            memcmp(units[i].name, name.s, name.len) == 0)
        {
            return &units[i];
        }
    }
    return NULL;
}

static int
bad_trunc(struct lev_error *err, int code, const char *what)
{
    return lev_error_set(err, LEV_E_QUERY, code, "expression: $dateTrunc: %s",
                         what);
}

static int
eval_unit(const struct lev_node *n, struct lev_eval *ev,
          const struct unit **unit, struct lev_error *err)
{
    struct lev_text name;
    bson_value_t v;

    if (lev_node_arg(n, 1, ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_text_of(&v, &name)) {
        return bad_trunc(err, 5439013, "the unit is a string");
    }
    *unit = find_unit(name);
    return *unit != NULL ? 1
                         : bad_trunc(err, 9,
                                     "the unit is one of millisecond, second, "
                                     "minute, hour, day, week, month, quarter "
                                     "and year");
}

static int
eval_bin(const struct lev_node *n, struct lev_eval *ev, int64_t *bin,
         struct lev_error *err)
{
    bson_value_t v;

    *bin = 1;
    if (n->args[2] == NULL) {
        return 1;
    }
    if (lev_node_eval(n->args[2], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_number_is(&v) || !lev_number_whole(&v, bin)) {
        return bad_trunc(err, 5439017, "binSize is a whole number");
    }
    return *bin > 0 ? 1 : bad_trunc(err, 5439018, "binSize is above 0");
}

/* Sunday 0; by name or its first three letters. */
static int
eval_start(const struct lev_node *n, struct lev_eval *ev, int *start,
           struct lev_error *err)
{
    static const char *const names[] = {
        "sunday",   "monday", "tuesday",  "wednesday",
        "thursday", "friday", "saturday",
    };
    struct lev_text name;
    bson_value_t v;

    *start = 0;
    if (n->args[4] == NULL) {
        return 1;
    }
    if (lev_node_eval(n->args[4], ev, &v, err) < 0) {
        return -1;
    }
    if (lev_node_nullish(&v)) {
        return 0;
    }
    if (!lev_text_of(&v, &name)) {
        return bad_trunc(err, 5439015, "startOfWeek is a string");
    }
    for (; *start < 7; ++*start) {
        if ((name.len == 3 || name.len == strlen(names[*start])) &&
            strncasecmp(names[*start], name.s, name.len) == 0)
        {
            return 1;
        }
    }
    return bad_trunc(err, 9, "startOfWeek is the name of a day");
}

/* The start of the bin of that length which `at` lies in. */
static int64_t
bin_start(int64_t at, int64_t length)
{
    int64_t rest = at % length;

    return at - (rest < 0 ? rest + length : rest);
}

static int64_t
truncated(int64_t ms, const struct unit *u, int64_t length, int start_of_week,
          const struct lev_zone *zone)
{
    struct lev_date d = {.year = 2000, .month = 1, .day = 1};
    int64_t origin = lev_date_join(&d), moment;

    if (u->ms > 0) {
        origin = lev_zone_to_utc(zone, origin);
        return origin + bin_start(ms - origin, length);
    }
    moment = ms + lev_zone_offset(zone, ms) * 1000;
    if (u->days > 0) {
        if (u->days == 7) { /* 2000 began on a Saturday */
            origin += (start_of_week + 1) % 7 * LEV_DAY_MS;
        }
        moment = origin + bin_start(moment - origin, length);
    }
    else {
        lev_date_split(moment, &d);
        d = (struct lev_date){
            .year = 2000,
            .month =
                (int)bin_start((d.year - 2000) * 12 + d.month - 1, length) + 1,
            .day = 1,
        };
        moment = lev_date_join(&d);
    }
    return lev_zone_to_utc(zone, moment);
}

static int
eval_trunc(const struct lev_node *n, struct lev_eval *ev, bson_value_t *out,
           struct lev_error *err)
{
    const struct unit *unit = NULL;
    int64_t ms, bin, length;
    int start = 0;
    int rc = eval_moment(n, 0, 5439012, ev, &ms, err);

    *out = lev_value_null;
    if (rc > 0) {
        rc = eval_unit(n, ev, &unit, err);
    }
    if (rc > 0) {
        rc = eval_bin(n, ev, &bin, err);
    }
    if (rc > 0) {
        rc = eval_zone(n, 3, ev, err);
    }
    if (rc > 0 && unit->days == 7) {
        rc = eval_start(n, ev, &start, err);
    }
    if (rc <= 0) {
        return rc;
    }
    /* Nothing is longer than the range of dates, which starts far from 0. */
    if (__builtin_mul_overflow(bin,
                               unit->ms > 0     ? unit->ms
                               : unit->days > 0 ? unit->days * LEV_DAY_MS
                                                : unit->months,
                               &length) ||
        length > INT64_MAX / 4 || ms > INT64_MAX / 4 || ms < INT64_MIN / 4)
    {
        return bad_trunc(err, 5439018, "binSize or date are too large");
    }
    *out = lev_node_date(truncated(ms, unit, length, start, ev->zone));
    return 0;
}

#define PART(op, fn_)                                                         \
    {                                                                         \
        .name = op, .eval = eval_part, .min = 1, .max = 1, .arity = 40536,    \
        .params = {{"date", 40539}, {"timezone", 0}}, .unknown = 40535,       \
        .data = &(const struct part)                                          \
        {                                                                     \
            .fn = fn_                                                         \
        }                                                                     \
    }

const struct lev_expr_op lev_expr_date[] = {
    PART("$year", year),
    PART("$month", month),
    PART("$dayOfMonth", day),
    PART("$hour", hour),
    PART("$minute", minute),
    PART("$second", second),
    PART("$millisecond", millisecond),
    PART("$dayOfYear", day_of_year),
    PART("$dayOfWeek", day_of_week),
    PART("$week", week),
    PART("$isoWeek", iso_week),
    PART("$isoDayOfWeek", iso_day),
    PART("$isoWeekYear", iso_year),
    {.name = "$dateToString",
     .eval = eval_to_string,
     .params =
         {{"date", 18628}, {"format", 0}, {"timezone", 0}, {"onNull", 0}},
     .not_object = 18629,
     .unknown = 18534},
    {.name = "$dateTrunc",
     .eval = eval_trunc,
     .params = {{"date", 5439009},
                {"unit", 5439010},
                {"binSize", 0},
                {"timezone", 0},
                {"startOfWeek", 0}},
     .not_object = 5439007,
     .unknown = 5439008},
    {0},
};
