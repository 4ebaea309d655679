"""Bytes that are not BSON: each codec says where, and all say the same."""

import datetime as dt
import random
import re
import struct

import pytest
from bson_cases import (
    CODECS,
    NAMES,
    RICH,
    document,
    element,
    label,
    mutated,
    outcome,
    text,
)
from hypothesis import given, settings, strategies as st

import bson as pymongo
from levrt import bson as lb


@pytest.fixture(params=CODECS, ids=NAMES)
def codec(request):
    return request.param


INT = b"\x10a\0\1\0\0\0"

BAD = [
    # The document's own frame.
    (b"", 0, "document", "the document is cut short"),
    (b"\5\0\0\0", 0, "document", "the document is cut short"),
    (b"\6\0\0\0\0", 0, "document", "the document has length 6 where 5 bytes are left"),
    (
        b"\5\0\0\0\0\0",
        0,
        "document",
        "the document has length 5, but 6 bytes are here",
    ),
    (
        b"\4\0\0\0\0",
        0,
        "document",
        "the document has length 4, but 5 bytes are here",
    ),
    (
        b"\xff\xff\xff\xff\0",
        0,
        "document",
        "the document has length -1 where 5 bytes are left",
    ),
    (
        b"\0\0\0\x80\0",
        0,
        "document",
        "the document has length -2147483648 where 5 bytes are left",
    ),
    (b"\5\0\0\0\1", 4, "document", "the document does not end in NUL"),
    # Keys.
    (document(b"\x0a"), 5, "document", "a key has no end"),
    (document(b"\x0aab"), 5, "document", "a key has no end"),
    (document(INT + b"\x0aab"), 12, "document", "a key has no end"),
    (document(b"\x0a\xff\0"), 5, "\\xff", "the key is not UTF-8"),
    (document(b"\x0a\xed\xa0\x80\0"), 5, "\\xed\\xa0\\x80", "the key is not UTF-8"),
    (
        document(b"\x0a" + b"\xff" * 40 + b"\0"),
        5,
        "\\xff" * 40,
        "the key is not UTF-8",
    ),
    # Types.
    (element(0x00, b""), 4, "a", "type 0x00 is not BSON's"),
    (element(0x14, b""), 4, "a", "type 0x14 is not BSON's"),
    (element(0x80, b""), 4, "a", "type 0x80 is not BSON's"),
    (document(INT + b"\x20b.c\0"), 11, "['b.c']", "type 0x20 is not BSON's"),
    # Plain values.
    (element(0x01, b"1234567"), 7, "a", "the double is cut short"),
    (element(0x07, b"12345678901"), 7, "a", "the ObjectId is cut short"),
    (element(0x08, b""), 7, "a", "the bool is cut short"),
    (element(0x08, b"\2"), 7, "a", "the bool is 2, not 0 or 1"),
    (element(0x09, b"1234567"), 7, "a", "the datetime is cut short"),
    (element(0x10, b"123"), 7, "a", "the int32 is cut short"),
    (element(0x11, b"1234567"), 7, "a", "the timestamp is cut short"),
    (element(0x12, b"1234567"), 7, "a", "the int64 is cut short"),
    (element(0x13, b"123456789012345"), 7, "a", "the decimal128 is cut short"),
    # Strings.
    (element(0x02, b"\1\0\0"), 7, "a", "the str is cut short"),
    (element(0x02, bytes(4)), 7, "a", "the str has length 0 where 0 bytes are left"),
    (
        element(0x02, b"\0\0\0\0x\0"),
        7,
        "a",
        "the str has length 0 where 2 bytes are left",
    ),
    (
        element(0x02, b"\3\0\0\0x\0"),
        7,
        "a",
        "the str has length 3 where 2 bytes are left",
    ),
    (
        element(0x02, b"\xff\xff\xff\xffx\0"),
        7,
        "a",
        "the str has length -1 where 2 bytes are left",
    ),
    (element(0x02, b"\1\0\0\0x"), 11, "a", "the str does not end in NUL"),
    (element(0x02, text(b"\xff")), 11, "a", "the str is not UTF-8"),
    (element(0x02, text(b"\xc0\x80")), 11, "a", "the str is not UTF-8"),
    (element(0x02, text(b"abcdefgh\xed\xa0\x80")), 11, "a", "the str is not UTF-8"),
    (element(0x02, text(b"\xf4\x90\x80\x80")), 11, "a", "the str is not UTF-8"),
    (element(0x0D, b"\0\0\0\0"), 7, "a", "the code has length 0 where 0 bytes are le"),
    (element(0x0E, b"\0"), 7, "a", "the symbol is cut short"),
    # Binaries.
    (element(0x05, b"\0\0\0\0"), 7, "a", "the binary is cut short"),
    (
        element(0x05, b"\2\0\0\0\0x"),
        7,
        "a",
        "the binary has length 2 where 1 bytes are left",
    ),
    (
        element(0x05, b"\xff\xff\xff\xff\0x"),
        7,
        "a",
        "the binary has length -1 where 1 bytes are left",
    ),
    (
        element(0x05, b"\5\0\0\0\2\2\0\0\0x"),
        7,
        "a",
        "the binary of subtype 2 has two lengths that disagree",
    ),
    (
        element(0x05, b"\3\0\0\0\2\0\0\0"),
        7,
        "a",
        "the binary of subtype 2 has two lengths that disagree",
    ),
    # Regular expressions.
    (element(0x0B, b"a"), 7, "a", "the pattern has no end"),
    (element(0x0B, b"a\0i"), 9, "a", "the options has no end"),
    (element(0x0B, b"\xff\0\0"), 7, "a", "the pattern is not UTF-8"),
    # DBPointer, code with scope.
    (element(0x0C, text(b"c") + b"1"), 13, "a", "the ObjectId is cut short"),
    (element(0x0F, b"\3\0\0\0"), 7, "a", "the code has length 3 where 4 bytes are"),
    (element(0x0F, b"\5\0\0\0"), 7, "a", "the code has length 5 where 4 bytes are"),
    (element(0x0F, b"\4\0\0\0"), 11, "a", "the code is cut short"),
    (
        element(0x0F, b"\x10\0\0\0" + text(b"f") + document(b"") + b"\0"),
        22,
        "a",
        "1 bytes behind the code's scope",
    ),
    (
        element(0x0F, b"\x10\0\0\0" + text(b"f") + document(b"\x0ax\0")),
        17,
        "a",
        "the document has length 8 where 6 bytes are left",
    ),
    # Within documents and arrays: no value may pass its own document's end.
    (
        element(0x03, b"\6\0\0\0\0"),
        7,
        "a",
        "the document has length 6 where 5 bytes are left",
    ),
    (element(0x03, b"\5\0\0\0"), 7, "a", "the document is cut short"),
    (
        element(0x03, document(b"\x10b\0\1\0\0")) + b"",
        14,
        "a.b",
        "the int32 is cut short",
    ),
    (
        element(0x04, document(b"\x0a0\0\x03!\0" + document(b"\x08x\0\7"))),
        24,
        "a[1].x",
        "the bool is 7, not 0 or 1",
    ),
    (element(0x04, document(b"\x0a0\0\x0a1")), 15, "a", "a key has no end"),
    (
        element(0x04, document(b"\x20\0")),
        11,
        "a[0]",
        "type 0x20 is not BSON's",
    ),
]


