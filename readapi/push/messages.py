"""The messages: JSON, the same over SSE and WebSocket, and how each of the two puts them on the wire."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from readapi.ports.commits import CommitIds


class Message(NamedTuple):
    """A message in JSON. A client that has it comes back with its ``id``; without one, with that of the one before."""

    type: str
    id: str | None
    body: bytes


def message(kind: str, position_id: str | None = None, **members: Any) -> Message:
    """A message with these members beside its type and id."""
    identity = {} if position_id is None else {"id": position_id}
    return Message(kind, position_id, orjson.dumps({"type": kind, **identity, **members}))


def changes_message(topic: str, position_id: str, marks: CommitIds, changes: Iterable[bytes]) -> Message:
    """Changes that have been rendered, and the position of each log that they lead to."""
    position = ",".join(f"{log}={mark.position}" for log, mark in sorted(marks.items()))
    head = orjson.dumps({"type": "changes", "topic": topic, "id": position_id, "position": position})
    return Message("changes", position_id, b'%b,"changes":[%b]}' % (head[:-1], b",".join(changes)))


def websocket_frame(one: Message) -> bytes:
    """A text frame, whole and, as a server's must be, not masked."""
    size = len(one.body)
    if size < 126:
        return b"\x81" + size.to_bytes(1) + one.body
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + one.body
    return b"\x81\x7f" + size.to_bytes(8) + one.body


def event_chunk(one: Message) -> bytes:
    """A server-sent event as one chunk of a chunked body. JSON has no line breaks."""
    identity = b"" if one.id is None else b"id: %b\n" % one.id.encode()
    event = b"event: %b\n%bdata: %b\n\n" % (one.type.encode(), identity, one.body)
    return b"%x\r\n%b\r\n" % (len(event), event)
