"""Lines of a container's output."""

import asyncio
import struct
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from levrt._levrt import Document, Task

__all__ = ["KeptLogs", "LogLine", "Splitter"]

_HEAD = struct.Struct("<Bqi")  # stream, ms since the epoch, length
_MARK = struct.Struct("<QQ")  # position, bytes of output before it
_STREAMS = ("levrt", "stdout", "stderr")
# Lines that are made before others have their turn on the loop: some 2 ms.
_TURN = 1000


class LogLine(NamedTuple):
    """A line of output.

    *stream*: ``"stdout"``, ``"stderr"``, or ``"levrt"`` for what levrt says in the
    place of output that it has dropped. *text*: without its end; what is no UTF-8
    is replaced. *time*: when it began, aware, in UTC.
    """

    stream: str
    text: str
    time: datetime


class Splitter:
    """Makes lines of what the core keeps: pieces of output as they came."""

    def __init__(self) -> None:
        # By stream: the pieces of the line that has begun, when it began.
        self._open: dict[int, tuple[list[bytes], int]] = {}
        self._seen = 0  # bytes of output, those that were dropped too

    def feed(self, records: bytes) -> Iterator[LogLine]:
        """The lines that end in these records."""
        at = 0
        while at < len(records):
            stream, ms, length = _HEAD.unpack_from(records, at)
            at += _HEAD.size
            if stream == 0:
                yield from self._gap(_MARK.unpack_from(records, at)[1], ms)
                at += length
                continue
            self._seen += length
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

    def _gap(self, before: int, ms: int) -> Iterator[LogLine]:
        """What comes next has *before* bytes of output before it."""
        lost = before - self._seen
        if lost > 0:
            yield from self.end()  # the rest of these lines is gone
            yield _line(0, b"%d bytes of older output were dropped" % lost, ms)
        self._seen = before

    def end(self) -> Iterator[LogLine]:
        """What has no newline at its end."""
        for stream, (begun, ms) in sorted(self._open.items()):
            yield _line(stream, b"".join(begun), ms)
        self._open.clear()


def _line(stream: int, text: bytes, ms: int) -> LogLine:
    return LogLine(
        _STREAMS[stream],
        text.removesuffix(b"\r").decode("utf-8", "replace"),
        datetime.fromtimestamp(ms / 1000, UTC),
    )


async def _follow(
    read: Callable[[int], Awaitable[tuple[bytes, int, bool]]],
    more: Callable[[int], Awaitable[None]] | None,
) -> AsyncIterator[LogLine]:
    splitter = Splitter()
    pos = made = 0
    ended = False
    while not ended:
        records, pos, ended = await read(pos)
        for line in splitter.feed(records):
            yield line
            made += 1
            if made % _TURN == 0:
                await asyncio.sleep(0)
        if more is not None and not (records or ended):
            await more(pos)
    for line in splitter.end():
        yield line


def follow_logs(task: "Task") -> AsyncIterator[LogLine]:
    """Lines from the first one kept to the end, those to come included."""
    return _follow(task._read_logs, task._more_logs)


class KeptLogs(Coroutine[Any, Any, list[LogLine]]):
    """The output of a run that has ended: ``async for``, or ``await`` for a list.

    A coroutine to asyncio, as an :class:`Op` is.
    """

    def __init__(self, document: "Document") -> None:
        self._document = document
        self._collecting: Coroutine[Any, Any, list[LogLine]] | None = None
        self.__name__ = "logs"
        self.__qualname__ = "Document.logs"

    def __aiter__(self) -> AsyncIterator[LogLine]:
        return _follow(self._document._read_logs, None)

    async def _collect(self) -> list[LogLine]:
        return [line async for line in self]

    def _coroutine(self) -> Coroutine[Any, Any, list[LogLine]]:
        if self._collecting is None:
            self._collecting = self._collect()
        return self._collecting

    def __await__(self) -> Generator[Any, Any, list[LogLine]]:
        return self._coroutine().__await__()

    def send(self, value: Any, /) -> Any:
        """Advance it, as a coroutine's send()."""
        return self._coroutine().send(value)

    def throw(self, *args: Any) -> Any:
        """Raise an exception where it waits, as a coroutine's throw()."""
        return self._coroutine().throw(*args)

    def close(self) -> None:
        """Give it up."""
        self._coroutine().close()
