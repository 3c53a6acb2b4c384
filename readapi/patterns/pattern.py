"""``/api/patterns/{id}``: one active pattern, its provenance and the events that made it."""

from collections.abc import Callable
from typing import Any

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.queries import PatternQueries, ResultRow
from readapi.audit.event_documents import MAX_RELATED_EVENTS, HistoricEvent, related_events
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import send_with_etag
from readapi.patterns.rendering import FullPattern, full, shown_at
from readapi.ports.archive import History
from readapi.ports.read_models import LiveBuild


class Provenance(TypedDict):
    """Who and what last changed a row: the event, where it stands, who announced it, what it belongs to."""

    log: str
    position: int
    event_id: str
    producer: str
    correlation_id: str | None


class OnePattern(TypedDict):
    """A pattern, its provenance, and the first 100 events that spoke of it; null while the archive cannot be asked."""

    pattern: FullPattern
    provenance: Provenance
    events: list[HistoricEvent] | None
    stale: bool
    age_seconds: int | None


class PatternResource(Resource):
    """One pattern."""

    def __init__(
        self, patterns: ReadModel[PatternQueries], history: History | None, clock: Callable[[], float]
    ) -> None:
        self.read_model = patterns
        self._history = history
        self._clock = clock

    @operation(
        "One active pattern, its provenance and the events that made it",
        scope="read",
        responses={200: OnePattern},
        path={"pattern_id": "``SYMBOL:pattern:tier:epoch millisecond of detection``, percent-encoded"},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[PatternQueries], pattern_id: str
    ) -> None:
        """The pattern."""
        now = self._clock()
        found = await live.queries.get(pattern_id, now)
        if found is None:
            raise not_found(f"active pattern {pattern_id!r}")
        events = await related_events(self._history, lambda history: history.of_pattern(pattern_id, MAX_RELATED_EVENTS))
        answer = OnePattern(
            pattern=full(found, shown_at(now)),
            provenance=provenance_of(found),
            events=events,
            **self.read_model.staleness(),
        )
        send_with_etag(req, resp, answer)


def provenance_of(found: ResultRow[Any]) -> Provenance:
    """Who and what last changed the row."""
    return Provenance(
        log=found.log,
        position=found.position,
        event_id=found.row.event_id,
        producer=found.row.source,
        correlation_id=found.row.correlation_id,
    )
