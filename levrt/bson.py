"""BSON: documents as bytes, and the values Python has no type for.

``encode`` and ``decode`` are strict: what BSON cannot hold exactly raises, and
the message names the key path; bytes that are no BSON raise ValueError.

The classes below stand for values that plain Python types cannot hold. They
come out of ``decode``, can be stored again as they are, and can be used in
queries. Names and meanings are those of the BSON specification, version 1.1
(https://bsonspec.org).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from levrt._guest import ObjectId, decode, encode
else:
    # The host has _levrt; a container's runtime has _guest; an image's own
    # interpreter that cannot load that has the codec in Python.
    try:
        from levrt._levrt import ObjectId, decode, encode
    except ImportError:
        try:
            from levrt._guest import ObjectId, decode, encode
        except ImportError:
            from levrt.guest.purebson import ObjectId, decode, encode

__all__ = [
    "Binary",
    "Code",
    "DBPointer",
    "DateTimeMS",
    "Decimal128",
    "Int64",
    "MaxKey",
    "MinKey",
    "ObjectId",
    "Regex",
    "Symbol",
    "Timestamp",
    "Undefined",
    "decode",
    "encode",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS = {"i": re.I, "l": re.L, "m": re.M, "s": re.S, "u": re.U, "x": re.X}


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low} to {high}, not {value}")


def _check_str(name: str, value: object, *, nul: bool = True) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not nul and "\0" in value:
        raise ValueError(f"{name} has a NUL character, which BSON cannot hold")


@final
class Binary(bytes):
    """Bytes with a *subtype* other than 0 (plain bytes) and 4 (uuid.UUID)."""

    subtype: int

    def __new__(cls, data: bytes | bytearray | memoryview, subtype: int = 0) -> Self:
        """Take 0 to 127 of the specification's, 128 to 255 of one's own."""
        _check_int("subtype", subtype, 0, 255)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        self = super().__new__(cls, data)
        self.subtype = subtype
        return self

    def __getnewargs__(self) -> tuple[bytes, int]:  # type: ignore[override]
        return bytes(self), self.subtype

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes):
            return NotImplemented
        subtype = other.subtype if isinstance(other, Binary) else 0
        return self.subtype == subtype and bytes(self) == bytes(other)

    def __ne__(self, other: object) -> bool:  # bytes has one of its own
        return not self == other

    def __hash__(self) -> int:
        if self.subtype == 0:
            return hash(bytes(self))
        return hash((self.subtype, bytes(self)))

    def __repr__(self) -> str:
        return f"Binary({bytes(self)!r}, {self.subtype})"


@final
class Int64(int):
    """An int stored as int64, also where int32 would do.

    ``decode`` gives plain int for both.
    """

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Take an int that fits 64 bits."""
        _check_int("value", value, -(2**63), 2**63 - 1)
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"Int64({int(self)})"

    def __str__(self) -> str:
        return str(int(self))


@final
@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """MongoDB's internal time: seconds since 1970 and a counter in them."""

    time: int
    inc: int

    def __post_init__(self) -> None:
        _check_int("time", self.time, 0, 2**32 - 1)
        _check_int("inc", self.inc, 0, 2**32 - 1)

    def as_datetime(self) -> datetime:
        """The seconds as an aware datetime in UTC."""
        return _EPOCH + timedelta(seconds=self.time)


@final
@dataclass(frozen=True, slots=True, order=True)
class DateTimeMS:
    """Milliseconds since 1970: a time outside of the years 1 to 9999."""

    ms: int

    def __post_init__(self) -> None:
        _check_int("ms", self.ms, -(2**63), 2**63 - 1)

    def as_datetime(self) -> datetime:
        """As an aware datetime in UTC; OverflowError where it has none."""
        return _EPOCH + timedelta(milliseconds=self.ms)


@final
@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression that Python's ``re`` does not compile.

    *flags* are MongoDB's option letters; they are kept in alphabetical order,
    as the specification asks.
    """

    pattern: str
    flags: str = ""

    def __post_init__(self) -> None:
        _check_str("pattern", self.pattern, nul=False)
        _check_str("flags", self.flags, nul=False)
        object.__setattr__(self, "flags", "".join(sorted(self.flags)))

    def compile(self) -> re.Pattern[str]:
        """As a pattern of Python's; re.error or ValueError where it is none."""
        flags = 0
        for letter in self.flags:
            if letter not in _FLAGS:
                raise ValueError(f"re has no flag for the option {letter!r}")
            flags |= _FLAGS[letter]
        return re.compile(self.pattern, flags)


@final
@dataclass(frozen=True, slots=True)
class Code:
    """JavaScript, with the variables it closes over when *scope* is given."""

    code: str
    scope: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_str("code", self.code)
        if self.scope is not None and not isinstance(self.scope, Mapping):
            raise TypeError(
                f"scope must be a Mapping or None, not {type(self.scope).__name__}"
            )


@final
@dataclass(frozen=True, slots=True)
class Decimal128:
    """The 16 bytes of an IEEE 754 decimal128, low byte first.

    ``decode`` gives decimal.Decimal, and this class only for encodings that
    are not canonical, so that they can be written back as they were.
    """

    bid: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.bid, bytes):
            raise TypeError(f"bid must be bytes, not {type(self.bid).__name__}")
        if len(self.bid) != 16:
            raise ValueError(f"bid must be 16 bytes, not {len(self.bid)}")

    @classmethod
    def from_decimal(cls, value: Decimal | int | str) -> Self:
        """The exact value; ValueError when decimal128 cannot hold it."""
        return cls(encode({"value": Decimal(value)})[-17:-1])

    def to_decimal(self) -> Decimal:
        """The exact value. What is not canonical counts as 0, or plain NaN."""
        got = decode(encode({"value": self}))["value"]
        if isinstance(got, Decimal):
            return got
        bits = int.from_bytes(self.bid, "little")
        sign = "-" if bits >> 127 else ""
        head = bits >> 121 & 0x3F
        if head >= 0x3E:
            return Decimal(f"{sign}{'sNaN' if head & 1 else 'NaN'}")
        if head >= 0x3C:
            return Decimal(f"{sign}Infinity")
        large = head >= 0x30  # the layout for integers beyond 113 bits
        exponent = (bits >> (111 if large else 113) & 0x3FFF) - 6176
        return Decimal(f"{sign}0E{exponent}")


@final
@dataclass(frozen=True, slots=True)
class MinKey:
    """Sorts before every other value."""


@final
@dataclass(frozen=True, slots=True)
class MaxKey:
    """Sorts after every other value."""


@final
@dataclass(frozen=True, slots=True)
class Undefined:
    """JavaScript's undefined; deprecated, found in old documents."""


@final
@dataclass(frozen=True, slots=True)
class Symbol:
    """A string of languages with symbols; deprecated."""

    value: str

    def __post_init__(self) -> None:
        _check_str("value", self.value)


@final
@dataclass(frozen=True, slots=True)
class DBPointer:
    """A document of another collection; deprecated."""

    namespace: str
    id: ObjectId

    def __post_init__(self) -> None:
        _check_str("namespace", self.namespace)


# What the codec knows these classes by: their BSON types.
_KINDS: dict[type, int] = {
    Binary: 0x05,
    Undefined: 0x06,
    DateTimeMS: 0x09,
    Regex: 0x0B,
    DBPointer: 0x0C,
    Code: 0x0D,
    Symbol: 0x0E,
    Timestamp: 0x11,
    Int64: 0x12,
    Decimal128: 0x13,
    MaxKey: 0x7F,
    MinKey: 0xFF,
}
