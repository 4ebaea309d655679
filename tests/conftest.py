"""What all tests share: a clean environment, and the servers they may use.

tests/run starts a Docker engine, registries and a MongoDB server, and names them
in variables.
Without one, tests that need it are skipped, saying so; where CI is set nothing
may be skipped, and the missing variable is an error.
"""

import os
from collections.abc import Iterator

import pytest

# marker: variables that its tests cannot do without
NEEDED = {
    "docker": ("LEVRT_TEST_DOCKER", "LEVRT_TEST_DOCKER_TCP"),
    "mongo": ("LEVRT_TEST_MONGO",),
    "registry": ("LEVRT_TEST_REGISTRY", "LEVRT_TEST_REGISTRY_AUTH"),
}
# Whatever levrt would read about engines, stores and itself.
FOREIGN = (
    "CONTAINER_HOST",
    "DOCKER_API_VERSION",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "LEVRT_ENGINE",
    "LEVRT_GRACE",
    "LEVRT_MIRRORS",
    "LEVRT_OCI_RUNTIME",
    "LEVRT_PULL_STALL_TIMEOUT",
    "LEVRT_READY_TIMEOUT",
    "LEVRT_REGISTRY",
    "LEVRT_STORE",
    "MONGODB_URI",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, variables in NEEDED.items():
        missing = [name for name in variables if not os.environ.get(name)]
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not missing or not marked:
            continue
        reason = f"needs {' and '.join(missing)}: use tests/run"
        if os.environ.get("CI"):
            raise pytest.UsageError(f"{marker}: {reason}")
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees or changes the settings and data of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        yield


@pytest.fixture(scope="session")
def busybox() -> str:
    """An image with a shell and its tools, without libc and Python."""
    return "levrt-test/busybox:1"


@pytest.fixture(scope="session")
def registry() -> str:
    """host:port of a registry that takes everything from everyone."""
    return os.environ["LEVRT_TEST_REGISTRY"]


@pytest.fixture(scope="session")
def registry_auth() -> tuple[str, str, str]:
    """host:port, user and password of a registry that asks for them."""
    return os.environ["LEVRT_TEST_REGISTRY_AUTH"], "user", "secret"
