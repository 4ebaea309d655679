"""The BSON codec in Python, for interpreters that cannot load the one in C.

Same values, same bytes, same errors as ``levrt._guest``; the tests run over
both. An image's own interpreter (``@remote(python="image")``) uses it when it
is built for another libc or ABI than the host's.
"""

import datetime as _dt
import decimal
import enum
import re
import struct
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

from levrt.guest.puredecimal import bid_from_decimal, decimal_from_bid
from levrt.guest.pureoid import EPOCH, ObjectId, milliseconds, oid_bytes

__all__ = ["ObjectId", "decode", "encode"]

DEPTH_MAX: Final = 100
SIZE_MAX: Final = 2**31 - 1
_T = TypeVar("_T")
_MS_MIN: Final = -62135596800000  # 0001-01-01
_MS_MAX: Final = 253402300799999  # the last one of 9999-12-31

_DOUBLE: Final = struct.Struct("<d")
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_TIMESTAMP: Final = struct.Struct("<II")
# re's flags and BSON's options, in the alphabetical order BSON asks for.
_FLAGS: Final = {"i": re.I, "l": re.L, "m": re.M, "s": re.S, "u": re.U, "x": re.X}


# Shared by both ways


def _classes() -> Any:
    """levrt.bson, which may itself import this module."""
    import levrt.bson

    return levrt.bson


