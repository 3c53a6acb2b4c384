"""The settings of commands: ``tickview config``, and refusals in one line before a command does anything."""

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
