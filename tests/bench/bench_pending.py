"""500 runs under way in one process: memory and CPU while all of them wait."""

from measure import HERE, Result, Setting, Target, Worker, median, python

RUNS = 500


def once(setting: Setting, round_: int) -> tuple[dict[str, float], dict[str, float]]:
    socket = setting.scratch / "fake.sock"
    engine = Worker(python(HERE / "fake.py", socket, setting.image, "hold"))
    engine.wait_for("ready")
    client = Worker(
        python(HERE / "pending.py", socket, setting.image),
        XDG_DATA_HOME=str(setting.scratch / f"pending{round_}"),
    )
    try:
        return client.ask(1), client.ask(RUNS)
    finally:
        client.close()
        engine.close()


def bench(setting: Setting) -> Result:
    rounds = [once(setting, i) for i in range(setting.rounds)]

    def each(name: str) -> float:
        return median([(b[name] - a[name]) / RUNS for a, b in rounds])

    def idle(name: str) -> float:
        return median([b[name] for _, b in rounds])

    return Result(
        "Pending runs",
        f"{RUNS} containers that run and say nothing, in one process, against an "
        "engine that runs nothing.",
        setting.rounds,
        ["per run", ""],
        [
            ["memory (PSS), KiB", f"{each('pss'):.0f}"],
            ["memory (RSS), KiB", f"{each('rss'):.0f}"],
            ["threads", f"{each('threads'):.1f}"],
        ],
        [
            Target("memory (RSS) per pending run, KiB, ≤ 100", each("rss"), most=100),
            Target(
                "CPU while all wait, ms per second, ≤ 10", 1000 * idle("cpu"), most=10
            ),
            Target(
                "wake-ups while all wait, per second, ≤ 100", idle("switches"), most=100
            ),
        ],
    )
