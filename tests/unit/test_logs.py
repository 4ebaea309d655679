"""Output of containers: lines of pieces, followed live, kept within a bound."""

import asyncio
import datetime
import logging
import struct

import pytest
from hypothesis import given, strategies as st

import levrt
from engine import Script
from levrt import Cr, LogLine, TaskFailed
from levrt.logs import Splitter

BOUND = 32 * 1024 * 1024  # LEV_RUNLOG_BOUND


def record(data, stream=1, ms=0):
    return struct.pack("<Bqi", stream, ms, len(data)) + data


def mark(before, ms=0):
    """What a file begins with: how many bytes of output are in those before it."""
    return struct.pack("<BqiQQ", 0, ms, 16, 7, before)


def log_lines(records):
    splitter = Splitter()
    return [*splitter.feed(records), *splitter.end()]


def split(*records):
    return [(line.stream, line.text) for line in log_lines(b"".join(records))]


# ---- lines ----


def test_nothing():
    assert log_lines(b"") == []


def test_a_line_is_a_tuple():
    (line,) = log_lines(record(b"a\n", ms=1500))
    when = datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, datetime.UTC)
    assert line == LogLine("stdout", "a", when) == ("stdout", "a", when)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\nb"], ["a", "b"]),
        ([b"a", b"b\n", b"c"], ["ab", "c"]),
        ([b"a\n", b"\n", b"\n"], ["a", "", ""]),
        ([b"\n"], [""]),
        ([b"a", b"\n"], ["a"]),
        ([b"a\r\nb\r\n"], ["a", "b"]),
        ([b"a\r", b"\nb"], ["a", "b"]),
        ([b"50%\r100%\n"], ["50%\r100%"]),
        ([b"", b"a", b""], ["a"]),
        ([b"\xc3", b"\xbc\n"], ["ü"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"nul\0\n"], ["nul\0"]),
        (["\u2028 \x0b \x85\n".encode()], ["\u2028 \x0b \x85"]),
    ],
)
def test_pieces(pieces, lines):
    assert split(*map(record, pieces)) == [("stdout", line) for line in lines]


def test_streams_do_not_mix():
    pieces = [record(b"o", 1), record(b"e", 2), record(b"ut\n", 1), record(b"rr\n", 2)]
    assert split(*pieces) == [("stdout", "out"), ("stderr", "err")]
    assert split(record(b"e", 2), record(b"o", 1)) == [("stdout", "o"), ("stderr", "e")]


def test_time_is_when_the_line_began():
    splitter = Splitter()
    lines = list(splitter.feed(record(b"a\nbegun", ms=1) + record(b" on\nc\nd", ms=2)))
    lines += splitter.end()
    assert [(line.text, line.time.microsecond) for line in lines] == [
        ("a", 1000),
        ("begun on", 1000),
        ("c", 2000),
        ("d", 2000),
    ]
    assert list(splitter.end()) == []


def lost(n):
    return ("levrt", f"{n} bytes of older output were dropped")


def test_what_was_dropped_is_said():
    assert split(mark(5), record(b"a\n")) == [lost(5), ("stdout", "a")]
    assert log_lines(mark(5, 1500))[0].time.microsecond == 500000
    # Nothing is missing where everything before has been read.
    assert split(record(b"ab"), mark(2), record(b"c\n")) == [("stdout", "abc")]
    # A line that has begun before the gap does not end behind it.
    assert split(
        record(b"a\nbeg"), record(b"e", 2), mark(9), record(b"un\n"), mark(12)
    ) == [
        ("stdout", "a"),
        ("stdout", "beg"),
        ("stderr", "e"),
        lost(3),
        ("stdout", "un"),
    ]


@given(st.lists(st.binary(max_size=9)))
def test_any_cut_gives_the_same_lines(pieces):
    whole = b"".join(pieces)
    assert split(*map(record, pieces)) == split(record(whole))
    texts = [t for _, t in split(record(whole))]
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert texts == [
        line.removesuffix(b"\r").decode("utf-8", "replace") for line in expected
    ]


def test_one_long_line_is_not_copied_again_and_again():
    """Its pieces are joined once: a line as long as the bound is no problem."""
    splitter = Splitter()
    piece = record(b"x" * 4096)
    for _ in range(5000):
        assert list(splitter.feed(piece)) == []
    ((begun, _),) = splitter._open.values()
    assert len(begun) == 5000
    (line,) = splitter.feed(record(b"\n"))
    assert len(line.text) == 5000 * 4096


# ---- followed ----


@pytest.fixture
def held(engine):
    engine.script = Script(hold=True, stdout=b"one\ntwo\nbeg", stderr=b"err\n")
    return engine


def finish(engine, code=0):
    for container in list(engine.containers.values()):
        container.finish(code)


