"""``POST /api/events``: record messages of producers as events."""

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
from readapi.http.identities import identity_of
from readapi.http.operation import operation
from readapi.http.parameters import Parameters, error_reason, field_name
from readapi.http.problems import Problem, ProblemDocument, invalid
from readapi.http.read_model import POSITION_HEADER, highest_positions
from readapi.http.responses import send
from readapi.http.traces import traceparent_of
from readapi.ports.commands import MessageRecorder
from readapi.ports.read_models import format_positions

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Highest number of bytes in the body of a request."""

MAX_MESSAGES = 1_000
"""Highest number of messages in a request."""

MAX_ERRORS = 10
"""Highest number of errors in a problem."""


class MessageWithChannel(TypedDict):
    """A message and its channel. ``payload`` is the message as JSON, or a string with the raw text of the message."""

    channel: str
    payload: Any


BareMessage = Annotated[
    dict[str, Any],
    Field(description="A message without a channel. The event type of the message determines the channel."),
]
Message = MessageWithChannel | BareMessage
Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


class RecordedEventDocument(TypedDict):
    """The location of a recorded event. ``duplicate`` is true if the event had been recorded before."""

    event_id: str
    type: str
    stream: str
    log: str
    position: int
    version: int
    duplicate: bool


class RefusedMessage(TypedDict):
    """The reason why a message, or one item of a batch in a message, was refused.

    ``index`` is the index of the message in the request, from 0. ``dead_letter`` is the id of the dead letter that
    stores the message, or null if no dead letter stores it.
    """

    index: int
    code: str
    reason: str
    dead_letter: str | None


class IngestResult(TypedDict):
    """The recorded events and the refused messages of a request."""

    events: list[RecordedEventDocument]
    """After the retry of a dead letter: the events that no earlier attempt had recorded."""
    refused: list[RefusedMessage]


class RefusedProblem(ProblemDocument):
    """The problem if no event was recorded."""

    refused: list[RefusedMessage]


_MESSAGES = TypeAdapter(list[dict[str, Any]], config={"strict": True})


class EventsResource:
    """The intake of messages over HTTP."""

    def __init__(self, recorder: MessageRecorder) -> None:
        self._recorder = recorder

    @operation(
        "Record messages of producers as events.",
        scope="produce",
        responses={201: IngestResult, 207: IngestResult, 422: RefusedProblem},
        body=Message | Messages,
        problems=(413, 503),
        writes=True,
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Record the messages.

        201: all messages are recorded, now or before. 207: some messages are recorded. 422: no message is recorded.
        Refused messages become dead letters.
        """
        content = await read_json(req, MAX_BODY_BYTES)
        messages = _messages(content)
        locations = [f"[{index}]" if isinstance(content, list) else "" for index in range(len(messages))]
        receipts = await self._recorder.record(
            [_channel_and_payload(message, location) for message, location in zip(messages, locations, strict=True)],
            identity_of(req).sender,
            trace=traceparent_of(req),
        )
        send_receipts(resp, receipts)


def _messages(content: object) -> Sequence[dict[str, Any]]:
    messages = content if isinstance(content, list) else [content]
    if not 1 <= len(messages) <= MAX_MESSAGES:
        reason = f"should have 1 to {MAX_MESSAGES:,} messages, and has {len(messages):,}"
        raise invalid([{"field": "body", "reason": reason}])
    try:
        return _MESSAGES.validate_python(messages)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_ERRORS]
        raise invalid([{"field": field_name(each["loc"]), "reason": error_reason(each)} for each in errors]) from error


def _channel_and_payload(message: dict[str, Any], location: str) -> tuple[str, bytes]:
    """Split a message. The channel is empty if the message does not determine it. Raises Problem (400)."""
    if not {"channel", "payload"} <= message.keys():
        return channel_for(message) or "", orjson.dumps(message)
    channel, payload = message["channel"], message["payload"]
    if not isinstance(channel, str):
        field = f"{location}.channel" if location else "channel"
        raise invalid([{"field": field, "reason": "should be a text"}])
    return channel, payload.encode() if isinstance(payload, str) else orjson.dumps(payload)


def send_receipts(resp: Response, receipts: Sequence[Receipt]) -> None:
    """Send the result of recording. Raises Problem (413, 422) if no event was recorded, now or before."""
    recorded = [event for receipt in receipts for event in receipt.events]
    refused = [
        RefusedMessage(index=index, code=refusal.code, reason=refusal.reason, dead_letter=receipt.dead_letter)
        for index, receipt in enumerate(receipts)
        for refusal in receipt.refusals
    ]
    if not any(receipt.events or receipt.recorded_items for receipt in receipts):
        detail = f"no event was recorded: {refused[0]['reason']}"
        too_large = all(refusal["code"] == "too-large" for refusal in refused)
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY
        raise Problem(status, "too-large" if too_large else "refused", detail, refused=refused)
    if recorded:
        positions = highest_positions((event.log, event.position) for event in recorded)
        resp.set_header(POSITION_HEADER, format_positions(positions))
    result = IngestResult(events=[_event_document(event) for event in recorded], refused=refused)
    send(resp, result, 207 if refused else 201)


def _event_document(event: RecordedEvent) -> RecordedEventDocument:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "stream": event.stream,
        "log": event.log,
        "position": event.position,
        "version": event.version,
        "duplicate": event.duplicate,
    }
