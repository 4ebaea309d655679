"""Sends the entry's logging records to the workflow.

logging is not imported for it: it takes longer than the rest of a start. A
finder at the head of `sys.meta_path` waits until somebody else imports it.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

    from levrt.guest.channel import Channel


class Watcher:
    """Notices the import of logging and leaves."""

    def __init__(self, channel: "Channel", level: int) -> None:
        self.channel = channel
        self.level = level

    def find_spec(self, name: str, path: object = None, target: object = None) -> "Any":
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec("logging")
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _Loader:
    """Runs the module as its own loader does, and adds the handler."""

    def __init__(self, loader: "Any", watcher: Watcher) -> None:
        self._loader = loader
        self._watcher = watcher

    def create_module(self, spec: "Any") -> "Any":
        return self._loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        install(module, self._watcher.channel, self._watcher.level)


def install(module: "Any", channel: "Channel", level: int) -> None:
    """Adds the handler to the root logger of `module`, which is logging."""
    handler = _handler(module, channel)
    module.root.addHandler(handler)
    module.root.setLevel(level)
    configure = module.basicConfig

    def basicConfig(**kwargs: "Any") -> None:
        # It does nothing when the root logger has a handler: not for ours.
        module.root.removeHandler(handler)
        try:
            configure(**kwargs)
        finally:
            module.root.addHandler(handler)

    basicConfig.__doc__ = configure.__doc__
    module.basicConfig = basicConfig


def _handler(module: "Any", channel: "Channel") -> "logging.Handler":
    from levrt.guest.fail import TEXT_MAX, bounded

    class ChannelHandler(module.Handler):  # type: ignore[misc]
        def emit(self, record: "logging.LogRecord") -> None:
            if channel.busy_here():
                return  # logged by a destructor in the middle of lev.set
            try:
                text = bounded(self.format(record), TEXT_MAX)
                name = bounded(record.name, 1024)
                channel.tell({"log": record.levelno, "name": name, "text": text})
            except Exception:
                self.handleError(record)

    made: logging.Handler = ChannelHandler()
    return made


def watch(channel: "Channel", level: int) -> None:
    if "logging" in sys.modules:
        install(sys.modules["logging"], channel, level)
    else:
        sys.meta_path.insert(0, Watcher(channel, level))
