"""One synchronization: reads the source, compares it with the read models, records what has changed."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from redis import Redis

from domain.announcements import RecordedEvent
from domain.events import Event
from infra.catalogue.difference import Changes, symbol_changes, universe_changes
from infra.catalogue.file_source import rows_of
from infra.catalogue.parsing import RefusedRow, SourceRows, SymbolEntry, UniverseEntry, read_symbols, read_universes
from infra.catalogue.platform_source import check_table, has_table, platform, rows_of_table
from infra.log.event_log import EventLog
from infra.processes.errors import StartupError
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.recording.recorder import Recorder
from infra.settings import Settings
from projections.base import Projection, read_row
from projections.ports import Segment
from projections.queries import Positions
from projections.symbols import DETAILS, SymbolRow, Symbols
from projections.universes import Universes
from projections.versions import Build

ROWS_AT_ONCE = 500

POLL_SECONDS = 0.05

ORIGIN = "catalogue"

Row = TypeVar("Row")


class Source(NamedTuple):
    """What was read; None of what there is no source for."""

    symbols: SourceRows[SymbolEntry] | None
    universes: SourceRows[UniverseEntry] | None


@dataclass
class SyncResult:
    """What a synchronization found: how many of each kind, and which rows were refused."""

    symbols: Mapping[str, int] | None = None
    universes: Mapping[str, int] | None = None
    refused: list[RefusedRow] = field(default_factory=list)
    positions: Positions = field(default_factory=dict)
    """Log -> the position of the last event recorded there."""


def read_source(settings: Settings, symbols: Path | None, universes: Path | None) -> Source:
    """What these files have; the platform's tables if no file is named. Raises StartupError."""
    columns = (settings.catalogue_symbol_columns, settings.catalogue_universe_columns)
    if symbols or universes:
        return Source(
            read_symbols(rows_of(symbols, "symbols", "symbol", columns[0]), columns[0]) if symbols else None,
            read_universes(rows_of(universes, "universes", "key", columns[1]), columns[1]) if universes else None,
        )
    if settings.catalogue_dsn is None:
        raise StartupError(
            "no source of the catalogue: name files with --symbols and --universes, or set TICKVIEW_CATALOGUE_DSN or "
            "TICKSTOCK_DB_HOST to the platform's database"
        )
    with platform(settings.catalogue_dsn) as connection:
        table = settings.catalogue_symbols_table
        check_table(connection, table, "TICKVIEW_CATALOGUE_SYMBOLS_TABLE")
        found = read_symbols(rows_of_table(connection, table, ("symbol", "active", *DETAILS), columns[0]), columns[0])
        table = settings.catalogue_universes_table
        if "catalogue_universes_table" not in settings.model_fields_set and not has_table(connection, table):
            return Source(found, None)
        check_table(connection, table, "TICKVIEW_CATALOGUE_UNIVERSES_TABLE")
        fields = ("key", "name", "description", "symbols")
        return Source(found, read_universes(rows_of_table(connection, table, fields, columns[1]), columns[1]))


def synchronize(
    client: Redis,
    settings: Settings,
    logs: Mapping[str, EventLog],
    recorder: Recorder,
    source: Source,
    *,
    dry_run: bool = False,
    force: bool = False,
    pause: Callable[[float], object] = time.sleep,
) -> SyncResult:
    """Record what has changed; nothing if ``dry_run``. ``pause`` waits for so many seconds, or ends it all by an error.

    Raises StartupError where the read models do not know what was recorded before, or, unless ``force``, where more
    than half of the symbols that are listed would be delisted.
    """
    waiting = _Waiting({name: log.head() for name, log in logs.items()}, settings.wait_seconds, pause)
    outcome = SyncResult()
    events: list[Event] = []
    now = time.time()
    if source.symbols is not None:
        known = _known(client, Symbols(), waiting)
        changes = symbol_changes(known, source.symbols, now)
        if not force:
            _refuse_mass_delisting(known, changes)
        outcome.symbols = changes.counts
        outcome.refused += source.symbols.refused
        events += changes.events
    if source.universes is not None:
        changes = universe_changes(_known(client, Universes(), waiting), source.universes, now)
        outcome.universes = changes.counts
        outcome.refused += source.universes.refused
        events += changes.events
    if not dry_run:
        outcome.positions = _record(recorder, events, settings.batch_size)
    return outcome


def _refuse_mass_delisting(known: Mapping[str, SymbolRow], changes: Changes) -> None:
    listed, delisted = sum(row.active for row in known.values()), changes.counts["delisted"]
    if 2 * delisted > listed:
        raise StartupError(
            f"{delisted:,} of the {listed:,} symbols that are listed would be delisted, which is more than half: "
            "see that the source is whole, or say --force"
        )


def _record(recorder: Recorder, events: list[Event], batch_size: int) -> Positions:
    positions: dict[str, int] = {}
    left = iter(events)
    while batch := list(islice(left, batch_size)):
        recorded: list[RecordedEvent] = recorder.record_events(batch, ORIGIN)
        for one in recorded:
            positions[one.log] = max(one.position, positions.get(one.log, 0))
    return dict(sorted(positions.items()))


class _Waiting(NamedTuple):
    """How far the read models must be, how long they may take, and how to wait for them."""

    heads: Positions
    seconds: float
    pause: Callable[[float], object]


def _known(client: Redis, projection: Projection[Row, Any], waiting: _Waiting) -> Mapping[str, Row]:
    """The rows of the read model, once it is as far as the logs were."""
    build = _folded(client, projection.name, waiting)
    if build is None:
        return {}
    return {
        key.decode(): read_row(projection.row, document).row
        for log in waiting.heads
        for key, document in _rows(client, SegmentKeys(Segment(projection.name, build, log)).rows)
    }


def _rows(client: Redis, rows: str) -> Iterator[tuple[bytes, bytes]]:
    yield from client.hscan_iter(rows, count=ROWS_AT_ONCE)


def _folded(client: Redis, name: str, waiting: _Waiting) -> Build | None:
    """The live build, once it is as far; None where there is nothing to fold. Raises StartupError."""
    heads, seconds, pause = waiting
    deadline = time.monotonic() + seconds
    while any(heads.values()):
        build = read_versions(client, [name])[name].live
        behind = heads if build is None else _behind(client, name, build, heads)
        if not behind:
            return build
        if time.monotonic() > deadline:
            raise StartupError(
                f"after {seconds:g} s the read model {name} is still behind in {', '.join(behind)}: "
                "see that workers run (tickview project), and try again"
            )
        pause(POLL_SECONDS)
    return None


def _behind(client: Redis, name: str, build: Build, heads: Positions) -> list[str]:
    with client.pipeline(transaction=False) as pipeline:
        for log in heads:
            pipeline.hget(SegmentKeys(Segment(name, build, log)).state, "checkpoint")
        checkpoints = pipeline.execute()
    return [log for log, checkpoint in zip(heads, checkpoints, strict=True) if int(checkpoint or 0) < heads[log]]
