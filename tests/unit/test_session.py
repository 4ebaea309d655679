"""Jobs: levrt.run, the implicit one of a loop, and what their ends wait for."""

import asyncio
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from loops import writes_blocked

import levrt
from engine import Script
from levrt import Cr, Document, QueryError, StoreError, lev

REMOVES = "DELETE /containers/*"


def stored(home, coll):
    """What is in the store, by a session of its own."""

    async def main():
        with lev / coll:
            return await lev.coll.find().to_list()

    return [{k: v for k, v in doc.items() if k != "_id"} for doc in levrt.run(main())]


# ---- run ----


def test_result_of_main(home):
    async def main():
        return 42

    assert levrt.run(main()) == 42


def test_a_cr_is_a_main(engine):
    assert isinstance(levrt.run(Cr("img")), Document)


def test_an_op_is_a_main(engine):
    assert isinstance(levrt.run(Cr("img").done()), Document)


@pytest.mark.parametrize("wrong", [None, 5, "main", lambda: None, [1]])
def test_not_awaitable(wrong):
    with pytest.raises(TypeError, match=r"run\(\) takes a coroutine or an awaitable"):
        levrt.run(wrong)


def test_a_function_that_was_not_called(home):
    async def main():
        pass

    with pytest.raises(TypeError, match="not function"):
        levrt.run(main)


def test_inside_of_a_loop(home):
    async def inner():
        raise AssertionError("it must not run")

    async def main():
        with pytest.raises(RuntimeError, match="cannot be called from a running"):
            levrt.run(inner())

    asyncio.run(main())


def test_wrong_settings_leave_no_coroutine_behind(home, monkeypatch):
    async def main():
        raise AssertionError("it must not run")

    monkeypatch.setenv("LEVRT_GRACE", "long")
    with pytest.raises(ValueError, match="LEVRT_GRACE"):
        levrt.run(main())
    monkeypatch.delenv("LEVRT_GRACE")
    with pytest.raises(ValueError, match="sqlite:PATH"):
        levrt.run(main(), db="postgres://x")
    with pytest.raises(TypeError):
        levrt.run(Cr("img"), "sqlite:x")


def test_db(home):
    async def main():
        await lev.set(a=1)

    levrt.run(main(), db=f"sqlite:{home}/other.db")
    assert (home / "other.db").exists()
    assert not (home / "data").exists()


def test_store_that_is_no_database(home):
    (home / "bad.db").write_bytes(b"this is no database at all, " * 100)

    async def main():
        await lev.set(a=1)

    with pytest.raises(StoreError, match=r"bad\.db"):
        levrt.run(main(), db=f"sqlite:{home}/bad.db")


def test_it_logs_the_job(home, caplog):
    async def workflow():
        return lev.job_id

    with caplog.at_level(logging.INFO, "lev"):
        job = levrt.run(workflow())
    name = re.escape(os.path.splitext(os.path.basename(sys.argv[0]))[0])
    lines = [r.message for r in caplog.records if r.name == "lev"]
    assert re.fullmatch(rf"job: ({name}|__main__|main) workflow {job}", lines[0])


def test_ctrl_c_is_ours_only_meanwhile(home):
    before = signal.getsignal(signal.SIGINT)

    async def main():
        return signal.getsignal(signal.SIGINT)

    assert levrt.run(main()) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_programs_own_handler_of_ctrl_c_stays(home):
    before = signal.signal(signal.SIGINT, own := lambda *args: None)
    try:

        async def main():
            return signal.getsignal(signal.SIGINT)

        assert levrt.run(main()) is own
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("error", [None, ValueError("of the workflow")])
def test_ctrl_c_counts_whatever_main_makes_of_it(home, error):
    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            return "all the same"

    with pytest.raises(KeyboardInterrupt) as caught:
        levrt.run(main())
    assert caught.value.__cause__ is error


async def test_the_records_are_not_to_be_written(home):
    with lev / "lev.runs":
        with pytest.raises(ValueError, match=r"lev\.runs is levrt's own"):
            await levrt.Cr("any/image")


def test_ctrl_c_twice_breaks_what_blocks_the_loop(engine):
    engine.script = Script(hold=True)
    reached = []

    async def main():
        await Cr("img").start()
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the loop has not heard of it")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("nor of the second")

    with pytest.raises(KeyboardInterrupt):
        levrt.run(main())
    assert reached == ["the loop has not heard of it"]
    assert not engine.containers and not engine.networks


