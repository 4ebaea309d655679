"""The BSON codec beside PyMongo's C extension, on five shapes of document.

Both take turns within each round; printed are the medians of the rounds and
of their ratios. Run from the checkout: python tests/bench/bench_bson.py
"""

import datetime as dt
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import bson as pymongo

ROUNDS = 15
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


def compare(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> tuple[float, ...]:
    """(call, argument) each: medians, and the median of their ratios."""
    loops = max(1, int(SECONDS / seconds(*theirs, 3)))
    pairs = [(seconds(*ours, loops), seconds(*theirs, loops)) for _ in range(ROUNDS)]
    a, b = (statistics.median(times) for times in zip(*pairs, strict=True))
    return a, b, statistics.median(y / x for x, y in pairs)


def main(name: str = "levrt._guest") -> None:
    """Print a table for the codec of that module."""
    codec = importlib.import_module(name)
    own, foreign = shapes(codec.ObjectId), shapes(pymongo.ObjectId)
    print(f"{'µs per document':24}{name:>16}{'PyMongo':>10}{'faster':>9}")
    for shape in own:
        data = codec.encode(own[shape])
        assert data == pymongo.encode(foreign[shape])
        cases = {
            "encode": ((codec.encode, own[shape]), (pymongo.encode, foreign[shape])),
            "decode": ((codec.decode, data), (pymongo.decode, data)),
        }
        for case, (ours, theirs) in cases.items():
            a, b, ratio = compare(ours, theirs)
            title = f"{shape} {len(data):,} B {case}"
            print(f"{title:24}{a * 1e6:16.1f}{b * 1e6:10.1f}{ratio:8.2f}x")


if __name__ == "__main__":
    main(*sys.argv[1:])