def test_follow(held, run):
    async def main():
        task = await Cr("img").start()
        logs = task.logs()
        texts = {(await anext(logs)).text for _ in range(3)}
        assert texts == {"one", "two", "err"}
        finish(held)
        assert [line.text async for line in logs] == ["beg"]
        doc = await task
        after = [line.text async for line in task.logs()]
        assert sorted(after) == ["beg", "err", "one", "two"]
        assert [line.text for line in await doc.logs()] == after

    run(main())


def test_many_follow(held, run):
    async def read(task):
        return sorted([line.text async for line in task.logs()])

    async def main():
        task = await Cr("img").start()
        readers = [asyncio.create_task(read(task)) for _ in range(10)]
        logs = task.logs()
        for _ in range(3):
            await anext(logs)
        finish(held)
        for reader in readers:
            assert await reader == ["beg", "err", "one", "two"]

    run(main())


def test_following_is_given_up(held, run):
    """Cancelled or closed while it waits, it leaves the run alone."""

    async def main():
        task = await Cr("img").start()
        logs = task.logs()
        for _ in range(3):
            await anext(logs)
        for _ in range(5):
            waiting = asyncio.ensure_future(anext(logs))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            logs = task.logs()
            assert (await anext(logs)).text in ("one", "err")
            await logs.aclose()
            logs = task.logs()
            for _ in range(3):
                await anext(logs)
        finish(held)
        assert (await task).run.exit_code == 0

    run(main())


def test_a_run_without_output(engine, run, home):
    async def main():
        task = await Cr("img").start()
        assert [line async for line in task.logs()] == []
        doc = await task
        assert await doc.logs() == []

    run(main())
    assert not list((home / "data").rglob("*.log"))


def test_output_of_a_failed_run(engine, run):
    engine.script = Script(exit_code=1, stdout=b"".join(b"%d\n" % n for n in range(99)))

    async def main():
        with pytest.raises(TaskFailed) as caught:
            await Cr("img")
        lines = await caught.value.document.logs()
        assert [line.text for line in lines] == [str(n) for n in range(99)]
        assert caught.value.log_tail.splitlines()[-1] == "98"
        shown = str(caught.value).partition("its last lines:\n")[2]
        assert [line.strip() for line in shown.splitlines()] == [
            str(n) for n in range(89, 99)
        ]

    run(main())


def test_logs_of_another_process_or_none(engine, run, home):
    """They are found by the document, and are gone when the file is."""
    engine.script = Script(stdout=b"x\n")

    async def main():
        return await Cr("img")

    async def logs(doc):
        return [line.text for line in await doc.logs()]

    doc = run(main())
    assert levrt.run(logs(doc)) == ["x"]
    (path,) = (home / "data").rglob("*.log")
    assert path.stem == str(doc.filter["_id"])
    path.unlink()
    assert levrt.run(logs(doc)) == []


def test_positions(engine, run):
    async def main():
        task = await Cr("img").start()
        await task
        for wrong, kind in [
            (-1, OverflowError),
            (2**64, OverflowError),
            ("0", TypeError),
        ]:
            with pytest.raises(kind):
                task._read_logs(wrong)
            with pytest.raises(kind):
                task._more_logs(wrong)
        assert await task._read_logs(0) == (b"", 0, True)

    run(main())


# ---- kept ----


LINE = b"%07d" + b"." * 1016 + b"\n"
TOTAL = 3 * BOUND // 2 // 1024


def numbers(lines):
    return [int(line.text[:7]) for line in lines if len(line.text) == 1023]


def check_kept(lines):
    """The newest, whole but for the first line, and how much there was before."""
    first, *rest = lines
    assert first.stream == "levrt"
    lost = int(first.text.partition(" ")[0])
    assert {line.stream for line in rest} == {"stdout"}
    assert lost + sum(len(line.text) + 1 for line in rest) == 1024 * TOTAL
    found = numbers(rest)
    assert found == list(range(TOTAL - len(found), TOTAL))
    assert len(rest) - len(found) <= 1


def test_the_newest_output_is_kept(engine, home):
    """More than the bound: the disk holds no more, and what is read is whole."""
    engine.script = Script(stdout=b"".join(LINE % n for n in range(TOTAL)))

    async def main():
        task = await Cr("img").start()
        doc = await task
        check_kept(await doc.logs())
        check_kept([line async for line in doc.logs()])
        check_kept([line async for line in task.logs()])
        return doc

    async def again(doc):
        check_kept(await doc.logs())

    doc = levrt.run(main())
    size = sum(path.stat().st_size for path in (home / "data").rglob("*.log*"))
    assert BOUND // 2 < size <= BOUND + 128 * 1024
    asyncio.run(again(doc))


