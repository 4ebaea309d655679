"""Lines of a container's output."""

import struct
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from levrt._levrt import Task

__all__ = ["LogLine", "Splitter"]

_HEAD = struct.Struct("<Bqi")  # stream, ms since the epoch, length


class LogLine(NamedTuple):
    """A line: *stream* ``"stdout"`` or ``"stderr"``, *text*, *time* it came."""

    stream: str
    text: str
    time: datetime


class Splitter:
    """Makes lines of what the core keeps: pieces of output as they came."""

    def __init__(self) -> None:
        # By stream: the pieces of the line that has begun, when it began.
        self._open: dict[int, tuple[list[bytes], int]] = {}

    def feed(self, records: bytes) -> Iterator[LogLine]:
        at = 0
        while at < len(records):
            stream, ms, length = _HEAD.unpack_from(records, at)
            at += _HEAD.size
            *whole, rest = records[at : at + length].split(b"\n")
            at += length
            begun, since = self._open.pop(stream, ([], ms))
            for line in whole:
                yield _line(stream, b"".join([*begun, line]), since)
                begun, since = [], ms
            if rest:
                begun.append(rest)
            if begun:
                self._open[stream] = (begun, since)

    def end(self) -> Iterator[LogLine]:
        """What has no newline at its end."""
        for stream, (begun, ms) in sorted(self._open.items()):
            yield _line(stream, b"".join(begun), ms)
        self._open.clear()


def _line(stream: int, text: bytes, ms: int) -> LogLine:
    return LogLine(
        "stderr" if stream == 2 else "stdout",
        text.removesuffix(b"\r").decode("utf-8", "replace"),
        datetime.fromtimestamp(ms / 1000, UTC),
    )


def log_lines(records: bytes) -> list[LogLine]:
    splitter = Splitter()
    return [*splitter.feed(records), *splitter.end()]


async def follow_logs(task: "Task") -> AsyncIterator[LogLine]:
    splitter = Splitter()
    pos = 0
    while True:
        records, pos, ended = task._read_logs(pos)
        for line in splitter.feed(records):
            yield line
        if ended:
            break
        if not records:
            await task._more_logs(pos)
    for line in splitter.end():
        yield line
