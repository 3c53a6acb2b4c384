"""``tickview publish``: sends messages as a producer does, by any of the three ways in."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson
import typer

from domain.wire import INGEST_STREAM
from infra.cli.output import JsonOption, console, print_json
from infra.composition import api_url, redis_url
from infra.processes.errors import StartupError
from infra.redis.connections import connect
from infra.settings import Settings

SENT_AT_ONCE = 500


class Way(StrEnum):
    """A way into TickView."""

    PUBSUB = "pubsub"
    STREAM = "stream"
    HTTP = "http"


class OutgoingMessage(NamedTuple):
    """A message to send."""

    channel: str
    payload: bytes


def publish(
    file: Annotated[str, typer.Argument(help="File of JSON lines; - for standard input.")],
    channel: Annotated[str | None, typer.Option(help="Every line is a bare payload for this channel.")] = None,
    via: Annotated[Way, typer.Option(help="Redis pub/sub, the ingest stream, or POST /api/events.")] = Way.PUBSUB,
    json: JsonOption = False,
) -> None:
    """Send JSON lines as a producer does: {"channel": …, "payload": …}, or bare payloads with --channel.

    A payload that is a string is sent as it stands, so that malformed messages can be sent too.

    Example: tickview publish samples.jsonl --via stream
    """
    settings = Settings()
    send = _sender(via, settings)
    sent = 0
    outcomes: list[Any] = []
    with nullcontext(sys.stdin.buffer) if file == "-" else _open(file) as lines:
        announcements = (_announcement(line, number, channel) for number, line in _numbered(lines))
        while batch := list(islice(announcements, SENT_AT_ONCE)):
            outcomes += send(batch)
            sent += len(batch)
    if json:
        print_json({"sent": sent, "via": via.value, "outcomes": outcomes})
    else:
        console.print(f"{sent} messages sent via {via.value}")
        for outcome in outcomes:
            if outcome.get("refused"):
                console.print(f"refused: {outcome['refused'][0]['reason']}", markup=False)


def _open(file: str) -> Any:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise StartupError(f"{file}: {error.strerror}") from error


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _announcement(line: bytes, number: int, channel: str | None) -> OutgoingMessage:
    if channel is not None:
        return OutgoingMessage(channel, line)
    try:
        message = orjson.loads(line)
        payload = message["payload"]
        return OutgoingMessage(
            message["channel"], payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StartupError(
            f'line {number} is not {{"channel": …, "payload": …}}: give --channel for bare payloads'
        ) from error


def _sender(via: Way, settings: Settings) -> Callable[[list[OutgoingMessage]], list[Any]]:
    if via is Way.HTTP:
        url = api_url(settings) + "/api/events"
        token = settings.token.get_secret_value() if settings.token else None
        return lambda batch: [_post(url, batch, token)]
    client = connect(redis_url(settings))

    def send(batch: list[OutgoingMessage]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for one in batch:
                if via is Way.PUBSUB:
                    pipeline.publish(one.channel, one.payload)
                else:
                    pipeline.xadd(INGEST_STREAM, {"channel": one.channel, "payload": one.payload})
            pipeline.execute()
        return []

    return send


def _post(url: str, batch: list[OutgoingMessage], token: str | None) -> Any:
    """Payloads go as text, so that the very bytes of a malformed one arrive."""
    messages = [{"channel": one.channel, "payload": one.payload.decode(errors="replace")} for one in batch]
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = Request(url, orjson.dumps(messages), headers)  # noqa: S310 our own API
    try:
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            return orjson.loads(answer.read())
    except HTTPError as error:
        if error.code == 422:
            return orjson.loads(error.read())
        raise StartupError(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:500]}") from error
    except URLError as error:
        raise StartupError(f"{url} cannot be reached: {error.reason}") from error
