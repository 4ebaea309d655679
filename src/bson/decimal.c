/* decimal.c - decimal.Decimal and Decimal128.
 *
 * BSON has IEEE 754-2008 decimal128 in its binary integer encoding (BID), low
 * byte first: sign, an exponent biased by 6176, and an integer below 10^34.
 * That integer fits 113 bits, so canonical numbers always have the first of
 * BID's two layouts; the second is for larger integers, which count as 0.
 *
 *   bit 127 sign | 126..113 exponent | 112..0 integer       (126,125 not 11)
 *   bit 127 sign | 11110 | zeros                            infinity
 *   bit 127 sign | 11111 | 121 signalling | 109..0 payload  NaN
 */

#include "codec.h"

#define DIGITS_MAX 34
#define PAYLOAD_DIGITS_MAX 33
#define EXPONENT_MIN (-6176)
#define EXPONENT_MAX 6111
#define COEFFICIENT_BITS_HIGH 49 /* of the upper 64 */
#define INFINITY_HIGH 0x7800000000000000ULL
#define NAN_HIGH 0x7c00000000000000ULL
#define SNAN_HIGH 0x7e00000000000000ULL
#define SIGN_HIGH 0x8000000000000000ULL
#define PAYLOAD_MASK_HIGH ((1ULL << 46) - 1)

__extension__ typedef unsigned __int128 uint128;

static uint128
power_of_ten(int n)
{
    uint128 power = 1;

    while (n-- > 0) {
        power *= 10;
    }
    return power;
}

static void
write_bid(uint8_t *bid, uint64_t high, uint64_t low)
{
    set_le64(bid, low);
    set_le64(bid + 8, high);
}

/* Digits as Decimal.as_tuple() gives them. */
struct digits {
    PyObject *tuple;       /* of ints 0 … 9; borrowed */
    Py_ssize_t first, end; /* without zeros in front */
};

/* -1: not a digit, which only a subclass of Decimal can bring about. */
static int
digit_at(const struct digits *d, Py_ssize_t i)
{
    PyObject *digit = PyTuple_GET_ITEM(d->tuple, i);
    long n = PyLong_Check(digit) ? PyLong_AsLong(digit) : -1;

    if (n < 0 || n > 9) {
        PyErr_Clear();
        return -1;
    }
    return (int)n;
}

static int
integer_of(const struct digits *d, uint128 *n)
{
    *n = 0;
    for (Py_ssize_t i = d->first; i < d->end; i++) {
        int digit = digit_at(d, i);

        if (digit < 0) {
            return -1;
        }
        *n = *n * 10 + (unsigned)digit;
    }
    return 0;
}

/* Bring digits and exponent into range without changing the value: zeros at
 * the end go into the exponent or come out of it. False: it cannot be done. */
static bool
fit(struct digits *d, long long *exponent, int *pad)
{
    *pad = 0;
    if (d->first == d->end) { /* a zero: any exponent */
        *exponent = *exponent < EXPONENT_MIN   ? EXPONENT_MIN
                    : *exponent > EXPONENT_MAX ? EXPONENT_MAX
                                               : *exponent;
        return true;
    }
    while ((d->end - d->first > DIGITS_MAX || *exponent < EXPONENT_MIN) &&
           digit_at(d, d->end - 1) == 0)
    {
        d->end--;
        (*exponent)++;
    }
    if (d->end - d->first > DIGITS_MAX || *exponent < EXPONENT_MIN ||
        *exponent > EXPONENT_MAX + DIGITS_MAX)
    {
        return false;
    }
    if (*exponent > EXPONENT_MAX) {
        *pad = (int)(*exponent - EXPONENT_MAX);
        *exponent = EXPONENT_MAX;
    }
    return d->end - d->first + *pad <= DIGITS_MAX;
}

static int
bad_tuple(void)
{
    PyErr_SetString(PyExc_TypeError,
                    "Decimal.as_tuple() gave no (sign, digits, exponent)");
    return -1;
}

static int
pack_finite(struct digits *d, PyObject *exponent_obj, uint64_t sign,
            uint8_t *bid)
{
    int overflow, pad;
    long long exponent = PyLong_AsLongLongAndOverflow(exponent_obj, &overflow);
    uint128 n;

    if (overflow != 0 || !fit(d, &exponent, &pad)) {
        return 0;
    }
    if (integer_of(d, &n) < 0) {
        return bad_tuple();
    }
    n *= power_of_ten(pad);
    write_bid(
        bid,
        sign | (uint64_t)(exponent - EXPONENT_MIN) << COEFFICIENT_BITS_HIGH |
            (uint64_t)(n >> 64),
        (uint64_t)n);
    return 1;
}

