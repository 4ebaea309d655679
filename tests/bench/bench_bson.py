"""The BSON codec beside PyMongo's C extension, on five shapes of document."""

import datetime as dt
import importlib
import math
import time
from collections.abc import Callable
from typing import Any

from measure import Result, Setting, Target, median

import bson as pymongo

TURNS = 3  # of each, per round
SECONDS = 0.02  # per measurement


def finding() -> dict[str, Any]:
    """What nmap finds on a host with many ports: about 20 KB."""
    ports = [
        {
            "port": 1000 + n,
            "protocol": "tcp",
            "state": {"state": "open", "reason": "syn-ack", "ttl": 64},
            "service": {
                "name": "http",
                "product": "nginx",
                "version": f"1.{n}.0",
                "conf": 10,
                "cpe": [f"cpe:/a:igor_sysoev:nginx:1.{n}.0"],
            },
            "scripts": [{"id": "http-title", "output": f"Site number {n}"}],
        }
        for n in range(70)
    ]
    return {
        "target": "192.168.17.5",
        "hostnames": [{"name": "host.example.org", "type": "PTR"}],
        "times": {"srtt": 1432, "rttvar": 512, "to": 100000},
        "ports": ports,
        "up": True,
    }


def shapes(oid: type) -> dict[str, dict[str, Any]]:
    """The documents, with the ObjectIds of a codec."""
    when = dt.datetime(2024, 2, 29, 12, 30, 15, 123000, tzinfo=dt.UTC)
    flat: dict[str, Any] = {}
    for n in range(10):
        flat |= {f"name{n}": f"value {n}", f"count{n}": n * 1000, f"rate{n}": n / 7}
    return {
        "finding": finding(),
        "flat": flat,
        "ints": {"values": [n * 7919 for n in range(5000)]},
        "strings": {"values": [f"host-{n}.example.org" for n in range(2000)]},
        "mixed": {
            "rows": [
                {"_id": oid(bytes([n] * 12)), "at": when, "raw": b"\0\1" * 20, "n": n}
                for n in range(100)
            ]
        },
    }


def seconds(call: Callable[[Any], object], arg: object, loops: int) -> float:
    """Per call."""
    start = time.perf_counter()
    for _ in range(loops):
        call(arg)
    return (time.perf_counter() - start) / loops


def compare(
    ours: tuple[Any, Any], theirs: tuple[Any, Any], rounds: int
) -> tuple[float, ...]:
    """(call, argument) each: medians, and the median of their ratios."""
    loops = max(1, int(SECONDS / seconds(*theirs, 3)))
    pairs = [
        (seconds(*ours, loops), seconds(*theirs, loops)) for _ in range(rounds * TURNS)
    ]
    a, b = (median(times) for times in zip(*pairs, strict=True))
    return a, b, median([y / x for x, y in pairs])


def bench(setting: Setting) -> Result:
    codec = importlib.import_module("levrt._guest")  # levrt._levrt has the same
    own, foreign = shapes(codec.ObjectId), shapes(pymongo.ObjectId)
    rows, least = [], math.inf
    for shape in own:
        data = codec.encode(own[shape])
        assert data == pymongo.encode(foreign[shape])
        cases = {
            "encode": ((codec.encode, own[shape]), (pymongo.encode, foreign[shape])),
            "decode": ((codec.decode, data), (pymongo.decode, data)),
        }
        for case, (ours, theirs) in cases.items():
            a, b, ratio = compare(ours, theirs, setting.rounds)
            title = f"{shape}, {len(data):,} B, {case}"
            figures = [f"{a * 1e6:.1f}", f"{b * 1e6:.1f}", f"{ratio:.2f}"]
            rows.append([title, *figures])
            least = min(least, ratio)
    return Result(
        "BSON",
        "The codec of the extension and of guests beside PyMongo's C extension, with "
        "the same bytes from both.",
        setting.rounds * TURNS,
        ["document", "levrt, µs", "PyMongo, µs", "times faster"],
        rows,
        [Target("times faster, the least of all, ≥ 1", least, least=1.0)],
    )
