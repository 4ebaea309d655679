"""The process that levrt starts beside its own, where there is no daemon."""

import functools
import os
from pathlib import Path

NAME = "lev-reaper"


@functools.cache
def pid() -> int | None:
    """Of this process's; None when it has none."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        if name.endswith(NAME) and int(rest.split()[1]) == os.getpid():
            return int(path.parent.name)
    return None


def cpu_seconds() -> float:
    if pid() is None:
        return 0.0
    return int(Path(f"/proc/{pid()}/schedstat").read_text().split()[0]) / 1e9


def private_kib(process: int) -> int:
    """Private_Dirty of a process."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(rollup.partition("Private_Dirty:")[2].split()[0])
