"""What importing levrt costs, beside importing asyncio."""

import os
import sys

from measure import Result, Setting, Target, median, turns

PROGRAMS = {
    "pass": "pass",
    "import asyncio": "import asyncio",
    "import levrt": "import levrt",
    "import asyncio, levrt": "import asyncio, levrt",
}
TURNS = 20  # of each program, per round


def seconds(code: str) -> float:
    """Of processor time: other work on the machine disturbs it least, and there
    is nothing that an import waits for once its files are in memory."""
    argv = [sys.executable, "-c", code]
    pid = os.posix_spawn(sys.executable, argv, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise RuntimeError(f"python -c {code!r} failed")
    return usage.ru_utime + usage.ru_stime


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
        f"Processor time of `python -c …`, {TURNS} times each per round, medians; net: "
        "less `-c pass`. levrt imports asyncio.",
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
