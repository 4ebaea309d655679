"""Objects, memory, descriptors and threads stay flat, whatever is called."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

import scenarios  # noqa: E402

pytestmark = pytest.mark.leaks

CHEAP = 200  # iterations of a round
DEAR = {
    "jobs": 20,
    "jobs_that_fail": 20,
    "loops_that_are_just_closed": 20,
    "closures": 50,
    "writes": 60,
    "reads": 60,
    "finds": 60,
    "runs": 15,
    "runs_that_fail": 15,
    # A session knows its runs by their addresses: all have to be taken.
    "runs_that_are_cancelled": 90,
    "together": 60,
}
NAMES = [
    name
    for name, value in vars(scenarios).items()
    if inspect.isfunction(value)
    and value.__module__ == "scenarios"
    and name not in ("fill_caches", "settle")
]


def run(name, iterations, rounds, environment):
    done = subprocess.run(
        [sys.executable, HERE / "measure.py", name, str(iterations), str(rounds)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=environment["HOME"],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_flat(name, environment):
    found = run(name, DEAR.get(name, CHEAP), 5, environment)
    # What is left of one iteration. A leak is there in each round; threads that
    # are about to end and idle connections make one too high and another one
    # too low, so the lowest but one counts.
    left = {key: sorted(part[key] for part in found)[1] for key in found[0]}
    assert left["blocks"] < 0.5, found
    assert left["bytes"] < 32, found
    assert left["descriptors"] <= 0, found
    assert left["threads"] <= 0, found


def test_a_leak_is_found(environment, tmp_path):
    """The measure itself measures."""
    program = tmp_path / "leaky.py"
    program.write_text(
        f"""
import ctypes, os, sys
sys.path.insert(0, {str(HERE)!r})
import measure, scenarios

kept = []
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def leaky():
    kept.append(object())
    libc.malloc(100)
    os.dup(0)

scenarios.leaky = leaky
measure.main("leaky", 50, 2)
"""
    )
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    (_, last) = json.loads(done.stdout)
    assert last["blocks"] >= 1
    assert last["bytes"] >= 100
    assert last["descriptors"] == 1
