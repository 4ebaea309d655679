"""Images from registries."""

import asyncio
import base64
import json
import os
import re
import socket

import pytest
from registry import Registry
from workflows import all_of, failure, lines

import levrt
from levrt import Cr

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def published(engine, tools, registry):
    """(name:tag, name@digest) in the registry, and not on the engine."""
    name = f"{registry}/published/tools:1"
    digest = engine.push(tools, name)
    engine.untag(name)
    yield name, digest
    engine.untag(name)


async def test_missing_is_pulled_once(engine, published, caplog):
    name, _ = published
    caplog.set_level("INFO", "lev.pull")
    assert await lines(Cr(name, cmd=["echo", "pulled"])) == ["pulled"]
    assert [r.getMessage() for r in caplog.records if r.name == "lev.pull"] == [
        f"pulling {name}"
    ]
    caplog.clear()
    assert await lines(Cr(name, cmd=["echo", "there"])) == ["there"]
    assert [r for r in caplog.records if r.name == "lev.pull"] == []


async def test_by_digest(engine, published):
    name, digest = published
    repository = name.removesuffix(":1")
    sha = digest.rpartition("@")[2]
    document = await Cr(digest, cmd=["true"])
    assert document.run.image == digest
    assert document.run.digest == f"{repository}@{sha}"
    document = await Cr(f"{name}@{sha}", cmd=["true"])
    assert document.run.digest == f"{repository}@{sha}"


async def test_policies(engine, images, registry):
    name = f"{registry}/published/moving:1"
    engine.push(images.get("tools"), name)
    first = engine.image_id(name)
    engine.untag(name)
    await failure(Cr(name, pull="never", cmd=["true"]), levrt.ImageNotFound)
    await Cr(name, pull="missing", cmd=["true"])
    engine.push(images.get("user"), name)
    second = engine.image_id(name)
    assert first != second
    engine.untag(name)
    try:
        assert await lines(Cr(name, pull="missing", cmd=["id", "-u"])) == ["1000"]
        engine.push(images.get("tools"), f"{registry}/published/moving:2")
        engine.push(images.get("tools"), name)
        moved = Cr(name, pull="always", cmd=["id", "-u"])
        assert await lines(moved) == ["0"]
        assert await lines(Cr(name, pull="never", cmd=["id", "-u"])) == ["0"]
    finally:
        engine.untag(name)
        engine.untag(f"{registry}/published/moving:2")


async def test_many_runs_of_one_missing_image(engine, published):
    name, _ = published
    engine.untag(name)
    outputs = await all_of(*[Cr(name, cmd=["echo", str(n)]) for n in range(5)])
    assert outputs == [[str(n)] for n in range(5)]


async def test_tool_images(engine, tools, registry, monkeypatch):
    name = f"{registry}/lev.you.tool:3"
    engine.push(tools, name)
    engine.untag(name)
    monkeypatch.setenv("LEVRT_REGISTRY", registry)

    async def main():
        return await lines(Cr(".you.tool:3", cmd=["echo", "tool"]))

    # The setting is read when a session begins: another loop's.
    try:
        assert await asyncio.to_thread(levrt.run, main()) == ["tool"]
    finally:
        engine.untag(name)


@pytest.fixture
def locked(engine, tools, tmp_path, monkeypatch):
    """(address, DOCKER_CONFIG's folder) of a registry that wants a password."""
    address = os.environ["LEVRT_TEST_REGISTRY_AUTH"]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return address, tmp_path


def _config(folder, **keys):
    (folder / "config.json").write_text(json.dumps(keys))


