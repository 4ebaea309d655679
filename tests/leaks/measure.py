"""Runs one scenario again and again; prints what each round of it has left.

usage: measure.py SCENARIO ITERATIONS ROUNDS
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
import warnings

import scenarios


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks"
            " keepcost"
        ).split()
    ]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = Mallinfo2


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def threads():
    """Without those of the pools, which come and go."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except FileNotFoundError:
            continue
    return sum(name == "lev-run" for name in names)


def measure():
    # It holds the last few thousand names that attributes were looked up by.
    sys._clear_type_cache()
    for _ in range(3):
        gc.collect()
    info = _mallinfo2()
    return {
        "blocks": sys.getallocatedblocks(),
        "bytes": info.uordblks + info.hblkhd,
        "descriptors": descriptors(),
        "threads": threads(),
    }


def per_iteration(before, after, n):
    return {key: (after[key] - before[key]) / n for key in before}


def rounds(iterate, iterations, n):
    iterate(iterations)
    found = []
    before = measure()
    for _ in range(n):
        iterate(iterations)
        after = measure()
        found.append(per_iteration(before, after, iterations))
        before = after
    return found


def main(name, iterations, n):
    warnings.simplefilter("ignore")
    scenario = getattr(scenarios, name)
    if not asyncio.iscoroutinefunction(scenario):

        def iterate(times):
            for _ in range(times):
                scenario()

        found = rounds(iterate, int(iterations), int(n))
    else:

        async def repeat(times):
            for _ in range(times):
                await scenario()

        with asyncio.Runner() as runner:
            runner.run(scenarios.fill_caches())
            found = rounds(lambda n: runner.run(repeat(n)), int(iterations), int(n))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
