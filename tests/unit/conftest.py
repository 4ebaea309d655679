"""A home of its own for each test, the event loops, a fake engine."""

import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fakes"))

from loops import LOOPS, run_on


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


# Kept here: a home of one's own does not have it.
MONGO = os.environ.get("LEVRT_TEST_MONGO")
databases = itertools.count(1)


STORES = ["sqlite", pytest.param("mongo", marks=pytest.mark.mongo)]


def pytest_generate_tests(metafunc):
    """What the tests' server gets wrong is tested with the embedded store alone."""
    if "each_store" in metafunc.fixturenames:
        embedded = metafunc.definition.get_closest_marker("embedded")
        stores = STORES[:1] if embedded else STORES
        metafunc.parametrize("each_store", stores, indirect=True)


@pytest.fixture
def each_store(request, home, monkeypatch):
    """The default store, then a database of the test's own on a server."""
    if request.param == "mongo":
        name = f"unit-{os.getpid()}-{next(databases)}"
        monkeypatch.setenv("LEVRT_STORE", f"{MONGO}/{name}")
    return request.param


@pytest.fixture
def engine(home, monkeypatch):
    """A fake engine, which levrt finds; it has the image ``img``."""
    from engine import FakeEngine

    with FakeEngine(home / "engine.sock") as fake:
        fake.images.add("img:latest")
        monkeypatch.setenv("LEVRT_ENGINE", fake.url)
        yield fake
