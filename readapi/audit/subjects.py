"""``/api/audit/patterns`` and ``/api/audit/lists``: the events of a pattern, active or not, and of a list of a user."""

from typing import Annotated

from falcon.asgi import Request, Response
from pydantic import StringConstraints
from typing_extensions import TypedDict

from domain.streams import USERS_LOG, user_stream
from readapi.access.problems import missing_scope
from readapi.audit.event_documents import (
    MAX_RELATED_EVENTS,
    EventHistoryPage,
    HistoricEvent,
    event_documents,
    page_document,
)
from readapi.audit.parameters import StreamParameters
from readapi.audit.resources import require_history
from readapi.http.identities import SUBJECT_PATTERN, identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.responses import send
from readapi.ports.archive import History


class PatternEvents(TypedDict):
    """The first 100 events of a pattern, in order."""

    events: list[HistoricEvent]


class ListParameters(StreamParameters):
    """The owner of a list, and the bounds and the page of its history."""

    user: Annotated[str, StringConstraints(pattern=f"^{SUBJECT_PATTERN}$")] | None = None
    """Id of the user who owns the list. Default: the client. The lists of others need the scope ``operate``."""


class AuditPatternResource(Resource):
    """The event history of one pattern, also of a pattern that is no longer active."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "List the events of a pattern, active or not.",
        scope="read",
        responses={200: PatternEvents},
        path={"pattern_id": "Pattern id, ``SYMBOL:pattern:tier:epoch millisecond of detection``, percent-encoded."},
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, pattern_id: str) -> None:
        """Send the events, or 404 if there is none."""
        history = require_history(self._history)
        try:
            events = await history.of_pattern(pattern_id, MAX_RELATED_EVENTS)
        except ValueError as error:
            raise not_found(f"pattern {pattern_id!r}") from error
        if not events:
            raise not_found(f"event of the pattern {pattern_id!r}")
        send(resp, PatternEvents(events=event_documents(events)))


class AuditListResource(Resource):
    """The event history of one watchlist or preset, also of a deleted one."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "List the events of a watchlist or filter preset in order of version.",
        scope="read",
        responses={200: EventHistoryPage},
        query=ListParameters,
        path={"list_id": "Id of the watchlist or preset."},
        problems=(404, 503),
    )
    async def on_get(self, req: Request, resp: Response, query: ListParameters, list_id: str) -> None:
        """Send one page of the list's events, or 404 if the user never had the list."""
        identity = identity_of(req)
        user = query.user or identity.subject
        if user != identity.subject and "operate" not in identity.scopes:
            raise missing_scope("operate")
        event_filter = query.event_filter(stream=user_stream(user), log=USERS_LOG)
        page = await require_history(self._history).of_list(event_filter, list_id, query.after, query.limit)
        if not page.events and page.next is None and query.cursor is None:
            raise not_found(f"event of the list {list_id!r} of {user}")
        send(resp, page_document(page))
