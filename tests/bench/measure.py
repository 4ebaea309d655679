"""What the benchmarks share: rounds, workers, and results that are kept.

A benchmark takes turns between what it compares, within each round, and gives
medians over the rounds; ratios are made within a round, so that a machine that
drifts does not favour anybody.
"""

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"
TABLES = HERE / "results.md"


@dataclass
class Target:
    """What was to be reached, and what was: a figure with its bound."""

    text: str
    figure: float
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        return (self.most is None or self.figure <= self.most) and (
            self.least is None or self.figure >= self.least
        )


@dataclass
class Result:
    """A table with what it means; `rounds` is how often all took their turn."""

    title: str
    how: str
    rounds: int
    columns: list[str]
    rows: list[list[Any]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Setting:
    """Where a benchmark finds what it needs."""

    build: Path  # where bench_raw, bench_floor and bench_spawn are
    socket: Path | None  # of a Docker engine with `image`
    image: str
    store: Path | None  # of the engine without a daemon, with `image`
    registry: str | None  # on this machine, without users
    scratch: Path  # with the root of `image` as "busybox"
    rounds: int

    @staticmethod
    def env(**more: str) -> dict[str, str]:
        return {**os.environ, **more}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of ours / theirs."""
    return median([a / b for a, b in zip(ours, theirs, strict=True)])


def turns(names: Sequence[str], round_: int) -> list[str]:
    """All names, each round beginning with another."""
    n = round_ % len(names)
    return [*names[n:], *names[:n]]


class Worker:
    """A process that answers each line of its input with a line of JSON."""

    def __init__(self, argv: Sequence[str | Path], **env: str) -> None:
        self._argv = [str(a) for a in argv]
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def ask(self, question: object) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{question}\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"{self._argv} ended: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_for(self, text: str) -> None:
        """Until it has written that line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != text:
            raise RuntimeError(f"{self._argv} said {line!r}, not {text!r}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def workers(made: dict[str, Callable[[], Worker]]) -> Iterator[dict[str, Worker]]:
    """All of them by name; they end when the block does."""
    all_: dict[str, Worker] = {}
    try:
        for name, make in made.items():
            all_[name] = make()
        yield all_
    finally:
        for worker in all_.values():
            worker.close()


def machine() -> str:
    """The processor, how many, how much memory, and what runs there."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} processors, {memory:.0f} GiB, "
        f"Linux {platform.release()}, CPython {platform.python_version()}"
    )


def keep(name: str, result: Result) -> None:
    """Into results.json, beside those of other benchmarks."""
    all_ = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    all_[name] = {
        "machine": machine(),
        "date": dt.date.today().isoformat(),
        "load": round(os.getloadavg()[0], 1),
        **asdict(result),
    }
    for i, target in enumerate(result.targets):
        all_[name]["targets"][i]["met"] = target.met
    RESULTS.write_text(json.dumps(dict(sorted(all_.items())), indent=1) + "\n")
    TABLES.write_text("\n".join(document(all_)))


def document(all_: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The Markdown of results.md, line by line."""
    yield "# Benchmarks"
    yield ""
    yield "Made by `tests/bench/run`; what is compared takes turns within a round, and"
    yield "ratios are medians of the rounds' ratios."
    for name in sorted(all_):
        yield from section(name, all_[name])


def section(name: str, one: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {one['title']}"
    yield ""
    yield f"{one['how']}"
    yield ""
    yield "| " + " | ".join(one["columns"]) + " |"
    yield "|---" + "|--:" * (len(one["columns"]) - 1) + "|"
    for row in one["rows"]:
        yield "| " + " | ".join(map(str, row)) + " |"
    if one["targets"]:
        yield ""
    for target in one["targets"]:
        met = "met" if target["met"] else "**missed**"
        yield f"- {target['text']}: {target['figure']:.3g}, {met}"
    for note in one["notes"]:
        yield f"- {note}"
    yield ""
    yield (
        f"`tests/bench/run {name}`, {one['date']}, {one['rounds']} rounds, load "
        f"{one['load']}: {one['machine']}."
    )


def python(*argv: str | Path) -> list[str | Path]:
    return [sys.executable, *argv]
