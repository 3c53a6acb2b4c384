"""The settings: one class that reads the environment variables of TickView and of the TickStock platform."""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import orjson
from pydantic import AliasChoices, Field, IPvAnyNetwork, SecretStr, WithJsonSchema, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.default_expiry import parse_default_expiry
from domain.horizon import LONGEST_SECONDS, Horizon
from domain.wire import TIERS, FurtherChannel
from infra.processes.lifeline import SUPERVISED
from infra.settings.platform_servers import build_postgres_dsn, build_redis_url, plain_postgres_dsn
from infra.settings.redis_urls import parse_redis_url
from infra.settings.table_names import parse_table_name
from infra.settings.urls import check_postgres_dsn

PREFIX = "TICKVIEW_"
"""Prefix of the environment variables of TickView."""

_NEVER_EMPTY = (
    *("data", "catalogue_dsn", "catalogue_symbols_table", "catalogue_universes_table", "audit_key"),
    *("audit_heads", "archive_since"),
    *("tokens_file", "jwt_issuer", "jwt_audience", "jwt_jwks_file"),
)
"""Settings that refuse an empty value. A script whose own variable is unset would otherwise change their meaning."""

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")

Durability = Literal["written", "fsynced", "replicated"]
SymbolField = Literal[
    "symbol",
    "active",
    "name",
    "exchange",
    "market",
    "type",
    "sector",
    "industry",
    "market_cap",
    "locale",
    "currency_name",
    "currency_symbol",
    "cik",
    "composite_figi",
    "share_class_figi",
    "weighted_shares_outstanding",
]
ExpirySeconds = Annotated[float, Field(gt=0, le=Horizon().end_seconds, allow_inf_nan=False)]
UniverseField = Literal["key", "name", "description", "symbols", "category", "criteria"]


