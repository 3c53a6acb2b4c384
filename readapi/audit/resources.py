"""``/api/audit``: the events of the past, those of one stream, and what the last verification of the archive found."""

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import orjson
from falcon.asgi import Request, Response
from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, WithJsonSchema, field_validator
from typing_extensions import TypedDict

from domain.codec import TOPIC_PREFIX
from domain.streams import USERS_LOG, log_of, user_stream
from projections.queries import Positions
from readapi.access.refusals import missing_scope
from readapi.http.answers import send
from readapi.http.cursors import HIGHEST_POSITION, decode_positions, encode_positions
from readapi.http.identities import Identity, identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import LONG_NAME_PATTERN, LongName, PageSize, Parameters, spelled_moment
from readapi.http.problems import no_archive, not_found
from readapi.ports.archive import EventFilter, EventPage, History, PastEvent, Verification
from readapi.ports.errors import UnavailableError

SHOWN_BESIDE_A_ROW = 100
"""Events, at most."""

_POSITION = re.compile("[0-9]{1,15}", re.ASCII)


def _as_bound(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be one value")
    if _POSITION.fullmatch(value):
        return int(value)
    try:
        return spelled_moment(value)
    except ValueError as error:
        raise ValueError(f"should be a position (up to 15 digits) or a time: {error}") from None


Bound = Annotated[
    Annotated[int | float, Field(ge=0, le=HIGHEST_POSITION)],
    BeforeValidator(_as_bound),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": HIGHEST_POSITION},
                {"type": "string", "format": "moment"},
            ]
        }
    ),
]
"""A position, as a whole number; or the moment of recording, in epoch seconds."""


class StreamParameters(Parameters):
    """From where to where."""

    from_: Bound | None = Field(None, alias="from")
    """A whole number: the first position (in each log); else when it was recorded at the earliest (ISO 8601; UTC
    where no zone is named)."""
    to: Bound | None = None
    """A whole number: the last position; else the moment before which it was recorded."""
    limit: PageSize = 30
    """Events a page, at most; ``next`` alone says whether there are more."""
    cursor: (
        Annotated[str, StringConstraints(max_length=3_000), Field(json_schema_extra={"format": "cursor"})] | None
    ) = None
    """``next`` of the page before."""

    @field_validator("to")
    @classmethod
    def _in_order(cls, to: int | float | None, others: ValidationInfo) -> int | float | None:
        first = others.data.get("from_")
        if type(first) is type(to) and first is not None and to is not None and first > to:
            raise ValueError("should not be before from")
        return to

    @field_validator("cursor")
    @classmethod
    def _goes_on(cls, cursor: str | None) -> str | None:
        if cursor is not None:
            decode_positions(cursor)
        return cursor

    @property
    def after(self) -> Positions:
        """Where the page begins."""
        return decode_positions(self.cursor) if self.cursor else {}

    def bounds(self, **wanted: str | None) -> EventFilter:
        """The filter with these bounds and ``wanted``."""
        first, last = self.from_, self.to
        return EventFilter(
            **wanted,
            from_position=first if isinstance(first, int) else None,
            to_position=last if isinstance(last, int) else None,
            from_time=first if isinstance(first, float) else None,
            to_time=last if isinstance(last, float) else None,
        )


class EventsParameters(StreamParameters):
    """Which events. Filters are joined by *and*."""

    stream: LongName | None = None
    """``symbol-AAPL``, ``universe-<key>``, ``backtest-<job id>``, ``source-<name>``, ``user-<user id>``,
    ``log-<log>``."""
    type: LongName | None = None
    """Name of the type (``PatternDetected``); of events that are not ours, the whole topic (``module:Class``)."""
    source: LongName | None = None
    """Who announced it."""
    event_id: LongName | None = None
    """The producer's id of it, or the one derived from its content."""
    correlation: LongName | None = None
    """What ties it to other events (``correlation_id``)."""
    log: LongName | None = None
    """``market-0`` and so on, ``users``."""


class Origin(TypedDict):
    """How an event came in: ``via`` ``pubsub``, ``stream``, ``http``, ``retry`` (of a dead letter), ``expirer``,
    ``catalogue``; null where nobody said. ``dead_letter`` is the id of the letter that it was read from again, or that
    keeps what could not be read of the same message.
    """

    via: str | None
    dead_letter: str | None


