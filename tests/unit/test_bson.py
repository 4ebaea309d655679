"""The BSON codecs: one in C, in two modules, and one in Python.

Every test runs over each of them, and what one gives is held against the
other and against PyMongo's.
"""

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import pickle
import re
import struct
import types
import uuid
from collections.abc import Mapping

import pytest
from bson_cases import CODECS, NAMES, document, element, label, text
from hypothesis import given, settings, strategies as st

import bson as pymongo
from levrt import bson as lb

UTC = dt.UTC
OID = "6b056c0ebde44cc488c9a275"


def test_codec_in_c_is_there():
    assert "levrt._guest" in NAMES


@pytest.fixture(params=CODECS, ids=NAMES)
def codec(request):
    return request.param


# The type table: value, BSON type, bytes. The bytes are the specification's.

PLAIN = [
    (1.5, 0x01, struct.pack("<d", 1.5)),
    (-0.0, 0x01, struct.pack("<d", -0.0)),
    (math.inf, 0x01, struct.pack("<d", math.inf)),
    ("", 0x02, b"\1\0\0\0\0"),
    ("a", 0x02, text(b"a")),
    ("nul\0in it", 0x02, text(b"nul\0in it")),
    ("é€😀", 0x02, text("é€😀".encode())),
    ("ÿ", 0x02, text("ÿ".encode())),
    ("\u07ff\u0800\uffff\U00010000\U0010ffff", 0x02, None),
    ({}, 0x03, b"\5\0\0\0\0"),
    ({"b": None}, 0x03, document(b"\x0ab\0")),
    ([], 0x04, b"\5\0\0\0\0"),
    ([True, None], 0x04, document(b"\x080\0\1\x0a1\0")),
    (b"", 0x05, b"\0\0\0\0\0"),
    (b"\0\xff", 0x05, b"\2\0\0\0\0\0\xff"),
    (uuid.UUID(int=5), 0x05, b"\x10\0\0\0\4" + bytes(15) + b"\5"),
    (True, 0x08, b"\1"),
    (False, 0x08, b"\0"),
    (dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 0x09, struct.pack("<q", 1000)),
    (dt.datetime(1, 1, 1, tzinfo=UTC), 0x09, struct.pack("<q", -62135596800000)),
    (
        dt.datetime(9999, 12, 31, 23, 59, 59, 999000, UTC),
        0x09,
        struct.pack("<q", 253402300799999),
    ),
    (None, 0x0A, b""),
    (re.compile("^a.b", re.I | re.M | re.S | re.X), 0x0B, b"^a.b\0imsux\0"),
    (re.compile(""), 0x0B, b"\0u\0"),
    (0, 0x10, bytes(4)),
    (2**31 - 1, 0x10, struct.pack("<i", 2**31 - 1)),
    (-(2**31), 0x10, struct.pack("<i", -(2**31))),
    (2**31, 0x12, struct.pack("<q", 2**31)),
    (-(2**31) - 1, 0x12, struct.pack("<q", -(2**31) - 1)),
    (2**63 - 1, 0x12, struct.pack("<q", 2**63 - 1)),
    (-(2**63), 0x12, struct.pack("<q", -(2**63))),
    (decimal.Decimal("1"), 0x13, struct.pack("<QQ", 1, 0x3040000000000000)),
    (decimal.Decimal("-1.50"), 0x13, struct.pack("<QQ", 150, 0xB03C000000000000)),
    (lb.Binary(b"ab", 2), 0x05, b"\6\0\0\0\2\2\0\0\0ab"),
    (lb.Binary(bytes(16), 3), 0x05, b"\x10\0\0\0\3" + bytes(16)),
    (lb.Binary(b"short", 4), 0x05, b"\5\0\0\0\4short"),
    (lb.Binary(b"x", 255), 0x05, b"\1\0\0\0\xffx"),
    (lb.Undefined(), 0x06, b""),
    (lb.DateTimeMS(253402300800000), 0x09, struct.pack("<q", 253402300800000)),
    (lb.DateTimeMS(-(2**63)), 0x09, struct.pack("<q", -(2**63))),
    (lb.Regex("a(?<n>b)"), 0x0B, b"a(?<n>b)\0\0"),
    (lb.Regex("a", "z"), 0x0B, b"a\0z\0"),
    (lb.Regex("a", "l"), 0x0B, b"a\0l\0"),
    (lb.Code("f()"), 0x0D, text(b"f()")),
    (
        lb.Code("f", {"x": 1}),
        0x0F,
        b"\x16\0\0\0" + text(b"f") + document(b"\x10x\0\1\0\0\0"),
    ),
    (lb.Symbol("s"), 0x0E, text(b"s")),
    (lb.Timestamp(1, 2), 0x11, struct.pack("<II", 2, 1)),
    (lb.Timestamp(2**32 - 1, 2**32 - 1), 0x11, b"\xff" * 8),
    (lb.Decimal128(b"\xff" * 16), 0x13, b"\xff" * 16),
    (lb.MinKey(), 0xFF, b""),
    (lb.MaxKey(), 0x7F, b""),
]


