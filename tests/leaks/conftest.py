"""A home and a fake engine, in this process: the measured one has neither."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fakes"))


@pytest.fixture
def engine(tmp_path):
    from engine import FakeEngine, Script

    with FakeEngine(tmp_path / "engine.sock") as fake:
        fake.images.update({"img:latest", "hold:latest", "bad:latest"})
        scripts = {
            fake.image_id("hold:latest"): Script(hold=True, stdout=b"one\ntwo\n"),
            fake.image_id("bad:latest"): Script(exit_code=3, stderr=b"no\n"),
        }
        usual = Script(stdout=b"a line\nanother one\n")
        fake.script_for = lambda config: scripts.get(
            fake.image_id(config["Image"]), usual
        )
        yield fake


@pytest.fixture
def environment(tmp_path, engine):
    """Of the measured process: one arena and no caches of freed chunks, so that
    what malloc says is in use is what somebody holds."""
    import levrt

    kept = {k: v for k, v in os.environ.items() if not k.startswith("LEVRT_")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LEVRT_ENGINE": engine.url,
        "LEVRT_GRACE": "1000",
        "PYTHONPATH": str(Path(levrt.__file__).parents[1]),
        "MALLOC_ARENA_MAX": "1",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    }
