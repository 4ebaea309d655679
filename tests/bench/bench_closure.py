"""The cold start of a closure that stores one key, without a container."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from measure import ROOT, Result, Setting, Target, median, ratio, turns

import levrt
import levrt.bundle
from levrt import lev

sys.path.append(str(ROOT / "tests" / "fakes"))

import channel  # type: ignore[import-not-found]

TURNS = 20  # of each program, per round


def entry() -> None:
    lev.set(a=1)


class Host:
    """The workflow's end of the channel with its answers ready: on this side
    nothing is decoded, so that the guest is what takes the time."""

    def __init__(self, path: Path, payload: bytes) -> None:
        frames = channel.Host(payload)
        self.answers = [channel.encode(frames.answer), channel.encode({"ack": 1})]
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            for answer in self.answers:  # to {hello}, to {set}
                connection.recv(65536)
                connection.sendall(answer)
            while connection.recv(65536):  # {exit}
                pass


def timed(argv: list[str], env: dict[str, str], host: Host | None = None) -> float:
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env)
    if host is not None:
        host.serve()
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{argv} failed")
    return taken


def import_times(argv: list[str], env: dict[str, str], host: Host) -> dict[str, int]:
    """name → µs of each module that the guest imports by itself."""
    argv = [argv[0], "-X", "importtime", *argv[1:]]
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as process:
        host.serve()
        assert process.stderr is not None
        text = process.stderr.read()
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", text)
    return {name: int(taken) for taken, name in lines if "levrt" in name}


def build(scratch: Path) -> Path:
    program = [sys.executable, "-I", levrt.bundle.__file__, str(scratch / "bundles")]
    run = subprocess.run(program, check=True, capture_output=True, text=True)
    return Path(run.stdout.splitlines()[-1])


def bench(setting: Setting) -> Result:
    bundle = build(setting.scratch)
    sock = setting.scratch / "guest.sock"
    sock.unlink(missing_ok=True)
    host = Host(sock, levrt.remote(entry)().payload())
    env = channel.environment(f"unix:{sock}")
    host_python = os.path.realpath(sys.executable)
    guest = channel.command(str(bundle))
    path = f"import sys; sys.path.append('{bundle}/site'); "
    programs = {
        "python -I -S -c pass": [host_python, "-I", "-S", "-c", "pass"],
        "the same by the bundle's launcher": [*guest[:-1], "-c", "pass"],
        "… with the guest's modules": [
            *guest[:-1],
            "-c",
            path + "import levrt.guest.main",
        ],
        "the closure": guest,
    }
    figures: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(setting.rounds + 1):  # the first one warms up
        times: dict[str, list[float]] = {name: [] for name in programs}
        for turn in range(TURNS):
            for name in turns(list(programs), turn):
                served = host if name == "the closure" else None
                times[name].append(timed(programs[name], env, served))
        if round_ > 0:
            for name in programs:
                figures[name].append(median(times[name]))
    imports = import_times(guest, env, host)
    listed = sorted(imports.items(), key=lambda item: -item[1])[:6]
    bare = figures["python -I -S -c pass"]
    return Result(
        "A closure that stores one key, cold",
        "The command line that a container with an entry runs, on the host, with the "
        f"bundle's own loader, libraries and modules; {TURNS} times per round, from "
        "its start to its end.",
        setting.rounds,
        ["program", "ms", "ratio"],
        [
            [name, f"{1000 * median(f):.1f}", f"{ratio(f, bare):.2f}"]
            for name, f in figures.items()
        ],
        [
            Target(
                "closure / python -I -S -c pass, ≤ 2",
                ratio(figures["the closure"], bare),
                most=2.0,
            )
        ],
        [
            f"levrt's modules in the guest: {sum(imports.values()) / 1000:.1f} ms, of "
            "it (`-X importtime`, which slows all down) "
            + ", ".join(f"`{name}` {taken / 1000:.1f}" for name, taken in listed)
        ],
    )
