"""A closure cold, over an empty command, without a daemon."""

import functools
from collections.abc import Callable

from measure import (
    HERE,
    Result,
    Setting,
    Worker,
    median,
    python,
    ratio,
    turns,
    workers,
)

RUNS = 20
CLIENTS = {"true": "levrt", "a closure that stores one key": "levrt-closure"}


def bench(setting: Setting) -> Result:
    def client(name: str) -> Worker:
        argv = [name, f"oci:{setting.store}", setting.image, "none", "1"]
        return Worker(
            python(HERE / "clients.py", *argv),
            XDG_DATA_HOME=str(setting.scratch / "data"),
        )

    make: dict[str, Callable[[], Worker]] = {
        text: functools.partial(client, name) for text, name in CLIENTS.items()
    }
    seconds: dict[str, list[float]] = {text: [] for text in CLIENTS}
    with workers(make) as all_:
        for worker in all_.values():
            worker.ask(2)
        for round_ in range(setting.rounds):
            for text in turns(list(CLIENTS), round_):
                seconds[text].append(all_[text].ask(RUNS)["seconds"] / RUNS)
    command, closure = seconds.values()
    return Result(
        "A closure cold, without a daemon",
        f"{RUNS} runs, one after the other, without a network.",
        setting.rounds,
        ["what runs", "ms", "ratio"],
        [
            [text, f"{1000 * median(taken):.1f}", f"{ratio(taken, command):.2f}"]
            for text, taken in seconds.items()
        ],
        [],
        [
            "Over the empty command: "
            f"{1000 * (median(closure) - median(command)):.1f} ms."
        ],
    )
