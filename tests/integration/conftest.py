"""Real engines for the tests, and what must not be left on them.

Tests of one module share an event loop, and so one session of levrt: a network
and the runtime are made once. What a module leaves behind is its last test's
failure.
"""

import inspect
import os
from pathlib import Path

import pytest
from engines import (
    ENGINES,
    REMOTE_ENGINES,
    available,
    left_behind,
    open_engine,
    selected,
)
from images import Images


def pytest_collection_modifyitems(items):
    # First: pytest-asyncio gives each test the loop of its module by this mark.
    here = str(Path(__file__).parent)
    for item in items[:]:
        if not str(item.path).startswith(here):
            continue
        if {"remote_engine", "gate", "frozen", "daemon", "no_daemon"} & set(
            item.fixturenames
        ) - available(selected()):
            items.remove(item)  # a test of other engines
        elif inspect.iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def pytest_generate_tests(metafunc):
    name = selected()
    places = ["local", "remote"] if name in REMOTE_ENGINES else ["local"]
    engine = pytest.param(name, marks=getattr(pytest.mark, name))
    metafunc.parametrize("_engine", [engine], indirect=True, scope="session")
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", places, indirect=True, scope="session")


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    """Where levrt's files of this test run are, and nobody else's."""
    path = tmp_path_factory.mktemp("lev")
    for name in ("cache", "data", "config", "run", "tmp"):
        (path / name).mkdir(mode=0o700)
    return path


@pytest.fixture(scope="session", autouse=True)
def _engine(request, scratch):
    engine = open_engine(ENGINES, request.param)
    before = engine.volumes()
    assert left_behind(engine, before) == [], "an earlier run's"
    kept = dict(os.environ)
    for name in [n for n in kept if n.startswith(("LEVRT_", "DOCKER_", "MONGODB_"))]:
        if not name.startswith("LEVRT_TEST_"):
            del os.environ[name]
    os.environ.update(
        LEVRT_ENGINE=engine.url,
        LEVRT_STORE=f"sqlite:{scratch}/data/lev.db",
        LEVRT_GRACE="2",
        TMPDIR=f"{scratch}/tmp",
        XDG_CACHE_HOME=f"{scratch}/cache",
        XDG_CONFIG_HOME=f"{scratch}/config",
        XDG_DATA_HOME=f"{scratch}/data",
        XDG_RUNTIME_DIR=f"{scratch}/run",
    )
    yield engine
    assert left_behind(engine, before) == []
    assert os.listdir(scratch / "run") == os.listdir(scratch / "tmp") == []
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="session")
def engine(_engine):
    """The engine that runs go to when they name none."""
    return _engine


@pytest.fixture(scope="session")
def images(engine):
    return Images(engine)


@pytest.fixture(scope="session")
def tools(images):
    """A busybox image, run by root."""
    return images.get("tools")


@pytest.fixture(scope="session")
def registry():
    """host:port of an image registry on this machine, empty at first."""
    address = os.environ.get("LEVRT_TEST_REGISTRY")
    assert address, "LEVRT_TEST_REGISTRY is not set: tests/run starts one"
    return address


@pytest.fixture(scope="session")
def remote_engine(engine):
    """The same engine, reached over the network."""
    return open_engine(REMOTE_ENGINES, engine.name)


@pytest.fixture(scope="session")
def place(request, engine):
    """Where a run takes place: on the engine, or there by way of the network."""
    if request.param == "local":
        return {}
    return {"engine": open_engine(REMOTE_ENGINES, engine.name).url}


@pytest.fixture(scope="session")
def _gate(engine, scratch):
    # As long as any session's loop: its network goes by the same way.
    gate = engine.gate(str(scratch))
    yield gate
    gate.close()


@pytest.fixture
def daemon(engine):
    """It has one, which containers outlive their sessions with."""


@pytest.fixture
def no_daemon(engine):
    """It has none."""


@pytest.fixture
def frozen(engine, tmp_path):
    """An engine of the test's own that can be stopped, as by SIGSTOP."""
    with engine.spare(tmp_path) as spare:
        yield spare


@pytest.fixture
def gate(_gate):
    """The engine by a way that a test can hold up; its `url` names it."""
    yield _gate
    _gate.forget()
