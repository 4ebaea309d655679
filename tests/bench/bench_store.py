"""Findings stored by many guests at once, beside SQLite and libbson alone."""

import json
import subprocess
import time

from measure import HERE, Result, Setting, Target, Worker, median, python, ratio

GUESTS = 16
SIZE = 20344  # of bench_bson's finding, encoded
WINDOW = 2.0  # seconds, of one turn
STARTING = 30.0  # seconds that the guests have to come up


def bench(setting: Setting) -> Result:
    count = setting.rounds + 1  # the first one warms up
    begin = time.monotonic() + STARTING
    argv = [setting.socket, setting.image, GUESTS, SIZE, WINDOW, begin, count]
    client = subprocess.Popen(
        python(HERE / "guests.py", *map(str, argv)),
        stdout=subprocess.PIPE,
        env=setting.env(XDG_DATA_HOME=str(setting.scratch / "store")),
        text=True,
    )
    floor = Worker(
        [
            setting.build / "bench_floor",
            setting.scratch / "floor.db",
            str(GUESTS),
            str(SIZE),
        ]
    )
    theirs = []
    for i in range(count):
        time.sleep(max(0.0, begin + (2 * i + 1) * WINDOW - time.monotonic()))
        answer = floor.ask(0.9 * WINDOW)
        theirs.append(answer["stored"] / answer["seconds"])
    floor.close()
    output, _ = client.communicate()
    if client.returncode != 0:
        raise RuntimeError(f"guests.py ended with {client.returncode}")
    ours = [stored / WINDOW for stored in json.loads(output)]
    ours, theirs = ours[1:], theirs[1:]
    return Result(
        "Findings stored by 16 guests at once",
        f"A structured finding of {SIZE / 1000:.0f} KB, from `lev.set` in a container "
        "to its acknowledgement, each guest its own document again and again; beside "
        f"libbson and SQLite alone, in one process with {GUESTS} threads and one that "
        "commits what is queued. Both are on disk (`synchronous=FULL`) when they "
        f"return. In turns of {WINDOW:.0f} s.",
        setting.rounds,
        ["", "findings/s"],
        [
            ["levrt", f"{median(ours):,.0f}"],
            ["SQLite + libbson", f"{median(theirs):,.0f}"],
        ],
        [
            Target(
                "levrt / SQLite + libbson, ≥ 0.77", ratio(ours, theirs), least=1 / 1.3
            )
        ],
    )
