"""The events: immutable facts about the market, its catalogue, its backtests and its producers.

Every class has a ``class_version``. An event stored under an older version is brought up to date by the
class's chain of ``upcast_v1_v2``, ``upcast_v2_v3`` … methods, each a pure change of the stored state (the
convention of the ``eventsourcing`` library). All times are seconds since the epoch, UTC.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.streams import backtest_stream, log_stream, source_stream, symbol_stream, universe_stream

Confidence = Annotated[float, Field(ge=0, le=1)]
Progress = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Timestamp = Annotated[float, Field(ge=0, lt=253402300800, description="seconds since the epoch, up to the year 9999")]

NO_VALUES: Any = Field(default_factory=dict, json_schema_extra={"default": {}})
"""The default of a field of values: a new dictionary, which is quicker than pydantic's deep copy of a given one."""

UNKNOWN_TIER = "unknown"
"""The tier of a detection whose producer names none."""


class Event(BaseModel):
    """A fact, as its producer announced it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_version: ClassVar[int] = 1

    event_id: str
    """The producer's id of this event, else one derived from its content: the same fact has the same id."""
    occurred_at: Timestamp
    """When it happened, as the producer says; when the message was received if the producer does not say."""
    source: str
    """Who announced it."""
    correlation_id: str | None = None
    """What ties it to other events, for instance the producer's flow id."""
    extra: dict[str, Any] = NO_VALUES
    """Everything the message said that has no field of its own."""

    @property
    def stream(self) -> str:
        """The stream this event belongs to."""
        raise NotImplementedError


class PatternEvent(Event):
    """Something about one detection of a pattern: a symbol, a pattern, and the moment of detection."""

    symbol: str
    pattern: str
    detected_at: Timestamp

    @property
    def stream(self) -> str:
        return symbol_stream(self.symbol)


class PatternDetected(PatternEvent):
    """A detector found a pattern."""

    tier: str = UNKNOWN_TIER
    """Which detector tier or time frame found it: ``daily``, ``intraday``, ``1min`` …"""
    confidence: Confidence
    expires_at: Timestamp | None = None
    current_price: Finite | None = None
    price_change: Finite | None = None
    """Per cent."""
    relative_strength: Finite | None = None
    relative_volume: Finite | None = None
    rsi: Finite | None = None
    indicators: dict[str, Any] = NO_VALUES
    """The other indicators, as announced."""


class PatternUpdated(PatternEvent):
    """A detection changed; a field that is None stays as it was. Without a tier it speaks for every tier."""

    tier: str | None = None
    confidence: Confidence | None = None
    expires_at: Timestamp | None = None
    current_price: Finite | None = None
    price_change: Finite | None = None
    relative_strength: Finite | None = None
    relative_volume: Finite | None = None
    rsi: Finite | None = None
    indicators: dict[str, Any] = NO_VALUES


class PatternExpired(PatternEvent):
    """A detection is no longer valid. Without a tier it speaks for every tier."""

    tier: str | None = None
    reason: Literal["announced", "elapsed"] = "announced"
    """``announced`` by the producer, or its ``expires_at`` has ``elapsed``."""
    expires_at: Timestamp | None = None
    """The ``expires_at`` that elapsed; a detection that has been prolonged since is not expired by it."""


class BacktestEvent(Event):
    """Something about one backtest run."""

    job_id: str

    @property
    def stream(self) -> str:
        return backtest_stream(self.job_id)


class BacktestProgressed(BacktestEvent):
    """A run is under way."""

    progress: Progress
    status: str = "processing"
    current_symbol: str | None = None
    processed_symbols: int | None = None
    estimated_completion: Timestamp | None = None


class BacktestCompleted(BacktestEvent):
    """A run ended with results."""

    results: dict[str, Any]
    processing_time_seconds: Finite | None = None


class BacktestFailed(BacktestEvent):
    """A run ended without results."""

    status: Literal["failed", "cancelled"] = "failed"
    error_message: str | None = None
    results: dict[str, Any] = NO_VALUES
    processing_time_seconds: Finite | None = None


class HealthReported(Event):
    """A producer reported how it is."""

    status: str
    metrics: dict[str, Any] = NO_VALUES

    @property
    def stream(self) -> str:
        return source_stream(self.source)


class SymbolEvent(Event):
    """Something about one symbol of the catalogue."""

    symbol: str

    @property
    def stream(self) -> str:
        return symbol_stream(self.symbol)


class SymbolDescribed(SymbolEvent):
    """Everything the catalogue says of a symbol from now on; None where it says nothing."""

    name: str | None = None
    exchange: str | None = None
    market: str | None = None
    type: str | None = None
    """What kind of instrument it is: ``CS``, ``ETF`` …"""
    sector: str | None = None
    industry: str | None = None
    market_cap: Finite | None = None
    """In the currency of the market."""


class SymbolListed(SymbolDescribed):
    """A symbol is in the catalogue, for the first time or again."""


class SymbolChanged(SymbolDescribed):
    """The catalogue says something else of a symbol than before."""


class SymbolDelisted(SymbolEvent):
    """A symbol is no longer traded, or no longer in the catalogue."""


class UniverseDescribed(Event):
    """A named set of symbols, whole."""

    key: str
    name: str | None = None
    description: str | None = None
    symbols: list[str]
    """In order, each once."""

    @property
    def stream(self) -> str:
        return universe_stream(self.key)


class UniverseDefined(UniverseDescribed):
    """A universe is in the catalogue."""


class UniverseChanged(UniverseDescribed):
    """A universe has other symbols, or another name, than before."""


class PositionLost(Event):
    """A position that was given out before its log lost its end, and whose event nobody has kept.

    It stands in the place of that event, so that the position is not given out again.
    """

    log: str

    @property
    def stream(self) -> str:
        return log_stream(self.log)


EVENT_TYPES: dict[str, type[Event]] = {
    event_type.__name__: event_type
    for event_type in (
        PatternDetected,
        PatternUpdated,
        PatternExpired,
        BacktestProgressed,
        BacktestCompleted,
        BacktestFailed,
        HealthReported,
        SymbolListed,
        SymbolChanged,
        SymbolDelisted,
        UniverseDefined,
        UniverseChanged,
        PositionLost,
    )
}
"""Every event type by its name."""
