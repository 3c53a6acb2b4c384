"""The settings: one class, read from the environment, with the platform's own variable names understood too."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Durability = Literal["written", "fsynced", "replicated"]
SymbolField = Literal["symbol", "active", "name", "exchange", "market", "type", "sector", "industry", "market_cap"]
UniverseField = Literal["key", "name", "description", "symbols"]


class Settings(BaseSettings):
    """Every setting, its environment variable being ``TICKVIEW_`` and its name in capitals.

    Raises pydantic's ValidationError for a value that is out of range.
    """

    model_config = SettingsConfigDict(env_prefix="TICKVIEW_", frozen=True, extra="ignore", populate_by_name=True)

    data: Path = Path(".tickview")
    """Folder of the embedded servers' data."""
    redis_url: str | None = None
    """Redis or Valkey; embedded when not set."""
    postgres_dsn: str | None = None
    """PostgreSQL; embedded when not set."""

    catalogue_dsn: str | None = None
    """PostgreSQL whose tables have the catalogue, which is only read; that of ``TICKSTOCK_DB_HOST`` when not set."""
    catalogue_symbols_table: str = "symbols"
    """Table or view of the symbols, with its schema if need be."""
    catalogue_universes_table: str = "universes"
    """Table or view of the universes; it need not be there unless it is set."""
    catalogue_symbol_columns: dict[SymbolField, str] = {}
    """Columns of symbols, in tables and files, that have another name than the field: ``{"name": "company"}``."""
    catalogue_universe_columns: dict[UniverseField, str] = {}
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
    dead_letters_max_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    dead_letters_max_age: Annotated[int, Field(ge=60)] = 7 * 86_400
    """Seconds for which a dead letter is kept."""

    lease_seconds: Annotated[float, Field(ge=0.2, le=300)] = 5.0
    """A worker that is silent for so long loses its segments."""
    fold_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Events a worker folds and commits at once, at most."""

    replay_throttle: Annotated[int, Field(ge=0)] = 0
    """Events a second that each segment of a build under way may fold, so that reads stay fast; 0: no limit."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_processes: Annotated[int, Field(ge=1, le=64)] = 2
    replica_max_rows: Annotated[int, Field(ge=0)] = 250_000
    """Active patterns that each API process keeps in memory to answer from, about 1 kB each; where there are more,
    or with 0, Redis answers."""
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How long a read waits for ``TickView-Min-Position``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    platform_redis_host: Annotated[str | None, Field(validation_alias=AliasChoices("REDIS_HOST"))] = None
    platform_redis_port: Annotated[int, Field(validation_alias=AliasChoices("REDIS_PORT"))] = 6379
    platform_redis_db: Annotated[int, Field(validation_alias=AliasChoices("REDIS_DB"))] = 0
    platform_redis_password: Annotated[str | None, Field(validation_alias=AliasChoices("REDIS_PASSWORD"))] = None
    platform_db_host: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_HOST"))] = None
    platform_db_port: Annotated[int, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PORT"))] = 5432
    platform_db_name: Annotated[str, Field(validation_alias=AliasChoices("TICKSTOCK_DB_NAME"))] = "tickstock"
    platform_db_user: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_USER"))] = None
    platform_db_password: Annotated[str | None, Field(validation_alias=AliasChoices("TICKSTOCK_DB_PASSWORD"))] = None

    @model_validator(mode="after")
    def _understand_the_platform(self) -> Self:
        if self.redis_url is None and self.platform_redis_host:
            password = f":{quote(self.platform_redis_password, safe='')}@" if self.platform_redis_password else ""
            address = f"{self.platform_redis_host}:{self.platform_redis_port}/{self.platform_redis_db}"
            object.__setattr__(self, "redis_url", f"redis://{password}{address}")
        if self.platform_db_host:
            user = quote(self.platform_db_user or "postgres", safe="")
            password = f":{quote(self.platform_db_password, safe='')}" if self.platform_db_password else ""
            address = f"{self.platform_db_host}:{self.platform_db_port}/{self.platform_db_name}"
            for name in ("postgres_dsn", "catalogue_dsn"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, f"postgresql://{user}{password}@{address}")
        return self
