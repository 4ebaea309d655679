"""What ``Cr(files=…)`` puts into a container."""

import os
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

__all__ = ["Digest", "File"]

_HEX = frozenset(string.hexdigits)


@dataclass(frozen=True, slots=True)
class Digest:
    """Names an artifact that levrt keeps, by the SHA-256 of its content.

    *sha256* is 64 hexadecimal digits, with or without the ``sha256:`` that
    digests are written with elsewhere; the attribute has the digits alone, in
    lower case.
    """

    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str):
            raise TypeError(
                f"Digest: sha256 must be a str, not {type(self.sha256).__name__}"
            )
        digits = self.sha256.removeprefix("sha256:")
        if len(digits) != 64 or not _HEX.issuperset(digits):
            raise ValueError(
                f"Digest: sha256 must be 64 hexadecimal digits, not {self.sha256!r}"
            )
        object.__setattr__(self, "sha256", digits.lower())

    def __str__(self) -> str:
        return f"sha256:{self.sha256}"


# A type for annotations and isinstance(): content (bytes, or str as UTF-8), a
# local file or directory, or an artifact. isinstance() takes no os.PathLike[str].
if TYPE_CHECKING:
    from typing import TypeAlias

    File: TypeAlias = bytes | str | os.PathLike[str] | Digest
else:
    File = bytes | str | os.PathLike | Digest
