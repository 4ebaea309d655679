"""What the tests of BSON share: the codecs, and BSON written by hand."""

import datetime as dt
import decimal
import importlib
import importlib.util
import random
import re
import struct
import uuid
from typing import Any

from levrt import bson

NAMES = [
    name
    for name in ("levrt._levrt", "levrt._guest", "levrt.guest.purebson")
    if importlib.util.find_spec(name) is not None
]
CODECS = [importlib.import_module(name) for name in NAMES]


def document(body: bytes) -> bytes:
    """These elements as a document."""
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def element(kind: int, data: bytes, key: bytes = b"a") -> bytes:
    """A document of one element."""
    return document(bytes([kind]) + key + b"\0" + data)


def text(data: bytes) -> bytes:
    """A string's length, bytes and NUL."""
    return struct.pack("<i", len(data) + 1) + data + b"\0"


def label(value: object) -> str:
    """A short name of a parameter for pytest."""
    try:
        return ascii(value)[:40]
    except ValueError:  # an int of thousands of digits
        return type(value).__name__


# A document with a value of every type.
RICH = {
    "target": "10.0.0.1",
    "é": "ünïcödé €😀",
    "ports": [{"port": 22, "open": True, "at": 1.5}, {"port": 2**40, "x": None}],
    "raw": b"\0\1\2" * 5,
    "when": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    "id": uuid.UUID(int=2**127),
    "cost": decimal.Decimal("-12.50"),
    "like": re.compile("^a+", re.I),
    "rest": [
        bson.Timestamp(5, 6),
        bson.Regex("(?<n>)", "z"),
        bson.Binary(b"old", 2),
        bson.MinKey(),
        bson.MaxKey(),
        bson.Code("f"),
        bson.Code("g", {"x": [1]}),
        bson.DateTimeMS(2**62),
        bson.Symbol("s"),
        bson.Undefined(),
        bson.DBPointer("a.b", bson.ObjectId(bytes(12))),
        bson.ObjectId(bytes(12)),
    ],
}


def outcome(codec: Any, data: bytes) -> tuple[str, str]:
    """What decoding gives, NaN and all, in a form that can be compared."""
    try:
        value = codec.decode(data)
    except ValueError as err:
        return "error", str(err)
    # What was read can be written, and reads the same again.
    again = codec.decode(codec.encode(value))
    assert repr(again) == repr(value)
    return "value", repr(value)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, dropped or doubled; often with the length mended."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out))
        match rng.randrange(5):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at] = rng.choice(b"\0\1\2\3\4\5\x07\x0b\x0f\x10\x13\x7f\x80\xff")
            case 3:
                del out[at : at + rng.randrange(1, 6)]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 12)]
        if len(out) < 5:
            return bytes(out)
    if rng.random() < 0.8:
        out[:4] = struct.pack("<i", len(out))
    return bytes(out)
