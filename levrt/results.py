"""What writes to a collection answer, with the attributes of PyMongo's results."""

from dataclasses import dataclass
from typing import Any

__all__ = ["DeleteResult", "InsertManyResult", "InsertOneResult", "UpdateResult"]


@dataclass(frozen=True, slots=True)
class InsertOneResult:
    """*inserted_id*: the ``_id`` of the document, given or made."""

    inserted_id: Any
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class InsertManyResult:
    """*inserted_ids*: the documents' ``_id``, in their order."""

    inserted_ids: list[Any]
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How many matched, how many were changed, and the ``_id`` of an upsert."""

    matched_count: int
    modified_count: int
    upserted_id: Any
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """*deleted_count*: how many are gone."""

    deleted_count: int
    acknowledged: bool = True