@pytest.mark.parametrize("value, kind, data", PLAIN, ids=label)
def test_type_table(codec, value, kind, data):
    got = codec.encode({"a": value})
    assert got[4] == kind
    if data is not None:
        assert got == element(kind, data)
    back = codec.decode(got)
    assert list(back) == ["a"]
    assert type(back["a"]) is type(value)
    assert back == {"a": value}
    assert repr(back["a"]) == repr(value)
    assert codec.encode(back) == got


def test_nan(codec):
    assert math.isnan(codec.decode(codec.encode({"a": math.nan}))["a"])


def test_int64_keeps_its_type(codec):
    got = codec.encode({"a": lb.Int64(5)})
    assert got == element(0x12, struct.pack("<q", 5))
    assert codec.decode(got) == {"a": 5}
    assert type(codec.decode(got)["a"]) is int


def test_objectid_and_dbpointer(codec):
    oid = codec.ObjectId(OID)
    pointer = lb.DBPointer("db.c", oid)
    got = codec.encode({"a": oid, "b": pointer})
    assert got == document(
        b"\x07a\0" + bytes.fromhex(OID) + b"\x0cb\0" + text(b"db.c") + bytes(oid)
    )
    assert codec.decode(got) == {"a": oid, "b": pointer}


def test_int64_in_int32s_range_reads_as_int(codec):
    assert codec.decode(element(0x12, struct.pack("<q", 7))) == {"a": 7}


def test_bool_is_no_int(codec):
    assert codec.encode({"a": True})[4] == 0x08
    assert codec.decode(codec.encode({"a": [1, True]}))["a"][1] is True


def test_tuples_become_lists(codec):
    point = collections.namedtuple("point", "x y")(1, 2)
    got = codec.decode(codec.encode({"a": (1, (2,)), "b": point}))
    assert got == {"a": [1, [2]], "b": [1, 2]}


def test_subclasses_are_what_they_inherit_from(codec):
    class Text(str):
        pass

    class Number(int):
        pass

    class Real(float):
        pass

    class Items(list):
        pass

    class Raw(bytes):
        pass

    got = codec.encode(
        {Text("k"): Text("v"), "n": Number(3), "f": Real(1.5), "l": Items([1])}
        | {"b": Raw(b"r")}
    )
    assert codec.decode(got) == {"k": "v", "n": 3, "f": 1.5, "l": [1], "b": b"r"}


@pytest.mark.parametrize(
    "value, want",
    [
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcdef")[1:4], b"bcd"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(bytes(range(8))).cast("H", (2, 2)), bytes(range(8))),
        (lb.Binary(b"z", 0), b"z"),
    ],
    ids=["bytearray", "slice", "step", "two-dimensional", "Binary-0"],
)
def test_buffers_become_bytes(codec, value, want):
    got = codec.decode(codec.encode({"a": value}))
    assert got == {"a": want} and type(got["a"]) is bytes


def test_order_of_keys_is_kept(codec):
    doc = {"z": 1, "_id": 2, "a": {"y": 1, "b": 2}}
    got = codec.decode(codec.encode(doc))
    assert list(got) == ["z", "_id", "a"] and list(got["a"]) == ["y", "b"]


def test_dict_subclass_in_its_own_order(codec):
    doc = collections.OrderedDict(a=1, b=2)
    doc.move_to_end("a")
    assert list(codec.decode(codec.encode(doc))) == ["b", "a"]


def test_long_arrays_count_their_keys(codec):
    got = codec.encode({"a": list(range(1105))})
    assert got == pymongo.encode({"a": list(range(1105))})


