"""Guests that store one finding after another, when they are told.

usage: guests.py SOCKET IMAGE GUESTS SIZE WINDOW BEGIN COUNT

So many containers run an entry that stores, in COUNT windows of WINDOW
seconds each, as many findings of about 20 KB as it can; the windows begin at
BEGIN (CLOCK_MONOTONIC) and leave as much time between them for something
else. The output is a line of JSON: by window, how many all of them stored.
"""

import asyncio
import json
import os
import sys

import bench_bson

import levrt
from levrt import Concurrent, Cr, Document, lev


def guest(finding: dict[str, object], window: float, begin: float, count: int) -> Cr:
    @levrt.remote
    def entry() -> None:
        import time

        counts = []
        for i in range(count):
            start = begin + 2 * window * i
            left = start - time.monotonic()
            if left < 0:
                raise RuntimeError(f"{-left:.1f} s too late for window {i}")
            time.sleep(left)
            stored = 0
            while time.monotonic() < start + window:
                lev.set(finding)
                stored += 1
            counts.append(stored)
        lev.set(counts=counts)

    return Cr(sys.argv[2], "bench/store@1.0", entry=entry())


async def main() -> None:
    guests, size, count = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[7])
    window, begin = float(sys.argv[5]), float(sys.argv[6])
    finding = bench_bson.finding()
    encoded = len(levrt.bson.encode(finding))
    if encoded != size:
        raise RuntimeError(f"the finding has {encoded} bytes, not {size}")
    async with Concurrent() as c:
        runs: list[asyncio.Task[Document]] = [
            c.start(guest(finding, window, begin, count)) for _ in range(guests)
        ]
    sums = [0] * count
    for run in runs:
        counts = await (await run).get({}, ["counts"])
        assert counts is not None
        sums = [a + b for a, b in zip(sums, counts["counts"], strict=True)]
    print(json.dumps(sums))


if __name__ == "__main__":
    os.environ["LEVRT_ENGINE"] = f"unix://{sys.argv[1]}"
    levrt.run(main())
