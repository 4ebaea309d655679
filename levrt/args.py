"""``cli``: Python arguments as the words of a command line."""

from collections.abc import Iterable, Mapping, Set as AbstractSet

__all__ = ["cli"]

# Their str() is not what any program expects as one argument.
_NO_WORD = (bytes, bytearray, memoryview, Mapping, AbstractSet, list, tuple)


def cli(*args: object, **kwargs: object) -> list[str]:
    """Return positional values, then keywords as options, all of them str.

    >>> cli("scan", "10.0.0.1", v=True, port=[80, 443], min_rate=9, q=None)
    ['scan', '10.0.0.1', '-v', '--port', '80', '--port', '443', '--min-rate', '9']

    A name of one letter gives ``-x``, a longer one ``--long-name``, with ``-``
    for each ``_``. True gives the option alone; False and None give nothing; a
    list or tuple repeats the option for each of its items.

    Raises TypeError, which names the argument, for values that are no word of
    a command line: bytes, mappings, sets, lists among the positional values or
    inside of a list, and None among the positional values.
    """
    words = [_word(value, f"argument {i}") for i, value in enumerate(args, 1)]
    for name, value in kwargs.items():
        words += _option(name, value)
    return words


def _option(name: str, value: object) -> Iterable[str]:
    if not name:
        raise ValueError("cli: the name of an option is empty")
    option = ("-" if len(name) == 1 else "--") + name.replace("_", "-")
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if item is None or item is False:
            continue
        yield option
        if item is not True:
            yield _word(item, name)


def _word(value: object, name: str) -> str:
    if value is None or isinstance(value, _NO_WORD):
        raise TypeError(f"cli: {name}: {_remedy(value)} (got {type(value).__name__})")
    return str(value)


def _remedy(value: object) -> str:
    if value is None:
        return "None is no argument: leave it out"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes are no argument: decode them, os.fsdecode() for file names"
    if isinstance(value, (list, tuple)):
        return "a list is no single argument: unpack it with *"
    return "a collection is no argument: name what of it is meant"
