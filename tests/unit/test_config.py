"""levrt.config: where settings come from, and what is no setting."""

import dataclasses

import pytest

from levrt import config

VARIABLES = (
    "LEVRT_ENGINE LEVRT_STORE MONGODB_URI LEVRT_REGISTRY LEVRT_MIRRORS"
    " LEVRT_PULL_STALL_TIMEOUT LEVRT_READY_TIMEOUT LEVRT_GRACE"
    " XDG_DATA_HOME XDG_CONFIG_HOME"
).split()


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty home and an empty current directory below it."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def user_file(tmp_path, text):
    path = tmp_path / ".config" / "levrt" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_defaults(tmp_path):
    found = config.load()
    assert found == config.Config(
        engine=None,
        store=f"sqlite:{tmp_path}/.local/share/levrt/lev.db",
        registry="talentsec",
        mirrors=(),
        pull_stall_timeout=60.0,
        ready_timeout=60.0,
        grace=10.0,
        sources=dict.fromkeys(found.sources, "default"),
    )
    assert list(found.sources) == [f.name for f in dataclasses.fields(found)][:-1]


def test_what_counts_more(place, tmp_path, monkeypatch):
    """Each source in turn, from the weakest up."""
    steps = []

    def step():
        found = config.load()
        steps.append((found.registry, found.sources["registry"]))

    step()
    path = user_file(tmp_path, 'registry = "user"\ngrace = 3\n')
    step()
    (place / "pyproject.toml").write_text('[tool.levrt]\nregistry = "project"\n')
    step()
    (place / "levrt.toml").write_text('registry = "here"\n')
    step()
    monkeypatch.setenv("LEVRT_REGISTRY", "environment")
    step()
    assert steps == [
        ("talentsec", "default"),
        ("user", str(path)),
        ("project", "pyproject.toml [tool.levrt]"),
        ("here", "levrt.toml"),
        ("environment", "LEVRT_REGISTRY"),
    ]
    given = config.load(registry="program", store=None)
    assert (given.registry, given.sources["registry"]) == ("program", "argument")
    assert given.sources["store"] == "default"
    assert (given.grace, given.sources["grace"]) == (3.0, str(path))


def test_mirrors(place, monkeypatch):
    (place / "levrt.toml").write_text('mirrors = ["https://one", "two:5000"]\n')
    assert config.load().mirrors == ("https://one", "two:5000")
    monkeypatch.setenv("LEVRT_MIRRORS", "http://127.0.0.1:5000, three")
    assert config.load().mirrors == ("http://127.0.0.1:5000", "three")
    for wrong in ["ftp://h", "h/path", "user:pw@h", "https://"]:
        with pytest.raises(ValueError, match=r"argument: mirrors: expected \["):
            config.load(mirrors=[wrong])
    with pytest.raises(ValueError, match="expected a list of registries"):
        config.load(mirrors="h")


def test_variables(monkeypatch):
    monkeypatch.setenv("LEVRT_ENGINE", "unix:///x.sock")
    monkeypatch.setenv("MONGODB_URI", "mongodb://u:secret@h/db")
    monkeypatch.setenv("LEVRT_PULL_STALL_TIMEOUT", "1.5")
    monkeypatch.setenv("LEVRT_READY_TIMEOUT", "2")
    monkeypatch.setenv("LEVRT_GRACE", "0")
    found = config.load()
    assert found.engine == "unix:///x.sock"
    assert (found.store, found.sources["store"]) == (
        "mongodb://u:secret@h/db",
        "MONGODB_URI",
    )
    assert (found.pull_stall_timeout, found.ready_timeout, found.grace) == (1.5, 2, 0)
    monkeypatch.setenv("LEVRT_STORE", "sqlite:/a.db")
    found = config.load()
    assert (found.store, found.sources["store"]) == ("sqlite:/a.db", "LEVRT_STORE")


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("LEVRT_REGISTRY", "")
    assert config.load().sources["registry"] == "default"


