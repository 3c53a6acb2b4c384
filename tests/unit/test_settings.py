"""Settings: defaults that need no thinking, the platform's own names, and refusals that name the variable."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from infra.access.open_guard import check_exposure
from infra.cli.settings_page import validation_problems
from infra.processes.errors import StartupError
from infra.settings import Settings
from infra.settings.urls import without_password


def test_defaults_mean_embedded_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICKVIEW_REDIS_URL", "TICKVIEW_POSTGRES_DSN", "REDIS_HOST", "TICKSTOCK_DB_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert (Settings().redis_url, Settings().postgres_dsn) == (None, None)
    assert Settings().durability == "fsynced"


def test_the_platforms_variables_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKVIEW_REDIS_URL", raising=False)
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    for name, value in {
        "REDIS_HOST": "cache",
        "REDIS_PORT": "6380",
        "REDIS_DB": "2",
        "REDIS_PASSWORD": "p@ss/word",
        "TICKSTOCK_DB_HOST": "db",
        "TICKSTOCK_DB_NAME": "market",
        "TICKSTOCK_DB_USER": "reader",
        "TICKSTOCK_DB_PASSWORD": "s:cret",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings().redis_url == "redis://:p%40ss%2Fword@cache:6380/2"
    assert Settings().postgres_dsn == "postgresql://reader:s%3Acret@db:5432/market"


def test_our_own_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("TICKVIEW_REDIS_URL", "redis://other:1")
    assert Settings().redis_url == "redis://other:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PARTITIONS", "0"), ("DURABILITY", "maybe"), ("BATCH_SIZE", "many"), ("LEASE_SECONDS", "0"), ("PORT", "70000")],
)
def test_what_is_out_of_range_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TICKVIEW_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [problem["loc"] for problem in refused.value.errors()] == [(name.lower(),)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://:s3cret/part@host:6379/0"),
        ("REDIS_URL", "redis://host:70000/0"),
        ("REDIS_URL", "redis://host/zero"),
        ("REDIS_URL", "redis://host/0?s3cret=1"),
        ("POSTGRES_DSN", "nonsense"),
        ("POSTGRES_DSN", "postgresql://me:%ecs3cret@host/name"),
        ("CATALOGUE_DSN", "postgresql+psycopg2://me:s3cret@host/name"),
        ("CATALOGUE_DSN", "postgresql://me:%zzs3cret@host/name"),
        ("CATALOGUE_SYMBOL_COLUMNS", "symbol=s3cret"),
        ("CATALOGUE_UNIVERSE_COLUMNS", ""),
        ("CATALOGUE_DSN", ""),
        ("CATALOGUE_SYMBOLS_TABLE", ""),
        ("TOKENS_FILE", ""),
        ("JWT_ISSUER", ""),
        ("DATA", ""),
    ],
)
def test_what_nothing_can_be_made_of_is_refused_in_one_line_that_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TICKVIEW_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    [line] = validation_problems(refused.value)
    assert line.startswith(f"TICKVIEW_{name}: ")
    assert "s3cret" not in line + str(refused.value), "the error itself ends in the log of an application around us"


def test_a_database_of_the_platform_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "db")
    monkeypatch.setenv("TICKSTOCK_DB_NAME", "tick stock/2?")
    assert conninfo_to_dict(Settings().postgres_dsn or "")["dbname"] == "tick stock/2?"


def test_passwords_are_not_shown() -> None:
    assert without_password("redis://:secret@host:6379/0") == "redis://…@host:6379/0"
    assert without_password("redis://host:6379") == "redis://host:6379"


@pytest.mark.parametrize("name", ["REDIS_URL", "POSTGRES_DSN", "CATALOGUE_DSN"])
@pytest.mark.parametrize("password", ["s3cret/x", "s3?cret", "s3#cret", "s3%zzcret/", "123?s3"])
def test_a_password_that_is_misread_is_not_told(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    scheme = "redis" if name == "REDIS_URL" else "postgresql"
    monkeypatch.setenv(f"TICKVIEW_{name}", f"{scheme}://user:{password}@127.0.0.1:1/0")
    try:
        Settings()
    except ValidationError as error:
        [problem] = validation_problems(error)
        assert problem.startswith(f"TICKVIEW_{name}: ")
        assert "%2F" in problem
        assert "s3" not in problem
    else:
        # libpq looks for the end of a password first.
        assert scheme == "postgresql"
        assert password in ("s3#cret", "s3?cret", "123?s3")


@pytest.mark.parametrize(
    "url", ["unix:///run/a@b.sock", "rediss://u:%2F%40@h:1/0?ssl_ca_certs=/a", "redis://h?username=a@b"]
)
def test_what_a_url_may_have_is_taken(url: str) -> None:
    assert Settings.model_validate({"redis_url": url}).redis_url == url


@pytest.mark.parametrize(
    "dsn", ["host=a,b port=1,2 password='s 3'", "postgresql:///x?host=/run", "postgresql://a:1,b:2/x"]
)
def test_what_a_dsn_may_be_is_taken(dsn: str) -> None:
    assert Settings.model_validate({"postgres_dsn": dsn}).postgres_dsn == dsn


LOCAL = ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"]
EXPOSED = ["0.0.0.0", "::", "192.0.2.1", "tickview.example", "localhost.example", ""]  # noqa: S104


@pytest.mark.parametrize("host", EXPOSED)
def test_without_authentication_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(StartupError, match="TICKVIEW_TOKENS_FILE"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, tokens_file=Path("tokens.json")))


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_served_without(host: str) -> None:
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"jwt_issuer": "https://login.example"}, "TICKVIEW_JWT_AUDIENCE and TICKVIEW_JWT_JWKS_FILE"),
        ({"jwt_audience": "tickview", "jwt_jwks_file": "keys.json"}, "TICKVIEW_JWT_ISSUER"),
        ({"cors_origins": "*"}, "[*] is not allowed"),
        ({"cors_origins": "https://ui.example/"}, "without a path"),
        ({"cors_origins": "https://ui.example, ui.example"}, "'ui.example' is not an origin"),
        ({"cors_origins": "null"}, "is not an origin"),
    ],
)
def test_what_contradicts_itself_or_opens_too_much_is_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate(given)


def test_origins_are_separated_by_commas() -> None:
    origins = Settings.model_validate({"cors_origins": "https://ui.example, http://localhost:3000"}).cors_origins
    assert origins == ("https://ui.example", "http://localhost:3000")
