"""Each end has a bound, whatever the user's code or the engine does."""

import logging
import time

import pytest
from images import Images
from traces import PATIENCE
from workflows import sh

import levrt
from levrt import lev


async def test_a_timeout_does_not_wait_for_the_loop(engine, tools):
    """Stop signal, grace and kill come while the workflow's code blocks the loop."""
    stubborn = sh(tools, "trap '' TERM; while :; do sleep 1; done", timeout=1)
    task = await stubborn.start()
    until = time.monotonic() + PATIENCE
    assert task.name in engine.containers(lev.job_id)
    while task.name in engine.containers(lev.job_id):  # and the loop does not turn
        assert time.monotonic() < until
    with pytest.raises(levrt.DeadlineExceeded):
        await task


def test_an_engine_that_has_stopped(frozen, caplog, monkeypatch):
    """The run ends in bounded time; what is left is removed when it goes on."""
    caplog.set_level(logging.INFO, "lev")
    image = Images(frozen.engine).get("tools")
    monkeypatch.setenv("LEVRT_ENGINE", frozen.engine.url)
    told = {}

    async def main():
        task = await sh(image, "exec sleep 1000", timeout=1).start()
        told.update(name=task.name, session=lev.job_id)
        frozen.freeze()
        start = time.monotonic()
        with pytest.raises(levrt.DeadlineExceeded):
            await task
        told["run"] = time.monotonic() - start

    start = time.monotonic()
    levrt.run(main())
    # timeout 1, signal 10, grace 2, kill 10, its end 10, inspect 10, remove 30; then
    # the session: the container 30, its network 30.
    assert told["run"] < 90
    assert time.monotonic() - start < 180
    assert f"{told['name']} is left behind: " in caplog.text
    assert "lev-reaper tries again" in caplog.text
    frozen.thaw()
    until = time.monotonic() + PATIENCE
    while frozen.engine.containers(told["session"]) or frozen.engine.networks(
        told["session"]
    ):
        assert time.monotonic() < until, "lev-reaper does not remove it"
