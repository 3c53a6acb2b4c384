"""The matching of detections with alerts: the filters of presets, compiled once for each change of a preset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import orjson
import structlog
from pydantic import ValidationError

from domain.codec import topic_of
from domain.events import PatternDetected
from domain.log import LogEntry
from infra.alerts.deliveries import Delivery, delivery_id
from projections.decoding import decode_entries
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import ALWAYS, Matches, matcher
from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.catalogue.symbol_index import symbols_of_patterns
from readapi.http.problems import Problem
from readapi.patterns.list_filters import as_query_parameters
from readapi.patterns.scan_parameters import ScanParameters

logger = structlog.get_logger()

MAX_PATTERN_BYTES = 65_536
"""Highest number of bytes of a pattern in an alert. A larger one loses the members that its producer added."""

_PATTERNS = ActivePatterns()


class AlertSource(NamedTuple):
    """The preset of one alert, from which its filters are compiled."""

    user: str
    list_id: str
    preset_name: str
    webhook: str | None
    """The URL. None: the alert goes to the user's live connections."""
    salt: str
    since: float
    """Creation of the alert in epoch seconds."""
    parameters: ScanParameters
    watched: frozenset[str] | None
    """The symbols of the watchlist in the parameters. None: they name no watchlist."""


Compiled = Sequence[tuple[AlertSource, Matches]]
"""Alerts with their compiled filters."""


class Detection(NamedTuple):
    """A detection, and the row of the pattern that it begins."""

    row: PatternRow
    event_id: str
    log: str
    position: int
    recorded_at: float
    """Time of recording in epoch seconds."""


def sources_of(workspace: WorkspaceRow) -> Iterator[AlertSource]:
    """Yield the alerts of a user. A preset that no scan of this release can use has none, which is logged."""
    for list_id, alert in workspace.alerts.items():
        preset = workspace.presets[list_id]
        try:
            parameters = ScanParameters.model_validate(as_query_parameters(preset["parameters"]))
            parameters.filters(None)
        except (ValidationError, Problem) as error:
            logger.warning("alert without effect: no scan can use its preset", list_id=list_id, error=str(error))
            continue
        watched = None
        if parameters.watchlist is not None:
            # A watchlist that was deleted selects no symbol.
            watchlist = workspace.watchlists.get(parameters.watchlist)
            watched = symbols_of_patterns(watchlist["symbols"]) if watchlist else frozenset()
        yield AlertSource(
            workspace.user,
            list_id,
            preset["name"],
            alert["webhook"],
            alert["salt"],
            alert["created_at"],
            parameters,
            watched,
        )


def compile_filters(source: AlertSource, catalogue: Catalogue, shown_values: Mapping[str, float]) -> Matches:
    """Compile the filters of a preset, as the scan applies them.

    Args:
        source: The preset.
        catalogue: Resolves its sectors and universes.
        shown_values: Column -> the number that answers show where a pattern has none.

    Raises:
        UnavailableError: The catalogue is not loaded yet.
    """
    parameters = source.parameters
    filters = parameters.filters(parameters.resolve_symbols(catalogue, source.watched), shown_values)
    return matcher(_PATTERNS, filters, ALWAYS)


def detections_of(log: str, entries: Iterable[LogEntry]) -> Iterator[Detection]:
    """Yield the detections among log entries, as the read model folds them into new rows.

    A detection that cannot be decoded is parked by the read model, and has no row here either.
    """
    topic = topic_of(PatternDetected)
    for decoded in decode_entries(_PATTERNS, (entry for entry in entries if entry.topic == topic)):
        event, entry = decoded.event, decoded.entry
        if not isinstance(event, PatternDetected) or decoded.needs_row:
            continue
        row = _PATTERNS.evolve(None, event)
        if row is not None:
            yield Detection(row, entry.event_id, log, entry.position, entry.recorded_at)


def is_shown(row: PatternRow, moment: float) -> bool:
    """Return whether the scan shows the row at a moment, in epoch seconds, if its filters match."""
    return row.expires_at is None or row.expires_at > moment


def matching(detection: Detection, compiled: Compiled) -> Iterator[AlertSource]:
    """Yield the alerts that a detection matches. Only detections that were recorded after the alert count.

    The moment of the match is the recording of the detection, so that a late match gives the same result.
    """
    row, recorded_at = detection.row, detection.recorded_at
    if not is_shown(row, recorded_at):
        return
    for source, matches in compiled:
        if source.since <= recorded_at and matches(row.id, row):
            yield source


def deliveries_of(detection: Detection, compiled: Compiled) -> list[Delivery]:
    """Return the deliveries of a detection, due at once: one for each alert that it matches."""
    matched = list(matching(detection, compiled))
    pattern = _pattern_document(detection.row) if matched else msgspec.Raw(b"null")
    return [_new_delivery(detection, source, pattern) for source in matched]


def _new_delivery(detection: Detection, source: AlertSource, pattern: msgspec.Raw) -> Delivery:
    return Delivery(
        id=delivery_id(source.user, source.list_id, source.since, detection.event_id),
        user=source.user,
        list_id=source.list_id,
        since=source.since,
        channel="webhook" if source.webhook else "push",
        event_id=detection.event_id,
        pattern_id=detection.row.id,
        position=f"{detection.log}={detection.position}",
        recorded_at=detection.recorded_at,
        due=detection.recorded_at,
        pattern=pattern,
    )


def _pattern_document(row: PatternRow) -> msgspec.Raw:
    document = orjson.dumps(row)
    if len(document) > MAX_PATTERN_BYTES:
        document = orjson.dumps(replace(row, indicators={}, extra={}))
    return msgspec.Raw(document)
