"""The settings: one class, read from the environment, with the platform's own variable names understood too."""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

import orjson
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.processes.lifeline import SUPERVISED
from infra.settings.table_names import parse_table_name
from infra.settings.urls import check_postgres_dsn, check_redis_url

PREFIX = "TICKVIEW_"

_NEVER_EMPTY = (
    *("data", "catalogue_dsn", "catalogue_symbols_table", "catalogue_universes_table", "audit_key"),
    *("tokens_file", "jwt_issuer", "jwt_audience", "jwt_jwks_file"),
)
"""Settings of which an empty value, as a script leaves it whose own variable is not set, would mean something else."""

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")

Durability = Literal["written", "fsynced", "replicated"]
SymbolField = Literal["symbol", "active", "name", "exchange", "market", "type", "sector", "industry", "market_cap"]
UniverseField = Literal["key", "name", "description", "symbols"]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{name}".upper()


class Settings(BaseSettings):
    """Every setting, its environment variable being ``TICKVIEW_`` and its name in capitals.

    Raises pydantic's ValidationError for a value that is out of range, for values that contradict each other, and for
    a variable that begins like ours and is none.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    data: Path = Path(".tickview")
    """Folder of the data and logs of ``tickview up``, by which the other commands find its servers."""
    redis_url: str | None = None
    """Redis or Valkey: ``redis://user:password@host:6379/0``, ``rediss://`` over TLS. That of ``tickview up`` when not
    set."""
    postgres_dsn: str | None = None
    """PostgreSQL: ``postgresql://user:password@host/name?sslmode=verify-full``. That of ``tickview up`` when neither
    this nor ``redis_url`` is set."""

    catalogue_dsn: str | None = None
    """PostgreSQL whose tables have the catalogue, which is only read; that of ``TICKSTOCK_DB_HOST`` when not set."""
    catalogue_symbols_table: str = "symbols"
    """Table or view of the symbols, as ``schema.table`` if need be; a name with a dot in it as ``"my.table"``."""
    catalogue_universes_table: str = "universes"
    """Table or view of the universes; it need not be there unless it is set."""
    catalogue_symbol_columns: Annotated[dict[SymbolField, str], NoDecode] = {}
    """Columns of symbols, in tables and files, that have another name than the field: ``{"name": "company"}``."""
    catalogue_universe_columns: Annotated[dict[UniverseField, str], NoDecode] = {}
    """The same of universes."""

    partitions: Annotated[int, Field(ge=1, le=64)] = 4
    """Partitions of the market log; fixed when the log is first written to."""
    durability: Durability = "fsynced"
    """When an append counts as done: Redis has it, has it on disk, or ``replicas`` other servers have it."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """How many replicas must have an append when ``durability`` is ``replicated``."""
    dedupe_window: Annotated[int, Field(ge=1)] = 86_400
    """Seconds for which at least an event id is remembered."""

    log_retention_age: Annotated[int, Field(ge=1)] = 86_400
    """Seconds for which a log keeps an event that the archive and every read model have."""
    log_retention_size: Annotated[int, Field(ge=1)] = 100_000
    """Events that each log keeps although the archive and every read model have them, at most."""
    archive_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Events archived at once, at most."""
    verify_every: Annotated[int, Field(ge=0)] = 86_400
    """Seconds between two verifications of the archive; 0: only on demand."""
    audit_key: Path | None = None
    """PEM file of the Ed25519 key that signs the archive's heads; of its public half where heads are only checked."""

    batch_size: Annotated[int, Field(ge=1, le=5_000)] = 500
    """Events the recorder appends at once, at most."""
    batch_milliseconds: Annotated[float, Field(ge=0, le=1_000)] = 5.0
    """How long the recorder waits for a batch to fill."""
    backlog: Annotated[int, Field(ge=1)] = 20_000
    """Messages the recorder holds unrecorded, at most."""
    max_message_bytes: Annotated[int, Field(ge=1_024)] = 1_048_576
    """A larger message is a dead letter."""

    dead_letters_max_count: Annotated[int, Field(ge=1)] = 10_000
    """Dead letters kept, at most; the oldest make room."""
    dead_letters_max_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """What they take together, at most."""
    dead_letters_max_age: Annotated[int, Field(ge=60)] = 7 * 86_400
    """Seconds for which a dead letter is kept."""

    lease_seconds: Annotated[float, Field(ge=0.2, le=300)] = 5.0
    """A worker that is silent for so long loses its segments."""
    fold_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Events a worker folds and commits at once, at most."""

    replay_throttle: Annotated[int, Field(ge=0)] = 0
    """Events a second that each segment of a build under way may fold, so that reads stay fast; 0: no limit."""

    host: str = "127.0.0.1"
    """Address that the API listens on; another than that of this machine alone needs authentication."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Its port."""
    api_processes: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that answer."""
    replica_max_rows: Annotated[int, Field(ge=0)] = 250_000
    """Active patterns that each API process keeps in memory to answer from, about 1 kB each; where there are more,
    or with 0, Redis answers."""
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How long a read waits for ``TickView-Min-Position``."""
    tokens_file: Path | None = None
    """File of the tokens of the API, made by ``tickview token create``; with it, whoever asks must show one."""
    jwt_issuer: str | None = None
    """Who signs the JWTs that the API takes (``iss``); goes with ``jwt_audience`` and ``jwt_jwks_file``."""
    jwt_audience: str | None = None
    """For whom they must be (``aud``)."""
    jwt_jwks_file: Path | None = None
    """File of the issuer's public keys (JWKS); read again when it changes."""
    token: SecretStr | None = None
    """What ``tickview publish --via http`` shows to the API."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of the pages that browsers let read our answers, separated by commas: ``https://ui.example``."""
    rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1_000.0
    """Requests a second that each API process answers to each token, or, without one, to each address; 0: no limit.
    Without authentication there is none."""
    rate_burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2_000.0
    """Requests that it answers at once after a rest."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is told in the logs, from here on."""

    platform_redis_host: Annotated[str | None, Field(validation_alias=AliasChoices("REDIS_HOST"))] = None
    """The platform's Redis, where ``TICKVIEW_REDIS_URL`` is not set."""
    platform_redis_port: Annotated[int, Field(validation_alias=AliasChoices("REDIS_PORT"), ge=1, le=65_535)] = 6379
    """Its port."""
    platform_redis_db: Annotated[int, Field(validation_alias=AliasChoices("REDIS_DB"), ge=0)] = 0
    """Number of its database."""
    platform_redis_password: Annotated[SecretStr | None, Field(validation_alias=AliasChoices("REDIS_PASSWORD"))] = None
    """Its password."""
    platform_db_host: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_HOST"))] = None
    """The platform's PostgreSQL, where ``TICKVIEW_POSTGRES_DSN`` is not set."""
    platform_db_port: Annotated[int, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PORT"), ge=1, le=65_535)] = 5432
    """Its port."""
    platform_db_name: Annotated[str, Field(validation_alias=AliasChoices("TICKSTOCK_DB_NAME"))] = "tickstock"
    """Name of its database."""
    platform_db_user: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_USER"))] = None
    """Who we are there; ``postgres`` when not set."""
    platform_db_password: Annotated[SecretStr | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PASSWORD"))] = (
        None
    )
    """Our password there."""

    @field_validator(*_NEVER_EMPTY, mode="before")
    @classmethod
    def _refuse_what_is_empty(cls, given: object) -> object:
        if given == "":
            raise ValueError("is empty: give it a value, or unset it")
        return given

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_redis_url(url)
        return url

    @field_validator("postgres_dsn", "catalogue_dsn")
    @classmethod
    def _check_postgres_dsn(cls, dsn: str | None) -> str | None:
        if dsn:
            check_postgres_dsn(dsn)
        return dsn or None

    @field_validator("catalogue_symbols_table", "catalogue_universes_table")
    @classmethod
    def _check_table(cls, name: str) -> str:
        parse_table_name(name)
        return name

    @field_validator("catalogue_symbol_columns", "catalogue_universe_columns", mode="before")
    @classmethod
    def _parse_columns(cls, given: object) -> object:
        try:
            return orjson.loads(given) if isinstance(given, str) else given
        except orjson.JSONDecodeError:
            raise ValueError('should be a JSON object, such as {"name": "company"}') from None

    @property
    def authenticates(self) -> bool:
        """Whether the API asks who asks."""
        return self.tokens_file is not None or self.jwt_issuer is not None

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, given: object) -> object:
        return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write each as https://ui.example, without a path; no *")
        return origins

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_none(cls, given: Any) -> Any:
        known = [variable(name) for name in cls.model_fields]
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name.upper() not in (*known, SUPERVISED):
                alike = get_close_matches(name.upper(), known, 1, 0.8)
                hint = f"did you mean {alike[0]}?" if alike else "`tickview config` lists those there are"
                raise ValueError(f"{name} is no setting: {hint}")
        return given

    @model_validator(mode="after")
    def _check_durability(self) -> Self:
        if "replicas" in self.model_fields_set and self.durability != "replicated":
            raise ValueError(
                f"TICKVIEW_REPLICAS is of no effect with TICKVIEW_DURABILITY={self.durability}: set it to replicated"
            )
        return self

    @model_validator(mode="after")
    def _check_jwt(self) -> Self:
        parts = {"ISSUER": self.jwt_issuer, "AUDIENCE": self.jwt_audience, "JWKS_FILE": self.jwt_jwks_file}
        missing = [f"TICKVIEW_JWT_{name}" for name, value in parts.items() if not value]
        if 0 < len(missing) < len(parts):
            raise ValueError(f"JWTs need {' and '.join(missing)} too")
        return self

    @model_validator(mode="after")
    def _understand_the_platform(self) -> Self:
        if self.redis_url is None and self.platform_redis_host:
            password = (
                f":{quote(self.platform_redis_password.get_secret_value(), safe='')}@"
                if self.platform_redis_password
                else ""
            )
            address = f"{self.platform_redis_host}:{self.platform_redis_port}/{self.platform_redis_db}"
            object.__setattr__(self, "redis_url", f"redis://{password}{address}")
        if self.platform_db_host:
            user = quote(self.platform_db_user or "postgres", safe="")
            password = (
                f":{quote(self.platform_db_password.get_secret_value(), safe='')}" if self.platform_db_password else ""
            )
            address = f"{self.platform_db_host}:{self.platform_db_port}/{quote(self.platform_db_name, safe='')}"
            for name in ("postgres_dsn", "catalogue_dsn"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, f"postgresql://{user}{password}@{address}")
        return self
