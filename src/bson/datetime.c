/* datetime.c - BSON's UTC milliseconds and datetime.datetime.
 *
 * The only file that uses datetime's C API. Its macros want a static pointer
 * per file; ours is in the module's state, so what is used here are the
 * macros that read an object's fields, and the table of functions by hand.
 */

#include "codec.h"

#include <datetime.h>

#define MS_PER_DAY 86400000LL
#define US_PER_DAY 86400000000LL
/* 0001-01-01 and the last millisecond of 9999-12-31. */
#define MS_MIN (-62135596800000LL)
#define MS_MAX 253402300799999LL

/* 1: st->datetime_api is set; 0: `datetime` is not loaded, or is in the midst
 * of its import; -1: exception. */
static int
find_api(struct levbson_state *st)
{
    _cleanup_pydecref_ PyObject *module = NULL;
    const PyDateTime_CAPI *api;

    if (st->datetime_api != NULL) {
        return 1;
    }
    module = PyImport_GetModule(st->mod_datetime);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    api = PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0);
    if (api == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    st->datetime = lev_steal(module); /* keeps the table alive */
    st->datetime_api = api;
    return 1;
}

static long long
floor_div(long long a, long long b)
{
    return a / b - (a % b < 0);
}

/* Days from 1970-01-01 of a date of the proleptic Gregorian calendar. Years
 * begin in March here, so that the leap day comes last. */
static long long
days_from_date(int year, int month, int day)
{
    long long y = year - (month <= 2);
    long long cycle = floor_div(y, 400);
    long long in_cycle = y - cycle * 400;
    long long of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;

    return cycle * 146097 + in_cycle * 365 + in_cycle / 4 - in_cycle / 100 +
           of_year - 719468;
}

static void
date_from_days(long long days, int *year, int *month, int *day)
{
    long long since = days + 719468; /* 0000-03-01 */
    long long cycle = floor_div(since, 146097);
    long long rest = since - cycle * 146097;
    long long y = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
    long long of_year = rest - (365 * y + y / 4 - y / 100);
    long long m = (5 * of_year + 2) / 153;

    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + cycle * 400 + (*month <= 2));
}

/* The distance from UTC in microseconds; naive is UTC. */
static int
utc_offset(struct levbson_state *st, const PyDateTime_CAPI *api, PyObject *obj,
           long long *us)
{
    PyObject *zone = PyDateTime_DATE_GET_TZINFO(obj);
    _cleanup_pydecref_ PyObject *delta = NULL;

    *us = 0;
    if (zone == Py_None || zone == api->TimeZone_UTC) {
        return 0;
    }
    delta = PyObject_CallMethodNoArgs(obj, st->str_utcoffset);
    if (delta == NULL) {
        return -1;
    }
    if (delta == Py_None) {
        return 0;
    }
    if (!PyObject_TypeCheck(delta, api->DeltaType)) {
        PyErr_SetString(PyExc_TypeError,
                        "utcoffset() must return a timedelta or None");
        return -1;
    }
    *us = (long long)PyDateTime_DELTA_GET_DAYS(delta) * US_PER_DAY +
          (long long)PyDateTime_DELTA_GET_SECONDS(delta) * 1000000 +
          PyDateTime_DELTA_GET_MICROSECONDS(delta);
    return 0;
}

int
levbson_datetime_get(struct levbson_state *st, PyObject *obj, int64_t *ms)
{
    const PyDateTime_CAPI *api;
    long long days, us, offset;
    int rc = find_api(st);

    if (rc <= 0) {
        return rc;
    }
    api = st->datetime_api;
    if (!PyObject_TypeCheck(obj, api->DateTimeType)) {
        return 0;
    }
    if (utc_offset(st, api, obj, &offset) < 0) {
        return -1;
    }
    days = days_from_date(PyDateTime_GET_YEAR(obj), PyDateTime_GET_MONTH(obj),
                          PyDateTime_GET_DAY(obj));
    us = PyDateTime_DATE_GET_HOUR(obj) * 3600LL +
         PyDateTime_DATE_GET_MINUTE(obj) * 60LL +
         PyDateTime_DATE_GET_SECOND(obj);
    us = us * 1000000 + PyDateTime_DATE_GET_MICROSECOND(obj) - offset;
    *ms = floor_div(days * US_PER_DAY + us, 1000);
    return 1;
}

const char *
levbson_datetime_advice(const struct levbson_state *st, PyObject *obj)
{
    const PyDateTime_CAPI *api = st->datetime_api;

    if (api == NULL) {
        return NULL;
    }
    if (PyObject_TypeCheck(obj, api->DateType)) {
        return "is a date without time; store a datetime, or "
               "value.isoformat()";
    }
    if (PyObject_TypeCheck(obj, api->TimeType)) {
        return "is a time without date; store a datetime, or "
               "value.isoformat()";
    }
    if (PyObject_TypeCheck(obj, api->DeltaType)) {
        return "has no BSON type; store value.total_seconds()";
    }
    return NULL;
}

static const PyDateTime_CAPI *
import_api(struct levbson_state *st)
{
    if (st->datetime_api == NULL) {
        _cleanup_pydecref_ PyObject *module =
            PyImport_Import(st->mod_datetime);

        if (module != NULL && find_api(st) == 0) {
            PyErr_SetString(PyExc_ImportError,
                            "the datetime module has no C API");
        }
    }
    return st->datetime_api;
}

PyObject *
levbson_datetime_new(struct levbson_state *st, int64_t ms)
{
    const PyDateTime_CAPI *api;
    long long days, rest;
    int year, month, day;

    if (ms < MS_MIN || ms > MS_MAX) {
        return levbson_new(st, "DateTimeMS", "(L)", (long long)ms);
    }
    api = import_api(st);
    if (api == NULL) {
        return NULL;
    }
    days = floor_div(ms, MS_PER_DAY);
    rest = ms - days * MS_PER_DAY;
    date_from_days(days, &year, &month, &day);
    return api->DateTime_FromDateAndTime(
        year, month, day, (int)(rest / 3600000), (int)(rest / 60000 % 60),
        (int)(rest / 1000 % 60), (int)(rest % 1000 * 1000), api->TimeZone_UTC,
        api->DateTimeType);
}
