"""What is said about an exception that an entry did not catch."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

TEXT_MAX = 64 * 1024
TRACEBACK_MAX = 256 * 1024

# The guest's own frames are not the user's business.
_OURS = ("/levrt/guest/", "/lev/boot.py")


def frame(
    error: BaseException, lines: "dict[str, list[tuple[int, str]]]"
) -> "dict[str, Any]":
    """The {fail} frame; `lines` are those of the shipped functions."""
    add_lines(lines)
    error.__traceback__ = without_guest(error.__traceback__)
    cls = type(error)
    return {
        "fail": {
            "type": cls.__qualname__,
            "module": cls.__module__,
            "text": _text(error),
            "traceback": _traceback(error),
            "builtin": _builtin(cls),
        }
    }


def add_lines(lines: "dict[str, list[tuple[int, str]]]") -> None:
    """Shows tracebacks the source: the files are on the host only."""
    import linecache

    for name, blocks in lines.items():
        if name in linecache.cache:
            continue
        text: list[str] = []
        for first, block in sorted(blocks):
            rows = block.splitlines(keepends=True)
            text += ["\n"] * (first - 1 + len(rows) - len(text))
            text[first - 1 : first - 1 + len(rows)] = rows
        size = sum(map(len, text))
        linecache.cache[name] = (size, None, text, name)


def without_guest(tb: "TracebackType | None") -> "TracebackType | None":
    """Drops the frames before the entry; all of them are kept when there is
    nothing else (a payload that does not load)."""
    rest = tb
    while rest is not None and _is_ours(rest.tb_frame.f_code.co_filename):
        rest = rest.tb_next
    return rest if rest is not None else tb


def _is_ours(path: str) -> bool:
    return any(part in path for part in _OURS)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as e:
        text = f"<its str() raised {type(e).__name__}>"
    return bounded(text, TEXT_MAX)


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        text = "".join(traceback.format_exception(error))
    except Exception as e:  # of the user's __str__, __repr__ or __notes__
        text = f"<the traceback cannot be formatted: {type(e).__name__}>"
    return bounded(text, TRACEBACK_MAX)


def _builtin(cls: type) -> "str | None":
    for base in cls.__mro__:
        if base.__module__ == "builtins":
            return base.__name__
    return None


def bounded(text: str, limit: int) -> str:
    """A C string in UTF-8 of at most about `limit` bytes; the middle goes."""
    data = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    if len(data) > limit:
        half = limit // 2
        cut = len(data) - 2 * half
        data = data[:half] + f"\n… {cut} bytes left out …\n".encode() + data[-half:]
    return data.decode("utf-8", "replace")
