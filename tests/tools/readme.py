"""The README's Python blocks, so that they can be run as they stand."""

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).resolve().parents[2] / "README.md"


class Block(NamedTuple):
    name: str  # after the language in the fence, or "line N"
    code: str


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```python *([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1] or f"line {line}", match[2]))
    return found