def _path_text(path: list[str | int]) -> str:
    """``a.b[3]``; a key that would not read back is written ``['x.y']``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step or any(c in ".[]'\" \t\r\n" for c in step):
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text or "document"


# Encoding


class _Encoder:
    """One document's; *path* is where in it we are."""

    def __init__(self) -> None:
        self.path: list[str | int] = []

    def refuse(self, exc: type[Exception], text: str) -> NoReturn:
        raise exc(f"{_path_text(self.path)}: {text}")

    def document(self, mapping: Mapping[str, Any]) -> bytes:
        """A dict or Mapping, in its own order."""
        self.check_depth()
        path = self.path
        parts = []
        for key, value in self.items(mapping):
            name = self.key(key)
            path.append(key)
            kind, data = self.value(value)
            path.pop()
            parts.append(b"%c%b\0%b" % (kind, name, data))
        return self.framed(parts)

    def array(self, items: list[Any] | tuple[Any, ...]) -> bytes:
        self.check_depth()
        path = self.path
        parts = []
        index = 0
        while index < len(items):  # a list may change meanwhile
            path.append(index)
            kind, data = self.value(items[index])
            path.pop()
            parts.append(b"%c%d\0%b" % (kind, index, data))
            index += 1
        return self.framed(parts)

    def check_depth(self) -> None:
        if len(self.path) >= DEPTH_MAX:
            self.refuse(
                ValueError,
                f"nested more than {DEPTH_MAX} levels deep; is it part of itself?",
            )

    @staticmethod
    def framed(parts: list[bytes]) -> bytes:
        body = b"".join(parts)
        if len(body) + 5 > SIZE_MAX:
            raise ValueError(
                "the document is larger than 2 GiB, which BSON cannot hold"
            )
        return b"%b%b\0" % (_INT32.pack(len(body) + 5), body)

    def items(self, mapping: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        if type(mapping) is dict:
            size = len(mapping)
            for pair in mapping.items():
                yield pair
                if len(mapping) != size:
                    self.refuse(RuntimeError, "the dict changed while it was written")
            return
        for pair in mapping.items():
            if not isinstance(pair, tuple) or len(pair) != 2:
                self.refuse(
                    TypeError,
                    f"items() of {type(mapping).__name__} must yield (key, value) "
                    f"tuples, not {type(pair).__name__}",
                )
            yield pair

    def key(self, key: object) -> bytes:
        if isinstance(key, enum.Enum):
            self.refuse(
                TypeError,
                f"a key must be str, not the enum {type(key).__name__}; use its .value",
            )
        if not isinstance(key, str):
            self.refuse(
                TypeError, f"a key must be str, not {type(key).__name__}; use str(key)"
            )
        try:
            name = str.encode(key)
        except UnicodeEncodeError:
            self.refuse(
                ValueError,
                f"the key {key!a} has a lone surrogate, which UTF-8 cannot hold",
            )
        if 0 in name:
            self.refuse(
                ValueError,
                f"the key {key!a} has a NUL character, which BSON cannot hold",
            )
        return name

    def utf8(self, text: str) -> bytes:
        try:
            return str.encode(text)
        except UnicodeEncodeError as err:
            where, char = err.start, ord(text[err.start])
        self.refuse(
            ValueError,
            f"the str has the lone surrogate \\u{char:x} at index {where}, which UTF-8 "
            "cannot hold; store bytes, or decode with errors='replace'",
        )

    def string(self, text: str) -> bytes:
        data = self.utf8(text)
        if len(data) + 5 > SIZE_MAX:
            self.framed([data])
        return b"%b%b\0" % (_INT32.pack(len(data) + 1), data)

    def cstring(self, text: str, what: str) -> bytes:
        data = self.utf8(text)
        if 0 in data:
            self.refuse(
                ValueError, f"{what} has a NUL character, which BSON cannot hold"
            )
        return data + b"\0"

    def integer(self, number: int) -> tuple[int, bytes]:
        if -(2**31) <= number < 2**31:
            return 0x10, _INT32.pack(number)
        return 0x12, self.int64(number)

    def int64(self, number: int) -> bytes:
        try:
            return _INT64.pack(number)
        except struct.error:
            self.refuse(
                OverflowError,
                "the int is beyond int64; store it as str or decimal.Decimal",
            )

    def binary(self, data: bytes, subtype: int = 0) -> tuple[int, bytes]:
        if len(data) + 9 > SIZE_MAX:
            self.framed([data])
        if subtype == 2:  # holds its length a second time
            data = _INT32.pack(len(data)) + data
        return 0x05, b"%b%c%b" % (_INT32.pack(len(data)), subtype, data)

    def pattern(self, value: re.Pattern[Any]) -> bytes:
        if not isinstance(value.pattern, str):
            self.refuse(
                TypeError,
                "a regular expression over bytes has no BSON type; compile it from str",
            )
        options = "".join(k for k, flag in _FLAGS.items() if value.flags & flag)
        return self.cstring(value.pattern, "the pattern") + options.encode() + b"\0"

    def decimal(self, value: decimal.Decimal) -> bytes:
        bid = bid_from_decimal(value)
        if bid is None:
            self.refuse(
                ValueError,
                "the Decimal has more than the 34 digits, or an exponent beyond the "
                "-6176 to 6111, of Decimal128; round it or store str(value)",
            )
        return bid

    def attribute(self, value: object, name: str, cls: type[_T]) -> _T:
        """An attribute, checked: somebody may have tampered with the object."""
        got = getattr(value, name)
        if not isinstance(got, cls):
            self.refuse_attribute(value, name, cls.__name__)
        return got

    def refuse_attribute(self, value: object, name: str, wanted: str) -> NoReturn:
        self.refuse(TypeError, f"{type(value).__name__}.{name} must be {wanted}")

    def unsigned(self, value: object, name: str) -> int:
        got = self.attribute(value, name, int)
        if not 0 <= got < 2**32:
            self.refuse_attribute(value, name, "in its range")
        return got

    def code(self, value: Any) -> tuple[int, bytes]:
        scope = value.scope
        if scope is not None and not isinstance(scope, Mapping):
            self.refuse_attribute(value, "scope", "a Mapping or None")
        text = self.string(self.attribute(value, "code", str))
        if scope is None:
            return 0x0D, text
        data = text + self.document(scope)
        return 0x0F, _INT32.pack(len(data) + 4) + data

    def dbpointer(self, value: Any) -> bytes:
        oid = oid_bytes(value.id)
        if oid is None:
            self.refuse_attribute(value, "id", "an ObjectId")
        return self.string(self.attribute(value, "namespace", str)) + oid

    def regex(self, value: Any) -> bytes:
        pattern = self.attribute(value, "pattern", str)
        flags = self.attribute(value, "flags", str)
        return self.cstring(pattern, "the pattern") + self.cstring(flags, "the flags")

    def timestamp(self, value: Any) -> bytes:
        seconds = self.unsigned(value, "time")
        return _TIMESTAMP.pack(self.unsigned(value, "inc"), seconds)

    def decimal128(self, value: Any) -> bytes:
        bid = self.attribute(value, "bid", bytes)
        if len(bid) != 16:
            self.refuse_attribute(value, "bid", "16 bytes")
        return bid

    def class_of_ours(self, value: Any, kind: int) -> tuple[int, bytes]:
        """A value of levrt.bson's classes."""
        match kind:
            case 0x05:
                return self.binary(bytes(value), value.subtype)
            case 0x09:
                return kind, self.int64(self.attribute(value, "ms", int))
            case 0x0B:
                return kind, self.regex(value)
            case 0x0C:
                return kind, self.dbpointer(value)
            case 0x0D:
                return self.code(value)
            case 0x0E:
                return kind, self.string(self.attribute(value, "value", str))
            case 0x11:
                return kind, self.timestamp(value)
            case 0x12:
                return kind, _INT64.pack(value)
            case 0x13:
                return kind, self.decimal128(value)
        return kind, b""  # MinKey, MaxKey, Undefined

    def value(self, value: Any) -> tuple[int, bytes]:
        """The BSON type and the bytes."""
        cls = type(value)
        if cls is str:
            return 0x02, self.string(value)
        if cls is int:
            return self.integer(value)
        if cls is dict:
            return 0x03, self.document(value)
        if cls is list or cls is tuple:
            return 0x04, self.array(value)
        if cls is float:
            return 0x01, _DOUBLE.pack(value)
        if value is None:
            return 0x0A, b""
        if cls is bool:
            return 0x08, b"\1" if value else b"\0"
        if cls is bytes:
            return self.binary(value)
        return self.rare(value)

    def rare(self, value: Any) -> tuple[int, bytes]:
        """Types of other modules."""
        if isinstance(value, _dt.datetime):
            return 0x09, _INT64.pack(milliseconds(value))
        ours = sys.modules.get("levrt.bson")
        kind = None if ours is None else getattr(ours, "_KINDS", {}).get(type(value))
        if kind is not None:
            return self.class_of_ours(value, kind)
        if isinstance(value, uuid.UUID):
            return self.binary(value.bytes, 4)
        if isinstance(value, decimal.Decimal):
            return 0x13, self.decimal(value)
        if isinstance(value, re.Pattern):
            return 0x0B, self.pattern(value)
        if isinstance(value, enum.Enum):
            self.refuse_type(value)
        return self.inherited(value)

    def inherited(self, value: Any) -> tuple[int, bytes]:
        """Subclasses of the plain types, as what they inherit from."""
        if isinstance(value, str):
            return 0x02, self.string(value)
        if isinstance(value, int):
            return self.integer(value)
        if isinstance(value, float):
            return 0x01, _DOUBLE.pack(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.binary(bytes(value))
        if isinstance(value, Mapping):
            return 0x03, self.document(value)
        if isinstance(value, list | tuple):
            return 0x04, self.array(value)
        oid = oid_bytes(value)
        if oid is not None:
            return 0x07, oid
        self.refuse_type(value)

    def refuse_type(self, value: object) -> NoReturn:
        self.refuse(TypeError, f"{type(value).__name__} {_advice(value)}")


def _advice(value: object) -> str:
    """Why a value has no BSON type, and the way out."""
    cls = type(value)
    if isinstance(value, enum.Enum):
        return "is an enum; store its .value"
    if isinstance(value, set | frozenset):
        return (
            "has no order, which BSON arrays have; store sorted(value) or list(value)"
        )
    if isinstance(value, _dt.date):
        return "is a date without time; store a datetime, or value.isoformat()"
    if isinstance(value, _dt.time):
        return "is a time without date; store a datetime, or value.isoformat()"
    if isinstance(value, _dt.timedelta):
        return "has no BSON type; store value.total_seconds()"
    if hasattr(cls, "__dataclass_fields__"):
        return "is a dataclass; store dataclasses.asdict(value)"
    if hasattr(cls, "__fspath__"):
        return "is a path; store str(value)"
    if hasattr(cls, "tolist"):
        return "has no BSON type; store value.tolist()"
    if hasattr(cls, "__iter__"):
        return "has no BSON type; store list(value)"
    return "has no BSON type; store a dict of its parts, or str(value)"


def encode(document: Mapping[str, Any], /) -> bytes:
    """A dict or Mapping as BSON. What BSON cannot hold raises, and says where."""
    if not isinstance(document, Mapping):
        raise TypeError(
            f"a document must be a dict or a Mapping, not {type(document).__name__}"
        )
    return _Encoder().document(document)


# Decoding


class _Decoder:
    """One document's. *pos* never passes the end of the container we are in."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0
        self.path: list[str | int] = []

    def invalid(self, at: int, text: str) -> NoReturn:
        raise ValueError(f"BSON, byte {at}, {_path_text(self.path)}: {text}")

    def take(self, end: int, size: int, what: str) -> bytes:
        at = self.pos
        if end - at < size:
            self.invalid(at, f"the {what} is cut short")
        self.pos = at + size
        return self.data[at : at + size]

    def text(self, start: int, end: int, what: str) -> str:
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            self.invalid(start, f"the {what} is not UTF-8")

    def string(self, end: int, what: str) -> str:
        at = self.pos
        (length,) = _INT32.unpack(self.take(end, 4, what))
        left = end - self.pos
        if not 1 <= length <= left:
            self.invalid(
                at, f"the {what} has length {length} where {left} bytes are left"
            )
        start = self.pos
        self.pos += length
        if self.data[self.pos - 1]:
            self.invalid(self.pos - 1, f"the {what} does not end in NUL")
        return self.text(start, self.pos - 1, what)

    def cstring(self, end: int, what: str) -> str:
        start = self.pos
        nul = self.data.find(0, start, end)
        if nul < 0:
            self.invalid(start, f"the {what} has no end")
        self.pos = nul + 1
        return self.text(start, nul, what)

    def enter(self, end: int) -> int:
        """At a document's length: check it, return where its elements end."""
        at, left = self.pos, end - self.pos
        if left < 5:
            self.invalid(at, "the document is cut short")
        length: int = _INT32.unpack_from(self.data, at)[0]
        if not 5 <= length <= left:
            self.invalid(
                at, f"the document has length {length} where {left} bytes are left"
            )
        inside = at + length - 1
        if self.data[inside]:
            self.invalid(inside, "the document does not end in NUL")
        if len(self.path) >= DEPTH_MAX:
            self.invalid(at, f"nested more than {DEPTH_MAX} levels deep")
        self.pos = at + 4
        return inside

    def key(self, end: int) -> bytes:
        """Behind a type byte: the key's bytes."""
        start = self.pos
        nul = self.data.find(0, start, end)
        if nul < 0:
            self.invalid(start, "a key has no end")
        self.pos = nul + 1
        return self.data[start:nul]

    def document(self, end: int) -> dict[str, Any]:
        end = self.enter(end)
        path = self.path
        result = {}
        while self.pos < end:
            at = self.pos
            self.pos = at + 1
            raw = self.key(end)
            path.append(raw.decode(errors="backslashreplace"))
            key = self.text(at + 1, self.pos - 1, "key")
            result[key] = self.value(end, self.data[at], at)
            path.pop()
        self.pos = end + 1
        return result

    def array(self, end: int) -> list[Any]:
        end = self.enter(end)
        path = self.path
        result: list[Any] = []
        while self.pos < end:
            at = self.pos
            self.pos = at + 1
            self.key(end)  # should be the index; the order alone counts
            path.append(len(result))
            result.append(self.value(end, self.data[at], at))
            path.pop()
        self.pos = end + 1
        return result

    def value(self, end: int, kind: int, at: int) -> Any:
        match kind:
            case 0x01:
                return _DOUBLE.unpack(self.take(end, 8, "double"))[0]
            case 0x02:
                return self.string(end, "str")
            case 0x03:
                return self.document(end)
            case 0x04:
                return self.array(end)
            case 0x07:
                return ObjectId(self.take(end, 12, "ObjectId"))
            case 0x08:
                return self.boolean(end)
            case 0x09:
                return self.datetime(end)
            case 0x0A:
                return None
            case 0x10:
                return _INT32.unpack(self.take(end, 4, "int32"))[0]
            case 0x12:
                return _INT64.unpack(self.take(end, 8, "int64"))[0]
        return self.rare(end, kind, at)

    def rare(self, end: int, kind: int, at: int) -> Any:
        """What becomes an object of levrt.bson's or another module's."""
        match kind:
            case 0x05:
                return self.binary(end)
            case 0x06:
                return _classes().Undefined()
            case 0x0B:
                return self.regex(end)
            case 0x0C:
                name = self.string(end, "namespace")
                oid = ObjectId(self.take(end, 12, "ObjectId"))
                return _classes().DBPointer(name, oid)
            case 0x0D:
                return _classes().Code(self.string(end, "code"))
            case 0x0E:
                return _classes().Symbol(self.string(end, "symbol"))
            case 0x0F:
                return self.code(end)
            case 0x11:
                inc, seconds = _TIMESTAMP.unpack(self.take(end, 8, "timestamp"))
                return _classes().Timestamp(seconds, inc)
            case 0x13:
                return self.decimal128(end)
            case 0xFF:
                return _classes().MinKey()
            case 0x7F:
                return _classes().MaxKey()
        self.invalid(at, f"type 0x{kind:02x} is not BSON's")

    def boolean(self, end: int) -> bool:
        at = self.pos
        value = self.take(end, 1, "bool")[0]
        if value > 1:
            self.invalid(at, f"the bool is {value}, not 0 or 1")
        return bool(value)

    def datetime(self, end: int) -> Any:
        (ms,) = _INT64.unpack(self.take(end, 8, "datetime"))
        if not _MS_MIN <= ms <= _MS_MAX:
            return _classes().DateTimeMS(ms)
        return EPOCH + _dt.timedelta(milliseconds=ms)

    def binary(self, end: int) -> Any:
        at = self.pos
        head = self.take(end, 5, "binary")
        (length,) = _INT32.unpack_from(head)
        left = end - self.pos
        if not 0 <= length <= left:
            self.invalid(
                at, f"the binary has length {length} where {left} bytes are left"
            )
        data, subtype = self.take(end, length, "binary"), head[4]
        if subtype == 0:
            return data
        if subtype == 4 and length == 16:
            return uuid.UUID(bytes=data)
        if subtype == 2:
            if length < 4 or _INT32.unpack_from(data)[0] != length - 4:
                self.invalid(
                    at, "the binary of subtype 2 has two lengths that disagree"
                )
            data = data[4:]
        return _classes().Binary(data, subtype)

    def decimal128(self, end: int) -> Any:
        bid = self.take(end, 16, "decimal128")
        value = decimal_from_bid(bid)
        return _classes().Decimal128(bid) if value is None else value

    def regex(self, end: int) -> Any:
        pattern = self.cstring(end, "pattern")
        options = self.cstring(end, "options")
        if all(letter in _FLAGS for letter in options):
            flags = 0
            for letter in options:
                flags |= _FLAGS[letter]
            try:
                return re.compile(pattern, flags)
            except MemoryError:
                raise
            except Exception:
                # Perl's syntax is not quite Python's; a warning that the
                # program has made an error counts as that too.
                pass
        return _classes().Regex(pattern, options)

    def code(self, end: int) -> Any:
        at = self.pos
        (length,) = _INT32.unpack(self.take(end, 4, "code"))
        left = end - at
        if not 4 <= length <= left:
            self.invalid(
                at, f"the code has length {length} where {left} bytes are left"
            )
        inside = at + length
        code = self.string(inside, "code")
        scope = self.document(inside)
        if self.pos < inside:
            self.invalid(self.pos, f"{inside - self.pos} bytes behind the code's scope")
        return _classes().Code(code, scope)


def decode(data: "bytes | bytearray | memoryview", /) -> dict[str, Any]:
    """The dict of one BSON document. ValueError says at which byte it is none."""
    data = bytes(memoryview(data))
    decoder = _Decoder(data)
    if len(data) >= 5:
        (length,) = _INT32.unpack_from(data)
        if 0 <= length < len(data):
            decoder.invalid(
                0, f"the document has length {length}, but {len(data)} bytes are here"
            )
    return decoder.document(len(data))
