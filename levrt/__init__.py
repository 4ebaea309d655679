"""Run tools, each in its own container, from asyncio; query what they find.

Names are loaded when they are first used, so that a program that needs one of
them does not wait for all.
"""

import os as _os
import sys as _sys

# What libcurl, SQLite and the others bring along has tens of thousands of
# symbols, and most are never called: to look each up when it is first called
# takes a twentieth off this import.
_flags = _sys.getdlopenflags()
_sys.setdlopenflags(_os.RTLD_LAZY)
try:
    from levrt._levrt import Cr, Document, ObjectId, Op, Task
finally:
    _sys.setdlopenflags(_flags)

TYPE_CHECKING = False  # typing is not loaded for it
if TYPE_CHECKING:
    from levrt import annot, bson
    from levrt.args import cli
    from levrt.collection import Collection
    from levrt.concurrent import Concurrent
    from levrt.entry import remote
    from levrt.errors import (
        Conflict,
        DeadlineExceeded,
        DocumentTooLarge,
        EngineError,
        EngineUnavailable,
        ImageError,
        ImageNotFound,
        LevError,
        NotFound,
        OutOfMemory,
        PullError,
        QueryError,
        ReadinessTimeout,
        RemoteError,
        StartFailed,
        StoreError,
        StoreUnavailable,
        TaskFailed,
        UnsupportedOperation,
        UnsupportedOption,
    )
    from levrt.files import Digest, File
    from levrt.glue import RunRecord
    from levrt.leftovers import Leftover, gc
    from levrt.logs import LogLine
    from levrt.namespace import lev, lev as ctx
    from levrt.session import run

__all__ = [
    "Collection",
    "Concurrent",
    "Conflict",
    "Cr",
    "DeadlineExceeded",
    "Digest",
    "Document",
    "DocumentTooLarge",
    "EngineError",
    "EngineUnavailable",
    "File",
    "ImageError",
    "ImageNotFound",
    "Leftover",
    "LevError",
    "LogLine",
    "NotFound",
    "ObjectId",
    "Op",
    "OutOfMemory",
    "PullError",
    "QueryError",
    "ReadinessTimeout",
    "RemoteError",
    "RunRecord",
    "StartFailed",
    "StoreError",
    "StoreUnavailable",
    "Task",
    "TaskFailed",
    "UnsupportedOperation",
    "UnsupportedOption",
    "annot",
    "bson",
    "cli",
    "ctx",
    "gc",
    "lev",
    "remote",
    "run",
]

_HOMES = {
    "Collection": "collection",
    "Concurrent": "concurrent",
    "Digest": "files",
    "File": "files",
    "Leftover": "leftovers",
    "LogLine": "logs",
    "RunRecord": "glue",
    "cli": "args",
    "ctx": "namespace",
    "gc": "leftovers",
    "lev": "namespace",
    "remote": "entry",
    "run": "session",
}


if not TYPE_CHECKING:  # to a type checker every name would be there

    def __getattr__(name):
        from importlib import import_module

        if name in ("annot", "bson"):
            return import_module(f"levrt.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'levrt' has no attribute {name!r}")
        module = import_module(f"levrt.{_HOMES.get(name, 'errors')}")
        value = getattr(module, "lev" if name == "ctx" else name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
