"""The exceptions of levrt: one tree below :class:`LevError`."""

TYPE_CHECKING = False  # typing is not loaded for it
if TYPE_CHECKING:
    from levrt._levrt import Document, Task

__all__ = [
    "Conflict",
    "DeadlineExceeded",
    "DocumentTooLarge",
    "EngineError",
    "EngineUnavailable",
    "ImageError",
    "ImageNotFound",
    "LevError",
    "NotFound",
    "OutOfMemory",
    "PullError",
    "QueryError",
    "ReadinessTimeout",
    "RemoteError",
    "StartFailed",
    "StoreError",
    "StoreUnavailable",
    "TaskFailed",
    "UnsupportedOperation",
    "UnsupportedOption",
]


class LevError(Exception):
    """Base class of everything that levrt raises by itself."""


class EngineError(LevError):
    """The container engine refused a request or broke it off.

    ``status`` is the HTTP status of the Engine API where there was an answer,
    else None; ``message`` is the text.
    """

    status: int | None = None

    @property
    def message(self) -> str:
        """The text."""
        return str(self)


class EngineUnavailable(EngineError):
    """No engine answers; the message lists what was tried and why it failed."""


class NotFound(EngineError):
    """The engine does not have the container, network or volume."""


class Conflict(EngineError):
    """A name is taken, or the state does not allow the operation."""


class ImageError(EngineError):
    """Something about an image: its reference, its credentials, its content."""


class ImageNotFound(ImageError):
    """Neither the engine nor the registry has the image."""


class PullError(ImageError):
    """An image could not be fetched."""

    @property
    def kind(self) -> str:
        """``"auth"``, ``"stalled"`` or ``"failed"``."""
        text = str(self)
        if "no progress" in text:
            return "stalled"
        return "auth" if self.status in (401, 403) else "failed"


class UnsupportedOption(EngineError, ValueError):
    """An option that the engine cannot honour, or that levrt does not have yet."""


class TaskFailed(LevError):
    """A run did not come to a good end.

    ``task`` is its :class:`Task` (None when it never started), ``phase`` where it
    failed (``"pull"``, ``"create"``, ``"run"``, …, ``"cancelled"``), ``exit_code``
    and ``signal`` how its main process ended (None where it did not),
    ``oom_killed`` whether that was the kernel for memory, ``log_tail`` its last
    lines, ``document`` what it stored until then, ``hint`` what to try.
    """

    task: "Task | None" = None
    phase: str = ""
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    log_tail: str = ""
    document: "Document | None" = None
    hint: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        if self.hint:
            text += f" ({self.hint})"
        return text + self._details()

    def _details(self) -> str:
        if not self.log_tail or self.log_tail in self.args:
            return ""
        last = self.log_tail.splitlines()[-10:]
        return "\nits last lines:\n  " + "\n  ".join(last)


class StartFailed(TaskFailed):
    """The container or its program could not be started."""


class RemoteError(TaskFailed):
    """The entry raised inside the container.

    ``traceback`` is the guest's, with the user's own files and lines.
    ``remote_type`` is the exception's qualified name. Where that is a builtin,
    ``__cause__`` is an exception of that type.
    """

    traceback: str = ""
    remote_type: str = ""

    def _details(self) -> str:
        # The last lines of the output are the same traceback, shortened.
        return f"\n{self.traceback}" if self.traceback else super()._details()


class OutOfMemory(TaskFailed):
    """The kernel killed the tool for memory."""


class ReadinessTimeout(TaskFailed):
    """A port of ``ports=`` did not open in time."""


class DeadlineExceeded(TaskFailed, TimeoutError):
    """The tool did not end within its ``timeout=``."""


class StoreError(LevError):
    """The document store refused or lost an operation."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or opened."""


class DocumentTooLarge(StoreError):
    """A document would pass 16 MiB."""


# Of MongoDB's error_codes.yml, those that the embedded store gives.
_CODE_NAMES = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    15: "Overflow",
    28: "PathNotViable",
    40: "ConflictingUpdateOperators",
    52: "DollarPrefixedFieldName",
    54: "NotSingleValueField",
    55: "InvalidDBRef",
    56: "EmptyFieldName",
    57: "DottedFieldName",
    66: "ImmutableField",
    73: "InvalidNamespace",
    11000: "DuplicateKey",
    17419: "BSONObjectTooLarge",
}


class QueryError(StoreError):
    """A query, projection or update is wrong; ``code`` is MongoDB's number."""

    code: int = 0

    @property
    def codeName(self) -> str:  # noqa: N802  (MongoDB's own spelling)
        """MongoDB's name of the code; ``Location…`` where it has none."""
        return _CODE_NAMES.get(self.code, f"Location{self.code}")


class UnsupportedOperation(StoreError):
    """The embedded store does not have this part of MongoDB's language."""
