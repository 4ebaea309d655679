"""The least that an installed levrt does: run a tool, query its document.

usage: smoke.py command|closure|programs|mongo…

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


async def run_mongo() -> None:
    """The driver is there: it says that nobody listens."""
    try:
        await lev.coll.count_documents()
    except levrt.StoreUnavailable as e:
        assert "No suitable servers" in str(e), e
    else:
        raise AssertionError("somebody answers at port 1")


NOBODY = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"
WAYS = {
    "command": (run_command, None),
    "closure": (run_closure, None),
    "programs": (run_programs, None),
    "mongo": (run_mongo, NOBODY),
}

if __name__ == "__main__":
    for way in sys.argv[1:] or sys.exit(__doc__):
        main, store = WAYS[way]
        levrt.run(main(), db=store)
        print(way, "works with", levrt.__file__)