def test_a_job_with_a_long_name(engine, monkeypatch):
    """Labels are bounded; a cut one is text still."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", f"/{'日' * 60}.py")
    assert levrt.run(Cr("img").done()).run.exit_code == 0


def test_the_record_of_a_run_that_is_killed(engine):
    """A second cancel hurries the containers, not the store."""
    engine.script = Script(hold=True)

    async def main():
        waiting = asyncio.ensure_future((await Cr("img").start()).done())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    levrt.run(main())
    (record,) = stored(None, "lev.runs")
    assert record["phase"] == "run"


def test_words_that_are_cut_stay_in_the_record(engine):
    words = "日" * 300
    engine.fault("POST /containers/*/start", status=500, message=words, times=1)
    with pytest.raises(levrt.LevError):
        levrt.run(Cr("img").done())
    (record,) = stored(None, "lev.runs")
    assert words[:100] in record["error"]


def test_a_namespace_that_no_store_takes(engine):
    """Before the run: afterwards its findings would be lost."""

    async def main():
        with lev / ("日" * 80) / "x":
            with pytest.raises(ValueError, match="has 256 bytes.* at most 255"):
                await Cr("img", "team/tool@1.0").done()
            assert (await Cr("img", "team/too@1.0").done()).run.exit_code == 0

    levrt.run(main())
    assert engine.count("POST /containers/create") == 1


def rows(home):
    db = sqlite3.connect(home / "data" / "levrt" / "lev.db")
    with db:
        tables = db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name"
            " NOT IN ('meta', 'collections')"
        ).fetchall()
        found = sum(
            db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in tables
        )
    db.close()
    return found


def test_an_exception_of_main(home):
    async def main():
        lev.set(a=1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        levrt.run(main())
    assert rows(home) == 1


# ---- what the end waits for ----


def test_runs_that_nobody_awaits_are_stopped(engine, caplog):
    engine.script = Script(hold=True)

    async def main():
        return [await Cr("img").start() for _ in range(3)]

    tasks = levrt.run(main())
    assert not engine.containers and not engine.networks
    assert engine.count(REMOVES) == 3
    assert "the session ends: 3 runs are stopped" in caplog.text

    async def later():
        return await asyncio.gather(*tasks, return_exceptions=True)

    for outcome in levrt.run(later()):
        assert isinstance(outcome, levrt.TaskFailed)


def test_writes_are_stored_in_their_order(home):
    async def main():
        with lev / "a":
            for n in range(300):
                lev.set({"n": n, f"k{n % 7}": n})

    levrt.run(main())
    (doc,) = stored(home, "a")
    assert doc == {"n": 299, **{f"k{n % 7}": n for n in range(293, 300)}}


def test_an_acknowledgement_is_of_what_came_before_too(run):
    async def main():
        for n in range(50):
            last = lev.set({f"k{n}": n})
        await last
        return await lev.doc.get(projection={"k0": 1, "k49": 1})

    assert run(main()) == {"k0": 0, "k49": 49}


def test_reads_see_the_writes_before_them(run):
    async def main():
        for n in range(30):
            lev.set(n=n)
            assert await lev.doc.get() == {"n": n}
            lev.doc.set(n=-n).close()  # never begun, never stored

    run(main())


def failing():
    """A write that the store refuses: `a` is no object."""
    lev.set(a=1)
    op = lev.set({"a.b": 1})
    for n in range(200):
        lev.set(c=n)
    return op


def test_a_failing_write_surfaces_at_the_end(home, caplog):
    async def main():
        with lev / "x":
            failing()

    with pytest.raises(QueryError) as caught:
        levrt.run(main())
    assert caught.value.code == 28
    assert caught.value.codeName == "PathNotViable"
    assert "lev.set of 'a.b' in x: " in caplog.text
    assert stored(home, "x") == [{"a": 1, "c": 199}]


def test_a_failing_write_surfaces_where_it_is_awaited(home):
    async def main():
        op = failing()
        with pytest.raises(QueryError):
            await op
        return "fine"

    assert levrt.run(main()) == "fine"


def test_a_failing_write_does_not_hide_what_main_raised(home):
    async def main():
        failing()
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        levrt.run(main())
    (note,) = caught.value.__notes__
    assert note.startswith("besides, lev.set failed: ")


def test_a_failing_write_of_an_implicit_job_is_reported(home, caplog):
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: seen.append(context))
        failing()

    asyncio.run(main())
    assert [type(c["exception"]) for c in seen] == [QueryError]


def test_a_write_that_another_task_awaits_is_waited_for(home):
    async def main():
        async def background(op):
            await op

        op = lev.set(a=1)
        task = asyncio.create_task(background(op))
        await asyncio.sleep(0)
        return task

    task = levrt.run(main())
    assert task.done() and not task.cancelled()
    assert rows(home) == 1


def test_a_blocked_write_is_waited_for(home):
    """Another process holds the database until the job is at its end."""

    async def prepare():
        await lev.set(a=0)

    async def main():
        loop = asyncio.get_running_loop()
        lock = writes_blocked(home)
        lock.__enter__()
        lev.set(a=1)
        # Runs when main() has returned and the job waits for its writes.
        loop.call_soon(lock.__exit__, None, None, None)
        return lev.doc

    levrt.run(prepare())
    doc = levrt.run(main())

    async def read():
        return await doc.get()

    assert asyncio.run(read()) == {"a": 1}


# ---- other loops ----


def test_one_after_another(engine):
    """Documents outlive the loop that made them."""

    async def make():
        doc = await Cr("img")
        await doc.set(x=1)
        return doc

    async def read(doc):
        return await doc.get(), (await doc.coll.count_documents())

    docs = [levrt.run(make()), asyncio.run(make()), levrt.run(make())]
    assert [asyncio.run(read(doc)) for doc in docs] == [({"x": 1}, 3)] * 3
    assert len({doc.filter["_id"] for doc in docs}) == 3


def test_an_implicit_job_ends_with_its_loop(engine):
    engine.script = Script(hold=True)

    async def main():
        await Cr("img").start()
        assert engine.containers and engine.networks

    asyncio.run(main())
    assert not engine.containers and not engine.networks


async def test_under_pytest_asyncio(home):
    await lev.set(a=1)
    assert await lev.doc.get() == {"a": 1}


def script(home, code):
    """Runs a program in a process of its own; its output."""
    path = home / "program.py"
    path.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(levrt.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("close", ["loop.close()", "pass"])
def test_loop_that_is_not_shut_down(engine, close):
    """Nothing is left of the program when it has ended."""
    engine.script = Script(hold=True)
    done = script(
        engine.path.parent,
        f"""
        import asyncio, levrt, logging

        logging.basicConfig(format="%(name)s: %(message)s")

        async def main():
            levrt.lev.set(a=1)
            await levrt.Cr("img").start()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        {close}
        """,
    )
    assert not engine.containers and not engine.networks
    assert "lev: an event loop was given up while 1 runs were under way" in done.stderr


@pytest.mark.parametrize("close", ["loop.close()", "pass"])
def test_writes_of_a_loop_that_is_not_shut_down(home, close):
    """They are stored before the program ends, and what is not is named."""
    done = script(
        home,
        f"""
        import asyncio
        from levrt import lev

        async def main():
            with lev / "late":
                lev.set(a=1)
                lev.set({{"a.b": 1}}, c=2)
                for n in range(2000):
                    lev.set(n=n)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        {close}
        """,
    )
    assert stored(home, "late") == [{"a": 1, "n": 1999}]
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("lev")]
    assert line.startswith("lev.set of 'a.b', 'c' in late: ")


def test_writes_that_cannot_be_stored_before_the_end(home):
    """Bounded: the program ends, and names what it could not store."""
    done = script(
        home,
        """
        import asyncio, sqlite3
        import levrt.session
        from levrt import lev

        levrt.session.LAST_SECONDS = 0.05

        async def main():
            await lev.set(x=0)
            global db
            db = sqlite3.connect("data/levrt/lev.db", isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            for n in range(3):
                lev.set({f"k{n}{m}": n for m in range(4 * n)} or {"first": 1})

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    assert done.stderr.splitlines() == [
        "lev.set of 'first' in _ was not stored in time",
        "lev.set of 'k10', 'k11', 'k12', 'k13' in _ was not stored in time",
        "lev.set of 'k20', 'k21', 'k22', 'k23', 'k24', … in _ was not stored in time",
    ]
    assert stored(home, "_") == [{"x": 0}]


def test_a_loop_that_is_closed_with_tasks_that_wait(engine):
    """Nobody can wake them any more, and nobody tries."""
    engine.script = Script(hold=True)
    done = script(
        engine.path.parent,
        """
        import asyncio, gc
        from levrt import Cr

        async def main():
            global waiting
            task = await Cr("img").start()
            waiting = asyncio.ensure_future(task.done())
            await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    assert not engine.containers and not engine.networks
    lines = [line for line in done.stderr.splitlines() if "an event loop was" in line]
    assert len(lines) == 1
    assert "Event loop is closed" not in done.stderr


def test_after_fork(home):
    """A child has a job of its own, and leaves its parent's alone."""
    done = script(
        home,
        """
        import asyncio, os, sys, warnings
        import levrt
        from levrt import lev

        warnings.simplefilter("ignore", DeprecationWarning)

        async def main(x):
            with lev / "forks":
                await lev.set(x=x)

        levrt.run(main(1))
        child = os.fork()
        if child == 0:
            levrt.run(main(2))
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        levrt.run(main(3))
        """,
    )
    assert done.stderr == ""
    assert [doc["x"] for doc in stored(home, "forks")] == [1, 2, 3]


def test_fork_while_a_job_is_open(home):
    done = script(
        home,
        """
        import asyncio, os, sys, warnings
        from levrt import lev

        warnings.simplefilter("ignore", DeprecationWarning)

        async def main():
            await lev.set(x=1)
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            await lev.set(x=2)
            print(await lev.doc.get())

        asyncio.run(main())
        """,
    )
    assert done.stdout == "{'x': 2}\n"
    assert done.stderr == ""
