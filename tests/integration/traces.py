"""What a killed workflow has left on this machine, wherever that may be.

Taken from the machine itself (processes, mounts, links, rules, control groups,
directories) and from the engine, without levrt.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engines import Engine

#: For what takes a moment; a busy machine is given more than anybody would like.
PATIENCE = 120.0

_ROOT = str(Path(__file__).parents[2])
_VICTIM = str(Path(__file__).with_name("victim.py"))


def _processes() -> Iterator[tuple[int, list[str], int, str]]:
    """pid, command, parent, state of each."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            stat = Path("/proc", entry, "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        state, parent = stat.rpartition(")")[2].split()[:2]
        command = [os.fsdecode(word) for word in words[:-1]]
        yield int(entry), command, int(parent), state


def _groups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


@dataclass
class Victim:
    """A workflow in a process of its own, in a process group of its own."""

    process: "subprocess.Popen[str]"
    session: str
    child: int | None = None  # the pid of its forked child
    reapers: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)  # of oci's helpers

    @classmethod
    def start(cls, image: str, way: str, **env: str) -> "Victim":
        process = subprocess.Popen(
            [sys.executable, _VICTIM, image, way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env=dict(os.environ, PYTHONPATH=_ROOT, **env),
        )
        victim = cls(process, cls._line(process))
        if way == "fork":
            victim.child = int(cls._line(process))
        assert cls._line(process) == "ready"
        until = time.monotonic() + PATIENCE
        while not victim.reapers:
            assert time.monotonic() < until, "nobody watches it"
            victim.look()
        return victim

    @staticmethod
    def _line(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"the workflow has ended: {process.wait()}"
        return line

    def look(self) -> None:
        """Learns what its helpers are called, as long as it lives."""
        for pid, command, parent, _ in _processes():
            if not command or os.path.basename(command[0]) != "lev-reaper":
                continue
            if command[1:3] == ["watch", self.session]:
                self.reapers.append(pid)
            elif parent == self.process.pid and len(command) == 4:
                self.reapers.append(pid)
                self.tags.append(command[2])

    def end(self) -> int:
        """Lets it come to its own end."""
        self.process.communicate("end\n", timeout=PATIENCE)
        return self.process.returncode

    def wait_for_reapers(self) -> None:
        until = time.monotonic() + PATIENCE
        while any(p in self.reapers and s not in "ZX" for p, _, _, s in _processes()):
            assert time.monotonic() < until, "they live"

    def kill(self, group: bool = False, reapers: bool = False) -> None:
        """kill -9; its reapers first, when they are to die, too."""
        for pid in self.reapers if reapers else ():
            os.kill(pid, 9)
        if group:
            os.killpg(self.process.pid, 9)
        else:
            self.process.kill()
        self.process.wait()
        # Not read to its end: a forked child may have it open.
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def kill_child(self) -> None:
        assert self.child is not None
        os.kill(self.child, 9)


def _own_traces(victim: Victim) -> list[str]:
    """Of the helpers of the engine without a daemon."""
    found = []
    names = [f"levrt-{tag}" for tag in victim.tags]
    for pid, command, _, state in _processes():
        groups = _groups(pid)
        if state not in "ZX" and any(f"/{name}" in groups for name in names):
            found.append(f"process {pid} {command}")
    for name in names:
        pattern = Path("/sys/fs/cgroup")
        found += [f"cgroup {path}" for path in pattern.glob(name)]
        found += [f"cgroup {path}" for path in pattern.glob(f"*/{name}")]
    for tag in victim.tags:
        found += [
            f"link {path.name}" for path in Path("/sys/class/net").glob(f"lv{tag}*")
        ]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += [m for m in mounts if any(f"/sessions/{t}/" in m for t in victim.tags)]
    if victim.tags:
        for command in (["nft", "list", "tables"], ["iptables-save"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            rules = done.stdout.splitlines()
            found += [r for r in rules if any(n in r for n in names)]
    return found


def traces(engine: Engine, victim: Victim) -> list[str]:
    """What is there still of a workflow that has ended."""
    found = [
        *engine.containers(victim.session),
        *engine.networks(victim.session),
        *engine.state(victim.tags),
        *_own_traces(victim),
    ]
    short = victim.session[:12]
    for base in {"/tmp", tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR")}:
        if base and os.path.exists(f"{base}/levrt-{short}"):
            found.append(f"{base}/levrt-{short}")
    return found


def wait_until_gone(engine: Engine, victim: Victim) -> float:
    """Seconds until nothing is left; fails when something stays."""
    start = time.monotonic()
    while left := traces(engine, victim):
        waited = time.monotonic() - start
        assert waited < PATIENCE, f"left after {waited:.0f} s: {left}"
        time.sleep(0.02)
    return time.monotonic() - start
