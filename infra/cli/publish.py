"""``tickview publish``: send messages as a producer does, by pub/sub, by the ingest stream, or over HTTP."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from enum import StrEnum
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import typer

from domain.wire import INGEST_STREAM
from infra.cli.api_client import authorization, open_answer
from infra.cli.errors import NEGATIVE_OUTCOME, CommandError
from infra.cli.output import JsonOption, console, print_json
from infra.composition import api_url, redis_url
from infra.plugins import configure
from infra.redis.cluster import unheard_channels
from infra.redis.connections import connect
from infra.settings import Settings

BATCH_SIZE = 500
"""Number of messages that are sent at a time."""

TIMEOUT_SECONDS = 30.0
"""Seconds to wait for an answer of the API."""


class Route(StrEnum):
    """The route by which messages reach TickView."""

    PUBSUB = "pubsub"
    STREAM = "stream"
    HTTP = "http"


class OutgoingMessage(NamedTuple):
    """A message and the channel to which it is sent."""

    channel: str
    payload: bytes


def publish(
    file: Annotated[str, typer.Argument(help="File with one JSON document per line. Use - for standard input.")],
    channel: Annotated[
        str | None, typer.Option(help="Channel of all messages. Every line is then only a payload.")
    ] = None,
    via: Annotated[Route, typer.Option(help="Redis pub/sub, the ingest stream, or POST /api/events.")] = Route.PUBSUB,
    json: JsonOption = False,
) -> None:
    """Send messages to TickView as a producer does.

    Each line is {"channel": …, "payload": …}, or only a payload if --channel is given. A payload that is a string is
    sent unchanged, so that malformed messages can be sent, too.

    Exit code 3: TickView refused a message (--via http), or nobody heard it (--via pubsub).

    Example: tickview publish samples.jsonl --via stream
    """
    settings = configure()
    send = _sender(via, settings)
    sent = 0
    outcomes: list[Any] = []
    with nullcontext(sys.stdin.buffer) if file == "-" else _open(file) as lines:
        messages = (_parse_message(line, number, channel) for number, line in _numbered_lines(lines))
        while batch := list(islice(messages, BATCH_SIZE)):
            outcomes += send(batch)
            sent += len(batch)
    refused = [refusal for outcome in outcomes for refusal in outcome.get("refused", ())]
    unheard = sum(outcome.get("unheard", 0) for outcome in outcomes)
    if json:
        print_json({"sent": sent, "via": via.value, "unheard": unheard, "outcomes": outcomes})
    else:
        console.print(f"{sent} messages sent via {via.value}")
        for refusal in refused:
            console.print(f"refused: {refusal['reason']}", markup=False)
        if unheard:
            console.print(f"{unheard} of them were heard by nobody: start a recorder (`tickview record`), then repeat")
    if refused or unheard:
        raise typer.Exit(NEGATIVE_OUTCOME)


def _open(file: str) -> Any:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error


def _numbered_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _parse_message(line: bytes, number: int, channel: str | None) -> OutgoingMessage:
    if channel is not None:
        return OutgoingMessage(channel, line)
    try:
        message = orjson.loads(line)
        payload = message["payload"]
        return OutgoingMessage(
            message["channel"], payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f'Line {number} is not {{"channel": …, "payload": …}}. If every line is a payload, add --channel CHANNEL.'
        ) from error


def _sender(via: Route, settings: Settings) -> Callable[[list[OutgoingMessage]], list[Any]]:
    if via is Route.HTTP:
        headers = {"Content-Type": "application/json", **authorization(settings)}
        return lambda batch: [_post(api_url(settings), headers, batch)]
    client = connect(redis_url(settings))

    def send(batch: list[OutgoingMessage]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for message in batch:
                if via is Route.PUBSUB:
                    pipeline.publish(message.channel, message.payload)
                else:
                    pipeline.xadd(INGEST_STREAM, {"channel": message.channel, "payload": message.payload})
            replies = pipeline.execute()
        if via is Route.STREAM:
            return []
        silent = [message.channel for message, receivers in zip(batch, replies, strict=True) if not receivers]
        unheard = unheard_channels(client, set(silent))
        return [{"unheard": sum(channel in unheard for channel in silent)}]

    return send


def _post(base: str, headers: Mapping[str, str], batch: list[OutgoingMessage]) -> Any:
    """Post messages. Payloads are sent as text, because the API would refuse a request with malformed JSON in it."""
    messages = [{"channel": message.channel, "payload": message.payload.decode(errors="replace")} for message in batch]
    with open_answer(base, "/api/events", headers, body=orjson.dumps(messages), timeout=TIMEOUT_SECONDS) as answer:
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return answer.json("refused")
        if answer.status < HTTPStatus.BAD_REQUEST:
            return answer.json("events", "refused")
        raise CommandError(str(answer.json("type", "detail")["detail"]))