@pytest.mark.parametrize("data, at, path, message", BAD, ids=label)
def test_bad_bytes(codec, data, at, path, message):
    with pytest.raises(ValueError) as caught:
        codec.decode(data)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith(f"BSON, byte {at}, {path}: {message}")


def test_mutated_documents_have_one_outcome():
    data = CODECS[0].encode(RICH)
    rng = random.Random(20240229)
    values = 0
    for _ in range(6000):
        broken = mutated(data, rng)
        kind, want = outcome(CODECS[0], broken)
        values += kind == "value"
        for other in CODECS[1:]:
            assert outcome(other, broken) == (kind, want), broken
    assert 500 < values < 5500  # the mutations are neither all fatal nor all mild


def test_every_prefix_is_refused(codec):
    data = codec.encode(RICH)
    for size in range(len(data)):
        with pytest.raises(ValueError):
            codec.decode(data[:size])
        mended = struct.pack("<i", size) + data[4:size]
        if size >= 5 and size != len(data):
            kind, _ = outcome(codec, mended)
            assert kind == "error"


# Round trips, and PyMongo's bytes

KEYS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.builds(lambda b: lb.ObjectId(b), st.binary(min_size=12, max_size=12))
    | st.datetimes(timezones=st.just(dt.UTC)).map(
        lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
    )
)
OURS = (
    SCALARS
    | st.uuids()
    | st.decimals(allow_nan=False, places=3, min_value=-(10**20), max_value=10**20)
    | st.builds(lb.Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.builds(lb.Binary, st.binary(), st.integers(5, 255))
    | st.sampled_from([lb.MinKey(), lb.MaxKey(), re.compile("a", re.S)])
)


def documents(scalars):
    values = st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6)
        ),
        max_leaves=30,
    )
    return st.dictionaries(KEYS, values, max_size=8)


@settings(max_examples=300, deadline=None)
@given(doc=documents(OURS))
def test_round_trip(doc):
    data = CODECS[0].encode(doc)
    for codec in CODECS:
        assert codec.encode(doc) == data
        assert codec.decode(data) == doc
        assert list(codec.decode(data)) == list(doc)


@settings(max_examples=300, deadline=None)
@given(doc=documents(SCALARS))
def test_bytes_are_pymongos(doc):
    def foreign(value):
        match value:
            case lb.ObjectId():
                return pymongo.ObjectId(value.binary)
            case int() if not isinstance(value, bool):
                return value
            case list():
                return [foreign(item) for item in value]
            case dict():
                return {key: foreign(item) for key, item in value.items()}
        return value

    # PyMongo writes _id first; DESIGN keeps the order.
    doc.pop("_id", None)
    want = pymongo.encode(foreign(doc))
    for codec in CODECS:
        assert codec.encode(doc) == want
        assert codec.encode(foreign(doc)) == want
        assert codec.decode(want) == doc
