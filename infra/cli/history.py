"""``tickview history``: what happened to a stream, a pattern or a job, from the archive and the log."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from domain.streams import USERS_LOG, backtest_stream, market_logs
from infra.archive.event_history import EventHistory
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import Stores, open_database, open_logs, open_redis
from infra.log.partitions import log_names
from infra.processes.errors import StartupError
from infra.settings import Settings
from projections.queries import Positions
from readapi.audit.event_documents import event_documents, event_type, parse_state
from readapi.ports.archive import EventFilter, PastEvent

COLUMNS = ("position", "log", "version", "recorded_at", "type", "source", "event_id", "origin", "said")

READ_AT_ONCE = 1_000

SAID_CHARACTERS = 80

_STREAM = re.compile("(symbol|universe|backtest|source|user|log)-.+")
_PATTERN_ID = re.compile("[^:].*:[^:]+:[^:]+:[0-9]+")

_TOLD_ELSEWHERE = {
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
"""Fields of an event that its other columns, its stream or ``--json`` tell."""


def history(
    subject: Annotated[
        str,
        typer.Argument(help="A stream (symbol-AAPL), a pattern's id (AAPL:Doji:daily:1757001600000) or a job's id."),
    ],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The first so many events.")] = 100,
    json: JsonOption = False,
) -> None:
    """The events of a stream, those that spoke of a pattern, or those of a backtest's job, in order.

    Example: tickview history symbol-AAPL --limit 20
    """
    settings = Settings()
    database = open_database(settings)
    try:
        stores = Stores(settings, open_redis(settings), database)
        names = (*(log_names(stores.redis) or market_logs(settings.partitions)), USERS_LOG)
        found = _find(EventHistory(database, open_logs(stores, names)), subject, limit + 1)
    finally:
        database.close()
    if not found:
        raise StartupError(f"there are no events of {_what(subject)}")
    events, more = found[:limit], len(found) > limit
    if json:
        print_json({"events": event_documents(events), "more": more})
        return
    print_table(COLUMNS, [_row(event) for event in events], "no events")
    if more:
        console.print(f"the first {limit} events; there are more: --limit tells how many to show")


def _find(trail: EventHistory, subject: str, limit: int) -> Sequence[PastEvent]:
    if _is_pattern(subject):
        return trail.of_pattern(subject, limit)
    found = _find_stream(trail, subject, limit) if _STREAM.fullmatch(subject) else []
    # A producer may call a job whatever it likes.
    return found or _find_stream(trail, backtest_stream(subject), limit)


def _find_stream(trail: EventHistory, stream: str, limit: int) -> list[PastEvent]:
    wanted = EventFilter(stream=stream)
    found: list[PastEvent] = []
    after: Positions | None = {}
    while after is not None and len(found) < limit:
        page = trail.events(wanted, after, min(READ_AT_ONCE, limit - len(found)))
        found += page.events
        after = page.next
    return found


def _is_pattern(subject: str) -> bool:
    return not _STREAM.fullmatch(subject) and _PATTERN_ID.fullmatch(subject) is not None


def _what(subject: str) -> str:
    if _is_pattern(subject):
        return f"pattern {subject}"
    return f"stream {subject}" if _STREAM.fullmatch(subject) else f"stream {backtest_stream(subject)}"


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
        "said": said(entry.state),
    }


def said(state: bytes) -> str:
    """What an event said, in short: ``pattern=Doji tier=daily confidence=0.8``."""
    fields = parse_state(state)
    if not isinstance(fields, dict):
        return f"{len(state)} bytes"
    told = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _TOLD_ELSEWHERE)
    return told if len(told) <= SAID_CHARACTERS else told[: SAID_CHARACTERS - 1] + "…"