def test_keys_of_arrays_are_ignored(codec):
    data = element(0x04, document(b"\x10x\0\1\0\0\0\x10\xff\0\2\0\0\0"))
    assert codec.decode(data) == {"a": [1, 2]}


def test_a_key_that_comes_twice_counts_last(codec):
    assert codec.decode(document(b"\x08a\0\0\x0ab\0\x08a\0\1")) == {
        "a": True,
        "b": None,
    }


def test_decode_takes_any_buffer(codec):
    data = codec.encode({"a": 1})
    for view in (bytearray(data), memoryview(data), memoryview(b"x" + data)[1:]):
        assert codec.decode(view) == {"a": 1}
    with pytest.raises(TypeError):
        codec.decode("text")


# Datetimes

ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "value, ms",
    [
        (dt.datetime(1970, 1, 1), 0),
        (dt.datetime(1970, 1, 1, 5, 30, tzinfo=ZONE), 0),
        (dt.datetime(1970, 1, 1, 0, 0, 0, 999, tzinfo=UTC), 0),
        (dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1),
        (
            dt.datetime(
                1970, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1, hours=1))
            ),
            -3600001,
        ),
        (dt.datetime(1, 1, 1, tzinfo=ZONE), -62135596800000 - 19800000),
    ],
    ids=str,
)
def test_datetime_is_floored_to_ms_in_utc(codec, value, ms):
    got = codec.encode({"a": value})
    assert got == element(0x09, struct.pack("<q", ms))


def test_datetime_before_year_one_reads_as_ms(codec):
    got = codec.decode(codec.encode({"a": dt.datetime(1, 1, 1, tzinfo=ZONE)}))
    assert got == {"a": lb.DateTimeMS(-62135596800000 - 19800000)}


def test_fold_chooses_the_offset(codec):
    class Zone(dt.tzinfo):
        def utcoffset(self, when):
            return dt.timedelta(hours=when.fold)

    early, late = (dt.datetime(1970, 1, 1, 2, fold=f, tzinfo=Zone()) for f in (0, 1))
    got = codec.decode(codec.encode({"a": early, "b": late}))
    assert got["a"] - got["b"] == dt.timedelta(hours=1)


def test_a_zone_without_offset_is_utc(codec):
    class Zone(dt.tzinfo):
        def utcoffset(self, when):
            return None

    value = dt.datetime(1970, 1, 2, tzinfo=Zone())
    got = codec.encode({"a": value})
    assert got == element(0x09, struct.pack("<q", 86400000))


def test_what_a_zone_raises_goes_on(codec):
    class Zone(dt.tzinfo):
        def utcoffset(self, when):
            raise ZeroDivisionError("no zone")

    with pytest.raises(ZeroDivisionError, match="no zone"):
        codec.encode({"a": dt.datetime(1970, 1, 1, tzinfo=Zone())})


@settings(max_examples=300, deadline=None)
@given(when=st.datetimes(timezones=st.just(UTC)))
def test_every_datetime(when):
    want = when.replace(microsecond=when.microsecond // 1000 * 1000)
    for codec in CODECS:
        got = codec.encode({"a": when})
        assert got == CODECS[0].encode({"a": when})
        assert codec.decode(got)["a"] == want


# Decimals


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-0",
        "0E-6176",
        "-0.00",
        "1E-6176",
        "1E6111",
        "9999999999999999999999999999999999E6111",
        "-9999999999999999999999999999999999E-6176",
        "1234567890123456789012345678901234",
        "0.1000",
        "Infinity",
        "-Infinity",
        "NaN",
        "-NaN",
        "sNaN",
        "-sNaN",
        "NaN123",
        "-sNaN" + "9" * 33,
    ],
)
def test_decimal_round_trip_is_exact(codec, value):
    value = decimal.Decimal(value)
    back = codec.decode(codec.encode({"a": value}))["a"]
    assert back.as_tuple() == value.as_tuple()


@pytest.mark.parametrize(
    "value, want",
    [
        ("1E6112", "10E6111"),
        ("1E6144", "1" + "0" * 33 + "E6111"),
        ("0E7000", "0E6111"),
        ("0E-7000", "0E-6176"),
        ("10E-6177", "1E-6176"),
        ("1" + "0" * 40, "1" + "0" * 33 + "E7"),
        ("0E999999999999", "0E6111"),
        ("0" * 50 + "1", "1"),
    ],
)
def test_decimal_moves_zeros_without_changing_the_value(codec, value, want):
    value, want = decimal.Decimal(value), decimal.Decimal(want)
    back = codec.decode(codec.encode({"a": value}))["a"]
    assert back.as_tuple() == want.as_tuple() and back == value


