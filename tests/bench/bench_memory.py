"""The memory of a workflow's process, after 100 runs and after 1,000."""

import subprocess

from measure import HERE, Result, Setting, Target, Worker, median, python

CONCURRENCY = 5
RUNS = [100, 1000, 4000, 5000]
BARE = """
import asyncio
for line in open("/proc/self/smaps_rollup"):
    if line.startswith("Private_Dirty:"):
        print(line.split()[1])
"""


def bare_kib() -> float:
    run = subprocess.run(python("-c", BARE), check=True, capture_output=True, text=True)
    return float(run.stdout)


def once(setting: Setting, round_: int) -> list[float]:
    """MiB over the bare process, after each number of runs."""
    socket = setting.scratch / "fake.sock"
    engine = Worker(python(HERE / "fake.py", socket, setting.image))
    engine.wait_for("ready")
    client = Worker(
        python(
            HERE / "clients.py",
            "levrt",
            str(socket),
            setting.image,
            "",
            str(CONCURRENCY),
        ),
        XDG_DATA_HOME=str(setting.scratch / f"memory{round_}"),
    )
    bare, done, figures = bare_kib(), 0, []
    try:
        for runs in RUNS:
            answer = client.ask(runs - done)
            figures.append((answer["private"] - bare) / 1024)
            done = runs
    finally:
        client.close()
        engine.close()
    return figures


def bench(setting: Setting) -> Result:
    rounds = [once(setting, i) for i in range(setting.rounds)]
    after = [median([r[i] for r in rounds]) for i in range(len(RUNS))]
    growth = median([1024 * (r[3] - r[2]) / (RUNS[3] - RUNS[2]) for r in rounds])
    return Result(
        "Memory",
        f"Private_Dirty of a workflow's process over `python -c 'import asyncio'`, "
        f"{CONCURRENCY} runs at once against an engine that runs nothing.",
        setting.rounds,
        ["after", "MiB"],
        [[f"{n:,} runs", f"{mib:.2f}"] for n, mib in zip(RUNS, after, strict=True)],
        [
            Target("MiB after 1,000 runs, ≤ 6", after[1], most=6.0),
            Target(
                "growth from run 100 to run 1,000, MiB, ≤ 1.5",
                median([r[1] - r[0] for r in rounds]),
                most=1.5,
            ),
            Target("growth after that, KiB per run, ≤ 0.1", growth, most=0.1),
        ],
        ["In the first thousand runs SQLite's page cache fills: 1 MiB at most."],
    )
