"""A home of its own for each test, the event loops, a fake engine."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from pathlib import Path

import pytest
import uvloop

sys.path.append(str(Path(__file__).parents[1] / "fakes"))

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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where nothing of the machine's settings is seen."""
    for name in [n for n in os.environ if n.startswith(("LEVRT_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    for name in ["MONGODB_URI", "CONTAINER_HOST", "XDG_RUNTIME_DIR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ["DATA", "CONFIG", "CACHE"]:
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=LOOPS)
def run(request, home):
    """Runs a coroutine on each kind of loop."""
    return lambda main: run_on(request.param, main)


@pytest.fixture
def engine(home, monkeypatch):
    """A fake engine, which levrt finds; it has the image ``img``."""
    from engine import FakeEngine

    with FakeEngine(home / "engine.sock") as fake:
        fake.images.add("img:latest")
        monkeypatch.setenv("LEVRT_ENGINE", fake.url)
        yield fake


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
