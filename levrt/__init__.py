"""Run tools, each in its own container, from asyncio; query what they find."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

from levrt import annot as annot
from levrt import glue as _glue  # noqa: F401  (the C half calls it)
from levrt._levrt import Cr as Cr, Document as Document, ObjectId as ObjectId
from levrt._levrt import Op as Op, Task as Task
from levrt.args import cli as cli
from levrt.collection import Collection as Collection
from levrt.concurrent import Concurrent as Concurrent
from levrt.errors import (
    Conflict as Conflict,
    DeadlineExceeded as DeadlineExceeded,
    DocumentTooLarge as DocumentTooLarge,
    EngineError as EngineError,
    EngineUnavailable as EngineUnavailable,
    ImageError as ImageError,
    ImageNotFound as ImageNotFound,
    LevError as LevError,
    NotFound as NotFound,
    OutOfMemory as OutOfMemory,
    PullError as PullError,
    QueryError as QueryError,
    ReadinessTimeout as ReadinessTimeout,
    RemoteError as RemoteError,
    StartFailed as StartFailed,
    StoreError as StoreError,
    StoreUnavailable as StoreUnavailable,
    TaskFailed as TaskFailed,
    UnsupportedOperation as UnsupportedOperation,
    UnsupportedOption as UnsupportedOption,
)
from levrt.files import Digest as Digest, File as File
from levrt.glue import RunRecord as RunRecord
from levrt.logs import LogLine as LogLine
from levrt.namespace import lev as lev
from levrt.remote import remote as remote
from levrt.session import run as run

if _TYPE_CHECKING:
    from levrt import bson as bson

#: The same object, by its other documented name.
ctx = lev


def __getattr__(name: str) -> _Any:
    # Values that few programs name: decimal and re are not loaded for them.
    if name == "bson":
        return _import_module("levrt.bson")
    raise AttributeError(f"module 'levrt' has no attribute {name!r}")
