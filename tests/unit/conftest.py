"""A home of its own for each test, the event loops, a fake engine."""

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


@pytest.fixture
def engine(home, monkeypatch):
    """A fake engine, which levrt finds; it has the image ``img``."""
    from engine import FakeEngine

    with FakeEngine(home / "engine.sock") as fake:
        fake.images.add("img:latest")
        monkeypatch.setenv("LEVRT_ENGINE", fake.url)
        yield fake
