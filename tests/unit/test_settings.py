"""Settings: defaults, variables of the platform, and refusals that name the variable and hide secrets."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from infra.access.exposure import check_exposure
from infra.cli.settings_page import settings_in_effect, validation_problems
from infra.processes.errors import StartupError
from infra.settings import Settings
from infra.settings.urls import without_password

ZONES = ("", "Mars", "America", "/etc/localtime", "../zone")
"""Texts that are no time zones."""


def test_the_defaults_use_embedded_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICKVIEW_REDIS_URL", "TICKVIEW_POSTGRES_DSN", "REDIS_HOST", "TICKSTOCK_DB_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert (Settings().redis_url, Settings().postgres_dsn) == (None, None)
    assert Settings().durability == "fsynced"


def test_the_variables_of_the_platform_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert Settings().postgres_dsn == "postgresql://reader:s%3Acret@db:5433/market"


def test_the_producers_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVIEW_CHANNELS", "a.*=patterns, b=health")
    assert Settings().channels == ("a.*=patterns", "b=health")
    assert (Settings().producer_timezone, "daily" in Settings().tiers) == ("UTC", True)
    for name, value in [("CHANNELS", "a=ticks"), ("CHANNELS", "a"), *(("PRODUCER_TIMEZONE", zone) for zone in ZONES)]:
        with monkeypatch.context() as patch:
            patch.setenv(f"TICKVIEW_{name}", value)
            with pytest.raises(ValidationError, match=name.lower()):
                Settings()


def test_the_variable_of_tickview_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("TICKVIEW_REDIS_URL", "redis://other:1")
    assert Settings().redis_url == "redis://other:1"


@pytest.mark.parametrize(
    "used",
    [
        {"TICKVIEW_REDIS_URL": "redis://other:1", "REDIS_HOST": "cache"},
        {"TICKSTOCK_DB_HOST": "db", "TICKVIEW_POSTGRES_DSN": "postgresql://a", "TICKVIEW_CATALOGUE_DSN": "dbname=b"},
        {},
    ],
)
def test_a_variable_of_the_platform_that_is_not_used_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, used: dict[str, str]
) -> None:
    """Kubernetes sets REDIS_PORT to an address for a service named redis."""
    for name in ("TICKVIEW_REDIS_URL", "TICKVIEW_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    unusable = {"REDIS_PORT": "tcp://10.0.0.7:6379", "REDIS_DB": "main", "TICKSTOCK_DB_PORT": "tcp://10.0.0.8:5432"}
    for name, value in (unusable | used).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.redis_url, settings.postgres_dsn) == (
        used.get("TICKVIEW_REDIS_URL"),
        used.get("TICKVIEW_POSTGRES_DSN"),
    )
    shown = {setting.variable: setting for setting in settings_in_effect(settings)}
    assert (shown["REDIS_PORT"].value, shown["REDIS_PORT"].source) == ("6379", "default")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PARTITIONS", "0"), ("DURABILITY", "maybe"), ("BATCH_SIZE", "many"), ("LEASE_SECONDS", "0"), ("PORT", "70000")],
)
def test_a_value_out_of_range_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
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
def test_an_invalid_value_is_refused_in_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TICKVIEW_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    [line] = validation_problems(refused.value)
    assert line.startswith(f"TICKVIEW_{name}: ")
    assert "s3cret" not in line + str(refused.value), "an embedding application may log the error itself"


def test_the_database_of_the_platform_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "db")
    monkeypatch.setenv("TICKSTOCK_DB_NAME", "tick stock/2?")
    assert conninfo_to_dict(Settings().postgres_dsn or "")["dbname"] == "tick stock/2?"


@pytest.mark.parametrize(
    ("uri", "dsn"),
    [
        ("postgresql://app:s%2F@db:5433/tickstock", "postgresql://app:s%2F@db:5433/tickstock"),
        ("postgresql+psycopg2://app@db/tickstock", "postgresql://app@db/tickstock"),
        ("postgres://db/tickstock", "postgresql://db/tickstock"),
    ],
)
def test_the_uri_of_the_platform_replaces_its_single_variables(
    monkeypatch: pytest.MonkeyPatch, uri: str, dsn: str
) -> None:
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("TICKSTOCK_DB_HOST", "other")
    monkeypatch.setenv("DATABASE_URI", uri)
    assert (Settings().postgres_dsn, Settings().catalogue_dsn) == (dsn, dsn)


def test_the_uri_of_another_database_system_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    monkeypatch.delenv("TICKSTOCK_DB_HOST", raising=False)
    monkeypatch.setenv("DATABASE_URI", "sqlite:///app.db")
    assert (Settings().postgres_dsn, Settings().catalogue_dsn) == (None, None)


def test_a_url_is_shown_without_its_password() -> None:
    assert without_password("redis://:secret@host:6379/0") == "redis://…@host:6379/0"
    assert without_password("redis://host:6379") == "redis://host:6379"


@pytest.mark.parametrize("name", ["REDIS_URL", "POSTGRES_DSN", "CATALOGUE_DSN"])
@pytest.mark.parametrize("password", ["s3cret/x", "s3?cret", "s3#cret", "s3%zzcret/", "123?s3"])
def test_a_refusal_hides_a_password_that_was_not_percent_encoded(
    monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
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
        # libpq searches for the end of the password first.
        assert scheme == "postgresql"
        assert password in ("s3#cret", "s3?cret", "123?s3")


@pytest.mark.parametrize(
    "url", ["unix:///run/a@b.sock", "rediss://u:%2F%40@h:1/0?ssl_ca_certs=/a", "redis://h?username=a@b"]
)
def test_every_valid_form_of_a_redis_url_is_accepted(url: str) -> None:
    assert Settings.model_validate({"redis_url": url}).redis_url == url


@pytest.mark.parametrize(
    "dsn", ["host=a,b port=1,2 password='s 3'", "postgresql:///x?host=/run", "postgresql://a:1,b:2/x"]
)
def test_every_valid_form_of_a_dsn_is_accepted(dsn: str) -> None:
    assert Settings.model_validate({"postgres_dsn": dsn}).postgres_dsn == dsn


LOCAL = ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"]
EXPOSED = ["0.0.0.0", "::", "192.0.2.1", "tickview.example", "localhost.example", ""]  # noqa: S104


@pytest.mark.parametrize("host", EXPOSED)
def test_a_public_address_requires_authentication(host: str) -> None:
    with pytest.raises(StartupError, match="TICKVIEW_TOKENS_FILE"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, tokens_file=Path("tokens.json")))


@pytest.mark.parametrize("host", LOCAL)
def test_a_loopback_address_needs_no_authentication(host: str) -> None:
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    ("fields", "reason_part"),
    [
        ({"jwt_issuer": "https://login.example"}, "TICKVIEW_JWT_AUDIENCE and TICKVIEW_JWT_JWKS_FILE"),
        ({"jwt_audience": "tickview", "jwt_jwks_file": "keys.json"}, "TICKVIEW_JWT_ISSUER"),
        ({"cors_origins": "*"}, "[*] is not allowed"),
        ({"cors_origins": "https://ui.example/"}, "without a path"),
        ({"cors_origins": "https://ui.example, ui.example"}, "'ui.example' is not an origin"),
        ({"cors_origins": "null"}, "is not an origin"),
    ],
)
def test_incomplete_jwt_settings_and_invalid_origins_are_refused(fields: dict[str, str], reason_part: str) -> None:
    with pytest.raises(ValidationError, match=reason_part):
        Settings.model_validate(fields)


def test_origins_are_separated_by_commas() -> None:
    origins = Settings.model_validate({"cors_origins": "https://ui.example, http://localhost:3000"}).cors_origins
    assert origins == ("https://ui.example", "http://localhost:3000")


def test_a_standby_needs_a_primary_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKVIEW_POSTGRES_DSN", raising=False)
    standby = "postgresql://reader:secret@standby/tickview"
    with pytest.raises(ValidationError) as refused:
        Settings(redis_url="redis://localhost", postgres_read_dsn=standby)
    assert validation_problems(refused.value) == [
        "TICKVIEW_POSTGRES_READ_DSN also needs TICKVIEW_POSTGRES_DSN, the primary server."
    ]
    primary = "postgresql://writer@primary/tickview"
    settings = Settings(redis_url="redis://localhost", postgres_dsn=primary, postgres_read_dsn=standby)
    [shown] = [each.value for each in settings_in_effect(settings) if each.variable == "TICKVIEW_POSTGRES_READ_DSN"]
    assert shown is not None
    assert "secret" not in shown
