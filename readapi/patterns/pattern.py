"""``/api/patterns/{id}``: one active pattern, its provenance, and the events that led to it."""

from collections.abc import Callable

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import RowQueries
from readapi.audit.event_documents import MAX_RELATED_EVENTS, HistoricEvent, related_events
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.read_model import ReadModel
from readapi.http.responses import send_with_etag
from readapi.patterns.documents import FULL, FullPattern
from readapi.ports.archive import History
from readapi.ports.read_models import LiveRows
from readapi.read_models.rendering import end_of_second
from readapi.read_models.resources import Provenance, provenance_of


class PatternDetails(TypedDict):
    """A pattern and its provenance.

    ``events`` has the first 100 events of the pattern, or is null if the archive cannot be reached.
    """

    pattern: FullPattern
    provenance: Provenance
    events: list[HistoricEvent] | None
    stale: bool
    age_seconds: int | None


class PatternResource(Resource):
    """One active pattern.

    Args:
        patterns: The read model of the active patterns.
        history: The event history. None without an archive.
        clock: Returns the time in epoch seconds.
    """

    def __init__(
        self, patterns: ReadModel[RowQueries[PatternRow]], history: History | None, clock: Callable[[], float]
    ) -> None:
        self.read_model = patterns
        self._history = history
        self._clock = clock

    @operation(
        "Show an active pattern, its provenance and its events.",
        scope="read",
        responses={200: PatternDetails},
        path={"pattern_id": "Pattern id, ``SYMBOL:pattern:tier:epoch millisecond of detection``, percent-encoded."},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self,
        req: Request,
        resp: Response,
        _query: Parameters,
        *,
        live: LiveRows[PatternRow],
        pattern_id: str,
    ) -> None:
        """Send the pattern."""
        now = self._clock()
        result = await live.queries.get(pattern_id, now)
        if result is None:
            raise not_found(f"active pattern {pattern_id!r}")
        events = await related_events(self._history, lambda history: history.of_pattern(pattern_id, MAX_RELATED_EVENTS))
        answer = PatternDetails(
            pattern=FULL.render(result, end_of_second(now)),
            provenance=provenance_of(result),
            events=events,
            **self.read_model.staleness(),
        )
        send_with_etag(req, resp, answer)
