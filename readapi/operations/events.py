"""``POST /api/events``: producers' messages, each recorded as events or refused with the reason."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from falcon.asgi import Request, Response
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from domain.announcements import Receipt, RecordedEvent
from domain.wire import channel_for
from readapi.http.bodies import read_json
from readapi.http.operation import operation
from readapi.http.parameters import Parameters, error_reason, field_name
from readapi.http.problems import Problem, ProblemDocument, invalid
from readapi.http.read_model import POSITION_HEADER, highest_positions
from readapi.http.responses import send
from readapi.ports.commands import MessageRecorder
from readapi.ports.read_models import format_positions

MOST_BYTES = 16 * 1024 * 1024
"""Of a request."""

MOST_MESSAGES = 1_000
"""In a request."""


class Announcement(TypedDict):
    """A message with the channel it is for; ``payload`` is the message, or, if a text, its raw bytes."""

    channel: str
    payload: Any


BareMessage = Annotated[dict[str, Any], Field(description="A message alone; its event type names the channel.")]
Message = Announcement | BareMessage
Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]


class Recorded(TypedDict):
    """Where an event stands; ``duplicate`` if it was there before."""

    event_id: str
    type: str
    stream: str
    log: str
    position: int
    version: int
    duplicate: bool


class Refused(TypedDict):
    """Why a message, or an item of a batch, was refused; ``dead_letter`` keeps it, null if nothing does."""

    index: int
    code: str
    reason: str
    dead_letter: str | None


class EventsAnswer(TypedDict):
    """What became of the messages; ``refused`` names them by their index in the request, from 0."""

    events: list[Recorded]
    refused: list[Refused]


class RefusedProblem(ProblemDocument):
    """Nothing was recorded."""

    refused: list[Refused]


_MESSAGES = TypeAdapter(list[dict[str, Any]], config={"strict": True})


class EventsResource:
    """The way in over HTTP."""

    def __init__(self, announcements: MessageRecorder) -> None:
        self._announcements = announcements

    @operation(
        "Record messages of producers",
        scope="produce",
        responses={201: EventsAnswer, 207: EventsAnswer, 422: RefusedProblem},
        body=Message | Messages,
        problems=(413, 415, 503),
        writes=True,
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """201: all recorded, or recorded before; 207: some; 422: none. What is refused is kept as a dead letter."""
        content = await read_json(req, MOST_BYTES)
        messages = _messages(content)
        names = [f"[{index}]" if isinstance(content, list) else "" for index in range(len(messages))]
        receipts = await self._announcements.record(
            [_announcement(message, name) for message, name in zip(messages, names, strict=True)]
        )
        answer_receipts(resp, receipts)


def _messages(content: object) -> Sequence[dict[str, Any]]:
    messages = content if isinstance(content, list) else [content]
    if not 1 <= len(messages) <= MOST_MESSAGES:
        reason = f"should have 1 to {MOST_MESSAGES:,} messages, and has {len(messages):,}"
        raise invalid([{"field": "body", "reason": reason}])
    try:
        return _MESSAGES.validate_python(messages)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:10]
        raise invalid([{"field": field_name(one["loc"]), "reason": error_reason(one)} for one in errors]) from error


def _announcement(message: dict[str, Any], name: str) -> tuple[str, bytes]:
    """The channel, empty if nothing tells it, and the payload. Raises Problem (400)."""
    if not {"channel", "payload"} <= message.keys():
        return channel_for(message) or "", orjson.dumps(message)
    channel, payload = message["channel"], message["payload"]
    if not isinstance(channel, str):
        raise invalid([{"field": field_name_of(name, "channel"), "reason": "should be a text"}])
    return channel, payload.encode() if isinstance(payload, str) else orjson.dumps(payload)


def field_name_of(message: str, name: str) -> str:
    """``[3].payload``, or ``payload`` of a message that came alone."""
    return f"{message}.{name}" if message else name


def answer_receipts(resp: Response, receipts: Sequence[Receipt]) -> None:
    """Say what became of messages. Raises Problem (413, 422) if nothing was recorded."""
    recorded = [event for receipt in receipts for event in receipt.events]
    refused = [
        Refused(index=index, code=refusal.code, reason=refusal.reason, dead_letter=receipt.dead_letter)
        for index, receipt in enumerate(receipts)
        for refusal in receipt.refusals
    ]
    if not recorded:
        detail = f"nothing was recorded: {refused[0]['reason']}"
        large = all(one["code"] == "too-large" for one in refused)
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.UNPROCESSABLE_ENTITY
        raise Problem(status, "too-large" if large else "refused", detail, refused=refused)
    positions = highest_positions((event.log, event.position) for event in recorded)
    resp.set_header(POSITION_HEADER, format_positions(positions))
    answer = EventsAnswer(events=[_shown(event) for event in recorded], refused=refused)
    send(resp, answer, 207 if refused else 201)


def _shown(event: RecordedEvent) -> Recorded:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "stream": event.stream,
        "log": event.log,
        "position": event.position,
        "version": event.version,
        "duplicate": event.duplicate,
    }
