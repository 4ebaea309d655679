"""Short runs, levrt beside other clients of the same engine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from measure import (
    HERE,
    Result,
    Setting,
    Target,
    Worker,
    median,
    python,
    ratio,
    turns,
    workers,
)

CONCURRENCY = 5
RUNS = 60
SLICES = 6  # of a round: all clients take a turn in each
PEERS = ["docker-py", "aiodocker", "docker CLI"]
RAW = "raw C"


def network(socket: Path) -> str:
    """A bridge, as levrt makes one for its session. It goes with the engine:
    Docker 20.10 counts endpoints wrongly after many quick runs, and would not
    remove it."""
    name = f"levrt-bench-{os.getpid()}"
    argv = ["docker", "-H", f"unix://{socket}", "network", "create", name]
    subprocess.run(argv, check=True, capture_output=True)
    return name


def measure(setting: Setting, net: str) -> dict[str, list[dict[str, float]]]:
    """By client and round: seconds and CPU seconds of all its runs."""
    socket = setting.socket
    assert socket is not None
    common = [str(socket), setting.image, net, str(CONCURRENCY)]
    data = setting.scratch / "data"
    make: dict[str, Any] = {
        name: lambda name=name: Worker(
            python(HERE / "clients.py", name, *common), XDG_DATA_HOME=str(data)
        )
        for name in ["levrt", *PEERS]
    }
    make[RAW] = lambda: Worker([setting.build / "bench_raw", *common])
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in make}
    with workers(make) as all_:
        for worker in all_.values():  # connections, caches
            worker.ask(CONCURRENCY)
        for round_ in range(setting.rounds):
            sums = {name: {"seconds": 0.0, "cpu": 0.0} for name in make}
            for slice_ in range(SLICES):
                for name in turns(list(make), round_ + slice_):
                    answer = all_[name].ask(RUNS // SLICES)
                    for key in sums[name]:
                        sums[name][key] += answer[key]
            for name, total in sums.items():
                figures[name].append(total)
    return figures


def bench(setting: Setting) -> Result:
    socket = setting.socket
    assert socket is not None
    figures = measure(setting, network(socket))
    (setting.scratch / "runs.json").write_text(json.dumps(figures))
    seconds = {n: [f["seconds"] for f in fs] for n, fs in figures.items()}
    cpu = {n: [1000 * f["cpu"] / RUNS for f in fs] for n, fs in figures.items()}
    rows = [
        [
            name,
            f"{RUNS / median(seconds[name]):.2f}",
            f"{ratio(seconds[name], seconds['levrt']):.2f}",
            f"{median(cpu[name]):.2f}",
        ]
        for name in figures
    ]
    speed = {n: ratio(seconds[n], seconds["levrt"]) for n in figures}
    return Result(
        "Short runs on Docker",
        f"{RUNS} runs of `true` in a busybox image, {CONCURRENCY} at once, each on a "
        "bridge network, with its output read and its exit code seen; in turns of "
        f"{RUNS // SLICES} runs. The raw C client makes levrt's requests by plain "
        "sockets and looks at nothing.",
        setting.rounds,
        ["client", "runs/s", "time, levrt = 1", "client CPU per run, ms"],
        rows,
        [
            Target(
                "throughput beside the raw C client, ≥ 0.95", speed[RAW], least=0.95
            ),
            Target("throughput beside docker-py, ≥ 1", speed["docker-py"], least=1.0),
            Target("CPU per run, ms, ≤ 1", median(cpu["levrt"]), most=1.0),
        ],
    )
