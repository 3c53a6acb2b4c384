"""``tickview new read-model``: the written files for every event type, and the refusals."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import orjson
import pytest

from domain.event_types import EVENT_TYPES
from infra.cli.errors import CommandError
from infra.cli.new import read_model
from projections.registry import register_projection
from tests.plugins import EVENT, PluginFolder, plugin_folder
from tests.unit.test_docs import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginFolder]:
    """The working directory, which is on the search path of modules."""
    monkeypatch.chdir(tmp_path)
    with plugin_folder(tmp_path) as folder:
        yield folder


def name_on(event: str) -> str:
    return f"latest_{event.lower()}"


def run(*arguments: str) -> None:
    """Run a tool on the files of the working directory."""
    path = os.pathsep.join([str(ROOT), str(Path.cwd())])
    environment = {**os.environ, "MYPYPATH": path, "PYTHONPATH": path}
    command = [sys.executable, "-m", *arguments]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.timeout(300)
def test_the_files_of_every_event_type_pass_all_checks(folder: PluginFolder) -> None:
    for event in EVENT_TYPES:
        read_model(name_on(event), on=event)
    files = sorted(path.name for path in folder.path.glob("*.py"))
    assert len(files) == 2 * len(EVENT_TYPES)
    config = str(ROOT / "pyproject.toml")
    run("ruff", "check", "--no-cache", "--config", config, "--per-file-ignores", "test_*.py:D", ".")
    run("ruff", "format", "--no-cache", "--config", config, "--check", ".")
    run("pytest", "-q", "-p", "no:cacheprovider")
    run("mypy", "--strict", "--cache-dir", "cache", *files)


@pytest.mark.parametrize("event", EVENT_TYPES)
@pytest.mark.usefixtures("folder")
def test_a_new_read_model_can_be_registered(event: str) -> None:
    name = name_on(event)
    read_model(name, on=event)
    module = import_module(name)
    [projection] = [value for key, value in vars(module).items() if key.lower() == name.replace("_", "")]
    register_projection(projection())


def test_events_of_plugins_are_known(folder: PluginFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVIEW_PLUGINS", folder.write(EVENT))
    with_quotes = EVENT.replace('= "news"', '= "news"\n    """The "reason", as in \\\\d."""')
    folder.write(with_quotes)
    read_model("halts", on="Halted")
    source = (folder.path / "halts.py").read_text()
    assert "from halting import Halted\n" in source
    assert r'"""The \"reason\", as in \\d."""' in source


def test_the_files_and_the_next_commands_are_printed(
    folder: PluginFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKVIEW_PLUGINS", folder.write(EVENT))
    read_model("latest_health", on="HealthReported")
    assert capsys.readouterr().out == (
        "latest_health.py\n"
        "test_latest_health.py\n"
        "Next commands:\n"
        "  python -m pytest test_latest_health.py\n"
        "  PYTHONPATH=. TICKVIEW_PLUGINS=halting,latest_health tickview up\n"
    )


@pytest.mark.usefixtures("folder")
def test_the_files_and_the_next_commands_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    read_model("health", on="HealthReported", json=True)
    assert orjson.loads(capsys.readouterr().out) == {
        "read_model": "health",
        "event": "HealthReported",
        "files": ["health.py", "test_health.py"],
        "commands": ["python -m pytest test_health.py", "PYTHONPATH=. TICKVIEW_PLUGINS=health tickview up"],
    }


REFUSED = {
    "capitals": ("Health", "HealthReported", "'Health' cannot be the name of a read model: use small letters"),
    "an empty name": ("", "HealthReported", "'' cannot be the name of a read model"),
    "a path": ("../health", "HealthReported", "'../health' cannot be the name of a read model"),
    "a keyword": ("class", "HealthReported", "'class' cannot be the name of a read model"),
    "a read model": ("patterns", "HealthReported", "There is already a read model patterns."),
    "a module": ("json", "HealthReported", "There is already a Python module json."),
    "the class of the event": ("health_reported", "HealthReported", "The class of health_reported would have the name"),
    "a misspelled event": ("health", "HealthReprted", "There is no event HealthReprted. Close names: HealthReported."),
    "an unknown event": ("health", "Moon", "There is no event Moon. Known events: BacktestCompleted, "),
    "an event of users": ("health", "PresetSaved", "There is no event PresetSaved. "),
}


@pytest.mark.parametrize(("name", "event", "message"), REFUSED.values(), ids=REFUSED)
def test_a_name_or_an_event_that_does_not_fit_is_refused(
    folder: PluginFolder, name: str, event: str, message: str
) -> None:
    with pytest.raises(CommandError) as refused:
        read_model(name, on=event)
    assert str(refused.value).startswith(message)
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("existing", ["health.py", "test_health.py"])
def test_existing_files_are_not_changed(folder: PluginFolder, existing: str) -> None:
    (folder.path / existing).write_text("mine")
    with pytest.raises(CommandError, match=rf"^{existing} exists already and was not changed\. "):
        read_model("health", on="HealthReported")
    assert [(path.name, path.read_text()) for path in folder.path.iterdir()] == [(existing, "mine")]
