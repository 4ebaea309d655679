"""Short runs without a daemon, beside Docker and beside crun alone."""

from pathlib import Path
from typing import Any

import bundle
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
WARM, STEADY = 2500, 500  # runs before and while memory is to stay as it is
SLICES = 6  # of a round: all clients take a turn in each
OCI, DOCKER, PY = "levrt", "levrt, Docker", "docker-py"
CRUN, BARE = "crun run", "crun run, no seccomp"
NET, PY_NET = "levrt, port published", "docker-py, port published"


class Crun:
    """`crun run` of a bundle, asked as the other workers are."""

    def __init__(self, setting: Setting, where: Path) -> None:
        argv: list[str | Path] = [setting.build / "bench_spawn", str(CONCURRENCY)]
        self._worker = Worker(bundle.without_hybrid(argv))
        root = setting.scratch / "crun"
        self._command = f"crun --root {root} run --bundle {where} {where.name}-{{}}"

    def ask(self, runs: int) -> dict[str, Any]:
        return self._worker.ask(f"{runs} {self._command}")

    def close(self) -> None:
        self._worker.close()


def clients(setting: Setting) -> dict[str, Any]:
    data = setting.scratch / "data"

    def client(name: str, engine: str, network: str) -> Any:
        argv = [name, engine, setting.image, network, str(CONCURRENCY)]
        return lambda: Worker(
            python(HERE / "clients.py", *argv), XDG_DATA_HOME=str(data)
        )

    def crun(name: str, *, seccomp: bool) -> Any:
        root = setting.scratch / "busybox"
        where = setting.scratch / "bundles" / name
        store = str(setting.store)
        bundle.make(where, root, setting.image, store, ["true"], seccomp=seccomp)
        return lambda: Crun(setting, where)

    docker, oci = str(setting.socket), f"oci:{setting.store}"
    return {
        OCI: client("levrt", oci, "none"),
        CRUN: crun("profile", seccomp=True),
        BARE: crun("bare", seccomp=False),
        DOCKER: client("levrt", docker, "none"),
        PY: client("docker-py", docker, "none"),
        NET: client("levrt", oci, "publish"),
        PY_NET: client("docker-py", docker, "publish"),
    }


def measure(
    setting: Setting,
) -> tuple[dict[str, list[dict[str, float]]], float]:
    """By client and round: seconds and CPU seconds of its runs; and by how much
    levrt's processes have grown, KiB per run."""
    make = clients(setting)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in make}
    with workers(make) as all_:
        for worker in all_.values():  # connections, caches
            worker.ask(CONCURRENCY)
        for round_ in range(setting.rounds):
            sums = {name: {"seconds": 0.0, "cpu": 0.0} for name in make}
            for slice_ in range(SLICES):
                for name in turns(list(make), round_ + slice_):
                    answer = all_[name].ask(RUNS // SLICES)
                    for key in ("seconds", "cpu"):
                        sums[name][key] += answer[key]
            for name, total in sums.items():
                figures[name].append(total)
        # Last: what so many runs remove from the disk slows down the next ones.
        flat = [all_[OCI].ask(runs)["private"] for runs in (WARM, STEADY)]
    return figures, (flat[1] - flat[0]) / STEADY


def bench(setting: Setting) -> Result:
    figures, growth = measure(setting)
    seconds = {n: [f["seconds"] for f in fs] for n, fs in figures.items()}
    cpu = {n: [1000 * f["cpu"] / RUNS for f in fs] for n, fs in figures.items()}

    def faster(ours: str, theirs: str) -> float:
        return ratio(seconds[theirs], seconds[ours])

    return Result(
        "Short runs without a daemon",
        f"{RUNS} runs of `true` in a busybox image, {CONCURRENCY} at once, without a "
        "network where none is named; in turns of "
        f"{RUNS // SLICES} runs. crun runs a ready bundle on a directory, with the "
        "config.json that the engine writes and a network namespace of its own.",
        setting.rounds,
        ["client", "runs/s", "time, levrt = 1", "client CPU per run, ms"],
        [
            [
                name,
                f"{RUNS / median(seconds[name]):.1f}",
                f"{faster(OCI, name):.2f}",
                f"{median(cpu[name]):.2f}",
            ]
            for name in figures
        ],
        [
            Target("runs beside crun's, ≥ 1.3", faster(OCI, CRUN), least=1.3),
            Target(
                "runs beside crun's without seccomp, ≥ 0.55",
                faster(OCI, BARE),
                least=0.55,
            ),
            Target("runs beside docker-py's, ≥ 12", faster(OCI, PY), least=12),
            Target(
                "runs beside levrt's over Docker, ≥ 8", faster(OCI, DOCKER), least=8
            ),
            Target(
                "with network and port, beside docker-py's, ≥ 10",
                faster(NET, PY_NET),
                least=10,
            ),
            Target(
                "CPU per run of Python and helper, ms, ≤ 4", median(cpu[OCI]), most=4
            ),
            Target(
                f"growth in {STEADY} runs after {WARM}, KiB per run, ≤ 0.5",
                growth,
                most=0.5,
            ),
        ],
        ["The CPU of crun is that of all it starts; of a daemon it is not counted."],
    )
