"""The fake engine itself: what other tests rely on."""

import http.client
import json
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fakes"))

from engine import FakeEngine, Script

CREATE = {"Image": "busybox:latest", "Labels": {"a": "b"}, "HostConfig": {}}


class Client(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self.request(method, "/v1.41" + path, data)
        answer = self.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def create(self, name: str, config: object = CREATE) -> str:
        status, answer = self.ask("POST", f"/containers/create?name={name}", config)
        assert status == 201
        return str(answer["Id"])


def attach(path: Path, container: str) -> Client:
    client = Client(path)
    client.request("POST", f"/containers/{container}/attach?stream=1")
    return client


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path / "docker.sock") as engine:
        engine.images.add("busybox:latest")
        yield engine


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[Client]:
    client = Client(engine.path)
    yield client
    client.close()


def test_run(engine: FakeEngine, client: Client) -> None:
    engine.script = Script(stdout=b"out", stderr=b"err", exit_code=3)
    container = client.create("one")
    attached = attach(engine.path, container)
    waiting = Client(engine.path)
    waiting.request("POST", f"/containers/{container}/wait?condition=next-exit")
    answer = waiting.getresponse()  # the headers come before the start
    assert client.ask("POST", f"/containers/{container}/start") == (204, None)
    output = attached.getresponse().read()
    assert (
        output
        == struct.pack(">BxxxL", 1, 3) + b"out" + struct.pack(">BxxxL", 2, 3) + b"err"
    )
    assert json.loads(answer.read()) == {"Error": None, "StatusCode": 3}
    status, state = client.ask("GET", f"/containers/{container}/json")
    assert (status, state["State"]["ExitCode"]) == (200, 3)
    assert client.ask("DELETE", f"/containers/{container}?force=1") == (204, None)
    assert client.ask("GET", f"/containers/{container}/json")[0] == 404
    assert engine.count("POST /containers/*/start") == 1
    assert not engine.containers
    attached.close()
    waiting.close()


def test_refusals(engine: FakeEngine, client: Client) -> None:
    status, answer = client.ask("POST", "/containers/create?name=x", {"Image": "no:1"})
    assert (status, answer["message"]) == (404, "No such image: no:1")
    client.create("one")
    assert client.ask("POST", "/containers/create?name=one", CREATE)[0] == 409
    mount = {"Type": "bind", "Source": "/no/such/path", "Target": "/x"}
    config = {**CREATE, "HostConfig": {"Mounts": [mount]}}
    status, answer = client.ask("POST", "/containers/create?name=two", config)
    assert status == 400
    assert "bind source path does not exist" in answer["message"]


def test_signals(engine: FakeEngine, client: Client) -> None:
    engine.script = Script(hold=True, signals={2: None, 15: 0})
    container = client.create("one")
    assert client.ask("POST", f"/containers/{container}/kill?signal=2")[0] == 409
    client.ask("POST", f"/containers/{container}/start")
    for signal, running in ((2, True), (15, False)):
        client.ask("POST", f"/containers/{container}/kill?signal={signal}")
        state = client.ask("GET", f"/containers/{container}/json")[1]["State"]
        assert state["Running"] is running
    assert state["ExitCode"] == 0


def test_faults(engine: FakeEngine, client: Client) -> None:
    engine.fault("GET /_ping", status=500, message="broken", times=1)
    engine.fault("GET /version", drop=True, times=1)
    assert client.ask("GET", "/_ping") == (500, {"message": "broken"})
    client.request("GET", "/_ping")
    assert client.getresponse().read() == b"OK"
    with pytest.raises(http.client.IncompleteRead):
        client.ask("GET", "/version")
    client.close()
    engine.fault("GET /version", garbage=True, times=1)
    with pytest.raises(http.client.BadStatusLine):
        client.ask("GET", "/version")
    client.close()
    engine.fault("GET /version", stall=True)
    client.connect()
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.ask("GET", "/version")
    client.close()
    engine.clear_faults()
    assert client.ask("GET", "/version")[1]["ApiVersion"] == "1.41"


def test_release(engine: FakeEngine, client: Client) -> None:
    engine.fault("GET /version", stall=True)
    client.request("GET", "/version")
    engine.wait_for(lambda: engine.count("GET /version"))
    engine.release("GET /_ping")
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(10)
    engine.release("GET /version")
    assert json.loads(client.getresponse().read())["ApiVersion"] == "1.41"
    client.request("GET", "/_ping")  # on the same connection
    assert client.getresponse().read() == b"OK"


def test_disconnect(engine: FakeEngine, client: Client) -> None:
    engine.script = Script(stdout=b"out", hold=True)
    container = client.create("one")
    attached = attach(engine.path, container)
    answer = attached.getresponse()
    client.ask("POST", f"/containers/{container}/start")
    assert answer.read(11) == struct.pack(">BxxxL", 1, 3) + b"out"
    engine.disconnect("POST /containers/*/attach")
    assert answer.read() == b""
    assert client.ask("GET", f"/containers/{container}/json")[1]["State"]["Running"]
    attached.close()


def test_many(engine: FakeEngine, client: Client) -> None:
    engine.script = Script(stdout=b"x", hold=True, exit_code=0)
    attached = []
    for i in range(300):
        container = client.create(f"c{i}")
        attached.append(attach(engine.path, container))
        client.ask("POST", f"/containers/{container}/start")
    engine.wait_for(lambda: engine.count("POST /containers/*/attach") == 300)
    assert engine.most_connections >= 301
    for held in list(engine.containers.values()):
        held.finish()
    for one in attached:
        assert one.getresponse().read().endswith(b"x")
        one.close()


def test_networks(engine: FakeEngine, client: Client) -> None:
    ipam = {"Config": [{"Subnet": "10.0.0.0/28"}]}
    network = {"Name": "n", "IPAM": ipam, "Labels": {"k": "v"}}
    status, answer = client.ask("POST", "/networks/create", network)
    assert status == 201
    assert client.ask("POST", "/networks/create", {**network, "Name": "m"})[0] == 403
    filters = "%7B%22label%22%3A%5B%22k%3Dv%22%5D%7D"
    assert len(client.ask("GET", f"/networks?filters={filters}")[1]) == 1
    joined = {**CREATE, "NetworkingConfig": {"EndpointsConfig": {"n": {}}}}
    container = client.create("one", joined)
    assert client.ask("DELETE", f"/networks/{answer['Id']}")[0] == 403
    client.ask("DELETE", f"/containers/{container}")
    assert client.ask("DELETE", f"/networks/{answer['Id']}")[0] == 204
    assert not engine.networks


def test_pull(engine: FakeEngine, client: Client) -> None:
    engine.remote_images.add("team/tool:1")
    path = "/images/create?fromImage=docker.io%2Fteam%2Ftool&tag="
    assert client.ask("POST", path + "2")[0] == 404
    assert client.ask("POST", path + "1") == (200, {"status": "Pulling"})
    assert client.ask("GET", "/images/team%2Ftool%3A1/json")[0] == 200
