"""The least that an installed levrt does: run a tool, query its document.

usage: smoke.py command|closure|programs…

Runs in the image levrt-test/busybox:1 of the engine that $LEVRT_ENGINE names.
"""

import subprocess
import sys
from pathlib import Path

import levrt
from levrt import Cr, lev

IMAGE = "levrt-test/busybox:1"


def closure(target: str) -> Cr:
    @levrt.remote
    def entry():
        lev.set(target=target, ports=[{"port": 80, "state": "open"}])

    return Cr(IMAGE, "test/smoke@1.0", entry=entry())


async def run_command() -> None:
    document = await Cr(IMAGE, cmd=["sh", "-c", "exit 3"], check=[3])
    assert document.run.exit_code == 3, document.run
    await document.set(seen="command")
    assert await document.get() == {"seen": "command"}


async def run_closure() -> None:
    document = await closure("example.com")
    found = await document.get({"ports.state": "open"}, {"ports.$": 1})
    assert found == {"ports": [{"port": 80, "state": "open"}]}, found
    assert await document.get({"ports.state": "closed"}) is None


async def run_programs() -> None:
    """Those beside the library find what they are linked with."""
    for name in ("lev-reaper", "lev-sweep"):
        path = Path(levrt.__file__).parent / "bin" / name
        done = subprocess.run([path], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "usage" in done.stderr, done


WAYS = {"command": run_command, "closure": run_closure, "programs": run_programs}

if __name__ == "__main__":
    for way in sys.argv[1:] or sys.exit(__doc__):
        levrt.run(WAYS[way]())
        print(way, "works with", levrt.__file__)