def _login(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def _in_a_session_of_its_own(cr):
    """Credentials are read per session or per pull: either way, anew."""

    async def main():
        return await lines(cr)

    return await asyncio.to_thread(levrt.run, main())


async def test_credentials(engine, tools, locked):
    address, folder = locked
    name = f"{address}/private/tools:1"
    engine.push(tools, name, "user", "secret")
    engine.untag(name)
    cr = Cr(name, cmd=["echo", "let in"])

    e = await failure(_in_a_session_of_its_own(cr), levrt.ImageError)
    assert name in str(e)
    assert "credentials" in str(e) or "auth" in str(e)

    _config(folder, auths={address: _login("user", "wrong")})
    e = await failure(_in_a_session_of_its_own(cr), levrt.ImageError)
    assert "wrong" not in str(e)

    _config(folder, auths={address: _login("user", "secret")})
    try:
        assert await _in_a_session_of_its_own(cr) == ["let in"]
    finally:
        engine.untag(name)


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
async def test_credential_helpers(engine, tools, locked, monkeypatch, key):
    address, folder = locked
    name = f"{address}/private/tools:2"
    engine.push(tools, name, "user", "secret")
    engine.untag(name)
    helper = folder / "docker-credential-levtest"
    answer = json.dumps({"ServerURL": address, "Username": "user", "Secret": "secret"})
    helper.write_text(
        "#!/bin/sh\n"
        'server=$(cat); [ "$1" = get ] || exit 1\n'
        f'[ "$server" = {address} ] || {{ echo "credentials not found"; exit 1; }}\n'
        f"echo '{answer}'\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    _config(
        folder, **{key: {address: "levtest"} if key == "credHelpers" else "levtest"}
    )
    try:
        cr = Cr(name, cmd=["echo", "let in"])
        assert await _in_a_session_of_its_own(cr) == ["let in"]
    finally:
        engine.untag(name)


# A registry that misbehaves


@pytest.fixture
def registry_of(images):
    """Makes registries of one image; they are closed at the end."""
    made = []

    def make(**how):
        root = images.fresh(os.urandom(1 << 20))
        made.append(Registry(root, **how))
        return made[-1]

    yield make
    for registry in made:
        registry.close()


def test_a_pull_that_stalls(engine, registry_of, monkeypatch):
    monkeypatch.setenv("LEVRT_PULL_STALL_TIMEOUT", "1")
    registry = registry_of(stop_at=1 << 18)

    async def main():
        e = await failure(Cr(registry.image), levrt.PullError)
        assert e.kind == "stalled"
        assert "no progress" in str(e)
        assert registry.image in str(e)

    levrt.run(main())
    assert registry.stalled.is_set()
    assert not engine.has_image(registry.image)


async def test_an_error_in_the_middle_of_a_pull(engine, registry_of):
    registry = registry_of(corrupt=True)
    e = await failure(Cr(registry.image), levrt.PullError)
    assert e.kind == "failed"
    assert registry.image in str(e)
    assert re.search("verification failed|checksum|its digest is", str(e))
    assert not engine.has_image(registry.image)


async def test_a_pull_that_goes_on(engine, registry_of):
    registry = registry_of(stop_at=1 << 18)
    task = asyncio.ensure_future(_done(Cr(registry.image)))
    assert await asyncio.to_thread(registry.stalled.wait, 60)
    registry.go_on()
    try:
        # Its program is no program: what counts is that it came that far.
        e = await failure(task, levrt.StartFailed)
        assert "/content" in str(e)
    finally:
        engine.untag(registry.image)


async def _done(cr):
    return await cr


async def test_a_registry_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    image = f"127.0.0.1:{port}/name:1"
    e = await failure(Cr(image), levrt.PullError)
    assert image in str(e)
    assert "refused" in str(e)


async def test_progress_of_a_pull(engine, registry_of, caplog):
    caplog.set_level("DEBUG", "lev.pull")
    registry = registry_of()
    try:
        await failure(Cr(registry.image), levrt.StartFailed)
    finally:
        engine.untag(registry.image)
    said = [r.getMessage() for r in caplog.records if r.levelname == "DEBUG"]
    assert said
    assert all(message.startswith(registry.image) for message in said)
