"""The workflow's `__main__` in a process that multiprocessing starts anew.

multiprocessing runs the main module again in such a process, under another
name, before it unpickles what is to be called. In a container that is this
module: it brings the workflow's modules in, as the entry's process has them.
"""

import posix
import sys

from levrt.guest import env, load
from levrt.guest.ctx import lev

_SPAWN = "LEV_SPAWN"


def _payload() -> bytes:
    path = posix.environ.get(_SPAWN.encode(), b"").decode()
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise RuntimeError(
            "this process cannot have the workflow's modules, because it cannot read"
            f" its payload ({path or _SPAWN + ' is not set'}: {e}); use the fork start"
            " method of multiprocessing"
        ) from None


def _load() -> "dict[str, object]":
    env.restore_variables()
    lev._disconnect(
        "lev works in the entry's process and in those forked from it, not in one"
        ' that was started anew ("spawn", "forkserver"): return the value instead'
    )
    main = load.module("__main__")
    load.Payload(_payload()).load()
    return {k: v for k, v in vars(main).items() if not k.startswith("__")}


if __name__ == "__mp_main__":
    _main = sys.modules["__main__"]
    try:
        globals().update(_load())
    finally:
        sys.modules["__main__"] = _main
