"""The image's Python is of another version than the workflow's.

``@remote(python="image")`` sends code objects, which only the same minor
version understands. This module runs on whatever Python 3 the image has, so it
is written for old ones and writes its few frames itself.
"""

import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

from levrt._bundle import PYTHON  # type: ignore[import-not-found]


def _string(name: bytes, value: str) -> bytes:
    data = value.encode("utf-8") + b"\0"
    return b"\x02" + name + b"\0" + struct.pack("<i", len(data)) + data


def _document(*fields: bytes) -> bytes:
    body = b"".join(fields) + b"\0"
    return struct.pack("<i", len(body) + 4) + body


def _number(name: bytes, value: int) -> bytes:
    return b"\x10" + name + b"\0" + struct.pack("<i", value)


def _text() -> str:
    return (
        "the image's Python (%s) is %d.%d.%d, the workflow's is %d.%d.%d:"
        ' @remote(python="image") needs the same minor version; without it the entry'
        " runs on the workflow's Python"
        % ((sys.executable or "python3",) + tuple(sys.version_info[:3]) + PYTHON)
    )


def _frames() -> "Iterator[bytes]":
    version = "%d.%d.%d" % tuple(sys.version_info[:3])
    token = os.environ.get("LEV_TOKEN", "")
    fail = _document(
        _string(b"type", "RuntimeError"),
        _string(b"module", "builtins"),
        _string(b"text", _text()),
        _string(b"traceback", "RuntimeError: " + _text() + "\n"),
        _string(b"builtin", "RuntimeError"),
    )
    yield _document(
        _number(b"hello", 1), _string(b"token", token), _string(b"python", version)
    )
    yield _document(b"\x03fail\0" + fail)
    yield _document(_number(b"exit", 1))


def _connect(address: str) -> "socket.socket":
    for way in address.split(","):
        kind, _, name = way.partition(":")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if kind == "unix":
            try:
                sock.connect(name)
            except OSError:
                continue
            return sock
        sock.bind("\0" + name)
        sock.listen(1)
        relay, _ = sock.accept()
        relay.recv(len(os.environ.get("LEV_TOKEN", "")), socket.MSG_WAITALL)
        return relay
    sys.exit("levrt: no way to the workflow: " + address)


def run(root: str) -> "NoReturn":
    sys.stderr.write("levrt: " + _text() + "\n")
    sock = _connect(os.environ.get("LEV_CHANNEL", ""))
    for frame in _frames():
        sock.sendall(frame)
    # The host's answer is read, or closing would reset what it has not read yet.
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass
    sys.exit(1)
