"""The events: immutable facts about the market, its catalogue, its backtests and its producers.

Every class has a ``class_version``. An event that was stored under an older version is upcast by the methods
``upcast_v1_v2``, ``upcast_v2_v3`` … of its class, each a pure change of the stored state. This is the convention of the
``eventsourcing`` library (https://eventsourcing.readthedocs.io, section "Versioning"). All times are in seconds since
the epoch, UTC.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.streams import backtest_stream, log_stream, source_stream, symbol_stream, universe_stream

Confidence = Annotated[float, Field(ge=0, le=1)]
"""Confidence of a detector in a pattern, from 0 to 1."""

Progress = Annotated[float, Field(ge=0, le=1)]
"""Completed part of a backtest run, from 0 to 1."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""

Timestamp = Annotated[float, Field(ge=0, lt=253402300800, description="seconds since the epoch, up to the year 9999")]
"""A time in seconds since the epoch, from 1970 to the end of the year 9999."""

NO_VALUES: Any = Field(default_factory=dict, json_schema_extra={"default": {}})
"""Default of a dictionary field: a new empty dictionary. A factory is faster than pydantic's deep copy of a default."""

OWN_IDS = "tickview:"
"""Beginning of the ids of events that TickView itself records. The ids of producers must not begin with it: a producer
that used the id of a later event would prevent that event."""

UNKNOWN_TIER = "unknown"
"""Tier of a detection whose producer names no tier."""


class Event(BaseModel):
    """An immutable fact, as its producer announced it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    class_version: ClassVar[int] = 1

    event_id: str
    """Id that the producer gave, or else an id that is derived from the content. Equal content gives an equal id."""
    occurred_at: Timestamp
    """Time at which the fact happened, as the producer says. Without a time of the producer: the time of receipt."""
    source: str
    """Name of the producer that announced the event."""
    correlation_id: str | None = None
    """Id that several related events share, for example the producer's flow id."""
    extra: dict[str, Any] = NO_VALUES
    """Fields of the message for which the event class has no field."""

    @property
    def stream(self) -> str:
        """The name of the stream that the event belongs to."""
        raise NotImplementedError


class PatternEvent(Event):
    """An event about one detection. A symbol, a pattern and the time of detection identify a detection."""

    symbol: str
    """Ticker symbol in the case of the producer, 1 to 32 characters. Release 0.1 stored capitals."""
    pattern: str
    """Name of the pattern, for example ``Doji``."""
    detected_at: Timestamp
    """Time of detection."""

    @property
    def stream(self) -> str:
        """The name of the symbol's stream."""
        return symbol_stream(self.symbol)


class PatternDetected(PatternEvent):
    """A detector has found a pattern."""

    tier: str = UNKNOWN_TIER
    """Tier or time frame of the detector: ``daily``, ``1min``, ``1M`` … Release 0.1 stored small letters."""
    confidence: Confidence
    expires_at: Timestamp | None = None
    """Time at which the pattern ceases to be valid. None: the pattern does not expire by itself."""
    current_price: Finite | None = None
    """Price of the symbol, in the currency of its market."""
    price_change: Finite | None = None
    """Change of the price in per cent."""
    relative_strength: Finite | None = None
    """Strength in relation to the market, as a factor. 1 is the market."""
    relative_volume: Finite | None = None
    """Volume in relation to the usual volume, as a factor. 1 is the usual volume."""
    rsi: Finite | None = None
    """Relative strength index, usually from 0 to 100."""
    indicators: dict[str, Any] = NO_VALUES
    """All other indicators, as the producer announced them."""


class PatternUpdated(PatternEvent):
    """A detection has changed. A field that is None leaves the former value. Units are as in ``PatternDetected``."""

    tier: str | None = None
    """Tier of the detector. None: the event applies to every tier of the detection."""
    confidence: Confidence | None = None
    expires_at: Timestamp | None = None
    current_price: Finite | None = None
    price_change: Finite | None = None
    relative_strength: Finite | None = None
    relative_volume: Finite | None = None
    rsi: Finite | None = None
    indicators: dict[str, Any] = NO_VALUES


class PatternExpired(PatternEvent):
    """A detection is no longer valid."""

    tier: str | None = None
    """Tier of the detector. None: the event applies to every tier of the detection."""
    reason: Literal["announced", "elapsed"] = "announced"
    """``announced``: the producer said so. ``elapsed``: the time ``expires_at`` of the detection has passed."""
    expires_at: Timestamp | None = None
    """The ``expires_at`` that has elapsed. The event does not end a detection whose ``expires_at`` is later by now."""


class UndatedExpiry(Event):
    """A producer has ended the latest detection of a pattern, without the time of the detection.

    The recorder turns the event into a ``PatternExpired`` of the detection. The log has it only if there was none.
    """

    symbol: str
    """Ticker symbol in the case of the producer, 1 to 32 characters."""
    pattern: str
    """Name of the pattern, for example ``Doji``."""
    tier: str | None = None
    """Tier of the detector. None: the event applies to every tier of the detection."""
    detected_by: Timestamp | None = None
    """Time of the message, which is not before that of the detection. None: the message has no time."""

    @property
    def stream(self) -> str:
        """The name of the symbol's stream."""
        return symbol_stream(self.symbol)


