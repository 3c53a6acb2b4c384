"""``tickview history``: the events of a stream, a pattern or a backtest, from the archive and the log."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from domain.codec import is_encrypted
from domain.streams import OPERATIONS_LOG, OPERATIONS_STREAM, USERS_LOG, backtest_stream, market_logs
from infra.archive.event_history import EventHistory
from infra.cli.errors import CommandError
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import Stores, open_logs, open_read_database, open_redis
from infra.log.partitions import log_names
from infra.plugins import configure
from projections.queries import Positions
from readapi.audit.event_documents import event_documents, event_type, parse_state
from readapi.ports.archive import EventFilter, PastEvent

COLUMNS = ("position", "log", "version", "recorded_at", "type", "source", "event_id", "origin", "content")
"""Columns of the table."""

PAGE_SIZE = 1_000
"""Highest number of events that are read at a time."""

SUMMARY_CHARACTERS = 80
"""Longest summary of an event in the table."""

FORGOTTEN = "[forgotten]"
"""The summary of an event whose content is lost, because the key of its user was destroyed."""

_STREAM = re.compile("(symbol|universe|backtest|source|user|log)-.+")
_PATTERN_ID = re.compile("[^:].*:[^:]+:[^:]+:[0-9]+")

_OMITTED_FIELDS = {
    "source",
    "correlation_id",
    "occurred_at",
    "symbol",
    "key",
    "job_id",
    "log",
    "user",
    "extra",
    "class_version",
}
"""Fields that a summary omits: other columns or the stream name contain them, or only ``--json`` prints them."""


def history(
    subject: Annotated[
        str,
        typer.Argument(
            help="A stream (symbol-AAPL; operations for the commands of operators), a pattern id "
            "(AAPL:Doji:daily:1757001600000) or the id of a backtest."
        ),
    ],
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Highest number of events. The oldest come first.")
    ] = 100,
    json: JsonOption = False,
) -> None:
    """Print the events of a stream, a pattern or a backtest, oldest first.

    Example: tickview history symbol-AAPL --limit 20
    """
    settings = configure()
    database = open_read_database(settings)
    try:
        # What the standby does not have yet is read from the log or, if it was trimmed, from the primary server.
        stores = Stores(settings, open_redis(settings), database.primary)
        names = (*(log_names(stores.redis) or market_logs(settings.partitions)), USERS_LOG, OPERATIONS_LOG)
        events = _read_events(EventHistory(database, open_logs(stores, names)), subject, limit + 1)
    finally:
        database.close()
        database.primary.close()
    if not events:
        raise CommandError(f"There are no events of {_describe(subject)}.")
    events, more = events[:limit], len(events) > limit
    if json:
        print_json({"events": event_documents(events), "more": more})
        return
    print_table(COLUMNS, [_row(event) for event in events], "no events")
    if more:
        console.print(f"These are the first {limit} events. There are more; --limit sets their number.")


def _read_events(event_history: EventHistory, subject: str, limit: int) -> Sequence[PastEvent]:
    if _is_pattern(subject):
        return event_history.of_pattern(subject, limit)
    # A producer may give a backtest any id, also one that looks like a stream. A plug-in may give a stream any name.
    events = _read_stream(event_history, subject, limit)
    return events or _read_stream(event_history, backtest_stream(subject), limit)


def _read_stream(event_history: EventHistory, stream: str, limit: int) -> list[PastEvent]:
    event_filter = EventFilter(stream=stream)
    events: list[PastEvent] = []
    after: Positions | None = {}
    while after is not None and len(events) < limit:
        page = event_history.events(event_filter, after, min(PAGE_SIZE, limit - len(events)))
        events += page.events
        after = page.next
    return events


def _is_pattern(subject: str) -> bool:
    return not _STREAM.fullmatch(subject) and _PATTERN_ID.fullmatch(subject) is not None


def _describe(subject: str) -> str:
    if _is_pattern(subject):
        return f"pattern {subject}"
    if _STREAM.fullmatch(subject) or subject == OPERATIONS_STREAM:
        return f"stream {subject}"
    return f"the streams {subject} and {backtest_stream(subject)}"


def _row(event: PastEvent) -> dict[str, Any]:
    entry = event.entry
    moment = datetime.fromtimestamp(entry.recorded_at, UTC)
    return {
        "position": entry.position,
        "log": event.log,
        "version": entry.version,
        "recorded_at": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03}Z",
        "type": event_type(event),
        "source": event.source,
        "event_id": entry.event_id,
        "origin": entry.origin,
        "content": FORGOTTEN if event.is_forgotten else summarize(entry.state),
    }


def summarize(state: bytes) -> str:
    """Summarize the stored state of an event: ``pattern=Doji tier=daily confidence=0.8``."""
    if is_encrypted(state):
        return "[encrypted: the key is missing]"
    fields = parse_state(state)
    if not isinstance(fields, dict):
        return f"{len(state)} bytes"
    summary = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _OMITTED_FIELDS)
    return summary if len(summary) <= SUMMARY_CHARACTERS else summary[: SUMMARY_CHARACTERS - 1] + "…"