@pytest.mark.parametrize(
    "value",
    [
        "12345678901234567890123456789012345",
        "1E-6177",
        "11E-6177",
        "1E6145",
        "10E6144",
        "1E999999999999999999",
        "1E-999999999999999999",
        "NaN1" + "0" * 33,
    ],
)
def test_decimal_is_never_rounded(codec, value):
    with pytest.raises(ValueError, match=r"^a\[0\]: the Decimal has more than the 34"):
        codec.encode({"a": [decimal.Decimal(value)]})


def test_decimal_ignores_the_context(codec):
    value = decimal.Decimal("1234567890.123456789")
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert codec.decode(codec.encode({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    "high, low, want",
    [
        (0x7800000000000000, 1, None),  # infinity with a tail
        (0x7C00400000000000, 0, None),  # NaN with a reserved bit
        (0x7C003FFFFFFFFFFF, 2**64 - 1, None),  # a payload of 34 digits
        (0x6C10000000000000, 0, None),  # the layout for large integers
        (0x3041ED09BEAD87C0, 0x378D8E6400000000, None),  # 10^34
        (0x3041ED09BEAD87C0, 0x378D8E63FFFFFFFF, "9" * 34),
    ],
)
def test_decimal_that_is_not_canonical(codec, high, low, want):
    bid = struct.pack("<QQ", low, high)
    data = element(0x13, bid)
    got = codec.decode(data)["a"]
    assert got == (lb.Decimal128(bid) if want is None else decimal.Decimal(want))
    assert codec.encode({"a": got}) == data


def test_decimal128_class():
    exact = lb.Decimal128.from_decimal("-1.50")
    assert exact.to_decimal().as_tuple() == decimal.Decimal("-1.50").as_tuple()
    # 10^34 counts as 0, of its exponent.
    over = lb.Decimal128(struct.pack("<QQ", 0x378D8E6400000000, 0x3041ED09BEAD87C0))
    assert over.to_decimal().as_tuple() == decimal.Decimal("0").as_tuple()
    large = lb.Decimal128(struct.pack("<QQ", 0, 0x6C10000000000000))
    assert large.to_decimal().as_tuple() == decimal.Decimal("0").as_tuple()
    nan = lb.Decimal128(struct.pack("<QQ", 0, 0x7C00400000000000))
    assert nan.to_decimal().is_qnan()
    infinite = lb.Decimal128(struct.pack("<QQ", 1, 0xF800000000000000))
    assert infinite.to_decimal() == decimal.Decimal("-Infinity")
    with pytest.raises(ValueError, match="the Decimal has more than the 34 digits"):
        lb.Decimal128.from_decimal("1E-7000")


@settings(max_examples=400, deadline=None)
@given(
    sign=st.integers(0, 1),
    digits=st.lists(st.integers(0, 9), min_size=1, max_size=38),
    exponent=st.integers(-6230, 6160),
)
def test_every_decimal_as_pymongo(sign, digits, exponent):
    value = decimal.Decimal((sign, tuple(digits), exponent))
    try:
        want = pymongo.Decimal128(value).bid
    except decimal.DecimalException:
        want = None
    for codec in CODECS:
        if want is None:
            with pytest.raises(ValueError):
                codec.encode({"a": value})
        else:
            # PyMongo keeps 34 digits of a zero's; the value is the same.
            back = codec.decode(codec.encode({"a": value}))["a"]
            assert back == value
            assert value.is_zero() or codec.encode({"a": value})[7:-1] == want


# Regular expressions


def test_regex_as_pymongo(codec):
    for flags in (0, re.I, re.M, re.S, re.X, re.A, re.I | re.X):
        value = re.compile("a b", flags)
        assert codec.encode({"a": value}) == pymongo.encode({"a": value})


@pytest.mark.parametrize("pattern", [b"(", b"a{9999999999999}", b"(?<n>a)", b"(?z)"])
def test_regex_that_python_cannot_compile(codec, pattern):
    data = element(0x0B, pattern + b"\0i\0")
    got = codec.decode(data)["a"]
    assert got == lb.Regex(pattern.decode(), "i")
    assert codec.encode({"a": got}) == data


def test_regex_whose_warning_is_an_error(codec):
    # setup.cfg makes FutureWarning (possible nested set) an exception.
    assert codec.decode(element(0x0B, b"[[a]\0\0")) == {"a": lb.Regex("[[a]")}


def test_regex_compiles():
    assert lb.Regex("A", "xi").compile() == re.compile("A", re.I | re.X)
    with pytest.raises(ValueError, match="no flag for the option 'z'"):
        lb.Regex("a", "z").compile()


# Bad values


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Finding:
    port: int


class Odd:
    pass


class Array:
    def tolist(self):
        return []


BAD = [
    ({1}, TypeError, "set has no order, which BSON arrays have; store sorted(value)"),
    (frozenset(), TypeError, "frozenset has no order"),
    (Colour.RED, TypeError, "Colour is an enum; store its .value"),
    (Level.LOW, TypeError, "Level is an enum; store its .value"),
    (Name.A, TypeError, "Name is an enum; store its .value"),
    (Finding(1), TypeError, "Finding is a dataclass; store dataclasses.asdict(value)"),
    (Odd, TypeError, "type has no BSON type"),
    (pathlib.Path("/x"), TypeError, "PosixPath is a path; store str(value)"),
    (dt.date(2020, 1, 1), TypeError, "date is a date without time; store a datetime"),
    (dt.time(), TypeError, "time is a time without date; store a datetime"),
    (dt.timedelta(), TypeError, "timedelta has no BSON type; store value.total_sec"),
    (Odd(), TypeError, "Odd has no BSON type; store a dict of its parts, or str(val"),
    (Array(), TypeError, "Array has no BSON type; store value.tolist()"),
    (1j, TypeError, "complex has no BSON type"),
    (range(3), TypeError, "range has no BSON type; store list(value)"),
    (collections.deque(), TypeError, "deque has no BSON type; store list(value)"),
    (iter([]), TypeError, "list_iterator has no BSON type; store list(value)"),
    (re.compile(b"a"), TypeError, "a regular expression over bytes has no BSON type"),
    (re.compile("a\0b"), ValueError, "the pattern has a NUL character"),
    (2**63, OverflowError, "the int is beyond int64; store it as str or decimal"),
    (-(2**63) - 1, OverflowError, "the int is beyond int64"),
    (10**5000, OverflowError, "the int is beyond int64"),
    ("x\ud800", ValueError, "the str has the lone surrogate \\ud800 at index 1"),
    ("\U0001f600\udfff", ValueError, "the str has the lone surrogate \\udfff at in"),
    (lb.Code("\ud800"), ValueError, "the str has the lone surrogate \\ud800"),
    (lb.Symbol("\ud800"), ValueError, "the str has the lone surrogate \\ud800"),
    (lb.Regex("\ud800"), ValueError, "the str has the lone surrogate \\ud800"),
]


@pytest.mark.parametrize("value, exc, message", BAD, ids=label)
@pytest.mark.parametrize(
    "wrap, path",
    [
        (lambda v: {"a": v}, "a"),
        (lambda v: {"a": {"b": [0, 1, {"c": v}]}}, "a.b[2].c"),
        (lambda v: {"a": ({"x.y": [[v]]},)}, "a[0]['x.y'][0][0]"),
        (lambda v: {"": {"it's": v}}, """['']["it's"]"""),
        (lambda v: {"a": types.MappingProxyType({"é": v})}, "a.é"),
        (lambda v: {"a": lb.Code("f", {"s": v})}, "a.s"),
    ],
    ids=["top", "nested", "dots", "quotes", "mapping", "scope"],
)
def test_bad_value_names_its_path(codec, value, exc, message, wrap, path):
    with pytest.raises(exc) as caught:
        codec.encode(wrap(value))
    assert str(caught.value).startswith(f"{path}: {message}")


BAD_KEYS = [
    (1, TypeError, "a key must be str, not int; use str(key)"),
    (b"a", TypeError, "a key must be str, not bytes; use str(key)"),
    (None, TypeError, "a key must be str, not NoneType; use str(key)"),
    (Colour.RED, TypeError, "a key must be str, not the enum Colour; use its .value"),
    (Name.A, TypeError, "a key must be str, not the enum Name; use its .value"),
    ("a\0b", ValueError, "the key 'a\\x00b' has a NUL character"),
    ("é\0b", ValueError, "the key '\\xe9\\x00b' has a NUL character"),
    ("\ud800", ValueError, "the key '\\ud800' has a lone surrogate"),
]


@pytest.mark.parametrize("key, exc, message", BAD_KEYS, ids=label)
@pytest.mark.parametrize("wrap", [dict, types.MappingProxyType])
def test_bad_key_names_its_document(codec, key, exc, message, wrap):
    for doc, path in [
        (wrap({key: 1}), "document"),
        ({"a": [wrap({"b": 1, key: 1})]}, "a[0]"),
    ]:
        with pytest.raises(exc) as caught:
            codec.encode(doc)
        assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("value", [[], None, 5, "text", {1}, b"\5\0\0\0\0"], ids=repr)
def test_a_document_is_a_mapping(codec, value):
    with pytest.raises(TypeError, match="a document must be a dict or a Mapping, not "):
        codec.encode(value)


@pytest.mark.parametrize(
    "cls, name, value, message",
    [
        (lb.Timestamp, "time", 2**32, "a: Timestamp.time must be in its range"),
        (lb.Timestamp, "inc", -1, "a: Timestamp.inc must be in its range"),
        (lb.Timestamp, "inc", "1", "a: Timestamp.inc must be int"),
        (lb.DateTimeMS, "ms", None, "a: DateTimeMS.ms must be int"),
        (lb.DateTimeMS, "ms", 2**63, "a: the int is beyond int64; store it as str"),
        (lb.Decimal128, "bid", "x", "a: Decimal128.bid must be bytes"),
        (lb.Decimal128, "bid", b"x", "a: Decimal128.bid must be 16 bytes"),
        (lb.Regex, "pattern", b"x", "a: Regex.pattern must be str"),
        (lb.Regex, "flags", 5, "a: Regex.flags must be str"),
        (lb.Symbol, "value", 5, "a: Symbol.value must be str"),
        (lb.Code, "code", 5, "a: Code.code must be str"),
        (lb.Code, "scope", 5, "a: Code.scope must be a Mapping or None"),
        (lb.DBPointer, "id", OID, "a: DBPointer.id must be an ObjectId"),
        (lb.DBPointer, "namespace", 5, "a: DBPointer.namespace must be str"),
    ],
    ids=label,
)
def test_value_that_was_tampered_with(codec, cls, name, value, message):
    fields = {
        lb.Timestamp: (1, 2),
        lb.DateTimeMS: (1,),
        lb.Decimal128: (bytes(16),),
        lb.DBPointer: ("a.b", lb.ObjectId()),
    }
    thing = cls(*fields.get(cls, ("x",)))
    object.__setattr__(thing, name, value)
    with pytest.raises((TypeError, OverflowError)) as caught:
        codec.encode({"a": thing})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "parts",
    [None, (), (0, [1], 0), (0, (1,), None), (0, (1, "x"), 0), (0, (10,), 0)]
    + [(0, (-1,), "n"), (0, (), "FF")],
    ids=repr,
)
def test_decimal_whose_parts_are_none(codec, parts):
    class Mine(decimal.Decimal):
        def as_tuple(self):
            return parts

    with pytest.raises(TypeError) as caught:
        codec.encode({"a": Mine(1)})
    assert str(caught.value) == "Decimal.as_tuple() gave no (sign, digits, exponent)"


def test_datetime_whose_offset_is_none(codec):
    class Mine(dt.datetime):
        def utcoffset(self):
            return 5

    with pytest.raises(TypeError) as caught:
        codec.encode({"a": Mine(2020, 1, 1, tzinfo=ZONE)})
    assert str(caught.value) == "utcoffset() must return a timedelta or None"


CONSTRUCTORS = [
    (lambda: lb.Binary("x"), TypeError, "data must be bytes, not str"),
    (lambda: lb.Binary(b"", 256), ValueError, "subtype must be in 0 to 255, not 256"),
    (lambda: lb.Binary(b"", True), TypeError, "subtype must be an int, not bool"),
    (lambda: lb.Int64("5"), TypeError, "value must be an int, not str"),
    (lambda: lb.Int64(2**63), ValueError, "value must be in -9223372036854775808 to "),
    (lambda: lb.Timestamp(-1, 0), ValueError, "time must be in 0 to 4294967295, not "),
    (lambda: lb.Timestamp(0, 2**32), ValueError, "inc must be in 0 to 4294967295"),
    (lambda: lb.DateTimeMS(1.5), TypeError, "ms must be an int, not float"),
    (lambda: lb.Regex(b"a"), TypeError, "pattern must be a str, not bytes"),
    (lambda: lb.Regex("a\0"), ValueError, "pattern has a NUL character"),
    (lambda: lb.Regex("a", 2), TypeError, "flags must be a str, not int"),
    (lambda: lb.Code(5), TypeError, "code must be a str, not int"),
    (lambda: lb.Code("", []), TypeError, "scope must be a Mapping or None, not list"),
    (lambda: lb.Decimal128("1"), TypeError, "bid must be bytes, not str"),
    (lambda: lb.Decimal128(b"1"), ValueError, "bid must be 16 bytes, not 1"),
    (lambda: lb.Symbol(None), TypeError, "value must be a str, not NoneType"),
    (lambda: lb.DBPointer(1, None), TypeError, "namespace must be a str, not int"),
]


@pytest.mark.parametrize("make, exc, message", CONSTRUCTORS, ids=label)
def test_bad_arguments_of_the_classes(make, exc, message):
    with pytest.raises(exc) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_classes_are_values():
    assert lb.Binary(b"x", 0) == b"x" and hash(lb.Binary(b"x")) == hash(b"x")
    assert lb.Binary(b"x", 5) != b"x" and b"x" != lb.Binary(b"x", 5)
    assert lb.Binary(b"x", 5) == lb.Binary(b"x", 5) != lb.Binary(b"x", 6)
    assert hash(lb.Binary(b"x", 5)) == hash(lb.Binary(b"x", 5))
    assert lb.Binary(b"x", 5) != "x"
    assert repr(lb.Binary(b"x", 5)) == "Binary(b'x', 5)"
    assert lb.Int64(5) == 5 and repr(lb.Int64(5)) == "Int64(5)"
    assert f"{lb.Int64(5)} {lb.Int64(5)!s}" == "5 5"
    assert lb.Regex("a", "xi") == lb.Regex("a", "ix") != lb.Regex("a")
    assert lb.Timestamp(1, 2) < lb.Timestamp(2, 1)
    assert lb.DateTimeMS(1) < lb.DateTimeMS(2)
    assert lb.MinKey() == lb.MinKey() != lb.MaxKey()
    assert len({lb.MinKey(), lb.MinKey(), lb.MaxKey(), lb.Undefined()}) == 3
    assert lb.Timestamp(1, 2).as_datetime() == dt.datetime(1970, 1, 1, 0, 0, 1, 0, UTC)
    assert lb.DateTimeMS(1500).as_datetime().microsecond == 500000
    with pytest.raises(OverflowError):
        lb.DateTimeMS(2**62).as_datetime()


@pytest.mark.parametrize(
    "value", [v for v, *_ in PLAIN if "levrt" in type(v).__module__]
)
def test_classes_are_copied_and_pickled(value):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(value, protocol))
        assert back == value and type(back) is type(value)
    assert copy.deepcopy(value) == copy.copy(value) == value
    pickled = pickle.loads(pickle.dumps(lb.Int64(5)))
    assert type(pickled) is lb.Int64 and pickled == 5


