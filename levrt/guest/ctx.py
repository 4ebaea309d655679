"""``lev`` (and ``ctx``) inside a container."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

    from levrt.guest.channel import Channel


class Context:
    """What the entry stores and reports goes to its run's document.

    Any thread may use it, and processes that were forked; processes that were
    started anew (multiprocessing's "spawn") cannot: they return what they have
    to the entry.
    """

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._reason = "lev.set works inside of an entry only"

    def set(self, data: "Any" = None, *args: "Any", **kwargs: "Any") -> None:
        """Merges top-level keys into the run's document, as ``$set`` does.

        ``lev.set({"a": 1})``, ``lev.set(a=1)`` and ``lev.set("a", 1)`` are the
        same. Returns when it is stored durably. Raises TypeError, ValueError
        or OverflowError for what is no BSON, with the path of the key, and
        StoreError when the store refuses; what was stored before stays.
        """
        document = _document(data, args, kwargs)
        if document:
            self._connected().store(document)

    def update(self, data: "Mapping[str, Any]", /, **kwargs: "Any") -> None:
        """The same as ``lev.set(data, **kwargs)``."""
        self.set(data, **kwargs)

    def progress(self, fraction: float, text: "str | None" = None) -> None:
        """Reports how much is done, from 0.0 to 1.0."""
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
            raise TypeError(
                f"lev.progress: fraction must be a number, not {_type(fraction)}"
            )
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(
                f"lev.progress: fraction must be from 0 to 1, not {fraction!r}"
            )
        if text is not None and not isinstance(text, str):
            raise TypeError(f"lev.progress: text must be a str, not {_type(text)}")
        self._connected().tell({"progress": float(fraction), "text": text})

    def __repr__(self) -> str:
        return "<lev of the container>"

    def __truediv__(self, name: object) -> "NoReturn":
        self._only_in_workflow("lev / name")

    @property
    def doc(self) -> "NoReturn":
        self._only_in_workflow("lev.doc")

    @property
    def coll(self) -> "NoReturn":
        self._only_in_workflow("lev.coll")

    @property
    def job_id(self) -> "NoReturn":
        self._only_in_workflow("lev.job_id")

    def _only_in_workflow(self, what: str) -> "NoReturn":
        raise RuntimeError(
            f"{what} is there in the workflow only; inside of a container, lev.set"
            " stores into the run's document"
        )

    def _connect(self, channel: "Channel") -> None:
        self._channel = channel

    def _disconnect(self, reason: str) -> None:
        self._channel = None
        self._reason = reason

    def _connected(self) -> "Channel":
        if self._channel is None:
            raise RuntimeError(self._reason)
        return self._channel


def _type(value: object) -> str:
    return type(value).__name__


def _document(
    data: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
) -> "dict[str, Any]":
    if isinstance(data, str):
        if len(args) != 1:
            raise TypeError(
                f"lev.set({data!r}, …) takes one value after the key:"
                f" lev.set({data!r}, value)"
            )
        return _checked({data: args[0], **kwargs})
    if args:
        raise TypeError("lev.set takes a mapping, keywords, or a key and its value")
    if data is None:
        return _checked(kwargs)
    if not hasattr(data, "keys") or not hasattr(data, "__getitem__"):
        raise TypeError(
            f"lev.set: data must be a mapping, not {_type(data)};"
            ' a key called data is stored by lev.set({"data": …})'
        )
    return _checked({**data, **kwargs})


def _checked(document: "dict[str, Any]") -> "dict[str, Any]":
    for key in document:
        if not isinstance(key, str):
            raise TypeError(f"lev.set: a key must be str, not {_type(key)}")
        if key.partition(".")[0] in ("_id", "_lev"):
            raise ValueError(f"lev.set: the key {key} is reserved")
        if key == "":
            raise ValueError("lev.set: a key must not be empty")
    return document


lev = Context()
