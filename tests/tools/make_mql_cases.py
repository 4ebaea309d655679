"""Write tests/data/mql-more.jsonl: cases that the recorded answers lack.

Decimals are checked against Python's decimal module, time zones and weeks
against zoneinfo and datetime, all of them chosen at random from a fixed seed;
the rest is written down here, as MongoDB's manual has it.

usage: make_mql_cases.py > tests/data/mql-more.jsonl
"""

import datetime
import decimal
import json
import random
import zoneinfo
from typing import Any

RNG = random.Random(20260)
CONTEXT = decimal.Context(
    prec=34,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-6143,
    Emax=6144,
    clamp=1,
    traps=[],
)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ZONES = [
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Auckland",
    "UTC",
]

Value = Any


def integer(n: int) -> Value:
    """Give an int32 or int64, by its size."""
    kind = "$numberInt" if -(2**31) <= n < 2**31 else "$numberLong"
    return {kind: str(n)}


def long(n: int) -> Value:
    """Give an int64."""
    return {"$numberLong": str(n)}


def date(ms: int) -> Value:
    """Give a date."""
    return {"$date": long(ms)}


def dec(d: decimal.Decimal | str) -> Value:
    """Give a Decimal128."""
    text = str(d).replace("sNaN", "NaN").replace("-NaN", "NaN")
    return {"$numberDecimal": text}


def plain(value: Value) -> Value:
    """Write the numbers of a value of Python's as Extended JSON."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return {"$numberDouble": repr(value)}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if len(value) == 1 and next(iter(value)) in (
        "$numberInt",
        "$numberLong",
        "$numberDecimal",
        "$numberDouble",
        "$date",
        "$regularExpression",
        "$binary",
        "$timestamp",
    ):
        return value
    return {k: plain(v) for k, v in value.items()}


SERIAL: dict[str, int] = {}


def write(topic: str, kind: str, why: str, **fields: Value) -> None:
    """Print one case."""
    SERIAL[topic] = SERIAL.get(topic, 0) + 1
    case = {"id": f"more-{topic}-{SERIAL[topic]:04}", "kind": kind, "topic": topic}
    case |= {k: plain(v) for k, v in fields.items()}
    case |= {"by": "manual", "why": why}
    print(json.dumps(case, ensure_ascii=False))


def expression(topic: str, why: str, expr: Value, result: Value) -> None:
    """Print the case of one expression, over the document {_id: 1}."""
    write(
        topic,
        "aggregate",
        why,
        docs=[{"_id": 1}],
        pipeline=[{"$project": {"_id": 0, "r": expr}}],
        result=result if "error" in result else [result],
    )


def some_decimal() -> decimal.Decimal:
    """Choose one: often short, sometimes long, seldom at the format's ends."""
    digits = RNG.choice([1, 2, 5, 17, 33, 34])
    coefficient = RNG.randrange(10**digits)
    exponent = RNG.choice([0, 0, -1, -2, -10, 3, -40, 40, RNG.randrange(-6176, 6112)])
    sign = RNG.choice("+-")
    return CONTEXT.create_decimal(f"{sign}{coefficient}E{exponent}")


def decimals() -> None:
    """Sums, products, quotients, remainders and roots."""
    why = "reference/operator/aggregation-arithmetic; IEEE 754-2008"
    for _ in range(80):
        a, b = some_decimal(), some_decimal()
        for name, made in (
            ("$add", CONTEXT.add(a, b)),
            ("$subtract", CONTEXT.subtract(a, b)),
            ("$multiply", CONTEXT.multiply(a, b)),
        ):
            if name == "$multiply":
                made = CONTEXT.multiply(CONTEXT.multiply(decimal.Decimal(1), a), b)
            if made.is_zero() and name != "$multiply":
                continue  # 0 + -0: the sign is the addition's own matter
            expression("decimal", why, {name: [dec(a), dec(b)]}, {"r": dec(made)})
        if not b.is_zero():
            quotient = CONTEXT.divide(a, b)
            expression(
                "decimal", why, {"$divide": [dec(a), dec(b)]}, {"r": dec(quotient)}
            )
            rest = CONTEXT.remainder(a, b)
            if not rest.is_nan():
                expression("decimal", why, {"$mod": [dec(a), dec(b)]}, {"r": dec(rest)})
        root = abs(a)
        expression("decimal", why, {"$sqrt": dec(root)}, {"r": dec(CONTEXT.sqrt(root))})


