"""Whatever happens to the workflow's process, nothing that it started stays."""

import os
import random
import statistics
import time
from pathlib import Path

import pytest
from traces import Victim, traces, wait_until_gone

import levrt
from levrt import Cr, lev


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("way", ["services", "closure", "many"])
def test_a_killed_workflow_leaves_nothing(engine, tools, way, group):
    victim = Victim.start(tools, way)
    if way != "many":
        assert len(engine.containers(victim.session)) == {"services": 4}.get(way, 1)
    victim.kill(group)
    wait_until_gone(engine, victim)


def test_a_forked_child_that_lives_on_keeps_nothing(engine, tools):
    victim = Victim.start(tools, "fork")
    victim.kill()
    try:
        wait_until_gone(engine, victim)
    finally:
        victim.kill_child()


def test_a_workflow_that_ends_leaves_nothing_either(engine, tools):
    victim = Victim.start(tools, "services")
    assert victim.end() == 0
    assert traces(engine, victim) == []


def test_a_session_is_not_touched_by_another_ones_end(engine, tools):
    victims = [Victim.start(tools, "plain") for _ in range(10)]
    killed, others = victims[:5], victims[5:]
    before = {v.session: engine.containers(v.session) for v in others}
    assert all(len(names) == 1 for names in before.values())
    for victim in killed:
        victim.kill()
    for victim in killed:
        wait_until_gone(engine, victim)
    # A new session sweeps what dead ones have left.
    levrt.run(_quick(tools))
    for victim in others:
        assert engine.containers(victim.session) == before[victim.session]
        assert victim.end() == 0
        assert traces(engine, victim) == []


async def _quick(tools):
    await Cr(tools, cmd=["true"])


def test_the_next_session_removes_what_a_killed_reaper_left(engine, tools):
    victim = Victim.start(tools, "services")
    victim.kill(reapers=True)
    assert len(engine.containers(victim.session)) == 4
    levrt.run(_quick(tools))
    wait_until_gone(engine, victim)


def test_kills_at_random_moments(engine, tools, capsys):
    """$LEVRT_TEST_KILLS of them; the workflow, its group, or its reaper as well, while
    runs are brought up and torn down all the time."""
    kills = int(os.environ.get("LEVRT_TEST_KILLS", "10"))
    rng = random.Random(os.environ.get("LEVRT_TEST_SEED", "levrt"))
    times: dict[str, list[float]] = {"process": [], "group": [], "reaper": []}
    victims = []
    for number in range(kills):
        how = list(times)[number % len(times)]
        victim = Victim.start(tools, "many")
        victims.append(victim)
        time.sleep(rng.uniform(0, 1.5))
        victim.kill(group=how == "group", reapers=how == "reaper")
        if how == "reaper":
            levrt.run(_quick(tools))
        times[how].append(wait_until_gone(engine, victim))
    # Nor has an engine finished later what it was asked for before.
    assert [left for victim in victims for left in traces(engine, victim)] == []
    with capsys.disabled():
        for how, taken in times.items():
            if taken:
                middle = statistics.median(taken)
                print(
                    f"\n{engine.name}: {len(taken)} kills of the {how}: all gone"
                    f" after {middle:.2f} s (median), {max(taken):.2f} s (worst)"
                )


def test_gc_tells_and_removes_what_dead_sessions_left(engine, tools):
    alive = Victim.start(tools, "services")
    dead = Victim.start(tools, "services")
    names = engine.containers(dead.session) + engine.networks(dead.session)
    dead.kill(reapers=True)
    dead.wait_for_reapers()

    async def of_both(**options):
        found = await levrt.gc(**options)
        assert all(x.error is None and engine.url == x.engine for x in found)
        return [x for x in found if x.session in (alive.session, dead.session)]

    told = levrt.run(of_both(dry_run=True))
    assert sorted(x.name for x in told) == sorted(names)
    assert {(x.kind, x.removed) for x in told} == {
        ("container", False),
        ("network", False),
    }
    assert all(x.reason for x in told)
    assert len(engine.containers(dead.session)) == 4
    removed = levrt.run(of_both())
    assert sorted(x.name for x in removed) == sorted(names)
    assert all(x.removed for x in removed)
    wait_until_gone(engine, dead)
    assert levrt.run(of_both(dry_run=True)) == []
    assert len(engine.containers(alive.session)) == 4
    assert alive.end() == 0


@pytest.mark.parametrize("killed", [True, False])
def test_what_is_kept_outlives_its_session(daemon, engine, tools, killed):
    victim = Victim.start(tools, "keep")
    (name,) = engine.containers(victim.session)
    if killed:
        other = Victim.start(tools, "plain")
        other.kill()
        victim.kill()
        wait_until_gone(engine, other)  # so much for the reapers
    else:
        assert victim.end() == 0
    levrt.run(_quick(tools))
    assert engine.containers(victim.session) == [name]
    assert engine.running(name)
    assert levrt.run(levrt.gc()) == []
    found = levrt.run(levrt.gc(kept=True))
    assert [(x.kind, x.name) for x in found if x.session == victim.session] == [
        ("container", name),
        ("network", f"levrt-{victim.session[:12]}-session"),
    ]
    assert traces(engine, victim) == []


def test_what_is_kept_stays_when_it_has_ended(daemon, engine, tools):
    async def main():
        document = await Cr(tools, cmd=["sh", "-c", "exit 3"], check=[3], keep=True)
        assert document.run.exit_code == 3
        return lev.job_id

    session = levrt.run(main())
    assert len(engine.containers(session)) == 1
    # This process lives.
    assert levrt.run(levrt.gc(kept=True)) == []
    for name in engine.containers(session):
        engine.remove_container(name)
    for name in engine.networks(session):
        engine.remove_network(name)


def test_keep_without_a_daemon(no_daemon, engine, tools):
    async def main():
        with pytest.raises(levrt.UnsupportedOption, match="keep=True: .* oci:"):
            await Cr(tools, cmd=["true"], keep=True)
        return lev.job_id

    assert engine.containers(levrt.run(main())) == []


def test_the_reaper_is_nobodys_hindrance(engine, tools):
    """It keeps no pipe, directory or process group of its parent busy."""
    victim = Victim.start(tools, "plain")
    for pid in victim.reapers:
        assert os.getpgid(pid) != os.getpgid(victim.process.pid)
        assert os.getsid(pid) != os.getsid(victim.process.pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        for fd in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
        assert Path(f"/proc/{pid}/comm").read_text() == "lev-reaper\n"
    assert victim.end() == 0
    assert traces(engine, victim) == []
