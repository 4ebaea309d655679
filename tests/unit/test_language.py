"""The README says which part of MongoDB's language the embedded store has."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import language


def test_readme_has_the_tables_of_the_code() -> None:
    assert language.in_readme() == language.table(), "run tests/tools/language.py"


def test_every_kind_of_operator_is_found() -> None:
    found = language.operators()
    assert {"$eq", "$elemMatch", "$bitsAnySet", "$expr", "$regex"} <= set(
        found["queries"]
    )
    assert {"$set", "$rename", "$bit", "$pullAll"} <= set(found["updates"])
    assert {"$match", "$facet", "$lookup", "$sortByCount"} <= set(found["stages"])
    assert {"$sum", "$mergeObjects", "$stdDevSamp"} <= set(found["accumulators"])
    assert {"$add", "$year", "$toInt", "$trim", "$replaceAll", "$let"} <= set(
        found["expressions"]
    )
