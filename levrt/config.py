"""What levrt is set to, and where each value comes from.

Arguments of the program count most, then environment variables, then
``./levrt.toml``, ``[tool.levrt]`` in ``./pyproject.toml``,
``$XDG_CONFIG_HOME/levrt/config.toml``, then the defaults. All files have the
same keys: those of Config. An empty variable is as good as none.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

__all__ = ["Config", "load"]

_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings; *sources* says for each where it comes from.

    engine: URL of the container engine; None: look for one.
    store: URL of the document store, ``sqlite:PATH`` or ``mongodb://…``.
    registry: where images of tools (``.user.tool``) are, ``host[:port]/path``.
    mirrors: registries that are asked for Docker Hub's images before it, in
        this order, ``[https://|http://]host[:port]``; by the engine ``oci:``
        (a daemon has a setting of its own).
    pull_stall_timeout: seconds without progress after which a pull fails.
    ready_timeout: seconds that services and ports have to come up.
    grace: seconds between the stop signal and the kill.
    """

    engine: str | None
    store: str = field(repr=False)  # may hold a password
    registry: str
    mirrors: tuple[str, ...]
    pull_stall_timeout: float
    ready_timeout: float
    grace: float
    sources: Mapping[str, str]

    def describe(self) -> list[str]:
        """One line for each setting, for logs: passwords are masked."""
        shown = {key: getattr(self, key) for key in self.sources}
        shown["store"] = _masked(self.store)
        if self.engine is not None:
            shown["engine"] = _masked(self.engine)
        return [f"{key}={shown[key]} ({why})" for key, why in self.sources.items()]


def load(**given: Any) -> Config:
    """Read the environment and the files; *given* is what the program says.

    None among *given* is as good as not given. Raises ValueError for a value
    or key that makes no sense, naming the file or variable, the key and what
    is expected; OSError for a file that is there but cannot be read.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in _layers(given):
        for key, value in found.items():
            if key not in sources:
                values[key] = _SETTINGS[key](value, f"{source}: {key}")
                sources[key] = source
    for key, default in _defaults().items():
        values.setdefault(key, default)
        sources.setdefault(key, _DEFAULT)
    if values["store"] is None:
        values["store"] = f"sqlite:{_home('XDG_DATA_HOME', '.local/share')}/lev.db"
    order = [f.name for f in fields(Config) if f.name in values]
    return Config(**values, sources={key: sources[key] for key in order})


_Layer: TypeAlias = tuple[str, Mapping[str, Any]]


def _layers(given: Mapping[str, Any]) -> Iterator[_Layer]:
    """Where values may come from, what counts most first."""
    _refuse_unknown("argument", given)
    yield "argument", {k: v for k, v in given.items() if v is not None}
    for variable, key in _VARIABLES.items():
        value = os.environ.get(variable)
        if value:
            yield variable, {key: _from_text(key, value)}
    yield from _file("levrt.toml")
    yield from _file("pyproject.toml", "tool", "levrt")
    home = _home("XDG_CONFIG_HOME", ".config", missing="")
    if home:
        yield from _file(f"{home}/config.toml")


def _file(path: str, *tables: str) -> Iterator[_Layer]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return
    if tables and tables[-1].encode() not in data:
        return  # a project that does not speak of levrt
    found: Any = _parse(path, data)
    where = path
    for table in tables:
        found = found.get(table, {})
        where = f"{path} [{'.'.join(tables)}]"
        if not isinstance(found, dict):
            raise ValueError(f"{where}: expected a table, not {found!r}")
    _refuse_unknown(where, found)
    yield where, found


def _parse(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # here, since most projects have no file

    try:
        return tomllib.loads(data.decode())
    except ValueError as exc:  # TOMLDecodeError, UnicodeDecodeError
        raise ValueError(f"{path}: no valid TOML: {exc}") from None


def _refuse_unknown(where: str, found: Mapping[str, Any]) -> None:
    for key in found:
        if key not in _SETTINGS:
            import difflib

            near = difflib.get_close_matches(key, _SETTINGS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "known are"
            known = "" if near else f" {', '.join(_SETTINGS)}"
            raise ValueError(f"{where}: unknown key {key!r}; {hint}{known}")


def _from_text(key: str, text: str) -> object:
    """A variable's text as a file would give the value."""
    if _SETTINGS[key] is _mirrors:
        return [word for word in text.replace(",", " ").split() if word]
    if _SETTINGS[key] not in (_seconds, _seconds_or_zero):
        return text
    try:
        return float(text)
    except ValueError:
        return text  # refused with the rest


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or value != value.strip():
        raise ValueError(f"{where}: expected a text, not {value!r}")
    return value


def _store(value: object, where: str) -> str:
    url = _text(value, where)
    if not url.startswith(("sqlite:", "mongodb://", "mongodb+srv://")):
        raise ValueError(
            f"{where}: expected sqlite:PATH, mongodb://… or mongodb+srv://…,"
            f" not {_masked(url)!r}"
        )
    return url


def _registry(value: object, where: str) -> str:
    name = _text(value, where)
    if "://" in name or name.strip("/") != name or " " in name:
        raise ValueError(
            f"{where}: expected host[:port]/path or a user's name, without"
            f" http:// and without / at the ends, not {name!r}"
        )
    return name


def _mirrors(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: expected a list of registries, not {value!r}")
    for mirror in value:
        host = _text(mirror, where).removeprefix("https://").removeprefix("http://")
        if not host or "/" in host or "@" in host or " " in host:
            raise ValueError(
                f"{where}: expected [https://|http://]host[:port], not {mirror!r}"
            )
    return tuple(value)


def _seconds(value: object, where: str) -> float:
    seconds = _seconds_or_zero(value, where)
    if not seconds:
        raise ValueError(f"{where}: expected seconds above 0, not {value!r}")
    return seconds


def _seconds_or_zero(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: expected a number of seconds, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: expected seconds from 0 up, not {value!r}")
    return float(value)


def _home(variable: str, below: str, *, missing: str | None = None) -> str:
    """levrt's folder in a base directory; relative paths do not count there."""
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), below)
    if os.path.isabs(base):
        return f"{base}/levrt"
    if missing is None:
        raise ValueError(f"no home directory is known: set HOME or {variable}")
    return missing


def _masked(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{slashes}{user}{colon and ':***'}{at}{host}"


_SETTINGS: Mapping[str, Callable[[object, str], Any]] = {
    "engine": _text,
    "store": _store,
    "registry": _registry,
    "mirrors": _mirrors,
    "pull_stall_timeout": _seconds,
    "ready_timeout": _seconds,
    "grace": _seconds_or_zero,
}

_VARIABLES = {
    "LEVRT_ENGINE": "engine",
    "LEVRT_STORE": "store",
    "MONGODB_URI": "store",
    "LEVRT_REGISTRY": "registry",
    "LEVRT_MIRRORS": "mirrors",
    "LEVRT_PULL_STALL_TIMEOUT": "pull_stall_timeout",
    "LEVRT_READY_TIMEOUT": "ready_timeout",
    "LEVRT_GRACE": "grace",
}


def _defaults() -> dict[str, Any]:
    return {
        "engine": None,
        "store": None,  # a path below the home directory, found when needed
        "registry": "talentsec",
        "mirrors": (),
        "pull_stall_timeout": 60.0,
        "ready_timeout": 60.0,
        "grace": 10.0,
    }