def test_base_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert config.load().store == "sqlite:/data/levrt/lev.db"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert config.load().store == f"sqlite:{tmp_path}/.local/share/levrt/lev.db"


def test_passwords_are_not_shown(monkeypatch):
    monkeypatch.setenv("LEVRT_STORE", "mongodb://user:secret@h/db")
    monkeypatch.setenv("LEVRT_ENGINE", "tcp://user:secret@h:1")
    found = config.load()
    assert "store=mongodb://user:***@h/db (LEVRT_STORE)" in found.describe()
    assert "engine=tcp://user:***@h:1 (LEVRT_ENGINE)" in found.describe()
    assert "grace=10.0 (default)" in found.describe()
    assert not any("secret" in line for line in found.describe())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LEVRT_GRACE", "soon", "LEVRT_GRACE: grace: .*seconds, not 'soon'"),
        ("LEVRT_GRACE", "-1", "LEVRT_GRACE: grace: .*from 0 up"),
        ("LEVRT_GRACE", "nan", "LEVRT_GRACE: grace: "),
        ("LEVRT_READY_TIMEOUT", "0", "LEVRT_READY_TIMEOUT: .*above 0"),
        ("LEVRT_PULL_STALL_TIMEOUT", "inf", "LEVRT_PULL_STALL_TIMEOUT: "),
        ("LEVRT_STORE", "/a.db", "LEVRT_STORE: store: expected sqlite:PATH"),
        ("MONGODB_URI", "http://u:p@h", "MONGODB_URI: store: .*not 'http://u:\\*"),
        ("LEVRT_REGISTRY", "http://h/x", "LEVRT_REGISTRY: registry: .*without"),
        ("LEVRT_REGISTRY", "h/x/", "LEVRT_REGISTRY: registry: "),
        ("LEVRT_ENGINE", " ", "LEVRT_ENGINE: engine: expected a text"),
    ],
)
def test_bad_variables(variable, value, message, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        config.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grace = '5'", r"^levrt.toml: grace: expected a number of seconds, not '5'"),
        ("grace = true", r"^levrt.toml: grace: "),
        ("engine = 1", r"^levrt.toml: engine: expected a text, not 1"),
        ("regsitry = 'x'", r"unknown key 'regsitry'; did you mean 'registry'\?"),
        ("colour = 'x'", r"unknown key 'colour'; known are engine, store, "),
        ("a = 1\ngrace = x", r"^levrt.toml: no valid TOML: .*line 2"),
    ],
)
def test_bad_files(text, message, place):
    (place / "levrt.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        config.load()


def test_bytes_that_are_no_text(place):
    (place / "levrt.toml").write_bytes(b"grace = 1 # \xff")
    with pytest.raises(ValueError, match=r"^levrt.toml: no valid TOML: .*utf-8"):
        config.load()


def test_a_value_that_does_not_count_is_not_checked_away(place, monkeypatch):
    """An unknown key is one also where nothing of the file is needed."""
    monkeypatch.setenv("LEVRT_GRACE", "1")
    (place / "levrt.toml").write_text("grcae = 2")
    with pytest.raises(ValueError, match="did you mean 'grace'"):
        config.load()


def test_projects_of_others_do_not_matter(place):
    (place / "pyproject.toml").write_text("[tool.other]\nregistry = 'x'\n[[[")
    assert config.load().sources["registry"] == "default"


def test_a_table_is_expected(place):
    (place / "pyproject.toml").write_text("[tool]\nlevrt = 1\n")
    with pytest.raises(ValueError, match=r"pyproject.toml \[tool.levrt\]: .*a table"):
        config.load()


def test_a_file_that_cannot_be_read_is_an_error(place):
    (place / "levrt.toml").mkdir()
    with pytest.raises(IsADirectoryError, match="levrt.toml"):
        config.load()


def test_unknown_arguments():
    with pytest.raises(ValueError, match="argument: unknown key 'engin'"):
        config.load(engin="x")
