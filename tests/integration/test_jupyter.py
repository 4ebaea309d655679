"""Notebooks: a kernel of IPython's own, whose loop runs before levrt is imported."""

import os
import sys
from pathlib import Path
from queue import Empty

import pytest
from jupyter_client.manager import KernelManager

CHECKOUT = Path(__file__).parents[2]
HANG = 120  # seconds that a cell may take


class Notebook:
    """Cells run one after another, as a front end has them run."""

    def __init__(self, directory):
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path]),
            "IPYTHONDIR": str(directory / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._manager = KernelManager(
            connection_file=str(directory / "kernel.json"), shutdown_wait_time=HANG
        )
        self._manager.start_kernel(env=environ, cwd=str(directory))
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=HANG)

    def begin(self, code):
        return self._client.execute(code, store_history=True)

    def until(self, cell, text):
        """Until the cell has printed a line with that text; the line."""
        for kind, content in self._messages(cell):
            if kind == "stream" and text in content["text"]:
                return content["text"].strip()
        raise AssertionError(f"the cell ended without a word of {text!r}")

    def end(self, cell):
        """What it printed and gave until its end, and its error's name and text."""
        said, error = [], ""
        for kind, content in self._messages(cell):
            if kind == "stream":
                said.append(content["text"])
            elif kind == "execute_result":
                said.append(content["data"]["text/plain"])
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
        return "".join(said).strip(), error

    def run(self, code):
        said, error = self.end(self.begin(code))
        assert not error, error
        return said

    def interrupt(self):
        self._manager.interrupt_kernel()
        # ipykernel's handler tells the loop what to do, but does not wake it (it
        # calls add_callback, not add_callback_from_signal): the next message does.
        self._client.kernel_info()

    def close(self):
        """As by the menu: the kernel is asked to, and has time to end."""
        if self._manager.has_kernel:
            self._manager.shutdown_kernel()
        self._client.stop_channels()
        self._manager.cleanup_resources()

    def _messages(self, cell):
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=HANG)
            except Empty:
                raise AssertionError("the kernel does not answer") from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return
            yield kind, content


@pytest.fixture
def notebook(tmp_path, engine, tools):
    notebook = Notebook(tmp_path)
    try:
        notebook.run(
            "import asyncio, levrt\n"
            "from levrt import Concurrent, Cr, lev\n"
            f"image = {tools!r}\n"
            "def sh(script, **options):\n"
            "    return Cr(image, cmd=['sh', '-c', script], **options)\n"
        )
        yield notebook
    finally:
        notebook.close()
    assert engine.containers() == []
    assert engine.networks() == []


def test_cells(notebook, engine):
    """One session for all of them: what one begins, another goes on with."""
    assert notebook.run("doc = await sh('echo found'); doc.run.exit_code") == "0"
    assert notebook.run("[line.text for line in await doc.logs()]") == "['found']"
    first = notebook.run("lev.job_id")
    notebook.run(
        "@levrt.remote\n"
        "def entry(n):\n"
        "    lev.set(n=n, square=n * n)\n"
        "with lev / 'notebook':\n"
        "    async with Concurrent(limit=2) as c:\n"
        "        tasks = [c.start(Cr(image, entry=entry(n))) for n in range(3)]\n"
    )
    found = notebook.run(
        "[(await (await task).get())['square'] for task in tasks],"
        " await (await tasks[0]).coll.count_documents()"
    )
    assert found == "([0, 1, 4], 3)"
    # A run that another cell waits for; what does not await is no cell's matter.
    notebook.run("task = await sh('exec sleep 600').start()")
    assert len(engine.containers()) == 1
    notebook.run("waiting = asyncio.create_task(task.done())\nlev.set(a=1)")
    assert notebook.run("await task.stop(); (await waiting).run.signal") == "15"
    assert notebook.run("await lev.doc.get()") == "{'a': 1}"
    assert notebook.run("lev.job_id") == first


def test_a_cell_that_is_interrupted(notebook, engine):
    """The run is cancelled, and gone when the cell is; the kernel goes on."""
    cell = notebook.begin(
        "task = await sh('echo up; exec sleep 600').start()\n"
        "async for line in task.logs():\n"
        "    print(line.text, flush=True)\n"
        "    break\n"
        "await task"
    )
    assert notebook.until(cell, "up") == "up"
    notebook.interrupt()
    _, error = notebook.end(cell)
    assert error.partition(":")[0] in ("KeyboardInterrupt", "CancelledError")
    assert engine.containers() == []
    _, error = notebook.end(notebook.begin("await task"))
    assert error.startswith("TaskFailed: ") and "cancelled" in error
    assert notebook.run("(await sh('true')).run.exit_code") == "0"


def test_levrt_run_says_what_to_do(notebook):
    _, error = notebook.end(notebook.begin("levrt.run(sh('true'))"))
    assert error == (
        "RuntimeError: run() cannot be called from a running event loop: await there"
    )


def test_the_kernel_is_shut_down(notebook, engine):
    """In the middle of a run, with writes under way."""
    notebook.run("tasks = [await sh('exec sleep 600').start() for _ in range(3)]")
    notebook.run(
        "with lev / 'shutdown':\n"
        "    for n in range(500):\n"
        "        lev.set(n=n)\n"
        "    where = lev.doc.filter['_id']"
    )
    where = notebook.run("print(where)")
    assert len(engine.containers()) == 3
    notebook.close()
    assert engine.containers() == []
    assert engine.networks() == []
    assert _stored(where) == {"n": 499}


def _stored(where):
    import levrt

    async def main():
        with levrt.lev / "shutdown":
            coll = levrt.lev.coll
        return await coll.find_one(levrt.ObjectId(where), {"_id": 0})

    return levrt.run(main())