# Depth


def nested(levels, kind=dict):
    """A document of that many levels, itself counted."""
    value = {}
    for _ in range(levels - 1):
        value = {"a": value if kind is dict else [value]}
    return value


def test_depth_of_100_is_fine(codec):
    doc = nested(100)
    assert codec.decode(codec.encode(doc)) == doc


def test_depth_beyond_100(codec):
    with pytest.raises(ValueError) as caught:
        codec.encode(nested(101))
    path = ".".join("a" * 100)
    assert str(caught.value) == (
        f"{path}: nested more than 100 levels deep; is it part of itself?"
    )


def deep_bytes(levels, kind):
    data = document(b"")
    for _ in range(levels - 1):
        data = element(kind, data)
    return data


@pytest.mark.parametrize("kind", [0x03, 0x04])
def test_depth_of_bytes(codec, kind):
    codec.decode(deep_bytes(100, kind))
    for levels in (101, 3000):
        with pytest.raises(ValueError, match=r"nested more than 100 levels deep$"):
            codec.decode(deep_bytes(levels, kind))


def test_depth_counts_the_scope_of_code(codec):
    doc = {"a": lb.Code("f", nested(99))}
    assert codec.decode(codec.encode(doc)) == doc
    with pytest.raises(ValueError, match="nested more than 100 levels"):
        codec.encode({"a": lb.Code("f", nested(100))})


