"""ObjectId in Python, for the codec beside it."""

import datetime as _dt
import itertools
import os
import re
import time
from typing import Any, Final, Self, final

EPOCH: Final = _dt.datetime(1970, 1, 1, tzinfo=_dt.UTC)
_MS: Final = _dt.timedelta(milliseconds=1)


def milliseconds(value: _dt.datetime) -> int:
    """Since 1970, rounded down; naive is UTC."""
    offset = None if value.tzinfo is None else value.utcoffset()
    if not isinstance(offset, _dt.timedelta | None):
        raise TypeError("utcoffset() must return a timedelta or None")
    since = value.replace(tzinfo=_dt.UTC) - EPOCH
    return (since - (offset or _dt.timedelta())) // _MS


class _Generator:
    """What new ids are made from; drawn anew in a forked child."""

    def __init__(self) -> None:
        self.pid = 0
        self.random = b""
        self.counter = itertools.count()  # next() on it is atomic

    def next(self) -> bytes:
        if self.pid != os.getpid():
            self.pid = os.getpid()
            self.random = os.urandom(5)
            self.counter = itertools.count(int.from_bytes(os.urandom(3)))
        count = next(self.counter) & 0xFFFFFF
        seconds = int(time.time()) & 0xFFFFFFFF
        return seconds.to_bytes(4) + self.random + count.to_bytes(3)


_generator: Final = _Generator()
_HEX: Final = re.compile(r"[0-9a-fA-F]{24}")


def oid_bytes(value: object) -> bytes | None:
    """The bytes of an ObjectId: ours, the C codec's or PyMongo's."""
    cls = type(value)
    if cls.__name__ != "ObjectId":
        return None
    module = cls.__module__
    if module not in ("bson.objectid", "levrt") and not module.startswith("levrt."):
        return None
    binary = value.binary  # type: ignore[attr-defined]
    return binary if isinstance(binary, bytes) and len(binary) == 12 else None


@final
class ObjectId:
    """Twelve bytes that name a document: time, process, counter.

    Without *oid* a new one; else 24 hexadecimal digits, 12 bytes or another
    ObjectId, PyMongo's too. Ids are ordered by their bytes, so by the second
    they were made in.
    """

    __slots__ = ("_data",)
    _data: bytes

    def __new__(cls, oid: "str | bytes | ObjectId | None" = None) -> Self:
        if oid is None:
            data = _generator.next()
        elif isinstance(oid, str):
            data = bytes.fromhex(oid) if _HEX.fullmatch(oid) else b""
        elif isinstance(oid, bytes):
            data = bytes(oid)
        else:
            found = oid_bytes(oid)
            if found is None:
                raise TypeError(
                    "oid must be an ObjectId, a str of 24 hexadecimal digits or "
                    f"12 bytes, not {type(oid).__name__}"
                )
            data = found
        if len(data) != 12:
            raise ValueError(
                f"oid must be 24 hexadecimal digits or 12 bytes, not {oid!a}"
            )
        self = super().__new__(cls)
        object.__setattr__(self, "_data", data)
        return self

    def __init_subclass__(cls) -> None:
        raise TypeError("ObjectId cannot be subclassed")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ObjectId's {name!r} cannot be set")

    @property
    def binary(self) -> bytes:
        """The twelve bytes."""
        return self._data

    @property
    def generation_time(self) -> _dt.datetime:
        """When the id was made: an aware datetime in UTC, in seconds."""
        return EPOCH + _dt.timedelta(seconds=int.from_bytes(self._data[:4]))

    @classmethod
    def is_valid(cls, oid: Any, /) -> bool:
        """Whether ObjectId(oid) would work for this value."""
        try:
            return oid is not None and bool(cls(oid))
        except (TypeError, ValueError):
            return False

    @classmethod
    def from_datetime(cls, generation_time: _dt.datetime, /) -> Self:
        """The smallest id of that second, to compare others with."""
        if not isinstance(generation_time, _dt.datetime):
            raise TypeError(
                "generation_time must be a datetime, not "
                f"{type(generation_time).__name__}"
            )
        seconds = milliseconds(generation_time) // 1000
        if not 0 <= seconds < 2**32:
            raise ValueError("generation_time must be in the years 1970 to 2106")
        return cls(seconds.to_bytes(4) + bytes(8))

    def __bytes__(self) -> bytes:
        return self._data

    def __str__(self) -> str:
        return self._data.hex()

    def __repr__(self) -> str:
        return f"ObjectId('{self}')"

    def __hash__(self) -> int:
        return hash(self._data)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectId, (self._data,)

    def __eq__(self, other: object) -> bool:
        data = oid_bytes(other)
        return NotImplemented if data is None else self._data == data

    def __lt__(self, other: object) -> bool:
        data = oid_bytes(other)
        return NotImplemented if data is None else self._data < data

    def __le__(self, other: object) -> bool:
        data = oid_bytes(other)
        return NotImplemented if data is None else self._data <= data

    def __gt__(self, other: object) -> bool:
        data = oid_bytes(other)
        return NotImplemented if data is None else self._data > data

    def __ge__(self, other: object) -> bool:
        data = oid_bytes(other)
        return NotImplemented if data is None else self._data >= data
