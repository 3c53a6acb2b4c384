"""``/api/audit``: the event history, the history of one stream, and the last verification of the archive."""

import re

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.streams import OPERATIONS_LOG, USERS_LOG, log_of, user_of
from readapi.access.problems import missing_scope
from readapi.audit.event_documents import EventHistoryPage, page_document
from readapi.audit.parameters import EventsParameters, StreamParameters
from readapi.http.identities import Identity, identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import LONG_NAME_PATTERN, Parameters
from readapi.http.problems import no_archive, not_found
from readapi.http.responses import send
from readapi.ports.archive import History, Verification


class VerificationDocument(TypedDict):
    """The result of the last verification of the archive; null if the archive was never verified."""

    verification: Verification | None


class AuditEventsResource(Resource):
    """The event history of all logs."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "List events of the past.",
        scope="operate",
        responses={200: EventHistoryPage},
        query=EventsParameters,
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, query: EventsParameters) -> None:
        """Send one page of events."""
        event_filter = query.event_filter(
            stream=query.stream,
            type=query.type,
            source=query.source,
            event_id=query.event_id,
            correlation_id=query.correlation,
            log=query.log,
        )
        history = require_history(self._history)
        send(resp, page_document(await history.events(event_filter, query.after, query.limit)))


class AuditStreamResource(Resource):
    """The event history of one stream."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "List the events of a stream in order of version.",
        scope="read",
        responses={200: EventHistoryPage},
        query=StreamParameters,
        path={
            "stream": "Name of the stream, percent-encoded: ``symbol-AAPL``, ``backtest-<job id>``, ``source-<name>``, "
            "``user-<user id>``, ``alerts-<user id>``, or ``operations`` for the commands of operators."
        },
        problems=(404, 503),
    )
    async def on_get(self, req: Request, resp: Response, query: StreamParameters, stream: str) -> None:
        """Send one page of the stream's events, or 404 if the stream never had an event."""
        _check_stream_access(stream, identity_of(req))
        history = require_history(self._history)
        if not re.fullmatch(LONG_NAME_PATTERN, stream):
            raise not_found(f"stream {stream!r}")
        page = await history.events(query.event_filter(stream=stream), query.after, query.limit)
        if not page.events and page.next is None and not await history.has_stream(stream):
            raise not_found(f"stream {stream!r}")
        send(resp, page_document(page))


class AuditVerificationResource(Resource):
    """The last verification of the archive."""

    def __init__(self, history: History | None) -> None:
        self._history = history

    @operation(
        "Show the last verification of the archive.",
        scope="read",
        responses={200: VerificationDocument},
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the result of the last verification."""
        send(resp, VerificationDocument(verification=await require_history(self._history).verification()))


def _check_stream_access(stream: str, identity: Identity) -> None:
    """Admit only the user and operators to a user's streams, only operators to that of commands. Raises Problem."""
    is_restricted = log_of(stream, 1) in (USERS_LOG, OPERATIONS_LOG)
    if is_restricted and user_of(stream) != identity.subject and "operate" not in identity.scopes:
        raise missing_scope("operate")


def require_history(history: History | None) -> History:
    """Return the history. Raises Problem (503) if the service has no archive."""
    if history is None:
        raise no_archive()
    return history
