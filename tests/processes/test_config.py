"""The settings of commands: ``tickview config``, and refusals in one line before a command does anything."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import orjson
import pytest

from tests.processes.roles import tickview


@pytest.mark.parametrize("command", ["up", "record", "project", "archive", "serve", "demo", "status", "config"])
@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"batch_size": "0"}, "TICKVIEW_BATCH_SIZE"),
        ({"jwt_issuer": "https://login.example"}, "TICKVIEW_JWT_AUDIENCE"),
    ],
)
def test_every_command_refuses_invalid_settings_in_one_line(
    tmp_path: Path, command: str, settings: dict[str, str], variable: str
) -> None:
    refused = tickview(command, redis_url="redis://unused.invalid", data=tmp_path / "data", **settings)
    assert (refused.returncode, refused.stdout) == (1, b"")
    [line] = refused.stderr.decode().splitlines()
    assert variable in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "command",
    [
        *("up", "record", "project", "archive", "serve", "publish -", "status", "projections", "replay patterns"),
        *("rollback patterns", "history x", "catalogue sync", "workspaces show x", "demo", "dead-letters list"),
        *("audit verify", "audit head", "audit check x", "audit export --format csv"),
    ],
)
def test_commands_refuse_an_unknown_plugin_in_one_line(tmp_path: Path, command: str) -> None:
    settings = {"data": str(tmp_path / "data"), "plugins": "nowhere.halts"}
    refused = tickview(*command.split(), redis_url="redis://unused.invalid", **settings)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode() == (
        "tickview: TICKVIEW_PLUGINS names nowhere.halts, which cannot be imported: "
        "ModuleNotFoundError: No module named 'nowhere'.\n"
    )
    assert not (tmp_path / "data").exists()


def test_commands_without_events_need_no_plugins(tmp_path: Path) -> None:
    settings = {"plugins": "nowhere.halts", "tokens_file": str(tmp_path / "tokens.json")}
    for command in ("config", "config --markdown", "token create --subject anna --scope read", "replay --help"):
        completed = tickview(*command.split(), redis_url="redis://unused.invalid", **settings)
        assert completed.returncode == 0, completed.stderr


def test_the_version_is_printed_and_commands_are_completed() -> None:
    script = Path(sys.executable).with_name("tickview")
    version = subprocess.run([script, "--version"], capture_output=True, check=True)
    assert version.stdout.decode() == f"tickview {metadata.version('tickview')}\n"
    completing = {"_TICKVIEW_COMPLETE": "complete_bash", "COMP_WORDS": "tickview re", "COMP_CWORD": "1"}
    completion = subprocess.run([script], env=os.environ | completing, capture_output=True, check=True)
    assert completion.stdout.split() == [b"record", b"replay"]


def test_new_event_schema_refuses_what_is_no_event_class_in_one_line() -> None:
    for event, problem in {
        "nowhere:Halted": b"nowhere:Halted cannot be imported: ModuleNotFoundError: No module named 'nowhere'.",
        "domain.events:Event": b"domain.events:Event has no stream: define the property stream, which names the stream "
        b"of an event.",
        "domain.streams:log_of": b"domain.streams:log_of is no event class: derive it from domain.events.Event.",
    }.items():
        refused = tickview("new", "event-schema", event, redis_url="redis://unused.invalid")
        assert (refused.returncode, refused.stderr) == (1, b"tickview: " + problem + b"\n")


def test_serve_refuses_invalid_options_and_missing_files_in_one_line(tmp_path: Path) -> None:
    refused = tickview("serve", "--port", "70000", redis_url="redis://unused.invalid")
    [line] = refused.stderr.decode().splitlines()
    assert (refused.returncode, "TICKVIEW_PORT" in line) == (1, True)
    missing = tickview("serve", redis_url="redis://unused.invalid", tokens_file=tmp_path / "none.json")
    [line] = missing.stderr.decode().splitlines()
    assert (missing.returncode, "TICKVIEW_TOKENS_FILE" in line) == (1, True)


def test_config_prints_effective_settings_and_hides_secrets(tmp_path: Path) -> None:
    url, secret = "redis://user:s3cret@cache:6379/0", {"token": "s3cret"}
    output = tickview("config", "--json", redis_url=url, data=tmp_path, port=9000, **secret).stdout
    settings = {setting["variable"]: setting for setting in orjson.loads(output)["settings"]}
    assert b"s3cret" not in output
    assert settings["TICKVIEW_PORT"] == {"variable": "TICKVIEW_PORT", "value": "9000", "source": "TICKVIEW_PORT"}
    assert settings["TICKVIEW_REDIS_URL"]["value"] == "redis://…@cache:6379/0"
    table = tickview("config", redis_url=url, data=tmp_path, **secret)
    assert b"s3cret" not in table.stdout
    assert "redis://…@cache:6379/0" in table.stdout.decode()
