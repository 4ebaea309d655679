"""What the tests of BSON share: the codecs, and BSON written by hand."""

import importlib
import importlib.util
import struct

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
