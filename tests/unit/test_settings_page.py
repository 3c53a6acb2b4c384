"""The settings as users see them: their source, hidden secrets, refusals, and the generated page of docs."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.cli.settings_page import render_markdown, settings_in_effect, validation_problems
from infra.settings import Settings
from infra.settings.settings import variable
from readapi.http.field_docstrings import field_docstrings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.chdir(tmp_path)


def problems_of(**variables: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(ValidationError) as refused:
            Settings()
    return validation_problems(refused.value)


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text() == render_markdown(), "run `tickview config --markdown > docs/configuration.md`"


def test_every_setting_has_a_description() -> None:
    assert Settings.model_fields.keys() - field_docstrings(Settings).keys() == set()


def test_each_setting_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVIEW_PORT", "9000")
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("redis_port", "6380")
    settings = {setting.variable: setting[1:] for setting in settings_in_effect(Settings())}
    assert settings["TICKVIEW_PORT"] == ("9000", "TICKVIEW_PORT")
    assert settings["TICKVIEW_REDIS_URL"] == ("redis://cache:6380/0", "REDIS_HOST, REDIS_PORT")
    assert settings["TICKVIEW_POSTGRES_DSN"] == (None, "default")
    assert settings["TICKVIEW_CATALOGUE_DSN"] == (None, "default")
    assert settings["TICKVIEW_DURABILITY"] == ("fsynced", "default")
    monkeypatch.setenv("TICKVIEW_REDIS_URL", "redis://other")
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "db")
    monkeypatch.setenv("TICKVIEW_CATALOGUE_SYMBOL_COLUMNS", '{"name": "company"}')
    settings = {setting.variable: setting[1:] for setting in settings_in_effect(Settings())}
    assert settings["TICKVIEW_REDIS_URL"] == ("redis://other", "TICKVIEW_REDIS_URL")
    assert settings["TICKVIEW_CATALOGUE_DSN"] == ("postgresql://…@db:5433/tickstock", "TICKSTOCK_DB_HOST")
    assert settings["TICKVIEW_CATALOGUE_SYMBOL_COLUMNS"] == ('{"name":"company"}', "TICKVIEW_CATALOGUE_SYMBOL_COLUMNS")


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
    [value_shown] = [setting.value for setting in settings if setting.variable == name]
    assert value_shown is not None
    assert "…" in value_shown


def test_a_refusal_names_the_variable_and_not_its_value() -> None:
    assert problems_of(TICKVIEW_PORT="s3cret") == [
        "TICKVIEW_PORT: Input should be a valid integer, unable to parse string as an integer"
    ]
    [problem] = problems_of(REDIS_HOST="cache", REDIS_PORT="tcp://10.0.0.7:6379")
    assert problem.startswith("REDIS_PORT: ")
    [problem] = problems_of(TICKVIEW_REDIS_URL="http://user:s3cret@cache")
    assert problem.startswith("TICKVIEW_REDIS_URL: must begin with redis://, redis+cluster:// or redis+sentinel://")


def test_contradictory_settings_are_refused() -> None:
    [problem] = problems_of(TICKVIEW_REPLICAS="2")
    assert problem == (
        "TICKVIEW_REPLICAS has no effect with TICKVIEW_DURABILITY=fsynced. "
        "Set TICKVIEW_DURABILITY=replicated, or unset TICKVIEW_REPLICAS."
    )
    assert problems_of(TICKVIEW_JWT_ISSUER="https://login.example") == [
        "JWT authentication also needs TICKVIEW_JWT_AUDIENCE and TICKVIEW_JWT_JWKS_FILE."
    ]
    assert problems_of(TICKVIEW_AUDIT_HEADS="heads.json") == [
        "TICKVIEW_AUDIT_HEADS also needs TICKVIEW_AUDIT_KEY, with which the heads are signed."
    ]


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "2026-01-01"])
def test_the_first_month_of_the_archive_is_a_month(month: str) -> None:
    [problem] = problems_of(TICKVIEW_ARCHIVE_SINCE=month)
    assert problem.startswith("TICKVIEW_ARCHIVE_SINCE: ")


def test_an_unknown_tickview_variable_is_refused() -> None:
    assert problems_of(TICKVIEW_RATELIMIT="5") == [
        "TICKVIEW_RATELIMIT is not a setting. Did you mean TICKVIEW_RATE_LIMIT?"
    ]
    for name in ("TICKVIEW_XYZZY", "TICKVIEW_FOO"):
        assert problems_of(**{name: "5"}) == [f"{name} is not a setting. `tickview config` lists all settings."]


def test_origins_have_no_default_port() -> None:
    origins = ("https://ui.example:443", "http://ui.example:80", "https://ui.example:80", "http://[::1]:443")
    expected = ("https://ui.example", "http://ui.example", "https://ui.example:80", "http://[::1]:443")
    assert Settings(cors_origins=origins).cors_origins == expected


def test_a_trusted_proxy_is_an_address_or_a_network() -> None:
    [problem] = problems_of(TICKVIEW_TRUSTED_PROXIES="127.0.0.1, proxy.example")
    assert problem.startswith("TICKVIEW_TRUSTED_PROXIES")
    assert "network" in problem
