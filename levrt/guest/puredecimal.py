"""decimal.Decimal and BSON's Decimal128, for the codec beside it.

Decimal128 is IEEE 754's decimal128 in its binary integer encoding (BID), low
byte first: a sign, an exponent biased by 6176 and an integer below 10**34.
"""

import decimal
from typing import Final

_DIGITS_MAX: Final = 34
_PAYLOAD_DIGITS_MAX: Final = 33
_EXPONENT_MIN: Final = -6176
_EXPONENT_MAX: Final = 6111


def bid_from_decimal(value: decimal.Decimal) -> bytes | None:
    """Decimal128 in its binary integer encoding; None: it cannot hold it."""
    negative, number, exponent = _parts(value)
    if exponent == "F":
        bits = 0x1E << 122
    elif isinstance(exponent, str):
        if number >= 10**_PAYLOAD_DIGITS_MAX:
            return None
        bits = (0x3F if exponent == "N" else 0x3E) << 121 | number
    else:
        fitted = _fit(number, exponent)
        if fitted is None:
            return None
        number, exponent = fitted
        bits = (exponent - _EXPONENT_MIN) << 113 | number
    return (negative << 127 | bits).to_bytes(16, "little")


def _parts(value: decimal.Decimal) -> tuple[bool, int, int | str]:
    """Sign, integer and exponent; a subclass may give anything."""
    match value.as_tuple():
        case (sign, tuple(digits), int() | "F" | "n" | "N" as exponent) if all(
            digit in range(10) for digit in digits
        ):
            return bool(sign), int("".join(map(str, digits)) or "0"), exponent
    raise TypeError("Decimal.as_tuple() gave no (sign, digits, exponent)")


def _fit(number: int, exponent: int) -> tuple[int, int] | None:
    """Both in range with the value unchanged, by moving zeros; or None."""
    if number == 0:
        return 0, min(max(exponent, _EXPONENT_MIN), _EXPONENT_MAX)
    while (number >= 10**_DIGITS_MAX or exponent < _EXPONENT_MIN) and number % 10 == 0:
        number //= 10
        exponent += 1
    if exponent > _EXPONENT_MAX + _DIGITS_MAX:
        return None
    if exponent > _EXPONENT_MAX:
        number *= 10 ** (exponent - _EXPONENT_MAX)
        exponent = _EXPONENT_MAX
    if number >= 10**_DIGITS_MAX or exponent < _EXPONENT_MIN:
        return None
    return number, exponent


def decimal_from_bid(bid: bytes) -> decimal.Decimal | None:
    """The Decimal; None for an encoding that is not canonical."""
    bits = int.from_bytes(bid, "little")
    sign = "-" if bits >> 127 else ""
    bits &= (1 << 127) - 1
    if bits == 0x1E << 122:
        return decimal.Decimal(f"{sign}Infinity")
    head, payload = bits >> 110, bits & (1 << 110) - 1
    if head in (0x3E << 11, 0x3F << 11) and payload < 10**_PAYLOAD_DIGITS_MAX:
        kind = "sNaN" if head == 0x3F << 11 else "NaN"
        return decimal.Decimal(f"{sign}{kind}{payload or ''}")
    number = bits & (1 << 113) - 1
    if bits >> 125 != 3 and number < 10**_DIGITS_MAX:
        return decimal.Decimal(f"{sign}{number}E{(bits >> 113) + _EXPONENT_MIN}")
    return None
