"""The fake container engine in a process of its own.

usage: fake.py SOCKET IMAGE [hold]

It serves until its input ends. Containers end at once, or, with "hold", when
they are signalled or removed.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "fakes"))

from engine import FakeEngine, Script  # type: ignore[import-not-found]

with FakeEngine(sys.argv[1]) as engine:
    engine.images.add(sys.argv[2])
    engine.script = Script(hold="hold" in sys.argv[3:])
    print("ready", flush=True)
    for _ in sys.stdin:
        # What was asked is kept for tests; here it would only grow.
        engine.requests.clear()
        print(len(engine.containers), flush=True)