def offset_of(local: datetime.datetime) -> int:
    """Tell how far a zone is from UTC, in minutes."""
    offset = local.utcoffset()
    assert offset is not None
    return int(offset.total_seconds() // 60)


def zones() -> None:
    """Parts of dates in many zones, before and after zone files end."""
    why = "reference/operator/aggregation/dateToString"
    for _ in range(120):
        name = RNG.choice(ZONES)
        year = RNG.choice([1975, 1999, 2007, 2021, 2024, 2036, 2040, 2099])
        start = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
        moment = start + datetime.timedelta(minutes=RNG.randrange(527_000))
        local = moment.astimezone(zoneinfo.ZoneInfo(name))
        ms = round((moment - EPOCH).total_seconds() * 1000)
        minutes = offset_of(local)
        sign, size = ("-" if minutes < 0 else "+"), abs(minutes)
        text = (
            local.strftime("%Y-%m-%d %H:%M ") + f"{sign}{size // 60:02}{size % 60:02}"
        )
        expression(
            "zone",
            why,
            {
                "$dateToString": {
                    "date": date(ms),
                    "format": "%Y-%m-%d %H:%M %z",
                    "timezone": name,
                }
            },
            {"r": text},
        )


def weeks() -> None:
    """Weeks of ISO 8601 and from Sundays, around the ends of years."""
    why = "reference/operator/aggregation/isoWeek"
    for _ in range(40):
        day = datetime.date(RNG.randrange(1950, 2060), 1, 1)
        day += datetime.timedelta(days=RNG.randrange(-6, 7))
        moment = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
        ms = round((moment - EPOCH).total_seconds() * 1000)
        year, week, weekday = day.isocalendar()
        text = f"{year:04}-{week:02}-{weekday} {day.strftime('%U %j')}"
        expression(
            "week",
            why,
            {"$dateToString": {"date": date(ms), "format": "%G-%V-%u %U %j"}},
            {"r": text},
        )
        first = RNG.choice(["sunday", "mon", "Thursday"])
        index = {"sunday": 6, "mon": 0, "Thursday": 3}[first]
        back = datetime.timedelta(days=(day.weekday() - index) % 7)
        began = round((moment - back - EPOCH).total_seconds() * 1000)
        expression(
            "week",
            "reference/operator/aggregation/dateTrunc",
            {
                "$dateTrunc": {
                    "date": date(ms + 12_345),
                    "unit": "week",
                    "startOfWeek": first,
                }
            },
            {"r": date(began)},
        )


def error(code: int) -> Value:
    """Say that the call fails."""
    return {"error": {"code": code}}


def values() -> None:
    """Values of rare types on their way through expressions and stages."""
    regex = {"$regularExpression": {"pattern": "a", "options": "i"}}
    binary = {"$binary": {"base64": "AQID", "subType": "05"}}
    why = "reference/operator/aggregation"
    expression(
        "values",
        why,
        {
            "$reduce": {
                "input": [1, 2],
                "initialValue": None,
                "in": {
                    "$arrayElemAt": [{"$concatArrays": [[{"$literal": regex}], [1]]}, 0]
                },
            }
        },
        {"r": regex},
    )
    expression(
        "values",
        why,
        {
            "$reduce": {
                "input": {"$range": [0, 5]},
                "initialValue": [],
                "in": {"$concatArrays": ["$$value", ["$$this", {"$literal": binary}]]},
            }
        },
        {"r": [v for n in range(5) for v in (n, binary)]},
    )
    write(
        "values",
        "aggregate",
        why,
        docs=[{"_id": 1, "k": regex}, {"_id": 2, "k": binary}, {"_id": 3, "k": regex}],
        pipeline=[{"$group": {"_id": "$k", "n": {"$sum": 1}}}],
        result=[{"_id": regex, "n": 2}, {"_id": binary, "n": 1}],
    )
    write(
        "values",
        "aggregate",
        why,
        docs=[{"_id": 1, "v": [1, 2.0, long(3), dec("4")]}],
        pipeline=[{"$project": {"_id": 0, "r": {"$sum": "$v"}, "m": {"$max": "$v"}}}],
        result=[{"r": dec("10.00000000000000"), "m": dec("4")}],
    )
    write(
        "values",
        "aggregate",
        "reference/operator/aggregation/sum",
        docs=[{"_id": 1, "v": long(2**63 - 1)}, {"_id": 2, "v": 1}],
        pipeline=[{"$group": {"_id": None, "r": {"$sum": "$v"}}}],
        result=[{"_id": None, "r": 9.223372036854775807e18}],
    )


def stages() -> None:
    """What stages do at their edges."""
    docs = [{"_id": n, "v": n % 3} for n in range(6)]
    why = "reference/operator/aggregation/sort; limit; skip"
    write(
        "stages",
        "aggregate",
        why,
        docs=docs,
        pipeline=[{"$sort": {"v": -1, "_id": -1}}, {"$skip": 1}, {"$limit": 2}],
        result=[{"_id": 2, "v": 2}, {"_id": 4, "v": 1}],
    )
    write(
        "stages",
        "aggregate",
        why,
        docs=docs,
        pipeline=[{"$limit": 3}, {"$skip": 1}, {"$match": {"v": 2}}],
        result=[{"_id": 2, "v": 2}],
    )
    write(
        "stages",
        "aggregate",
        why,
        docs=docs,
        pipeline=[{"$match": {"v": 1}}, {"$match": {"_id": {"$gt": 2}}}],
        result=[{"_id": 4, "v": 1}],
    )
    write(
        "stages",
        "aggregate",
        "reference/operator/aggregation/facet",
        docs=docs,
        pipeline=[
            {
                "$facet": {
                    "a": [{"$sample": {"size": 6}}, {"$count": "n"}],
                    "b": [{"$skip": 9}],
                }
            },
            {"$project": {"a": {"$first": "$a.n"}, "b": {"$size": "$b"}}},
        ],
        result=[{"a": 6, "b": 0}],
    )
    write(
        "stages",
        "aggregate",
        "reference/operator/aggregation/lookup",
        docs=[{"_id": 1, "k": [1, 2]}, {"_id": 2}],
        others={
            "o": [{"_id": 7, "f": [2, 1]}, {"_id": 8, "f": None}, {"_id": 9, "f": 2}]
        },
        pipeline=[
            {
                "$lookup": {
                    "from": "o",
                    "localField": "k",
                    "foreignField": "f",
                    "as": "j",
                }
            },
            {"$project": {"j": "$j._id"}},
        ],
        result=[{"_id": 1, "j": [7, 9]}, {"_id": 2, "j": [8]}],
    )


def updates() -> None:
    """Updates of arrays that several paths lead to."""
    docs = [{"_id": 1, "a": [{"x": 1, "y": 1}, {"x": 2, "y": 2}]}]
    why = "reference/operator/update/positional-filtered"
    write(
        "update",
        "update",
        why,
        docs=docs,
        query={"_id": 1},
        update={"$inc": {"a.$[e].x": 10}, "$set": {"a.$[f].y": 0}},
        array_filters=[{"e.x": {"$gte": 1}}, {"f.y": 2}],
        result={
            "docs": [{"_id": 1, "a": [{"x": 11, "y": 1}, {"x": 12, "y": 0}]}],
            "matched": 1,
            "modified": 1,
            "upserted": 0,
        },
    )
    write(
        "update",
        "update",
        why,
        docs=docs,
        query={"_id": 1},
        update={"$inc": {"a.$[e].x": 10, "a.$[].x": 1}},
        array_filters=[{"e.y": 2}],
        result=error(40),
    )
    write(
        "update",
        "update",
        why,
        docs=docs,
        query={"_id": 1},
        update={"$set": {"a.$[].x": 0, "a.0.y": 5}},
        result=error(40),
    )
    write(
        "update",
        "update",
        "reference/operator/update/rename",
        docs=[{"_id": 1, "a": {"b": 1, "c": 2}}],
        query={"_id": 1},
        update={"$rename": {"a.b": "x.y"}, "$inc": {"a.c": 1}},
        result={
            "docs": [{"_id": 1, "a": {"c": 3}, "x": {"y": 1}}],
            "matched": 1,
            "modified": 1,
            "upserted": 0,
        },
    )


def bad() -> None:
    """Words that are none, wrong operands, and what outgrows its bounds."""
    why = "reference/operator/aggregation"
    for expr, code in (
        ({"$map": {"input": [1], "as": "E", "in": 1}}, 9),
        ({"$let": {"vars": [1], "in": 1}}, 10065),
        ({"$dateTrunc": {"date": date(0), "unit": 5}}, 5439013),
        ({"$hour": {"date": date(0), "timezone": 5}}, 40517),
        ({"$hour": {"date": date(0), "timezone": "../../etc/passwd"}}, 40485),
        ({"$hour": {"date": date(0), "timezone": "/UTC"}}, 40485),
        ({"$range": [0, 1_000_000_000]}, 10334),
        (
            {
                "$reduce": {
                    "input": {"$range": [0, 40]},
                    "initialValue": "x",
                    "in": {"$concat": ["$$value", "$$value"]},
                }
            },
            10334,
        ),
        (
            {
                "$replaceAll": {
                    "input": "x" * 9000,
                    "find": "x",
                    "replacement": "y" * 9000,
                }
            },
            10334,
        ),
    ):
        expression("bad", why, expr, error(code))
    write(
        "bad",
        "aggregate",
        "reference/operator/aggregation/bucket",
        docs=[{"_id": 1, "v": 1}],
        pipeline=[
            {
                "$bucket": {
                    "groupBy": "$v",
                    "boundaries": [0, 9],
                    "output": {"_id": {"$sum": 1}},
                }
            }
        ],
        result=error(15948),
    )


def main() -> None:
    """Print all cases."""
    decimals()
    zones()
    weeks()
    values()
    stages()
    updates()
    bad()


if __name__ == "__main__":
    main()
