"""What is done many times leaves no objects behind."""

import asyncio
import contextlib
import gc
import tracemalloc

import pytest

from levrt import annot
from levrt.args import cli
from levrt.concurrent import Concurrent

pytestmark = pytest.mark.leaks


ROUNDS = 100


def grown(once):
    """Objects and bytes that each of some windows of calls has added."""
    tracemalloc.start()
    try:
        seen = []
        for _ in range(6):
            for _ in range(ROUNDS):
                once()
            gc.collect()
            seen.append((len(gc.get_objects()), tracemalloc.get_traced_memory()[0]))
    finally:
        tracemalloc.stop()
    # The first one fills caches.
    windows = zip(seen[1:], seen[2:], strict=False)
    return [(b[0] - a[0], b[1] - a[1]) for a, b in windows]


def assert_flat(once):
    windows = grown(once)
    # A leak is in every window, with its object or its bytes each time; what
    # the interpreter keeps for later is not.
    assert min(objects for objects, _ in windows) < ROUNDS // 2, windows
    assert min(size for _, size in windows) < ROUNDS * 64, windows


async def nested(c, depth):
    if depth:
        await asyncio.gather(*(c.start(nested(c, depth - 1)) for _ in range(2)))


async def fail():
    await asyncio.sleep(0)
    raise ValueError


def in_one_loop(main):
    """A call that runs main() in a loop of its own, as programs do."""
    return lambda: asyncio.run(main())


def test_concurrent_that_works():
    async def main():
        async with Concurrent(2) as c:
            c.start(nested(c, 3))

    assert_flat(in_one_loop(main))


@pytest.mark.parametrize("fail_fast", [False, True])
def test_concurrent_that_fails(fail_fast):
    async def main():
        with contextlib.suppress(ValueError):
            async with Concurrent(2, fail_fast=fail_fast) as c:
                for _ in range(5):
                    c.start(fail())

    assert_flat(in_one_loop(main))


def test_concurrent_that_is_cancelled():
    async def main():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0), Concurrent(2) as c:
                for _ in range(5):
                    c.start(asyncio.get_running_loop().create_future())

    assert_flat(in_one_loop(main))


def test_finished_tasks_are_not_kept_while_the_block_goes_on():
    sizes = []

    async def main():
        async with Concurrent(5) as c:
            for _ in range(5):
                for _ in range(200):
                    c.start(asyncio.sleep(0))
                while c._pending:
                    await asyncio.sleep(0)
                gc.collect()
                sizes.append(len(gc.get_objects()))

    asyncio.run(main())
    assert sizes[-1] - sizes[1] < 40, sizes


def test_annot():
    def once():
        @annot.meta(desc="d", params=[annot.ARGV])
        def tool(argv):
            return Cr("image", f"s/{argv}@1.0")  # noqa: F821

        annot.meta([tool])

    assert_flat(once)


def test_a_leak_would_be_seen():
    kept = []
    with pytest.raises(AssertionError):
        assert_flat(lambda: kept.append(bytes(64)))


def test_cli():
    assert_flat(lambda: cli("a", b=1, c=[2, 3], d=True))
