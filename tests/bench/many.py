"""Many containers that sleep, of levrt without a daemon.

usage: many.py STORE IMAGE CONCURRENCY

Each line of the input is "start N", "memory" or "stop"; each line of the output
is JSON: the seconds until N more containers run, the memory (PSS, in KiB) of
all of levrt's processes, the containers' own first ones among them, or the
seconds until every container is signalled and gone.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import helper

import levrt

INIT = "lev-init"


def children(pid: int) -> list[int]:
    """Those whose program is the containers' init."""
    found = []
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            name = Path(f"/proc/{word}/comm").read_text().strip()
        except OSError:
            continue  # the runtime, which ends when it has started one
        if name == INIT:
            found.append(int(word))
    return found


def pss_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0])


def memory() -> dict[str, float]:
    reaper = helper.pid()
    assert reaper is not None
    inits = children(reaper)
    total = sum(pss_kib(pid) for pid in [os.getpid(), reaper, *inits])
    return {"kib": total, "inits": len(inits)}


async def side_by_side(
    jobs: Iterable[Callable[[], Awaitable[None]]], concurrency: int
) -> None:
    left = list(jobs)

    async def some() -> None:
        while left:
            await left.pop()()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(some())


async def main() -> None:
    image, concurrency = sys.argv[2], int(sys.argv[3])
    loop = asyncio.get_running_loop()
    tasks: list[levrt.Task] = []

    async def start() -> None:
        cr = levrt.Cr(
            image,
            cmd=["sleep", "100000"],
            check=False,
            host_config={"network_mode": "none"},
        )
        tasks.append(await cr.start())

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, _, count = line.strip().partition(" ")
        begin = time.perf_counter()
        figures: dict[str, float] = {}
        if verb == "start":
            await side_by_side([start] * int(count), concurrency)
        elif verb == "stop":
            await asyncio.gather(*(task.stop(0) for task in tasks))
            tasks.clear()
        else:
            figures = memory()
        figures["seconds"] = time.perf_counter() - begin
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    os.environ["LEVRT_ENGINE"] = f"oci:{sys.argv[1]}"
    levrt.run(main())