def test_cycles_end(codec):
    doc, items = {}, []
    doc["me"] = doc
    items.append(items)
    for cycle in (doc, {"a": items}, {"a": types.MappingProxyType(doc)}):
        with pytest.raises(ValueError, match="nested more than 100 levels"):
            codec.encode(cycle)


# Containers that misbehave


class Pairs(Mapping):
    """A Mapping of whatever items() is told to give."""

    def __init__(self, give):
        self.give = give

    def __getitem__(self, key):
        raise AssertionError("the codec asks for items() alone")

    __iter__ = __getitem__
    __len__ = lambda self: 0  # noqa: E731

    def items(self):
        return self.give()


def test_mapping_gives_its_items(codec):
    doc = Pairs(lambda: [("b", 1), ("a", Pairs(lambda: iter([("c", 2)])))])
    assert codec.encode(doc) == codec.encode({"b": 1, "a": {"c": 2}})


@pytest.mark.parametrize("pair", [["a", 1], ("a",), ("a", 1, 2), None, "ab"], ids=repr)
def test_mapping_that_gives_no_pairs(codec, pair):
    with pytest.raises(TypeError) as caught:
        codec.encode({"x": Pairs(lambda: [pair])})
    assert str(caught.value) == (
        "x: items() of Pairs must yield (key, value) tuples, not " + type(pair).__name__
    )


