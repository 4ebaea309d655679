"""The benchmarks by name; tests/bench/run prepares what they need."""

import argparse
import importlib
import sys
from pathlib import Path

from measure import TABLES, Setting, keep

NAMES = [
    "import",
    "bson",
    "closure",
    "memory",
    "pending",
    "store",
    "runs",
    "oci",
    "many",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--image", default="levrt-test/busybox:1")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--registry")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    args = parser.parse_args()
    setting = Setting(
        args.build,
        args.socket,
        args.image,
        args.store,
        args.registry,
        args.scratch,
        args.rounds,
    )
    missed = 0
    for name in args.names:
        result = importlib.import_module(f"bench_{name}").bench(setting)
        keep(name, result)
        print(f"{name}: {result.title}")
        for row in [result.columns, *result.rows]:
            print("  " + "".join(f"{cell!s:>22}" for cell in row))
        for target in result.targets:
            missed += not target.met
            print(f"  {'met   ' if target.met else 'MISSED'} {target.text}: ", end="")
            print(f"{target.figure:.3g}")
        for note in result.notes:
            print(f"  {note}")
        sys.stdout.flush()
    print(f"kept in {TABLES}")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
