"""Synchronization of the catalogue: read the source, compare it with the recorded catalogue, record the changes."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from psycopg import Connection

from domain.events import Event
from infra.catalogue.difference import Changes, symbol_changes, universe_changes
from infra.catalogue.errors import CatalogueError
from infra.catalogue.file_source import read_file_rows
from infra.catalogue.parsing import (
    UNIVERSE_FIELDS,
    RefusedRow,
    SourceRows,
    SymbolEntry,
    UniverseEntry,
    read_symbols,
    read_universes,
)
from infra.catalogue.platform_source import check_table, has_table, open_platform, read_table_rows
from infra.catalogue.platform_universes import has_platform_universes, read_platform_universes
from infra.catalogue.recorded_rows import RecordedRows
from infra.log.directory import LogDirectory
from infra.recording.recorder import Recorder
from infra.redis.connections import RedisClient
from infra.settings import Settings
from projections.queries import Positions
from projections.symbols import DETAILS, SymbolRow, Symbols
from projections.universes import Universes

ORIGIN = "catalogue"
"""Origin of catalogue events. See ``LogEntry``."""


class CatalogueSource(NamedTuple):
    """The content of the source. A part without a source is None."""

    symbols: SourceRows[SymbolEntry] | None
    universes: SourceRows[UniverseEntry] | None


@dataclass
class SyncReport:
    """The result of a synchronization: the number of entries by kind of change, and the refused rows."""

    symbols: Mapping[str, int] | None = None
    universes: Mapping[str, int] | None = None
    refused: list[RefusedRow] = field(default_factory=list)
    positions: Positions = field(default_factory=dict)
    """The position of the last recorded event, by log."""


def read_source(settings: Settings, symbols: Path | None, universes: Path | None) -> CatalogueSource:
    """Read the source: the files, or the tables of the platform if no file is named.

    Raises:
        CatalogueError: There is no source, or it cannot be read.
    """
    symbol_columns, universe_columns = settings.catalogue_symbol_columns, settings.catalogue_universe_columns
    if symbols or universes:
        return CatalogueSource(
            read_symbols(read_file_rows(symbols, "symbols", "symbol", symbol_columns), symbol_columns)
            if symbols
            else None,
            read_universes(read_file_rows(universes, "universes", "key", universe_columns), universe_columns)
            if universes
            else None,
        )
    if settings.catalogue_dsn is None:
        raise CatalogueError(
            "The catalogue has no source. Name files with --symbols and --universes, or set TICKVIEW_CATALOGUE_DSN or "
            "TICKSTOCK_DB_HOST to the platform's database."
        )
    with open_platform(settings.catalogue_dsn) as connection:
        table = settings.catalogue_symbols_table
        check_table(connection, table, "TICKVIEW_CATALOGUE_SYMBOLS_TABLE")
        rows = read_table_rows(connection, table, ("symbol", "active", *DETAILS), symbol_columns)
        symbol_rows = read_symbols(rows, symbol_columns)
        return CatalogueSource(symbol_rows, _read_universe_tables(connection, settings))


def _read_universe_tables(connection: Connection, settings: Settings) -> SourceRows[UniverseEntry] | None:
    """Read the table of the universes, or else the tables in which the platform stores them. None: there are none."""
    table, columns = settings.catalogue_universes_table, settings.catalogue_universe_columns
    if "catalogue_universes_table" not in settings.model_fields_set and not has_table(connection, table):
        if not has_platform_universes(connection):
            return None
        return read_universes(read_platform_universes(connection), {})
    check_table(connection, table, "TICKVIEW_CATALOGUE_UNIVERSES_TABLE")
    return read_universes(read_table_rows(connection, table, UNIVERSE_FIELDS, columns), columns)


class Synchronizer:
    """Records the changes of the catalogue.

    Args:
        client: The client of the read models' server.
        settings: The settings ``wait_seconds`` and ``batch_size``.
        logs: The logs, with all partitions of the market log.
        recorder: The recorder of the changes.
        pause: Waits for a number of seconds. It may raise an exception to end the synchronization.
    """

    def __init__(
        self,
        client: RedisClient,
        settings: Settings,
        logs: LogDirectory,
        recorder: Recorder,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._settings = settings
        self._logs = logs
        self._recorder = recorder
        self._pause = pause

    def synchronize(self, source: CatalogueSource, *, dry_run: bool = False, force: bool = False) -> SyncReport:
        """Record the difference between the source and the recorded catalogue.

        Args:
            source: The content of the source.
            dry_run: Report the changes without recording them.
            force: Delist symbols even if they are more than half of the listed symbols.

        Raises:
            CatalogueError: The read models are behind, or too many symbols would be delisted.
            RedisError: The log or the read models cannot be reached.
            PersistenceError: The log cannot append.
        """
        self._logs.refresh()
        heads = {name: log.head() for name, log in self._logs.market.items()}
        recorded = RecordedRows(self._client, heads, self._settings.wait_seconds, self._pause)
        report = SyncReport()
        events: list[Event] = []
        now = time.time()
        if source.symbols is not None:
            symbols = recorded.read(Symbols())
            changes = symbol_changes(symbols, source.symbols, now)
            if not force:
                _refuse_mass_delisting(symbols, changes)
            report.symbols = changes.counts
            report.refused += source.symbols.refused
            events += changes.events
        if source.universes is not None:
            changes = universe_changes(recorded.read(Universes()), source.universes, now)
            report.universes = changes.counts
            report.refused += source.universes.refused
            events += changes.events
        if not dry_run:
            report.positions = self._record(events)
        return report

    def _record(self, events: Iterable[Event]) -> Positions:
        positions: dict[str, int] = {}
        remaining = iter(events)
        while batch := list(islice(remaining, self._settings.batch_size)):
            for recorded in self._recorder.record_events(batch, ORIGIN):
                positions[recorded.log] = max(recorded.position, positions.get(recorded.log, 0))
        return dict(sorted(positions.items()))


def _refuse_mass_delisting(recorded: Mapping[str, SymbolRow], changes: Changes) -> None:
    listed, delisted = sum(row.active for row in recorded.values()), changes.counts["delisted"]
    if 2 * delisted > listed:
        raise CatalogueError(
            f"{delisted:,} of the {listed:,} listed symbols would be delisted, which is more than half. "
            "Check that the source is complete, or use --force."
        )
