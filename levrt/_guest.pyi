"""BSON inside containers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, final

from typing_extensions import Buffer

@final
class ObjectId:
    """Twelve bytes that name a document: time, process, counter."""

    def __new__(cls, oid: str | bytes | ObjectId | None = None) -> Self: ...
    def __bytes__(self) -> bytes: ...
    def __lt__(self, other: object, /) -> bool: ...
    def __le__(self, other: object, /) -> bool: ...
    def __gt__(self, other: object, /) -> bool: ...
    def __ge__(self, other: object, /) -> bool: ...
    @property
    def binary(self) -> bytes:
        """The twelve bytes."""
    @property
    def generation_time(self) -> datetime:
        """When the id was made: an aware datetime in UTC, in seconds."""
    @classmethod
    def is_valid(cls, oid: object, /) -> bool:
        """Whether ObjectId(oid) would work for this value."""
    @classmethod
    def from_datetime(cls, generation_time: datetime, /) -> Self:
        """The smallest id of that second, to compare others with."""

def encode(document: Mapping[str, Any], /) -> bytes:
    """A dict or Mapping as BSON. What BSON cannot hold raises, and says where."""

def decode(data: Buffer, /) -> dict[str, Any]:
    """The dict of one BSON document. ValueError says at which byte it is none."""
