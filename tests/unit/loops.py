"""For tests: event loops of each kind, and trouble made on purpose."""

import asyncio
import contextlib
import sqlite3
import sys

import uvloop

LOOPS = ["asyncio", "uvloop"]
if sys.version_info >= (3, 12):
    LOOPS.append("eager")
HANG = 30  # seconds after which a test that hangs fails


def run_on(kind, main):
    """Runs a coroutine to its end on a loop of that kind, bounded."""
    factory = uvloop.new_event_loop if kind == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        if kind == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        return runner.run(asyncio.wait_for(main, HANG))


@contextlib.contextmanager
def writes_blocked(home):
    """Another process, as it were, is in the middle of a long write."""
    path = home / "data" / "levrt" / "lev.db"
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
    finally:
        db.close()


@contextlib.contextmanager
def unraisable():
    """Collects what is reported because nobody could be given it."""
    seen, before = [], sys.unraisablehook
    sys.unraisablehook = seen.append
    try:
        yield seen
    finally:
        sys.unraisablehook = before