def dropped(home):
    """Whether the bound has dropped anything: the older file begins with a mark."""
    for path in home.rglob("*.log.1"):
        with path.open("rb") as f:
            return f.read(1) == b"\0"
    return False


def test_a_reader_that_is_slow(engine, home):
    """What has left the bound is skipped and said, what is there comes in order."""
    engine.script = Script(hold=True, stdout=b"".join(LINE % n for n in range(TOTAL)))

    async def main():
        task = await Cr("img").start()
        logs = task.logs()
        lines = [await anext(logs)]
        assert lines[0].text.startswith("0000000")
        async with asyncio.timeout(30):
            while not dropped(home):
                await asyncio.sleep(0)
        async for line in logs:
            lines.append(line)
            if line.text.startswith(f"{TOTAL - 1:07}"):
                finish(engine)
        await task
        return lines

    lines = levrt.run(main())
    found = numbers(lines)
    assert found == sorted(set(found)) and found[-1] == TOTAL - 1
    gaps = [line for line in lines if line.stream == "levrt"]
    lost = sum(int(line.text.partition(" ")[0]) for line in gaps)
    assert lost > 0
    rest = [line for line in lines if line.stream == "stdout"]
    # Cut lines, before and behind a gap, have one newline between them.
    missing = 1024 * TOTAL - lost - sum(len(line.text) + 1 for line in rest)
    assert -len(gaps) <= missing <= 0


@pytest.mark.parametrize("how", ["await", "async for", "follow"])
def test_others_have_their_turn(engine, home, monkeypatch, how):
    """However much there is to read, and however fast."""
    engine.script = Script(stdout=b"\n" * 50_000)
    made = turns = 0
    longest = 0
    line = levrt.logs._line

    def counted(*args):
        nonlocal made
        made += 1
        return line(*args)

    monkeypatch.setattr("levrt.logs._line", counted)

    async def watch():
        nonlocal turns, longest
        while True:
            before = made
            await asyncio.sleep(0)
            longest = max(longest, made - before)
            turns += 1

    async def main():
        task = await Cr("img").start()
        doc = await task
        watcher = asyncio.create_task(watch())
        if how == "await":
            lines = await doc.logs()
        elif how == "follow":
            lines = [line async for line in task.logs()]
        else:
            lines = [line async for line in doc.logs()]
        watcher.cancel()
        assert len(lines) == made == 50_000

    levrt.run(main())
    assert turns >= 25
    assert 0 < longest <= 2000


def test_kept_logs_are_a_coroutine(engine, run):
    engine.script = Script(stdout=b"a\nb\n")

    async def main():
        doc = await Cr("img")
        texts = [line.text for line in await asyncio.create_task(doc.logs())]
        async with levrt.Concurrent() as c:
            task = c.start(doc.logs())
        given = doc.logs()
        assert (texts, len(await task), len(await given)) == (["a", "b"], 2, 2)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await given
        waiting = asyncio.create_task(doc.logs())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())


def test_a_log_that_goes_while_it_is_read(engine, home):
    engine.script = Script(stdout=b"x" * 1023 + b"\n" * 600_000)

    async def main():
        doc = await Cr("img")
        logs = doc.logs().__aiter__()
        await anext(logs)
        for path in home.rglob("*.log"):
            path.unlink()
        with pytest.raises(RuntimeError, match="was removed while it was read"):
            [line async for line in logs]

    levrt.run(main())


# ---- logged ----


def test_output_goes_to_logging(engine, caplog):
    engine.script = Script(stdout=b"out\n", stderr=b"err\nlast")

    async def main():
        await Cr("img", name="tool-1")

    with caplog.at_level(logging.DEBUG, "lev.ctr"):
        levrt.run(main())
    found = sorted(r.message for r in caplog.records if r.name == "lev.ctr.tool-1")
    assert found == ["err", "last", "out"]
    assert {r.levelno for r in caplog.records if "lev.ctr" in r.name} == {logging.DEBUG}


def test_no_records_where_nobody_listens(engine, caplog):
    engine.script = Script(stdout=b"out\n")

    async def main():
        await Cr("img", name="tool-1")

    with caplog.at_level(logging.INFO):
        levrt.run(main())
    assert not [r for r in caplog.records if r.name.startswith("lev.ctr")]


def test_a_handler_that_raises(engine):
    """Its error is reported; runs go on."""
    engine.script = Script(stdout=b"out\n" * 100)

    class Broken(logging.Handler):
        def emit(self, record):
            raise KeyError("broken")

    async def main():
        return (await Cr("img")).run.exit_code

    logger = logging.getLogger("lev.ctr")
    logger.addHandler(handler := Broken())
    logger.setLevel(logging.DEBUG)
    from loops import unraisable

    try:
        with unraisable() as seen:
            assert levrt.run(main()) == 0
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert {type(entry.exc_value) for entry in seen} == {KeyError}
