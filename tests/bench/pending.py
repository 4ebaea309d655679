"""Runs that are under way: what each of them costs while nothing happens.

usage: pending.py SOCKET IMAGE

Each line of the input is a number of runs to start; each line of the output is
JSON: the process's memory in KiB (RSS, PSS) with them, and the CPU seconds and
context switches of one second in which they all wait.
"""

import asyncio
import json
import os
import resource
import sys

import levrt

SECONDS = 2.0


def memory() -> dict[str, int]:
    found = {}
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                found[name.lower()] = int(rest.split()[0])
    return found


def threads_switches() -> int:
    """Voluntary context switches of all threads."""
    total = 0
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/status") as file:
            for line in file:
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main() -> None:
    loop = asyncio.get_running_loop()
    image = sys.argv[2]
    await (await levrt.Cr(image, check=False).start()).stop(0)
    tasks: list[levrt.Task] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        more = [levrt.Cr(image, check=False).start() for _ in range(int(line))]
        tasks += await asyncio.gather(*more)
        figures: dict[str, float] = {
            **memory(),
            "threads": len(os.listdir("/proc/self/task")),
        }
        switches, before = threads_switches(), cpu()
        await asyncio.sleep(SECONDS)
        figures["cpu"] = (cpu() - before) / SECONDS
        figures["switches"] = (threads_switches() - switches) / SECONDS
        print(json.dumps(figures), flush=True)
    await asyncio.gather(*(task.stop(0) for task in tasks))


if __name__ == "__main__":
    os.environ["LEVRT_ENGINE"] = f"unix://{sys.argv[1]}"
    levrt.run(main())