def test_mapping_that_raises(codec):
    def give():
        yield "a", 1
        raise ZeroDivisionError("broken")

    for raising in (give, lambda: 1 / 0):
        with pytest.raises(ZeroDivisionError):
            codec.encode({"x": Pairs(raising)})
    with pytest.raises(TypeError):
        codec.encode({"x": Pairs(lambda: 5)})


class Meddler(dt.tzinfo):
    """Runs code in the midst of encoding."""

    def __init__(self, act):
        self.act = act

    def utcoffset(self, when):
        self.act()
        return None

    def __deepcopy__(self, memo):
        return self


def meddle(act):
    return dt.datetime(2020, 1, 1, tzinfo=Meddler(act))


def test_dict_that_changes_meanwhile(codec):
    doc = {"a": {}}
    inner = doc["a"]
    inner.update(t=meddle(lambda: inner.clear()), b="x" * 100)
    with pytest.raises(RuntimeError) as caught:
        codec.encode(doc)
    assert str(caught.value) == "a: the dict changed while it was written"

    inner = doc["a"] = {}
    grow = {f"k{i}": i for i in range(1000)}
    inner.update(t=meddle(lambda: inner.update(grow)), b=1)
    with pytest.raises(RuntimeError, match=r"^a: the dict changed"):
        codec.encode(doc)