class HistoricEvent(TypedDict):
    """An event as it is stored. ``recorded_at`` (by the log's clock) and ``occurred_at`` (by its producer's; null if it
    does not say) are epoch seconds. ``hash`` chains the events of a log; null as long as it is not archived. ``data``
    is the stored state; null where that is no JSON, and then ``data_base64`` has its bytes.
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
    origin: Origin
    data: Any
    data_base64: str | None


class AuditAnswer(TypedDict):
    """Events, in order of the time recorded, log and position. ``next`` is the cursor of the page after, null on the
    last.
    """

    events: list[HistoricEvent]
    next: str | None


class VerificationAnswer(TypedDict):
    """The last verification; null if there was none."""

    verification: Verification | None


class AuditEventsResource(Resource):
    """All events."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "Events of the past", scope="operate", answers={200: AuditAnswer}, query=EventsParameters, problems=(503,)
    )
    async def on_get(self, _req: Request, resp: Response, query: EventsParameters) -> None:
        """The page."""
        wanted = query.bounds(
            stream=query.stream,
            type=query.type,
            source=query.source,
            event_id=query.event_id,
            correlation_id=query.correlation,
            log=query.log,
        )
        send(resp, answer_of(await asked(self._history).events(wanted, query.after, query.limit)))


class AuditStreamResource(Resource):
    """The events of one stream."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "The history of a stream, in order of version",
        scope="read",
        answers={200: AuditAnswer},
        query=StreamParameters,
        path={
            "stream": "``symbol-AAPL``, ``backtest-<job id>``, ``source-<name>``, ``user-<user id>``, percent-encoded"
        },
        problems=(404, 503),
    )
    async def on_get(self, req: Request, resp: Response, query: StreamParameters, stream: str) -> None:
        """The page; 404 if the stream never had an event."""
        _check_whose(stream, identity_of(req))
        history = asked(self._history)
        if not re.fullmatch(LONG_NAME_PATTERN, stream):
            raise not_found(f"stream {stream!r}")
        page = await history.events(query.bounds(stream=stream), query.after, query.limit)
        if not page.events and page.next is None and not await history.has_stream(stream):
            raise not_found(f"stream {stream!r}")
        send(resp, answer_of(page))


def _check_whose(stream: str, who: Identity) -> None:
    """What somebody did with their lists is theirs, and the operator's. Raises Problem (403)."""
    of_a_user = log_of(stream, 1) == USERS_LOG
    if of_a_user and stream != user_stream(who.subject) and "operate" not in who.scopes:
        raise missing_scope("operate")


class AuditVerificationResource(Resource):
    """The last verification."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "What the last verification of the archive found",
        scope="read",
        answers={200: VerificationAnswer},
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """The verification."""
        send(resp, VerificationAnswer(verification=await asked(self._history).verification()))


def asked(history: History | None) -> History:
    """Whom the past is asked of. Raises Problem (503) where there is no archive."""
    if history is None:
        raise no_archive()
    return history


def answer_of(page: EventPage) -> AuditAnswer:
    """The page, as it is sent."""
    return AuditAnswer(events=shown(page.events), next=None if page.next is None else encode_positions(page.next))


async def events_beside(
    history: History | None, question: Callable[[History], Awaitable[Sequence[PastEvent]]]
) -> list[HistoricEvent] | None:
    """The events to show beside a row, which is shown without them where the archive cannot be asked."""
    if history is None:
        return None
    try:
        return shown(await question(history))
    except UnavailableError:
        return None


def shown(events: Sequence[PastEvent]) -> list[HistoricEvent]:
    """The events, whole."""
    return [_shown(event) for event in events]


def _shown(event: PastEvent) -> HistoricEvent:
    entry = event.entry
    state = parsed(entry.state)
    occurred_at = state.get("occurred_at") if isinstance(state, dict) else None
    via, _, letter = entry.origin.partition(" ")
    is_json = state is not NOT_JSON
    return {
        "log": event.log,
        "position": entry.position,
        "hash": event.hash.hex() if event.hash else None,
        "stream": entry.stream,
        "version": entry.version,
        "type": type_of(event),
        "event_id": entry.event_id,
        "source": event.source,
        "correlation_id": event.correlation_id,
        "recorded_at": entry.recorded_at,
        "occurred_at": occurred_at if isinstance(occurred_at, int | float) else None,
        "origin": {"via": via or None, "dead_letter": letter or None},
        # The stored text itself: numbers stay as they were written.
        "data": orjson.Fragment(entry.state) if is_json else None,
        "data_base64": None if is_json else b64encode(entry.state).decode(),
    }


NOT_JSON = object()


def parsed(state: bytes) -> Any:
    """The JSON value of a stored state; ``NOT_JSON`` where it is none."""
    try:
        return orjson.loads(state)
    except orjson.JSONDecodeError:
        return NOT_JSON


def type_of(event: PastEvent) -> str:
    """The name of its type; the whole topic of one that is not ours."""
    return event.entry.topic.removeprefix(TOPIC_PREFIX)