def variable(name: str) -> str:
    """Return the name of a setting's environment variable."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{name}".upper()


class Settings(BaseSettings):
    """All settings. The environment variable of a setting is ``TICKVIEW_`` followed by its name in capitals.

    Raises:
        pydantic.ValidationError: A value is invalid or out of range, two values contradict each other, or a variable
            begins with ``TICKVIEW_`` and is not a setting. The error does not contain the values, which may be secret.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    data: Path = Path(".tickview")
    """Folder of the data and the logs of ``tickview up``. Other commands find its servers through this folder."""
    redis_url: str | None = None
    """Redis or Valkey: ``redis://user:password@host:6379/0``, a cluster ``redis+cluster://host:6379,host:6379``, or
    Sentinels ``redis+sentinel://user:password@host:26379,host:26379/service/0``. ``rediss`` instead of ``redis`` for
    TLS. If unset, the server of ``tickview up``."""
    postgres_dsn: str | None = None
    """PostgreSQL: ``postgresql://user:password@host/name?sslmode=verify-full``. If this setting and
    ``TICKVIEW_REDIS_URL`` are unset, the server of ``tickview up``. With several hosts (``host1,host2``) the one that
    can be written, unless ``target_session_attrs`` says otherwise."""
    postgres_read_dsn: str | None = None
    """Standby of the server of ``TICKVIEW_POSTGRES_DSN``, from which audit, histories and queries as of a moment are
    read. With several hosts the first standby that answers, else the primary server. If unset, the past is read from
    the server of ``TICKVIEW_POSTGRES_DSN``."""

    catalogue_dsn: str | None = None
    """PostgreSQL database with the tables of the catalogue. TickView only reads it. If unset, the database of
    ``TICKSTOCK_DB_HOST``."""
    catalogue_symbols_table: str = "symbols"
    """Table or view of the symbols, optionally with its schema: ``schema.table``. Quote a name that contains a dot:
    ``"my.table"``."""
    catalogue_universes_table: str = "universes"
    """Table or view of the universes, written like the table of the symbols. If unset, the default table may be
    missing."""
    catalogue_symbol_columns: Annotated[dict[SymbolField, str], NoDecode] = {}
    """Columns of the symbols, in tables and files, whose name differs from the field: ``{"name": "company"}``."""
    catalogue_universe_columns: Annotated[dict[UniverseField, str], NoDecode] = {}
    """Columns of the universes, in tables and files, whose name differs from the field: ``{"key": "code"}``."""

    partitions: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of partitions with which the market log is created. Later, ``tickview partitions raise`` raises it."""
    durability: Durability = "fsynced"
    """Point at which an append is acknowledged: Redis has the events, has them on disk, or ``TICKVIEW_REPLICAS``
    replicas have them."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Number of replicas that must have an append if ``TICKVIEW_DURABILITY`` is ``replicated``."""
    dedupe_window: Annotated[int, Field(ge=1)] = 86_400
    """Seconds for which a log remembers an event id, and drops events with the same id. It may remember an id for up to
    twice as long."""

    log_retention_age: Annotated[int, Field(ge=1)] = 86_400
    """Age in seconds from which a log trims an event. A log trims only events that the archive and every read
    model have."""
    log_retention_size: Annotated[int, Field(ge=1)] = 100_000
    """Number of events beyond which a log trims the oldest. A log trims only events that the archive and every read
    model have."""
    archive_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Highest number of events per archive transaction."""
    verify_every: Annotated[int, Field(ge=0)] = 86_400
    """Seconds between two verifications of the archive. 0: verify only on request."""
    audit_key: Path | None = None
    """PEM file of the Ed25519 private key that signs the heads of the archive. To check signatures, the public key
    suffices."""
    audit_heads: str | None = None
    """File, or URL (``https://…``, by ``PUT``), to which the archiver writes signed heads after each scheduled
    verification. A verification compares the chains with the heads in the file. Set ``TICKVIEW_AUDIT_KEY``, too."""
    archive_since: Annotated[str | None, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] = None
    """First month that the archive should have (``2026-01``), if earlier months were detached on purpose. If unset,
    verification reports every detached month."""

    batch_size: Annotated[int, Field(ge=1, le=5_000)] = 500
    """Highest number of events that the recorder appends at once."""
    batch_milliseconds: Annotated[float, Field(ge=0, le=1_000)] = 5.0
    """Highest number of milliseconds for which the recorder collects messages into a batch."""
    backlog: Annotated[int, Field(ge=1)] = 20_000
    """Highest number of received messages that wait in the recorder."""
    max_message_bytes: Annotated[int, Field(ge=1_024)] = 1_048_576
    """Largest message in bytes. The recorder stores a larger message as a dead letter."""

    time_horizon: Annotated[float, Field(ge=0, le=LONGEST_SECONDS)] = Horizon().seconds
    """Seconds by which the time of an event or of a detection may be ahead of its receipt, because clocks differ."""
    expiry_horizon: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Horizon().end_seconds
    """Seconds by which an expected time, such as the expiry of a pattern, may be ahead of the receipt."""
    beyond_horizon: Literal["refuse", "clamp"] = "refuse"
    """Treatment of a time beyond its horizon: refuse the message, or replace the time. The time of receipt replaces the
    time of an event; the horizon replaces an expiry."""

    channels: Annotated[tuple[str, ...], NoDecode] = ()
    """Further Redis channels of producers, separated by commas, each with the kind of its messages (``patterns``,
    ``progress``, ``results`` or ``health``): ``events.daily=patterns``. The characters ``*`` and ``?`` make a pattern
    of channels."""
    producer_timezone: str = "UTC"
    """Time zone of times in messages that name no zone, such as ``America/New_York``."""
    tiers: Annotated[tuple[str, ...], NoDecode] = TIERS
    """Tiers, separated by commas. The ``source`` of a message without an envelope is its tier if it is one of them and
    the message names no tier."""
    default_expiry: Annotated[dict[str, ExpirySeconds], NoDecode, WithJsonSchema({"type": "string"})] = {}
    """Seconds after which a detection expires that names no end: ``3600``, or by tier ``daily=86400,intraday=3600``, or
    both ``daily=86400,3600``. They count from the detection or its announcement, whichever is later. If unset, such a
    detection does not expire by itself."""

    dead_letters_max_count: Annotated[int, Field(ge=1)] = 10_000
    """Highest number of stored dead letters. Beyond it, the oldest are dropped."""
    dead_letters_max_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """Highest total size of the stored dead letters in bytes. Beyond it, the oldest are dropped."""
    dead_letters_max_age: Annotated[int, Field(ge=60)] = 7 * 86_400
    """Seconds for which a dead letter is stored."""

    lease_seconds: Annotated[float, Field(ge=0.2, le=300)] = 5.0
    """Seconds after which a worker or archiver without a sign of life loses its leases."""
    fold_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Highest number of events that a worker folds and commits at once."""

    replay_throttle: Annotated[int, Field(ge=0)] = 0
    """Highest number of events per second that each segment of a new build folds, so that reads stay fast. 0: no
    limit."""

    compatibility: Literal["tickstock"] | None = None
    """Platform as whose API the API speaks, for pages and programs that were written for it: parameters, defaults and
    members of answers. If unset, the API is TickView's own."""
    host: str = "127.0.0.1"
    """Address on which the API listens. Addresses other than loopback require authentication."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port on which the API listens. 0: any free port. ``tickview up`` needs a number from 1."""
    api_processes: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of processes that answer API requests."""
    replica_max_rows: Annotated[int, Field(ge=0)] = 250_000
    """Highest number of rows of a read model that each API process holds in memory, about 1 kB each. With more rows, or
    with 0, Redis answers the queries. The catalogue and the read model of the dashboard are always held in memory."""
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds for which a read waits for the positions in its header ``TickView-Min-Position``."""
    tokens_file: Path | None = None
    """File of the API tokens, created by ``tickview token create``. If set, the API refuses requests
    without a token."""
    jwt_issuer: str | None = None
    """Issuer of the accepted JWTs (claim ``iss``). Set it together with ``TICKVIEW_JWT_AUDIENCE`` and
    ``TICKVIEW_JWT_JWKS_FILE``."""
    jwt_audience: str | None = None
    """Audience of the accepted JWTs (claim ``aud``)."""
    jwt_jwks_file: Path | None = None
    """JWKS file (RFC 7517) with the public keys of the issuer. TickView reads it again when it changes."""
    token: SecretStr | None = None
    """Token that ``tickview query`` and ``tickview publish --via http`` send to the API."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may read API responses in a browser (CORS), separated by commas: ``https://ui.example``."""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    """Addresses or networks of the proxies whose headers ``Forwarded`` and ``X-Forwarded-For`` count, separated by
    commas: ``127.0.0.1,10.0.0.0/8``. Without authentication, a request that another proxy has forwarded is refused."""
    rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1_000.0
    """Requests per second that each API process answers per token, or per address if a request has no token. 0: no
    limit. Without authentication there is no limit."""
    rate_burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2_000.0
    """Number of requests that each API process answers at once after a pause, per token or address."""
    push_connections: Annotated[int, Field(ge=0)] = 500
    """Highest number of live connections of a user to each API process. 0: no limit. Without authentication there is no
    limit."""
    push_filters: Annotated[int, Field(ge=1)] = 5_000
    """Highest number of different combinations of topics, filters and fields of the live connections to each API
    process."""
    push_unsent_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """Highest number of bytes that wait in each API process for all clients of live push together. Beyond it, the
    clients that are most behind are dropped."""
    alert_private_addresses: bool = False
    """Whether webhooks of alerts may have ``http`` URLs and addresses that are not public, such as those of the own
    network. Whoever may set an alert can then let TickView send requests to these addresses."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of the messages in the logs."""
    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Modules that bring read models, events and channels, separated by commas: ``my.module,other.module``. Parts that
    installed packages bring by entry points need no setting."""

    platform_redis_host: Annotated[str | None, Field(validation_alias=AliasChoices("REDIS_HOST"))] = None
    """Host of the platform's Redis. Ignored if ``TICKVIEW_REDIS_URL`` is set."""
    platform_redis_port: Annotated[int, Field(validation_alias=AliasChoices("REDIS_PORT"), ge=1, le=65_535)] = 6379
    """Port of the platform's Redis."""
    platform_redis_db: Annotated[int, Field(validation_alias=AliasChoices("REDIS_DB"), ge=0)] = 0
    """Database number in the platform's Redis."""
    platform_redis_password: Annotated[SecretStr | None, Field(validation_alias=AliasChoices("REDIS_PASSWORD"))] = None
    """Password of the platform's Redis."""
    platform_db_host: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_HOST"))] = None
    """Host of the platform's PostgreSQL. Ignored if ``TICKVIEW_POSTGRES_DSN`` and ``TICKVIEW_CATALOGUE_DSN`` are
    set."""
    platform_db_port: Annotated[int, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PORT"), ge=1, le=65_535)] = 5433
    """Port of the platform's PostgreSQL."""
    platform_db_name: Annotated[str, Field(validation_alias=AliasChoices("TICKSTOCK_DB_NAME"))] = "tickstock"
    """Database name in the platform's PostgreSQL."""
    platform_db_user: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_USER"))] = None
    """User in the platform's PostgreSQL. If unset, ``postgres``."""
    platform_db_password: Annotated[SecretStr | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PASSWORD"))] = (
        None
    )
    """Password of this user."""
    platform_db_uri: Annotated[SecretStr | None, Field(validation_alias=AliasChoices("DATABASE_URI"))] = None
    """URL of the platform's PostgreSQL, also with a driver of SQLAlchemy: ``postgresql+psycopg2://…``. It replaces the
    variables ``TICKSTOCK_DB_…``. A URL of another database system is ignored."""

    @field_validator(*_NEVER_EMPTY, mode="before")
    @classmethod
    def _refuse_empty(cls, value: object) -> object:
        if value == "":
            raise ValueError("must not be empty. Set a value, or unset the variable.")
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            parse_redis_url(url)
        return url

    @field_validator("postgres_dsn", "postgres_read_dsn", "catalogue_dsn")
    @classmethod
    def _check_postgres_dsn(cls, dsn: str | None) -> str | None:
        if dsn:
            check_postgres_dsn(dsn)
        return dsn or None

    @field_validator("platform_db_uri")
    @classmethod
    def _read_platform_uri(cls, uri: SecretStr | None) -> SecretStr | None:
        dsn = plain_postgres_dsn(uri.get_secret_value()) if uri else None
        if dsn is None:
            return None
        check_postgres_dsn(dsn)
        return SecretStr(dsn)

    @field_validator("catalogue_symbols_table", "catalogue_universes_table")
    @classmethod
    def _check_table(cls, name: str) -> str:
        parse_table_name(name)
        return name

    @field_validator("catalogue_symbol_columns", "catalogue_universe_columns", mode="before")
    @classmethod
    def _parse_columns(cls, value: object) -> object:
        try:
            return orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError:
            raise ValueError('must be a JSON object, such as {"name": "company"}') from None

    @field_validator("default_expiry", mode="before")
    @classmethod
    def _parse_default_expiry(cls, value: object) -> object:
        return parse_default_expiry(value) if isinstance(value, str) else value

    @property
    def authenticates(self) -> bool:
        """Whether the API authenticates its clients."""
        return self.tokens_file is not None or self.jwt_issuer is not None

    @field_validator("channels", "cors_origins", "plugins", "tiers", "trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        for channel in channels:
            FurtherChannel.parse(channel)
        return channels

    @field_validator("producer_timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # no such zone, a name that is no key, or a folder
            raise ValueError("must be a zone of the IANA time zone database, such as America/New_York") from None
        return name

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin. Write each origin without a path, such as https://ui.example. "
                    "The wildcard * is not allowed."
                )
        # Browsers leave out the default port of the scheme.
        return tuple(origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: Any) -> Any:
        known = [variable(name) for name in cls.model_fields]
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name.upper() not in (*known, SUPERVISED):
                # The common prefix would make all names similar.
                similar = get_close_matches(name.upper().removeprefix(PREFIX).lower(), cls.model_fields, 1)
                hint = f"Did you mean {variable(similar[0])}?" if similar else "`tickview config` lists all settings."
                raise ValueError(f"{name} is not a setting. {hint}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _ignore_unused_platform_variables(cls, values: Any) -> Any:
        # Kubernetes sets REDIS_PORT to an address for a service named redis, whether or not TickView uses it.
        needs_database = not (values.get("postgres_dsn") and values.get("catalogue_dsn"))
        uses = {
            "REDIS_": values.get("REDIS_HOST") and not values.get("redis_url"),
            "DATABASE_URI": needs_database,
            "TICKSTOCK_DB_": values.get("TICKSTOCK_DB_HOST") and needs_database,
        }
        unused = tuple(prefix for prefix, is_used in uses.items() if not is_used)
        return {name: value for name, value in values.items() if not name.startswith(unused)}

    @model_validator(mode="after")
    def _check_durability(self) -> Self:
        if "replicas" in self.model_fields_set and self.durability != "replicated":
            raise ValueError(
                f"TICKVIEW_REPLICAS has no effect with TICKVIEW_DURABILITY={self.durability}. "
                "Set TICKVIEW_DURABILITY=replicated, or unset TICKVIEW_REPLICAS."
            )
        return self

    @model_validator(mode="after")
    def _check_audit_heads(self) -> Self:
        if self.audit_heads and not self.audit_key:
            raise ValueError("TICKVIEW_AUDIT_HEADS also needs TICKVIEW_AUDIT_KEY, with which the heads are signed.")
        return self

    @model_validator(mode="after")
    def _check_jwt(self) -> Self:
        parts = {"ISSUER": self.jwt_issuer, "AUDIENCE": self.jwt_audience, "JWKS_FILE": self.jwt_jwks_file}
        missing = [f"TICKVIEW_JWT_{name}" for name, value in parts.items() if not value]
        if 0 < len(missing) < len(parts):
            raise ValueError(f"JWT authentication also needs {' and '.join(missing)}.")
        return self

    def _platform_dsn(self) -> str | None:
        if self.platform_db_uri:
            return self.platform_db_uri.get_secret_value()
        if not self.platform_db_host:
            return None
        return build_postgres_dsn(
            self.platform_db_host,
            self.platform_db_port,
            self.platform_db_name,
            self.platform_db_user or "postgres",
            self.platform_db_password,
        )

    @model_validator(mode="after")
    def _apply_platform_variables(self) -> Self:
        if self.redis_url is None and self.platform_redis_host:
            url = build_redis_url(
                self.platform_redis_host,
                self.platform_redis_port,
                self.platform_redis_db,
                self.platform_redis_password,
            )
            object.__setattr__(self, "redis_url", url)
        if dsn := self._platform_dsn():
            for name in ("postgres_dsn", "catalogue_dsn"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, dsn)
        return self

    @model_validator(mode="after")
    def _check_standby(self) -> Self:
        if self.postgres_read_dsn and not self.postgres_dsn:
            raise ValueError("TICKVIEW_POSTGRES_READ_DSN also needs TICKVIEW_POSTGRES_DSN, the primary server.")
        return self
