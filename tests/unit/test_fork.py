"""A workflow that forks: the child leaves its parent's runs and job alone."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import levrt
from engine import Script

# The child is told apart by what it prints; the run of the parent ends well only
# when nobody has stopped it.
PROGRAM = """
import asyncio, gc, multiprocessing, os, sys, threading, warnings
import levrt
from levrt import Cr, lev

warnings.simplefilter("ignore", DeprecationWarning)

def reap(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

{before}

async def main():
    task = await Cr("img").start()
    waiting = asyncio.create_task(task.done())
    op = levrt._levrt.begin(task.done())
    await lev.set(a=1)
{fork}
    await lev.set(b=2)
    await task.stop()
    await op
    print("the parent:", (await waiting).run.signal, await lev.doc.get())

levrt.run(main())
"""


def run(engine, fork, before=""):
    home = engine.path.parent
    path = home / "program.py"
    fork = textwrap.indent(textwrap.dedent(fork), "    ")
    path.write_text(PROGRAM.format(fork=fork, before=textwrap.dedent(before)))
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(levrt.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    *child, parent = done.stdout.splitlines()
    assert parent == "the parent: 15 {'a': 1, 'b': 2}"
    assert (
        engine.count("POST /containers/*/stop")
        + engine.count("POST /containers/*/kill")
        == 1
    )
    assert not engine.containers and not engine.networks
    return child, done.stderr


@pytest.fixture
def held(engine):
    engine.script = Script(hold=True)
    return engine


@pytest.mark.parametrize("leave", ["sys.exit()", "os._exit(0)", "raise SystemExit"])
def test_a_child_that_ends(held, leave):
    _, stderr = run(
        held,
        f"""
        child = os.fork()
        if child == 0:
            {leave}
        reap(child)
        """,
    )
    assert stderr == ""


def test_a_child_of_multiprocessing(held):
    child, stderr = run(
        held,
        """
        worker = context.Process(target=work)
        worker.start()
        await asyncio.to_thread(worker.join)
        assert worker.exitcode == 0
        with context.Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
        """,
        before="""
        context = multiprocessing.get_context("fork")

        def work():
            gc.collect()
            print("in the child", flush=True)
        """,
    )
    assert child == ["in the child", "[1, 2]"]
    assert stderr == ""


def test_a_child_that_goes_on_with_what_is_the_parents(held):
    """Nothing hangs: it is told what it has, and what to do instead."""
    child, stderr = run(
        held,
        """
        document = lev.doc
        collection = lev.coll
        child = os.fork()
        if child == 0:
            try:
                for use in (task.done, task.stop, task.signal, document.get,
                            document.set, collection.find_one, lev.set):
                    try:
                        asyncio.run(once(use))
                    except (RuntimeError, levrt.LevError) as e:
                        print(type(e).__name__, e, flush=True)
                try:
                    op.send(None)
                except RuntimeError as e:
                    print(type(e).__name__, e, flush=True)
                op.close()
                waiting.cancel()
                del task, waiting
                gc.collect()
            finally:
                os._exit(0)
        reap(child)
        """,
        before="""
        async def once(use):
            arguments = {"set": [{"x": 1}]}
            return await use(*arguments.get(use.__name__, []))
        """,
    )
    assert stderr == ""
    *uses, lev_set, send = child
    names = ["Task.done", "Task.stop", "Task.signal", "Document.get"]
    names += ["Document.set", "Collection.find_one"]
    for name, line in zip([*names, "Task.done"], [*uses, send], strict=True):
        assert line.startswith(f"RuntimeError {name}: it belongs to process ")
        assert "start anew in a process that was started by itself" in line
    assert lev_set.startswith("StoreError ")
    assert "had it open when it forked this one" in lev_set


def test_a_child_that_goes_on_in_the_same_loop(held):
    """As if nothing had happened: it has no loop, and its end takes nothing down."""
    child, stderr = run(
        held,
        """
        child = os.fork()
        if child == 0:
            try:
                lev.set(x=1)
            except RuntimeError as e:
                print(e, flush=True)
            return
        reap(child)
        """,
    )
    assert child == [
        "no running event loop: use it inside of levrt.run() or asyncio.run()"
    ]
    assert stderr == ""
