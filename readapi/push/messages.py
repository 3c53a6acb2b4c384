"""Messages of live push: JSON bodies, and their framing for SSE and WebSocket, over the socket and over ASGI."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from readapi.ports.commits import CommitIds


class PushMessage(NamedTuple):
    """An encoded message.

    A client that has received the message reconnects with its ``id``. After a message without an id, the client keeps
    the id of the message before.
    """

    type: str
    id: str | None
    body: bytes


Framing = Callable[[PushMessage], bytes]
"""Encodes a message for a stream. Clients with equal framing and subscription get the same bytes."""


def message(kind: str, event_id: str | None = None, **members: Any) -> PushMessage:
    """Encode a message of a type, with an event id and further members."""
    identity = {} if event_id is None else {"id": event_id}
    return PushMessage(kind, event_id, orjson.dumps({"type": kind, **identity, **members}))


def changes_message(
    topic: str, event_id: str, last_commits: CommitIds, changes: Iterable[bytes], traces: Sequence[str] = ()
) -> PushMessage:
    """Encode a message of type ``changes``.

    Args:
        topic: The topic of the changes.
        event_id: The event id after the changes.
        last_commits: The last commit of each log after the changes.
        changes: The changes as JSON, which are copied without being parsed.
        traces: The traces to which the changes belong, each as a ``traceparent``.
    """
    position = ",".join(f"{log}={commit_id.position}" for log, commit_id in sorted(last_commits.items()))
    traced = {"traceparents": traces} if traces else {}
    start = orjson.dumps({"type": "changes", "topic": topic, "id": event_id, "position": position, **traced})
    return PushMessage("changes", event_id, b'%b,"changes":[%b]}' % (start[:-1], b",".join(changes)))


def websocket_frame(message: PushMessage) -> bytes:
    """Frame a message as one unmasked WebSocket text frame (RFC 6455, section 5.2)."""
    body = message.body
    size = len(body)
    if size < 126:
        return b"\x81" + size.to_bytes(1) + body
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + body
    return b"\x81\x7f" + size.to_bytes(8) + body


def websocket_text(message: PushMessage) -> bytes:
    """Return the text of a message for ``websocket.send`` of ASGI, where the web server makes the frame."""
    return message.body


def event(message: PushMessage) -> bytes:
    """Encode a message as one server-sent event.

    The body fits on one ``data`` line, because encoded JSON has no line breaks.
    """
    identity = b"" if message.id is None else b"id: %b\n" % message.id.encode()
    return b"event: %b\n%bdata: %b\n\n" % (message.type.encode(), identity, message.body)


def event_chunk(message: PushMessage) -> bytes:
    """Frame a message as one server-sent event in one HTTP chunk (RFC 9112, section 7.1)."""
    encoded = event(message)
    return b"%x\r\n%b\r\n" % (len(encoded), encoded)