/* 'F', 'n' or 'N': infinity, NaN, signalling NaN. */
static int
pack_special(struct digits *d, Py_UCS4 kind, uint64_t sign, uint8_t *bid)
{
    uint128 payload;

    if (kind == 'F') {
        write_bid(bid, sign | INFINITY_HIGH, 0);
        return 1;
    }
    if (d->end - d->first > PAYLOAD_DIGITS_MAX) {
        return 0;
    }
    if (integer_of(d, &payload) < 0) {
        return bad_tuple();
    }
    write_bid(bid,
              sign | (kind == 'N' ? SNAN_HIGH : NAN_HIGH) |
                  (uint64_t)(payload >> 64),
              (uint64_t)payload);
    return 1;
}

int
levbson_decimal_get(struct levbson_state *st, PyObject *obj,
                    uint8_t bid[BSON_DECIMAL128_LEN])
{
    _cleanup_pydecref_ PyObject *tuple =
        PyObject_CallMethodNoArgs(obj, st->str_as_tuple);
    PyObject *exponent;
    struct digits d = {0};
    uint64_t sign;

    if (tuple == NULL) {
        return -1;
    }
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 3 ||
        !PyTuple_Check(PyTuple_GET_ITEM(tuple, 1)))
    {
        return bad_tuple();
    }
    sign = PyObject_IsTrue(PyTuple_GET_ITEM(tuple, 0)) == 1 ? SIGN_HIGH : 0;
    d.tuple = PyTuple_GET_ITEM(tuple, 1);
    d.end = PyTuple_GET_SIZE(d.tuple);
    exponent = PyTuple_GET_ITEM(tuple, 2);
    while (d.first < d.end && digit_at(&d, d.first) == 0) {
        d.first++;
    }
    if (PyLong_Check(exponent)) {
        return pack_finite(&d, exponent, sign, bid);
    }
    if (!PyUnicode_Check(exponent) || PyUnicode_GetLength(exponent) != 1) {
        return bad_tuple();
    }
    return pack_special(&d, PyUnicode_ReadChar(exponent, 0), sign, bid);
}

/* "-123" without a NUL; returns the end. */
static char *
print_integer(char *p, uint128 n)
{
    char digits[40];
    size_t len = 0;

    do {
        digits[len++] = (char)('0' + (int)(n % 10));
        n /= 10;
    } while (n > 0);
    while (len > 0) {
        *p++ = digits[--len];
    }
    return p;
}

static PyObject *
from_text(struct levbson_state *st, const char *text)
{
    PyTypeObject *type =
        levbson_import_type(&st->decimal_type, st->mod_decimal, "Decimal");

    return type == NULL ? NULL
                        : PyObject_CallFunction((PyObject *)type, "s", text);
}

PyObject *
levbson_decimal_new(struct levbson_state *st,
                    const uint8_t bid[BSON_DECIMAL128_LEN])
{
    uint64_t low = get_le64(bid), high = get_le64(bid + 8);
    uint128 n =
        (uint128)(high & ((1ULL << COEFFICIENT_BITS_HIGH) - 1)) << 64 | low;
    uint64_t unsigned_high = high & ~SIGN_HIGH;
    uint128 payload = (uint128)(high & PAYLOAD_MASK_HIGH) << 64 | low;
    char text[64], *p = text;

    if (high & SIGN_HIGH) {
        *p++ = '-';
    }
    if (unsigned_high == INFINITY_HIGH && low == 0) {
        strcpy(p, "Infinity");
        return from_text(st, text);
    }
    if ((unsigned_high & ~PAYLOAD_MASK_HIGH) == NAN_HIGH ||
        (unsigned_high & ~PAYLOAD_MASK_HIGH) == SNAN_HIGH)
    {
        if (payload < power_of_ten(PAYLOAD_DIGITS_MAX)) {
            p = stpcpy(p, unsigned_high & (1ULL << 57) ? "sNaN" : "NaN");
            *(payload > 0 ? print_integer(p, payload) : p) = '\0';
            return from_text(st, text);
        }
    }
    else if ((unsigned_high >> 61 & 3) != 3 && n < power_of_ten(DIGITS_MAX)) {
        p = print_integer(p, n);
        snprintf(p, sizeof(text) - (size_t)(p - text), "E%d",
                 (int)(unsigned_high >> COEFFICIENT_BITS_HIGH) + EXPONENT_MIN);
        return from_text(st, text);
    }
    return levbson_new(st, "Decimal128", "(y#)", (const char *)bid,
                       (Py_ssize_t)BSON_DECIMAL128_LEN);
}
