"""The part of MongoDB's language that the embedded store has, for the README.

It is read from the tables of operators in src/store; what is not in a table
there is not in the store. tests/unit/test_language.py compares.

usage: language.py  (rewrites the README's table)
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
STORE = ROOT / "src" / "store"
BEGIN, END = "<!-- language: begin -->\n", "<!-- language: end -->\n"

# what, files, how a row of their tables names its operator
TABLES = [
    ("queries", "predicate.c", r'\{"(\$\w+)",\s*init_\w+\}'),
    ("queries", "match.c", r'strcmp\((?:op|key), "(\$\w+)"\)'),
    ("updates", "update_*.c", r'\.name = "(\$\w+)"'),
    ("stages", "pipeline.c", r'\{"(\$\w+)", lev_stage_\w+\}'),
    ("accumulators", "accum.c", r'\{"(\$\w+)", (?:true|false),'),
    ("expressions", "expr_*.c", r'(?:\.name = |\b[A-Z]+\()"(\$\w+)"'),
]


def operators() -> dict[str, list[str]]:
    """Give the names of each kind, sorted."""
    found: dict[str, set[str]] = {}
    for kind, pattern, row in TABLES:
        for path in STORE.glob(pattern):
            text = path.read_text(encoding="utf-8")
            found.setdefault(kind, set()).update(re.findall(row, text, re.MULTILINE))
    return {kind: sorted(names, key=str.lower) for kind, names in found.items()}


def table() -> str:
    """Write them as Markdown."""
    rows = [
        f"| {kind} | `{' '.join(names)}` |\n" for kind, names in operators().items()
    ]
    return "| | operators |\n|---|---|\n" + "".join(rows)


def in_readme() -> str:
    """Give the README's table as it stands there."""
    text = README.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Put the table into the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(before + BEGIN + table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
