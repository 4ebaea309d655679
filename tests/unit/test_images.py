"""What is known of an image is used again, and never when it is wrong."""

import asyncio
import signal

import pytest

import levrt
from engine import Script
from levrt import Cr, ImageNotFound

LOOKS = "GET /images/img:latest/json"


@pytest.fixture
def engine(engine):
    engine.images.add("other:latest")
    engine.image_details["img:latest"] = {
        "RepoDigests": [f"img@sha256:{'1' * 64}"],
        "Config": {"Cmd": ["first"]},
    }
    return engine


def looks(engine):
    """How often the engine was asked what the image is."""
    asked = [f"{r.method} {r.path}" for r in engine.requests]
    return asked.count(LOOKS)


def give_name_away(engine, **config):
    """The reference stands for another image from now on."""
    engine.image_details["img:latest"] = {
        "Id": f"sha256:{'2' * 64}",
        "RepoDigests": [f"img@sha256:{'2' * 64}"],
        "Config": {"Cmd": ["second"], **config},
    }


def test_image_is_looked_at_once(engine):
    async def main():
        for _ in range(3):
            document = await Cr("img")
            assert document.run.argv == ("first",)
            assert document.run.digest == f"img@sha256:{'1' * 64}"
        await Cr("other")
        await Cr("img", cmd=["x"])

    levrt.run(main())
    assert looks(engine) == 1


@pytest.mark.parametrize(
    "more",
    [{"pull": "always"}, {"files": {"/f": "x"}}, {"services": {"a": Cr("other")}}],
)
def test_image_is_looked_at_where_more_depends_on_it(engine, more):
    engine.remote_images.add("img:latest")

    async def main():
        await Cr("img")
        await Cr("img", **more)

    levrt.run(main())
    assert looks(engine) == 2


def test_another_image_of_that_name(engine):
    async def main():
        first = await Cr("img")
        give_name_away(engine)
        second = await Cr("img")
        third = await Cr("img")
        return [first.run, second.run, third.run]

    first, second, third = levrt.run(main())
    assert (first.argv, first.digest) == (("first",), f"img@sha256:{'1' * 64}")
    for run in (second, third):
        assert (run.argv, run.digest) == (("second",), f"img@sha256:{'2' * 64}")
    assert looks(engine) == 2


def test_stop_signal_of_another_image_of_that_name(engine):
    async def main():
        await Cr("img")
        give_name_away(engine, StopSignal="SIGQUIT")
        engine.script = Script(hold=True)
        task = await Cr("img", check=False).start()
        await task.stop()

    levrt.run(main())
    kills = [r.query["signal"] for r in engine.requests if r.path.endswith("/kill")]
    assert kills == [str(int(signal.SIGQUIT))]


def test_image_that_is_gone_is_pulled(engine):
    async def main():
        await Cr("img")
        engine.images.discard("img:latest")
        engine.remote_images.add("img:latest")
        return await Cr("img")

    assert levrt.run(main()).run.exit_code == 0
    asked = [r.path for r in engine.requests]
    assert asked.count("/images/create") == 1
    assert looks(engine) == 3


@pytest.mark.parametrize("pull", ["missing", "never"])
def test_image_that_is_gone_for_good(engine, pull):
    async def main():
        await Cr("img")
        engine.images.discard("img:latest")
        with pytest.raises(ImageNotFound, match=r"\(image img\), pull: ") as caught:
            await Cr("img", pull=pull)
        return str(caught.value)

    text = levrt.run(main())
    assert ('pull="never"' in text) == (pull == "never")
    assert engine.containers == {}


def test_many_at_once(engine):
    async def main():
        await Cr("img")
        give_name_away(engine)
        runs = await asyncio.gather(*(Cr("img") for _ in range(20)))
        return {(*d.run.argv, d.run.digest) for d in runs}

    assert levrt.run(main()) == {("second", f"img@sha256:{'2' * 64}")}
