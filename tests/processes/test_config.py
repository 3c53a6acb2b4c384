"""Settings as every command takes them: in effect, or refused in one line before anything starts."""

from pathlib import Path

import orjson
import pytest

from tests.processes.roles import tickview


@pytest.mark.parametrize("role", ["up", "record", "project", "archive", "serve", "demo", "status", "config"])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"batch_size": "0"}, "TICKVIEW_BATCH_SIZE"),
        ({"jwt_issuer": "https://login.example"}, "TICKVIEW_JWT_AUDIENCE"),
    ],
)
def test_what_is_wrong_is_refused_by_every_role_in_one_line(
    tmp_path: Path, role: str, wrong: dict[str, str], named: str
) -> None:
    refused = tickview(role, redis_url="redis://unused.invalid", data=tmp_path / "data", **wrong)
    assert (refused.returncode, refused.stdout) == (1, b"")
    [line] = refused.stderr.decode().splitlines()
    assert named in line
    assert not (tmp_path / "data").exists()


def test_what_is_wrong_on_the_command_line_is_refused_too(tmp_path: Path) -> None:
    refused = tickview("serve", "--port", "70000", redis_url="redis://unused.invalid")
    [line] = refused.stderr.decode().splitlines()
    assert (refused.returncode, "TICKVIEW_PORT" in line) == (1, True)
    missing = tickview("serve", redis_url="redis://unused.invalid", tokens_file=tmp_path / "none.json")
    [line] = missing.stderr.decode().splitlines()
    assert (missing.returncode, "TICKVIEW_TOKENS_FILE" in line) == (1, True)


def test_config_prints_what_is_in_effect_and_hides_secrets(tmp_path: Path) -> None:
    url, secret = "redis://user:s3cret@cache:6379/0", {"token": "s3cret"}
    shown = tickview("config", "--json", redis_url=url, data=tmp_path, port=9000, **secret)
    settings = {one["variable"]: one for one in orjson.loads(shown.stdout)["settings"]}
    assert b"s3cret" not in shown.stdout
    assert settings["TICKVIEW_PORT"] == {"variable": "TICKVIEW_PORT", "value": "9000", "source": "TICKVIEW_PORT"}
    assert settings["TICKVIEW_REDIS_URL"]["value"] == "redis://…@cache:6379/0"
    table = tickview("config", redis_url=url, data=tmp_path, **secret)
    assert b"s3cret" not in table.stdout
    assert "redis://…@cache:6379/0" in table.stdout.decode()
