"""``/api/dead-letters``: messages that could not be read: listed, shown, tried again, discarded."""

from base64 import b64encode
from typing import Annotated, Literal

from falcon.asgi import Request, Response
from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from domain.announcements import DeadLetter
from readapi.http.operation import Resource, operation
from readapi.http.parameters import PageSize, Parameters
from readapi.http.problems import invalid, not_found
from readapi.http.responses import send
from readapi.operations.events import EventsAnswer, RefusedProblem, answer_receipts
from readapi.ports.commands import DeadLetterCommands

LETTER_ID = "The letter's id"


class DeadLettersParameters(Parameters):
    """Which page."""

    limit: PageSize = 30
    """Letters a page."""
    cursor: Annotated[str, StringConstraints(max_length=200), Field(json_schema_extra={"format": "cursor"})] | None = (
        None
    )
    """``next`` of the page before."""


class Letter(TypedDict):
    """A message that could not be read, and why. ``received_at`` is in epoch seconds; ``times`` is how often it was
    heard, ``retries`` how often it was read again.
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


class WholeLetter(Letter):
    """The same with the message as it came: its text, or base64 where it is not UTF-8."""

    payload: str
    payload_encoding: Literal["utf-8", "base64"]


class DeadLettersAnswer(TypedDict):
    """Letters, the newest first. ``next`` is the cursor of the page after, null on the last."""

    dead_letters: list[Letter]
    next: str | None


class DeadLetterAnswer(TypedDict):
    """One letter."""

    dead_letter: WholeLetter


class DeadLettersResource(Resource):
    """All letters."""

    def __init__(self, desk: DeadLetterCommands) -> None:
        self._desk = desk

    @operation(
        "Dead letters, the newest first",
        scope="operate",
        responses={200: DeadLettersAnswer},
        query=DeadLettersParameters,
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, query: DeadLettersParameters) -> None:
        """The page."""
        try:
            letters, following = await self._desk.page(query.cursor, query.limit)
        except ValueError as error:
            raise invalid([{"field": "cursor", "reason": str(error)}]) from None
        send(resp, DeadLettersAnswer(dead_letters=[_shown(letter) for letter in letters], next=following))


class DeadLetterResource(Resource):
    """One letter."""

    def __init__(self, desk: DeadLetterCommands) -> None:
        self._desk = desk

    @operation(
        "One dead letter with the message as it came",
        scope="operate",
        responses={200: DeadLetterAnswer},
        path={"letter_id": LETTER_ID},
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """The letter."""
        letter = await self._desk.get(letter_id)
        if letter is None:
            raise not_found(f"dead letter {letter_id!r}")
        send(resp, DeadLetterAnswer(dead_letter=_whole(letter)))

    @operation(
        "Discard a dead letter",
        scope="operate",
        responses={204: None},
        path={"letter_id": LETTER_ID},
        problems=(404, 503),
    )
    async def on_delete(self, _req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """Gone for good."""
        if not await self._desk.discard(letter_id):
            raise not_found(f"dead letter {letter_id!r}")
        resp.status = 204


class DeadLetterRetryResource:
    """One letter, once more."""

    def __init__(self, desk: DeadLetterCommands) -> None:
        self._desk = desk

    @operation(
        "Read a dead letter again; it goes if all of it can be read now",
        scope="operate",
        responses={201: EventsAnswer, 207: EventsAnswer, 422: RefusedProblem},
        path={"letter_id": LETTER_ID},
        problems=(404, 503),
        writes=True,
    )
    async def on_post(self, _req: Request, resp: Response, _query: Parameters, letter_id: str) -> None:
        """201: all of it is recorded; 207: some; 422: none."""
        receipt = await self._desk.retry(letter_id)
        if receipt is None:
            raise not_found(f"dead letter {letter_id!r}")
        answer_receipts(resp, [receipt])


def _shown(letter: DeadLetter) -> Letter:
    return {
        "id": letter.id,
        "channel": letter.channel,
        "code": letter.code,
        "reason": letter.reason,
        "received_at": letter.received_at,
        "via": letter.via,
        "times": letter.times,
        "retries": letter.retries,
        "payload_bytes": len(letter.payload),
    }


def _whole(letter: DeadLetter) -> WholeLetter:
    try:
        return {**_shown(letter), "payload": letter.payload.decode(), "payload_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {**_shown(letter), "payload": b64encode(letter.payload).decode(), "payload_encoding": "base64"}
