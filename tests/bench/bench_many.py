"""A thousand containers that sleep, without a daemon, beside crun alone."""

from pathlib import Path

import bundle
from measure import HERE, Result, Setting, Target, Worker, median, python, ratio

CONCURRENCY = 5
COUNT = 1000
LEVRT, CRUN = "levrt", "crun"


def levrt_round(setting: Setting, round_: int) -> dict[str, float]:
    argv = python(HERE / "many.py", str(setting.store), setting.image, str(CONCURRENCY))
    worker = Worker(argv, XDG_DATA_HOME=str(setting.scratch / f"many{round_}"))
    try:
        worker.ask("start 1")
        one = worker.ask("memory")
        started = worker.ask(f"start {COUNT - 1}")["seconds"]
        all_ = worker.ask("memory")
        if all_["inits"] != COUNT:
            raise RuntimeError(f"{all_['inits']} of {COUNT} containers run")
        return {
            "start": started * COUNT / (COUNT - 1),
            "stop": worker.ask("stop")["seconds"],
            "kib": (all_["kib"] - one["kib"]) / (COUNT - 1),
            "whole": all_["kib"] / COUNT,
        }
    finally:
        worker.close()


def crun_round(setting: Setting, where: Path) -> dict[str, float]:
    """All are killed, then all deleted: one after the other would wait."""
    argv: list[str | Path] = [setting.build / "bench_spawn", str(CONCURRENCY)]
    worker = Worker(bundle.without_hybrid(argv))
    crun = f"{COUNT} crun --root {setting.scratch / 'crun'}"
    try:
        start = worker.ask(f"{crun} run --detach --bundle {where} many-{{}}")
        kill = worker.ask(f"{crun} kill many-{{}} KILL")
        delete = worker.ask(f"{crun} delete --force many-{{}}")
    finally:
        worker.close()
    return {"start": start["seconds"], "stop": kill["seconds"] + delete["seconds"]}


def bench(setting: Setting) -> Result:
    where = bundle.make(
        setting.scratch / "bundles" / "many",
        setting.scratch / "busybox",
        setting.image,
        str(setting.store),
        ["sleep", "100000"],
        seccomp=True,
    )
    ours, theirs = [], []
    for round_ in range(setting.rounds):
        ours.append(levrt_round(setting, round_))
        theirs.append(crun_round(setting, where))

    def faster(what: str) -> float:
        return ratio([t[what] for t in theirs], [o[what] for o in ours])

    def row(what: str, text: str) -> list[str]:
        figures = [COUNT / median([r[what] for r in rs]) for rs in (ours, theirs)]
        return [text, *(f"{f:.1f}" for f in figures), f"{faster(what):.2f}"]

    kib = median([o["kib"] for o in ours])
    return Result(
        "A thousand containers without a daemon",
        f"{COUNT} containers that sleep, without a network, started {CONCURRENCY} at "
        "once; then all are killed and removed. crun: `run --detach` of a ready "
        "bundle with the same config.json, then `kill` and `delete` of each.",
        setting.rounds,
        ["containers per second", LEVRT, CRUN, "times faster"],
        [row("start", "started"), row("stop", "killed and gone")],
        [
            Target("started beside crun's rate, ≥ 0.8", faster("start"), least=0.8),
            Target("killed and gone beside crun's, ≥ 1", faster("stop"), least=1.0),
            Target("memory of levrt's processes, MB each, ≤ 1.2", kib / 1000, most=1.2),
        ],
        [
            f"The workflow's process, its helper and the containers' first processes "
            f"take {median([o['whole'] for o in ours]):.0f} KiB (PSS) per container, "
            "with what the workflow takes anyway."
        ],
    )
