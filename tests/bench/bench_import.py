"""What importing levrt costs, beside importing asyncio."""

import os
import sys
import time

from measure import Result, Setting, Target, median, turns

PROGRAMS = {
    "pass": "pass",
    "import asyncio": "import asyncio",
    "import levrt": "import levrt",
    "import asyncio, levrt": "import asyncio, levrt",
}
TURNS = 20  # of each program, per round


def seconds(code: str) -> float:
    start = time.perf_counter()
    argv = [sys.executable, "-c", code]
    _, status = os.waitpid(os.posix_spawn(sys.executable, argv, os.environ), 0)
    taken = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"python -c {code!r} failed")
    return taken


def bench(setting: Setting) -> Result:
    for code in PROGRAMS.values():
        seconds(code)  # compiled files, page cache
    figures: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(setting.rounds):
        times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
        for turn in range(TURNS):
            for name in turns(list(PROGRAMS), turn):
                times[name].append(seconds(PROGRAMS[name]))
        for name in PROGRAMS:
            figures[name].append(median(times[name]))
    bare = figures["pass"]
    net = {
        name: [a - b for a, b in zip(figures[name], bare, strict=True)]
        for name in PROGRAMS
    }
    pairs = zip(net["import levrt"], net["import asyncio"], strict=True)
    factor = median([a / b for a, b in pairs])
    return Result(
        "Import",
        f"`python -c …`, {TURNS} times each per round, medians; net: less `-c pass`. "
        "levrt imports asyncio.",
        setting.rounds,
        ["program", "ms", "net ms"],
        [
            [
                name,
                f"{1000 * median(figures[name]):.1f}",
                f"{1000 * median(net[name]):.1f}",
            ]
            for name in PROGRAMS
        ],
        [Target("import levrt / import asyncio, net, ≤ 1.25", factor, most=1.25)],
    )