class BacktestEvent(Event):
    """An event about one backtest run."""

    job_id: str
    """Id of the run, 1 to 128 characters."""

    @property
    def stream(self) -> str:
        """The name of the run's stream."""
        return backtest_stream(self.job_id)


class BacktestProgressed(BacktestEvent):
    """A backtest run has made progress."""

    progress: Progress
    status: str = "processing"
    """Status of the run, as the producer names it."""
    current_symbol: str | None = None
    """Symbol that the run is processing."""
    processed_symbols: int | None = None
    """Number of symbols that the run has processed, from 0."""
    estimated_completion: Timestamp | None = None
    """Time at which the producer expects the run to end."""


class BacktestCompleted(BacktestEvent):
    """A backtest run has ended with results."""

    results: dict[str, Any]
    """Metrics of the run by name, as the producer announced them."""
    processing_time_seconds: Finite | None = None
    """Duration of the run in seconds."""


class BacktestFailed(BacktestEvent):
    """A backtest run has failed or was cancelled."""

    status: Literal["failed", "cancelled"] = "failed"
    error_message: str | None = None
    """Error message of the producer."""
    results: dict[str, Any] = NO_VALUES
    """Partial metrics of the run by name, as the producer announced them."""
    processing_time_seconds: Finite | None = None
    """Duration of the run in seconds."""


class HealthReported(Event):
    """A producer has reported its health."""

    status: str
    """Health of the producer in its own words, for example ``healthy``."""
    metrics: dict[str, Any] = NO_VALUES
    """Measurements by name, as the producer announced them."""

    @property
    def stream(self) -> str:
        """The name of the producer's stream."""
        return source_stream(self.source)


class SymbolEvent(Event):
    """An event about one symbol of the catalogue."""

    symbol: str
    """Ticker symbol in the case of the producer, 1 to 32 characters. Release 0.1 stored capitals."""

    @property
    def stream(self) -> str:
        """The name of the symbol's stream."""
        return symbol_stream(self.symbol)


class SymbolDescribed(SymbolEvent):
    """The complete catalogue entry of a symbol. A field is None if the catalogue has no value for the field."""

    class_version: ClassVar[int] = 2

    name: str | None = None
    """Name of the company or fund."""
    exchange: str | None = None
    """Exchange that lists the symbol, for example ``NASDAQ``."""
    market: str | None = None
    """Market of the symbol, for example ``stocks``."""
    type: str | None = None
    """Kind of instrument: ``CS`` (common stock), ``ETF`` …"""
    sector: str | None = None
    industry: str | None = None
    market_cap: Finite | None = None
    """Market capitalization in the currency of the market."""
    locale: str | None = None
    """Region of the market: ``us``, ``global`` …"""
    currency_name: str | None = None
    """Currency in which the symbol is traded, for example ``usd``."""
    currency_symbol: str | None = None
    """Sign of the currency, for example ``$``."""
    cik: str | None = None
    """Central Index Key of the company, which the SEC assigns."""
    composite_figi: str | None = None
    """Composite FIGI of the security (OpenFIGI)."""
    share_class_figi: str | None = None
    """Share class FIGI of the security (OpenFIGI)."""
    weighted_shares_outstanding: Finite | None = None
    """Number of outstanding shares, over all share classes."""

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Change nothing: the fields of version 2 have no value."""


class SymbolListed(SymbolDescribed):
    """A symbol has entered the catalogue, for the first time or again."""


class SymbolChanged(SymbolDescribed):
    """The catalogue entry of a symbol has changed. The event holds the complete new entry."""


class SymbolDelisted(SymbolEvent):
    """A symbol is no longer traded or has left the catalogue."""


class UniverseDescribed(Event):
    """The complete definition of a universe, which is a named set of symbols."""

    class_version: ClassVar[int] = 2

    key: str
    """Id of the universe, 1 to 64 characters."""
    name: str | None = None
    description: str | None = None
    symbols: list[str]
    """The symbols of the universe in order, without duplicates."""
    category: str | None = None
    """Kind of the universe, as its source names it: ``stock_universe``, ``theme`` …"""
    criteria: str | None = None
    """Rule by which the symbols were selected, in words of the source."""

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Change nothing: the fields of version 2 have no value."""

    @property
    def stream(self) -> str:
        """The name of the universe's stream."""
        return universe_stream(self.key)


class UniverseDefined(UniverseDescribed):
    """A universe has entered the catalogue."""


class UniverseChanged(UniverseDescribed):
    """The symbols, the name or the description of a universe have changed. The event holds the complete definition."""


class PositionLost(Event):
    """The log has lost an event, and no copy of the event exists.

    The log lost its end after it had assigned the position. This event takes the place of the lost event, so that the
    log does not assign the position twice.
    """

    log: str
    """Name of the log that lost the event."""

    @property
    def stream(self) -> str:
        """The name of the stream of events about the log."""
        return log_stream(self.log)
