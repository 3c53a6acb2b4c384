"""``/api/dead-letters``: list, show, retry and discard messages that could not be read."""

from base64 import b64encode
from typing import Annotated, Literal

from falcon.asgi import Request, Response
from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from domain.announcements import DeadLetter
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import PageSize, Parameters
from readapi.http.problems import invalid, not_found
from readapi.http.responses import send
from readapi.operations.events import IngestResult, RefusedProblem, send_receipts
from readapi.ports.commands import DeadLetterCommands

ID_PATH = {"letter_id": "Id of the dead letter."}


class DeadLettersParameters(Parameters):
    """The page of dead letters."""

    limit: PageSize = 30
    """Highest number of dead letters on the page."""
    cursor: Annotated[str, StringConstraints(max_length=200), Field(json_schema_extra={"format": "cursor"})] | None = (
        None
    )
    """The value of ``next`` on the previous page."""


class DeadLetterSummary(TypedDict):
    """A message that could not be read, without the message itself.

    ``code`` and ``reason`` say why. ``received_at`` is in epoch seconds. ``via`` is the way by which the message
    arrived (``pubsub``, ``stream`` or ``http``). ``times`` is the number of times it was received, and ``retries`` the
    number of times it was retried.
    """

    id: str
    channel: str
    code: str
    reason: str
    received_at: float
    via: str
    times: int
    retries: int
    payload_bytes: int


class DeadLetterWithPayload(DeadLetterSummary):
    """A message that could not be read. ``payload`` is its text, or base64 if the message is not UTF-8."""

    payload: str
    payload_encoding: Literal["utf-8", "base64"]


class DeadLetterPage(TypedDict):
    """Dead letters, the newest first. ``next`` is the cursor of the next page and null on the last page."""

    dead_letters: list[DeadLetterSummary]
    next: str | None


class DeadLetterDocument(TypedDict):
    """One dead letter."""

    dead_letter: DeadLetterWithPayload


class DeadLettersResource(Resource):
    """All dead letters."""

    def __init__(self, dead_letters: DeadLetterCommands) -> None:
        self._dead_letters = dead_letters

    @operation(
        "List dead letters, the newest first.",
        scope="operate",
        responses={200: DeadLetterPage},
        query=DeadLettersParameters,
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, query: DeadLettersParameters) -> None:
        """Send one page of dead letters."""
        try:
            letters, following = await self._dead_letters.page(query.cursor, query.limit)
        except ValueError as error:
            raise invalid([{"field": "cursor", "reason": str(error)}]) from None
        send(resp, DeadLetterPage(dead_letters=[_summary(letter) for letter in letters], next=following))


class DeadLetterResource(Resource):
    """One dead letter."""

    def __init__(self, dead_letters: DeadLetterCommands) -> None:
        self._dead_letters = dead_letters

    @operation(
        "Show a dead letter and its message.",
        scope="operate",
        responses={200: DeadLetterDocument},
        path=ID_PATH,
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """Send the dead letter with its message."""
        letter = await self._dead_letters.get(letter_id)
        if letter is None:
            raise not_found(f"dead letter {letter_id!r}")
        send(resp, DeadLetterDocument(dead_letter=_with_payload(letter)))

    @operation(
        "Discard a dead letter.",
        scope="operate",
        responses={204: None},
        path=ID_PATH,
        problems=(404, 503),
    )
    async def on_delete(self, req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """Delete the dead letter. It cannot be restored."""
        if not await self._dead_letters.discard(letter_id, identity_of(req).sender):
            raise not_found(f"dead letter {letter_id!r}")
        resp.status = 204


class DeadLetterRetryResource:
    """The command that retries a dead letter."""

    def __init__(self, dead_letters: DeadLetterCommands) -> None:
        self._dead_letters = dead_letters

    @operation(
        "Retry a dead letter, and delete it if the whole message can be read now.",
        scope="operate",
        responses={201: IngestResult, 207: IngestResult, 422: RefusedProblem},
        path=ID_PATH,
        problems=(404, 503),
        writes=True,
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """Retry the dead letter.

        201: the whole message is recorded. 207: a part is recorded, now or before. 422: no part is recorded.
        """
        receipt = await self._dead_letters.retry(letter_id, identity_of(req).sender)
        if receipt is None:
            raise not_found(f"dead letter {letter_id!r}")
        send_receipts(resp, [receipt])


def _summary(letter: DeadLetter) -> DeadLetterSummary:
    return {
        "id": letter.id,
        "channel": letter.channel,
        "code": letter.code,
        "reason": letter.reason,
        "received_at": letter.received_at,
        "via": letter.via,
        "times": letter.times,
        "retries": letter.retries,
        "payload_bytes": letter.payload_bytes,
    }


def _with_payload(letter: DeadLetter) -> DeadLetterWithPayload:
    try:
        return {**_summary(letter), "payload": letter.payload.decode(), "payload_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {**_summary(letter), "payload": b64encode(letter.payload).decode(), "payload_encoding": "base64"}