def test_list_that_changes_meanwhile(codec):
    items = []
    items.extend([meddle(items.clear), "gone", "gone"])
    assert len(codec.decode(codec.encode({"a": items}))["a"]) == 1
    items = [1, 2]
    items.insert(0, meddle(lambda: items.extend(["new"] * 50)))
    assert codec.decode(codec.encode({"a": items}))["a"][1:] == [1, 2] + ["new"] * 50


def test_key_that_goes_away_is_still_named(codec):
    doc = {"a": {}}
    inner = doc["a"]
    key = "".join(["k"] * 50)
    inner[key] = [meddle(inner.clear), {1}]
    del key
    with pytest.raises(TypeError, match=r"^a\.k{50}\[1\]: set"):
        codec.encode(doc)


def test_encoding_within_encoding(codec):
    seen = []
    doc = {"a": meddle(lambda: seen.append(codec.encode({"b": [1]}))), "c": 1}
    codec.encode(doc)
    assert codec.decode(seen[0]) == {"b": [1]}


def test_size_beyond_2_gib(codec):
    # Zeros from the kernel that nobody touches: the size alone is looked at.
    value = bytes(2**31 - 2)
    with pytest.raises(ValueError, match="the document is larger than 2 GiB"):
        codec.encode({"a": value, "b": "x" * 100})
