"""Events as JSON documents: the history endpoints, single patterns and single backtests show events in this form."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from typing_extensions import TypedDict

from domain.codec import TOPIC_PREFIX
from domain.origins import parse_origin
from readapi.http.cursors import encode_positions
from readapi.ports.archive import EventPage, History, PastEvent
from readapi.ports.errors import UnavailableError

MAX_RELATED_EVENTS = 100
"""Highest number of events that the document of a pattern or backtest contains."""

NOT_JSON = object()
"""The result of ``parse_state`` for a stored state that is not JSON."""


class EventOrigin(TypedDict):
    """How an event was received.

    ``via`` is the way by which the event arrived: ``pubsub``, ``stream``, ``http``, ``retry`` (a dead letter was
    retried), ``expirer``, ``catalogue`` or ``cli``; null if the way is unknown. ``subject`` and ``token`` are the
    subject and the id of the token with which the event was sent over HTTP, or null. Without authentication, the
    subject is the user of the development mode. ``dead_letter`` is the id of the dead letter from which the event was
    read, or of the dead letter that holds the refused part of the same message; otherwise null. ``percent`` is the
    field of the message that was converted from per cent (``confidence`` or ``progress``), or null. ``trace`` is the
    ``traceparent`` (W3C Trace Context) that came with the message or that the recorder derived from it, or null.
    """

    via: str | None
    subject: str | None
    token: str | None
    dead_letter: str | None
    percent: str | None
    trace: str | None


class HistoricEvent(TypedDict):
    """An event as the log stores it.

    ``recorded_at`` is the time of the log's clock and ``occurred_at`` the time of the producer's clock, both in epoch
    seconds; ``occurred_at`` is null if the producer gave no time. ``hash`` is the hash chain's value (hexadecimal)
    and null until the event is archived. ``data`` is the stored state. If the state is not JSON, ``data`` is null and
    ``data_base64`` contains its bytes. ``forgotten`` is true if the event belongs to a user whose key was destroyed:
    its content is lost, and both are null. The hash chain covers the encrypted states of the events of users.
    """

    log: str
    position: int
    hash: str | None
    stream: str
    version: int
    type: str
    event_id: str
    source: str | None
    correlation_id: str | None
    recorded_at: float
    occurred_at: float | None
    origin: EventOrigin
    data: Any
    data_base64: str | None
    forgotten: bool


class EventHistoryPage(TypedDict):
    """Events, ordered by time of recording, log and position.

    ``next`` is the cursor of the next page and null on the last page.
    """

    events: list[HistoricEvent]
    next: str | None


def page_document(page: EventPage) -> EventHistoryPage:
    """Convert a page of events to its JSON document."""
    following = None if page.next is None else encode_positions(page.next)
    return EventHistoryPage(events=event_documents(page.events), next=following)


async def related_events(
    history: History | None, query: Callable[[History], Awaitable[Sequence[PastEvent]]]
) -> list[HistoricEvent] | None:
    """Return the events to show with a row, or None if there is no archive or the archive is unavailable."""
    if history is None:
        return None
    try:
        return event_documents(await query(history))
    except UnavailableError:
        return None


def event_documents(events: Sequence[PastEvent]) -> list[HistoricEvent]:
    """Convert events to their JSON documents."""
    return [_event_document(event) for event in events]


def _event_document(event: PastEvent) -> HistoricEvent:
    entry = event.entry
    state = parse_state(entry.state)
    occurred_at = state.get("occurred_at") if isinstance(state, dict) else None
    is_json = state is not NOT_JSON
    has_data = not event.is_forgotten
    origin = parse_origin(entry.origin)
    return {
        "log": event.log,
        "position": entry.position,
        "hash": event.hash.hex() if event.hash else None,
        "stream": entry.stream,
        "version": entry.version,
        "type": event_type(event),
        "event_id": entry.event_id,
        "source": event.source,
        "correlation_id": event.correlation_id,
        "recorded_at": entry.recorded_at,
        "occurred_at": occurred_at if isinstance(occurred_at, int | float) else None,
        "origin": {
            "via": origin.via,
            "subject": origin.subject,
            "token": origin.token,
            "dead_letter": origin.dead_letter,
            "percent": origin.percent,
            "trace": origin.trace,
        },
        # The stored text is sent unchanged, so that numbers keep their notation.
        "data": orjson.Fragment(entry.state) if is_json and has_data else None,
        "data_base64": b64encode(entry.state).decode() if has_data and not is_json else None,
        "forgotten": event.is_forgotten,
    }


def parse_state(state: bytes) -> Any:
    """Parse a stored state as JSON. Return ``NOT_JSON`` if it is not JSON."""
    try:
        return orjson.loads(state)
    except orjson.JSONDecodeError:
        return NOT_JSON


def event_type(event: PastEvent) -> str:
    """Return the class name of a TickView event, or the whole topic (``module:Class``) of any other event."""
    return event.entry.topic.removeprefix(TOPIC_PREFIX)
