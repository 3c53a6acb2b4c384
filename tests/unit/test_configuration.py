"""The settings as people see them: nothing secret, where each came from, and a page that is true."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.cli.settings_page import render_markdown, settings_in_effect, validation_problems
from infra.settings import Settings
from infra.settings.settings import variable

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(**variables: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(ValidationError) as refused:
            Settings()
    return validation_problems(refused.value)


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text() == render_markdown(), "run `tickview config --markdown > docs/configuration.md`"


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_each_setting_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVIEW_PORT", "9000")
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("redis_port", "6380")
    shown = {one.variable: one[1:] for one in settings_in_effect(Settings())}
    assert shown["TICKVIEW_PORT"] == ("9000", "TICKVIEW_PORT")
    assert shown["TICKVIEW_REDIS_URL"] == ("redis://cache:6380/0", "REDIS_HOST, REDIS_PORT")
    assert shown["TICKVIEW_POSTGRES_DSN"] == (None, "default")
    assert shown["TICKVIEW_CATALOGUE_DSN"] == (None, "default")
    assert shown["TICKVIEW_DURABILITY"] == ("fsynced", "default")
    monkeypatch.setenv("TICKVIEW_REDIS_URL", "redis://other")
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "db")
    monkeypatch.setenv("TICKVIEW_CATALOGUE_SYMBOL_COLUMNS", '{"name": "company"}')
    shown = {one.variable: one[1:] for one in settings_in_effect(Settings())}
    assert shown["TICKVIEW_REDIS_URL"] == ("redis://other", "TICKVIEW_REDIS_URL")
    assert shown["TICKVIEW_CATALOGUE_DSN"] == ("postgresql://…@db:5432/tickstock", "TICKSTOCK_DB_HOST")
    assert shown["TICKVIEW_CATALOGUE_SYMBOL_COLUMNS"] == ('{"name":"company"}', "TICKVIEW_CATALOGUE_SYMBOL_COLUMNS")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TICKVIEW_REDIS_URL", "redis://user:s3cret@cache:6379/0"),
        ("TICKVIEW_REDIS_URL", "redis://cache:6379/0?username=user&password=s3cret&db=1"),
        ("TICKVIEW_POSTGRES_DSN", "postgresql://user:s3cret@db/name"),
        ("TICKVIEW_POSTGRES_DSN", "host=db password=s3cret dbname=name"),
        ("TICKVIEW_POSTGRES_DSN", r"host=db password = 's3\'cret s3cret' dbname=name"),
        ("TICKVIEW_TOKEN", "s3cret"),
        ("REDIS_PASSWORD", "s3cret"),
        ("TICKSTOCK_DB_PASSWORD", "s3cret"),
    ],
)
def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "db")
    monkeypatch.setenv(name, value)
    settings = settings_in_effect(Settings())
    assert "cret" not in str(settings)
    [shown] = [one.value for one in settings if one.variable == name]
    assert shown is not None
    assert "…" in shown


def test_what_is_wrong_is_said_by_name_and_without_the_value() -> None:
    assert refusal(TICKVIEW_PORT="s3cret") == [
        "TICKVIEW_PORT: Input should be a valid integer, unable to parse string as an integer"
    ]
    [problem] = refusal(REDIS_PORT="70000")
    assert problem.startswith("REDIS_PORT: ")
    [problem] = refusal(TICKVIEW_REDIS_URL="http://user:s3cret@cache")
    assert problem == "TICKVIEW_REDIS_URL: must begin with redis://, rediss:// (TLS) or unix://"


def test_what_contradicts_itself_is_said() -> None:
    [problem] = refusal(TICKVIEW_REPLICAS="2")
    assert problem == (
        "TICKVIEW_REPLICAS has no effect with TICKVIEW_DURABILITY=fsynced. "
        "Set TICKVIEW_DURABILITY=replicated, or unset TICKVIEW_REPLICAS."
    )
    assert refusal(TICKVIEW_JWT_ISSUER="https://login.example") == [
        "JWT authentication also needs TICKVIEW_JWT_AUDIENCE and TICKVIEW_JWT_JWKS_FILE."
    ]


def test_a_variable_that_is_none_of_ours_is_refused() -> None:
    assert refusal(TICKVIEW_RATELIMIT="5") == ["TICKVIEW_RATELIMIT is not a setting. Did you mean TICKVIEW_RATE_LIMIT?"]
    assert refusal(TICKVIEW_XYZZY="5") == ["TICKVIEW_XYZZY is not a setting. `tickview config` lists all settings."]
