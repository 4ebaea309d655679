"""Which engine is taken, and engines that misbehave."""

import asyncio
import logging
import os

import pytest
from workflows import failure, lines, logged, sh

import levrt
from levrt import Cr, lev


def _chosen(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "lev.engine"]


async def _echo(image):
    return await lines(sh(image, "echo here"))


def test_the_choice_and_its_reason(engine, tools, caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.INFO, "lev")
    assert levrt.run(_echo(tools)) == ["here"]
    (said,) = _chosen(caplog)
    assert engine.url in said
    assert "LEVRT_ENGINE" in said

    monkeypatch.delenv("LEVRT_ENGINE")
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    caplog.clear()
    assert levrt.run(_echo(tools)) == ["here"]
    assert "DOCKER_HOST" in _chosen(caplog)[0]

    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "levrt.toml").write_text(f'engine = "{engine.url}"\n')
    caplog.clear()
    assert levrt.run(_echo(tools)) == ["here"]
    assert "levrt.toml" in _chosen(caplog)[0]


def test_no_engine_at_all(monkeypatch, tmp_path):
    monkeypatch.delenv("LEVRT_ENGINE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    missing = f"unix://{tmp_path}/missing.sock"
    monkeypatch.setenv("CONTAINER_HOST", missing)

    async def main():
        return await failure(Cr("image"), levrt.EngineUnavailable)

    assert missing in str(levrt.run(main()))


@pytest.mark.parametrize("url", ["ftp://x", "unix:relative", "nonsense", "tcp://"])
def test_urls_that_are_none(monkeypatch, url):
    monkeypatch.setenv("LEVRT_ENGINE", url)

    async def main():
        await Cr("image")

    with pytest.raises((ValueError, levrt.EngineError)) as info:
        levrt.run(main())
    assert url in str(info.value)


# Refused once


async def test_a_removal_that_fails_is_tried_again(engine, gate, tools, caplog):
    gate.hold("remove").refuse(500, "the disk is on fire")

    async def main():
        document = await sh(tools, "true", name="hard-to-remove", engine=gate.url)
        assert document.run.exit_code == 0
        assert engine.containers(lev.job_id) == ["hard-to-remove"]
        return lev.job_id

    session = await asyncio.to_thread(levrt.run, main())
    assert engine.containers(session) == []
    (warning,) = [
        m for m in caplog.messages if "hard-to-remove" in m and "could not" in m
    ]
    assert "on fire" in warning


@pytest.mark.parametrize("phase", ["create", "put", "attach", "start"])
async def test_a_phase_that_fails(engine, gate, tools, phase):
    gate.hold(phase).refuse(500, "the disk is on fire")
    cr = sh(tools, "true", files={"/file": b""}, engine=gate.url)
    e = await failure(cr, levrt.LevError)
    assert "the disk is on fire" in str(e)
    assert engine.containers(lev.job_id) == []


@pytest.mark.parametrize("phase", ["create", "put", "attach", "start", "remove"])
async def test_a_connection_that_breaks(engine, gate, tools, phase):
    gate.hold(phase).hang_up()
    cr = sh(tools, "true", files={"/file": b""}, engine=gate.url)
    try:
        await cr
    except levrt.LevError as e:
        assert tools in str(e)
    assert engine.containers(lev.job_id) == []


async def test_connections_that_break_while_a_tool_runs(gate, tools, caplog):
    script = "trap 'echo on; exit 3' USR1; echo up; while :; do sleep 0.1; done"
    task = await sh(tools, script, check=[3], engine=gate.url).start()
    await logged(task, "up")
    again = gate.hold("attach", answer=True)
    gate.cut()
    assert await asyncio.to_thread(again.reached.wait, 60)
    again.release()
    await task.signal("USR1")
    document = await task.done()
    assert document.run.exit_code == 3
    assert [line.text for line in await document.logs()] == ["up", "on"]
    assert any(task.name in m and "broke" in m for m in caplog.messages)


async def test_connections_that_break_while_an_entry_runs(gate):
    @levrt.remote
    def entry():
        import signal

        signal.signal(signal.SIGUSR1, lambda *_: None)
        lev.set(a=1)
        print("up", flush=True)
        signal.pause()
        lev.set(b=2)

    task = await Cr("", entry=entry(), engine=gate.url).start()
    await logged(task, "up")
    again = gate.hold("attach", answer=True)
    gate.cut()
    assert await asyncio.to_thread(again.reached.wait, 60)
    again.release()
    await task.signal("USR1")
    document = await task.done()
    assert await document.get() == {"a": 1, "b": 2}


def test_services_are_on_the_engine_of_their_run(engine, tools, monkeypatch):
    monkeypatch.setenv("LEVRT_ENGINE", "unix:///nonexistent/docker.sock")
    web = sh(tools, "echo text > /srv/index; exec httpd -f -p 80 -h /srv", ports=[80])
    main = sh(
        tools,
        "wget -qO- http://web/index",
        services={"web": web},
        engine=engine.url,
    )
    assert levrt.run(lines(main)) == ["text"]


async def test_services_of_another_engine(tools):
    service = Cr(tools, engine="unix:///one")
    for engine in (None, "unix:///other"):
        with pytest.raises(ValueError, match="services.*unix:///one.*engine of its"):
            Cr(tools, services={"a": service}, engine=engine)
    Cr(tools, services={"a": service}, engine="unix:///one")


def test_no_home(engine, tools, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("XDG_", "HOME"))]:
        monkeypatch.delenv(name)
    assert levrt.run(_echo(tools)) == ["here"]
